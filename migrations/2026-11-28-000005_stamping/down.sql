DROP FUNCTION _rhtmx_sync_is_dead(text, text, boolean);
DROP FUNCTION _rhtmx_sync_stamp(text, jsonb, text, jsonb, boolean, boolean);
