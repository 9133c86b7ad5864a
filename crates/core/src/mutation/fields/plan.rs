//! What a write makes of a row that merges by its fields.

use std::collections::BTreeMap;

use merge::{Clock, ColumnMerge, Deletes, Edit, Row, RowError, Site, Write, WriteError};
use protocol::{Op, Reject, RejectCode};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use value::schema::{Column, ColumnKind};

use super::known::is_field;
use super::outcome::{Action, Entry, Plan};
use super::{FieldWrite, Known, Stamp};
use crate::mutation::{CheckedWrite, column_value, invalid};

/// Says what a write makes of the row, as it is known now.
///
/// # Errors
/// When the write is to be rejected: there is no such row, its clock cannot be taken, or a value does not merge.
pub fn plan(write: &CheckedWrite, fields: &FieldWrite, known: &Known) -> Result<Plan, Reject> {
    let rules = &*fields.rules;
    let row = known.row(&write.schema, rules);
    let is_there = known.row.is_some();
    let op = match write.op {
        Op::Upsert if is_there => Op::Update,
        Op::Upsert => Op::Create,
        op => op,
    };
    let made = made(write, fields, op, row.as_ref())?;
    let resolved = resolved(fields, known)?;
    if op == Op::Update && write.values.is_empty() {
        // It resolves, and writes nothing.
        return match is_there {
            true => Ok(Plan {
                action: Action::Nothing,
                entry: None,
                clock: made.clock,
                conflicts: Vec::new(),
                resolved,
            }),
            false => Err(missing()),
        };
    }
    match (op, &row) {
        // The database says so, in the words that the writer may know.
        (Op::Create, Some(_)) if is_there => {
            return Ok(Plan {
                action: Action::Create {
                    values: write.values.clone(),
                },
                entry: None,
                clock: made.clock,
                conflicts: Vec::new(),
                resolved,
            });
        }
        (Op::Update | Op::Delete, None) => return Err(missing()),
        // Who says nothing of what it saw has seen that the row is gone.
        (Op::Update | Op::Delete, Some(_))
            if !is_there && matches!(fields.stamp, Stamp::Receipt { .. }) =>
        {
            return Err(missing());
        }
        // One database says what is born: nobody proves it a creation that it has not seen.
        (Op::Update, Some(row)) if made.born > row.born().cloned() => return Err(missing()),
        _ => {}
    }
    let written = made.apply(row.as_ref(), rules, &Site::default());
    let written = written.map_err(|error| reject(&error))?;
    let after = &written.row;
    let is_alive = after.is_alive(rules) && after.is_whole();
    let action = match (is_there, is_alive) {
        (true, true) => update(write, fields, row.as_ref(), after)?,
        (true, false) => Action::Delete,
        (false, true) if op == Op::Create => Action::Create {
            values: write.values.clone(),
        },
        (false, true) => Action::Create {
            values: whole(write, after),
        },
        (false, false) => Action::Nothing,
    };
    let metadata = after.metadata();
    let is_kept = known.metadata.is_some() || !metadata.is_empty();
    let entry = is_kept.then(|| Entry {
        newest: metadata.newest().cloned().unwrap_or_else(Clock::ground),
        metadata: text(&metadata),
        image: (!is_alive && rules.deletes == Deletes::Revive).then(|| text(&after.values())),
    });
    let is_same = row.as_ref() == Some(after);
    Ok(Plan {
        action,
        entry: entry.filter(|_| !is_same),
        clock: made.clock,
        conflicts: written.conflicts,
        resolved,
    })
}

/// What the write resolves, all of which must be open still.
fn resolved(fields: &FieldWrite, known: &Known) -> Result<BTreeMap<String, Vec<Clock>>, Reject> {
    let open = known.lost();
    for (column, clocks) in &fields.resolves {
        let is_open = |clock: &Clock| {
            let of_column = open.get(column);
            of_column.is_some_and(|open| open.contains(clock.as_str()))
        };
        if !clocks.iter().all(is_open) {
            let message = "the conflict is not open any more";
            return Err(Reject::new(RejectCode::NotFound, message).of_column(column));
        }
    }
    Ok(fields.resolves.clone())
}

/// The write as it merges.
fn made(
    write: &CheckedWrite,
    fields: &FieldWrite,
    op: Op,
    row: Option<&Row>,
) -> Result<Write, Reject> {
    let values = || -> Map<String, Value> {
        let schema = &write.schema;
        let named = write.values.iter().filter(|(index, _)| {
            is_field(schema, *index) && (op == Op::Create || !write.filled.contains(index))
        });
        named
            .map(|(index, raw)| {
                let value = serde_json::from_str(raw.get()).unwrap_or_default();
                (schema.columns[*index].name.clone(), value)
            })
            .collect()
    };
    let edit = match op {
        Op::Create => Edit::Create(values()),
        Op::Update | Op::Upsert => Edit::Update(values()),
        Op::Delete => Edit::Delete,
    };
    let newest = row.and_then(Row::newest);
    Ok(match &fields.stamp {
        Stamp::Author { clock, born, seen } => Write {
            clock: clock.clone(),
            born: born.clone().or_else(|| Some(Clock::ground())),
            seen: seen.clone(),
            edit,
        },
        Stamp::Receipt { received_ms, node } => Write {
            clock: Clock::after(newest, *received_ms, node)
                .map_err(|error| super::refused(&error))?,
            born: row.and_then(Row::born).cloned(),
            seen: newest.cloned(),
            edit,
        },
    })
}

/// The columns that the write has changed, or whose clocks it has.
fn update(
    write: &CheckedWrite,
    fields: &FieldWrite,
    before: Option<&Row>,
    after: &Row,
) -> Result<Action, Reject> {
    let mut values = Vec::new();
    let mut adds = Vec::new();
    for (index, raw) in &write.values {
        let Column { name, kind, .. } = &write.schema.columns[*index];
        let column = name.as_str();
        let cell = after.cell(column);
        let is_changed = cell != before.and_then(|before| before.cell(column));
        let (true, Some(cell)) = (is_changed, cell) else {
            continue;
        };
        let is_as_written = matches!(
            fields.rules.merge(column),
            ColumnMerge::Register | ColumnMerge::Text
        );
        let value = match is_as_written {
            true => raw.clone(),
            false => fitting(kind, raw_of(&cell.value()))
                .map_err(|fault| invalid(fault).of_column(column))?,
        };
        values.push((*index, value));
        let increment = (fields.rules.merge(column) == ColumnMerge::Counter)
            .then(|| increment(raw))
            .flatten();
        adds.extend(increment.map(|add| (*index, add)));
    }
    Ok(match values.is_empty() {
        true => Action::Nothing,
        false => Action::Update { values, adds },
    })
}

/// What a write and a row made together, if the column takes it.
fn fitting(kind: &ColumnKind, value: Box<RawValue>) -> Result<Box<RawValue>, String> {
    if value.get() != "null" {
        column_value::check(kind, &value)?;
    }
    Ok(value)
}

/// What `{"add": 3}` adds.
fn increment(raw: &RawValue) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Increment {
        add: Box<RawValue>,
    }
    let increment: Increment = serde_json::from_str(raw.get()).ok()?;
    Some(increment.add)
}

/// The values of a row that comes back, with its key.
fn whole(write: &CheckedWrite, row: &Row) -> Vec<(usize, Box<RawValue>)> {
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

fn raw_of(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("a value is JSON")
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("it is JSON")
}

fn missing() -> Reject {
    Reject::new(RejectCode::NotFound, "the row does not exist")
}

fn reject(error: &WriteError) -> Reject {
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
