//! From the log to whoever wants its news: what the two listeners share.
//!
//! A drain reads everything that is new since the position reached and hands it on in parts; the
//! last part completes the position. Entities that changed their shape are looked at anew before
//! anybody hears of it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rhtmx_sync_core::cursor::{Epoch, Position};
use rhtmx_sync_core::log::{Action, NewestEntry};
use tokio::time::Instant;

use super::DbError;
use super::read::{HistoryColumns, ReadPart};

/// Part of what one drain found.
#[derive(Debug)]
pub(crate) struct Drained {
    /// Where the database was when it was read.
    pub(crate) position: Arc<Position>,
    /// In the log's order; may be empty.
    pub(crate) entries: Vec<NewestEntry>,
    /// Whether this is the last part for that position.
    pub(crate) complete: bool,
    /// The columns whose previous values the entries' histories have.
    pub(crate) histories: Arc<HistoryColumns>,
}

/// Who wants the news. It must not wait: what it cannot take at once it finds in the log.
pub(crate) trait ChangeSink: Send + Sync {
    /// The columns whose previous values somebody wants to know.
    fn histories(&self) -> Arc<HistoryColumns>;
    /// News, in order.
    fn publish(&self, drained: Drained);
    /// When those whom the last news concern had begun to take them; waits until they have.
    fn heard(&self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>>;
    /// The history is not the one that went before: nothing that was said still holds.
    fn reset(&self, epoch: Epoch, position: Position);
    /// Some tables may look different: read the catalog again.
    fn refresh(&self) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + '_>>;
}

/// The most that one drain puts off the next.
const REST_MAX: Duration = Duration::from_millis(10);

/// Keeps drains, and the deliveries that follow them, from taking more than half of the time: after
/// each, as long a rest as it took. Under load more comes together in each; a change that comes alone
/// finds the rest over.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the last drain that found something began.
    found_since: Option<Instant>,
}

impl Pace {
    /// A drain that began then has found something.
    pub(crate) fn found(&mut self, began: Instant) {
        self.found_since = Some(began);
    }

    /// Waits until the next drain may begin.
    pub(crate) async fn rest(&mut self, sink: &dyn ChangeSink) {
        let Some(began) = self.found_since.take() else {
            return;
        };
        let heard = tokio::time::timeout_at(began + REST_MAX, sink.heard());
        let ended = heard.await.unwrap_or_else(|_| Instant::now());
        let took = ended.duration_since(began).min(REST_MAX);
        tokio::time::sleep_until(ended + took).await;
    }
}

/// Why a drain did not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The log has forgotten what lies between the position reached and now.
    #[error("the log no longer reaches back to where this server was")]
    Gap,
    /// A table that has news is locked by somebody else.
    #[error("{0:?} is locked by another transaction")]
    Locked(String),
}

/// One drain under way.
pub(crate) struct Drain<'a> {
    sink: &'a dyn ChangeSink,
    from: &'a Position,
    histories: Arc<HistoryColumns>,
    /// Entities whose rows are not in what is read.
    without: &'a [String],
    gives_up: bool,
    given_up: BTreeSet<String>,
    position: Option<Arc<Position>>,
    held: Option<Vec<NewestEntry>>,
    found: bool,
}

impl<'a> Drain<'a> {
    /// A drain from `from`, whose entries have these histories.
    pub(crate) fn new(
        sink: &'a dyn ChangeSink,
        from: &'a Position,
        histories: Arc<HistoryColumns>,
    ) -> Self {
        Self {
            sink,
            from,
            histories,
            without: &[],
            gives_up: false,
            given_up: BTreeSet::new(),
            position: None,
            held: None,
            found: false,
        }
    }

    /// The same, where the rows of some entities are not in what is read. News of them are an error,
    /// or, when it `gives_up` waiting, a reason to take those entities anew.
    pub(crate) fn without(self, without: &'a [String], gives_up: bool) -> Self {
        Self {
            without,
            gives_up,
            ..self
        }
    }

    /// Takes a part of the read.
    pub(crate) async fn take(&mut self, part: ReadPart) -> Result<(), DrainError> {
        match part {
            ReadPart::Start { position, floor } => {
                if !self.from.covers(&floor) || !position.covers(self.from) {
                    return Err(DrainError::Gap);
                }
                self.position = Some(Arc::new(position));
            }
            ReadPart::Entries(mut entries) => {
                self.found = true;
                if entries.iter().any(|entry| entry.action == Action::Reshape) {
                    self.sink.refresh().await?;
                }
                self.leave_out(&mut entries)?;
                if let Some(before) = self.held.replace(entries) {
                    self.publish(before, false);
                }
            }
            // Drains look at the tables again when the log says that they changed.
            ReadPart::Rows(_) | ReadPart::Outdated(_) => {}
        }
        Ok(())
    }

    /// Puts one entry that says "take it anew" in the place of those whose rows could not be read.
    fn leave_out(&mut self, entries: &mut Vec<NewestEntry>) -> Result<(), DrainError> {
        if self.without.is_empty() {
            return Ok(());
        }
        let lacks_row =
            |entry: &NewestEntry| entry.key.is_some() && self.without.contains(&entry.entity);
        if let Some(entry) = entries
            .iter()
            .find(|entry| lacks_row(entry) && !self.gives_up)
        {
            return Err(DrainError::Locked(entry.entity.clone()));
        }
        let given_up = &mut self.given_up;
        entries.retain_mut(|entry| {
            if !lacks_row(entry) {
                return true;
            }
            (entry.key, entry.action) = (None, Action::Reshape);
            given_up.insert(entry.entity.clone())
        });
        Ok(())
    }

    /// Ends it: the position reached, and whether anything was new.
    pub(crate) fn finish(mut self) -> Option<(Arc<Position>, bool)> {
        let position = self.position.clone()?;
        let last = self.held.take().unwrap_or_default();
        self.publish(last, true);
        Some((position, self.found))
    }

    fn publish(&self, entries: Vec<NewestEntry>, complete: bool) {
        if let Some(position) = self.position.clone() {
            self.sink.publish(Drained {
                position,
                entries,
                complete,
                histories: self.histories.clone(),
            });
        }
    }
}
