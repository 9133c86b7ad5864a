ALTER TABLE _rhtmx_sync_log ADD CONSTRAINT _rhtmx_sync_log_action_check
    CHECK (action IN ('create', 'update', 'delete', 'truncate', 'reshape'));
