//! Queries that are live.
//!
//! A watch listens before it reads, and reads again after what it has heard: so its newest result is never older than the
//! newest commit that it knows of, no matter by which program. What happens while it reads, or while nobody takes its results, is
//! one more read.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use db::backoff;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Crdt, CrdtError, Query, Row};
use crate::change_batch::ChangeBatch;

/// The results of a query that is live: the first one at once, then each whole result that differs from the one before. An
/// error is an item too, after which it goes on; it ends when the database is closed.
///
/// Results are read when they are asked for, so one that nobody takes costs nothing, and what was committed meanwhile is in
/// the next.
pub struct Watch {
    results: BoxStream<'static, Result<Vec<Row>, CrdtError>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Waits for the next result; none at the end. Nothing is lost when it is dropped before it is done.
    pub async fn next(&mut self) -> Option<Result<Vec<Row>, CrdtError>> {
        self.results.next().await
    }
}

impl Stream for Watch {
    type Item = Result<Vec<Row>, CrdtError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.results.poll_next_unpin(context)
    }
}

struct Watching {
    crdt: Crdt,
    query: Query,
    /// The entities whose changes may change the result.
    reads: BTreeSet<String>,
    changes: Receiver<Arc<ChangeBatch>>,
    last: Option<Vec<Row>>,
    /// Whether something may have changed that has not been read.
    is_due: bool,
    failures: u32,
    _permit: OwnedSemaphorePermit,
}

impl Crdt {
    /// Watches a query.
    ///
    /// # Errors
    /// When the query does not fit the table, or too many are watched.
    pub fn watch(&self, query: Query) -> Result<Watch, CrdtError> {
        let permit = self.shared.watches.clone().try_acquire_owned();
        let permit = permit.map_err(|error| match error {
            tokio::sync::TryAcquireError::NoPermits => CrdtError::TooManyWatches,
            tokio::sync::TryAcquireError::Closed => CrdtError::Closed,
        })?;
        let watching = Watching {
            reads: self.resolve(&query)?.reads(),
            changes: self.state().changes.subscribe(),
            crdt: self.clone(),
            query,
            last: None,
            is_due: true,
            failures: 0,
            _permit: permit,
        };
        let results = stream::unfold(watching, |mut watching| async move {
            let result = watching.next().await?;
            Some((result, watching))
        });
        Ok(Watch {
            results: results.boxed(),
        })
    }
}

impl Watching {
    async fn next(&mut self) -> Option<Result<Vec<Row>, CrdtError>> {
        loop {
            let is_ready = match self.is_due {
                true => self.pause().await,
                false => self.wait().await,
            };
            if !is_ready || self.crdt.shared.watches.is_closed() {
                return None;
            }
            self.is_due = true;
            // What is told of now is part of what is read.
            self.changes = self.changes.resubscribe();
            let result = match self.crdt.query(&self.query).await {
                Err(CrdtError::Closed) => return None,
                result => result,
            };
            let rows = match result {
                Ok(rows) => rows,
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    return Some(Err(error));
                }
            };
            self.is_due = false;
            self.failures = 0;
            if self.last.as_ref() != Some(&rows) {
                self.last = Some(rows.clone());
                return Some(Ok(rows));
            }
        }
    }

    /// Waits for a while after failures. Whether there may still be something to come.
    async fn pause(&self) -> bool {
        let shutdown = &self.crdt.state().shutdown;
        if self.failures > 0 {
            let pause = tokio::time::sleep(backoff::pause(self.failures));
            let _ = shutdown.run_until_cancelled(pause).await;
        }
        !shutdown.is_cancelled()
    }

    /// Waits until something has changed that may concern the result.
    async fn wait(&mut self) -> bool {
        let shutdown = self.crdt.state().shutdown.clone();
        loop {
            let heard = tokio::select! {
                heard = self.changes.recv() => heard,
                () = shutdown.cancelled() => Err(RecvError::Closed),
            };
            match heard {
                Ok(batch) if !self.concerns(&batch) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }

    fn concerns(&self, batch: &ChangeBatch) -> bool {
        let changed = batch.changes.iter().map(|change| &change.entity);
        let mut names = changed.chain(&batch.schema_changed);
        names.any(|name| self.reads.contains(name))
    }
}
