//! Server-sent events as a transport: there is no input, and the event id is the cursor.

use std::collections::VecDeque;

use protocol::CloseCode;
use tokio::sync::mpsc;

use super::transport::{Disconnected, Incoming, Outgoing, Resume, Transport};

/// The event id of a client that has nothing to resume from. A browser would not send back an empty one.
pub(crate) const NO_CURSOR: &str = "-";

/// A stream of server-sent events.
pub(crate) struct EventStream {
    events: mpsc::Sender<String>,
    waiting: VecDeque<String>,
    /// What an event id says behind its cursor: the mark of a guarded shape.
    mark: String,
}

impl EventStream {
    pub(crate) fn new(events: mpsc::Sender<String>) -> Self {
        Self {
            events,
            waiting: VecDeque::new(),
            mark: String::new(),
        }
    }
}

impl Transport for EventStream {
    const ANSWERS: bool = false;

    fn feed(&mut self, outgoing: Outgoing<'_>) {
        let text = outgoing.frame.pieces().concat();
        let text = String::from_utf8(text).expect("frames are written as text");
        // A line break would end the field. Within JSON strings they are escaped; between tokens, where a
        // `json` column keeps the writer's white space, a space is equivalent.
        let data = text.replace(['\n', '\r'], " ");
        if let Resume::AtBeginOf(_, shape) = outgoing.resume {
            let mark = shape.mark();
            self.mark = mark.map_or_else(String::new, |mark| format!(".{mark}"));
        }
        let id = match outgoing.resume {
            Resume::Unchanged => String::new(),
            Resume::At(cursor) | Resume::AtBeginOf(cursor, _) => {
                format!("id: {cursor}{}\n", self.mark)
            }
            Resume::FromTheBeginning => format!("id: {NO_CURSOR}\n"),
        };
        self.waiting.push_back(format!("{id}data: {data}\n\n"));
    }

    fn ping(&mut self) {
        self.waiting.push_back(":\n\n".to_owned());
    }

    // Each event is a copy of its own, so at most one is kept.
    fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    async fn flush(&mut self) -> Result<(), Disconnected> {
        while !self.waiting.is_empty() {
            let slot = self.events.reserve().await.map_err(|_| Disconnected)?;
            if let Some(event) = self.waiting.pop_front() {
                slot.send(event);
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Incoming {
        self.events.closed().await;
        Incoming::Disconnected
    }

    async fn close(&mut self, _code: CloseCode, _reason: &'static str) {
        // A disconnected client does not need the last events.
        let _ = self.flush().await;
    }
}
