-- What the nodes of the family of CRDTs over SQL have, so that a connection goes on where the last one ended.
CREATE TABLE _rhtmx_sync_crdt_node (
    -- Whose connections they were; empty for nobody's.
    user_id TEXT NOT NULL,
    -- The name under which the node stamps.
    node TEXT NOT NULL,
    -- Up to where it has all changes, as a cursor; null where it is to get all rows.
    reached TEXT,
    -- The newest clock that it was sent up to there.
    sent TEXT,
    -- The clock up to which everything that it has written is taken.
    taken TEXT,
    seen_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (user_id, node)
) WITHOUT ROWID;
