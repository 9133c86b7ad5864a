-- The version of the generated code of the capture. An engine leaves a newer one than its own alone.
ALTER TABLE _rhtmx_sync_entity ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
-- False once `uncapture` has removed the capture, until a server starts that has the entity configured.
ALTER TABLE _rhtmx_sync_entity ADD COLUMN wanted BOOLEAN NOT NULL DEFAULT 1;
