//! What clients send.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::shape::Wanted;

/// The longest subscription id that is taken, in bytes.
const SUBSCRIPTION_ID_BYTES_MAX: usize = 256;

/// How much of a JSON reader's words is passed on, in characters: they quote the client's.
const FAULT_CHARS_MAX: usize = 200;

/// One frame from a client.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(ts_rs::TS), ts(tag = "type", rename_all = "lowercase"))]
pub enum ClientFrame {
    /// The first frame.
    Hello(Hello),
    /// A fresh token on a living connection.
    Auth {
        /// The token.
        token: String,
    },
    /// Asks for an entity's rows and their changes.
    Subscribe(Subscribe),
    /// Ends a subscription.
    Unsubscribe {
        /// Which one.
        id: SubscriptionId,
    },
    /// One atomic transaction.
    Push(Push),
    /// Asks for a `pong`.
    Ping {
        /// Sent back as it came.
        #[cfg_attr(test, ts(optional, type = "Json"))]
        at: Option<serde_json::Value>,
    },
}

/// The first frame of a session.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Hello {
    /// The version that the client speaks.
    pub protocol: u32,
    /// A uuid that the device keeps.
    pub client_id: Uuid,
    /// Who the user is, where the server asks.
    pub token: Option<String>,
    /// What the client can read besides plain text: `"gzip"`.
    #[serde(default)]
    #[cfg_attr(test, ts(as = "Option<_>"))]
    pub accept: Vec<String>,
}

/// Asks for an entity's rows and their changes.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Subscribe {
    /// Chosen by the client.
    pub id: SubscriptionId,
    /// Which entity.
    pub entity: String,
    /// A filter.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// The filter's `$1`, `$2`, …
    #[serde(default)]
    #[cfg_attr(test, ts(optional, type = "Array<Json>"))]
    pub params: Option<Vec<Box<RawValue>>>,
    /// Only these columns (and the key).
    pub columns: Option<Vec<String>>,
    /// `rows` or `fields`.
    pub mode: Option<String>,
    /// Resume from here. Not yet read: a text that is no cursor is answered, not refused.
    pub cursor: Option<String>,
}

impl Subscribe {
    /// Which part of the entity it asks for.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            filter: self.filter.as_deref(),
            params: self.params.as_deref(),
            columns: self.columns.as_deref(),
        }
    }
}

/// One atomic transaction.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Push {
    /// 1, 2, 3 … for this client.
    pub mutation: u64,
    /// Applied in order, together or not at all.
    pub writes: Vec<Write>,
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// A row that is not there yet.
    Create,
    /// Some columns of a row that is there.
    Update,
    /// Either.
    Upsert,
    /// A row that is there goes.
    Delete,
}

/// One write of a mutation.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Write {
    /// Which entity.
    pub entity: String,
    /// What to do.
    pub op: Op,
    /// The row; a create may carry it in `values` or leave it to the database.
    #[cfg_attr(test, ts(optional, type = "Json"))]
    pub key: Option<serde_json::Value>,
    /// Columns and their values, each as the client spelled it, so that no digit is lost.
    #[serde(default)]
    #[cfg_attr(test, ts(optional, type = "Row"))]
    pub values: BTreeMap<String, Box<RawValue>>,
    /// When the user made it.
    pub hlc: Option<String>,
}

/// A subscription's name: text or a whole number, sent back as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(untagged)]
pub enum SubscriptionId {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<&str> for SubscriptionId {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Why a text is not a frame, in words for whoever writes the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// What is wrong and where.
    pub message: String,
    /// The subscription that the frame spoke of, where that much could be read.
    pub id: Option<SubscriptionId>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Auth {
    token: String,
}

#[derive(Deserialize)]
struct Unsubscribe {
    id: SubscriptionId,
}

#[derive(Deserialize)]
struct Ping {
    at: Option<serde_json::Value>,
}

impl ClientFrame {
    /// Reads one frame.
    ///
    /// # Errors
    /// When the text is not a JSON object with a known `type` and the fields of that type.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        // Left to itself, serde also reads a struct from an array of its fields.
        if !text.trim_start().starts_with('{') {
            return Err(FrameError {
                message: "not a frame: not a JSON object".to_owned(),
                id: None,
            });
        }
        let head: Head<'_> = serde_json::from_str(text).map_err(|error| FrameError {
            message: format!("not a frame: {}", json_fault(&error)),
            id: None,
        })?;
        let id = head
            .id
            .and_then(|id| serde_json::from_value(id).ok())
            .filter(fits);
        let body = Body {
            text,
            kind: &head.kind,
            id,
        };
        match &*head.kind {
            "hello" => body.read().map(Self::Hello),
            "auth" => body.read().map(|Auth { token }| Self::Auth { token }),
            "subscribe" => {
                let subscribe: Subscribe = body.read()?;
                body.check_id(&subscribe.id)?;
                Ok(Self::Subscribe(subscribe))
            }
            "unsubscribe" => body
                .read()
                .map(|Unsubscribe { id }| Self::Unsubscribe { id }),
            "push" => body.read().map(Self::Push),
            "ping" => body.read().map(|Ping { at }| Self::Ping { at }),
            _ => Err(FrameError {
                message: "unknown type".to_owned(),
                id: body.id,
            }),
        }
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

fn fits(id: &SubscriptionId) -> bool {
    !matches!(id, SubscriptionId::Text(text) if text.len() > SUBSCRIPTION_ID_BYTES_MAX)
}

struct Body<'a> {
    text: &'a str,
    kind: &'a str,
    id: Option<SubscriptionId>,
}

impl Body<'_> {
    fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_str(self.text).map_err(|error| FrameError {
            message: format!("not a {} frame: {}", self.kind, json_fault(&error)),
            id: self.id.clone(),
        })
    }

    fn check_id(&self, id: &SubscriptionId) -> Result<(), FrameError> {
        if fits(id) {
            return Ok(());
        }
        let message = format!("id is longer than {SUBSCRIPTION_ID_BYTES_MAX} bytes");
        Err(FrameError { message, id: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_push_without_losing_digits() {
        let text = r#"{"type":"push","mutation":1,"later":true,"writes":[{"entity":"t","op":"create","values":{"n":0.12345678901234567890123}}]}"#;
        let ClientFrame::Push(push) = ClientFrame::parse(text).expect("a push") else {
            panic!("not a push");
        };
        assert_eq!(
            push.writes[0].values["n"].get(),
            "0.12345678901234567890123"
        );
    }

    #[test]
    fn repeats_little_of_what_is_wrong() {
        let long = "é".repeat(100_000);
        for text in [
            format!(r#"{{"type":"push","mutation":1,"writes":[{{"entity":"t","op":"{long}"}}]}}"#),
            format!(r#"{{"type":"push","mutation":"{long}","writes":[]}}"#),
            format!(r#"{{"type":"{long}"}}"#),
        ] {
            let wrong = ClientFrame::parse(&text).expect_err("no frame");
            assert!(wrong.message.len() < 500, "{}", wrong.message.len());
        }
    }

    #[test]
    fn says_what_is_wrong_and_of_which_subscription() {
        let wrong = ClientFrame::parse(r#"{"type":"subscribe","id":7}"#).expect_err("no entity");
        assert_eq!(wrong.id, Some(SubscriptionId::Number(7)));
        assert!(wrong.message.contains("entity"), "{wrong}");
        for text in [
            "",
            "[]",
            "[\"ping\"]",
            "{}",
            "{\"type\":1}",
            "{\"type\":\"dance\"}",
            "nul",
        ] {
            assert!(ClientFrame::parse(text).is_err(), "{text}");
        }
    }
}
