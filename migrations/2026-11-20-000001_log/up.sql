-- The log: which rows changed, and what they were. The tables say what they are.
-- The triggers that fill it are made per table when the engine starts.

CREATE TABLE _rhtmx_sync_log (
    -- Drawn after the row's lock is held, so within one row ids follow the order of the commits.
    -- No sequence cache: it would break exactly that.
    id bigserial NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    entity text NOT NULL,
    -- The primary key as canonical text; null when the whole entity is meant.
    entity_id text,
    -- 'create', 'update', 'delete', 'truncate' or 'schema_change'. No constraint says so: PostgreSQL parses the
    -- text of one in each statement, which took a tenth of the speed of one-row inserts.
    action text NOT NULL,
    -- The previous values of the columns that changed; the whole row for a delete.
    old jsonb,
    -- The row, for entities that have no table.
    data jsonb,
    client_id text,
    mutation bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Readers ask by transaction. One index serves them, retention, and publications that want a
    -- replica identity; a second one would only cost the writers.
    PRIMARY KEY (xid, id)
);

-- One row: which history this is, and what the log still knows of it.
CREATE TABLE _rhtmx_sync_meta (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch text NOT NULL DEFAULT gen_random_uuid()::text,
    -- A snapshot: what it sees may be gone from the log.
    floor text NOT NULL DEFAULT pg_current_snapshot()::text
);
INSERT INTO _rhtmx_sync_meta DEFAULT VALUES;

-- Snapshots with their times: to one of which retention moves the floor.
CREATE TABLE _rhtmx_sync_checkpoint (
    position text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- The entities whose tables carry triggers, and for which fingerprint of the table those were made.
CREATE TABLE _rhtmx_sync_entity (
    entity text PRIMARY KEY,
    relation text NOT NULL,
    fingerprint text NOT NULL
);

-- How far each client has come with its mutations, so that each is applied once.
CREATE TABLE _rhtmx_sync_client (
    client_id text PRIMARY KEY,
    last_mutation bigint NOT NULL,
    -- The transaction of the last mutation that was applied.
    last_commit bigint,
    -- The user who first used this client id.
    user_id text,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Mutations that were not applied, so that they are answered again as the first time.
CREATE TABLE _rhtmx_sync_reject (
    client_id text NOT NULL,
    mutation bigint NOT NULL,
    reject text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, mutation)
);

-- Runs one write of a mutation. A write that the data, a constraint or the user's own trigger
-- forbids is an answer here, with the names that a client may learn and never the database's text.
-- What may pass by itself stays an error, so that the mutation is tried again.
CREATE FUNCTION _rhtmx_sync_write(statement text, input text, row_key text) RETURNS text
LANGUAGE plpgsql AS $write$
DECLARE
    count bigint;
    state text;
    column_at_fault text;
    constraint_at_fault text;
    schema_at_fault text;
    table_at_fault text;
BEGIN
    EXECUTE statement USING input::jsonb, row_key::jsonb;
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN json_build_object('rows', count);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        state = RETURNED_SQLSTATE,
        column_at_fault = COLUMN_NAME,
        constraint_at_fault = CONSTRAINT_NAME,
        schema_at_fault = SCHEMA_NAME,
        table_at_fault = TABLE_NAME;
    -- Connections, the state of the transaction, serialisation, a statement made for a table that
    -- has changed since, resources, locks, operators, the system. Triggers raise what they like, so
    -- everything else is taken for a refusal.
    IF left(state, 2) IN ('08', '25', '26', '40', '42', '53', '55', '57', '58', 'F0', 'XX')
        AND state NOT IN ('42501', '428C9')
    THEN
        RAISE;
    END IF;
    RETURN json_build_object('state', state, 'column', column_at_fault,
        'constraint', constraint_at_fault, 'schema', schema_at_fault, 'table', table_at_fault);
END
$write$;

-- Nobody but the owner reads or writes any of it. Supabase grants new tables and functions of
-- `public` to its API roles by default, so they are named too.
DO $grants$
DECLARE
    grantee text;
    target text;
BEGIN
    FOR grantee IN
        SELECT 'PUBLIC'
        UNION ALL
        SELECT quote_ident(rolname) FROM pg_roles
        WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        FOREACH target IN ARRAY ARRAY['_rhtmx_sync_log', '_rhtmx_sync_meta', '_rhtmx_sync_checkpoint',
            '_rhtmx_sync_entity', '_rhtmx_sync_client', '_rhtmx_sync_reject']
        LOOP
            EXECUTE format('REVOKE ALL ON TABLE %I FROM %s', target, grantee);
        END LOOP;
        EXECUTE format('REVOKE ALL ON SEQUENCE _rhtmx_sync_log_id_seq FROM %s', grantee);
        EXECUTE format('REVOKE ALL ON FUNCTION _rhtmx_sync_write(text, text, text) FROM %s', grantee);
    END LOOP;
END
$grants$;
