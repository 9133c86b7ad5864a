//! Why a changeset is not made, or not merged.

use db::DbError;
use db::read::ReadError;
use merge::ChangesetError;
use protocol::Reject;

/// Why a changeset is not made, or not merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A page is wrong; nothing of it has been merged.
    #[error(transparent)]
    Page(#[from] ChangesetError),
    /// A record does not fit its table; nothing of its page has been merged.
    #[error("table {table:?}, record {record}: {}: {}", protocol::json::text(&reject.code), reject.message)]
    Record {
        /// The table.
        table: String,
        /// The record's place in its table, from 0.
        record: usize,
        /// What is wrong.
        reject: Box<Reject>,
    },
    /// An entity cannot be in a changeset.
    #[error("{entity:?} cannot be in a changeset: {reason}")]
    Entity {
        /// The entity.
        entity: String,
        /// Why.
        reason: String,
    },
    /// A table has changed since the replica was opened: open it again.
    #[error("the table of {0:?} has just changed")]
    Outdated(String),
    /// Both databases stamp under one name: one is a copy of the other.
    #[error(
        "both databases stamp as {0:?}, so one is a copy of the other, or they are the same; give the copy a name of its \
         own: UPDATE _rhtmx_sync_meta SET node = '…'"
    )]
    SameNode(String),
}

impl ReplicaError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_retryable())
    }

    pub(super) fn of_read(error: ReadError) -> Self {
        match error {
            ReadError::Outdated(entity) => Self::Outdated(entity),
            ReadError::Db(error) => Self::Database(error),
            other => Self::Database(DbError::Unreachable(other.to_string())),
        }
    }
}
