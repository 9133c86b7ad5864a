//! The rows of one subscription, and the changes that act on them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::frame::{Fields, Violation, rule};

/// The members that say what is known of a row beside its values.
const METADATA: [&str; 6] = ["born", "died", "base", "edited", "clocks", "lost"];

/// Rows and what is known of them beside their values, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) rows: BTreeMap<String, Value>,
    /// Of the rows of which something is known.
    pub(super) metadata: BTreeMap<String, Value>,
}

/// What a patch of a row means that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// It breaks a rule.
    Wrong,
    /// Nothing: the subscription has joined a live shape, ahead of the stream.
    Nothing,
    /// The test resumed without the rows.
    Unknown,
}

impl Rows {
    /// Stores the row of an entry of a `snapshot` frame or of a `put`, with its metadata.
    pub(super) fn put(&mut self, key: &str, entry: Fields<'_>) -> Result<(), Violation> {
        self.rows
            .insert(key.to_owned(), entry.value("row")?.clone());
        self.know(key, entry)
    }

    /// Applies one change.
    pub(super) fn apply(
        &mut self,
        change: Fields<'_>,
        schema: &Schema,
        absent: Absent,
    ) -> Result<(), Violation> {
        match change.text("op")? {
            "put" => {
                let key = change.text("key")?;
                schema.check(key, change.value("row")?)?;
                self.put(key, change)
            }
            "patch" => self.patch(change, schema, absent),
            "delete" | "leave" => {
                let key = change.text("key")?;
                self.rows.remove(key);
                self.metadata.remove(key);
                Ok(())
            }
            "truncate" => {
                *self = Self::default();
                Ok(())
            }
            other => Err(Violation(format!("an unknown op `{other}`"))),
        }
    }

    fn patch(
        &mut self,
        change: Fields<'_>,
        schema: &Schema,
        absent: Absent,
    ) -> Result<(), Violation> {
        let key = change.text("key")?;
        let values = change.object("values")?;
        schema.check_values(key, values)?;
        if !self.rows.contains_key(key) {
            rule!(
                absent != Absent::Wrong,
                "a patch of the row {key}, which is not here"
            );
            if absent == Absent::Nothing {
                return Ok(());
            }
        }
        let row = self.rows.entry(key.to_owned());
        if let Value::Object(fields) = row.or_insert_with(|| Value::Object(Map::new())) {
            fields.extend(values.clone());
        }
        self.know(key, change)
    }

    /// Takes what an entry says of a row beside its values, in place of what was known.
    fn know(&mut self, key: &str, entry: Fields<'_>) -> Result<(), Violation> {
        let members = METADATA.iter();
        let known = members.filter_map(|name| Some((*name, entry.optional(name)?)));
        let known: Map<String, Value> = known
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        for (name, value) in &known {
            rule!(
                value.is_string() != (name == "clocks" || name == "lost"),
                "`{name}` of the row {key} is {value}"
            );
        }
        let of_columns = ["clocks", "lost"]
            .iter()
            .filter_map(|name| known.get(*name));
        let columns = of_columns.filter_map(Value::as_object).flat_map(Map::keys);
        if let Some(row) = self.rows.get(key) {
            for column in columns {
                rule!(
                    row.get(column).is_some(),
                    "the row {key} has a clock or a lost value of {column}, which it has not"
                );
            }
        }
        match known.is_empty() {
            true => self.metadata.remove(key),
            false => self.metadata.insert(key.to_owned(), Value::Object(known)),
        };
        Ok(())
    }
}

/// Whether an entry says something of a row beside its values.
pub(super) fn has_metadata(entry: Fields<'_>) -> bool {
    METADATA.iter().any(|name| entry.optional(name).is_some())
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

    /// Checks that the values of a patch are of columns of the schema that are not in the key.
    fn check_values(&self, key: &str, values: &Map<String, Value>) -> Result<(), Violation> {
        for column in values.keys() {
            let known = self.columns().any(|columns| columns.contains_key(column));
            let in_key = self.summary["key"].as_array().into_iter().flatten();
            let in_key = in_key.into_iter().any(|it| it == column);
            rule!(
                known && !in_key,
                "a patch of the row {key} has a value of {column}"
            );
        }
        Ok(())
    }

    fn columns(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.summary["columns"].as_object().into_iter()
    }
}
