//! What is written of a row that has merged: its values, its entry, or why it has none.

use merge::{Clock, Deletes, Row, RowError, Rules, WriteError};
use protocol::{Reject, RejectCode};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use value::schema::ColumnKind;

use super::known::Known;
use super::outcome::Entry;
use crate::mutation::{CheckedWrite, column_value, invalid};

/// What is to be kept beside a row that has become another; none where what is kept stays as it is.
pub(super) fn entry(
    rules: &Rules,
    known: &Known,
    before: Option<&Row>,
    after: &Row,
) -> Option<Entry> {
    let metadata = after.metadata();
    let is_kept = known.metadata.is_some() || !metadata.is_empty();
    if !is_kept || before == Some(after) {
        return None;
    }
    let is_alive = after.is_alive(rules) && after.is_whole();
    let told = metadata.newest().cloned().unwrap_or_else(Clock::ground);
    let has_changed = before.and_then(|before| before.shown(rules)) != after.shown(rules);
    Some(Entry {
        newest: known.newest_with(told, has_changed),
        metadata: text(&metadata),
        image: (!is_alive && rules.deletes == Deletes::Revive).then(|| text(&after.values())),
    })
}

/// What a write and a row made together, if the column takes it.
pub(super) fn fitting(kind: &ColumnKind, value: Box<RawValue>) -> Result<Box<RawValue>, String> {
    if value.get() != "null" {
        column_value::check(kind, &value)?;
    }
    Ok(value)
}

/// The values of a row that comes back, with its key.
pub(super) fn whole(write: &CheckedWrite, row: &Row) -> Vec<(usize, Box<RawValue>)> {
    let mut shown = row.values();
    let key = write.key.iter().flatten();
    for (column, part) in write.schema.key_columns().zip(key) {
        shown.insert(column.name.clone(), part.clone());
    }
    let columns = write.schema.columns.iter().enumerate();
    columns
        .filter_map(|(index, column)| Some((index, raw_of(shown.get(&column.name)?))))
        .collect()
}

pub(super) fn raw_of(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("a value is JSON")
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("it is JSON")
}

pub(super) fn missing() -> Reject {
    Reject::new(RejectCode::NotFound, "the row does not exist")
}

pub(super) fn reject(error: &WriteError) -> Reject {
    match error {
        WriteError::Missing => missing(),
        WriteError::Stale { .. } | WriteError::Exhausted => {
            Reject::new(RejectCode::Clock, error.to_string())
        }
        WriteError::Row(row) => {
            let reject = invalid(row.to_string());
            match row {
                RowError::Counter { column, .. }
                | RowError::Set { column, .. }
                | RowError::Metadata { column } => reject.of_column(column),
                RowError::TooManyFields => reject,
            }
        }
    }
}
