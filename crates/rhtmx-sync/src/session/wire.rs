//! What a session speaks through: a WebSocket, or a stream of server-sent events.

use std::future::Future;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rhtmx_sync_core::cursor::Cursor;
use rhtmx_sync_core::protocol::{CloseCode, GZIP_BYTES_MIN};
use tokio::sync::mpsc;

use crate::frame::{Shared, UnzipError, unzip};

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A frame's text.
    Frame(String),
    /// A frame that is larger than it may be.
    TooLarge,
    /// Bytes that are no frame.
    Malformed(&'static str),
    /// A sign of life.
    Alive,
    /// The other side is gone.
    Gone,
}

/// A frame that goes out, with what it does to the resume point.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) frame: Shared,
    pub(crate) resume: Resume<'a>,
}

/// From where a client goes on that comes back after this frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resume<'a> {
    /// From where it would have.
    Unchanged,
    /// From here.
    At(&'a Cursor),
    /// From the beginning: it has dropped its rows.
    Anew,
}

/// The other side cannot be reached any more.
#[derive(Debug)]
pub(crate) struct Gone;

/// A way to one client.
pub(crate) trait Wire: Send {
    /// Whether a client that is there answers a [`Wire::ping`].
    const ANSWERS: bool;
    /// Puts a frame on its way; it may wait in a buffer for [`Wire::flush`].
    fn feed(&mut self, outgoing: Outgoing<'_>) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Sends what waits.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Asks for a sign of life.
    fn ping(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
    /// What comes in. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Says goodbye and waits a moment for the answer, so that the last frames arrive.
    fn close(&mut self, code: CloseCode, reason: &'static str) -> impl Future<Output = ()> + Send;
}

/// A WebSocket.
pub(crate) struct Socket {
    socket: WebSocket,
    frame_bytes_max: usize,
    pub(crate) gzip: bool,
}

impl Socket {
    pub(crate) fn new(socket: WebSocket, frame_bytes_max: usize) -> Self {
        Self {
            socket,
            frame_bytes_max,
            gzip: false,
        }
    }

    fn read(&self, message: Message) -> Incoming {
        match message {
            Message::Text(text) if text.len() > self.frame_bytes_max => Incoming::TooLarge,
            Message::Text(text) => Incoming::Frame(text.as_str().to_owned()),
            Message::Binary(bytes) => match unzip(&bytes, self.frame_bytes_max) {
                Ok(text) => Incoming::Frame(text),
                Err(UnzipError::TooLarge) => Incoming::TooLarge,
                Err(UnzipError::Malformed) => {
                    Incoming::Malformed("a binary frame must be gzipped text")
                }
            },
            Message::Ping(_) | Message::Pong(_) => Incoming::Alive,
            Message::Close(_) => Incoming::Gone,
        }
    }
}

impl Wire for Socket {
    const ANSWERS: bool = true;

    async fn feed(&mut self, outgoing: Outgoing<'_>) -> Result<(), Gone> {
        let frame = outgoing.frame;
        let zipped = if self.gzip && frame.text().len() > GZIP_BYTES_MIN {
            frame.gzipped().cloned()
        } else {
            None
        };
        let message = match zipped {
            Some(zipped) => Message::Binary(zipped),
            None => Message::Text(text_of(frame.text())),
        };
        self.socket.feed(message).await.map_err(|_| Gone)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.socket.flush().await.map_err(|_| Gone)
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        self.socket
            .send(Message::Ping(Bytes::new()))
            .await
            .map_err(|_| Gone)
    }

    async fn next(&mut self) -> Incoming {
        match self.socket.next().await {
            Some(Ok(message)) => self.read(message),
            // The library stops at its own limit, which lies above ours.
            Some(Err(error)) if error.to_string().contains("too long") => Incoming::TooLarge,
            Some(Err(_)) | None => Incoming::Gone,
        }
    }

    async fn close(&mut self, code: CloseCode, reason: &'static str) {
        let frame = CloseFrame {
            code: code as u16,
            reason: Utf8Bytes::from_static(reason),
        };
        if self.socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        // What the client has still in flight is read away: closing over unread bytes would reset the
        // connection and take the last frames with it.
        while let Some(Ok(message)) = self.socket.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    }
}

fn text_of(bytes: &Bytes) -> Utf8Bytes {
    Utf8Bytes::try_from(bytes.clone()).expect("frames are written as text")
}

/// The event id of a client that has nothing to resume from: an empty one would not be sent back.
pub(crate) const NO_CURSOR: &str = "-";

/// A stream of server-sent events: nothing comes in, and the event id is the cursor.
pub(crate) struct Events {
    events: mpsc::Sender<String>,
}

impl Events {
    pub(crate) fn new(events: mpsc::Sender<String>) -> Self {
        Self { events }
    }

    async fn send(&self, event: String) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

impl Wire for Events {
    const ANSWERS: bool = false;

    async fn feed(&mut self, outgoing: Outgoing<'_>) -> Result<(), Gone> {
        let text = std::str::from_utf8(outgoing.frame.text()).expect("frames are written as text");
        // A line break would end the field. Inside JSON's strings they are escaped; between its
        // tokens, where a `json` column keeps what somebody wrote, a space is as good.
        let data = text.replace(['\n', '\r'], " ");
        let id = match outgoing.resume {
            Resume::Unchanged => String::new(),
            Resume::At(cursor) => format!("id: {cursor}\n"),
            Resume::Anew => format!("id: {NO_CURSOR}\n"),
        };
        self.send(format!("{id}data: {data}\n\n")).await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        self.send(":\n\n".to_owned()).await
    }

    async fn next(&mut self) -> Incoming {
        self.events.closed().await;
        Incoming::Gone
    }

    async fn close(&mut self, _code: CloseCode, _reason: &'static str) {}
}
