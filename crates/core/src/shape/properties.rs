//! A reader that follows a shape, or joins while a row changes, ends with the rows of the shape.

use std::collections::BTreeMap;

use filter::SetsAtBoth;
use proptest::prelude::*;

use filter::testing::{arbitrary, raw, test_table};
use protocol::Change;

use super::*;
use crate::cursor::CommitId;
use crate::effect::Effect;
use crate::log::{ChangeKind, NetChange, UndoRecord};
use crate::undo::properties::{life, members, records};

/// Which of a row's undo records are available.
#[derive(Debug, Clone)]
enum Known {
    All,
    /// All, without the values of columns that the filter does not name.
    OnlyFilterColumns,
    /// All, but this one has lost its previous values.
    AllBut(prop::sample::Index),
    Nothing,
}

fn known() -> impl Strategy<Value = Known> {
    prop_oneof![
        6 => Just(Known::All),
        2 => Just(Known::OnlyFilterColumns),
        1 => any::<prop::sample::Index>().prop_map(Known::AllBut),
        1 => Just(Known::Nothing),
    ]
}

impl Known {
    fn of(&self, mut records: Vec<UndoRecord>, filter_columns: &[&str]) -> Option<Vec<UndoRecord>> {
        match self {
            Self::All => {}
            Self::Nothing => return None,
            Self::AllBut(index) => {
                let lost = index.index(records.len());
                records[lost].old = None;
            }
            Self::OnlyFilterColumns => {
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
type ClientRow = BTreeMap<String, String>;

fn client_row(row: &str, columns: &[&str]) -> ClientRow {
    let members = members(row).into_iter();
    let kept = members.filter(|(name, _)| columns.contains(&name.as_str()));
    kept.map(|(name, value)| (name, value.get().to_owned()))
        .collect()
}

/// What a client has of the row after a change.
fn applied(change: &Change, columns: &[&str]) -> Option<ClientRow> {
    match change {
        Change::Put { row, .. } => {
            let all = client_row(row.get(), columns);
            assert_eq!(
                all.len(),
                members(row.get()).len(),
                "columns outside of the projection"
            );
            Some(all)
        }
        Change::Delete { .. } | Change::Leave { .. } => None,
        Change::Patch { .. } | Change::Truncate => panic!("the change is not about one row"),
    }
}

fn net_change(
    life: &[Option<String>],
    records: &[UndoRecord],
    undo: Option<Vec<UndoRecord>>,
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
        row: life.last().expect("a version").as_deref().map(raw),
        metadata: None,
        undo,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_ends_with_the_rows_of_the_shape(
        text in prop::option::weighted(0.9, arbitrary::filter_text()),
        columns in prop::option::of(prop::collection::vec(any::<prop::sample::Index>(), 0..4)),
        life in life(),
        known in known(),
        sqlite in any::<bool>(),
        is_guarded in any::<bool>(),
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
        let table = CurrentTable {
            has_records: false,
            schema: schema.clone(),
            fingerprint: "1".into(),
            backend: table.backend,
            fields: None,
        };
        let wanted = SelectionRequest {
            filter: text.clone(),
            params: None,
            columns: columns.clone(),
 ..SelectionRequest::default() };
        // The same rows, because the client asks for them or because it may see no others.
        let (request, scope) = match is_guarded {
            true => (SelectionRequest::default(), ReadScope::Restricted(wanted)),
            false => (wanted, ReadScope::Everything),
        };
        let shape = Shape::resolve(&table, &request, &scope, Others::NONE).expect("a shape");
        let kept: Vec<&str> = match &columns {
            Some(columns) => columns.iter().map(String::as_str).chain(["id"]).collect(),
            None => names,
        };

        // The model: a reader that follows, or joins at some moment, has the row if it matched then.
        let all = RowReader::new(table.table(), 0..schema.columns.len());
        let held: Vec<Option<ClientRow>> = life
            .iter()
            .map(|row| {
                let row = row.as_deref()?;
                let values = all.read(&raw(row)).expect("a row");
                let matches = filter.as_ref().is_none_or(|it| it.matches(&values, &NoSets) == Some(true));
                matches.then(|| client_row(row, &kept))
            })
            .collect();
        let (first, last) = (&held[0], &held[held.len() - 1]);

        let records = records(&schema, &life);
        let selection = shape.selection().into_iter();
        let filter_columns: Vec<&str> = selection.flat_map(Selection::evaluated_column_names).collect();
        let undo = known.of(records.clone(), &filter_columns);
        let complete = undo.is_some() && !matches!(known, Known::AllBut(_));
        let net_change = net_change(&life, &records, undo);
        let (change, transient) = match net_change.effect_on(&ShapeReader::new(shape.clone()), SetsAtBoth::NONE) {
            Ok(Effect::Change { change, transient }) => (Some(change), transient),
            Ok(Effect::Nothing) => (None, false),
            // The reader is refetched.
            Ok(Effect::Unclear) => {
                prop_assert!((!complete || is_guarded) && last.is_none() && filter.is_some());
                return Ok(());
            }
            other => panic!("{other:?}"),
        };

        let after = |before: &Option<ClientRow>, change: Option<&Change>| {
            change.map_or_else(|| before.clone(), |change| applied(change, &kept))
        };
        let to_first = change.as_ref().filter(|_| !transient);
        prop_assert_eq!(&after(first, to_first), last, "a reader that follows, sent {:?}", to_first);
        for (moment, before) in held.iter().enumerate() {
            let found = after(before, change.as_ref());
            prop_assert_eq!(&found, last, "a reader that joined at {}, sent {:?}", moment, change);
        }
        if is_guarded && let Some(Change::Delete { .. } | Change::Leave { .. }) = &change {
            prop_assert!(held.iter().any(Option::is_some), "{change:?} of a row that could never be read");
        }
        if let Some(Change::Delete { .. } | Change::Leave { .. }) = &change {
            let gone = life[life.len() - 1].is_none();
            prop_assert_eq!(matches!(change, Some(Change::Delete { .. })), gone);
        }
        if complete && let Some(Change::Delete { .. } | Change::Leave { .. }) = to_first {
            // Readers of a whole entity receive deletes of any rows that existed.
            prop_assert!(first.is_some() || shape.selection().is_none(), "{to_first:?} of nothing");
        }
        if complete && columns.is_some() && shape.selection().is_some() && !kept.contains(&"virtual") {
            let stayed = life.iter().all(Option::is_some);
            let was: Vec<ClientRow> = life.iter().flatten().map(|row| client_row(row, &kept)).collect();
            let same = stayed && was.iter().all(|row| *row == was[0]);
            if same && first.is_some() == last.is_some() {
                prop_assert!(to_first.is_none(), "{to_first:?} without a difference");
            }
        }
    }
}
