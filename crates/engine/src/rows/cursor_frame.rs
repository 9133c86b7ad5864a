//! The `cursor` frame of a position, written once for all sessions that reach it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::ServerFrame;
use sync_core::cursor::{Cursor, Epoch, Position};

use crate::shared_frame::SharedFrame;

/// A cursor and its frame.
#[derive(Debug)]
pub(crate) struct CursorFrame {
    pub(crate) cursor: Cursor,
    pub(crate) frame: SharedFrame,
}

/// The cursor frame that was written last. Sessions reach a position at about the same time, so it serves
/// nearly all of them.
#[derive(Debug, Default)]
pub(super) struct CursorFrameCache(Mutex<Option<(Arc<Position>, Arc<CursorFrame>)>>);

impl CursorFrameCache {
    fn last(&self) -> MutexGuard<'_, Option<(Arc<Position>, Arc<CursorFrame>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the frame for `position`, which is one of this epoch.
    pub(super) fn of(&self, epoch: &Epoch, position: &Arc<Position>) -> Arc<CursorFrame> {
        if let Some((at, cached)) = &*self.last()
            && Arc::ptr_eq(at, position)
            && cached.cursor.epoch == *epoch
        {
            return cached.clone();
        }
        let cursor = Cursor {
            epoch: epoch.clone(),
            position: (**position).clone(),
        };
        let frame = SharedFrame::new(
            ServerFrame::Cursor(protocol::Cursor {
                cursor: cursor.to_string(),
            })
            .to_text(),
        );
        let written = Arc::new(CursorFrame { cursor, frame });
        *self.last() = Some((position.clone(), written.clone()));
        written
    }

    /// Drops the frame, whose position belongs to a former epoch from here on.
    pub(super) fn forget(&self) {
        *self.last() = None;
    }
}
