//! The frames of both directions, a line for each, and how their text is read.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use serde_json::value::RawValue;

use crate::connect::{Auth, Authenticated, Hello, PING_BYTES_MAX, Ping, Pong, Welcome};
use crate::error::{Error, json_fault};
use crate::json;
use crate::push::{Ack, Conflict, Push, Rejected};
use crate::rows::{
    Changes, Cursor, Refetch, SUBSCRIPTION_ID_BYTES_MAX, Snapshot, Subscribe, Subscribed,
    SubscriptionId, Unsubscribe,
};

/// One frame from a client.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each frame is documented at its type")]
pub enum ClientFrame {
    Hello(Hello),
    Auth(Auth),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Push(Push),
    Ping(Ping),
}

/// One frame from a server.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each frame is documented at its type")]
pub enum ServerFrame {
    Welcome(Welcome),
    Snapshot(Snapshot),
    Subscribed(Subscribed),
    Refetch(Refetch),
    Changes(Changes),
    Cursor(Cursor),
    Conflict(Conflict),
    Ack(Ack),
    Reject(Rejected),
    Authenticated(Authenticated),
    Error(Error),
    Pong(Pong),
}

/// Why a text is not a frame, in words for the author of the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// What is wrong and where.
    pub message: String,
    /// The subscription that the frame names, where that much could be read.
    pub id: Option<SubscriptionId>,
}

impl ClientFrame {
    /// Reads one frame.
    ///
    /// # Errors
    /// When the text is not a JSON object with a known `type` and the fields of that type.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let frame = Unread::new(text)?;
        match &*frame.kind {
            "hello" => frame.read().map(Self::Hello),
            "auth" => frame.read().map(Self::Auth),
            "subscribe" => {
                let subscribe: Subscribe = frame.read()?;
                check_id(&subscribe.id)?;
                Ok(Self::Subscribe(subscribe))
            }
            "unsubscribe" => frame.read().map(Self::Unsubscribe),
            "push" => frame.read().map(Self::Push),
            "ping" => {
                let ping: Ping = frame.read()?;
                check_at(&ping)?;
                Ok(Self::Ping(ping))
            }
            _ => Err(frame.unknown()),
        }
    }

    /// The frame's text.
    pub fn to_text(&self) -> String {
        json::text(self)
    }
}

impl ServerFrame {
    /// Reads one frame. A client ignores a frame whose type it does not know.
    ///
    /// # Errors
    /// When the text is not a JSON object with a known `type` and the fields of that type.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let frame = Unread::new(text)?;
        match &*frame.kind {
            "welcome" => frame.read().map(Self::Welcome),
            "snapshot" => frame.read().map(Self::Snapshot),
            "subscribed" => frame.read().map(Self::Subscribed),
            "refetch" => frame.read().map(Self::Refetch),
            "changes" => frame.read().map(Self::Changes),
            "cursor" => frame.read().map(Self::Cursor),
            "conflict" => frame.read().map(Self::Conflict),
            "ack" => frame.read().map(Self::Ack),
            "reject" => frame.read().map(Self::Reject),
            "authenticated" => frame.read().map(Self::Authenticated),
            "error" => frame.read().map(Self::Error),
            "pong" => frame.read().map(Self::Pong),
            _ => Err(frame.unknown()),
        }
    }

    /// The frame's text.
    pub fn to_text(&self) -> String {
        json::text(self)
    }
}

/// A frame of which only the type is known. Serde's own tagged enums cannot hold raw JSON.
struct Unread<'a> {
    text: &'a str,
    kind: Cow<'a, str>,
    id: Option<SubscriptionId>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    // Not read yet: it may be of any size and kind.
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

impl<'a> Unread<'a> {
    fn new(text: &'a str) -> Result<Self, FrameError> {
        // Left to itself, serde also reads a struct from an array of its fields.
        if !text.trim_start().starts_with('{') {
            return Err(FrameError {
                message: "not a frame: not a JSON object".to_owned(),
                id: None,
            });
        }
        let head: Head<'a> = serde_json::from_str(text).map_err(|error| FrameError {
            message: format!("not a frame: {}", json_fault(&error)),
            id: None,
        })?;
        let id = head
            .id
            .filter(|id| id.get().len() <= ID_JSON_BYTES_MAX)
            .and_then(|id| serde_json::from_str(id.get()).ok())
            .filter(fits);
        Ok(Self {
            text,
            kind: head.kind,
            id,
        })
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_str(self.text).map_err(|error| FrameError {
            message: format!("not a {} frame: {}", self.kind, json_fault(&error)),
            id: self.id.clone(),
        })
    }

    fn unknown(self) -> FrameError {
        FrameError {
            message: "unknown type".to_owned(),
            id: self.id,
        }
    }
}

