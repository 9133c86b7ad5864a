//! What went wrong, in words that a client can act on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::SubscriptionId;

/// The longest part of a JSON reader's message that is passed on, in characters: it quotes the client.
const FAULT_CHARS_MAX: usize = 200;

/// Something that the client sent or asked for is impossible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Error {
    /// The kind.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
    /// The subscription that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<SubscriptionId>,
    /// Whether a close follows.
    pub fatal: bool,
    /// Milliseconds after which trying again may help, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The `code` of an `error` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame breaks the protocol.
    Protocol,
    /// There is no valid token.
    Unauthenticated,
    /// This user may not do it.
    Forbidden,
    /// The server syncs no such entity.
    UnknownEntity,
    /// The filter cannot be answered.
    BadFilter,
    /// The connection has as many subscriptions as it may.
    TooManySubscriptions,
    /// Too much in too short a time.
    RateLimited,
    /// The frame is larger than `frame_bytes_max`.
    TooLarge,
    /// The database is out of reach; try again.
    Unavailable,
    /// A fault of the server; its logs say more.
    Internal,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(ts_rs::TS), ts(repr(enum), rename_all = "snake_case"))]
#[repr(u16)]
pub enum CloseCode {
    /// The server shuts down; reconnect.
    ShuttingDown = 1001,
    /// The client broke the protocol.
    Protocol = 4400,
    /// There is no valid token.
    Unauthenticated = 4401,
    /// The origin or a policy forbids it.
    Forbidden = 4403,
    /// No `hello` came in time, or the client stopped reading or answering.
    Timeout = 4408,
    /// A frame was too large.
    TooLarge = 4413,
    /// Too many frames in too short a time.
    RateLimited = 4429,
}

impl Error {
    /// An error after which the session goes on.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            id: None,
            fatal: false,
            retry_after_ms: None,
        }
    }

    /// The same, saying when trying again may help.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.retry_after_ms = Some(pause_ms.max(1));
        self
    }

    /// An error that a close follows.
    pub fn fatal(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            fatal: true,
            ..Self::new(code, message)
        }
    }

    /// The same, naming the subscription, where there is one.
    #[must_use]
    pub fn of_subscription(mut self, id: impl Into<Option<SubscriptionId>>) -> Self {
        self.id = id.into();
        self
    }
}

/// Why a client's JSON could not be read, in words of bounded length.
pub fn json_fault(error: &serde_json::Error) -> String {
    let words = error.to_string();
    match words.char_indices().nth(FAULT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}
