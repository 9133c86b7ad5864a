//! A database whose epoch does not go on: restored from a dump, promoted, gone back to an earlier state.
//! Clients refetch, nothing is lost or told twice, and each mutation is applied once.

mod cluster;
mod restore;
mod sqlite;
mod standby;
