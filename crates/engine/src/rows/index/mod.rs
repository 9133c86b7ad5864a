//! Finds the shapes that a change may concern, without evaluating the others.
//!
//! Shapes of one table are filed under the access keys of their filters ([`Access`]). Shapes whose filters
//! have none are evaluated for each change, once however many sessions share them.
//!
//! Invariants:
//! 1. A change means nothing for a shape that is not evaluated: no version of the row holds one of its access
//!    keys.
//! 2. Adding or removing a shape takes time proportional to the number of its access keys, whatever else the
//!    index holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use db::read::OldValueColumns;
use filter::{Access, AccessKey, RowError, RowReader, Scalar};
use sync_core::log::NetChange;
use sync_core::shape::{RowEffect, Selection, Shape};
use sync_core::undo::RowVersions;

use crate::mailbox::SessionId;

/// All attached shapes.
#[derive(Debug, Default)]
pub(super) struct ShapeIndex {
    entities: HashMap<Box<str>, EntityShapes>,
    old_value_columns: Arc<OldValueColumns>,
}

/// The shapes of one entity.
#[derive(Debug, Default)]
struct EntityShapes {
    /// The shape of all rows.
    whole: Option<Audience>,
    /// The other shapes, by the table's fingerprint; there is more than one just after a schema change.
    versions: BTreeMap<Box<str>, VersionShapes>,
}

/// The shapes with a selection, made for one fingerprint of a table.
#[derive(Debug)]
struct VersionShapes {
    shapes: HashMap<Shape, Indexed>,
    /// Shapes by access key: the position of a column, then its value.
    keyed: HashMap<usize, HashMap<Scalar, HashSet<Shape>>>,
    /// Shapes without access keys, which are evaluated for each change.
    unkeyed: HashSet<Shape>,
    /// The columns that filters look at, by position.
    columns: BTreeMap<usize, Column>,
    /// Reads those columns.
    reader: RowReader,
}

#[derive(Debug)]
struct Column {
    name: String,
    filters: usize,
}

#[derive(Debug)]
struct Indexed {
    audience: Audience,
    access: Access,
}

/// The sessions that have a shape, and what it has cost so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Audience {
    pub(super) sessions: HashSet<SessionId>,
    pub(super) stats: ShapeStats,
}

/// What a shape has cost.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ShapeStats {
    /// Changed rows that its filter was evaluated for.
    pub(crate) evaluations: u64,
    /// Changes that its audience received.
    pub(crate) changes: u64,
    /// Their size as JSON, in bytes, written once for the whole audience.
    pub(crate) bytes: u64,
}

/// What a changed row means for the shapes with a selection.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) effects: Vec<(Shape, RowEffect)>,
    /// Shapes that could not read the row: the table is no longer the one that they were made for.
    pub(super) outdated: Vec<Shape>,
    pub(super) evaluations: u64,
}

impl ShapeIndex {
    /// Adds a session to a shape.
    pub(super) fn attach(&mut self, shape: &Shape, session: SessionId) {
        if !self.entities.contains_key(shape.entity()) {
            self.entities
                .insert(shape.entity().into(), EntityShapes::default());
        }
        let Some(entity) = self.entities.get_mut(shape.entity()) else {
            return;
        };
        let columns_changed = match shape.selection() {
            None => {
                let whole = entity.whole.get_or_insert_default();
                whole.sessions.insert(session);
                false
            }
            Some(selection) => {
                let version = entity
                    .versions
                    .entry(selection.fingerprint().into())
                    .or_insert_with(|| VersionShapes::new(selection));
                version.attach(shape, selection, session)
            }
        };
        if columns_changed {
            self.update_old_value_columns(shape.entity());
        }
    }

    /// Removes a session from a shape.
    pub(super) fn detach(&mut self, shape: &Shape, session: SessionId) {
        let Some(entity) = self.entities.get_mut(shape.entity()) else {
            return;
        };
        let mut columns_changed = false;
        match shape.selection() {
            None => {
                if let Some(whole) = &mut entity.whole {
                    whole.sessions.remove(&session);
                }
                entity.whole = entity
                    .whole
                    .take()
                    .filter(|whole| !whole.sessions.is_empty());
            }
            Some(selection) => {
                if let Some(version) = entity.versions.get_mut(selection.fingerprint()) {
                    columns_changed = version.detach(shape, selection, session);
                    if version.shapes.is_empty() {
                        entity.versions.remove(selection.fingerprint());
                        columns_changed = true;
                    }
                }
            }
        }
        if entity.whole.is_none() && entity.versions.is_empty() {
            self.entities.remove(shape.entity());
        }
        if columns_changed {
            self.update_old_value_columns(shape.entity());
        }
    }

