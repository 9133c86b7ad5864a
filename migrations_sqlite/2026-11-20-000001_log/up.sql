-- The log: which rows changed, and what they were. The tables say what they are.
-- The triggers that fill it are made per table when the engine starts.

CREATE TABLE _rhtmx_sync_log (
    -- One writer at a time: ids are in the order of the commits. Never used again.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    entity TEXT NOT NULL,
    -- The primary key as canonical text; null when the whole entity is meant.
    entity_id TEXT,
    action TEXT NOT NULL CHECK (action IN ('create', 'update', 'delete', 'truncate', 'schema_change')),
    -- The previous values of the columns that changed; the whole row for a delete. JSON.
    old TEXT,
    -- The row, for entities that have no table. JSON.
    data TEXT,
    client_id TEXT,
    mutation INTEGER,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- One row: which history this is, and up to which id the log has forgotten.
CREATE TABLE _rhtmx_sync_meta (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    epoch TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    floor TEXT NOT NULL DEFAULT '0'
);
INSERT INTO _rhtmx_sync_meta DEFAULT VALUES;

-- The entities whose tables carry triggers, and for which fingerprint of the table those were made.
CREATE TABLE _rhtmx_sync_entity (
    entity TEXT NOT NULL PRIMARY KEY,
    relation TEXT NOT NULL,
    fingerprint TEXT NOT NULL
);

-- Which mutation the current transaction is; empty outside of one.
CREATE TABLE _rhtmx_sync_mutation (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    client_id TEXT NOT NULL,
    mutation INTEGER NOT NULL
);

-- How far each client has come with its mutations, so that each is applied once.
CREATE TABLE _rhtmx_sync_client (
    client_id TEXT NOT NULL PRIMARY KEY,
    last_mutation INTEGER NOT NULL,
    -- The log's newest id when the last mutation had been applied.
    last_commit INTEGER,
    -- The user who first used this client id.
    user_id TEXT,
    seen_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- Mutations that were not applied, so that they are answered again as the first time.
CREATE TABLE _rhtmx_sync_reject (
    client_id TEXT NOT NULL,
    mutation INTEGER NOT NULL,
    reject TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (client_id, mutation)
);
