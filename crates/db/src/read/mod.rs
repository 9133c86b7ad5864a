//! Reads of the log and of tables, the same for both backends: queries, and the streams that answer them.

pub(crate) mod collect;
mod drain_snapshot;
pub mod inquiry;
pub(crate) mod sql;
mod stream;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use sync_core::cursor::Position;
use sync_core::shape::Shape;

pub use drain_snapshot::DrainSnapshots;
#[cfg(feature = "postgres")]
pub(crate) use drain_snapshot::Exported;
pub use inquiry::{Backfill, BackfillAnswers, Inquiring, QuestionTime};
pub use stream::{ChangeStream, ReadError, ReadStart, ReadStream, RowStream};
pub(crate) use stream::{Part, PartSender, collect, parts};

use crate::entity::{Entity, EntityMap};
use crate::error::{DbError, DbResult};
use crate::health::Unreadable;
use crate::sets;

/// A query for changes.
#[derive(Debug)]
pub struct ChangesQuery {
    /// Changes that this position does not contain.
    pub from: Position,
    /// The columns whose previous values to bring along.
    pub old_value_columns: OldValueColumns,
    /// The entities of whose rows to bring along what is known beside their values.
    pub metadata: BTreeSet<String>,
    /// Whether to compare the entities' fingerprints at the read's snapshot. Without that, a read that was
    /// made for the old table but whose snapshot already includes the schema change would never report it.
    pub checked: bool,
    /// For a client's resume: refuse it before the log is read when the log no longer reaches back to `from`, when it has
    /// more entries since than this, or when it has many more of the entities than their tables have rows.
    pub entries_max: Option<u64>,
    /// The entities whose changes are read; `None` for all that the read is given.
    pub entities: Option<BTreeSet<String>>,
    /// What else is asked at the read's snapshot, before the changes are returned. The rows that it says have moved
    /// follow them.
    pub inquiry: Option<Inquiring>,
    /// Where the read waits for the next drain, to read at its snapshot; none for a snapshot of its own.
    pub at_drain: Option<Arc<DrainSnapshots>>,
}

/// A resume over fewer entries of the log than this is never refused for its size.
pub(crate) const RESUME_ENTRIES_CHEAP: u64 = 10_000;

/// A resume over more entries for each row of the tables than this reads the rows instead. An entry costs about as much
/// as a row, but the client receives each changed row only once.
#[cfg(feature = "postgres")]
pub(crate) const RESUME_ENTRIES_PER_ROW: u64 = 4;

impl ChangesQuery {
    /// The entities among these whose changes are read.
    pub(crate) fn of<'a>(
        &self,
        entities: &'a BTreeMap<String, Arc<Entity>>,
    ) -> Cow<'a, BTreeMap<String, Arc<Entity>>> {
        match &self.entities {
            Some(names) => Cow::Owned(some_of(entities, names)),
            None => Cow::Borrowed(entities),
        }
    }

    /// The fingerprints for which the statement is generated; empty when they are not checked.
    pub(crate) fn expected(&self, entities: &BTreeMap<String, Arc<Entity>>) -> Fingerprints {
        if self.checked {
            fingerprints(entities.values())
        } else {
            Fingerprints::new()
        }
    }
}

/// The entities that have one of these names.
pub(crate) fn some_of(
    entities: &BTreeMap<String, Arc<Entity>>,
    names: &BTreeSet<String>,
) -> BTreeMap<String, Arc<Entity>> {
    let mut some = entities.clone();
    some.retain(|name, _| names.contains(name));
    some
}

/// The fingerprint of each entity's table.
pub(crate) type Fingerprints = BTreeMap<String, String>;

/// The fingerprints of the entities that have a table.
pub(crate) fn fingerprints<'a>(
    entities: impl IntoIterator<Item = &'a Arc<Entity>>,
) -> Fingerprints {
    let tables = entities
        .into_iter()
        .filter(|entity| entity.relation.is_some());
    tables
        .map(|entity| (entity.schema.entity.clone(), entity.fingerprint.clone()))
        .collect()
}

/// The columns whose previous values a read must bring along, by entity.
pub type OldValueColumns = BTreeMap<String, BTreeSet<String>>;

/// A query for rows of an entity.
#[derive(Debug, Clone)]
pub struct RowsQuery {
    /// The shape, which must have been resolved for the entity's table as it is now.
    pub shape: Shape,
    /// One page of its rows; `None` for all.
    pub page: Option<RowsPage>,
    /// The tables that the sets of its filter are made of.
    pub others: EntityMap,
    /// The groups that see nothing, whatever the database says: their readers are told so, too.
    pub denied: BTreeSet<Box<str>>,
    /// Where the read waits for the next drain, to read at its snapshot; none for a snapshot of its own.
    pub at_drain: Option<Arc<DrainSnapshots>>,
}

/// A page of rows, ordered by the bytes of their keys.
#[derive(Debug, Clone)]
pub struct RowsPage {
    /// The page begins after this key.
    pub after_key: Option<String>,
    /// The maximum number of rows.
    pub limit: usize,
}

impl RowsQuery {
    /// All rows of a shape.
    pub fn all(shape: Shape, others: EntityMap) -> Self {
        Self {
            shape,
            page: None,
            others,
            denied: BTreeSet::new(),
            at_drain: None,
        }
    }

    /// The shape's entity and those of its sets, whose tables the read relies on.
    ///
    /// # Errors
    /// The name of one whose table is missing, or is not the one for which the shape was resolved.
    pub(crate) fn relies_on(&self, entity: &Arc<Entity>) -> Result<Vec<Arc<Entity>>, String> {
        let mut entities = vec![entity.clone()];
        if let Some(selection) = self.shape.selection() {
            entities.extend(sets::entities_of(selection.filter(), &self.others)?);
        }
        Ok(entities)
    }
}

/// Parses a position as the database writes it: a snapshot, or a log id.
pub(crate) fn position(text: &str) -> DbResult<Position> {
    let tagged = if text.contains(':') {
        format!("p{text}")
    } else {
        format!("s{text}")
    };
    tagged.parse().map_err(|error| unreadable(&error))
}

/// What a statement returns in place of a row that is too large; no row's JSON begins with it.
pub(crate) const TOO_LARGE: &str = "!too_large";

/// What a statement returns in place of a row that is to be read by itself, in the same transaction.
#[cfg(feature = "sqlite")]
pub(crate) const ALONE: &str = "?";

/// Why the text that stands for a row is none; no reason for a row's JSON.
pub(crate) fn reason_in_place_of_row(text: &str) -> Option<Unreadable> {
    match text.strip_prefix('!')? {
        "too_large" => Some(Unreadable::TooLarge),
        _ => Some(Unreadable::Failing),
    }
}

/// The entities of a read that are missing, so that their rows are left out.
pub(crate) fn missing(entities: &BTreeMap<String, Arc<Entity>>) -> impl Iterator<Item = &String> {
    entities
        .iter()
        .filter(|(_, entity)| entity.is_missing())
        .map(|(name, _)| name)
}

/// Takes a text that the database generated as JSON.
pub(crate) fn raw(text: String) -> DbResult<Box<RawValue>> {
    RawValue::from_string(text).map_err(|error| unreadable(&error))
}

/// The error for a value that cannot be decoded.
pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> DbError {
    DbError::Statement {
        context: "decoding the log",
        message: error.to_string(),
    }
}
