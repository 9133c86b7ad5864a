//! Catch-up: reads from the log what the mailbox could not take.

use std::sync::Arc;

use db::backoff;
use protocol::{CloseCode, RefetchReason};
use sync_core::cursor::Position;
use sync_core::session::Command;
use sync_core::shape::Shape;

use super::transport::{Resume, Transport};
use super::{Close, SessionTask};
use crate::rows::Batch;
use crate::rows::reads::FramesEnd;
use crate::rows::spool::Next;
use crate::shared_frame::SharedFrame;

/// How one attempt to catch up ended.
enum CaughtUp {
    To(Arc<Position>),
    Refused(RefetchReason, Option<String>),
    Failed(String),
}

impl<T: Transport> SessionTask<T> {
    /// Reads from the log what the mailbox could not take, at the client's pace.
    pub(super) async fn catch_up(
        &mut self,
        shapes: &[(Shape, Arc<Position>)],
    ) -> Result<Vec<Command<Batch>>, Close> {
        metrics::counter!("rhtmx_sync_catch_ups_total").increment(1);
        let mut failures = 0;
        loop {
            // Flush first: the catch-up may take long, and what is queued need not wait for it.
            self.flush().await?;
            self.reads.give_up_turn();
            self.state.hub.rejoin(self.mailbox.session);
            match self.catch_up_once(shapes).await? {
                CaughtUp::To(position) => return Ok(self.rules.caught_up(position)),
                CaughtUp::Refused(reason, entity) => {
                    return Ok(self.rules.catch_up_failed(reason, entity.as_deref()));
                }
                CaughtUp::Failed(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "a session could not read the log; retrying");
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

    async fn catch_up_once(
        &mut self,
        shapes: &[(Shape, Arc<Position>)],
    ) -> Result<CaughtUp, Close> {
        let mut frames = self.state.reader.catch_up(shapes.to_vec(), self.client_id);
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
                Err(error) => return Ok(CaughtUp::Failed(error.to_string())),
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
                    CaughtUp::Failed("a catch-up without a position".to_owned())
                }
                (FramesEnd::Refused(reason, entity), _) => CaughtUp::Refused(reason, entity),
                (FramesEnd::Failed(error), _) => CaughtUp::Failed(error.to_string()),
            });
        }
    }
}
