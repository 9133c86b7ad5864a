//! Records of another database: rows with all that is known of them there, which merge as they are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use merge::{Clock, ColumnMerge, Metadata, Record, Row, Rules, WriteError};
use protocol::{Op, Reject, RejectCode};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use value::schema::{ColumnKind, Schema};

use super::known::is_field;
use super::outcome::{Action, Plan};
use super::written::{entry, fitting, raw_of, reject, whole};
use super::{FieldWrite, Known, Stamp};
use crate::key;
use crate::mutation::{CheckedWrite, column_value, invalid, key_part, not_null};

/// The record of a row as the database has it; none of a row of which nothing is known. `key` is its canonical key.
pub fn record_of(schema: &Schema, rules: &Rules, key: &str, known: &Known) -> Option<Record> {
    let key_values = key_values(schema, key)?;
    if let (Some(row), None) = (&known.row, &known.metadata) {
        // Most rows: nothing is known of them but their values.
        let mut columns: Map<String, Value> = serde_json::from_str(row).ok()?;
        for (index, column) in schema.columns.iter().enumerate() {
            if column.generated && !schema.is_key(index) {
                columns.remove(&column.name);
            }
        }
        return Some(Record {
            columns,
            is_deleted: false,
            hlc: Clock::ground(),
            modified: None,
            metadata: Some(Metadata::default()),
        });
    }
    let row = known.row(schema, rules)?;
    Record::of(&key_values, &row, None, rules)
}

/// The row that a record is of, as it merges here.
pub fn row_of(schema: &Schema, rules: &Rules, key: &str, known: &Known) -> Option<Row> {
    key_values(schema, key)?;
    known.row(schema, rules)
}

/// The columns of a canonical key, with their values; none for a text that is no key.
pub fn key_values(schema: &Schema, key: &str) -> Option<Map<String, Value>> {
    let sent = match schema.key.len() {
        1 => Value::from(key),
        _ => serde_json::from_str(key).ok()?,
    };
    let parts = key::split(&sent, schema.key.len())?;
    let columns = schema.key_columns().zip(parts);
    let values = columns.map(|(column, part)| {
        let canonical = key_part::canonical_as_sent(&column.kind, &part).ok()?;
        Some((column.name.clone(), canonical))
    });
    values.collect()
}

/// Checks a record's values, and makes it the write that merges it.
///
/// # Errors
/// The first fault: what is wrong, in which column.
pub fn check_record(
    mut record: Record,
    schema: &Arc<Schema>,
    rules: &Arc<Rules>,
) -> Result<CheckedWrite, Reject> {
    let mut key = Vec::with_capacity(schema.key.len());
    for column in schema.key_columns() {
        let part = record.columns.remove(&column.name).unwrap_or_default();
        let canonical = key_part::canonical_as_sent(&column.kind, &part);
        key.push(canonical.map_err(|fault| invalid(fault).of_column(&column.name))?);
    }
    for (index, column) in schema.columns.iter().enumerate() {
        // Every database computes it for itself.
        if column.generated && !schema.is_key(index) {
            record.columns.remove(&column.name);
            let metadata = record.metadata.as_mut();
            metadata.into_iter().for_each(|metadata| {
                metadata.retain(|field| field != column.name);
            });
        }
    }
    let mut values: Vec<(usize, Box<RawValue>)> = Vec::with_capacity(record.columns.len());
    for (name, value) in &record.columns {
        let unknown = || Reject::new(RejectCode::UnknownColumn, "there is no such column");
        let position = schema.position(name);
        let position = position.ok_or_else(|| unknown().of_column(name))?;
        let column = &schema.columns[position];
        let raw = raw_of(value);
        if value.is_null() {
            if !column.nullable && !record.is_deleted {
                return Err(not_null(name));
            }
            values.push((position, raw));
            continue;
        }
        let checked = column_value::check(&column.kind, &raw)
            .map_err(|fault| invalid(fault).of_column(name))?;
        values.push((position, checked.into_owned()));
    }
    values.sort_unstable_by_key(|(position, _)| *position);
    check_life(&record, rules)?;
    Ok(CheckedWrite {
        entity: schema.entity.clone(),
        schema: schema.clone(),
        op: Op::Upsert,
        key: Some(key),
        values,
        filled: Vec::new(),
        fields: Some(FieldWrite {
            rules: rules.clone(),
            stamp: Stamp::Record(Box::new(record)),
            said: None,
            resolves: BTreeMap::new(),
        }),
    })
}

/// Checks that a record's metadata fits its values, and that it says of the row's life what `is_deleted` does.
fn check_life(record: &Record, rules: &Rules) -> Result<(), Reject> {
    let Some(metadata) = &record.metadata else {
        return Ok(());
    };
    let is_alive = match *metadata == Metadata::default() {
        true => true,
        false => Row::new(metadata, &record.columns, rules)
            .map_err(|error| reject(&WriteError::Row(error)))?
            .is_alive(rules),
    };
    if is_alive == record.is_deleted {
        return Err(invalid(
            "`is_deleted` and the metadata contradict each other",
        ));
    }
    Ok(())
}

