-- What is known of the rows of entities whose fields merge, beside their values: the clocks of their creation, their deletion
-- and of each field. A row that was never edited has no entry, and neither has one that was only inserted.
CREATE TABLE _rhtmx_sync_field (
    entity TEXT NOT NULL,
    -- The primary key as the log has it.
    entity_id TEXT NOT NULL,
    -- The newest clock in the metadata. Clocks are ordered by their bytes.
    newest TEXT NOT NULL,
    -- JSON.
    metadata TEXT NOT NULL,
    -- Of a row that is gone and that an edit may bring back: its values. JSON.
    image TEXT,
    PRIMARY KEY (entity, entity_id)
) WITHOUT ROWID;

-- The values that lost a conflict, where both are kept, until somebody resolves it and for a while after that. A row has
-- those that were written since it was born.
CREATE TABLE _rhtmx_field_conflict (
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    field TEXT NOT NULL,
    -- When the value was written, which is its name among those of the field.
    hlc TEXT NOT NULL,
    -- JSON.
    value TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    resolved_at TEXT,
    PRIMARY KEY (entity, entity_id, field, hlc)
) WITHOUT ROWID;

-- What became of mutations whose writes merged, as JSON, where there is something to tell: so that it is told again when one
-- is pushed again.
CREATE TABLE _rhtmx_sync_merged (
    client_id TEXT NOT NULL,
    mutation INTEGER NOT NULL,
    merged TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (client_id, mutation)
) WITHOUT ROWID;

-- The name under which the database stamps what programs write that stamp nothing themselves.
ALTER TABLE _rhtmx_sync_meta ADD COLUMN node TEXT NOT NULL DEFAULT '';
UPDATE _rhtmx_sync_meta SET node = lower(hex(randomblob(4)));

-- The fields that the mutation's current write has stamped already: {"entity": …, "id": …, "columns": […]}, or null.
ALTER TABLE _rhtmx_sync_mutation ADD COLUMN stamped TEXT;

-- Rows of such entities that a statement may have replaced, for which no delete trigger fires: whether it did is known once
-- the next row is there. A row has one entry for each column of its key.
CREATE TABLE _rhtmx_sync_replaced (
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    -- The column's place in the key.
    part INTEGER NOT NULL,
    -- Its value, as the table has it.
    value,
    -- What the image in _rhtmx_sync_field is to be. Only beside the key's first column.
    image TEXT,
    PRIMARY KEY (entity, entity_id, part)
) WITHOUT ROWID;
