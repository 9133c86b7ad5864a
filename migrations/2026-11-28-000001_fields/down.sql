DROP FUNCTION _rhtmx_sync_clock_after(text, text);
ALTER TABLE _rhtmx_sync_meta DROP COLUMN node;
DROP TABLE _rhtmx_sync_field;
