//! The engine's subscriber of the log: publishes to the hub, and to Rust code in this process.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db::DbError;
use db::feed::{InquiryStart, LogBatch, LogSubscriber};
use db::read::{Backfill, OldValueColumns};
use sync_core::cursor::Cursor;
use sync_core::membership::{Answer, Question};
use tokio::time::Instant;

use crate::change_batch::ChangeBatch;
use crate::schema_watch;
use crate::server_message::ServerMessage;
use crate::state::EngineState;

/// How long the listener waits for tables to be looked at.
const REFRESH_PATIENCE: Duration = Duration::from_secs(2);

/// Publishes what the listener finds.
pub(crate) struct Publisher {
    state: Arc<EngineState>,
    /// Changes of a drain have been published in this process, and their cursor has not.
    cursor_due: AtomicBool,
}

impl Publisher {
    pub(crate) fn new(state: Arc<EngineState>) -> Self {
        Self {
            state,
            cursor_due: AtomicBool::new(false),
        }
    }

    /// Publishes to the receivers in this process.
    fn publish_in_process(&self, log_batch: &LogBatch) {
        let EngineState { changes, hub, .. } = &*self.state;
        if changes.receiver_count() == 0 {
            return;
        }
        let mut batch = ChangeBatch {
            changes: Vec::new(),
            schema_changed: Vec::new(),
            cursor: None,
        };
        batch.take(log_batch.entries.clone(), false);
        let due = self.cursor_due.load(Ordering::Relaxed)
            || !batch.changes.is_empty()
            || !batch.schema_changed.is_empty();
        self.cursor_due
            .store(due && !log_batch.complete, Ordering::Relaxed);
        if log_batch.complete {
            let position = (*log_batch.position).clone();
            batch.cursor = hub.epoch().map(|epoch| Cursor { epoch, position });
        }
        if due {
            // It fails only when the last receiver has just gone.
            let _ = changes.send(Arc::new(batch));
        }
    }
}

impl LogSubscriber for Publisher {
    fn old_value_columns(&self) -> Arc<OldValueColumns> {
        self.state.hub.old_value_columns()
    }

    fn metadata_entities(&self) -> Arc<BTreeSet<String>> {
        self.state.hub.metadata_entities()
    }

    fn inquires(&self) -> bool {
        self.state.hub.inquires()
    }

    fn deciding(&self) -> BTreeSet<String> {
        self.state.hub.deciding()
    }

    fn begin_inquiry(&self, start: &InquiryStart<'_>) -> Vec<Question> {
        self.state.hub.begin_inquiry(start.position, start.entries)
    }

    fn answer(&self, answers: Vec<Answer>) -> Vec<Question> {
        self.state.hub.answer(answers)
    }

    fn backfill(&self) -> Option<Backfill> {
        self.state.hub.begin_backfill()
    }

    fn publish(&self, batch: LogBatch) {
        self.publish_in_process(&batch);
        self.state.hub.publish(batch);
    }

    fn taken(&self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>> {
        Box::pin(self.state.hub.wait_taken())
    }

    fn reset(&self, cursor: Cursor) {
        self.state.hub.reset(cursor.clone());
        self.cursor_due.store(false, Ordering::Relaxed);
        let entities = self.state.config.entities.iter();
        let schema_changed = entities.map(|entity| entity.name.clone()).collect();
        let _ = self.state.changes.send(Arc::new(ChangeBatch {
            changes: Vec::new(),
            schema_changed,
            cursor: Some(cursor),
        }));
    }

    fn failed(&self, error: &DbError) {
        self.state.not_ready(&error.summary());
    }

    fn message(&self, message: &str) {
        match serde_json::from_str::<ServerMessage>(message) {
            Ok(ServerMessage::Disconnect(whom)) => {
                self.state
                    .disconnect(move |principal| whom.matches(principal));
            }
            // Of a later version, perhaps.
            Err(_) => tracing::debug!("a message of another server is not understood"),
        }
    }

    fn refresh(&self, entities: BTreeSet<String>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let state = self.state.clone();
        // In a task of its own, which goes on when the listener no longer waits for it.
        let refreshing =
            tokio::spawn(async move { schema_watch::refresh(&state, &entities).await });
        Box::pin(async move {
            // Without an answer the table stays as it was known. Reads compare fingerprints, and the watch tries
            // again.
            let _ = tokio::time::timeout(REFRESH_PATIENCE, refreshing).await;
        })
    }

    fn prepare_again(&self) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + '_>> {
        let config = &self.state.config;
        if config.observes {
            let gone = DbError::Unreachable("the engine's own tables are gone".to_owned());
            return Box::pin(async { Err(gone) });
        }
        Box::pin(config.db_pool.migrate(&config.database))
    }
}
