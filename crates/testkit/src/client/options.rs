//! The options of a client.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

/// Settings of a [`SyncClient`](crate::SyncClient).
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The client id. A new one by default.
    pub client_id: Uuid,
    /// Whether another connection pushes with the same client id. Then a change may become visible here before
    /// its ack; otherwise that breaks a rule. Off by default.
    pub client_id_shared: bool,
    /// Whether the client accepts gzipped frames. Off by default.
    pub gzip: bool,
    /// The token in `hello`.
    pub token: Option<String>,
    /// The `Origin` header, which browsers send.
    pub origin: Option<String>,
    /// More headers of the upgrade, such as `Cookie`, by name.
    pub headers: Vec<(&'static str, String)>,
    /// The mode of subscriptions that name none, where the route is for another than `rows`.
    pub mode: Option<&'static str>,
    /// How long a call waits until it considers the server hung and fails. A minute by default.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_id: Uuid::new_v4(),
            client_id_shared: false,
            gzip: false,
            token: None,
            origin: None,
            headers: Vec::new(),
            mode: None,
            patience: Duration::from_secs(60),
        }
    }
}

/// The id that a client chooses for a subscription: a string or a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubscriptionId {
    /// A JSON number.
    Number(u64),
    /// A JSON string.
    Text(String),
}

impl SubscriptionId {
    /// The id as a frame carries it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Number(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_str()),
        }
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_u64().map(Self::Number),
            Value::String(text) => Some(Self::Text(text.clone())),
            _ => None,
        }
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(formatter)
    }
}

impl From<&str> for SubscriptionId {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for SubscriptionId {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for SubscriptionId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&SubscriptionId> for SubscriptionId {
    fn from(id: &SubscriptionId) -> Self {
        id.clone()
    }
}
