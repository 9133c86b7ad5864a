-- What was written beside a table alone: of rows that are gone, or whose values stay, the log says nothing. Changesets take
-- them from here.
CREATE TABLE _rhtmx_sync_apart (
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    -- The id that the log had reached then.
    at INTEGER NOT NULL,
    PRIMARY KEY (entity, entity_id)
) WITHOUT ROWID;

-- How far the rows of other databases have been merged here.
CREATE TABLE _rhtmx_sync_peer (
    -- The name under which the other database stamps.
    node TEXT NOT NULL,
    entity TEXT NOT NULL,
    -- A cursor of the other database.
    reached TEXT NOT NULL,
    PRIMARY KEY (node, entity)
) WITHOUT ROWID;

-- The records of other databases that could not be merged: a constraint forbids it, or their time has not come.
CREATE TABLE _rhtmx_sync_parked (
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    node TEXT NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- Why, in the words of a rejected write. JSON.
    reject TEXT NOT NULL,
    PRIMARY KEY (entity, entity_id, node)
) WITHOUT ROWID;
