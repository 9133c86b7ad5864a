//! The connection itself: who is there, what each side can do, whether the other is still alive.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::Chain;

/// The longest `at` of a `ping`, in bytes of JSON.
pub const PING_BYTES_MAX: usize = 256;

/// The first frame of a session.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Hello {
    /// The version that the client speaks.
    pub protocol: u32,
    /// A uuid that the client keeps.
    pub client_id: Uuid,
    /// Proof of who the user is, where the server asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the client can read besides plain text: `"gzip"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<_>"))]
    pub accept: Vec<String>,
}

/// Without the token.
impl fmt::Debug for Hello {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Hello")
            .field("protocol", &self.protocol)
            .field("client_id", &self.client_id)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("accept", &self.accept)
            .finish()
    }
}

/// Answer to `hello`: what a client must know first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Welcome {
    /// The version that the server speaks.
    pub protocol: u32,
    /// What the server offers, by name. A client does not ask for what is not in here.
    #[serde(default)]
    pub features: Vec<String>,
    /// This connection, for logs.
    pub session_id: Uuid,
    /// The epoch that cursors belong to.
    pub epoch: String,
    /// The newest mutation of this client that has been answered, 0 for none.
    pub last_mutation: u64,
    /// The chain up to that mutation; none where the server has none of this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "string"))]
    pub last_chain: Option<Chain>,
    /// The server's clock, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
    /// The server sends something at least this often.
    pub heartbeat_ms: u64,
    /// What the server accepts.
    pub limits: Limits,
    /// The user, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What a server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Limits {
    /// The largest frame from a client, in bytes, also after unzipping.
    pub frame_bytes_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Writes in one mutation.
    pub writes_max: usize,
}

/// A fresh token on an open connection.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Auth {
    /// The token.
    pub token: String,
}

/// Without the token.
impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Auth { token: … }")
    }
}

/// Answer to `auth`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Authenticated {
    /// The user; null where the server knows no users.
    pub user: Option<String>,
}

/// Asks for a `pong`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Ping {
    /// Sent back unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "Json"))]
    pub at: Option<Box<RawValue>>,
}

/// Answer to `ping`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Pong {
    /// The `at` of the `ping`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "Json"))]
    pub at: Option<Box<RawValue>>,
}
