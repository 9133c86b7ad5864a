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

mod remembered;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use db::read::OldValueColumns;
use filter::{Access, AccessKey, RowError, RowReader, RowValues, Scalar, Set, SetsAtBoth};
use sync_core::log::{ChangeKind, NetChange};
use sync_core::membership::{Family, family};
use sync_core::shape::{RowEffect, Selection, Shape};
use sync_core::undo::RowVersions;

use super::audience::ShapeCounters;
use super::budget::Budget;
use super::sets::SetContext;
use remembered::Remembered;

/// From here on, the cost of a filter depends on the row's length.
const LARGE_ROW_BYTES: usize = 4096;

/// All attached shapes.
#[derive(Debug, Default)]
pub(super) struct ShapeIndex {
    entities: HashMap<Box<str>, EntityShapes>,
    old_value_columns: Arc<OldValueColumns>,
    /// The entities with a shape whose readers are sent metadata.
    metadata_entities: Arc<BTreeSet<String>>,
}

/// The shapes of one entity.
#[derive(Debug, Default)]
struct EntityShapes {
    /// Whether the shape of all rows is attached.
    whole: bool,
    /// The other shapes, by the table's fingerprint; there is more than one just after a schema change.
    versions: BTreeMap<Box<str>, VersionShapes>,
}

/// The shapes with a selection, made for one fingerprint of a table.
#[derive(Debug)]
struct VersionShapes {
    shapes: HashMap<Shape, Indexed>,
    /// Shapes by access key: the position of a column, then its value.
    keyed: HashMap<usize, HashMap<Scalar, HashSet<Shape>>>,
    /// Shapes by the sets that hold every matching row's values in some columns.
    members: HashMap<(Vec<usize>, Family), HashMap<Set, HashSet<Shape>>>,
    /// Shapes without access keys, which are evaluated for each change.
    unkeyed: HashSet<Shape>,
    /// The comparisons that those take together, apart from the length of texts.
    unkeyed_work: usize,
    /// How many of the shapes have readers that are sent metadata.
    with_metadata: usize,
    /// The columns that filters look at, by position.
    columns: BTreeMap<usize, Column>,
    /// Reads those columns.
    reader: RowReader,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// The shapes whose filters look at it.
    shapes: HashSet<Shape>,
}

#[derive(Debug)]
struct Indexed {
    stats: Arc<ShapeCounters>,
    access: Access,
}

/// What a changed row means for the shapes with a selection.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) effects: Vec<(Shape, RowEffect)>,
    /// Shapes that could not read the row: the table is no longer the one that they were made for.
    pub(super) outdated: Vec<Shape>,
    /// Shapes that the row may have left, to whose clients it would tell the row's key if they never had it: they were
    /// attached after the drain had begun, so it did not bring along what they look at; or they are guarded, and what the
    /// row was is not known.
    pub(super) unclear: Vec<Shape>,
    pub(super) evaluations: u64,
}

/// What rows that sets have moved mean for the shapes at which one looks one after another.
#[derive(Debug, Default)]
pub(super) struct FoundMoved {
    /// For each shape the places of rows, in ascending order, with what they mean.
    pub(super) effects: Vec<(Shape, Vec<(usize, RowEffect)>)>,
    /// As in [`Found`].
    pub(super) outdated: Vec<Shape>,
    /// As in [`Found`].
    pub(super) unclear: Vec<Shape>,
    pub(super) evaluations: u64,
}

/// A row as it is and was.
struct Versions<'a> {
    all: RowVersions,
    /// Shapes that the past was not read for.
    late: HashSet<&'a Shape>,
    /// For those.
    without_past: Option<RowVersions>,
}

/// A shape, with all that is the same for each row.
struct Evaluating<'a> {
    shape: &'a Shape,
    selection: &'a Selection,
    stats: &'a ShapeCounters,
    sessions: usize,
    is_touched: bool,
    sets: SetsAtBoth<'a>,
}

enum Evaluation {
    Effect(RowEffect),
    Unclear,
}

impl Evaluating<'_> {
    /// Returns what a row means, if the budget admits the question and the shape's readers must know.
    fn evaluate(
        &self,
        versions: &Versions<'_>,
        budget: &mut Budget,
        evaluations: &mut u64,
    ) -> Option<Evaluation> {
        let (shape, selection) = (self.shape, self.selection);
        let is_late = !versions.late.is_empty() && versions.late.contains(shape);
        let versions = match &versions.without_past {
            Some(without_past) if is_late => without_past,
            _ => &versions.all,
        };
        if !budget.admits(shape, selection.work(versions), self.sessions) {
            return None;
        }
        *evaluations += 1;
        self.stats.evaluated();
        let sets = self.sets;
        let effect = match self.is_touched {
            true => selection.effect_of_sets(versions, sets),
            false => selection.effect(versions, sets),
        }?;
        let is_unclear = !effect.op.is_here() && (is_late || selection.is_unclear(versions, sets));
        Some(match is_unclear {
            true => Evaluation::Unclear,
            false => Evaluation::Effect(effect),
        })
    }
}

