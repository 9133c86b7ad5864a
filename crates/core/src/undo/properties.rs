//! The versions of a row, the entries that triggers log for them, and the versions undone from those.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use filter::Backend;
use filter::testing::{arbitrary, raw, test_table};
use value::schema::Schema;

use super::*;

/// A row's columns, each with its JSON.
pub(crate) type Members = BTreeMap<String, Box<RawValue>>;

/// What happens to a row next.
#[derive(Debug, Clone)]
enum Next {
    /// Some columns change; every second one is one that matters.
    Changes(Vec<(bool, prop::sample::Index)>),
    /// It is deleted.
    Deleted,
    /// It is again as it was before it last changed.
    Restored,
}

/// What happens to a row over time.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    /// Whether the row exists in the beginning.
    exists: bool,
    /// What happens, each time with values that the row may take.
    records: Vec<(Members, Next)>,
}

pub(crate) fn life() -> impl Strategy<Value = Life> {
    let column = any::<(bool, prop::sample::Index)>();
    let next = prop_oneof![
        6 => prop::collection::vec(column, 0..3).prop_map(Next::Changes),
        2 => Just(Next::Deleted),
        6 => Just(Next::Restored),
    ];
    let row = (arbitrary::row_json(), 0..3_u8).prop_map(|(row, computed)| {
        let mut row = members(&row);
        row.insert("virtual".to_owned(), raw(&computed.to_string()));
        row
    });
    let records = prop::collection::vec((row, next), 2..7);
    (any::<bool>(), records).prop_map(|(exists, records)| Life { exists, records })
}

impl Life {
    /// The versions of the row, oldest first: at least two, of which no two neighbours are none.
    pub(crate) fn versions(&self, columns_that_matter: &[&str]) -> Vec<Option<String>> {
        let mut versions: Vec<Option<Members>> = Vec::new();
        let id = &self.records[0].0["id"];
        for (row, next) in &self.records {
            let mut row = row.clone();
            // A row keeps its key.
            row.insert("id".to_owned(), id.clone());
            let former = versions.iter().rev().skip(1).flatten().next().cloned();
            versions.push(match (versions.last(), next) {
                (None, _) => self.exists.then_some(row),
                (Some(_), Next::Restored) if former.is_some() => former,
                (Some(None), _) => Some(row),
                (Some(Some(_)), Next::Deleted) => None,
                (Some(Some(_)), Next::Restored) => Some(row),
                (Some(Some(before)), Next::Changes(columns)) => {
                    Some(patched(before, &row, columns, columns_that_matter))
                }
            });
        }
        let texts = versions.iter().map(|version| version.as_ref().map(text));
        texts.collect()
    }
}

/// A row with some columns of another, the computed column among them.
fn patched(
    before: &Members,
    other: &Members,
    changed: &[(bool, prop::sample::Index)],
    columns_that_matter: &[&str],
) -> Members {
    let mut after = before.clone();
    let all: Vec<&str> = other.keys().map(String::as_str).collect();
    let chosen = changed.iter().map(|(matters, index)| {
        let from = if *matters && !columns_that_matter.is_empty() {
            columns_that_matter
        } else {
            &all
        };
        *index.get(from)
    });
    for name in chosen.chain(["virtual"]) {
        after.insert(name.to_owned(), other[name].clone());
    }
    after
}

pub(crate) fn members(row: &str) -> Members {
    serde_json::from_str(row).expect("a row")
}

fn text(row: &Members) -> String {
    serde_json::to_string(row).expect("JSON")
}

/// The entries that the triggers log for these versions, newest first.
pub(crate) fn records(schema: &Schema, life: &[Option<String>]) -> Vec<UndoRecord> {
    let logged = |name: &str| schema.columns.iter().any(|it| it.name == name && it.logged);
    let pairs = life.windows(2).zip(1..);
    let records = pairs.map(|(pair, id)| {
        let (kind, old) = match (&pair[0], &pair[1]) {
            (None, _) => (ChangeKind::Create, None),
            (Some(old), None) => {
                let mut old = members(old);
                old.retain(|name, _| logged(name));
                (ChangeKind::Delete, Some(old))
            }
            (Some(old), Some(new)) => {
                let (mut old, new) = (members(old), members(new));
                old.retain(|name, value| logged(name) && new[name].get() != value.get());
                (ChangeKind::Update, Some(old))
            }
        };
        let old = old.map(|old| raw(&text(&old)));
        let transaction = u64::try_from(id).ok();
        UndoRecord {
            id,
            transaction,
            kind,
            old,
        }
    });
    let mut records: Vec<UndoRecord> = records.collect();
    records.reverse();
    records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn undoing_a_rows_entries_gives_its_versions(life in life()) {
        let life = life.versions(&[]);
        let table = test_table(Backend::Postgres);
        let logged = |&column: &usize| table.schema.columns[column].logged;
        let columns = 0..table.schema.columns.len();
        let reader = RowReader::new(table.table(), columns.filter(logged));
        let read = |row: &Option<String>| {
            row.as_ref().map(|row| reader.read(&raw(row)).expect("a row"))
        };
        let [first, between @ .., last] = &life[..] else { panic!("two versions at least") };
        let now = last.as_deref().map(raw);
        let found = RowVersions::read(&reader, now.as_deref(), Some(&records(&table.schema, &life)));
        let found = found.expect("rows");
        prop_assert_eq!(found.now().cloned(), read(last));
        prop_assert_eq!(found.exactly_before().map(Option::<&_>::cloned), Some(read(first)));
        let found: Vec<_> = found.between().map(Option::<&_>::cloned).collect();
        prop_assert_eq!(found, between.iter().rev().map(read).collect::<Vec<_>>());
    }
}
