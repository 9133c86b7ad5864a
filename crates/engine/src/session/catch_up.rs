//! Catch-up: reads from the log what the mailbox could not take.

use std::sync::Arc;

use db::backoff;
use protocol::{CloseCode, RefetchReason};
use sync_core::cursor::Position;
use sync_core::retry::ReadFailure;
use sync_core::session::Command;
use sync_core::shape::Shape;

use super::transport::{Resume, Transport};
use super::{Close, SessionTask};
use crate::rows::reads::{Failure, FramesEnd};
use crate::rows::spool::Next;
use crate::rows::{Batch, names_sets};
use crate::shared_frame::SharedFrame;

/// How one attempt to catch up ended.
enum CaughtUp {
    To(Arc<Position>),
    Refused(RefetchReason, Option<String>),
    Failed(Failure),
}

/// After this many failures that would come back, the session's subscriptions refetch, each by itself.
const FAILURES_MAX: u32 = 3;

/// Which shapes one read brings to the head. What a shape's sets were is found out for one position, so those with sets
/// are read with others at the same one.
fn read_together(shapes: &[(Shape, Arc<Position>)]) -> Vec<Vec<(Shape, Arc<Position>)>> {
    let mut groups: Vec<Vec<(Shape, Arc<Position>)>> = Vec::new();
    let (with_sets, others): (Vec<_>, Vec<_>) = shapes
        .iter()
        .cloned()
        .partition(|(shape, _)| names_sets(shape));
    for (shape, at) in with_sets {
        match groups.iter_mut().find(|group| group[0].1 == at) {
            Some(group) => group.push((shape, at)),
            None => groups.push(vec![(shape, at)]),
        }
    }
    let is_behind_all = |group: &Vec<(Shape, Arc<Position>)>| {
        let mut others = others.iter();
        others.all(|(_, at)| at.covers(&group[0].1))
    };
    match groups.iter_mut().find(|group| is_behind_all(group)) {
        Some(group) => group.extend(others),
        None if others.is_empty() => {}
        None => groups.push(others),
    }
    groups
}

impl<T: Transport> SessionTask<T> {
    /// Reads from the log what the mailbox could not take, at the client's pace.
    pub(super) async fn catch_up(
        &mut self,
        shapes: &[(Shape, Arc<Position>)],
    ) -> Result<Vec<Command<Batch>>, Close> {
        metrics::counter!("rhtmx_sync_catch_ups_total").increment(1);
        let mut failures = 0;
        let mut lasting = 0;
        let mut reached = shapes.to_vec();
        loop {
            // Flush first: the catch-up may take long, and what is queued need not wait for it.
            self.flush().await?;
            self.reads.give_up_turn();
            self.state.hub.rejoin(self.mailbox.session);
            match self.catch_up_all(&mut reached).await? {
                CaughtUp::To(position) if reached.iter().any(|(_, at)| *at != position) => {
                    return Ok(self.rules.caught_up_apart(&reached));
                }
                CaughtUp::To(position) => return Ok(self.rules.caught_up(position)),
                CaughtUp::Refused(reason, entity) => {
                    return Ok(self.rules.catch_up_failed(reason, entity.as_deref()));
                }
                CaughtUp::Failed(Failure { kind, text }) => {
                    failures += 1;
                    metrics::counter!("rhtmx_sync_read_failures_total").increment(1);
                    tracing::warn!(error = %text, failures, "a session could not read the log; retrying");
                    if !matches!(kind, ReadFailure::Passing | ReadFailure::Busy) {
                        lasting += 1;
                    }
                    if lasting == FAILURES_MAX {
                        return Ok(self.rules.catch_up_failed(RefetchReason::Expired, None));
                    }
                    // Writing shows whether the client is still there: its input is not read meanwhile.
                    self.transport.ping();
                    tokio::time::sleep(backoff::pause(failures)).await;
                    if self.state.shutdown.is_cancelled() {
                        return Err(Close::With(
                            CloseCode::ShuttingDown,
                            "the server is shutting down",
                        ));
                    }
                }
            }
        }
    }

    /// Reads what each of these shapes misses, and notes where they are then. Returns the last position, or what went
    /// wrong.
    async fn catch_up_all(
        &mut self,
        reached: &mut [(Shape, Arc<Position>)],
    ) -> Result<CaughtUp, Close> {
        // A session without shapes needs the position.
        let mut ended = match reached.is_empty() {
            true => return self.catch_up_once(&[]).await,
            false => None,
        };
        for group in read_together(reached) {
            match self.catch_up_once(&group).await? {
                CaughtUp::To(position) => {
                    let is_read = |shape: &Shape| group.iter().any(|(read, _)| read == shape);
                    let read = reached.iter_mut().filter(|(shape, _)| is_read(shape));
                    read.for_each(|(_, at)| *at = position.clone());
                    ended = Some(position);
                }
                failed => return Ok(failed),
            }
        }
        let nothing = || Failure::new(ReadFailure::Statement, "a catch-up of nothing");
        Ok(ended.map_or_else(|| CaughtUp::Failed(nothing()), CaughtUp::To))
    }

    async fn catch_up_once(
        &mut self,
        shapes: &[(Shape, Arc<Position>)],
    ) -> Result<CaughtUp, Close> {
        let client = self.read_client();
        let reader = &self.state.reader;
        let mut frames = reader.catch_up(shapes.to_vec(), client, self.client_id);
        let mut reached = None;
        loop {
            let ended = match frames.next().await {
                Ok(Next::Head(position)) => {
                    reached = Some(position);
                    continue;
                }
                Ok(Next::Page(frame)) => {
                    self.feed(SharedFrame::new(frame), Resume::Unchanged)
                        .await?;
                    continue;
                }
                Ok(Next::End(ended)) => ended,
                Err(error) => {
                    let failure = Failure::new(ReadFailure::Passing, error.to_string());
                    return Ok(CaughtUp::Failed(failure));
                }
            };
            return Ok(match (ended, reached) {
                (FramesEnd::Complete { mutations }, Some(position)) => {
                    if self
                        .under_way()
                        .is_some_and(|mutation| mutations.contains(&mutation))
                    {
                        self.finish_applying().await?;
                    }
                    CaughtUp::To(position)
                }
                (FramesEnd::Complete { .. }, None) => {
                    let text = "a catch-up without a position";
                    CaughtUp::Failed(Failure::new(ReadFailure::Statement, text))
                }
                (FramesEnd::Refused(reason, entity), _) => CaughtUp::Refused(reason, entity),
                (FramesEnd::Failed(error), _) => CaughtUp::Failed(error),
            });
        }
    }
}
