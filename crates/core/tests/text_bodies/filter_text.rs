//! Any text as a filter, with its parameters and a row.

use std::collections::BTreeMap;

use filter::testing::sets::{RowSets, SetTable};
use filter::{
    Access, AccessKey, Backend, Filter, InnerTable, RowReader, Scalar, SetKey, Sets as _, Table,
    Tables,
};
use serde_json::value::RawValue;
use value::schema::{Collation, Column, ColumnKind, Schema};

/// Reads a text as a filter on a table with a column of each kind, and evaluates it for a row. The
/// second line holds the filter's parameters, the third the row. Returns whether it is a filter.
///
/// The one form of a filter is itself a filter with the same form, and a row that matches holds one of
/// the access keys.
pub(crate) fn filter_text(text: &str) -> bool {
    let mut lines = text.splitn(3, '\n');
    let text = lines.next().unwrap_or_default();
    let params = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok());
    let params: Vec<Box<RawValue>> = params.unwrap_or_default();
    let row = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok());
    let row: Box<RawValue> = row.unwrap_or_else(|| RawValue::NULL.to_owned());
    let schema = schema();
    let mut is_filter = false;
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let others = OneTable(schema.clone(), backend);
        let table = Table::new(&schema, backend).among(&others);
        match Filter::new(text, &params, table) {
            Ok(filter) => {
                check(&filter, &row, table);
                is_filter = true;
            }
            Err(error) => {
                assert!(error.message.chars().count() < 400, "{error}");
                let end = text.chars().count() + 1;
                assert!(
                    error.position.is_none_or(|at| (1..=end).contains(&at)),
                    "{error}"
                );
            }
        }
    }
    is_filter
}

fn check(filter: &Filter, json: &RawValue, table: Table<'_>) {
    // With its parameters in place, it may be longer than a filter may be.
    if let Ok(again) = Filter::new(&filter.text(table), &[], table) {
        assert_eq!(&again, filter);
    }
    let Ok(row) = RowReader::new(table, filter.columns()).read(json) else {
        return;
    };
    // Its subqueries read a table with this row.
    let mut sets = RowSets::default();
    let inner = SetTable {
        schema: table.schema.clone().into(),
        fingerprint: "1".into(),
        backend: table.backend,
    };
    sets.add(&inner, [json]);
    let matches = filter.matches(&row, &sets) == Some(true);
    if let Access::Keys { keys, sets: named } = filter.access(|_| 0) {
        let held = |(column, value): &AccessKey| row.scalar(*column) == Some(value);
        let is_in = |(columns, set): &SetKey| {
            let values = columns.iter().map(|column| row.scalar(*column));
            let values: Option<Vec<&Scalar>> = values.collect();
            values.is_some_and(|values| sets.look_up(set, &values).is_some_and(|at| at.found))
        };
        assert!(
            !matches || keys.iter().any(held) || named.iter().any(is_in),
            "{} of {row:?}",
            filter.text(table)
        );
    }
}

/// The table alone, for subqueries on itself.
#[derive(Debug)]
pub(super) struct OneTable(pub(super) Schema, pub(super) Backend);

impl Tables for OneTable {
    fn find(&self, entity: &str) -> Option<InnerTable> {
        (entity == self.0.entity).then(|| InnerTable {
            schema: self.0.clone().into(),
            fingerprint: "1".into(),
            backend: self.1,
            visible: None,
            rows: Filter::everything(),
            partial: BTreeMap::new(),
        })
    }
}

/// A table with a column of each kind.
pub(super) fn schema() -> Schema {
    let labels = ["low", "high"].map(str::to_owned).to_vec();
    let text = || ColumnKind::Text { chars_max: None };
    let (bytes, own) = (Collation::Bytes, Collation::Deterministic);
    let columns = [
        ("a", ColumnKind::INT4, bytes),
        ("b", ColumnKind::Bool, bytes),
        ("t", text(), bytes),
        ("s", text(), own),
        ("f", ColumnKind::Float, bytes),
        ("n", ColumnKind::Numeric, bytes),
        ("u", ColumnKind::Uuid, bytes),
        ("d", ColumnKind::Date, bytes),
        ("w", ColumnKind::Timestamp, bytes),
        ("z", ColumnKind::TimestampTz, bytes),
        ("e", ColumnKind::Enum(labels), bytes),
        ("o", ColumnKind::Other, bytes),
    ];
    let columns = columns.into_iter().map(|(name, kind, collation)| Column {
        name: name.to_owned(),
        kind,
        type_name: String::new(),
        nullable: true,
        has_default: false,
        generated: false,
        collation,
        logged: true,
    });
    Schema {
        entity: "t".to_owned(),
        columns: columns.collect(),
        key: vec![0],
    }
}
