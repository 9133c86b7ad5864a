-- What is known of who has what, for each entity: the database `who` has all writes that the database `whose` has admitted, or
-- will, with clocks up to this one.
CREATE TABLE _rhtmx_sync_horizon (
    entity TEXT NOT NULL,
    who TEXT NOT NULL,
    whose TEXT NOT NULL,
    clock TEXT NOT NULL,
    PRIMARY KEY (entity, who, whose)
) WITHOUT ROWID;
