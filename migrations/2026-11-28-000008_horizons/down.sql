DROP TABLE _rhtmx_sync_horizon;
