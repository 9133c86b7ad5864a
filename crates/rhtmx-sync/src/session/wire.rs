//! What a session speaks through: a WebSocket, or a stream of server-sent events.

use std::collections::VecDeque;
use std::future::Future;

use rhtmx_sync_core::cursor::Cursor;
use rhtmx_sync_core::protocol::CloseCode;
use tokio::sync::mpsc;

use crate::frame::Shared;

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
    /// Has a frame wait for the next [`Wire::flush`].
    fn feed(&mut self, outgoing: Outgoing<'_>);
    /// Has a question for a sign of life wait likewise.
    fn ping(&mut self);
    /// Whether so much waits that it should be sent before more comes.
    fn is_full(&self) -> bool;
    /// Sends what waits. Dropping the future loses nothing.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
    /// What comes in. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Says goodbye and waits a moment for the answer, so that the last frames arrive.
    fn close(&mut self, code: CloseCode, reason: &'static str) -> impl Future<Output = ()> + Send;
}

/// The event id of a client that has nothing to resume from: an empty one would not be sent back.
pub(crate) const NO_CURSOR: &str = "-";

/// A stream of server-sent events: nothing comes in, and the event id is the cursor.
pub(crate) struct Events {
    events: mpsc::Sender<String>,
    waiting: VecDeque<String>,
}

impl Events {
    pub(crate) fn new(events: mpsc::Sender<String>) -> Self {
        Self {
            events,
            waiting: VecDeque::new(),
        }
    }
}

impl Wire for Events {
    const ANSWERS: bool = false;

    fn feed(&mut self, outgoing: Outgoing<'_>) {
        let text = std::str::from_utf8(outgoing.frame.text()).expect("frames are written as text");
        // A line break would end the field. Inside JSON's strings they are escaped; between its
        // tokens, where a `json` column keeps what somebody wrote, a space is as good.
        let data = text.replace(['\n', '\r'], " ");
        let id = match outgoing.resume {
            Resume::Unchanged => String::new(),
            Resume::At(cursor) => format!("id: {cursor}\n"),
            Resume::Anew => format!("id: {NO_CURSOR}\n"),
        };
        self.waiting.push_back(format!("{id}data: {data}\n\n"));
    }

    fn ping(&mut self) {
        self.waiting.push_back(":\n\n".to_owned());
    }

    // Each is a copy of its own, so no more than one is kept here.
    fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        while !self.waiting.is_empty() {
            let place = self.events.reserve().await.map_err(|_| Gone)?;
            if let Some(event) = self.waiting.pop_front() {
                place.send(event);
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Incoming {
        self.events.closed().await;
        Incoming::Gone
    }

    async fn close(&mut self, _code: CloseCode, _reason: &'static str) {
        // Whoever is gone needs no goodbye.
        let _ = self.flush().await;
    }
}
