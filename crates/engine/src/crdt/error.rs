//! Why something could not be done with tables whose rows merge.

use db::DbError;
use db::read::ReadError;
use protocol::Reject;

use super::limits::{
    RESULT_BYTES_MAX, RESULT_ROWS_MAX, TRANSACTION_TIMEOUT, TRANSACTION_WRITES_MAX, WATCHES_MAX,
};
use crate::changesets::ReplicaError;
use crate::error::SyncError;

/// Why something could not be done with tables whose rows merge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrdtError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The tables cannot be synced.
    #[error(transparent)]
    Engine(#[from] SyncError),
    /// A changeset was not made, or not merged.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// No table has this name here.
    #[error("there is no entity {0:?} with a table")]
    UnknownEntity(String),
    /// The table does not exist at the moment, or has just changed. Trying again may help.
    #[error("the table of {0:?} is missing, or has just changed")]
    NoTable(String),
    /// The rows of the entity are replaced whole.
    #[error("the rows of {0:?} do not merge by their fields")]
    NotFields(String),
    /// A new row has no key. Two databases that number their rows by themselves would make one row of two.
    #[error("a new row of {0:?} needs its key: rows that merge are not numbered by their database")]
    NoKey(String),
    /// The database or the schema forbids the write. Nothing of it is left.
    #[error("nothing was written: {}", .0.message)]
    Rejected(Box<Reject>),
    /// What was given is no JSON object of columns, or no JSON.
    #[error("these are no values of columns: {0}")]
    Values(String),
    /// A row does not have the form that was asked for.
    #[error("a row of another form: {0}")]
    Form(#[from] serde_json::Error),
    /// The query cannot be answered.
    #[error("the query cannot be answered: {0}")]
    Query(String),
    /// A result is too large; a filter or a limit makes it smaller.
    #[error(
        "the result has more than {RESULT_ROWS_MAX} rows, or {RESULT_BYTES_MAX} bytes; filter it, or take it in parts"
    )]
    ResultTooLarge,
    /// Too many queries are watched.
    #[error("at most {WATCHES_MAX} queries are watched at once")]
    TooManyWatches,
    /// A transaction or a batch writes too much.
    #[error("a transaction has at most {TRANSACTION_WRITES_MAX} writes")]
    TooManyWrites,
    /// A transaction took too long. Nothing of it is left.
    #[error("the transaction took longer than {} s", TRANSACTION_TIMEOUT.as_secs())]
    TooSlow,
    /// The transaction has ended: it does not outlive its function.
    #[error("the transaction has ended")]
    Ended,
    /// Others wrote the same rows all the time, or their clocks are at the end of time.
    #[error("no clock is above those of all rows that are written")]
    NoClock,
    /// A schema has versions from 1.
    #[error("a schema's version is at least 1")]
    NoVersion,
    /// The tables have a newer version, so another program has brought them there.
    #[error("the tables have the version {stored}, and this program knows only {version}")]
    NewerVersion {
        /// That of the tables.
        stored: u32,
        /// That of the program.
        version: u32,
    },
    /// The tables could not be brought to the schema's version. They are as they were.
    #[error("the tables could not be brought from version {from} to {to}: {error:#}")]
    Upgrade {
        /// The tables' version; 0 where there were none.
        from: u32,
        /// The schema's version.
        to: u32,
        /// What the application's code said.
        error: anyhow::Error,
    },
    /// It is closed, or the engine has shut down.
    #[error("the database is closed")]
    Closed,
}

impl CrdtError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(error) => error.is_retryable(),
            Self::Replica(error) => error.is_retryable(),
            Self::NoTable(_) | Self::NoClock => true,
            _ => false,
        }
    }

    pub(super) fn rejected(reject: Reject) -> Self {
        Self::Rejected(Box::new(reject))
    }
}

impl From<ReadError> for CrdtError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Db(error) => Self::Database(error),
            ReadError::Outdated(entity) => Self::NoTable(entity),
            other => Self::Query(other.to_string()),
        }
    }
}
