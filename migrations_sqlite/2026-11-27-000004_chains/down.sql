ALTER TABLE _rhtmx_sync_client DROP COLUMN chains;