impl ShapeIndex {
    /// Adds a shape.
    pub(super) fn attach(&mut self, shape: &Shape, stats: Arc<ShapeCounters>) {
        if !self.entities.contains_key(shape.entity()) {
            self.entities
                .insert(shape.entity().into(), EntityShapes::default());
        }
        let Some(entity) = self.entities.get_mut(shape.entity()) else {
            return;
        };
        let columns_changed = match shape.selection() {
            None => {
                entity.whole = true;
                false
            }
            Some(selection) => {
                let version = entity
                    .versions
                    .entry(selection.fingerprint().into())
                    .or_insert_with(|| VersionShapes::new(selection));
                version.attach(shape, selection, stats)
            }
        };
        if columns_changed {
            self.update_old_value_columns(shape.entity());
        }
        if shape.has_metadata() {
            self.update_metadata_entities(shape.entity());
        }
    }

    /// Removes a shape.
    pub(super) fn detach(&mut self, shape: &Shape) {
        let Some(entity) = self.entities.get_mut(shape.entity()) else {
            return;
        };
        let mut columns_changed = false;
        match shape.selection() {
            None => entity.whole = false,
            Some(selection) => {
                if let Some(version) = entity.versions.get_mut(selection.fingerprint()) {
                    columns_changed = version.detach(shape, selection);
                    if version.shapes.is_empty() {
                        entity.versions.remove(selection.fingerprint());
                        columns_changed = true;
                    }
                }
            }
        }
        if !entity.whole && entity.versions.is_empty() {
            self.entities.remove(shape.entity());
        }
        if columns_changed {
            self.update_old_value_columns(shape.entity());
        }
        if shape.has_metadata() {
            self.update_metadata_entities(shape.entity());
        }
    }

