//! How a mutator or a validation hook ends without success.

use db::DbError;
use db::write::{StatementError, statement_reject};
use protocol::{Reject, RejectCode};

/// The application's own no. The client's mutation is rejected with `refused`, with this reason and this message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// Why, in a word for programs: `list_full`.
    pub reason: String,
    /// Why, in words for people.
    pub message: String,
}

impl Refusal {
    /// A refusal with a word for programs, and words for people.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }

    pub(crate) fn reject(self) -> Reject {
        Reject {
            reason: Some(self.reason),
            ..Reject::new(RejectCode::Refused, self.message)
        }
    }
}

/// A write of a mutator's that was rejected. Nothing of it is left; the function may go on, or return the error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RejectedWrite {
    /// The entity; none where it was a statement of the function's own.
    pub entity: Option<String>,
    /// Why, as a client's write would be answered. A column that the principal may not read is not told to the client.
    pub reject: Reject,
}

/// Why a mutator did not do what it was called for. Nothing of its mutation is left then.
///
/// Every other error becomes one of these with `?`. An error of Diesel's is [`MutatorError::Rejected`] where a constraint
/// is violated, and [`MutatorError::Database`] otherwise.
#[derive(Debug)]
#[non_exhaustive]
pub enum MutatorError {
    /// It does not want to.
    Refused(Refusal),
    /// One of its writes was rejected, and so is the mutation.
    Rejected(Box<RejectedWrite>),
    /// The database failed. The mutation is tried again, if that may help.
    Database(DbError),
    /// Anything else: the error is logged, and the mutation rejected with `refused`, without a reason.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for MutatorError {
    fn from(error: E) -> Self {
        let error = match error.into().downcast::<Refusal>() {
            Ok(refusal) => return Self::Refused(refusal),
            Err(error) => error,
        };
        match error.downcast::<StatementError>() {
            Ok(failed) => match statement_reject(failed) {
                Ok(reject) => Self::Rejected(Box::new(RejectedWrite {
                    entity: None,
                    reject,
                })),
                Err(error) => Self::Database(error),
            },
            Err(error) => Self::Failed(error),
        }
    }
}
