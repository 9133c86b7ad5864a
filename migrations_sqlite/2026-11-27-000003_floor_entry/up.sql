-- The hash of the entry at the floor, which may be gone; at the start, of none. Positions carry the hash of
-- the entry that they stand on, so that a file that went back to an earlier state is noticed.
ALTER TABLE _rhtmx_sync_meta ADD COLUMN floor_entry TEXT;
UPDATE _rhtmx_sync_meta SET floor_entry = lower(hex(randomblob(8)));
