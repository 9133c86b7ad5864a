//! Fields and their clocks for Rust code in the same process: over the same log and cursors as the change tracker, and
//! by the same way into the tables as mutations.

mod changes;
mod receiver;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use db::DbError;
use db::entity::{Entity, EntityMap};
use db::read::{ChangesQuery, OldValueColumns, ReadError, RowsPage, RowsQuery};
use merge::{Clock, Conflict, Stamped};
use protocol::{MODE_FIELDS, RefetchReason, Reject, SelectionRequest, StampedValue};
use serde::Serialize;
use serde_json::Value;
use sync_core::cursor::{Cursor, refuse};
use sync_core::key;
use sync_core::policy::ReadScope;
use sync_core::shape::{Others, Shape};

pub use changes::{DeletedRow, FieldBatch, FieldChange};
pub use receiver::FieldReceiver;

use crate::state::EngineState;

/// Reads and writes fields, of entities whose rows merge by them. Cheap to clone.
///
/// It has the server's rights: no policy applies to what it reads and writes. What it writes reaches clients as any other
/// change.
///
/// ```no_run
/// # async fn follow(engine: &rhtmx_sync::SyncEngine) -> Result<(), rhtmx_sync::FieldTrackerError> {
/// let tracker = engine.field_tracker();
/// let mut receiver = tracker.subscribe().await?;
/// tracker.record_field_change("todos", "42", "title", "milk").await?;
/// let batch = receiver.recv().await?;
/// for change in &batch.changes {
///     println!("{} {} {} = {} at {}", change.entity, change.id, change.field, change.value, change.clock);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FieldTracker {
    state: Arc<EngineState>,
}

/// Why fields could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FieldTrackerError {
    /// The database failed. Of a write it may then be unknown whether it was applied.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The cursor cannot be resumed from; read the entities again.
    #[error("this cursor cannot be resumed from ({0:?}): read the entities again")]
    Refetch(RefetchReason),
    /// There is no such entity, or its rows do not merge by their fields, or its table does not exist at the moment.
    #[error("{0:?} is no entity whose rows merge by their fields")]
    NotFields(String),
    /// The text names no row of the entity, or a row that cannot be looked up by its key.
    #[error("{id:?} is no key of {entity:?} by which a row can be found")]
    NotAKey {
        /// The entity.
        entity: String,
        /// The text.
        id: String,
    },
    /// Nothing was written.
    #[error("nothing was written: {}{}", .0.message, of_write(.0))]
    Rejected(Reject),
    /// The engine is not connected yet.
    #[error("the engine is not connected to its database yet")]
    NotReady,
    /// The engine has shut down.
    #[error("the engine has shut down")]
    Closed,
}

fn of_write(reject: &Reject) -> String {
    let write = reject.write.map(|write| format!(" (change {write})"));
    write.unwrap_or_default()
}

impl From<ReadError> for FieldTrackerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Db(error) => Self::Database(error),
            ReadError::Refused(reason) => Self::Refetch(reason),
            ReadError::Outdated(_) => Self::Refetch(RefetchReason::Schema),
            _ => Self::NotReady,
        }
    }
}

/// A value to write.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldEdit {
    /// The entity.
    pub entity: String,
    /// The row's key, as frames have it.
    pub id: String,
    /// The column.
    pub field: String,
    /// Its value; of a counter also `{"add": 3}`, of a set `{"add": […], "remove": […]}`.
    pub value: Value,
}

/// A value that is not kept: what comes from elsewhere, or what it replaces and its author had not seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldConflict {
    /// The entity.
    pub entity: String,
    /// The row's key.
    pub id: String,
    /// What is kept, and what is lost.
    #[serde(flatten)]
    pub conflict: Conflict,
}

impl FieldConflict {
    fn read(told: &protocol::Conflict) -> Option<Self> {
        let stamped = |told: &StampedValue| {
            let value = serde_json::from_str(told.value.get()).ok()?;
            let hlc = Clock::read(&told.hlc).ok()?;
            Some(Stamped { value, hlc })
        };
        let strategy = Value::from(told.strategy.as_str());
        Some(Self {
            entity: told.entity.clone(),
            id: told.key.clone(),
            conflict: Conflict {
                field: told.field.clone(),
                kept: told.kept.as_ref().and_then(stamped),
                lost: stamped(&told.lost)?,
                strategy: serde_json::from_value(strategy).ok()?,
            },
        })
    }
}

