//! What a session speaks through: a WebSocket, or a stream of server-sent events.

use std::future::Future;

use protocol::CloseCode;
use sync_core::cursor::Cursor;

use crate::shared_frame::SharedFrame;

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
    /// The client is gone.
    Disconnected,
}

/// A frame that goes out, with what it does to the resume point.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) frame: SharedFrame,
    pub(crate) resume: Resume<'a>,
}

/// From where a client resumes that reconnects after this frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resume<'a> {
    /// From where it would have without this frame.
    Unchanged,
    /// From here.
    At(&'a Cursor),
    /// From the beginning: it has dropped its rows.
    FromTheBeginning,
}

/// The client can no longer be reached.
#[derive(Debug)]
pub(crate) struct Disconnected;

/// A way to one client.
pub(crate) trait Transport: Send {
    /// Whether a living client answers a [`Transport::ping`].
    const ANSWERS: bool;
    /// Queues a frame; the next [`Transport::flush`] sends it.
    fn feed(&mut self, outgoing: Outgoing<'_>);
    /// Queues a ping; the next flush sends it.
    fn ping(&mut self);
    /// Whether so much waits that it should be sent before more comes.
    fn is_full(&self) -> bool;
    /// Sends what waits. Dropping the future loses nothing.
    fn flush(&mut self) -> impl Future<Output = Result<(), Disconnected>> + Send;
    /// What comes in. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Closes the connection and waits a moment for the answer, so that the last frames arrive.
    fn close(&mut self, code: CloseCode, reason: &'static str) -> impl Future<Output = ()> + Send;
}
