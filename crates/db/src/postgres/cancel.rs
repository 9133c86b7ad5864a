//! The end of a read before its end: nobody waits for it any more, or it makes no progress.
//!
//! A pooled connection whose statement still runs is of no use: a rollback would wait for the statement's end. So the
//! statement is cancelled, and the connection closed. Both are needed: a server that computes does not see that the
//! connection is closed, and one that waits for its socket does not see the cancellation.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use tokio::sync::mpsc;
use tokio_postgres::CancelToken;

use super::connect::Connector;
use crate::error::{DbError, DbResult};
use crate::read::{Part, PartSender};

/// How long it may take until a request to cancel a statement has been taken. A pooler waits for a connection of its own
/// first, up to ten seconds by default.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(15);

/// How far a read has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    lines: AtomicU64,
    /// Set while the read waits for its receiver: then the database owes nothing.
    is_waiting: AtomicBool,
}

impl Progress {
    /// Counts a line that the database has sent.
    pub(crate) fn line(&self) {
        self.lines.fetch_add(1, Ordering::Relaxed);
    }

    /// Hands a part to the receiver. An error means that it has been dropped.
    pub(crate) async fn send<T>(
        &self,
        out: &PartSender<T>,
        part: Part<T>,
    ) -> Result<(), mpsc::error::SendError<Part<T>>> {
        self.is_waiting.store(true, Ordering::Relaxed);
        let sent = out.send(part).await;
        self.line();
        self.is_waiting.store(false, Ordering::Relaxed);
        sent
    }

    /// Returns once the database has sent nothing for `timeout`, or somewhat longer.
    async fn stalled(&self, timeout: Duration) {
        loop {
            let before = self.lines.load(Ordering::Relaxed);
            tokio::time::sleep(timeout).await;
            let waits = self.is_waiting.load(Ordering::Relaxed);
            if !waits && self.lines.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// Cancels the connection's statement when it is dropped before [`CancelGuard::disarm`].
pub(crate) struct CancelGuard {
    token: Option<CancelToken>,
    connector: Arc<Connector>,
}

impl CancelGuard {
    pub(crate) fn new(conn: &AsyncPgConnection, connector: Arc<Connector>) -> Self {
        Self {
            token: Some(conn.cancel_token()),
            connector,
        }
    }

    pub(super) fn disarm(&mut self) {
        self.token = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let Some(token) = self.token.take() else {
            return;
        };
        let connector = self.connector.clone();
        tokio::spawn(async move {
            let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, connector.cancel(&token));
            if !matches!(cancelled.await, Ok(Ok(()))) {
                tracing::debug!("a statement could not be cancelled");
            }
        });
    }
}

/// How a read went.
enum Ended {
    Itself(DbResult<()>),
    NobodyWaits,
    Stalled,
}

/// Runs a read until its end, its receiver is dropped, or the database sends nothing for `timeout`.
///
/// In the last two cases the connection's transaction stays open, so that the pool closes the connection.
pub(crate) async fn run<T>(
    mut guard: CancelGuard,
    timeout: Duration,
    context: &'static str,
    out: &PartSender<T>,
    progress: &Progress,
    read: impl Future<Output = DbResult<()>>,
) -> DbResult<()> {
    match end(timeout, out, progress, read).await {
        Ended::Itself(ended) => {
            guard.disarm();
            ended
        }
        Ended::NobodyWaits => Ok(()),
        Ended::Stalled => Err(DbError::NoProgress { context, timeout }),
    }
}

async fn end<T>(
    timeout: Duration,
    out: &PartSender<T>,
    progress: &Progress,
    read: impl Future<Output = DbResult<()>>,
) -> Ended {
    tokio::select! {
        // The read is always the first: one that had not begun its transaction would leave the pool a connection for others,
        // whose statement the cancellation would hit.
        biased;
        ended = read => Ended::Itself(ended),
        () = out.closed() => Ended::NobodyWaits,
        () = progress.stalled(timeout) => Ended::Stalled,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_has_begun_before_it_is_cancelled() {
        // What is ready first is chosen at random otherwise.
        for _ in 0..64 {
            let (out, receiver) = mpsc::channel::<Part<()>>(1);
            drop(receiver);
            let mut has_begun = false;
            let read = poll_fn(|_| {
                has_begun = true;
                Poll::Pending
            });
            let ended = end(Duration::from_secs(60), &out, &Progress::default(), read).await;
            assert!(matches!(ended, Ended::NobodyWaits));
            assert!(has_begun, "the connection would go back to the pool");
        }
    }
}
