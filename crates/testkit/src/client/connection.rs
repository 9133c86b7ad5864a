//! The WebSocket: reads text frames and gzipped binary ones as JSON.

use std::fmt;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::frame::{Violation, rule};
use super::options::ClientOptions;

const SUBPROTOCOL: &str = "rhtmx-sync.v1";
/// The protocol forbids compressing smaller frames, which is not worth it.
const GZIP_THRESHOLD_BYTES: usize = 1024;
/// The codes of RFC 6455, 7.4.1, for a close without a code, and for a connection that broke.
const CLOSED_WITHOUT_CODE: u16 = 1005;
const CLOSED_ABNORMALLY: u16 = 1006;

/// The connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The close code; 1006 when the connection broke without one.
    pub code: u16,
    /// The reason, which may be empty.
    pub reason: String,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub enum ConnectError {
    /// The server answered the upgrade with another status.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// The server closed the connection instead of sending `welcome`.
    Closed {
        /// The close.
        closed: Closed,
        /// The `error` frame before it.
        error: Option<Value>,
    },
    /// There was no answer, or not one of a WebSocket server with this protocol.
    Failed(String),
}

#[derive(Debug)]
pub(super) enum Received {
    Frame(Value),
    Closed(Closed),
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    gzip: bool,
}

impl Connection {
    pub(super) async fn open(url: &str, options: &ClientOptions) -> Result<Self, ConnectError> {
        let mut request = url
            .into_client_request()
            .map_err(|error| ConnectError::Failed(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static(SUBPROTOCOL),
        );
        if let Some(origin) = &options.origin {
            let origin =
                HeaderValue::from_str(origin).expect("the origin is not a valid header value");
            headers.insert("Origin", origin);
        }
        for (name, value) in &options.headers {
            let value =
                HeaderValue::from_str(value).expect("the value is not a valid header value");
            headers.append(*name, value);
        }
        // A row may be of any size.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        match connect_async_with_config(request, Some(config), true).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                gzip: options.gzip,
            }),
            Err(Error::Http(response)) => Err(ConnectError::Refused {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default())
                    .into_owned(),
            }),
            Err(error) => Err(ConnectError::Failed(error.to_string())),
        }
    }

    /// Sends a message. If the connection is broken, the next [`receive`](Self::receive) says so.
    pub(super) async fn send(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    /// Waits for a frame. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> Result<Received, Violation> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return json(&text).map(Received::Frame),
                Some(Ok(Message::Binary(bytes))) => {
                    return self.gunzip(&bytes).map(Received::Frame);
                }
                Some(Ok(Message::Close(None))) => return Ok(closed(CLOSED_WITHOUT_CODE, "")),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Ok(closed(close.code.into(), &close.reason));
                }
                // The library sends the pongs.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error @ (Error::Capacity(_) | Error::Utf8(_)))) => {
                    return Err(Violation(format!("not a WebSocket message: {error}")));
                }
                Some(Err(error)) => return Ok(closed(CLOSED_ABNORMALLY, &error.to_string())),
                None => return Ok(closed(CLOSED_ABNORMALLY, "")),
            }
        }
    }

    fn gunzip(&self, bytes: &[u8]) -> Result<Value, Violation> {
        rule!(
            self.gzip,
            "a binary frame for a client that accepts no gzip"
        );
        let mut text = String::new();
        let read = GzDecoder::new(bytes).read_to_string(&mut text);
        rule!(
            read.is_ok(),
            "a binary frame that is not gzipped text: {read:?}"
        );
        rule!(
            text.len() > GZIP_THRESHOLD_BYTES && bytes.len() < text.len(),
            "{} bytes gzipped to {}: only frames above {GZIP_THRESHOLD_BYTES} that get smaller are",
            text.len(),
            bytes.len()
        );
        json(&text)
    }
}

fn json(text: &str) -> Result<Value, Violation> {
    serde_json::from_str(text).map_err(|error| Violation(format!("not JSON ({error}): {text}")))
}

fn closed(code: u16, reason: &str) -> Received {
    Received::Closed(Closed {
        code,
        reason: reason.to_owned(),
    })
}

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the connection was closed with {} {:?}",
            self.code, self.reason
        )
    }
}

impl ConnectError {
    /// Whether the server said that it cannot serve anybody at the moment.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Closed { error: Some(error), .. } if error["code"] == "unavailable")
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, body } => {
                write!(formatter, "refused with status {status}: {body}")
            }
            Self::Closed { closed, error } => write!(formatter, "no welcome: {closed}, {error:?}"),
            Self::Failed(reason) => write!(formatter, "failed: {reason}"),
        }
    }
}

/// Gzips bytes, for tests that send compressed frames.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}
