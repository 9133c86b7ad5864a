-- The tables, and beside them a history that the engine knows nothing of: each row after each
-- transaction, from which the state at any snapshot follows.

CREATE TABLE items (
    id bigint PRIMARY KEY,
    list int NOT NULL,
    n int,
    done bool NOT NULL DEFAULT false,
    title text CHECK (title <> 'forbidden'),
    body text NOT NULL DEFAULT ''
);
-- Money moves and none is created: the sum is the same at every instant.
CREATE TABLE accounts (id int PRIMARY KEY, amount int NOT NULL, moves int NOT NULL, note text NOT NULL);
-- What clients push.
CREATE TABLE ledger (id bigserial PRIMARY KEY, client text NOT NULL, tag text NOT NULL);
CREATE TABLE bulk (id int PRIMARY KEY, list int NOT NULL, n int NOT NULL, body text NOT NULL);
-- Who is a member of which list of items, by several ways at once.
CREATE TABLE members (id int PRIMARY KEY, list int NOT NULL, who int NOT NULL);
-- Something durable to write that no client subscribes to.
CREATE TABLE pulse (n bigserial PRIMARY KEY);

INSERT INTO accounts SELECT g, 100, 0, '' FROM generate_series(0, 15) g;
INSERT INTO items SELECT g, g % 12, g, false, 't' || g % 5, '' FROM generate_series(1, 200) g;
INSERT INTO members SELECT g, g % 12, g % 5 FROM generate_series(1, 20) g;
INSERT INTO bulk SELECT g, g % 50, 0, repeat('b', 60) FROM generate_series(1, 500) g;

CREATE TABLE history (
    -- Drawn under the row's lock, so within one row it follows the order of the commits.
    seq bigserial PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    entity text NOT NULL,
    -- Null: the whole table was truncated.
    key text,
    -- Null: the row was deleted.
    row jsonb
);
CREATE INDEX history_xid ON history (xid);

CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO history (entity) VALUES (TG_TABLE_NAME);
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO history (entity, key, row)
        SELECT TG_TABLE_NAME, fresh.id::text, to_jsonb(fresh) FROM new_rows fresh;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO history (entity, key) SELECT TG_TABLE_NAME, o.id::text FROM old_rows o;
    ELSE
        INSERT INTO history (entity, key)
        SELECT TG_TABLE_NAME, o.id::text FROM old_rows o
        WHERE NOT EXISTS (SELECT 1 FROM new_rows fresh WHERE fresh.id = o.id);
        INSERT INTO history (entity, key, row)
        SELECT TG_TABLE_NAME, fresh.id::text, to_jsonb(fresh) FROM new_rows fresh;
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['items', 'accounts', 'ledger', 'bulk', 'members']
    LOOP
        EXECUTE format('INSERT INTO history (entity, key, row) SELECT %L, t.id::text, to_jsonb(t) FROM %I t', target, target);
        EXECUTE format('CREATE TRIGGER remember_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION remember()', target);
        EXECUTE format('CREATE TRIGGER remember_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION remember()', target);
        EXECUTE format('CREATE TRIGGER remember_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION remember()', target);
        EXECUTE format('CREATE TRIGGER remember_truncate AFTER TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION remember()', target);
    END LOOP;
END
$$;
