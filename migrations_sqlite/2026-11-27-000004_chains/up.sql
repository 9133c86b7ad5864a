-- The chains of each client's last mutations, 64 times 16 bytes: what its numbers stand for. Zeros, and what is missing,
-- are unknown.
ALTER TABLE _rhtmx_sync_client ADD COLUMN chains BLOB NOT NULL DEFAULT x'';
