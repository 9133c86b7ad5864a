//! What a session decides: commands for the engine, which owns the transport, the mailbox and the database.

use std::sync::Arc;

use filter::{FilterError, FilterErrorKind};
use protocol::{ErrorCode, Push, RefetchReason, Reject, SubscriptionId};

use crate::cursor::{CommitId, Cursor, Position};
use crate::limit::Limit;
use crate::mutation::fields::Merged;
use crate::shape::{ResolveError, Shape};

/// What the engine has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command<B> {
    /// Send a frame.
    Send(Frame<B>),
    /// Give the hub a command.
    Hub(HubCommand),
    /// Start or stop a read.
    Read(ReadCommand),
    /// Resolve the request of a subscription ([`super::Session::request`]) against its table as it is now.
    /// Report [`super::Session::resolved`] before anything else.
    Resolve(SubscriptionId),
    /// Make the hub queue batches again, then read those that it could not queue: all changes of these shapes
    /// since their positions, transient ones too. Report [`super::Session::caught_up`] at the end, or
    /// [`super::Session::caught_up_apart`], or [`super::Session::catch_up_failed`]; until then only
    /// [`super::Session::applied`].
    CatchUp(Vec<(Shape, Arc<Position>)>),
    /// Apply a mutation. Report [`super::Session::applied`] at the end.
    Apply(Box<Push>),
}

/// A frame to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<B> {
    /// This shape's changes in `batch`, without those that `since` contains. Transient changes are left out,
    /// unless there is a `since`.
    Changes {
        /// The batch.
        batch: B,
        /// The shape.
        shape: Shape,
        /// Send it to this joining subscription alone, not under the shape's name.
        id: Option<SubscriptionId>,
        /// Leave out the changes that this contains.
        since: Option<Arc<Position>>,
    },
    /// `subscribed`.
    Subscribed {
        /// The subscription.
        id: SubscriptionId,
        /// Its shape.
        shape: Shape,
        /// Its resume point.
        position: Arc<Position>,
    },
    /// `refetch`.
    Refetch {
        /// The subscription.
        id: SubscriptionId,
        /// Why.
        reason: RefetchReason,
    },
    /// `cursor`.
    Cursor(Arc<Position>),
    /// The `conflict` frames of a mutation, if there are any, and its `ack`.
    Ack {
        /// The mutation.
        mutation: u64,
        /// What became of its writes; none where there is nothing to tell.
        merged: Option<Box<Merged>>,
    },
    /// `reject`.
    Reject {
        /// The mutation.
        mutation: u64,
        /// Why.
        reject: Reject,
    },
    /// An `error` that does not end the session.
    Error {
        /// What it says.
        error: SubscribeError,
        /// The subscription that it is about.
        id: Option<SubscriptionId>,
    },
}

/// What the hub has to do for the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubCommand {
    /// Queue batches that touch this shape.
    Attach(Shape),
    /// Stop queueing them.
    Detach(Shape),
    /// Queue a batch, an empty one if necessary, as soon as this is reached.
    Await(Awaited),
}

/// A read for a joining subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadCommand {
    /// Read the whole shape, or the changes since `from`. Report [`super::Session::read`] at the end. A
    /// read of changes that fails half-way and is repeated must include transient changes.
    Start {
        /// The subscription.
        id: SubscriptionId,
        /// Its shape.
        shape: Shape,
        /// Where to begin; none for all rows.
        from: Option<ReadFrom>,
    },
    /// Stop reading for this subscription.
    Stop(SubscriptionId),
}

/// Where a read of changes begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFrom {
    /// A cursor from the client, to be checked.
    Cursor(Cursor),
    /// A position that this session has reached.
    Position(Arc<Position>),
}

/// What the hub's position must have reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// A position that contains this.
    Commit(CommitId),
    /// A position that covers this.
    Position(Arc<Position>),
}

impl Awaited {
    /// Whether `position` has reached it.
    pub fn is_reached_by(&self, position: &Position) -> bool {
        match self {
            Self::Commit(commit_id) => position.contains(*commit_id),
            Self::Position(wanted) => position.covers(wanted),
        }
    }
}

/// How a read for a joining subscription ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadEnd {
    /// Everything up to this position has been sent.
    Complete(Arc<Position>),
    /// The cursor cannot be resumed from; nothing has been sent.
    Refetch(RefetchReason),
    /// The rows cannot be read, and are not tried again: the subscription ends with this error.
    Failed(SubscribeError),
}

/// Why a client cannot subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeError {
    /// The kind.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
    /// The limit that the client has reached, if it is one.
    pub limit: Option<Limit>,
}

impl SubscribeError {
    /// Makes an error of this kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            limit: None,
        }
    }

    /// The client has reached a limit.
    pub fn beyond(limit: Limit, message: impl Into<String>) -> Self {
        let code = limit.code().unwrap_or(ErrorCode::RateLimited);
        Self {
            limit: Some(limit),
            ..Self::new(code, message)
        }
    }
}

impl From<ResolveError> for SubscribeError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Request(error) => error.into(),
            ResolveError::Mode(message) => Self::new(ErrorCode::Protocol, message),
            ResolveError::Scope(_) => Self::new(
                ErrorCode::Forbidden,
                "what this user may see of the entity cannot be determined at the moment",
            ),
        }
    }
}

impl From<FilterError> for SubscribeError {
    fn from(error: FilterError) -> Self {
        let code = match error.kind {
            FilterErrorKind::Bad => ErrorCode::BadFilter,
            FilterErrorKind::TooLarge => ErrorCode::TooLarge,
        };
        Self::new(code, error.message)
    }
}
