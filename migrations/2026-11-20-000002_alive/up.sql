-- One row, which a crash removes: PostgreSQL empties unlogged tables when it recovers. After a crash it
-- also gives out again transaction numbers that nothing durable had used, so a cursor from before may
-- count a transaction as seen that is yet to come. When the row is missing, the engine begins a new
-- epoch.
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
