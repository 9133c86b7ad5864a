//! The way to one client: a WebSocket, or a stream of server-sent events.

use std::future::Future;

use protocol::CloseCode;
use sync_core::cursor::Cursor;
use sync_core::shape::Shape;

use crate::shared_frame::SharedFrame;

/// What a client sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A frame's text.
    Frame(String),
    /// A frame above the size limit.
    TooLarge,
    /// Bytes that are no frame.
    Malformed(&'static str),
    /// A sign of life.
    Alive,
    /// The answer to a ping: what was sent before it has arrived.
    Pong {
        /// Whether the ping bore a mark.
        is_marked: bool,
    },
    /// Something that concerns the transport alone, of so many bytes.
    Handled {
        /// They count for how fast the client may send.
        bytes: usize,
    },
    /// The client is gone.
    Disconnected,
}

/// A frame to send, with its effect on the resume point.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) frame: SharedFrame,
    pub(crate) resume: Resume<'a>,
}

/// Where a client that reconnects after this frame resumes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resume<'a> {
    /// Where it would have resumed without this frame.
    Unchanged,
    /// At this cursor.
    At(&'a Cursor),
    /// At this cursor; what follows is of this shape.
    AtBeginOf(&'a Cursor, &'a Shape),
    /// At the beginning: it has dropped its rows.
    FromTheBeginning,
}

/// The client can no longer be reached.
#[derive(Debug)]
pub(crate) struct Disconnected;

/// The way to one client.
pub(crate) trait Transport: Send {
    /// Whether a living client answers a [`Transport::ping`].
    const ANSWERS: bool;
    /// Queues a frame; the next [`Transport::flush`] sends it.
    fn feed(&mut self, outgoing: Outgoing<'_>);
    /// Queues a ping; the next flush sends it.
    fn ping(&mut self);
    /// Whether so much is queued that it should be flushed before more is fed.
    fn is_full(&self) -> bool;
    /// Sends what is queued. Dropping the future loses nothing.
    fn flush(&mut self) -> impl Future<Output = Result<(), Disconnected>> + Send;
    /// Waits for input. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Closes the connection and waits a moment for the answer, so that the last frames arrive.
    fn close(&mut self, code: CloseCode, reason: &'static str) -> impl Future<Output = ()> + Send;
}
