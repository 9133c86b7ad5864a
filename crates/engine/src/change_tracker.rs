//! The log for Rust code in the same process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use db::DbError;
use db::entity::EntitySource;
use db::read::{ChangesQuery, OldValueColumns, ReadError};
use protocol::RefetchReason;
use sync_core::cursor::Cursor;
use sync_core::log::ChangeKind;
use tokio::sync::broadcast;

use crate::change_batch::ChangeBatch;
use crate::retention;
use crate::state::EngineState;
use sync_core::cursor::refuse;

/// Reads and writes the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChangeTracker {
    state: Arc<EngineState>,
}

/// Why the log could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The cursor cannot be resumed from; read the entities again.
    #[error("this cursor cannot be resumed from ({0:?}): read the entities again")]
    Refetch(RefetchReason),
    /// There is no such entity, or it has a table.
    #[error("{0:?} is not an entity without a table; its changes come from its table's triggers")]
    NotALogEntity(String),
    /// The key or the data is missing, or given where the kind of change takes none.
    #[error(
        "a create or an update needs a key and `data`, a delete only a key, a truncate neither"
    )]
    Incomplete,
    /// The engine is not connected yet.
    #[error("the engine is not connected to its database yet")]
    NotReady,
}

/// Why a receiver received no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The receiver was too slow, and this many batches were dropped. Catch up with
    /// [`ChangeTracker::changes_since`] from the last cursor received. The next batch may already be
    /// contained in the result; compare the cursors.
    #[error("{0} batches were dropped; catch up from the last cursor")]
    Lagged(u64),
    /// The engine has shut down.
    #[error("the engine has shut down")]
    Closed,
}

/// Receives changes as they happen.
#[derive(Debug)]
pub struct ChangeReceiver {
    receiver: broadcast::Receiver<Arc<ChangeBatch>>,
}

impl ChangeReceiver {
    /// Waits for the next batch.
    ///
    /// # Errors
    /// When batches were dropped because this receiver was too slow, or when the engine has shut down.
    pub async fn recv(&mut self) -> Result<Arc<ChangeBatch>, ReceiveError> {
        self.receiver.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(dropped) => {
                // The catch-up reads what is still queued as well, so it is not delivered a second time.
                let queued = self.receiver.len() as u64;
                self.receiver = self.receiver.resubscribe();
                ReceiveError::Lagged(dropped + queued)
            }
            broadcast::error::RecvError::Closed => ReceiveError::Closed,
        })
    }
}

impl From<ReadError> for TrackerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Db(error) => Self::Database(error),
            // The other errors concern reads bound to one version of a table, which this one is not.
            _ => Self::NotReady,
        }
    }
}

impl ChangeTracker {
    pub(crate) fn new(state: Arc<EngineState>) -> Self {
        Self { state }
    }

    /// Records a change of an entity that has no table, and returns a cursor that contains it. `data` is
    /// the row as JSON, none for a delete or a truncate; a truncate has no `entity_id`.
    ///
    /// # Errors
    /// When the entity has a table or is unknown, when an argument is missing, or the database fails.
    pub async fn record_change(
        &self,
        entity: &str,
        entity_id: Option<&str>,
        kind: ChangeKind,
        data: Option<&serde_json::Value>,
    ) -> Result<Cursor, TrackerError> {
        let known = self
            .state
            .config
            .entities
            .iter()
            .find(|config| config.name == entity);
        if known.is_none_or(|config| config.source != EntitySource::Log) {
            return Err(TrackerError::NotALogEntity(entity.to_owned()));
        }
        let complete = match kind {
            ChangeKind::Create | ChangeKind::Update => entity_id.is_some() && data.is_some(),
            ChangeKind::Delete => entity_id.is_some() && data.is_none(),
            ChangeKind::Truncate => entity_id.is_none() && data.is_none(),
            ChangeKind::SchemaChange | ChangeKind::Unread | ChangeKind::Touched => false,
        };
        if !complete {
            return Err(TrackerError::Incomplete);
        }
        let data = data.map(serde_json::Value::to_string);
        let position = self
            .state
            .config
            .db_pool
            .record(entity, entity_id, kind, data.as_deref())
            .await?;
        self.state.wake();
        Ok(Cursor {
            epoch: self.state.hub.epoch().ok_or(TrackerError::NotReady)?,
            position,
        })
    }

    /// Reads what changed in all entities since `cursor`, each row once, with the cursor to continue from.
    ///
    /// # Errors
    /// When the cursor belongs to another epoch or is older than the log, or the database fails.
    pub async fn changes_since(&self, cursor: &Cursor) -> Result<ChangeBatch, TrackerError> {
        let epoch = self.state.hub.epoch().ok_or(TrackerError::NotReady)?;
        if cursor.epoch != epoch {
            return Err(TrackerError::Refetch(RefetchReason::Epoch));
        }
        let mut batch = ChangeBatch {
            changes: Vec::new(),
            schema_changed: Vec::new(),
            cursor: None,
        };
        let db = &self.state.config.db_pool;
        let query = ChangesQuery {
            from: cursor.position.clone(),
            old_value_columns: OldValueColumns::new(),
            metadata: BTreeSet::new(),
            checked: false,
            entries_max: None,
            entities: None,
            inquiry: None,
            at_drain: None,
        };
        let mut changes = db.read_changes(self.state.entities.with_missing(), query);
        let start = changes.start().await?;
        if let Some(reason) = refuse(&cursor.position, &start.position, &start.floor) {
            return Err(TrackerError::Refetch(reason));
        }
        batch.cursor = Some(Cursor {
            epoch,
            position: start.position,
        });
        while let Some(entries) = changes.next().await? {
            batch.take(entries, true);
        }
        Ok(batch)
    }

    /// Reads the cursor of the database at this moment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn latest_cursor(&self) -> Result<Cursor, TrackerError> {
        Ok(self.state.config.db_pool.head().await?)
    }

    /// Receives all changes from now on.
    pub fn subscribe(&self) -> ChangeReceiver {
        ChangeReceiver {
            receiver: self.state.changes.subscribe(),
        }
    }

    /// Prunes entries older than `age`, and returns their number. Clients that were offline for longer refetch
    /// their rows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cleanup_older_than(&self, age: Duration) -> Result<u64, TrackerError> {
        let db = &self.state.config.db_pool;
        db.make_checkpoint().await?;
        self.state.caught_up().await?;
        Ok(retention::prune_older_than(db, age).await?)
    }
}
