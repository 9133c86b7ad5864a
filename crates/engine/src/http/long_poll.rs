//! Long polls: a `GET` that waits for changes is answered with the batch that has them, as a session is. Nothing is read
//! again for it, however many wait.

use std::sync::Arc;

use protocol::ErrorCode;
use serde_json::value::RawValue;
use sync_core::cursor::{Epoch, Position};
use sync_core::limit::Limit;
use sync_core::session::{Batch as _, is_cut_by};
use sync_core::shape::Shape;
use tokio::sync::OwnedSemaphorePermit;

use super::error::HttpError;
use crate::auth::Counted;
use crate::limits::{self, RETRY_AFTER};
use crate::mailbox::{Capacity, Mailbox, Taken};
use crate::principals::Present;
use crate::rows::Batch;
use crate::state::EngineState;

/// What may wait for the poll; beyond that, it reads the log.
const CAPACITY: Capacity = Capacity {
    items: 4,
    bytes: 256 * 1024,
};

/// What ended a wait.
pub(super) enum Woken {
    /// These changes, as a JSON array, are all up to the position.
    Changes {
        array: String,
        position: Arc<Position>,
    },
    /// The log must be read.
    Read,
    /// The hub has been reset: the next request sees the epoch that follows.
    Closed,
}

/// A mailbox for as long as a long poll waits.
pub(super) struct LongPoll {
    state: Arc<EngineState>,
    mailbox: Mailbox<Batch>,
    _present: Present,
    _permit: OwnedSemaphorePermit,
}

impl LongPoll {
    /// Registers for the changes of a shape.
    pub(super) fn start(
        state: &Arc<EngineState>,
        present: Present,
        user: Option<&Counted>,
        epoch: &Epoch,
        shape: &Shape,
    ) -> Result<Self, HttpError> {
        let permit = state.long_polls.clone().try_acquire_owned().map_err(|_| {
            limits::reached(Limit::LongPolls);
            let message = "more requests wait for changes than the server takes; try again later";
            HttpError::new(ErrorCode::RateLimited, message).retry_after(RETRY_AFTER)
        })?;
        state.hub.admit_to(user, shape)?;
        let mailbox = state.hub.join(present.session(), user, epoch, CAPACITY);
        state.hub.attach(mailbox.session, shape);
        Ok(Self {
            state: state.clone(),
            mailbox,
            _present: present,
            _permit: permit,
        })
    }

    /// Waits for changes of the shape that `since` does not contain.
    pub(super) async fn changes(&mut self, shape: &Shape, since: &Position, limit: usize) -> Woken {
        loop {
            let taken = self.mailbox.next().await;
            if self.mailbox.has_overflowed() {
                self.state.hub.rejoin(self.mailbox.session);
                return Woken::Read;
            }
            let batch = match taken {
                None => return Woken::Closed,
                Some(Taken::Overflow) => return Woken::Read,
                Some(Taken::Item(batch)) => batch,
            };
            let is_whole = !batch.changes_schema_of(shape)
                && !batch.loses_sets_of(shape)
                && !batch.is_unclear_for(shape)
                && !is_cut_by(&batch, shape, since);
            if !is_whole {
                return Woken::Read;
            }
            let array = batch
                .changes(shape)
                .and_then(|changes| changes.array(Some(since), None));
            let Some(array) = array else {
                continue;
            };
            // A batch that is not the last of its position is not all up to there.
            if !batch.complete() || !self.fits(&array, limit) {
                return Woken::Read;
            }
            return Woken::Changes {
                array,
                position: batch.position().clone(),
            };
        }
    }

    /// Whether all the changes fit one page.
    fn fits(&self, array: &str, limit: usize) -> bool {
        array.len() <= self.state.config.reads.page_bytes_max
            && serde_json::from_str::<Vec<&RawValue>>(array)
                .is_ok_and(|changes| changes.len() <= limit)
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        self.state.hub.leave(self.mailbox.session);
    }
}
