-- What was written beside a table alone: of rows that are gone the log says nothing. Changesets take
-- them from here.
CREATE TABLE _rhtmx_sync_apart (
    entity text NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    -- The newest transaction that did so.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (entity, entity_id)
);

-- How far the rows of other databases have been merged here.
CREATE TABLE _rhtmx_sync_peer (
    -- The name under which the other database stamps.
    node text COLLATE "C" NOT NULL,
    entity text NOT NULL,
    -- A cursor of the other database.
    reached text NOT NULL,
    PRIMARY KEY (node, entity)
);

-- The records of other databases that could not be merged: a constraint forbids it, or their time has not come.
CREATE TABLE _rhtmx_sync_parked (
    entity text NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    -- JSON.
    record text NOT NULL,
    -- Why, in the words of a rejected write. JSON.
    reject text NOT NULL,
    PRIMARY KEY (entity, entity_id, node)
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
        EXECUTE format('REVOKE ALL ON TABLE _rhtmx_sync_apart, _rhtmx_sync_peer, _rhtmx_sync_parked FROM %s', grantee);
    END LOOP;
END
$grants$;
