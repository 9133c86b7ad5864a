//! From push to pull and back: reading from the log what the hub could not queue.

use std::sync::Arc;

use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::protocol::{CloseCode, RefetchReason};
use rhtmx_sync_core::session::Action;
use rhtmx_sync_core::shape::Shape;

use super::wire::{Resume, Wire};
use super::{Connection, Ended};
use crate::frame::Shared;
use crate::hub::Delivery;
use crate::reader::PullEnded;
use crate::spool::Next;

/// How one try of a pull ended.
enum Pulled {
    To(Arc<Position>),
    Refused(RefetchReason, Option<String>),
    Failed(String),
}

impl<W: Wire> Connection<W> {
    /// Reads what the hub could not queue, from the log, at the client's pace.
    pub(super) async fn pull(
        &mut self,
        shapes: &[(Shape, Arc<Position>)],
    ) -> Result<Vec<Action<Delivery>>, Ended> {
        metrics::counter!("rhtmx_sync_pulls_total").increment(1);
        let mut failures = 0;
        loop {
            // It may take long, and what was delivered before need not wait for it.
            self.flush().await?;
            self.engine.hub.rejoin(self.seat.key);
            match self.pull_once(shapes).await? {
                Pulled::To(position) => return Ok(self.rules.pulled(position)),
                Pulled::Refused(reason, entity) => {
                    return Ok(self.rules.pull_refused(reason, entity.as_deref()));
                }
                Pulled::Failed(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "a session could not read the log; trying again");
                    tokio::time::sleep(crate::backoff::pause(failures)).await;
                    if self.engine.shutdown.is_cancelled() {
                        return Err(Ended::Closing(
                            CloseCode::ShuttingDown,
                            "the server is shutting down",
                        ));
                    }
                }
            }
        }
    }

    async fn pull_once(&mut self, shapes: &[(Shape, Arc<Position>)]) -> Result<Pulled, Ended> {
        let mut frames = self.engine.reader.pull(shapes.to_vec());
        let mut reached = None;
        loop {
            let ended = match frames.next().await {
                Ok(Next::Head(position)) => {
                    reached = Some(position);
                    continue;
                }
                Ok(Next::Page(frame)) => {
                    self.feed(Shared::new(frame), Resume::Unchanged).await?;
                    continue;
                }
                Ok(Next::End(ended)) => ended,
                Err(error) => return Ok(Pulled::Failed(error.to_string())),
            };
            return Ok(match (ended, reached) {
                (PullEnded::Complete { authors }, Some(position)) => {
                    if self
                        .under_way()
                        .is_some_and(|mutation| authors.contains(&mutation))
                    {
                        self.finish_applying().await?;
                    }
                    Pulled::To(position)
                }
                (PullEnded::Complete { .. }, None) => {
                    Pulled::Failed("a pull without a position".to_owned())
                }
                (PullEnded::Refused(reason, entity), _) => Pulled::Refused(reason, entity),
                (PullEnded::Failed(error), _) => Pulled::Failed(error.to_string()),
            });
        }
    }
}
