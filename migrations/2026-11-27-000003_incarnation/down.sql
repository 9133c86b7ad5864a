DROP FUNCTION _rhtmx_sync_await_lock(bigint);
DROP TABLE _rhtmx_sync_lock;
ALTER TABLE _rhtmx_sync_alive DROP COLUMN started_at;
ALTER TABLE _rhtmx_sync_alive DROP COLUMN written_by;
ALTER TABLE _rhtmx_sync_meta DROP COLUMN identity;
