//! The reads of a session's joining subscriptions: a few at once, in their order, and what has been read is sent.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use db::backoff;
use protocol::{MutationId, SubscriptionId, json};
use sync_core::cursor::Position;
use sync_core::retry::{ReadFailure, ReadRetry, Retry};
use sync_core::session::{ReadEnd, ReadFrom};
use sync_core::shape::Shape;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;
use value::schema::Schema;

use super::turn::TurnQueue;
use crate::rows::reads::{Failure, Pages, PagesEnd};
use crate::rows::spool::Next;
use crate::rows::{ReadClient, Reader};

/// Reads of one session that run at once. The others wait here, where they cost nothing.
const READS_AT_ONCE_MAX: usize = 4;
/// The longest pause after failures that a retry does not mend by itself.
const PAUSE_MAX: Duration = Duration::from_secs(30);

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
    Failed {
        id: SubscriptionId,
        failure: ReadFailure,
    },
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
#[derive(Debug)]
pub(super) struct Reads {
    queue: VecDeque<Read>,
    /// One for all reads: of two places in the queue, the one that is not waited at could be given the turn.
    turns: TurnQueue,
}

/// One subscription's read.
#[derive(Debug)]
pub(super) struct Read {
    reader: Arc<Reader>,
    client: ReadClient,
    id: SubscriptionId,
    shape: Shape,
    from: Option<ReadFrom>,
    /// The client, which is told of its own mutations.
    author: Option<Uuid>,
    /// None until it is this read's turn to start, and after a failure.
    pages: Option<Pages>,
    /// The next item, while it waits for its turn.
    next: Option<io::Result<Next<Arc<Position>, PagesEnd>>>,
    position: Option<Arc<Position>>,
    /// A page of rows, held until it is known whether another follows.
    held: Option<Bytes>,
    sent: bool,
    /// The next try begins with a `refetch`.
    restarts: bool,
    retry: ReadRetry,
    /// When to retry after a failure.
    retry_at: Option<Instant>,
}

impl Reads {
    /// None yet. Pages are sent in these turns.
    pub(super) fn new(page_turns: Arc<Semaphore>) -> Self {
        Self {
            queue: VecDeque::new(),
            turns: TurnQueue::new(page_turns),
        }
    }

    pub(super) fn push(&mut self, read: Read) {
        self.queue.push_back(read);
    }

    pub(super) fn stop(&mut self, id: &SubscriptionId) {
        self.queue.retain(|read| read.id != *id);
        // It may have been the one that waited for a turn.
        self.turns.leave();
    }

    /// Leaves the queue for a turn: a session that waits for something else, such as its own client, must not
    /// be given one. It queues again with the next step.
    pub(super) fn give_up_turn(&mut self) {
        self.turns.leave();
    }

