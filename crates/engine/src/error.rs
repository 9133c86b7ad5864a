//! Errors of starting an engine.

use db::DbError;
use sync_core::policy::PolicyError;

/// Why an engine could not start. Each message says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The database failed in a way that retrying does not solve.
    #[error(transparent)]
    Database(#[from] DbError),
    /// An entity's table does not exist.
    #[error("entity {entity:?}: there is no table {table:?} in the database")]
    NoTable {
        /// The entity.
        entity: String,
        /// The configured table.
        table: String,
    },
    /// An entity's table cannot be synced.
    #[error("entity {entity:?}: {reason}")]
    Table {
        /// The entity.
        entity: String,
        /// Why, with the table's name.
        reason: String,
    },
    /// A policy cannot be evaluated exactly on its table.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The configuration contradicts itself or the protocol.
    #[error("configuration: {0}")]
    Config(String),
}
