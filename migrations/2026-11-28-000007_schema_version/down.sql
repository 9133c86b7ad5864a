ALTER TABLE _rhtmx_sync_meta DROP COLUMN schema_version;
