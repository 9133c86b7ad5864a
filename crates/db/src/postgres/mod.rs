//! The PostgreSQL backend.

mod address;
mod apply;
pub(crate) mod cancel;
mod capture;
mod catalog;
mod changes;
pub(crate) mod connect;
mod dialect;
mod doctor;
mod filter;
pub(crate) mod incarnation;
mod inquiry;
pub(crate) mod install;
pub(crate) mod listen;
pub(crate) mod mutation;
mod observed;
pub(crate) mod open;
pub(crate) mod pool;
pub(crate) mod pooling;
mod projection;
pub(crate) mod read;
mod resume;
pub(crate) mod rls;
pub(crate) mod store;
mod tls;
mod types;
mod write;
