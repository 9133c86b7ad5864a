//! Records that a device sends: whole rows, of which the device may write some columns only.

use std::sync::Arc;

use merge::{Record, Rules};
use protocol::{Op, Reject, Write};
use serde_json::Map;
use value::schema::Schema;

use super::{Receipt, check_record};
use crate::mutation::CheckedWrite;
use crate::mutation::scope::own_default;
use crate::policy::WriteColumns;

/// Checks a record, and makes it the write that merges it. The record names every column of the row: those that its author
/// may not write, or that the server fills in, stay as they are.
///
/// # Errors
/// The first fault: what is wrong, in which column.
pub fn check_received(
    write: &Write,
    schema: &Arc<Schema>,
    columns: &WriteColumns,
    rules: &Arc<Rules>,
    receipt: &Receipt,
) -> Result<CheckedWrite, Reject> {
    let clock = receipt.clock_of_record(write)?;
    let is_default = |name: &str| columns.defaults.iter().any(|(default, _)| default == name);
    let is_key = |name: &str| schema.position(name).is_some_and(|at| schema.is_key(at));
    let values = write
        .values
        .iter()
        .filter(|(name, _)| is_key(name) || columns.is_writable(name) && !is_default(name));
    let mut values: Map<_, _> = values
        .map(|(name, raw)| {
            (
                name.clone(),
                serde_json::from_str(raw.get()).unwrap_or_default(),
            )
        })
        .collect();
    let is_deleted = write.op == Op::Delete;
    let mut filled = Vec::new();
    if !is_deleted {
        for (name, value) in columns.defaults.iter().filter(|(name, _)| !is_key(name)) {
            let (position, own) = own_default(name, value.as_ref(), schema)?;
            values.insert(name.clone(), own);
            filled.push(position);
        }
    }
    let record = Record {
        columns: values,
        is_deleted,
        hlc: clock,
        modified: None,
        metadata: None,
    };
    let mut checked = check_record(record, schema, rules)?;
    checked.filled = filled;
    if is_deleted {
        checked.op = Op::Delete;
    }
    Ok(checked)
}