impl FieldTracker {
    pub(crate) fn new(state: Arc<EngineState>) -> Self {
        Self { state }
    }

    /// Sets a field of a row that exists, and returns the clock under which it counts: now, above all that is there.
    ///
    /// `value` may also be `{"add": 3}` for a counter, and `{"add": […], "remove": […]}` for a set.
    ///
    /// # Errors
    /// When there is no such row or field, the value does not fit, or the database fails.
    pub async fn record_field_change(
        &self,
        entity: &str,
        id: &str,
        field: &str,
        value: impl Into<Value>,
    ) -> Result<Clock, FieldTrackerError> {
        let edit = FieldEdit {
            entity: entity.to_owned(),
            id: id.to_owned(),
            field: field.to_owned(),
            value: value.into(),
        };
        let clocks = self.record_field_batch(vec![edit]).await?;
        clocks
            .into_iter()
            .next()
            .ok_or_else(|| FieldTrackerError::Database(writing::unanswered()))
    }

    /// The same for several fields, also of several rows and entities, in one transaction: all or none. Returns the clocks
    /// in the same order.
    ///
    /// # Errors
    /// As [`FieldTracker::record_field_change`]; also when there are none, or more than `limits.writes_max`.
    pub async fn record_field_batch(
        &self,
        edits: Vec<FieldEdit>,
    ) -> Result<Vec<Clock>, FieldTrackerError> {
        let count = edits.len();
        let writes = edits.into_iter().map(|edit| (edit, None)).collect();
        let merged = self.write(writes).await?;
        let clocks = merged.stamps.iter().map(|stamp| Clock::read(&stamp.hlc));
        let clocks: Vec<Clock> = clocks.filter_map(Result::ok).collect();
        match clocks.len() == count {
            true => Ok(clocks),
            false => Err(writing::unanswered().into()),
        }
    }

    /// Merges what was written elsewhere, such as [`FieldTracker::field_changes_since`] has of another server, in one
    /// transaction, and returns the values that are not kept. Of each field the later clock stays, or what its strategy
    /// says; a clock that is ahead of this server's is treated as a client's would be.
    ///
    /// # Errors
    /// As [`FieldTracker::record_field_batch`]. A change of a row that never was, or of another birth than the row of this
    /// key has here, is an error.
    pub async fn merge_field_changes(
        &self,
        changes: Vec<FieldChange>,
    ) -> Result<Vec<FieldConflict>, FieldTrackerError> {
        let writes = changes.into_iter().map(FieldChange::into_write).collect();
        let merged = self.write(writes).await?;
        let conflicts = merged.conflicts.iter().chain(&merged.of_others);
        Ok(conflicts.filter_map(FieldConflict::read).collect())
    }

    /// Reads which fields have changed since `cursor`, in all entities whose rows merge by their fields, with the cursor to
    /// continue from. Each field is there once, as it is now.
    ///
    /// # Errors
    /// When the cursor belongs to another epoch or is older than the log, or the database fails.
    pub async fn field_changes_since(
        &self,
        cursor: &Cursor,
    ) -> Result<FieldBatch, FieldTrackerError> {
        let epoch = self.epoch()?;
        if cursor.epoch != epoch {
            return Err(FieldTrackerError::Refetch(RefetchReason::Epoch));
        }
        let entities = self.merging();
        let names: BTreeSet<String> = entities.keys().cloned().collect();
        let old_value_columns = names.iter().map(|name| (name.clone(), BTreeSet::new()));
        let query = ChangesQuery {
            from: cursor.position.clone(),
            old_value_columns: old_value_columns.collect::<OldValueColumns>(),
            metadata: names,
            checked: false,
            entries_max: None,
            entities: None,
            inquiry: None,
            at_drain: None,
        };
        let db = &self.state.config.db_pool;
        let mut changes = db.read_changes(entities.clone(), query);
        let start = changes.start().await?;
        if let Some(reason) = refuse(&cursor.position, &start.position, &start.floor) {
            return Err(FieldTrackerError::Refetch(reason));
        }
        let position = start.position;
        let mut batch = FieldBatch::new(Cursor { epoch, position });
        while let Some(entries) = changes.next().await? {
            for entry in &entries {
                if let Some(entity) = entities.get(&entry.entity) {
                    batch.take(entry, &entity.schema);
                }
            }
        }
        Ok(batch)
    }

