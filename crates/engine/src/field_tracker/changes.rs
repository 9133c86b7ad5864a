//! Fields with their clocks, and what has become of them.

use std::collections::BTreeSet;

use merge::Clock;
use protocol::{RowImage, RowMetadata};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sync_core::cursor::Cursor;
use sync_core::log::{NetChange, Subject, UndoRecord};
use sync_core::metadata;
use value::schema::Schema;

use super::FieldEdit;
use super::writing::Written;

/// A field of a row, with the clock of its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The entity.
    pub entity: String,
    /// The row's key, as frames have it.
    pub id: String,
    /// The column.
    pub field: String,
    /// Its value, as frames have it.
    pub value: Value,
    /// When it was written; the ground for a value from before anything was stamped. Of a counter or a set it is the newest
    /// clock of what it is made of.
    pub clock: Clock,
    /// When the row was created; the ground for before anything was stamped.
    #[serde(default = "Clock::ground")]
    pub born: Clock,
}

impl FieldChange {
    /// What is written where it is merged.
    pub(super) fn into_write(self) -> (FieldEdit, Option<Written>) {
        let edit = FieldEdit {
            entity: self.entity,
            id: self.id,
            field: self.field,
            value: self.value,
        };
        let written = Written {
            clock: self.clock,
            born: self.born,
        };
        (edit, Some(written))
    }
}

/// A row that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRow {
    /// The entity.
    pub entity: String,
    /// The row's key.
    pub id: String,
    /// When it was deleted, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<Clock>,
}

/// What has become of fields, and the cursor that contains it.
#[derive(Debug, Clone)]
pub struct FieldBatch {
    /// Entities that have lost all rows, before what else is here.
    pub truncated: Vec<String>,
    /// Rows that are gone. A row is here or has changes, never both.
    pub deleted: Vec<DeletedRow>,
    /// The fields that have changed, of a new row all.
    pub changes: Vec<FieldChange>,
    /// Entities to read again: their schema changed, or changes of them were missed.
    pub schema_changed: Vec<String>,
    /// The cursor to continue from.
    pub cursor: Cursor,
}

impl FieldBatch {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self {
            truncated: Vec::new(),
            deleted: Vec::new(),
            changes: Vec::new(),
            schema_changed: Vec::new(),
            cursor,
        }
    }

    /// Whether there is nothing but the cursor.
    pub fn is_empty(&self) -> bool {
        self.truncated.is_empty()
            && self.deleted.is_empty()
            && self.changes.is_empty()
            && self.schema_changed.is_empty()
    }

    /// Adds what an entry means.
    pub(super) fn take(&mut self, entry: &NetChange, schema: &Schema) {
        let entity = || entry.entity.clone();
        let key = match entry.subject() {
            Subject::Nothing => return,
            Subject::Truncate => return self.truncated.push(entity()),
            Subject::SchemaChange => return self.schema_changed.push(entity()),
            Subject::Row(key) => key,
        };
        let metadata = entry.metadata.as_deref().cloned().unwrap_or_default();
        let Some(row) = &entry.row else {
            if !entry.is_transient() {
                self.deleted.push(DeletedRow {
                    entity: entity(),
                    id: key.to_owned(),
                    died: metadata.died.as_deref().and_then(read),
                });
            }
            return;
        };
        let changed = entry.undo.as_deref().and_then(changed);
        let is_changed = |column: &str| changed.as_ref().is_none_or(|them| them.contains(column));
        let fields = fields(
            (&entry.entity, key),
            (row, &metadata),
            (schema, &is_changed),
        );
        self.changes.extend(fields);
    }
}

/// The fields of a row.
pub(super) fn fields_of(row: &RowImage, schema: &Schema) -> Vec<FieldChange> {
    let of = (schema.entity.as_str(), row.key.as_str());
    fields(of, (&row.row, &row.metadata), (schema, &|_| true))
}

fn fields(
    (entity, id): (&str, &str),
    (row, known): (&RawValue, &RowMetadata),
    (schema, is_changed): (&Schema, &dyn Fn(&str) -> bool),
) -> Vec<FieldChange> {
    let mut row: Map<String, Value> = serde_json::from_str(row.get()).unwrap_or_default();
    let columns = schema.columns.iter().enumerate();
    let columns = columns.filter(|(index, column)| {
        // A column that is not in the log may have changed.
        let may_have_changed = !column.logged || is_changed(&column.name);
        !schema.is_key(*index) && !column.generated && may_have_changed
    });
    let born = known.born.as_deref().and_then(read);
    let born = born.unwrap_or_else(Clock::ground);
    let fields = columns.filter_map(|(_, column)| {
        Some(FieldChange {
            entity: entity.to_owned(),
            id: id.to_owned(),
            value: row.remove(&column.name)?,
            clock: metadata::clock_of(known, &column.name),
            born: born.clone(),
            field: column.name.clone(),
        })
    });
    fields.collect()
}

fn read(clock: &str) -> Option<Clock> {
    Clock::read(clock).ok()
}

/// The columns that a row's entries say have changed; none where they do not say it, or where one has changed none: then
/// clocks have.
fn changed(records: &[UndoRecord]) -> Option<BTreeSet<String>> {
    let is_bare = |record: &UndoRecord| record.old.as_ref().is_none_or(|old| old.get() == "{}");
    match records.iter().any(is_bare) {
        true => None,
        false => sync_core::log::changed_columns(records),
    }
}
