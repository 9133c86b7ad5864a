//! The tables that a node syncs, and how their values look in its SQLite.

use std::sync::Arc;

use serde_json::{Map, Value};
use value::schema::{ColumnKind, Schema};

/// The columns that the family keeps beside those of a table, in every record.
pub(super) const OWN_COLUMNS: [&str; 4] = ["is_deleted", "hlc", "node_id", "modified"];

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) schema: Arc<Schema>,
    /// Whether the user may not see everything of it, so that rows that are gone are not named.
    pub(super) is_guarded: bool,
}

/// The tables, those that others refer to first.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    all: Vec<Table>,
    /// Whether truth values are sent as `true` and `false`. SQLite has numbers.
    has_booleans: bool,
}

impl Tables {
    pub(super) fn new(all: Vec<Table>, has_booleans: bool) -> Self {
        Self { all, has_booleans }
    }

    pub(super) fn all(&self) -> &[Table] {
        &self.all
    }

    pub(super) fn get(&self, index: usize) -> Option<&Table> {
        self.all.get(index)
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let mut tables = self.all.iter();
        tables.position(|table| table.schema.entity == name)
    }

    /// A row's columns as a node takes them: numbers for truth values, texts for JSON.
    pub(super) fn shown(&self, table: &Table, row: Map<String, Value>) -> Map<String, Value> {
        let columns = row.into_iter().filter(|(name, _)| !is_own(name));
        columns
            .map(|(name, value)| {
                let shown = match (kind(table, &name), value) {
                    (Some(ColumnKind::Bool), Value::Bool(value)) if !self.has_booleans => {
                        Value::from(u8::from(value))
                    }
                    (_, value @ (Value::Array(_) | Value::Object(_))) => {
                        Value::String(value.to_string())
                    }
                    (_, value) => value,
                };
                (name, shown)
            })
            .collect()
    }

    /// The columns of a row that is gone: its key, and what a table must have where a column takes no null. A node's
    /// database checks that before it finds the row.
    pub(super) fn of_tombstone(
        &self,
        table: &Table,
        key: Map<String, Value>,
    ) -> Map<String, Value> {
        let mut columns = self.shown(table, key.clone());
        for (index, column) in table.schema.columns.iter().enumerate() {
            // A default that there is here need not be there.
            let may_be_missing = column.nullable || column.generated;
            if may_be_missing || table.schema.is_key(index) || is_own(&column.name) {
                continue;
            }
            let nothing = match &column.kind {
                ColumnKind::Bool if self.has_booleans => Value::Bool(false),
                ColumnKind::Bool
                | ColumnKind::Int { .. }
                | ColumnKind::Float
                | ColumnKind::Numeric => Value::from(0),
                ColumnKind::Json => Value::from("{}"),
                ColumnKind::Array(_) => Value::from("[]"),
                _ => Value::from(""),
            };
            columns.insert(column.name.clone(), nothing);
        }
        columns
    }

    /// Whether a tombstone of the table has more than the key, so that a constraint may forbid it.
    pub(super) fn has_filled_tombstones(table: &Table) -> bool {
        let mut columns = table.schema.columns.iter().enumerate();
        columns.any(|(index, column)| {
            !column.nullable && !column.generated && !table.schema.is_key(index)
        })
    }

    /// A column's value as it is written here.
    pub(super) fn taken(table: &Table, column: &str, value: Value) -> Value {
        match (kind(table, column), value) {
            (Some(ColumnKind::Bool), Value::Number(number)) => match number.as_f64() {
                Some(0.0) => Value::Bool(false),
                Some(1.0) => Value::Bool(true),
                _ => Value::Number(number),
            },
            (Some(ColumnKind::Json | ColumnKind::Array(_)), Value::String(text)) => {
                let read: Option<Value> = serde_json::from_str(&text).ok();
                let read = read.filter(|read| read.is_array() || read.is_object());
                read.unwrap_or(Value::String(text))
            }
            (_, value) => value,
        }
    }
}

pub(super) fn is_own(column: &str) -> bool {
    OWN_COLUMNS.contains(&column)
}

fn kind<'a>(table: &'a Table, column: &str) -> Option<&'a ColumnKind> {
    let position = table.schema.position(column)?;
    Some(&table.schema.columns[position].kind)
}
