//! The reads of a session's joining subscriptions: all start at once, and are sent one after another.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use db::backoff;
use protocol::{MutationId, SubscriptionId, json};
use sync_core::cursor::Position;
use sync_core::session::{ReadEnd, ReadFrom};
use sync_core::shape::Shape;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;
use value::schema::Schema;

use super::turn::TurnQueue;
use crate::rows::Reader;
use crate::rows::reads::{Pages, PagesEnd};
use crate::rows::spool::Next;

/// What the session does next for its reads.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this frame.
    Frame {
        text: String,
        /// Held while the frame is written, so that only so many pages are sent at once. It is released when
        /// the client does not keep up.
        turn: Option<OwnedSemaphorePermit>,
    },
    /// Restart this subscription's read: the client must drop what has been sent.
    Restarted(SubscriptionId),
    /// The read failed and is retried.
    Failed(SubscriptionId),
    /// The read has ended.
    End {
        id: SubscriptionId,
        end: ReadEnd,
        /// The mutations that made the changes.
        mutations: Arc<[MutationId]>,
        /// The table's schema, when the read is complete.
        schema: Option<Arc<Schema>>,
    },
}

/// The reads that have not ended.
#[derive(Debug, Default)]
pub(super) struct Reads {
    queue: VecDeque<Read>,
}

/// One subscription's read.
#[derive(Debug)]
pub(super) struct Read {
    reader: Arc<Reader>,
    id: SubscriptionId,
    shape: Shape,
    from: Option<ReadFrom>,
    /// The client, which is told of its own mutations.
    author: Option<Uuid>,
    pages: Pages,
    /// The next item, while it waits for its turn.
    next: Option<io::Result<Next<Arc<Position>, PagesEnd>>>,
    turns: TurnQueue,
    position: Option<Arc<Position>>,
    /// A page of rows, held until it is known whether another follows.
    held: Option<Bytes>,
    sent: bool,
    failures: u32,
    /// When to retry after a failure.
    retry_at: Option<Instant>,
}

impl Reads {
    pub(super) fn push(&mut self, read: Read) {
        self.queue.push_back(read);
    }

    pub(super) fn stop(&mut self, id: &SubscriptionId) {
        self.queue.retain(|read| read.id != *id);
    }

    /// Leaves the queue for a turn: a session that waits for something else, such as its own client, must not
    /// be given one. It queues again with the next step.
    pub(super) fn give_up_turn(&mut self) {
        if let Some(read) = self.queue.front_mut() {
            read.turns.leave();
        }
    }

    /// Waits for the next step, forever when nothing is being read. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Step {
        loop {
            let Some(read) = self.queue.front_mut() else {
                return std::future::pending().await;
            };
            let step = read.next().await;
            match &step {
                Some(Step::End { .. }) => {
                    self.queue.pop_front();
                    // Most sessions never read again, so the queue's kilobyte is freed.
                    if self.queue.is_empty() {
                        self.queue = VecDeque::new();
                    }
                }
                // The other reads need not wait for one that fails.
                Some(Step::Failed(_)) => self.queue.rotate_left(1),
                _ => {}
            }
            if let Some(step) = step {
                return step;
            }
        }
    }
}

impl Read {
    pub(super) fn new(
        reader: Arc<Reader>,
        id: SubscriptionId,
        shape: Shape,
        from: Option<ReadFrom>,
        author: Option<Uuid>,
    ) -> Self {
        let pages = start(&reader, &shape, from.as_ref(), author);
        let turns = TurnQueue::new(reader.page_turns.clone());
        Self {
            reader,
            id,
            shape,
            from,
            author,
            pages,
            next: None,
            turns,
            position: None,
            held: None,
            sent: false,
            failures: 0,
            retry_at: None,
        }
    }

    async fn next(&mut self) -> Option<Step> {
        if let Some(retry_at) = self.retry_at {
            tokio::time::sleep_until(retry_at).await;
            self.retry_at = None;
            self.held = None;
            // Rows that have been sent may be deleted by now without a change that says so, so the client
            // must drop them.
            let restarts = std::mem::take(&mut self.sent);
            if restarts {
                self.from = None;
            }
            self.pages = start(&self.reader, &self.shape, self.from.as_ref(), self.author);
            if restarts {
                return Some(Step::Restarted(self.id.clone()));
            }
        }
        if self.next.is_none() {
            self.next = Some(self.pages.next().await);
        }
        let turn = match &self.next {
            Some(Ok(Next::Page(_) | Next::End(_))) => self.turns.turn().await,
            _ => None,
        };
        match self.next.take()? {
            Ok(Next::Head(position)) => {
                self.position = Some(position);
                None
            }
            Ok(Next::Page(page)) => {
                let text = self.page(page)?;
                Some(Step::Frame { text, turn })
            }
            Ok(Next::End(ended)) => Some(self.end(ended, turn)),
            Err(error) => Some(self.failed(&error.to_string())),
        }
    }

    fn page(&mut self, page: Bytes) -> Option<String> {
        let frame = match self.from {
            Some(_) => json::changes_of_subscription(&self.id, text(&page)),
            None => json::snapshot(&self.id, text(&self.held.replace(page)?), true),
        };
        self.sent = true;
        Some(frame)
    }

    fn end(&mut self, ended: PagesEnd, turn: Option<OwnedSemaphorePermit>) -> Step {
        let id = self.id.clone();
        let mutations: Arc<[MutationId]> = Arc::default();
        match (ended, self.position.clone()) {
            (PagesEnd::Refused(reason), _) => Step::End {
                id,
                end: ReadEnd::Refetch(reason),
                mutations,
                schema: None,
            },
            (PagesEnd::Complete { mutations, schema }, Some(position)) => {
                if self.from.is_none() && !self.sent_last_page() {
                    let text = self.last_page();
                    return Step::Frame { text, turn };
                }
                Step::End {
                    id,
                    end: ReadEnd::Complete(position),
                    mutations,
                    schema: Some(schema),
                }
            }
            (PagesEnd::Complete { .. }, None) => self.failed("a read without a position"),
            (PagesEnd::Failed(error), _) => self.failed(&error),
        }
    }

    /// Whether the last page, which says that no more follow, has been sent.
    fn sent_last_page(&self) -> bool {
        self.held.as_ref().is_some_and(Bytes::is_empty)
    }

    fn last_page(&mut self) -> String {
        let last = self.held.replace(Bytes::new());
        self.sent = true;
        json::snapshot(
            &self.id,
            last.as_deref()
                .map_or("[]", |last| std::str::from_utf8(last).unwrap_or("[]")),
            false,
        )
    }

    fn failed(&mut self, error: &str) -> Step {
        self.failures += 1;
        self.retry_at = Some(Instant::now() + backoff::pause(self.failures));
        tracing::warn!(
            error,
            entity = self.shape.entity(),
            failures = self.failures,
            "a read failed; retrying"
        );
        Step::Failed(self.id.clone())
    }
}

fn start(
    reader: &Arc<Reader>,
    shape: &Shape,
    from: Option<&ReadFrom>,
    author: Option<Uuid>,
) -> Pages {
    match from {
        None => reader.rows(shape),
        Some(from) => reader.changes(shape, from.clone(), author),
    }
}

fn text(page: &Bytes) -> &str {
    std::str::from_utf8(page).expect("pages are written as text")
}
