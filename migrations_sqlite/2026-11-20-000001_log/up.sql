-- The log: which rows changed, and what they were. The tables say what they are.
-- The engine creates the triggers that fill it, for each table, when it starts.

CREATE TABLE _rhtmx_sync_log (
    -- There is one writer at a time, so ids are in the order of the commits. None is used again.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    entity TEXT NOT NULL,
    -- The primary key as canonical text; null for an entry about the whole entity.
    entity_id TEXT,
    action TEXT NOT NULL CHECK (action IN ('create', 'update', 'delete', 'truncate', 'schema_change')),
    -- The previous values of the columns that changed; the whole row for a delete. JSON.
    old TEXT,
    -- The row, for entities without a table. JSON.
    data TEXT,
    client_id TEXT,
    mutation INTEGER,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- One row: the epoch, and the floor of the log: entries up to this id may be gone.
CREATE TABLE _rhtmx_sync_meta (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    epoch TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    floor TEXT NOT NULL DEFAULT '0'
);
INSERT INTO _rhtmx_sync_meta DEFAULT VALUES;

-- The entities whose tables have triggers, with the fingerprint of the table for which these were made.
CREATE TABLE _rhtmx_sync_entity (
    entity TEXT NOT NULL PRIMARY KEY,
    relation TEXT NOT NULL,
    fingerprint TEXT NOT NULL
);

-- The mutation that the current transaction applies; empty outside of one.
CREATE TABLE _rhtmx_sync_mutation (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    client_id TEXT NOT NULL,
    mutation INTEGER NOT NULL
);

-- How far the mutations of each client have been applied, so that each is applied once.
CREATE TABLE _rhtmx_sync_client (
    client_id TEXT NOT NULL PRIMARY KEY,
    last_mutation INTEGER NOT NULL,
    -- The log's newest id when the last mutation had been applied.
    last_commit INTEGER,
    -- The user who first used this client id.
    user_id TEXT,
    seen_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- Mutations that were not applied, with their rejects, so that these are the same each time.
CREATE TABLE _rhtmx_sync_reject (
    client_id TEXT NOT NULL,
    mutation INTEGER NOT NULL,
    reject TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (client_id, mutation)
);
