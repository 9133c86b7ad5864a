-- One row, which a crash takes away: PostgreSQL empties unlogged tables when it recovers. A crash also
-- takes back transaction numbers that nothing durable had used, and gives them out again, so a cursor
-- from before it may call a transaction seen that has yet to come. When the row is missing, the engine
-- begins a new epoch.
CREATE UNLOGGED TABLE _rhtmx_sync_alive (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);
INSERT INTO _rhtmx_sync_alive DEFAULT VALUES;

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
        EXECUTE format('REVOKE ALL ON TABLE _rhtmx_sync_alive FROM %s', grantee);
    END LOOP;
END
$grants$;