    fn update_old_value_columns(&mut self, name: &str) {
        let mut old_value_columns = (*self.old_value_columns).clone();
        old_value_columns.remove(name);
        if let Some(entity) = self.entities.get(name)
            && !entity.versions.is_empty()
        {
            let columns = entity
                .versions
                .values()
                .flat_map(VersionShapes::column_names);
            old_value_columns.insert(name.to_owned(), columns.map(str::to_owned).collect());
        }
        self.old_value_columns = Arc::new(old_value_columns);
    }

    /// The columns whose previous values the filters look at.
    pub(super) fn old_value_columns(&self) -> Arc<OldValueColumns> {
        self.old_value_columns.clone()
    }

    /// The audience of a shape.
    pub(super) fn audience(&self, shape: &Shape) -> Option<&Audience> {
        let entity = self.entities.get(shape.entity())?;
        match shape.selection() {
            None => entity.whole.as_ref(),
            Some(selection) => {
                let indexed = entity
                    .versions
                    .get(selection.fingerprint())?
                    .shapes
                    .get(shape)?;
                Some(&indexed.audience)
            }
        }
    }

    fn audience_mut(&mut self, shape: &Shape) -> Option<&mut Audience> {
        let entity = self.entities.get_mut(shape.entity())?;
        match shape.selection() {
            None => entity.whole.as_mut(),
            Some(selection) => {
                let version = entity.versions.get_mut(selection.fingerprint())?;
                Some(&mut version.shapes.get_mut(shape)?.audience)
            }
        }
    }

    /// Counts what a shape's audience receives.
    pub(super) fn count(&mut self, shape: &Shape, changes: usize, bytes: usize) {
        if let Some(audience) = self.audience_mut(shape) {
            audience.stats.changes += changes as u64;
            audience.stats.bytes += bytes as u64;
        }
    }

    /// All shapes of an entity.
    pub(super) fn shapes_of(&self, name: &str) -> impl Iterator<Item = (Shape, &Audience)> {
        let entity = self.entities.get(name);
        let whole = entity.and_then(|entity| entity.whole.as_ref());
        let versions = entity
            .into_iter()
            .flat_map(|entity| entity.versions.values());
        let selections = versions.flat_map(|version| &version.shapes);
        whole
            .map(|audience| (Shape::whole(name), audience))
            .into_iter()
            .chain(selections.map(|(shape, indexed)| (shape.clone(), &indexed.audience)))
    }

    /// The entities that have shapes.
    pub(super) fn entities(&self) -> impl Iterator<Item = &str> {
        self.entities.keys().map(|name| &**name)
    }

    /// How many shapes an entity has.
    pub(super) fn count_of(&self, name: &str) -> usize {
        self.entities.get(name).map_or(0, |entity| {
            let selections = entity.versions.values().map(|version| version.shapes.len());
            usize::from(entity.whole.is_some()) + selections.sum::<usize>()
        })
    }

    /// Whether a session has the shape of all rows of an entity.
    pub(super) fn has_whole(&self, name: &str) -> bool {
        self.entities
            .get(name)
            .is_some_and(|entity| entity.whole.is_some())
    }

    /// Returns what a changed row means for the shapes with a selection. The entry's undo records have the
    /// previous values of `old_value_columns`.
    pub(super) fn find(&mut self, entry: &NetChange, old_value_columns: &OldValueColumns) -> Found {
        let mut found = Found::default();
        let Some(entity) = self.entities.get_mut(&*entry.entity) else {
            return found;
        };
        for version in entity.versions.values_mut() {
            if version.find(entry, old_value_columns, &mut found).is_err() {
                found.outdated.extend(version.shapes.keys().cloned());
            }
        }
        found
    }
}

impl VersionShapes {
    fn new(selection: &Selection) -> Self {
        Self {
            shapes: HashMap::new(),
            keyed: HashMap::new(),
            unkeyed: HashSet::new(),
            columns: BTreeMap::new(),
            reader: RowReader::new(selection.table(), []),
        }
    }

