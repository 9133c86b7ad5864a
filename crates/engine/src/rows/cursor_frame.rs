//! The `cursor` frame of a position, written once for all sessions that reach it.

use std::sync::{Arc, Mutex, MutexGuard};

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
        self.0.lock().expect("no panic holds this lock")
    }

    /// Returns the frame for `position`; none while there is no epoch.
    pub(super) fn of(
        &self,
        position: &Arc<Position>,
        epoch: impl FnOnce() -> Option<Epoch>,
    ) -> Option<Arc<CursorFrame>> {
        if let Some((at, cached)) = &*self.last()
            && Arc::ptr_eq(at, position)
        {
            return Some(cached.clone());
        }
        let cursor = Cursor {
            epoch: epoch()?,
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
        Some(written)
    }

    /// Drops the frame, because positions belong to another epoch from here on.
    pub(super) fn forget(&self) {
        *self.last() = None;
    }
}
