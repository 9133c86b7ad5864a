-- Run `rhtmx-sync uncapture` first: triggers that are left behind would fail without the log.
DROP TABLE _rhtmx_sync_reject;
DROP TABLE _rhtmx_sync_client;
DROP TABLE _rhtmx_sync_mutation;
DROP TABLE _rhtmx_sync_entity;
DROP TABLE _rhtmx_sync_meta;
DROP TABLE _rhtmx_sync_log;
