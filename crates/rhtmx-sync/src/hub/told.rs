//! The `cursor` frame of a position, written once for everybody who is told of it.

use std::sync::{Arc, Mutex, MutexGuard};

use rhtmx_sync_core::cursor::{Cursor, Epoch, Position};
use rhtmx_sync_core::protocol::ServerFrame;

use crate::frame::Shared;

/// A cursor and its frame.
#[derive(Debug)]
pub(crate) struct ToldCursor {
    pub(crate) cursor: Cursor,
    pub(crate) frame: Shared,
}

/// The one that was written last. Sessions are told of a position at about the same time, so it
/// serves nearly all of them.
#[derive(Debug, Default)]
pub(super) struct LastTold(Mutex<Option<(Arc<Position>, Arc<ToldCursor>)>>);

impl LastTold {
    fn last(&self) -> MutexGuard<'_, Option<(Arc<Position>, Arc<ToldCursor>)>> {
        self.0.lock().expect("no panic holds this lock")
    }

    /// The frame for `position`; `epoch` says which history that belongs to.
    pub(super) fn of(
        &self,
        position: &Arc<Position>,
        epoch: impl FnOnce() -> Option<Epoch>,
    ) -> Option<Arc<ToldCursor>> {
        if let Some((at, told)) = &*self.last()
            && Arc::ptr_eq(at, position)
        {
            return Some(told.clone());
        }
        let cursor = Cursor {
            epoch: epoch()?,
            position: (**position).clone(),
        };
        let frame = Shared::new(ServerFrame::Cursor { cursor: &cursor }.to_text());
        let told = Arc::new(ToldCursor { cursor, frame });
        *self.last() = Some((position.clone(), told.clone()));
        Some(told)
    }

    /// Positions belong to another history from here on.
    pub(super) fn forget(&self) {
        *self.last() = None;
    }
}
