//! SQLite.

pub(crate) mod capture;
pub(crate) mod catalog;
pub(crate) mod connect;
mod explain;
mod filter;
mod projection;
pub(crate) mod read;
mod statement;
pub(crate) mod store;
mod table;
pub(crate) mod watch;
pub(crate) mod write;

#[cfg(test)]
mod tests;
