//! Reads of the log and of tables, from both backends alike: what is asked for, and the streams that
//! bring it.

pub(crate) mod collect;
pub(crate) mod sql;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use sync_core::cursor::Position;
use sync_core::shape::Shape;

pub use stream::{ChangeStream, ReadError, ReadStart, ReadStream, RowStream};
pub(crate) use stream::{Part, PartSender};

use crate::entity::Entity;
use crate::error::{DbError, DbResult};

/// Which changes to read.
#[derive(Debug, Clone)]
pub struct ChangesQuery {
    /// Those that are not part of this.
    pub from: Position,
    /// The columns whose previous values to bring along.
    pub old_value_columns: OldValueColumns,
    /// Whether to look at what tables the entities have at the read's snapshot. A client that misses
    /// a change of its table, because its read was made for the old one and is as new as the new one,
    /// would never hear of it.
    pub checked: bool,
}

impl ChangesQuery {
    /// The tables that the statement is made for, where that matters.
    pub(crate) fn expected(&self, entities: &BTreeMap<String, Arc<Entity>>) -> Fingerprints {
        match self.checked {
            true => fingerprints(entities.values()),
            false => Fingerprints::new(),
        }
    }
}

/// The fingerprint of each entity's table.
pub(crate) type Fingerprints = BTreeMap<String, String>;

/// Those that the statement is made for.
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

/// The columns whose previous values somebody wants to know, for each entity.
pub type OldValueColumns = BTreeMap<String, BTreeSet<String>>;

/// Which rows of an entity to read.
#[derive(Debug, Clone)]
pub struct RowsQuery {
    /// Those of this shape, which must have been made for the entity as it is.
    pub shape: Shape,
    /// Some of them; none for all.
    pub page: Option<RowsPage>,
}

/// A page of rows, in the order of the bytes of their keys.
#[derive(Debug, Clone)]
pub struct RowsPage {
    /// Begin behind this key.
    pub after_key: Option<String>,
    /// No more than these.
    pub limit: usize,
}

impl RowsQuery {
    /// All rows of a shape.
    pub fn all(shape: Shape) -> Self {
        Self { shape, page: None }
    }
}

/// A position as the database keeps it: a snapshot, or a log id.
pub(crate) fn position(text: &str) -> DbResult<Position> {
    let tagged = if text.contains(':') {
        format!("p{text}")
    } else {
        format!("s{text}")
    };
    tagged.parse().map_err(|error| unreadable(&error))
}

/// JSON that the database has made.
pub(crate) fn raw(text: String) -> DbResult<Box<RawValue>> {
    RawValue::from_string(text).map_err(|error| unreadable(&error))
}

pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> DbError {
    DbError::Statement {
        context: "reading what the log holds",
        message: error.to_string(),
    }
}
