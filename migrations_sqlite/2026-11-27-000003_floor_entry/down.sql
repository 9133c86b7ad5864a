ALTER TABLE _rhtmx_sync_meta DROP COLUMN floor_entry;