    /// Returns whether this is the first shape, or its filter needs a column that no other does.
    fn attach(&mut self, shape: &Shape, selection: &Selection, session: SessionId) -> bool {
        if let Some(indexed) = self.shapes.get_mut(shape) {
            indexed.audience.sessions.insert(session);
            return false;
        }
        let is_first = self.shapes.is_empty();
        let load = |(column, value): &AccessKey| {
            let shapes = self.keyed.get(column).and_then(|values| values.get(value));
            shapes.map_or(0, HashSet::len)
        };
        let access = selection.filter().access(load);
        match &access {
            Access::None => {
                self.unkeyed.insert(shape.clone());
            }
            Access::Keys(keys) => {
                for (column, value) in keys {
                    let values = self.keyed.entry(*column).or_default();
                    values
                        .entry(value.clone())
                        .or_default()
                        .insert(shape.clone());
                }
            }
        }
        let mut has_new_column = false;
        for column in selection.filter().columns() {
            let column = self.columns.entry(column).or_insert_with(|| Column {
                name: selection.table().schema.columns[column].name.clone(),
                filters: 0,
            });
            has_new_column |= column.filters == 0;
            column.filters += 1;
        }
        if has_new_column {
            self.reader = RowReader::new(selection.table(), self.columns.keys().copied());
        }
        let mut audience = Audience::default();
        audience.sessions.insert(session);
        self.shapes
            .insert(shape.clone(), Indexed { audience, access });
        is_first || has_new_column
    }

    /// Returns whether there is a column that no filter needs any more.
    fn detach(&mut self, shape: &Shape, selection: &Selection, session: SessionId) -> bool {
        let Some(indexed) = self.shapes.get_mut(shape) else {
            return false;
        };
        indexed.audience.sessions.remove(&session);
        if !indexed.audience.sessions.is_empty() {
            return false;
        }
        if let Some(Indexed {
            access: Access::Keys(keys),
            ..
        }) = self.shapes.remove(shape)
        {
            keys.iter().for_each(|key| self.forget(key, shape));
        }
        self.unkeyed.remove(shape);
        let mut has_unused_column = false;
        for position in selection.filter().columns() {
            if let Some(column) = self.columns.get_mut(&position) {
                column.filters -= 1;
                if column.filters == 0 {
                    self.columns.remove(&position);
                    has_unused_column = true;
                }
            }
        }
        if has_unused_column {
            self.reader = RowReader::new(selection.table(), self.columns.keys().copied());
        }
        has_unused_column
    }

    fn forget(&mut self, (column, value): &AccessKey, shape: &Shape) {
        let Some(values) = self.keyed.get_mut(column) else {
            return;
        };
        if let Some(shapes) = values.get_mut(value) {
            shapes.remove(shape);
            if shapes.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.keyed.remove(column);
        }
    }

    /// The names of the columns that filters look at.
    fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.values().map(|column| column.name.as_str())
    }

    fn find(
        &mut self,
        entry: &NetChange,
        old_value_columns: &OldValueColumns,
        found: &mut Found,
    ) -> Result<(), RowError> {
        let row = entry.row.as_deref();
        let undo = entry.undo.as_deref();
        let versions = RowVersions::read(&self.reader, row, undo)?;
        let none = BTreeSet::new();
        let known = old_value_columns.get(&entry.entity).unwrap_or(&none);
        let is_known = |name: &str| known.contains(name);
        // Shapes attached after the drain may look at columns whose old values the entries lack.
        let late: HashSet<Shape> = if self.column_names().all(is_known) {
            HashSet::new()
        } else {
            let lacks_columns = |shape: &&Shape| {
                let selection = shape.selection();
                selection.is_some_and(|selection| !selection.filter_columns().all(is_known))
            };
            self.shapes.keys().filter(lacks_columns).cloned().collect()
        };
        let candidates: HashSet<Shape> = if versions.has_past() && late.is_empty() {
            self.candidates(&versions)
        } else {
            self.shapes.keys().cloned().collect()
        };
        let without_past = if late.is_empty() {
            None
        } else {
            Some(RowVersions::read(&self.reader, row, None)?)
        };
        for shape in candidates {
            let (Some(selection), Some(indexed)) = (shape.selection(), self.shapes.get_mut(&shape))
            else {
                continue;
            };
            let versions = match &without_past {
                Some(without_past) if late.contains(&shape) => without_past,
                _ => &versions,
            };
            found.evaluations += 1;
            indexed.audience.stats.evaluations += 1;
            if let Some(effect) = selection.effect(versions) {
                found.effects.push((shape, effect));
            }
        }
        Ok(())
    }

    /// The shapes that a version of the row may concern.
    fn candidates(&self, versions: &RowVersions) -> HashSet<Shape> {
        let mut candidates = self.unkeyed.clone();
        for (column, values) in &self.keyed {
            for scalar in versions.all().filter_map(|row| row.scalar(*column)) {
                candidates.extend(values.get(scalar).into_iter().flatten().cloned());
            }
        }
        candidates
    }
}

#[cfg(test)]
mod tests;
