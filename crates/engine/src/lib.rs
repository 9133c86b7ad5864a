//! Live data for axum applications: what any program commits to PostgreSQL or SQLite reaches every
//! subscriber's WebSocket a moment later, and a client that reconnects after any absence is complete again.
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
//! Changes flow out through table, trigger, log, listener, hub and session; mutations flow in through
//! session, mutation and one transaction on the table. A client's own write comes back to it in the same way
//! as any other. The repository's `ARCHITECTURE.md` explains all of it.

mod admission;
mod auth;
mod authors;
mod bus;
mod change_batch;
mod change_tracker;
mod changesets;
mod clock;
mod config;
pub mod crdt;
mod crdt_nodes;
mod crdt_sync;
mod engine;
mod error;
mod field_stats;
mod field_tracker;
mod folding;
mod http;
mod limits;
mod lost_values;
mod mailbox;
mod mutations;
mod mutators;
mod policy_watch;
mod principals;
mod publisher;
mod rates;
mod retention;
mod row_level;
mod row_security;
mod rows;
mod schema_watch;
mod server_message;
mod session;
mod shared_frame;
mod startup;
mod state;

pub use auth::{
    AcceptAnyone, ApplicationOnly, AuthError, AuthStatus, Authenticator, JwtAuthenticator,
    JwtConfig, JwtConfigError, KeysStatus, OperatorToken, OperatorTokenError, is_published_secret,
};
pub use bus::{Bus, BusSubscription, LocalBus, TOPIC_MESSAGES_MAX};
pub use change_batch::{ChangeBatch, TrackedChange};
pub use change_tracker::{ChangeReceiver, ChangeTracker, ReceiveError, TrackerError};
pub use changesets::{
    Copied, EntityDigest, MergeSummary, Pages, ParkedRecord, Replica, ReplicaError, Replication,
};
pub use config::{AuthConfig, LimitsConfig, ReadsConfig, RetentionConfig, SyncConfig};
#[cfg(feature = "postgres")]
pub use db::PostgresNotifyListener;
#[cfg(feature = "postgres")]
pub use db::PostgresPool;
#[cfg(feature = "sqlite")]
pub use db::SqlitePool;
pub use db::entity::{EntityConfig, EntitySource};
pub use db::listener::{ListenerStatus, WakeUp};
#[cfg(feature = "postgres")]
pub use db::open_mutation::PostgresConnection;
#[cfg(feature = "sqlite")]
pub use db::open_mutation::SqliteConnection;
pub use db::{DatabaseConfig, DbError, DbPool};
pub use engine::SyncEngine;
pub use error::SyncError;
pub use field_tracker::{
    DeletedRow, FieldBatch, FieldChange, FieldConflict, FieldEdit, FieldReceiver, FieldTracker,
    FieldTrackerError,
};
pub use merge::{
    Changeset, ChangesetError, ChangesetErrorKind, ChangesetFilter, Clock, ClockPolicy,
    ColumnMerge, ColumnRule, Comparison, Conflict, Deletes, FieldMergeStrategy, NodeId, Record,
    Rules, Stamped,
};
pub use mutators::{MutatorError, MutatorTx, Refusal, RejectedWrite, TxConnection, ValidatedWrite};
pub use protocol::{Change, Op, RefetchReason, Reject, RejectCode, SelectionRequest};
/// Derive its `JsonSchema` for the arguments of mutators, with `#[schemars(crate = "rhtmx_sync::schemars")]`, or depend on
/// the same version.
pub use schemars;
pub use state::Readiness;
pub use sync_core::address::{AddressRange, RangeError};
pub use sync_core::cursor::Cursor;
pub use sync_core::doctor::{Check, Finding, Level, Remedy};
pub use sync_core::log::ChangeKind;
pub use sync_core::policy::{
    AllowAll, Authorizer, ColumnAccess, ColumnPolicy, EntityPolicy, Policies, PolicyError,
    Principal, PrincipalMatch, ReadScope, RowScope, UpdatePolicy, WriteColumns, WriteScope,
};
