//! Finds the sets that a changed row may concern, as the index of shapes does for shapes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use filter::{Access, RowReader, RowValues, Scalar, Set};

use super::known::{Family, Known, family};
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
    /// By columns, then the set in which all of a set's rows have their values.
    members: HashMap<(Vec<usize>, Family), HashMap<Set, BTreeSet<Set>>>,
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
                members: HashMap::new(),
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

    /// The sets that an entry may concern, where those inside them are known as they were before it. What concerns a set
    /// because one inside it changes is not among them.
    pub(super) fn find(&self, entry: &NetChange, known: &Known) -> BTreeSet<&Set> {
        let tables = self.tables.get(&*entry.entity).into_iter();
        let tables = tables.flat_map(HashMap::values);
        tables.flat_map(|table| table.find(entry, known)).collect()
    }
}

impl TableSets {
    fn insert(&mut self, set: &Set) {
        if !self.all.insert(set.clone()) {
            return;
        }
        match set.rows().filter.access(|_| 0) {
            Access::Keys { keys, sets } => {
                for (column, value) in keys {
                    let values = self.keyed.entry(column).or_default();
                    values.entry(value).or_default().insert(set.clone());
                }
                for (columns, inner) in sets {
                    let members = self.members.entry((columns, family(&inner))).or_default();
                    members.entry(inner).or_default().insert(set.clone());
                }
            }
            Access::None => {
                self.unkeyed.insert(set.clone());
            }
        }
        self.read_keys(set);
    }

    fn remove(&mut self, set: &Set) {
        self.all.remove(set);
        self.unkeyed.remove(set);
        let Access::Keys { keys, sets } = set.rows().filter.access(|_| 0) else {
            return;
        };
        for (column, value) in keys {
            forget(&mut self.keyed, &column, &value, set);
        }
        for (columns, inner) in sets {
            let family = family(&inner);
            forget(&mut self.members, &(columns, family), &inner, set);
        }
        self.read_keys(set);
    }

    fn read_keys(&mut self, set: &Set) {
        let members = self.members.keys().flat_map(|(columns, _)| columns);
        let columns = self.keyed.keys().chain(members).copied();
        self.reader = RowReader::new(set.rows().table(), columns);
    }

    fn find(&self, entry: &NetChange, known: &Known) -> BTreeSet<&Set> {
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
        for ((columns, family), by_set) in &self.members {
            let values = |row: &RowValues| -> Option<Vec<Scalar>> {
                let values = columns.iter().map(|column| row.scalar(*column));
                values.map(Option::<&Scalar>::cloned).collect()
            };
            let held: HashSet<Vec<Scalar>> = versions.all().filter_map(values).collect();
            for values in &held {
                let values: Vec<&Scalar> = values.iter().collect();
                for inner in known.holders(family, &values) {
                    found.extend(by_set.get(inner).into_iter().flatten());
                }
            }
        }
        found
    }
}

/// Takes a set from what it is filed under.
fn forget<K: Eq + Hash, V: Eq + Hash>(
    filed: &mut HashMap<K, HashMap<V, BTreeSet<Set>>>,
    place: &K,
    value: &V,
    set: &Set,
) {
    let Some(values) = filed.get_mut(place) else {
        return;
    };
    if let Some(sets) = values.get_mut(value) {
        sets.remove(set);
        if sets.is_empty() {
            values.remove(value);
        }
    }
    if values.is_empty() {
        filed.remove(place);
    }
}
