//! The rows of one subscription, and the changes that act on them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use super::frame::{Fields, Violation, rule};

/// Rows and the clocks of their fields, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) rows: BTreeMap<String, Value>,
    pub(super) clocks: BTreeMap<String, Value>,
}

impl Rows {
    /// Stores `row` and `clocks` of an entry of a `snapshot` frame or of a `put`.
    pub(super) fn put(&mut self, key: &str, entry: Fields<'_>) -> Result<(), Violation> {
        self.rows
            .insert(key.to_owned(), entry.value("row")?.clone());
        match entry.optional("clocks") {
            Some(clocks) => self.clocks.insert(key.to_owned(), clocks.clone()),
            None => self.clocks.remove(key),
        };
        Ok(())
    }

    /// Applies one change. With `partial`, rows from before the changes may be missing.
    pub(super) fn apply(
        &mut self,
        change: Fields<'_>,
        schema: &Schema,
        partial: bool,
    ) -> Result<(), Violation> {
        match change.text("op")? {
            "put" => {
                let key = change.text("key")?;
                schema.check(key, change.value("row")?)?;
                self.put(key, change)
            }
            "patch" => self.patch(change, partial),
            "delete" | "leave" => {
                let key = change.text("key")?;
                self.rows.remove(key);
                self.clocks.remove(key);
                Ok(())
            }
            "truncate" => {
                *self = Self::default();
                Ok(())
            }
            other => Err(Violation(format!("an unknown op `{other}`"))),
        }
    }

    fn patch(&mut self, change: Fields<'_>, partial: bool) -> Result<(), Violation> {
        let key = change.text("key")?;
        let known = partial || self.rows.contains_key(key);
        rule!(known, "a patch of the row {key}, which is not here");
        merge(self.rows.entry(key.to_owned()), change.object("values")?);
        merge(self.clocks.entry(key.to_owned()), change.object("clocks")?);
        Ok(())
    }
}

fn merge(entry: Entry<'_, String, Value>, values: &Map<String, Value>) {
    if let Value::Object(fields) = entry.or_insert_with(|| Value::Object(Map::new())) {
        fields.extend(
            values
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    }
}

/// The `schema` of a `subscribed` frame.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    pub(super) summary: Value,
    /// Whether rows may lack columns that their reader may not read in them.
    may_lack_columns: bool,
}

impl Schema {
    /// Reads the `schema` of a subscription with this `shape`.
    pub(super) fn read(value: &Value, shape: &str) -> Result<Self, Violation> {
        let schema = Fields::of(value)?;
        let types_are_text = schema.object("columns")?.values().all(Value::is_string);
        rule!(types_are_text, "a column's type is not a string");
        let key_is_text = schema.list("key")?.iter().all(Value::is_string);
        rule!(key_is_text, "a key column is not a string");
        let end = shape.rsplit('.').next().unwrap_or_default();
        Ok(Self {
            summary: value.clone(),
            may_lack_columns: end.starts_with('~'),
        })
    }

    /// Checks that a row has the columns of the schema and the given key.
    pub(super) fn check(&self, key: &str, row: &Value) -> Result<(), Violation> {
        let row = Fields::of(row)?;
        let expected: Vec<&String> = self.columns().flat_map(Map::keys).collect();
        let found: Vec<&String> = row.names().collect();
        // An entity without a table has no columns; its rows contain whatever the server recorded.
        let same = (self.may_lack_columns || found.len() == expected.len())
            && found.iter().all(|column| expected.contains(column));
        rule!(
            expected.is_empty() || same,
            "the row {key} has the columns {found:?}, and the schema {expected:?}"
        );
        if let Some([Value::String(column)]) = self.summary["key"].as_array().map(Vec::as_slice) {
            // The canonical text of other types may differ from their JSON.
            let text = match row.optional(column) {
                Some(Value::Number(number)) if number.is_i64() => number.to_string(),
                Some(Value::String(text)) if self.summary["columns"][column] == "text" => {
                    text.clone()
                }
                _ => return Ok(()),
            };
            rule!(
                text == key,
                "the row with the key {key} has {column} = {text}"
            );
        }
        Ok(())
    }

    fn columns(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.summary["columns"].as_object().into_iter()
    }
}
