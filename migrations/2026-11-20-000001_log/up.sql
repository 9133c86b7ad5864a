-- The log: which rows changed, and what they were. The tables say what they are.
-- The engine creates the triggers that fill it, for each table, when it starts.

CREATE TABLE _rhtmx_sync_log (
    -- Drawn while the row's lock is held, so within one row ids follow the order of the commits.
    -- A sequence cache would break this.
    id bigserial NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    entity text NOT NULL,
    -- The primary key as canonical text; null for an entry about the whole entity.
    entity_id text,
    -- 'create', 'update', 'delete', 'truncate' or 'schema_change'. There is no constraint: PostgreSQL would
    -- parse its text in each statement, which cost one-row inserts a tenth of their speed.
    action text NOT NULL,
    -- The previous values of the columns that changed; the whole row for a delete.
    old jsonb,
    -- The row, for entities without a table.
    data jsonb,
    client_id text,
    mutation bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Readers search by transaction. One index serves them, retention, and publications that need a
    -- replica identity; a second one would only slow down the writers.
    PRIMARY KEY (xid, id)
);

-- One row: the epoch, and the floor of the log.
CREATE TABLE _rhtmx_sync_meta (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch text NOT NULL DEFAULT gen_random_uuid()::text,
    -- A snapshot: entries of the transactions that it sees may be gone from the log.
    floor text NOT NULL DEFAULT pg_current_snapshot()::text
);
INSERT INTO _rhtmx_sync_meta DEFAULT VALUES;

-- Snapshots with their times. Retention moves the floor to one of them.
CREATE TABLE _rhtmx_sync_checkpoint (
    -- A publication of all tables forbids deletes from a table without a key.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- The entities whose tables have triggers, with the fingerprint of the table for which these were made.
CREATE TABLE _rhtmx_sync_entity (
    entity text PRIMARY KEY,
    relation text NOT NULL,
    fingerprint text NOT NULL
);

-- How far the mutations of each client have been applied, so that each is applied once.
CREATE TABLE _rhtmx_sync_client (
    client_id text PRIMARY KEY,
    last_mutation bigint NOT NULL,
    -- The transaction of the last mutation that was applied.
    last_commit bigint,
    -- The user who first used this client id.
    user_id text,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Mutations that were not applied, with their rejects, so that these are the same each time.
CREATE TABLE _rhtmx_sync_reject (
    client_id text NOT NULL,
    mutation bigint NOT NULL,
    reject text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, mutation)
);

-- Runs one write of a mutation. For a write that the data, a constraint or a user's trigger forbids it
-- returns the names that a client may see, and never the database's text. An error that may pass by
-- itself stays an error, so that the mutation is retried.
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
    -- Errors of connections, of the transaction's state, of serialisation, of resources, of locks and
    -- objects in use, of intervention by an operator, and of the system. Triggers may raise any code, so
    -- every other one is answered.
    IF left(state, 2) IN ('08', '25', '26', '40', '53', '57', '58', 'F0')
        OR state IN ('55006', '55P03', 'XX001', 'XX002')
    THEN
        RAISE;
    END IF;
    RETURN json_build_object('state', state, 'column', column_at_fault,
        'constraint', constraint_at_fault, 'schema', schema_at_fault, 'table', table_at_fault);
END
$write$;

-- Only the owner may read or write any of this. Supabase grants new tables and functions of `public` to
-- its API roles by default, so these are named too.
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
        EXECUTE format('REVOKE ALL ON SEQUENCE _rhtmx_sync_checkpoint_id_seq FROM %s', grantee);
        EXECUTE format('REVOKE ALL ON FUNCTION _rhtmx_sync_write(text, text, text) FROM %s', grantee);
    END LOOP;
END
$grants$;
