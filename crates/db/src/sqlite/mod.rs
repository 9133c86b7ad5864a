//! The SQLite backend.

mod apply;
mod capture;
pub(crate) mod catalog;
mod changes;
pub(crate) mod changeset;
pub(crate) mod connect;
pub(crate) mod crdt_node;
mod entry;
mod explain;
mod field_write;
mod file;
mod file_events;
mod filter;
pub(crate) mod folding;
mod inquiry;
pub(crate) mod install;
pub(crate) mod listen;
pub(crate) mod mutation;
pub(crate) mod open;
pub(crate) mod pool;
mod projection;
pub(crate) mod read;
pub(crate) mod schema_version;
mod statement;
pub(crate) mod store;
mod table;
mod time_limit;
pub(crate) mod tombstones;
mod watch;
mod write;

#[cfg(test)]
mod tests;