/// JSON may write a byte of an id as an escape of six.
const ID_JSON_BYTES_MAX: usize = 6 * SUBSCRIPTION_ID_BYTES_MAX + 2;

fn check_at(ping: &Ping) -> Result<(), FrameError> {
    let Some(at) = &ping.at else {
        return Ok(());
    };
    let message = if at.get().len() > PING_BYTES_MAX {
        format!("at is longer than {PING_BYTES_MAX} bytes")
    } else if serde_json::from_str::<serde_json::Value>(at.get()).is_err() {
        // Raw JSON may hold half a surrogate pair.
        "at is not JSON that can be sent back".to_owned()
    } else {
        return Ok(());
    };
    Err(FrameError { message, id: None })
}

fn fits(id: &SubscriptionId) -> bool {
    !matches!(id, SubscriptionId::Text(text) if text.len() > SUBSCRIPTION_ID_BYTES_MAX)
}

fn check_id(id: &SubscriptionId) -> Result<(), FrameError> {
    if fits(id) {
        return Ok(());
    }
    let message = format!("id is longer than {SUBSCRIPTION_ID_BYTES_MAX} bytes");
    Err(FrameError { message, id: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;

    #[test]
    fn a_push_is_read_without_losing_digits() {
        let text = r#"{"type":"push","mutation":1,"later":true,"writes":[{"entity":"t","op":"create","values":{"n":0.12345678901234567890123}}]}"#;
        let ClientFrame::Push(push) = ClientFrame::parse(text).expect("a push") else {
            panic!("not a push");
        };
        let [Step::Write(write)] = &push.writes[..] else {
            panic!("not a write");
        };
        assert_eq!(write.values["n"].get(), "0.12345678901234567890123");
    }

    #[test]
    fn an_element_of_a_push_is_a_write_or_a_call() {
        let push = |element: &str| {
            let text = format!(r#"{{"type":"push","mutation":1,"writes":[{element}]}}"#);
            ClientFrame::parse(&text)
        };
        let call = push(r#"{"mutator":"tidy","args":{"n":1.10},"key":7}"#).expect("a call");
        let ClientFrame::Push(Push { writes, .. }) = call else {
            panic!("not a push");
        };
        let [Step::Call(call)] = &writes[..] else {
            panic!("not a call");
        };
        let args = call.args.as_ref().map(|args| args.get());
        assert_eq!(
            (call.mutator.as_str(), args),
            ("tidy", Some(r#"{"n":1.10}"#))
        );
        assert!(push(r#"{"mutator":"tidy","args":null}"#).is_ok());
        for (element, word) in [
            (
                r#"{"mutator":"tidy","entity":"todos","op":"delete"}"#,
                "both",
            ),
            (r#"{"mutator":7}"#, "string"),
            (r#"{"op":"delete"}"#, "entity"),
            (r#"{"entity":"todos"}"#, "op"),
            (r#"{"args":{}}"#, "entity"),
            ("7", "invalid type"),
        ] {
            let wrong = push(element).expect_err("no element").to_string();
            assert!(wrong.contains(word), "{element}: {wrong}");
        }
    }

    #[test]
    fn an_error_repeats_little_of_a_wrong_frame() {
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
    fn a_ping_and_an_id_have_a_largest_size() {
        let ping = |at: &str| ClientFrame::parse(&format!(r#"{{"type":"ping","at":{at}}}"#));
        assert!(ping("[1, {\"a\": 0.10}]").is_ok());
        assert!(ping(&format!("[{}0]", "0,".repeat(200))).is_err());
        let long = format!(r#"{{"type":"dance","id":[{}0]}}"#, "0,".repeat(100_000));
        assert_eq!(ClientFrame::parse(&long).expect_err("unknown").id, None);
        let escaped = format!(r#"{{"type":"dance","id":"{}"}}"#, "\\u0061".repeat(256));
        let id = ClientFrame::parse(&escaped).expect_err("unknown").id;
        assert_eq!(id, Some(SubscriptionId::Text("a".repeat(256))));
    }

    #[test]
    fn an_error_names_the_fault_and_the_subscription() {
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
