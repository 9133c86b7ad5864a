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
