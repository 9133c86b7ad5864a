DROP TABLE _rhtmx_sync_crdt_node;
