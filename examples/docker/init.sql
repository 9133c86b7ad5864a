-- The tables of the demo page. PostgreSQL runs this file once, while the volume is empty.
-- They are ordinary tables; the server adds its triggers when it starts.

CREATE TABLE lists (
    id       text             PRIMARY KEY,
    name     text             NOT NULL,
    position double precision NOT NULL DEFAULT 0
);

CREATE TABLE todos (
    id         text             PRIMARY KEY DEFAULT gen_random_uuid()::text,
    list_id    text             NOT NULL DEFAULT 'inbox' REFERENCES lists (id) ON DELETE CASCADE,
    title      text             NOT NULL CHECK (length(title) BETWEEN 1 AND 120),
    done       boolean          NOT NULL DEFAULT false,
    position   double precision NOT NULL DEFAULT 0,
    assignee   text,
    created_at timestamptz      NOT NULL DEFAULT now()
);
CREATE INDEX todos_of_list ON todos (list_id);

CREATE TABLE viewers (
    id      text        PRIMARY KEY,
    name    text        NOT NULL,
    list_id text,
    todo_id text,
    seen_at timestamptz NOT NULL
);

INSERT INTO lists (id, name, position) VALUES ('inbox', 'Inbox', 0), ('groceries', 'Groceries', 1), ('trip', 'Trip', 2);

INSERT INTO todos (title, position) VALUES
    ('Write in one pane and see it in the other', 0),
    ('Switch a pane offline, write, switch back', 1),
    ('Write from psql: it arrives just the same', 2);