    /// Waits for the next step, forever when nothing is being read. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Step {
        loop {
            if self.queue.is_empty() {
                return std::future::pending().await;
            }
            let first = self.first_ready().await;
            let Some(read) = self.queue.get_mut(first) else {
                continue;
            };
            let step = read.next(&mut self.turns).await;
            match &step {
                Some(Step::End { .. }) => {
                    self.queue.remove(first);
                    // Most sessions never read again, so the queue's kilobyte is freed.
                    if self.queue.is_empty() {
                        self.queue = VecDeque::new();
                    }
                }
                // The other reads need not wait for one that fails.
                Some(Step::Failed { .. }) => {
                    let failed = self.queue.remove(first);
                    self.queue.extend(failed);
                }
                _ => {}
            }
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Waits for the first read that can go on. A read that waits for its turn or for a lock holds up no other.
    async fn first_ready(&mut self) -> usize {
        if self.queue.len() == 1 {
            self.queue[0].ready().await;
            return 0;
        }
        let now = Instant::now();
        let reads = self.queue.iter_mut().enumerate();
        let (pausing, due): (Vec<_>, Vec<_>) =
            reads.partition(|(_, read)| read.retry_at.is_some_and(|at| at > now));
        let due = due.into_iter().take(READS_AT_ONCE_MAX);
        // Those that pause run nothing, so any number of them may be waited for.
        let waits = due.chain(pausing).map(|(index, read)| {
            Box::pin(async move {
                read.ready().await;
                index
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}

impl Read {
    pub(super) fn new(
        reader: Arc<Reader>,
        client: ReadClient,
        id: SubscriptionId,
        shape: Shape,
        from: Option<ReadFrom>,
        author: Option<Uuid>,
    ) -> Self {
        Self {
            reader,
            client,
            id,
            shape,
            from,
            author,
            pages: None,
            next: None,
            position: None,
            held: None,
            sent: false,
            restarts: false,
            retry: ReadRetry::default(),
            retry_at: None,
        }
    }

    /// Waits until there is something to do. Dropping the future loses nothing.
    async fn ready(&mut self) {
        if let Some(retry_at) = self.retry_at {
            tokio::time::sleep_until(retry_at).await;
        } else if self.next.is_none() {
            self.pages().ready().await;
        }
    }

    /// The pages of the read, which starts when it has not yet.
    fn pages(&mut self) -> &mut Pages {
        let Self {
            reader,
            client,
            shape,
            from,
            author,
            ..
        } = self;
        self.pages.get_or_insert_with(|| match from {
            None => reader.rows(shape, client.clone()),
            Some(from) => reader.changes(shape, from.clone(), client.clone(), *author),
        })
    }

    async fn next(&mut self, turns: &mut TurnQueue) -> Option<Step> {
        if self.retry_at.take().is_some() {
            return self.begin_again();
        }
        if self.next.is_none() {
            self.next = Some(self.pages().next().await);
        }
        let turn = match &self.next {
            Some(Ok(Next::Page(_) | Next::End(_))) => turns.turn().await,
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
            Err(error) => {
                let failure = Failure::new(ReadFailure::Passing, error.to_string());
                Some(self.failed(&failure))
            }
        }
    }

    /// Starts a read that has failed again.
    fn begin_again(&mut self) -> Option<Step> {
        self.held = None;
        let restarts = std::mem::take(&mut self.restarts);
        if restarts {
            self.from = None;
            self.sent = false;
            return Some(Step::Restarted(self.id.clone()));
        }
        None
    }

    fn page(&mut self, page: Bytes) -> Option<String> {
        let frame = match self.from {
            Some(_) => json::changes_of_subscription(&self.id, text(&page), None),
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
            (PagesEnd::Complete { .. }, None) => {
                let text = "a read without a position";
                self.failed(&Failure::new(ReadFailure::Statement, text))
            }
            (PagesEnd::Failed(failure), _) => self.failed(&failure),
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

    fn failed(&mut self, failure: &Failure) -> Step {
        let Failure { kind, text } = failure;
        let retry = self.retry.failed(*kind, self.sent, self.from.is_some());
        let failures = self.retry.failures();
        metrics::counter!("rhtmx_sync_read_failures_total").increment(1);
        let error = &**text;
        let entity = self.shape.entity();
        let id = self.id.clone();
        if let Retry::End(error_to_client) = retry {
            tracing::warn!(
                error,
                entity,
                failures,
                "a read failed; its subscription ends"
            );
            return Step::End {
                id,
                end: ReadEnd::Failed(error_to_client),
                mutations: Arc::default(),
                schema: None,
            };
        }
        tracing::warn!(error, entity, failures, "a read failed; retrying");
        // Rows that have been sent may be deleted by now without a change that says so, so the client must drop them.
        self.restarts = retry == Retry::Refetch;
        self.pages = None;
        let pause = match kind {
            ReadFailure::Passing => backoff::pause(failures),
            _ => backoff::pause_up_to(failures, PAUSE_MAX),
        };
        self.retry_at = Some(Instant::now() + pause);
        let failure = *kind;
        Step::Failed { id, failure }
    }
}

fn text(page: &Bytes) -> &str {
    std::str::from_utf8(page).expect("pages are written as text")
}
