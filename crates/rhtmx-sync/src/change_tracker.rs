//! The log for Rust code in the same process.

use std::sync::Arc;
use std::time::Duration;

use rhtmx_sync_core::cursor::Cursor;
use rhtmx_sync_core::log::{Action, Learned, NewestEntry};
use rhtmx_sync_core::protocol::{Change, RefetchReason};
use tokio::sync::broadcast;

use crate::db::DbError;
use crate::db::read::{ChangesQuery, HistoryColumns, ReadPart};
use crate::engine::Inner;
use crate::entity::EntitySource;
use crate::reader::refuse;
use crate::retention;

/// Batches that a slow receiver may fall behind by.
const RECEIVER_BATCHES_MAX: usize = 1024;

/// Reads and writes the log of changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChangeTracker {
    engine: Arc<Inner>,
}

/// A change with the entity whose row it is.
#[derive(Debug, Clone)]
pub struct TrackedChange {
    /// The entity.
    pub entity: String,
    /// What happened.
    pub change: Change,
}

/// Changes that belong together, and the cursor that contains them.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// In the log's order, each row once.
    pub changes: Vec<TrackedChange>,
    /// Entities whose tables changed their shape, or of which something was missed: read them anew.
    pub reshaped: Vec<String>,
    /// Pass it to [`ChangeTracker::changes_since`] to go on from here. None while more of the same
    /// instant follows.
    pub cursor: Option<Cursor>,
}

/// Why the log could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The cursor cannot be resumed from; read the entities anew.
    #[error("this cursor cannot be resumed from ({0:?}): read the entities anew")]
    Refetch(RefetchReason),
    /// There is no such entity, or not one without a table.
    #[error("{0:?} is not an entity without a table; its changes come from its table's triggers")]
    NotALogEntity(String),
    /// The data is no JSON, or is missing where a row comes or changes.
    #[error("a create or an update needs `data`, and a truncate takes no key")]
    Incomplete,
    /// The engine is not connected yet.
    #[error("the engine is not connected to its database yet")]
    NotReady,
}

/// What a receiver hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The receiver was too slow: so many batches were dropped for it. Catch up with
    /// [`ChangeTracker::changes_since`] from the last cursor that it got; a batch that comes after
    /// that may be part of it, which its cursor tells.
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
    /// The next batch.
    ///
    /// # Errors
    /// When batches were dropped because this receiver was too slow, or when the engine is gone.
    pub async fn recv(&mut self) -> Result<Arc<ChangeBatch>, ReceiveError> {
        self.receiver.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(dropped) => {
                // What is still queued is in the log too, and would only be told a second time.
                let queued = self.receiver.len() as u64;
                self.receiver = self.receiver.resubscribe();
                ReceiveError::Lagged(dropped + queued)
            }
            broadcast::error::RecvError::Closed => ReceiveError::Closed,
        })
    }
}

impl ChangeTracker {
    pub(crate) fn new(engine: Arc<Inner>) -> Self {
        Self { engine }
    }

    /// Records a change of an entity that has no table. `data` is the row's JSON, none for a delete
    /// or a truncate; a truncate has no `entity_id`. Gives a cursor that contains the change.
    ///
    /// # Errors
    /// When the entity has a table or is unknown, when `data` is missing, or the database fails.
    pub async fn record_change(
        &self,
        entity: &str,
        entity_id: Option<&str>,
        action: Action,
        data: Option<&serde_json::Value>,
    ) -> Result<Cursor, TrackerError> {
        let known = self
            .engine
            .config
            .entities
            .iter()
            .find(|config| config.name == entity);
        if known.is_none_or(|config| config.source != EntitySource::Log) {
            return Err(TrackerError::NotALogEntity(entity.to_owned()));
        }
        let complete = match action {
            Action::Create | Action::Update => entity_id.is_some() && data.is_some(),
            Action::Delete => entity_id.is_some() && data.is_none(),
            Action::Truncate => entity_id.is_none() && data.is_none(),
            Action::Reshape => false,
        };
        if !complete {
            return Err(TrackerError::Incomplete);
        }
        let data = data.map(serde_json::Value::to_string);
        let position = self
            .engine
            .config
            .db_pool
            .record(entity, entity_id, action, data.as_deref())
            .await?;
        self.engine.poke();
        Ok(Cursor {
            epoch: self.engine.hub.epoch().ok_or(TrackerError::NotReady)?,
            position,
        })
    }

    /// What changed in all entities since `cursor`, each row once, and the cursor to go on from.
    ///
    /// # Errors
    /// When the cursor is of another history or older than the log, or the database fails.
    pub async fn changes_since(&self, cursor: &Cursor) -> Result<ChangeBatch, TrackerError> {
        let epoch = self.engine.hub.epoch().ok_or(TrackerError::NotReady)?;
        if cursor.epoch != epoch {
            return Err(TrackerError::Refetch(RefetchReason::Epoch));
        }
        let mut batch = ChangeBatch {
            changes: Vec::new(),
            reshaped: Vec::new(),
            cursor: None,
        };
        let db = &self.engine.config.db_pool;
        let query = ChangesQuery {
            from: cursor.position.clone(),
            histories: HistoryColumns::new(),
            checked: false,
        };
        let mut parts = db.read_changes(self.engine.entities.in_log(), query);
        while let Some(part) = parts.next().await {
            match part {
                ReadPart::Start { position, floor } => {
                    if let Some(reason) = refuse(&cursor.position, &position, &floor) {
                        return Err(TrackerError::Refetch(reason));
                    }
                    batch.cursor = Some(Cursor {
                        epoch: epoch.clone(),
                        position,
                    });
                }
                ReadPart::Entries(entries) => batch.take(entries, true),
                ReadPart::Rows(_) | ReadPart::Outdated(_) => {}
            }
        }
        parts.finish().await?;
        Ok(batch)
    }

    /// Where the database is now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn latest_cursor(&self) -> Result<Cursor, TrackerError> {
        let (epoch, position) = self.engine.config.db_pool.history().await?;
        Ok(Cursor { epoch, position })
    }

    /// Hears of all changes from now on.
    pub fn subscribe(&self) -> ChangeReceiver {
        ChangeReceiver {
            receiver: self.engine.changes.subscribe(),
        }
    }

    /// Forgets what is older than `age`; gives the number of entries that went. Clients that were
    /// away for longer take their rows anew.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cleanup_older_than(&self, age: Duration) -> Result<u64, TrackerError> {
        let db = &self.engine.config.db_pool;
        db.make_mark().await?;
        self.engine.caught_up().await?;
        Ok(retention::prune_older_than(db, age).await?)
    }
}

impl ChangeBatch {
    /// Adds what `entries` mean. Who resumes need not hear of rows that came and went meanwhile.
    pub(crate) fn take(&mut self, entries: Vec<NewestEntry>, resumes: bool) {
        for entry in entries {
            let entity = entry.entity.clone();
            match entry.learn() {
                Learned::Nothing => {}
                Learned::Reshaped => self.reshaped.push(entity),
                Learned::Change {
                    transient: true, ..
                } if resumes => {}
                Learned::Change { change, .. } => {
                    self.changes.push(TrackedChange { entity, change })
                }
            }
        }
    }
}

/// The sending side of [`ChangeTracker::subscribe`].
pub(crate) fn channel() -> broadcast::Sender<Arc<ChangeBatch>> {
    broadcast::Sender::new(RECEIVER_BATCHES_MAX)
}
