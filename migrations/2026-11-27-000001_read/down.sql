DROP FUNCTION _rhtmx_sync_read(text, text);
