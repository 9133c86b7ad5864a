DROP TABLE _rhtmx_sync_replaced;
ALTER TABLE _rhtmx_sync_mutation DROP COLUMN stamped;
ALTER TABLE _rhtmx_sync_meta DROP COLUMN node;
DROP TABLE _rhtmx_sync_field;
