ALTER TABLE _rhtmx_sync_meta DROP COLUMN node;
DROP TABLE _rhtmx_sync_field;