    /// The fields of a row as they are now, in the order of the table's columns; none where there is no such row.
    ///
    /// # Errors
    /// When the entity's rows do not merge by their fields, the text is no key of it, or the database fails.
    pub async fn latest_fields(
        &self,
        entity: &str,
        id: &str,
    ) -> Result<Option<Vec<FieldChange>>, FieldTrackerError> {
        let found = self.find(entity)?;
        let shape = self.shape_of(&found, id)?;
        let page = RowsPage {
            after_key: None,
            limit: 1,
        };
        let query = RowsQuery {
            page: Some(page),
            ..RowsQuery::all(shape, self.state.entities.all())
        };
        let schema = found.schema.clone();
        let mut rows = self.state.config.db_pool.read_rows(found, query);
        rows.start().await?;
        let mut fields = None;
        while let Some(chunk) = rows.next().await? {
            let row = chunk.into_iter().next();
            let of_row = row.map(|row| changes::fields_of(&row, &schema));
            fields = fields.or(of_row);
        }
        Ok(fields)
    }

    /// Reads the cursor of the database at this moment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn latest_cursor(&self) -> Result<Cursor, FieldTrackerError> {
        Ok(self.state.config.db_pool.head().await?)
    }

    /// Receives all changes of fields from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subscribe(&self) -> Result<FieldReceiver, FieldTrackerError> {
        // Before the cursor is read, so that no change slips in between.
        let wakes = self.state.changes.subscribe();
        let cursor = self.latest_cursor().await?;
        Ok(FieldReceiver::new(self.clone(), cursor, wakes))
    }

    /// Receives all changes of fields since `cursor`, such as that of the last batch before a restart.
    pub fn subscribe_since(&self, cursor: Cursor) -> FieldReceiver {
        let wakes = self.state.changes.subscribe();
        FieldReceiver::new(self.clone(), cursor, wakes)
    }

    fn epoch(&self) -> Result<sync_core::cursor::Epoch, FieldTrackerError> {
        self.state.hub.epoch().ok_or(FieldTrackerError::NotReady)
    }

    /// The entities whose rows merge by their fields, also those whose table is missing at the moment.
    fn merging(&self) -> EntityMap {
        let known = self.state.entities.with_missing();
        let configured = self.state.config.entities.iter();
        let merging = configured.filter(|config| config.fields.is_some());
        let merging = merging
            .filter_map(|config| Some((config.name.clone(), known.get(&config.name)?.clone())));
        Arc::new(merging.collect::<BTreeMap<_, _>>())
    }

    fn find(&self, entity: &str) -> Result<Arc<Entity>, FieldTrackerError> {
        let found = self.state.entities.find(entity);
        let found = found.filter(|entity| entity.fields.is_some());
        found.ok_or_else(|| FieldTrackerError::NotFields(entity.to_owned()))
    }

    /// The shape of one row with its metadata.
    fn shape_of(&self, entity: &Entity, id: &str) -> Result<Shape, FieldTrackerError> {
        let not_a_key = || FieldTrackerError::NotAKey {
            entity: entity.schema.entity.clone(),
            id: id.to_owned(),
        };
        let table = entity.current_table(self.state.config.db_pool.filter_backend());
        let table = table.ok_or_else(not_a_key)?;
        let request = SelectionRequest {
            mode: Some(MODE_FIELDS.to_owned()),
            ..key::selection(id, &entity.schema).ok_or_else(not_a_key)?
        };
        let shape = Shape::resolve(&table, &request, &ReadScope::Everything, Others::NONE);
        shape.map_err(|_| not_a_key())
    }
}
