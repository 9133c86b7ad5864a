//! The columns that a principal may read and write, in its writes.

use protocol::{Op, Reject, RejectCode, Write};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use value::schema::Schema;

use super::{Values, column_value, echo, shorten};
use crate::policy::WriteColumns;

/// Checks that the write names no column that the principal may not write. One that it may not even read is answered as
/// one that does not exist.
pub(super) fn check_columns(write: &Write, columns: &WriteColumns) -> Result<(), Reject> {
    let mut named = write.values.keys().chain(write.resolves.keys());
    let Some(name) = named.find(|name| !columns.is_writable(name)) else {
        return Ok(());
    };
    Err(match columns.is_hidden(name) {
        true => unknown(name),
        false => forbidden("this user may not write this column", name),
    })
}

/// The reject of a write that names a column that does not exist.
pub(super) fn unknown(name: &str) -> Reject {
    let message = format!("there is no column {}", echo(name));
    Reject::new(RejectCode::UnknownColumn, message).of_column(shorten(name))
}

fn forbidden(message: &str, column: &str) -> Reject {
    Reject::new(RejectCode::Forbidden, message).of_column(column)
}

/// Fills in the columns that the server sets when a row is created, and returns their positions. A client may send the
/// same values, and no others, in whatever it writes.
pub(super) fn fill(
    op: Op,
    values: &mut Values,
    schema: &Schema,
    columns: &WriteColumns,
) -> Result<Vec<usize>, Reject> {
    let mut filled = Vec::new();
    for (name, value) in &columns.defaults {
        let position = schema
            .position(name)
            .ok_or_else(|| forbidden("the server cannot fill in this column", name))?;
        let sent = values.get(&position);
        let may_create = matches!(op, Op::Create | Op::Upsert);
        if !may_create && sent.is_none() {
            continue;
        }
        let own = own_value(value.as_ref(), schema, position)
            .ok_or_else(|| forbidden("the server has no value of this user for it", name))?;
        if sent.is_some_and(|sent| !is_same(sent, &own)) {
            return Err(forbidden("the server fills in this column", name));
        }
        if may_create {
            values.insert(position, own);
            filled.push(position);
        }
    }
    Ok(filled)
}

/// The column that the server fills in, and its value as the column takes it.
pub(super) fn own_default(
    name: &str,
    value: Option<&Value>,
    schema: &Schema,
) -> Result<(usize, Value), Reject> {
    let position = schema
        .position(name)
        .ok_or_else(|| forbidden("the server cannot fill in this column", name))?;
    let own = own_value(value, schema, position)
        .and_then(|own| serde_json::from_str(own.get()).ok())
        .ok_or_else(|| forbidden("the server has no value of this user for it", name))?;
    Ok((position, own))
}

/// The value as a column takes it; none when it is missing, or does not convert exactly.
fn own_value(value: Option<&Value>, schema: &Schema, position: usize) -> Option<Box<RawValue>> {
    let raw = to_raw_value(value.filter(|value| !value.is_null())?).ok()?;
    let checked = column_value::check(&schema.columns[position].kind, &raw);
    checked.ok().map(std::borrow::Cow::into_owned)
}

/// Whether two values of one column are the same. A number may be given as a text.
fn is_same(one: &RawValue, other: &RawValue) -> bool {
    let text = |raw: &RawValue| match serde_json::from_str(raw.get()) {
        Ok(Value::String(text)) => text,
        _ => raw.get().to_owned(),
    };
    text(one) == text(other)
}

/// The reject as its writer may know it: without the name of a column that the writer may not read, unless the write
/// names it.
pub fn concealed(reject: Reject, write: &Write, columns: &WriteColumns) -> Reject {
    let is_secret = |column: &str| columns.is_hidden(column) && !write.values.contains_key(column);
    if !reject.column.as_deref().is_some_and(is_secret) {
        return reject;
    }
    without_column(reject)
}

/// The reject without the column that it names.
pub fn without_column(reject: Reject) -> Reject {
    Reject {
        column: None,
        message: "a rule of the table forbids it".to_owned(),
        ..reject
    }
}
