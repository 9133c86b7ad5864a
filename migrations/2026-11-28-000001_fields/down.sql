DROP FUNCTION _rhtmx_sync_clock_after(text, text);
ALTER TABLE _rhtmx_sync_meta DROP COLUMN node;
DROP TABLE _rhtmx_sync_merged;
DROP TABLE _rhtmx_field_conflict;
DROP TABLE _rhtmx_sync_field;
