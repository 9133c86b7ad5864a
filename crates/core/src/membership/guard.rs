//! Guards with their values: which rows of a table concern a group.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use filter::{Backend, Cell, RowReader, Scalar, Table};
use value::schema::Schema;

use crate::log::{ChangeKind, NetChange};
use crate::undo::RowVersions;

/// The rows of a table that concern a group: those that have one of these values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityGuard {
    /// The table's columns.
    pub schema: Arc<Schema>,
    /// The columns that are looked at, by position.
    pub columns: BTreeSet<usize>,
    /// The values, each with its column.
    pub values: Vec<(usize, Scalar)>,
}

impl EntityGuard {
    /// Whether one of these changes may concern the group.
    pub(super) fn is_concerned<'a>(
        &self,
        mut entries: impl Iterator<Item = &'a NetChange>,
    ) -> bool {
        let table = Table::new(&self.schema, Backend::Postgres);
        let readers = self.columns.iter().map(|column| {
            let values = self.values.iter().filter(|(of, _)| of == column);
            let values: BTreeSet<&Scalar> = values.map(|(_, value)| value).collect();
            (*column, RowReader::new(table, [*column]), values)
        });
        let readers: Vec<_> = readers.collect();
        entries.any(|entry| {
            let mut columns = readers.iter();
            !is_of_row(entry)
                || columns.any(|(column, reader, values)| {
                    held(reader, *column, entry)
                        .is_none_or(|held| held.iter().any(|value| values.contains(value)))
                })
        })
    }
}

/// Whether a change is of a single row, and not of what is not known.
fn is_of_row(entry: &NetChange) -> bool {
    let kinds = [ChangeKind::Create, ChangeKind::Update, ChangeKind::Delete];
    kinds.contains(&entry.kind) && entry.key.is_some() && entry.truncated_at.is_none()
}

/// The values that a changed row has in a column, and has had. None when that is not known.
fn held(reader: &RowReader, column: usize, entry: &NetChange) -> Option<BTreeSet<Scalar>> {
    let (row, undo) = (entry.row.as_deref(), entry.undo.as_deref());
    let versions = RowVersions::read(reader, row, undo).ok()?;
    if !versions.has_past() {
        return None;
    }
    let mut held = BTreeSet::new();
    for row in versions.all() {
        match row.cell(column) {
            Cell::Value(value) => drop(held.insert(value.clone())),
            Cell::Foreign | Cell::Unread => return None,
            Cell::Null => {}
        }
    }
    Some(held)
}

/// The groups that read a table, by what of it concerns them. A change finds them without a look at all.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// Those that any row concerns.
    of_any_row: BTreeSet<Box<str>>,
    guarded: BTreeSet<Box<str>>,
    columns: HashMap<Box<str>, ColumnReaders>,
}

/// Those that a row concerns by its value in a column.
#[derive(Debug)]
struct ColumnReaders {
    position: usize,
    reader: RowReader,
    groups: HashMap<Scalar, BTreeSet<Box<str>>>,
}

/// Whom changes of a table concern.
#[derive(Debug, Default)]
pub(super) struct Concerned<'a> {
    /// Every group that reads the table: it is not known what has changed.
    pub(super) is_everybody: bool,
    /// Groups with guards, each with the changes.
    pub(super) guarded: HashMap<&'a str, Vec<&'a NetChange>>,
}

impl Readers {
    pub(super) fn insert(&mut self, group: &str, guard: Option<&EntityGuard>) {
        let Some(guard) = guard else {
            self.of_any_row.insert(group.into());
            return;
        };
        self.guarded.insert(group.into());
        for (column, value) in &guard.values {
            let name = &guard.schema.columns[*column].name;
            let readers = self.columns.entry(name.as_str().into());
            let readers = readers.or_insert_with(|| {
                let table = Table::new(&guard.schema, Backend::Postgres);
                ColumnReaders {
                    position: *column,
                    reader: RowReader::new(table, [*column]),
                    groups: HashMap::new(),
                }
            });
            let of_value = readers.groups.entry(value.clone()).or_default();
            of_value.insert(group.into());
        }
    }

    pub(super) fn remove(&mut self, group: &str, guard: Option<&EntityGuard>) {
        let Some(guard) = guard else {
            self.of_any_row.remove(group);
            return;
        };
        self.guarded.remove(group);
        for (column, value) in &guard.values {
            let name = guard.schema.columns[*column].name.as_str();
            let Some(readers) = self.columns.get_mut(name) else {
                continue;
            };
            if let Some(of_value) = readers.groups.get_mut(value) {
                of_value.remove(group);
                if of_value.is_empty() {
                    readers.groups.remove(value);
                }
            }
            if readers.groups.is_empty() {
                self.columns.remove(name);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of_any_row.is_empty() && self.guarded.is_empty()
    }

    /// Those that any row concerns.
    pub(super) fn of_any_row(&self) -> &BTreeSet<Box<str>> {
        &self.of_any_row
    }

    /// Those with guards.
    pub(super) fn guarded(&self) -> &BTreeSet<Box<str>> {
        &self.guarded
    }

    /// Whom these changes concern among those with guards.
    pub(super) fn concerned<'a>(&'a self, entries: &[&'a NetChange]) -> Concerned<'a> {
        let mut concerned = Concerned::default();
        if self.guarded.is_empty() {
            return concerned;
        }
        for entry in entries {
            let values = self.values(entry);
            let Some(values) = values else {
                return Concerned {
                    is_everybody: true,
                    ..Concerned::default()
                };
            };
            let groups = values.flat_map(|(readers, value)| readers.groups.get(&value));
            for group in groups.flatten().collect::<BTreeSet<_>>() {
                let of_group = concerned.guarded.entry(group).or_default();
                of_group.push(entry);
            }
        }
        concerned
    }

    /// The values that a row has and has had, with the readers of their columns. None when that is not known.
    fn values(&self, entry: &NetChange) -> Option<impl Iterator<Item = (&ColumnReaders, Scalar)>> {
        if !is_of_row(entry) {
            return None;
        }
        let mut values = Vec::new();
        for readers in self.columns.values() {
            let held = held(&readers.reader, readers.position, entry)?;
            values.extend(held.into_iter().map(|value| (readers, value)));
        }
        Some(values.into_iter())
    }
}
