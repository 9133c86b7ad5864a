ALTER TABLE _rhtmx_sync_entity DROP COLUMN generation;
ALTER TABLE _rhtmx_sync_entity DROP COLUMN wanted;
