//! Checks a client's writes before the database sees them.
//!
//! Faults that the schema shows are answered here, in plain words that name the write and the column:
//! unknown entities and columns, values that are not of their column's kind, missing and contradictory
//! keys. Everything that only the database knows (other rows, its constraints, whether an upsert finds a
//! row) is left to it. The first fault rejects the whole mutation.
//!
//! Of rows that merge by their fields, [`fields`] says what a write makes.

pub mod chain;
mod column_value;
pub mod fields;
mod key_part;
#[cfg(test)]
mod properties;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use merge::Rules;
use protocol::{Op, Reject, RejectCode, Write};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use value::schema::Schema;

pub use scope::{concealed, without_column};

use self::fields::{FieldWrite, Merged, Receipt};
use crate::cursor::CommitId;
use crate::key;
use crate::policy::WriteColumns;

/// How much of the client's own words a message repeats, in characters.
const ECHO_CHARS_MAX: usize = 60;

/// A write that has been checked and may be given to the database.
#[derive(Debug, Clone)]
pub struct CheckedWrite {
    /// The entity.
    pub entity: String,
    /// The schema that the write was checked against.
    pub schema: Arc<Schema>,
    /// What to do.
    pub op: Op,
    /// One canonical JSON value for each key column, in the key's order. None only for a create
    /// that leaves (part of) the key to the database.
    pub key: Option<Vec<Value>>,
    /// Positions in the schema's columns and the values to write there, ascending, each column
    /// once. They include the key for a create and an upsert, but not for an update and a delete.
    pub values: Vec<(usize, Box<RawValue>)>,
    /// Positions of those values that the server has filled in: an upsert that finds its row leaves them as they are.
    pub filled: Vec<usize>,
    /// When it was made, where the row merges by its fields; none where it is replaced whole.
    pub fields: Option<FieldWrite>,
}

impl CheckedWrite {
    /// The text by which the log and the protocol name the row.
    pub fn canonical_key(&self) -> Option<String> {
        self.key.as_deref().map(key::canonical)
    }
}

/// How the database answered a mutation.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// Committed, now or when it was first sent.
    Committed {
        /// What a position must contain to show the mutation; none when the mutation is older than the log.
        commit_id: Option<CommitId>,
        /// The epoch that the commit id belongs to; none where there is only one.
        epoch: Option<String>,
        /// What became of the writes of rows that merge by their fields.
        merged: Merged,
    },
    /// Not applied, now or when it was first sent.
    Rejected(Reject),
}

impl Applied {
    /// Committed, where there is only one epoch.
    pub fn committed(commit_id: Option<CommitId>) -> Self {
        Self::Committed {
            commit_id,
            epoch: None,
            merged: Merged::default(),
        }
    }
}

/// Checks the number of a mutation's steps: at least one, at most `writes_max`.
///
/// # Errors
/// When there are too few or too many.
pub fn check_count(steps: usize, writes_max: usize) -> Result<(), Reject> {
    if steps == 0 {
        return Err(invalid("a mutation must have at least one write"));
    }
    if steps > writes_max {
        let message = format!("a mutation may have at most {writes_max} writes");
        return Err(Reject::new(RejectCode::TooLarge, message));
    }
    Ok(())
}

/// Checks a write against its entity's schema, which is none where there is no such entity, and within these columns.
///
/// # Errors
/// The first fault: what is wrong, in which column.
pub fn check(
    write: &Write,
    schema: Option<Arc<Schema>>,
    columns: &WriteColumns,
) -> Result<CheckedWrite, Reject> {
    check_write(write, schema, columns, None)
        .map_err(|fault| scope::concealed(fault, write, columns))
}