    fn update_metadata_entities(&mut self, name: &str) {
        let entity = self.entities.get(name).into_iter();
        let mut versions = entity.flat_map(|entity| entity.versions.values());
        let is_asked = versions.any(|version| version.with_metadata > 0);
        if is_asked == self.metadata_entities.contains(name) {
            return;
        }
        let mut names = (*self.metadata_entities).clone();
        match is_asked {
            true => names.insert(name.to_owned()),
            false => names.remove(name),
        };
        self.metadata_entities = Arc::new(names);
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

    /// The entities of whose changed rows the metadata is sent to somebody.
    pub(super) fn metadata_entities(&self) -> Arc<BTreeSet<String>> {
        self.metadata_entities.clone()
    }

    /// All shapes of an entity.
    pub(super) fn shapes_of(&self, name: &str) -> impl Iterator<Item = Shape> {
        let entity = self.entities.get(name);
        let whole = entity.filter(|entity| entity.whole);
        let versions = entity
            .into_iter()
            .flat_map(|entity| entity.versions.values());
        whole
            .map(|_| Shape::whole(name))
            .into_iter()
            .chain(versions.flat_map(|version| version.shapes.keys().cloned()))
    }

    /// Whether the shape of all rows of an entity is attached.
    pub(super) fn has_whole(&self, name: &str) -> bool {
        self.entities.get(name).is_some_and(|entity| entity.whole)
    }

    /// The comparisons that a changed row of this size takes, roughly.
    pub(super) fn work_on(&self, name: &str, row_bytes: usize) -> usize {
        let entity = self.entities.get(name);
        let versions = entity
            .into_iter()
            .flat_map(|entity| entity.versions.values());
        versions
            .map(|version| version.work_on(row_bytes))
            .fold(0, usize::saturating_add)
    }

    /// Returns what a changed row means for the shapes with a selection, as far as the budget goes. The entry's
    /// undo records have the previous values of `old_value_columns`.
    pub(super) fn find(
        &self,
        entry: &NetChange,
        old_value_columns: &OldValueColumns,
        sets: &SetContext<'_>,
        budget: &mut Budget,
    ) -> Found {
        let mut found = Found::default();
        if entry.kind == ChangeKind::Touched && sets.few_changed().is_some() {
            return found;
        }
        let Some(entity) = self.entities.get(&*entry.entity) else {
            return found;
        };
        for version in entity.versions.values() {
            if version
                .find(entry, old_value_columns, sets, budget, &mut found)
                .is_err()
            {
                found.outdated.extend(version.shapes.keys().cloned());
            }
        }
        found
    }

    /// Returns what rows of one entity that sets have moved mean for the shapes that [`Self::find`] leaves out for such
    /// rows: those without access keys, and all while few shapes have changed sets.
    pub(super) fn find_moved(
        &self,
        rows: &[NetChange],
        old_value_columns: &OldValueColumns,
        sets: &SetContext<'_>,
        budget: &mut Budget,
    ) -> FoundMoved {
        let mut found = FoundMoved::default();
        let entity = rows.first().and_then(|row| self.entities.get(&*row.entity));
        let versions = entity.into_iter().flat_map(|it| it.versions.values());
        for version in versions {
            let read = version.find_moved(rows, old_value_columns, sets, budget, &mut found);
            if read.is_err() {
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
            members: HashMap::new(),
            unkeyed: HashSet::new(),
            unkeyed_work: 0,
            with_metadata: 0,
            columns: BTreeMap::new(),
            reader: RowReader::new(selection.table(), []),
        }
    }

    /// Returns whether this is the first shape, or its filter needs a column that no other does.
    fn attach(&mut self, shape: &Shape, selection: &Selection, stats: Arc<ShapeCounters>) -> bool {
        if let Some(indexed) = self.shapes.get_mut(shape) {
            indexed.stats = stats;
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
                self.unkeyed_work += selection.filter().work().base();
            }
            Access::Keys { keys, sets } => {
                for (columns, set) in sets {
                    let of_columns = (columns.clone(), family(set));
                    let by_set = self.members.entry(of_columns).or_default();
                    by_set.entry(set.clone()).or_default().insert(shape.clone());
                }
                for (column, value) in keys {
                    let values = self.keyed.entry(*column).or_default();
                    values
                        .entry(value.clone())
                        .or_default()
                        .insert(shape.clone());
                }
            }
        }
        self.with_metadata += usize::from(selection.has_metadata());
        let mut has_new_column = false;
        for column in selection.evaluated_columns() {
            let column = self.columns.entry(column).or_insert_with(|| Column {
                name: selection.table().schema.columns[column].name.clone(),
                shapes: HashSet::new(),
            });
            has_new_column |= column.shapes.is_empty();
            column.shapes.insert(shape.clone());
        }
        if has_new_column {
            self.reader = RowReader::new(selection.table(), self.columns.keys().copied());
        }
        self.shapes.insert(shape.clone(), Indexed { stats, access });
        is_first || has_new_column
    }

    /// Returns whether there is a column that no filter needs any more.
    fn detach(&mut self, shape: &Shape, selection: &Selection) -> bool {
        let Some(Indexed { access, .. }) = self.shapes.remove(shape) else {
            return false;
        };
        self.with_metadata -= usize::from(selection.has_metadata());
        if let Access::Keys { keys, sets } = access {
            keys.iter().for_each(|key| self.forget(key, shape));
            sets.iter().for_each(|key| self.forget_member(key, shape));
        }
        if self.unkeyed.remove(shape) {
            self.unkeyed_work -= selection.filter().work().base();
        }
        let mut has_unused_column = false;
        for position in selection.evaluated_columns() {
            if let Some(column) = self.columns.get_mut(&position) {
                column.shapes.remove(shape);
                if column.shapes.is_empty() {
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

    fn forget_member(&mut self, (columns, set): &(Vec<usize>, Set), shape: &Shape) {
        let of_columns = (columns.clone(), family(set));
        let Some(by_set) = self.members.get_mut(&of_columns) else {
            return;
        };
        if let Some(shapes) = by_set.get_mut(set) {
            shapes.remove(shape);
            if shapes.is_empty() {
                by_set.remove(set);
            }
        }
        if by_set.is_empty() {
            self.members.remove(&of_columns);
        }
    }

    fn work_on(&self, row_bytes: usize) -> usize {
        if row_bytes < LARGE_ROW_BYTES {
            return self.unkeyed_work;
        }
        // Those with access keys too: they may be found.
        let filters = self.shapes.keys().filter_map(Shape::selection);
        filters
            .map(|selection| selection.filter().work().on_bytes(row_bytes))
            .fold(0, usize::saturating_add)
    }

    /// The names of the columns that filters look at.
    fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.values().map(|column| column.name.as_str())
    }

    fn find(
        &self,
        entry: &NetChange,
        old_value_columns: &OldValueColumns,
        sets: &SetContext<'_>,
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<(), RowError> {
        let late = self.late(old_value_columns.get(&entry.entity));
        let versions = self.versions(entry, late)?;
        let is_keyed = |shape: &&Shape| !self.unkeyed.contains(*shape);
        let mut candidates: HashSet<&Shape> = if versions.all.has_past() {
            self.keyed_candidates(&versions.all, sets)
        } else {
            self.shapes.keys().filter(is_keyed).collect()
        };
        candidates.extend(versions.late.iter().copied().filter(is_keyed));
        // Rows that sets have moved come many at once, and are looked at shape by shape.
        let is_touched = entry.kind == ChangeKind::Touched;
        let unkeyed = self.unkeyed.iter().filter(|_| !is_touched);
        for shape in unkeyed.chain(candidates) {
            if is_touched && !sets.has_changed(shape) {
                continue;
            }
            if let Some(evaluating) = self.evaluating(shape, is_touched, sets.at_both()) {
                match evaluating.evaluate(&versions, budget, &mut found.evaluations) {
                    Some(Evaluation::Effect(effect)) => found.effects.push((shape.clone(), effect)),
                    Some(Evaluation::Unclear) => found.unclear.push(shape.clone()),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// What rows that sets have moved mean, for one shape after another.
    fn find_moved(
        &self,
        rows: &[NetChange],
        old_value_columns: &OldValueColumns,
        sets: &SetContext<'_>,
        budget: &mut Budget,
        found: &mut FoundMoved,
    ) -> Result<(), RowError> {
        let mut all: Vec<Versions<'_>> = Vec::with_capacity(rows.len());
        for row in rows {
            let late = self.late(old_value_columns.get(&row.entity));
            all.push(self.versions(row, late)?);
        }
        let SetsAtBoth { before, now } = sets.at_both();
        let (before, now) = (Remembered::of(before), Remembered::of(now));
        let at_both = SetsAtBoth {
            before: &before,
            now: &now,
        };
        let few = sets.few_changed();
        let unkeyed = self.unkeyed.iter().filter(|_| few.is_none());
        let unkeyed = unkeyed.filter(|shape| sets.has_changed(shape));
        for shape in few.into_iter().flatten().chain(unkeyed) {
            let Some(evaluating) = self.evaluating(shape, true, at_both) else {
                continue;
            };
            let mut effects = Vec::with_capacity(rows.len());
            for (place, versions) in all.iter().enumerate() {
                match evaluating.evaluate(versions, budget, &mut found.evaluations) {
                    Some(Evaluation::Effect(effect)) => effects.push((place, effect)),
                    Some(Evaluation::Unclear) => found.unclear.push(shape.clone()),
                    None => {}
                }
            }
            if !effects.is_empty() {
                found.effects.push((shape.clone(), effects));
            }
        }
        Ok(())
    }

    /// Reads a row, without its past for `late` shapes.
    fn versions<'a>(
        &self,
        entry: &NetChange,
        late: HashSet<&'a Shape>,
    ) -> Result<Versions<'a>, RowError> {
        let row = entry.row.as_deref();
        let without_past = match late.is_empty() {
            true => None,
            false => Some(RowVersions::read(&self.reader, row, None)?),
        };
        Ok(Versions {
            all: RowVersions::read(&self.reader, row, entry.undo.as_deref())?,
            late,
            without_past,
        })
    }

    fn evaluating<'a>(
        &'a self,
        shape: &'a Shape,
        is_touched: bool,
        sets: SetsAtBoth<'a>,
    ) -> Option<Evaluating<'a>> {
        let stats = &self.shapes.get(shape)?.stats;
        Some(Evaluating {
            shape,
            selection: shape.selection()?,
            stats,
            sessions: stats.stats().sessions,
            is_touched,
            sets,
        })
    }

    /// The shapes that were attached after the drain had begun, and look at columns whose previous values it
    /// did not bring along.
    fn late(&self, known: Option<&BTreeSet<String>>) -> HashSet<&Shape> {
        let is_unknown =
            |column: &&Column| !known.is_some_and(|known| known.contains(&column.name));
        let columns = self.columns.values().filter(is_unknown);
        columns.flat_map(|column| &column.shapes).collect()
    }

    /// The shapes with access keys that a version of the row may concern.
    fn keyed_candidates(&self, versions: &RowVersions, sets: &SetContext<'_>) -> HashSet<&Shape> {
        let mut candidates = HashSet::new();
        for ((columns, family), by_set) in &self.members {
            let values = |row: &'_ RowValues| -> Option<Vec<Scalar>> {
                columns
                    .iter()
                    .map(|column| row.scalar(*column).cloned())
                    .collect()
            };
            let held: HashSet<Vec<Scalar>> = versions.all().filter_map(values).collect();
            for values in &held {
                let values: Vec<&Scalar> = values.iter().collect();
                for set in sets.holders(family, &values) {
                    candidates.extend(by_set.get(set).into_iter().flatten());
                }
            }
        }
        for (column, values) in &self.keyed {
            for scalar in versions.all().filter_map(|row| row.scalar(*column)) {
                candidates.extend(values.get(scalar).into_iter().flatten());
            }
        }
        candidates
    }
}

#[cfg(test)]
mod tests;
