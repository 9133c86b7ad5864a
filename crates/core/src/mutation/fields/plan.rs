//! What a write makes of a row that merges by its fields.

use std::collections::BTreeMap;

use merge::{Clock, ClockError, ColumnMerge, Edit, Row, Write};
use protocol::{Op, Reject, RejectCode};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use value::schema::Column;

use super::known::is_field;
use super::outcome::{Action, Plan};
use super::written::{entry, fitting, missing, raw_of, reject, whole};
use super::{FieldWrite, Known, Stamp, record};
use crate::mutation::{CheckedWrite, invalid};

/// Says what a write makes of the row, as it is known now.
///
/// # Errors
/// When the write is to be rejected: there is no such row, its clock cannot be taken, or a value does not merge.
pub fn plan(write: &CheckedWrite, fields: &FieldWrite, known: &Known) -> Result<Plan, Reject> {
    let rules = &*fields.rules;
    if let Stamp::Record(record) = &fields.stamp {
        return record::plan(write, rules, record, known);
    }
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
            if !is_there && matches!(fields.stamp, Stamp::Receipt { .. } | Stamp::Own { .. }) =>
        {
            return Err(missing());
        }
        // One database says what is born: nobody proves it a creation that it has not seen.
        (Op::Update, Some(row)) if made.born > row.born().cloned() => return Err(missing()),
        _ => {}
    }
    let written = made.apply(row.as_ref(), rules, &known.site());
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
    Ok(Plan {
        action,
        entry: entry(rules, known, row.as_ref(), after),
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
        Stamp::Record(record) => Write {
            clock: record.hlc.clone(),
            born: row.and_then(Row::born).cloned(),
            seen: None,
            edit,
        },
        Stamp::Author { clock, born, seen } => Write {
            clock: clock.clone(),
            born: born.clone().or_else(|| Some(Clock::ground())),
            seen: seen.clone(),
            edit,
        },
        Stamp::Receipt { received_ms, node } => {
            as_seen(row, Clock::after(newest, *received_ms, node), edit)?
        }
        Stamp::Own { clock } => {
            let is_later = newest.is_none_or(|newest| clock > newest);
            let counts = match is_later {
                true => Ok(clock.clone()),
                false => Clock::after(newest, clock.millis(), &clock.node()),
            };
            as_seen(row, counts, edit)?
        }
    })
}

/// The write of somebody who saw the row as it is.
fn as_seen(
    row: Option<&Row>,
    clock: Result<Clock, ClockError>,
    edit: Edit,
) -> Result<Write, Reject> {
    Ok(Write {
        clock: clock.map_err(|error| super::refused(&error))?,
        born: row.and_then(Row::born).cloned(),
        seen: row.and_then(Row::newest).cloned(),
        edit,
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

/// What `{"add": 3}` adds.
fn increment(raw: &RawValue) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Increment {
        add: Box<RawValue>,
    }
    let increment: Increment = serde_json::from_str(raw.get()).ok()?;
    Some(increment.add)
}
