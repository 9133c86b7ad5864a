//! Live data for axum applications: what is committed to PostgreSQL or SQLite, by whichever program,
//! is on every subscriber's WebSocket a moment later, and comes back complete after any absence.
//!
//! ```no_run
//! use rhtmx_sync::{DbPool, SyncConfig, SyncEngine};
//!
//! # async fn quick_start() -> Result<(), Box<dyn std::error::Error>> {
//! let db_pool = DbPool::from_url("postgresql://localhost/mydb").await?; // or "sqlite://./dev.db"
//! let sync_engine =
//!     SyncEngine::new(SyncConfig::new(db_pool, vec!["users".to_string(), "posts".to_string()])).await?;
//! let app: axum::Router = axum::Router::new().merge(sync_engine.routes());
//! # drop(app);
//! # Ok(())
//! # }
//! ```
//!
//! One road leads out (table, trigger, log, listener, hub, session) and one leads in (session,
//! mutation, one transaction on the table): a client's own write comes back to it on the same road as
//! everybody else's. The repository's `ARCHITECTURE.md` tells the whole of it.

mod backoff;
mod change_tracker;
mod config;
mod db;
mod engine;
mod entity;
mod error;
mod frame;
mod http;
mod hub;
mod mutate;
mod reader;
mod retention;
mod session;
mod spool;
mod sqlite_listener;

pub use change_tracker::{
    ChangeBatch, ChangeReceiver, ChangeTracker, ReceiveError, TrackedChange, TrackerError,
};
pub use config::{AuthConfig, DatabaseConfig, LimitsConfig, LogConfig, SyncConfig};
pub use db::postgres::listen::{ListenerStatus, PostgresNotifyListener, WakeUp};
pub use db::{DbError, DbPool, PostgresPool, SqlitePool};
pub use engine::{Readiness, SyncEngine};
pub use entity::{EntityConfig, EntitySource};
pub use error::SyncError;
pub use rhtmx_sync_core::cursor::Cursor;
pub use rhtmx_sync_core::log::Action;
pub use rhtmx_sync_core::protocol::{Change, RefetchReason};
