//! Database errors.

use std::time::Duration;

use thiserror::Error;

use crate::health::Unreadable;

/// A database error, classified by what can be done about it. The text is for logs and operators; it is
/// never sent to clients and never contains a password.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DbError {
    /// The address has none of the known forms, or cannot be parsed.
    #[error(
        "not a database address: expected postgresql://…, postgres://…, sqlite://path or \
         sqlite::memory: ({0})"
    )]
    Url(String),
    /// The server refuses this user, password or database name; trying again will not help.
    #[error("the database refuses the connection: {0}")]
    Refused(String),
    /// No connection now; trying again may help.
    #[error("the database is out of reach: {0}")]
    Unreachable(String),
    /// The server is a hot standby, or read-only for this role. It is used once it has been promoted.
    #[error(
        "this server is a hot standby, or read-only for this role, and the engine needs the primary: the \
         snapshots of a standby do not say which transactions are running"
    )]
    Standby,
    /// Another transaction holds a lock. Trying again may help.
    #[error("another transaction holds a lock: {0}")]
    Locked(String),
    /// A statement failed, and would fail again.
    #[error("{context}: {message}")]
    Statement {
        /// What was being done.
        context: &'static str,
        /// The database's message.
        message: String,
    },
    /// A write failed because of its table or a trigger on it, not because of its data. It may have been made
    /// for columns that have changed since; if it fails again once the table has been read again, it will
    /// always fail.
    #[error("a write fails because of its table: {message}")]
    Table {
        /// The write, counted from 0; `None` when it is all of them together.
        write: Option<usize>,
        /// The database's message or code.
        message: String,
    },
    /// A write failed in a way that usually passes by itself. If it goes on, the table or a trigger on it is at
    /// fault.
    #[error("a write fails: {message}")]
    Recurring {
        /// The write, counted from 0; `None` when it is all of them together.
        write: Option<usize>,
        /// The database's message or code.
        message: String,
    },
    /// A read was cancelled, because the database sent nothing of it for too long.
    #[error("{context}: the database sent nothing for {} ms", timeout.as_millis())]
    NoProgress {
        /// What was being read.
        context: &'static str,
        /// The time-out, `statement_timeout_ms`.
        timeout: Duration,
    },
    /// The client id of a mutation belongs to another user; nothing of the mutation was applied.
    #[error("this client id belongs to another user")]
    OtherUser,
    /// The migrations could not be run.
    #[error("the migrations could not be run: {0}")]
    Migration(String),
    /// The engine cannot use this database: its version, its settings or the program's features rule it out.
    #[error("{0}")]
    Unsupported(String),
}

impl DbError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Standby | Self::Locked(_) | Self::Recurring { .. }
        )
    }

    /// What is wrong, without the database's or the driver's words: for readiness, which anybody may ask for.
    pub fn summary(&self) -> String {
        match self {
            Self::Url(_) => "the database's address cannot be used".to_owned(),
            Self::Refused(_) => "the database refuses the connection".to_owned(),
            Self::Unreachable(_) => "the database is out of reach".to_owned(),
            Self::Locked(_) => "another transaction holds a lock".to_owned(),
            Self::Statement { context, .. } => format!("{context} fails"),
            Self::Table { .. } | Self::Recurring { .. } => "a write fails".to_owned(),
            Self::Migration(_) => "the migrations cannot be run".to_owned(),
            Self::Standby | Self::OtherUser | Self::NoProgress { .. } | Self::Unsupported(_) => {
                self.to_string()
            }
        }
    }

    /// Whether another transaction holds a lock.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked(_))
    }

    /// Why an entity cannot be read, of an error that only concerns it.
    pub fn unreadable(&self) -> Unreadable {
        match self {
            Self::Locked(_) => Unreadable::Locked,
            error => match Unreadable::of_message(&error.to_string()) {
                Unreadable::Failing => Unreadable::NotCaptured,
                reason => reason,
            },
        }
    }

    /// Classifies an error of Diesel's and adds what was being done.
    pub(crate) fn while_doing(context: &'static str, error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        match error {
            Error::DatabaseError(
                Kind::ClosedConnection
                | Kind::UnableToSendCommand
                | Kind::SerializationFailure
                | Kind::ReadOnlyTransaction,
                info,
            ) => Self::Unreachable(format!("{context}: {}", info.message())),
            Error::DatabaseError(_, info) if info.message().contains("due to lock timeout") => {
                Self::Locked(format!("{context}: {}", info.message()))
            }
            Error::DatabaseError(_, info) if is_temporary(info.message()) => {
                Self::Unreachable(format!("{context}: {}", info.message()))
            }
            Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. } => {
                Self::Unreachable(format!("{context}: {error}"))
            }
            error => Self::Statement {
                context,
                message: error.to_string(),
            },
        }
    }
}

/// Whether a message stands for a state that ends by itself. Diesel does not pass SQLSTATE on.
fn is_temporary(message: &str) -> bool {
    const TEMPORARY: [&str; 10] = [
        // SQLite's, when another program holds its lock for longer than the time-out.
        "database is locked",
        "database table is locked",
        "terminating connection",
        "the database system is",
        "connection closed",
        "deadlock detected",
        "canceling statement",
        "could not serialize",
        "remaining connection slots",
        "sorry, too many clients",
    ];
    TEMPORARY.iter().any(|words| message.contains(words))
}

impl From<bb8::RunError<diesel_async::pooled_connection::PoolError>> for DbError {
    fn from(error: bb8::RunError<diesel_async::pooled_connection::PoolError>) -> Self {
        Self::Unreachable(match error {
            bb8::RunError::TimedOut => "no connection in the pool became free in time".to_owned(),
            bb8::RunError::User(error) => error.to_string(),
        })
    }
}

/// The result of an operation on the database.
pub type DbResult<T> = Result<T, DbError>;

/// The error of a transaction, which fails either in Diesel or in the work done inside it.
pub(crate) enum Failed {
    Diesel(diesel::result::Error),
    Other(DbError),
}

impl Failed {
    pub(crate) fn while_doing(self, context: &'static str) -> DbError {
        match self {
            Self::Diesel(error) => DbError::while_doing(context, error),
            Self::Other(error) => error,
        }
    }
}

impl From<diesel::result::Error> for Failed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Diesel(error)
    }
}

impl From<DbError> for Failed {
    fn from(error: DbError) -> Self {
        Self::Other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_none_of_the_databases_words() {
        let secret = || "role \"zoe\" at 10.0.0.7".to_owned();
        let errors = [
            DbError::Url(secret()),
            DbError::Refused(secret()),
            DbError::Unreachable(secret()),
            DbError::Locked(secret()),
            DbError::Statement {
                context: "reading the log",
                message: secret(),
            },
            DbError::Table {
                write: None,
                message: secret(),
            },
            DbError::Recurring {
                write: None,
                message: secret(),
            },
            DbError::Migration(secret()),
        ];
        for error in errors {
            assert!(!error.summary().contains("zoe"), "{error:?}");
        }
    }
}
