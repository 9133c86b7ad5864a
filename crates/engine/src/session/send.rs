//! Sends a session's frames, and gives up on a client that does not read.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use protocol::{
    Ack, Error, Refetch, RefetchReason, Rejected, ServerFrame, Subscribed, SubscriptionId, json,
};
use serde_json::value::to_raw_value;
use sync_core::cursor::{Cursor, Position};
use sync_core::mutation::fields::Merged;
use sync_core::session::Frame;
use sync_core::shape::{Selection, Shape};
use tokio::sync::OwnedSemaphorePermit;

use super::transport::{Outgoing, Resume, Transport};
use super::{Close, SessionTask};
use crate::limits;
use crate::rows::Batch;
use crate::shared_frame::SharedFrame;

impl<T: Transport> SessionTask<T> {
    /// Sends a frame that the rules decided on.
    pub(super) async fn send_frame(&mut self, frame: Frame<Batch>) -> Result<(), Close> {
        match frame {
            Frame::Subscribed {
                id,
                shape,
                position,
            } => self.subscribed(id, &shape, &position).await,
            Frame::Refetch { id, reason } => self.refetch(id, reason).await,
            Frame::Ack { mutation, merged } => {
                let Merged {
                    stamps, conflicts, ..
                } = merged.map(|merged| *merged).unwrap_or_default();
                for conflict in conflicts {
                    self.send(&ServerFrame::Conflict(conflict)).await?;
                }
                self.send(&ServerFrame::Ack(Ack { mutation, stamps })).await
            }
            Frame::Reject { mutation, reject } => {
                let rejected = Rejected { mutation, reject };
                self.send(&ServerFrame::Reject(rejected)).await
            }
            Frame::Error { error, id } => {
                if let Some(limit) = error.limit {
                    limits::reached(limit);
                }
                let error = Error::new(error.code, error.message);
                self.error(error.of_subscription(id)).await
            }
            Frame::Changes {
                batch,
                shape,
                id,
                since,
            } => match self.changes_frame(&batch, &shape, id.as_ref(), since.as_deref()) {
                Some(frame) => self.feed(frame, Resume::Unchanged).await,
                None => Ok(()),
            },
            Frame::Cursor(position) => self.cursor(&position).await,
        }
    }

    pub(super) async fn cursor(&mut self, position: &Arc<Position>) -> Result<(), Close> {
        self.check_epoch()?;
        let cursor_frame = self.state.hub.cursor_frame(&self.epoch, position);
        self.feed(cursor_frame.frame.clone(), Resume::At(&cursor_frame.cursor))
            .await
    }

    /// A position is sent only while the hub is in the session's epoch: what a read has found since then is of
    /// another one.
    fn check_epoch(&self) -> Result<(), Close> {
        if self.mailbox.is_closed() {
            return Err(self.mailbox_closed());
        }
        Ok(())
    }

    /// The frame with a batch's changes of a shape; none when there are none that `since` does not contain.
    pub(super) fn changes_frame(
        &self,
        batch: &Batch,
        shape: &Shape,
        id: Option<&SubscriptionId>,
        since: Option<&Position>,
    ) -> Option<SharedFrame> {
        let changes = batch.changes(shape)?;
        let author = self.client_id;
        let text = match (id, since) {
            (None, None) => return changes.frame(author),
            (None, Some(_)) => {
                let array = changes.array(since, author)?;
                json::changes_of_shape(shape.as_str(), &array, changes.order())
            }
            (Some(id), _) => {
                let array = changes.array(since, author)?;
                json::changes_of_subscription(id, &array, changes.order())
            }
        };
        Some(SharedFrame::new(text))
    }

    async fn subscribed(
        &mut self,
        id: SubscriptionId,
        shape: &Shape,
        position: &Position,
    ) -> Result<(), Close> {
        let read_schema = self.schemas.remove(&id);
        let schema = match (shape.selection(), read_schema) {
            (Some(selection), _) => selection.summary(),
            (None, Some(schema)) => sync_core::schema::summary(&schema),
            (None, None) => self.state.summary(shape.entity()),
        };
        let rules = shape.selection().and_then(Selection::rules);
        let rules = rules.and_then(|rules| to_raw_value(&rules).ok());
        self.check_epoch()?;
        let cursor = Cursor {
            epoch: self.epoch.clone(),
            position: position.clone(),
        };
        let frame = ServerFrame::Subscribed(Subscribed {
            id,
            shape: shape.as_str().to_owned(),
            cursor: cursor.to_string(),
            schema,
            rules,
        });
        let resume = Resume::AtBeginOf(&cursor, shape);
        self.feed(SharedFrame::new(frame.to_text()), resume).await
    }

    pub(super) async fn error(&mut self, error: Error) -> Result<(), Close> {
        self.send(&ServerFrame::Error(error)).await
    }

    pub(super) async fn send(&mut self, frame: &ServerFrame) -> Result<(), Close> {
        self.feed(SharedFrame::new(frame.to_text()), Resume::Unchanged)
            .await
    }

    pub(super) async fn refetch(
        &mut self,
        id: SubscriptionId,
        reason: RefetchReason,
    ) -> Result<(), Close> {
        let frame = ServerFrame::Refetch(Refetch { id, reason }).to_text();
        self.feed(SharedFrame::new(frame), Resume::FromTheBeginning)
            .await
    }

    pub(super) async fn feed(
        &mut self,
        frame: SharedFrame,
        resume: Resume<'_>,
    ) -> Result<(), Close> {
        self.check_expiry()?;
        self.transport.feed(Outgoing { frame, resume });
        if self.transport.is_full() {
            return self.flush().await;
        }
        Ok(())
    }

    /// Sends a page of a read. Its turn ends as soon as the transport takes no more.
    pub(super) async fn send_page(
        &mut self,
        text: String,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Close> {
        self.check_expiry()?;
        self.transport.feed(Outgoing {
            frame: SharedFrame::new(text),
            resume: Resume::Unchanged,
        });
        let sent = futures_util::poll!(pin!(self.transport.flush()));
        drop(turn);
        match sent {
            Poll::Ready(sent) => sent.map_err(Close::from),
            Poll::Pending => self.flush().await,
        }
    }

    /// Sends what is queued. A client that reads nothing for too long is disconnected.
    pub(super) async fn flush(&mut self) -> Result<(), Close> {
        let stalled = self.state.config.limits.stalled_timeout();
        let mut flushed = pin!(self.transport.flush());
        // Most often the transport takes everything at once, and no timer is needed.
        if let Poll::Ready(flushed) = futures_util::poll!(&mut flushed) {
            return flushed.map_err(Close::from);
        }
        // Others send pages meanwhile.
        self.reads.give_up_turn();
        match Box::pin(tokio::time::timeout(stalled, flushed)).await {
            Ok(flushed) => flushed.map_err(Close::from),
            Err(_) => Err(Close::Disconnected),
        }
    }
}
