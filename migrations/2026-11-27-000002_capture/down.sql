ALTER TABLE _rhtmx_sync_entity DROP COLUMN generation, DROP COLUMN wanted, DROP COLUMN observed;
