//! A reader that follows a shape, or joins while a row changes, ends with what the shape holds.

use std::collections::BTreeMap;

use proptest::prelude::*;

use filter::testing::{arbitrary, raw, test_table};
use protocol::Change;

use super::*;
use crate::cursor::CommitId;
use crate::effect::Effect;
use crate::log::{ChangeKind, NetChange, UndoRecord};
use crate::undo::properties::{life, members, records};

/// How much of a row's history its reader gets.
#[derive(Debug, Clone)]
enum Known {
    All,
    /// Without the values of columns that the filter does not look at.
    OnlyOfTheFilter,
    /// One of the entries has lost what it held.
    NotThis(prop::sample::Index),
    Nothing,
}

fn known() -> impl Strategy<Value = Known> {
    prop_oneof![
        6 => Just(Known::All),
        2 => Just(Known::OnlyOfTheFilter),
        1 => any::<prop::sample::Index>().prop_map(Known::NotThis),
        1 => Just(Known::Nothing),
    ]
}

impl Known {
    fn of(&self, mut records: Vec<UndoRecord>, filter_columns: &[&str]) -> Option<Vec<UndoRecord>> {
        match self {
            Self::All => {}
            Self::Nothing => return None,
            Self::NotThis(index) => {
                let lost = index.index(records.len());
                records[lost].old = None;
            }
            Self::OnlyOfTheFilter => {
                for old in records.iter_mut().filter_map(|record| record.old.as_mut()) {
                    let mut kept = members(old.get());
                    for (name, value) in &mut kept {
                        if !filter_columns.contains(&name.as_str()) {
                            *value = raw("null");
                        }
                    }
                    *old = raw(&serde_json::to_string(&kept).expect("JSON"));
                }
            }
        }
        Some(records)
    }
}

/// A row as a client has it: each column's JSON.
type Seen = BTreeMap<String, String>;

fn seen(row: &str, columns: &[&str]) -> Seen {
    let members = members(row).into_iter();
    let wanted = members.filter(|(name, _)| columns.contains(&name.as_str()));
    wanted
        .map(|(name, value)| (name, value.get().to_owned()))
        .collect()
}

/// What a client has of the row after it has heard of it.
fn told(change: &Change, columns: &[&str]) -> Option<Seen> {
    match change {
        Change::Put { row, .. } => {
            let all = seen(row.get(), columns);
            assert_eq!(
                all.len(),
                members(row.get()).len(),
                "columns that nobody wants"
            );
            Some(all)
        }
        Change::Delete { .. } | Change::Leave { .. } => None,
        Change::Truncate => panic!("it is about one row"),
    }
}

fn newest(
    life: &[Option<String>],
    records: &[UndoRecord],
    history: Option<Vec<UndoRecord>>,
) -> NetChange {
    NetChange {
        id: records[0].id,
        commit_id: CommitId::LogId(records[0].id),
        entity: "t".to_owned(),
        key: Some("1".to_owned()),
        kind: records[0].kind,
        created: records
            .iter()
            .filter(|record| record.kind == ChangeKind::Create)
            .count() as i64,
        deleted: records
            .iter()
            .filter(|record| record.kind == ChangeKind::Delete)
            .count() as i64,
        truncated_at: None,
        mutation_id: None,
        row: life.last().expect("a state").as_deref().map(raw),
        undo: history,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn everybody_ends_with_what_the_shape_holds(
        text in prop::option::weighted(0.9, arbitrary::filter_text()),
        columns in prop::option::of(prop::collection::vec(any::<prop::sample::Index>(), 0..4)),
        life in life(),
        known in known(),
        sqlite in any::<bool>(),
    ) {
        let table = test_table(if sqlite { Backend::Sqlite } else { Backend::Postgres });
        let schema = Arc::new(table.schema.clone());
        let filter = match &text {
            Some(text) => match Filter::new(text, &[], table.table()) {
                Ok(filter) => Some(filter),
                Err(_) => return Ok(()),
            },
            None => None,
        };
        let columns_of = |filter: &Filter| -> Vec<&str> {
            filter.columns().map(|position| schema.columns[position].name.as_str()).collect()
        };
        let life = life.versions(&filter.as_ref().map(columns_of).unwrap_or_default());
        let names: Vec<&str> = members(life.iter().flatten().next().expect("a row"))
            .into_keys()
            .filter_map(|name| Some(schema.columns[schema.position(&name)?].name.as_str()))
            .collect();
        let columns: Option<Vec<String>> = columns
            .map(|columns| columns.iter().map(|column| (*column.get(&names)).to_owned()).collect());
        let version = TableVersion {
            schema: schema.clone(),
            version: "1".into(),
            backend: table.backend,
        };
        let wanted = SelectionRequest {
            filter: text.clone(),
            params: None,
            columns: columns.clone(),
        };
        let shape = Shape::resolve(&version, &wanted, &ReadScope::Everything).expect("a shape");
        let kept: Vec<&str> = match &columns {
            Some(columns) => columns.iter().map(String::as_str).chain(["id"]).collect(),
            None => names,
        };

        // The model: who follows, or joins at some moment, has the row if it matched then.
        let all = RowReader::new(table.table(), 0..schema.columns.len());
        let held: Vec<Option<Seen>> = life
            .iter()
            .map(|row| {
                let row = row.as_deref()?;
                let values = all.read(&raw(row)).expect("a row");
                let matches = filter.as_ref().is_none_or(|it| it.matches(&values) == Some(true));
                matches.then(|| seen(row, &kept))
            })
            .collect();
        let (first, last) = (&held[0], &held[held.len() - 1]);

        let records = records(&schema, &life);
        let looked_at: Vec<&str> = shape.selection().into_iter().flat_map(Selection::filter_columns).collect();
        let history = known.of(records.clone(), &looked_at);
        let complete = history.is_some() && !matches!(known, Known::NotThis(_));
        let entry = newest(&life, &records, history);
        let (change, transient) = match entry.effect_on(&ShapeReader::new(shape.clone())) {
            Ok(Effect::Change { change, transient }) => (Some(change), transient),
            Ok(Effect::Nothing) => (None, false),
            other => panic!("{other:?}"),
        };

        let after = |before: &Option<Seen>, change: Option<&Change>| {
            change.map_or_else(|| before.clone(), |change| told(change, &kept))
        };
        let to_first = change.as_ref().filter(|_| !transient);
        prop_assert_eq!(&after(first, to_first), last, "who follows, told {:?}", to_first);
        for (moment, before) in held.iter().enumerate() {
            let found = after(before, change.as_ref());
            prop_assert_eq!(&found, last, "who joined at {}, told {:?}", moment, change);
        }
        if let Some(Change::Delete { .. } | Change::Leave { .. }) = &change {
            let gone = life[life.len() - 1].is_none();
            prop_assert_eq!(matches!(change, Some(Change::Delete { .. })), gone);
        }
        if complete && let Some(Change::Delete { .. } | Change::Leave { .. }) = to_first {
            // The audience of a whole entity gets deletes of rows that were there once.
            prop_assert!(first.is_some() || shape.selection().is_none(), "{to_first:?} of nothing");
        }
        if complete && columns.is_some() && shape.selection().is_some() && !kept.contains(&"virtual") {
            let stayed = life.iter().all(Option::is_some);
            let was: Vec<Seen> = life.iter().flatten().map(|row| seen(row, &kept)).collect();
            let same = stayed && was.iter().all(|row| *row == was[0]);
            if same && first.is_some() == last.is_some() {
                prop_assert!(to_first.is_none(), "{to_first:?} of what nobody can see");
            }
        }
    }
}
