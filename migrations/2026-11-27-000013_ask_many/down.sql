DROP FUNCTION _rhtmx_sync_ask_many(text, text[], text[], integer, text[], text[], text[]);
