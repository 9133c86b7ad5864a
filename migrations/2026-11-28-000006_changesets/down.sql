DROP TABLE _rhtmx_sync_parked;
DROP TABLE _rhtmx_sync_peer;
DROP TABLE _rhtmx_sync_apart;
