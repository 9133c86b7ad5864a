DROP FUNCTION _rhtmx_sync_ask(text, text[], text[], text[], text);
