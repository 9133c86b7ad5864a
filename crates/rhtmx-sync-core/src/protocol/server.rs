//! What the server sends.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{ErrorCode, RefetchReason, Reject, SubscriptionId};
use crate::cursor::{Cursor, Epoch};
use crate::schema::SchemaSummary;

/// One frame to a client. `rows` and `changes` are JSON arrays written once and shared by all who
/// get them.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerFrame<'a> {
    /// Answer to `hello`.
    Welcome(Welcome),
    /// A page of a first read.
    Snapshot {
        /// The subscription.
        id: &'a SubscriptionId,
        /// An array of [`super::RowImage`].
        #[cfg_attr(test, ts(as = "Vec<super::RowImage>"))]
        rows: &'a RawValue,
        /// Whether pages follow.
        more: bool,
    },
    /// Everything up to `cursor` has been sent, and the stream is attached from there.
    Subscribed {
        /// The subscription.
        id: &'a SubscriptionId,
        /// The name under which its changes come.
        shape: &'a str,
        /// This subscription's resume point.
        #[cfg_attr(test, ts(as = "String"))]
        cursor: &'a Cursor,
        /// The columns.
        schema: &'a SchemaSummary,
    },
    /// Drop the rows of this subscription; a snapshot follows by itself.
    Refetch {
        /// The subscription.
        id: &'a SubscriptionId,
        /// Why.
        reason: RefetchReason,
    },
    /// Changes, to be held back until the next `cursor` (with `id`: until `subscribed`).
    Changes {
        /// The shape, on a live stream.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        shape: Option<&'a str>,
        /// The subscription, on a resume.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        id: Option<&'a SubscriptionId>,
        /// An array of [`super::Change`].
        #[cfg_attr(test, ts(as = "Vec<super::Change>"))]
        changes: &'a RawValue,
    },
    /// Apply everything held back.
    Cursor {
        /// The new resume point of all subscriptions.
        #[cfg_attr(test, ts(as = "String"))]
        cursor: &'a Cursor,
    },
    /// Committed; the `cursor` frame that follows contains it.
    Ack {
        /// The mutation.
        mutation: u64,
    },
    /// Not applied, not a row of it.
    Reject {
        /// The mutation.
        mutation: u64,
        /// Why.
        #[serde(flatten)]
        reject: &'a Reject,
    },
    /// Answer to `auth`.
    Authenticated {
        /// The user; none until there is authentication.
        user: Option<&'a str>,
    },
    /// Something the client sent or asked for cannot be.
    Error {
        /// The kind.
        code: ErrorCode,
        /// In words.
        message: &'a str,
        /// The subscription that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional))]
        id: Option<&'a SubscriptionId>,
        /// Whether a close follows.
        fatal: bool,
    },
    /// Answer to `ping`.
    Pong {
        /// As it came.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(optional, type = "Json"))]
        at: Option<&'a serde_json::Value>,
    },
}

/// What a client learns first.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Welcome {
    /// The version that the server speaks.
    pub protocol: u32,
    /// This connection, for logs.
    pub session_id: Uuid,
    /// The history that cursors belong to.
    #[cfg_attr(test, ts(as = "String"))]
    pub epoch: Epoch,
    /// The newest mutation of this client that has been answered, 0 for none.
    pub last_mutation: u64,
    /// How often the server says something at least.
    pub heartbeat_ms: u64,
    /// What the server takes.
    pub limits: Limits,
    /// The user, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What the server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Limits {
    /// The largest frame from a client, in bytes, also after unzipping.
    pub frame_bytes_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Writes in one mutation.
    pub writes_max: usize,
}

impl ServerFrame<'_> {
    /// The frame's text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("frames hold only what JSON can say")
    }
}
