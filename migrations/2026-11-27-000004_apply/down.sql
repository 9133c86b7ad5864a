DROP FUNCTION _rhtmx_sync_apply(text[], bigint[], text[], text[], text[], text[], integer);
ALTER TABLE _rhtmx_sync_client DROP COLUMN chains;
