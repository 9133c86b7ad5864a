//! The databases. Everything that knows SQL or Diesel is in this crate.
//!
//! [`DbPool`] is the seam between the backends. Each is behind the cargo feature of its name.
//!
//! Invariant: nothing in this crate knows sessions, sockets or HTTP. Changes go to a [`feed::LogSubscriber`].

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("no database: enable the feature `postgres` or `sqlite`");

pub mod backoff;
mod catalog;
pub mod changeset;
mod config;
pub mod crdt_node;
pub mod entity;
mod error;
pub mod feed;
pub mod fields;
mod fingerprint;
pub mod folding;
pub mod health;
mod lanes;
pub mod listener;
mod mend;
mod migrations;
pub mod open_mutation;
mod pool;
pub mod pooling;
#[cfg(feature = "postgres")]
mod postgres;
mod quote;
pub mod read;
pub mod retention;
pub mod schema_version;
mod sets;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tables;
pub mod tombstones;
mod url;
pub mod write;

pub use catalog::{DescribeError, Described};
pub use config::DatabaseConfig;
pub use error::{DbError, DbResult};
pub use pool::{DbPool, MESSAGE_BYTES_MAX};
#[cfg(feature = "postgres")]
pub use postgres::{
    listen::PostgresNotifyListener,
    policy_reader::PolicyReader,
    pool::PostgresPool,
    rls::{Asked, CatalogVersion, Failure},
};
#[cfg(feature = "sqlite")]
pub use sqlite::pool::SqlitePool;