/// The same for an entity whose rows merge by these rules. The receipt knows the mutation's writes before this one.
///
/// # Errors
/// As [`check`], or when a clock is none that the write may have.
pub fn check_fields(
    write: &Write,
    schema: Arc<Schema>,
    columns: &WriteColumns,
    rules: &Arc<Rules>,
    receipt: &mut Receipt,
) -> Result<CheckedWrite, Reject> {
    let stamp = receipt.stamp(write)?;
    let mut checked = check_write(write, Some(schema), columns, Some(rules))
        .map_err(|fault| scope::concealed(fault, write, columns))?;
    let stamp = receipt.in_order(&checked, stamp)?;
    checked.fields = Some(FieldWrite {
        rules: rules.clone(),
        stamp,
        said: fields::said(write),
        resolves: fields::resolves(write)?,
    });
    Ok(checked)
}

fn check_write(
    write: &Write,
    schema: Option<Arc<Schema>>,
    columns: &WriteColumns,
    rules: Option<&Rules>,
) -> Result<CheckedWrite, Reject> {
    let schema = schema.ok_or_else(|| {
        let message = format!("there is no entity {}", echo(&write.entity));
        Reject::new(RejectCode::UnknownEntity, message)
    })?;
    scope::check_columns(write, columns)?;
    check_resolves(write, &schema, rules)?;
    let key = write
        .key
        .as_ref()
        .map(|key| read_key(key, &schema))
        .transpose()?;
    let mut values = read_values(&write.values, &schema, rules)?;
    let filled = scope::fill(write.op, &mut values, &schema, columns)?;
    let key = match write.op {
        Op::Create | Op::Upsert => join_key(write.op, key, &mut values, &schema)?,
        Op::Update | Op::Delete => {
            let resolves = !write.resolves.is_empty();
            Some(drop_key(write.op, key, &mut values, &schema, resolves)?)
        }
    };
    check_columns(write.op, &values, &schema)?;
    Ok(CheckedWrite {
        entity: write.entity.clone(),
        schema,
        op: write.op,
        key,
        values: values.into_iter().collect(),
        filled,
        fields: None,
    })
}

/// Checks that lost values may be resolved with the write, and that their columns exist.
fn check_resolves(write: &Write, schema: &Schema, rules: Option<&Rules>) -> Result<(), Reject> {
    if write.resolves.is_empty() {
        return Ok(());
    }
    if rules.is_none() {
        return Err(invalid(
            "the entity's rows do not merge by their fields, so nothing is to be resolved",
        ));
    }
    if write.op != Op::Update {
        return Err(invalid("only an update resolves conflicts"));
    }
    let unknown = write
        .resolves
        .keys()
        .find(|name| schema.position(name).is_none());
    unknown.map_or(Ok(()), |name| Err(scope::unknown(name)))
}

/// Values by the position of their column.
type Values = BTreeMap<usize, Box<RawValue>>;

fn read_key(key: &Value, schema: &Schema) -> Result<Vec<Value>, Reject> {
    let parts = key::split(key, schema.key.len()).ok_or_else(|| match schema.key.len() {
        1 => invalid("a key of one column must be a text or a number"),
        several => invalid(format!(
            "a key of {several} columns must be an array of their values"
        )),
    })?;
    let columns = schema.key_columns();
    let read = columns.zip(&parts).map(|(column, part)| {
        key_part::canonical_as_sent(&column.kind, part)
            .map_err(|fault| invalid(fault).of_column(&column.name))
    });
    read.collect()
}

fn read_values(
    values: &BTreeMap<String, Box<RawValue>>,
    schema: &Schema,
    rules: Option<&Rules>,
) -> Result<Values, Reject> {
    let read = values.iter().map(|(name, raw)| {
        let position = schema.position(name).ok_or_else(|| scope::unknown(name))?;
        let column = &schema.columns[position];
        if raw.get() == "null" {
            let allowed = column.nullable && !schema.is_key(position);
            return if allowed {
                Ok((position, raw.clone()))
            } else {
                Err(not_null(&column.name))
            };
        }
        let edit = rules.and_then(|rules| fields::check_edit(rules, schema, position, raw));
        if let Some(checked) = edit {
            checked.map_err(|fault| invalid(fault).of_column(&column.name))?;
            return Ok((position, raw.clone()));
        }
        let checked = column_value::check(&column.kind, raw)
            .map_err(|fault| invalid(fault).of_column(&column.name))?;
        Ok((position, checked.into_owned()))
    });
    read.collect()
}

