-- What the nodes of the family of CRDTs over SQL have, so that a connection goes on where the last one ended.
CREATE TABLE _rhtmx_sync_crdt_node (
    -- Whose connections they were; empty for nobody's.
    user_id text COLLATE "C" NOT NULL,
    -- The name under which the node stamps.
    node text COLLATE "C" NOT NULL,
    -- Up to where it has all changes, as a cursor; null where it is to get all rows.
    reached text,
    -- The newest clock that it was sent up to there.
    sent text,
    -- The clock up to which everything that it has written is taken.
    taken text COLLATE "C",
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, node)
);

DO $grants$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT 'PUBLIC'
        UNION ALL
        SELECT quote_ident(rolname) FROM pg_roles
        WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE _rhtmx_sync_crdt_node FROM %s', grantee);
    END LOOP;
END
$grants$;