/// Says what a record makes of the row, as it is known now.
///
/// # Errors
/// When its metadata does not fit its values, or a value does not merge.
pub(super) fn plan(
    write: &CheckedWrite,
    rules: &Rules,
    record: &Record,
    known: &Known,
) -> Result<Plan, Reject> {
    let row = known.row(&write.schema, rules);
    let record = as_found(write, record, known);
    let after = record.merge(row.as_ref(), &[], rules);
    let after = after.map_err(|error| reject(&WriteError::Row(error)))?;
    let is_alive = after.is_alive(rules) && after.is_whole();
    let action = match (known.row.is_some(), is_alive) {
        (true, true) => match update(write, row.as_ref(), &after)? {
            Action::Nothing => answer(write, &record, rules, &after)?,
            action => action,
        },
        (true, false) => Action::Delete,
        (false, true) => Action::Create {
            values: whole(write, &after),
        },
        (false, false) => Action::Nothing,
    };
    Ok(Plan {
        action,
        entry: entry(rules, known, row.as_ref(), &after),
        clock: record.hlc.clone(),
        conflicts: Vec::new(),
        resolved: BTreeMap::new(),
    })
}

/// The record without the columns that the server fills in, where the row is there: they are those of its creation.
fn as_found<'a>(write: &CheckedWrite, record: &'a Record, known: &Known) -> Cow<'a, Record> {
    if known.row.is_none() || write.filled.is_empty() {
        return Cow::Borrowed(record);
    }
    let mut record = record.clone();
    for position in &write.filled {
        record.columns.remove(&write.schema.columns[*position].name);
    }
    Cow::Owned(record)
}

/// What tells the database that sent a record what it lacks, where the record changes nothing here. Most of what is newer here
/// has been logged when it was written, but not all: a program that sets a `max` back, or writes a counter or a set in a way that
/// its trigger cannot tell, leaves no trace, so what stands here is greater without being newer; and clocks that were folded here
/// are newer without having been written. One such column is written as it is, so that the row is logged, and sent.
///
/// Values without clocks count only where both databases hold them exactly: another spelling would be answered for ever.
fn answer(
    write: &CheckedWrite,
    record: &Record,
    rules: &Rules,
    after: &Row,
) -> Result<Action, Reject> {
    // A device is sent all rows anyway; and what cannot stand alone is of a row that is not known there.
    let theirs = record
        .metadata
        .as_ref()
        .and_then(|_| record.merge(None, &[], rules).ok());
    let Some(theirs) = theirs else {
        return Ok(Action::Nothing);
    };
    for name in after.ahead_of(&theirs, rules) {
        let (Some(index), Some(ours)) = (write.schema.position(name), after.cell(name)) else {
            continue;
        };
        let kind = &write.schema.columns[index].kind;
        let has_clock = matches!(rules.merge(name), ColumnMerge::Register | ColumnMerge::Text);
        if !is_field(&write.schema, index) || !has_clock && !is_exact(kind) {
            continue;
        }
        let value = fitting(kind, raw_of(&ours.value()));
        let value = value.map_err(|fault| invalid(fault).of_column(name))?;
        return Ok(Action::Update {
            values: vec![(index, value)],
            adds: Vec::new(),
        });
    }
    Ok(Action::Nothing)
}

/// Whether every database holds the same value of this type.
fn is_exact(kind: &ColumnKind) -> bool {
    match kind {
        ColumnKind::Array(items) => is_exact(items),
        ColumnKind::Bool
        | ColumnKind::Int { .. }
        | ColumnKind::Text { .. }
        | ColumnKind::Uuid
        | ColumnKind::Date
        | ColumnKind::Json => true,
        _ => false,
    }
}

/// The columns that have changed, or whose clocks have. Where nothing but the row's own clocks has, one column is written
/// as it is, so that the change is logged.
fn update(write: &CheckedWrite, before: Option<&Row>, after: &Row) -> Result<Action, Reject> {
    if before == Some(after) {
        return Ok(Action::Nothing);
    }
    let mut values = Vec::new();
    let mut unchanged = None;
    for (index, column) in write.schema.columns.iter().enumerate() {
        let cell = after
            .cell(&column.name)
            .filter(|_| is_field(&write.schema, index));
        let Some(cell) = cell else {
            continue;
        };
        let value = || {
            let raw = fitting(&column.kind, raw_of(&cell.value()));
            raw.map_err(|fault| invalid(fault).of_column(&column.name))
        };
        if Some(cell) != before.and_then(|before| before.cell(&column.name)) {
            values.push((index, value()?));
        } else if unchanged.is_none() && values.is_empty() {
            unchanged = Some((index, value()?));
        }
    }
    if values.is_empty() {
        values.extend(unchanged);
    }
    Ok(match values.is_empty() {
        true => Action::Nothing,
        false => Action::Update {
            values,
            adds: Vec::new(),
        },
    })
}
