DROP TABLE _rhtmx_sync_replaced;
ALTER TABLE _rhtmx_sync_mutation DROP COLUMN stamped;
ALTER TABLE _rhtmx_sync_meta DROP COLUMN node;
DROP TABLE _rhtmx_sync_merged;
DROP TABLE _rhtmx_field_conflict;
DROP TABLE _rhtmx_sync_field;
