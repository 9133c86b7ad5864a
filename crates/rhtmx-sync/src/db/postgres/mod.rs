//! PostgreSQL.

pub(crate) mod capture;
pub(crate) mod catalog;
pub(crate) mod connect;
mod filter;
pub(crate) mod listen;
mod projection;
pub(crate) mod read;
pub(crate) mod store;
pub(crate) mod write;
