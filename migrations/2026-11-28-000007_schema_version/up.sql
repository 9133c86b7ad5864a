-- The version of the application's own tables, where the application has these made by the engine; 0 where it does not.
ALTER TABLE _rhtmx_sync_meta ADD COLUMN schema_version bigint NOT NULL DEFAULT 0;