/// The key of a create or an upsert, from `key` and from the key's columns in `values`. Every known part of
/// it is added to `values`.
fn join_key(
    op: Op,
    sent: Option<Vec<Value>>,
    values: &mut Values,
    schema: &Schema,
) -> Result<Option<Vec<Value>>, Reject> {
    let mut key = Vec::with_capacity(schema.key.len());
    for (index, &position) in schema.key.iter().enumerate() {
        let column = &schema.columns[position];
        let sent = sent.as_ref().map(|sent| &sent[index]);
        let part = match (sent, key_part_of(values, position, schema)?) {
            (Some(sent), Some(part)) if *sent != part => {
                let message = "`key` and the key's columns in `values` name different rows";
                return Err(invalid(message).of_column(&column.name));
            }
            (sent, part) => sent.cloned().or(part),
        };
        match part {
            Some(part) => {
                values.insert(position, to_raw_value(&part).expect("values are JSON"));
                key.push(part);
            }
            None if op == Op::Upsert => {
                return Err(invalid("an upsert must name its whole key").of_column(&column.name));
            }
            None if !column.has_default && !column.generated => return Err(not_null(&column.name)),
            None => {}
        }
    }
    Ok((key.len() == schema.key.len()).then_some(key))
}

/// The key of an update or a delete. The key's columns are removed from `values`; they may only repeat the
/// key.
fn drop_key(
    op: Op,
    sent: Option<Vec<Value>>,
    values: &mut Values,
    schema: &Schema,
    may_set_nothing: bool,
) -> Result<Vec<Value>, Reject> {
    if op == Op::Delete && !values.is_empty() {
        return Err(invalid("a delete cannot have values"));
    }
    let key = sent.ok_or_else(|| invalid("an update or a delete must name its row in `key`"))?;
    for (&position, part) in schema.key.iter().zip(&key) {
        if key_part_of(values, position, schema)?.is_some_and(|other| other != *part) {
            let message = "a key cannot change; delete the row and create it again";
            return Err(invalid(message).of_column(&schema.columns[position].name));
        }
        values.remove(&position);
    }
    if op == Op::Update && values.is_empty() && !may_set_nothing {
        return Err(invalid(
            "an update must set at least one value besides the key",
        ));
    }
    Ok(key)
}

fn key_part_of(values: &Values, position: usize, schema: &Schema) -> Result<Option<Value>, Reject> {
    let column = &schema.columns[position];
    let part = values
        .get(&position)
        .map(|raw| key_part::canonical(&column.kind, raw));
    part.transpose()
        .map_err(|fault| invalid(fault).of_column(&column.name))
}

/// Checks that these columns may be written, and that a create sets every column it must. An upsert may find
/// its row, so the database checks what it leaves out.
fn check_columns(op: Op, values: &Values, schema: &Schema) -> Result<(), Reject> {
    for (position, column) in schema.columns.iter().enumerate() {
        let written = values.contains_key(&position);
        if written && column.generated {
            return Err(invalid("the database computes this column").of_column(&column.name));
        }
        let filled = column.nullable || column.has_default || column.generated;
        if op == Op::Create && !written && !filled {
            return Err(not_null(&column.name));
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Reject {
    Reject::new(RejectCode::Invalid, message)
}

fn not_null(column: &str) -> Reject {
    Reject::new(RejectCode::Constraint, format!("{column} may not be null")).of_column(column)
}

/// The client's own words, quoted and shortened.
fn echo(words: &str) -> String {
    format!("{:?}", shorten(words))
}

/// The beginning of the client's own words.
fn shorten(words: &str) -> String {
    match words.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}
