DROP FUNCTION _rhtmx_sync_apply(text[], text[], bigint[], text[], text[], text[], text[], integer);
