//! Changes of fields, as they happen.

use std::sync::Arc;

use sync_core::cursor::Cursor;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{FieldBatch, FieldTracker, FieldTrackerError};
use crate::change_batch::ChangeBatch;

/// Receives changes of fields. It reads the log at its own pace, so nothing is dropped however slow it is, and what it
/// holds is what it reads at once.
#[derive(Debug)]
pub struct FieldReceiver {
    tracker: FieldTracker,
    /// Everything up to here has been received.
    cursor: Cursor,
    /// Tells that something has changed.
    wakes: Receiver<Arc<ChangeBatch>>,
    /// Whether something may have changed that has not been read.
    is_due: bool,
}

impl FieldReceiver {
    pub(super) fn new(
        tracker: FieldTracker,
        cursor: Cursor,
        wakes: Receiver<Arc<ChangeBatch>>,
    ) -> Self {
        Self {
            tracker,
            cursor,
            wakes,
            is_due: true,
        }
    }

    /// The cursor up to which everything has been received.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Waits for the next changes. Nothing is lost when it is dropped before it is done.
    ///
    /// # Errors
    /// When the database fails: try again; when the cursor cannot be resumed from any more: read the entities again, and
    /// subscribe; when the engine has shut down.
    pub async fn recv(&mut self) -> Result<FieldBatch, FieldTrackerError> {
        loop {
            if !self.is_due {
                self.wait().await?;
            }
            self.is_due = true;
            // What is told of now is part of what is read.
            self.wakes = self.wakes.resubscribe();
            let batch = self.tracker.field_changes_since(&self.cursor).await?;
            self.is_due = false;
            self.cursor = batch.cursor.clone();
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// Waits until something has changed that may concern fields.
    async fn wait(&mut self) -> Result<(), FieldTrackerError> {
        let shutdown = self.tracker.state.shutdown.clone();
        loop {
            let woken = tokio::select! {
                woken = self.wakes.recv() => woken,
                () = shutdown.cancelled() => Err(RecvError::Closed),
            };
            match woken {
                Ok(batch) if !self.concerns(&batch) => self.pass(&batch),
                Ok(_) | Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(FieldTrackerError::Closed),
            }
        }
    }

    fn concerns(&self, batch: &ChangeBatch) -> bool {
        let state = &self.tracker.state;
        let mut changes = batch.changes.iter();
        !batch.schema_changed.is_empty() || changes.any(|change| state.merges(&change.entity))
    }

    /// Moves on over a batch without fields, so that the log need not keep what is behind.
    fn pass(&mut self, batch: &ChangeBatch) {
        let is_ahead = |cursor: &&Cursor| {
            cursor.epoch == self.cursor.epoch && cursor.position.covers(&self.cursor.position)
        };
        if let Some(cursor) = batch.cursor.as_ref().filter(is_ahead) {
            self.cursor = cursor.clone();
        }
    }
}
