//! Finds the sets that a changed row may concern, as the index of shapes does for shapes.

use std::collections::{BTreeSet, HashMap};

use filter::{Access, RowReader, Scalar, Set};

use crate::log::{NetChange, Subject};
use crate::undo::RowVersions;

/// Sets by their tables.
#[derive(Debug, Default)]
pub(super) struct SetIndex {
    tables: HashMap<Box<str>, HashMap<Box<str>, TableSets>>,
}

/// The sets that are made of rows of one table, at one fingerprint.
#[derive(Debug)]
struct TableSets {
    all: BTreeSet<Set>,
    /// By the position of a column, then the value that all of a set's rows hold there.
    keyed: HashMap<usize, HashMap<Scalar, BTreeSet<Set>>>,
    /// Those that any row may concern.
    unkeyed: BTreeSet<Set>,
    reader: RowReader,
}

impl SetIndex {
    pub(super) fn insert(&mut self, set: &Set) {
        let rows = set.rows();
        let tables = self.tables.entry(set.entity().into()).or_default();
        let table = tables
            .entry((*rows.fingerprint).into())
            .or_insert_with(|| TableSets {
                all: BTreeSet::new(),
                keyed: HashMap::new(),
                unkeyed: BTreeSet::new(),
                reader: RowReader::new(rows.table(), []),
            });
        table.insert(set);
    }

    pub(super) fn remove(&mut self, set: &Set) {
        let Some(tables) = self.tables.get_mut(set.entity()) else {
            return;
        };
        if let Some(table) = tables.get_mut(&*set.rows().fingerprint) {
            table.remove(set);
            if table.all.is_empty() {
                tables.remove(&*set.rows().fingerprint);
            }
        }
        if tables.is_empty() {
            self.tables.remove(set.entity());
        }
    }

    /// The sets that an entry may concern.
    pub(super) fn find(&self, entry: &NetChange) -> BTreeSet<&Set> {
        let tables = self.tables.get(&*entry.entity).into_iter();
        let tables = tables.flat_map(HashMap::values);
        tables.flat_map(|table| table.find(entry)).collect()
    }
}

impl TableSets {
    fn insert(&mut self, set: &Set) {
        if !self.all.insert(set.clone()) {
            return;
        }
        match keys(set) {
            Some(keys) => {
                for (column, value) in keys {
                    let values = self.keyed.entry(column).or_default();
                    values.entry(value).or_default().insert(set.clone());
                }
            }
            None => {
                self.unkeyed.insert(set.clone());
            }
        }
        self.read_keys(set);
    }

    fn remove(&mut self, set: &Set) {
        self.all.remove(set);
        self.unkeyed.remove(set);
        for (column, value) in keys(set).into_iter().flatten() {
            let Some(values) = self.keyed.get_mut(&column) else {
                continue;
            };
            if let Some(sets) = values.get_mut(&value) {
                sets.remove(set);
                if sets.is_empty() {
                    values.remove(&value);
                }
            }
            if values.is_empty() {
                self.keyed.remove(&column);
                self.read_keys(set);
            }
        }
    }

    fn read_keys(&mut self, set: &Set) {
        self.reader = RowReader::new(set.rows().table(), self.keyed.keys().copied());
    }

    fn find(&self, entry: &NetChange) -> BTreeSet<&Set> {
        let all = || self.all.iter().collect();
        if !matches!(entry.subject(), Subject::Row(_)) {
            return match entry.subject() {
                Subject::Nothing => BTreeSet::new(),
                _ => all(),
            };
        }
        let (row, undo) = (entry.row.as_deref(), entry.undo.as_deref());
        let Ok(versions) = RowVersions::read(&self.reader, row, undo) else {
            return all();
        };
        if !versions.has_past() {
            return all();
        }
        let mut found: BTreeSet<&Set> = self.unkeyed.iter().collect();
        for (column, values) in &self.keyed {
            for scalar in versions.all().filter_map(|row| row.scalar(*column)) {
                found.extend(values.get(scalar).into_iter().flatten());
            }
        }
        found
    }
}

/// Keys of which each of the set's rows holds one; none when there are no such keys.
fn keys(set: &Set) -> Option<BTreeSet<(usize, Scalar)>> {
    match set.rows().filter.access(|_| 0) {
        Access::Keys { keys, sets } if sets.is_empty() => Some(keys),
        Access::Keys { .. } | Access::None => None,
    }
}
