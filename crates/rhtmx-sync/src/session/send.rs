//! What a session says, and when it leaves.

use std::pin::pin;
use std::task::Poll;

use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::protocol::{ErrorCode, RefetchReason, ServerFrame, SubscriptionId};
use rhtmx_sync_core::shape::Shape;
use tokio::sync::OwnedSemaphorePermit;

use super::wire::{Outgoing, Resume, Wire};
use super::{Connection, Ended};
use crate::frame::{self, Shared};
use crate::hub::Delivery;

impl<W: Wire> Connection<W> {
    pub(super) async fn fatal(&mut self, code: ErrorCode, message: &str) -> Result<(), Ended> {
        self.send(&ServerFrame::Error {
            code,
            message,
            id: None,
            fatal: true,
        })
        .await
    }

    pub(super) async fn send(&mut self, frame: &ServerFrame<'_>) -> Result<(), Ended> {
        self.feed(Shared::new(frame.to_text()), Resume::Unchanged)
            .await
    }

    pub(super) async fn refetch(
        &mut self,
        id: &SubscriptionId,
        reason: RefetchReason,
    ) -> Result<(), Ended> {
        let frame = ServerFrame::Refetch { id, reason }.to_text();
        self.feed(Shared::new(frame), Resume::Anew).await
    }

    pub(super) async fn feed(&mut self, frame: Shared, resume: Resume<'_>) -> Result<(), Ended> {
        self.wire.feed(Outgoing { frame, resume });
        match self.wire.is_full() {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Sends a page of a read, whose turn ends when the socket takes no more.
    pub(super) async fn send_page(
        &mut self,
        text: String,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Ended> {
        self.wire.feed(Outgoing {
            frame: Shared::new(text),
            resume: Resume::Unchanged,
        });
        let sent = futures_util::poll!(pin!(self.wire.flush()));
        drop(turn);
        match sent {
            Poll::Ready(sent) => sent.map_err(Ended::from),
            Poll::Pending => self.flush().await,
        }
    }

    /// A client that leaves everything unread for too long is given up.
    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        let stalled = self.engine.config.limits.stalled_timeout();
        let mut flushed = pin!(self.wire.flush());
        // Most often the socket takes it at once, and no timer is needed.
        if let Poll::Ready(flushed) = futures_util::poll!(&mut flushed) {
            return flushed.map_err(Ended::from);
        }
        match Box::pin(tokio::time::timeout(stalled, flushed)).await {
            Ok(flushed) => flushed.map_err(Ended::from),
            Err(_) => Err(Ended::Gone),
        }
    }
}

/// What a batch says of a shape; none when that is nothing to somebody who has followed it since then.
pub(super) fn frame_of(
    batch: &Delivery,
    shape: &Shape,
    id: Option<&SubscriptionId>,
    since: Option<&Position>,
) -> Option<Shared> {
    let changes = batch.0.changes(shape)?;
    let text = match (id, since) {
        (None, None) => return changes.shared_frame(shape).cloned(),
        (None, Some(_)) => frame::changes_of_shape(shape.as_str(), &changes.array(since)?),
        (Some(id), _) => frame::changes_of_subscription(id, &changes.array(since)?),
    };
    Some(Shared::new(text))
}
