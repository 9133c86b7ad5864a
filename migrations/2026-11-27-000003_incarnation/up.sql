-- Which cluster, database and timeline the transaction numbers in these tables belong to. Null until the
-- engine has looked.
ALTER TABLE _rhtmx_sync_meta ADD COLUMN identity text;

-- A row that was written here has the transaction that wrote it in its system column `xmin` as well. A row
-- that a dump or a replica brought does not. Null until the engine has looked.
ALTER TABLE _rhtmx_sync_alive ADD COLUMN written_by xid8;
ALTER TABLE _rhtmx_sync_alive ALTER COLUMN written_by SET DEFAULT pg_current_xact_id();
-- When the server had started that wrote the row, on products where unlogged tables survive a crash.
ALTER TABLE _rhtmx_sync_alive ADD COLUMN started_at timestamptz;

-- Engines lock rows here, and not advisory locks, which any role may take and keep.
CREATE TABLE _rhtmx_sync_lock (
    name text PRIMARY KEY,
    -- The database session that holds the lock, for locks that outlive a transaction, and the number of an advisory
    -- lock that it holds as long. A pooler may keep the session after the engine has gone, but not its locks; and nobody
    -- else can take a lock whose number was unknown until it was held.
    pid integer,
    key bigint
);
INSERT INTO _rhtmx_sync_lock (name) VALUES ('install'), ('leader');

-- Waits in an advisory lock's queue for as long as `lock_timeout` allows. Returns whether the lock was
-- granted; a wait that ends without it would otherwise be an error in the server's log each time.
CREATE FUNCTION _rhtmx_sync_await_lock(key bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $await$
BEGIN
    PERFORM pg_advisory_lock(key);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$await$;

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
        EXECUTE format('REVOKE ALL ON TABLE _rhtmx_sync_lock FROM %s', grantee);
        EXECUTE format('REVOKE ALL ON FUNCTION _rhtmx_sync_await_lock(bigint) FROM %s', grantee);
    END LOOP;
END
$grants$;
