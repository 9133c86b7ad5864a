//! The words for what went wrong.

use serde::{Deserialize, Serialize};

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(ts_rs::TS), ts(repr(enum), rename_all = "snake_case"))]
#[repr(u16)]
pub enum CloseCode {
    /// The server goes away; reconnect.
    ShuttingDown = 1001,
    /// The client broke the protocol.
    Protocol = 4400,
    /// No valid token.
    Unauthenticated = 4401,
    /// The origin or a policy forbids it.
    Forbidden = 4403,
    /// No `hello` in time, or the client stopped reading or answering.
    Timeout = 4408,
    /// A frame was too large.
    TooLarge = 4413,
    /// Too many frames.
    RateLimited = 4429,
}

/// The `code` of an `error` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is not what the protocol says.
    Protocol,
    /// No valid token.
    Unauthenticated,
    /// Not for this user.
    Forbidden,
    /// No such entity here.
    UnknownEntity,
    /// The filter cannot be answered.
    BadFilter,
    /// The connection has as many as it may.
    TooManySubscriptions,
    /// Slower, please.
    RateLimited,
    /// The frame is larger than `frame_bytes_max`.
    TooLarge,
    /// The database is out of reach; try again.
    Unavailable,
    /// A fault of the server; its log says more.
    Internal,
}

/// The `code` of a `reject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// A value or a key is not of its column's type, or may not be written.
    Invalid,
    /// No such entity here.
    UnknownEntity,
    /// No such column.
    UnknownColumn,
    /// The row is not there.
    NotFound,
    /// A row with this key is there already.
    Exists,
    /// A not-null, unique, foreign key, check or exclusion constraint says no.
    Constraint,
    /// Not for this user.
    Forbidden,
    /// Too many writes, or a value too large for the database.
    TooLarge,
    /// A clock too far in the future.
    Clock,
    /// Not the mutation that comes next; `expected` says which.
    OutOfOrder,
}

/// Why a mutation was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Reject {
    /// The kind of reason.
    pub code: RejectCode,
    /// The reason in words, never the database's own.
    pub message: String,
    /// The position of the write in `writes`, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<usize>,
    /// The column at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// With `out_of_order`: the number that comes next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

impl Reject {
    /// A reject of a whole mutation.
    pub fn new(code: RejectCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            write: None,
            column: None,
            expected: None,
        }
    }

    /// The same, naming the write.
    #[must_use]
    pub fn of_write(mut self, write: usize) -> Self {
        self.write = Some(write);
        self
    }

    /// The same, naming the column.
    #[must_use]
    pub fn of_column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }
}

/// Why a client must drop a subscription's rows and take them anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum RefetchReason {
    /// The cursor is older than the log.
    Expired,
    /// The cursor is of another history.
    Epoch,
    /// The table changed its shape.
    Schema,
    /// What the user may see has changed.
    Permission,
}
