-- The table behind the demo page. PostgreSQL runs this file once, when the volume is still empty.
-- It is an ordinary table: the server adds its triggers by itself when it starts.

CREATE TABLE todos (
    id         text        PRIMARY KEY DEFAULT gen_random_uuid()::text,
    title      text        NOT NULL,
    done       boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO todos (title, created_at) VALUES
    ('Write in one pane and see it in the other', now() - interval '2 minutes'),
    ('Switch a pane offline, write, switch back', now() - interval '1 minute'),
    ('Write from psql: it arrives just the same', now());
