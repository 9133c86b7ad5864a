ALTER TABLE _rhtmx_sync_entity
    -- The version of the generated code of the capture. An engine leaves a newer one than its own alone.
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    -- False once `uncapture` has removed the capture, until a server starts that has the entity configured.
    ADD COLUMN wanted boolean NOT NULL DEFAULT true,
    -- What the catalog said of the table when it was captured, by which a later look tells whether rows may have
    -- changed without an entry in the log. JSON.
    ADD COLUMN observed text NOT NULL DEFAULT '';
