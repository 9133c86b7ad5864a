//! What can go wrong between the engine and its database.

use thiserror::Error;

/// A database error, sorted by what can be done about it. The text is for logs and operators; it
/// never goes over the wire and never holds a password.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DbError {
    /// The address is not one that the engine knows.
    #[error(
        "not a database address: expected postgresql://…, postgres://…, sqlite://path or \
         sqlite::memory: ({0})"
    )]
    Url(String),
    /// The server refuses this user, password or database name: trying again will not help.
    #[error("the database refuses the connection: {0}")]
    Refused(String),
    /// No connection now; trying again may help.
    #[error("the database is out of reach: {0}")]
    Unreachable(String),
    /// A statement failed for a reason that trying again does not change.
    #[error("{context}: {message}")]
    Statement {
        /// What was being done.
        context: &'static str,
        /// The database's words.
        message: String,
    },
    /// The migrations could not be run.
    #[error("the migrations could not be run: {0}")]
    Migration(String),
    /// The database is of a version that the engine cannot use.
    #[error("{0}")]
    Unsupported(String),
}

impl DbError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Says what was being done when Diesel reported `error`.
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
            // SQLite says so when another program holds its lock for longer than the time-out.
            Error::DatabaseError(_, info) if passes_by_itself(info.message()) => {
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

/// Diesel does not pass SQLSTATE on; these messages stand for states that end without anybody doing something.
fn passes_by_itself(message: &str) -> bool {
    const RETRYABLE: [&str; 10] = [
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
    RETRYABLE.iter().any(|words| message.contains(words))
}

impl From<bb8::RunError<diesel_async::pooled_connection::PoolError>> for DbError {
    fn from(error: bb8::RunError<diesel_async::pooled_connection::PoolError>) -> Self {
        Self::Unreachable(match error {
            bb8::RunError::TimedOut => "no connection of the pool came free in time".to_owned(),
            bb8::RunError::User(error) => error.to_string(),
        })
    }
}

/// What the migration and catalog code returns.
pub type DbResult<T> = Result<T, DbError>;

/// A transaction fails in Diesel or in what was done inside it; it needs one type for both.
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
