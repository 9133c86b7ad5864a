//! Reads a row's JSON as values that can be compared.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;
use value::{Date, Decimal, Double, Real, Timestamp};

use super::class::Class;
use super::condition::Table;
use super::row::RowValues;
use super::scalar::{Cell, Scalar};

/// Reads some columns of a table's rows. One reader serves all filters on a table, so that a row is read
/// once for all of them.
#[derive(Debug, Clone)]
pub struct RowReader {
    known: BTreeMap<String, Known>,
    columns: usize,
}

/// A column of the table.
#[derive(Debug, Clone)]
struct Known {
    position: usize,
    /// None for a column that no filter names.
    wanted: Option<Read>,
}

#[derive(Debug, Clone)]
struct Read {
    /// None where null is all that can be recognised.
    class: Option<Class>,
}

/// A row that is not a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row cannot be read: {0}")]
pub struct RowError(String);

impl RowReader {
    /// Makes a reader of these columns, given by their positions.
    pub fn new(table: Table<'_>, columns: impl IntoIterator<Item = usize>) -> Self {
        let columns: BTreeSet<usize> = columns.into_iter().collect();
        let known = table.names().enumerate().map(|(position, name)| {
            let wanted = columns.contains(&position).then(|| Read {
                class: Class::of(table, position).ok(),
            });
            (name.to_owned(), Known { position, wanted })
        });
        Self {
            known: known.collect(),
            columns: table.schema.columns.len(),
        }
    }

    /// Reads a row from the JSON that the engine's projection makes.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn read(&self, row: &RawValue) -> Result<RowValues, RowError> {
        let mut values = RowValues::unread(self.columns);
        for known in self.known.values().filter(|known| known.wanted.is_some()) {
            // A column that the row lacks is not null.
            values.cells[known.position] = Cell::Foreign;
        }
        self.read_into(row, &mut values, &mut BTreeSet::new())?;
        Ok(values)
    }

    /// Reads only the columns that `changed` names.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn read_some(&self, changed: &RawValue) -> Result<RowValues, RowError> {
        let mut values = RowValues::unread(self.columns);
        self.read_into(changed, &mut values, &mut BTreeSet::new())?;
        Ok(values)
    }

    /// Overwrites a row's values with the columns that `changed` names, and adds their positions to `named`.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn read_into(
        &self,
        changed: &RawValue,
        values: &mut RowValues,
        named: &mut BTreeSet<usize>,
    ) -> Result<(), RowError> {
        let mut reader = serde_json::Deserializer::from_str(changed.get());
        let members = Members {
            known: &self.known,
            cells: &mut values.cells,
            named,
        };
        members
            .deserialize(&mut reader)
            .map_err(|error| RowError(error.to_string()))
    }
}

/// Visits an object's members and keeps only the wanted ones.
struct Members<'a> {
    known: &'a BTreeMap<String, Known>,
    cells: &'a mut [Cell],
    named: &'a mut BTreeSet<usize>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name<'de>>()? {
            let known = self.known.get(&*name.0);
            self.named.extend(known.map(|known| known.position));
            match known.and_then(|known| Some((known.position, known.wanted.as_ref()?))) {
                Some((position, wanted)) => {
                    let raw: &RawValue = map.next_value()?;
                    self.cells[position] = cell(wanted.class.as_ref(), raw.get());
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The members of a row whose names `keep` accepts, in their order.
///
/// # Errors
/// When it is not a JSON object.
pub fn project(row: &RawValue, keep: impl Fn(&str) -> bool) -> Result<Box<RawValue>, RowError> {
    let mut reader = serde_json::Deserializer::from_str(row.get());
    let text = Projected(keep).deserialize(&mut reader);
    text.and_then(RawValue::from_string)
        .map_err(|error| RowError(error.to_string()))
}

struct Projected<F>(F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for Projected<F> {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<String, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Projected<F> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut text = String::from("{");
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if !self.0(&name.0) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &RawValue = map.next_value()?;
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(&name.0).expect("text is JSON"));
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        Ok(text)
    }
}

/// A member's name, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The cell of a JSON value in a column of this class.
fn cell(class: Option<&Class>, json: &str) -> Cell {
    if json == "null" {
        return Cell::Null;
    }
    class
        .and_then(|class| scalar(class, json))
        .map_or(Cell::Foreign, Cell::Value)
}

/// The value that a row's JSON has in a column of this class.
pub(super) fn scalar(class: &Class, json: &str) -> Option<Scalar> {
    match (class, json) {
        (Class::Bool, "true") => return Some(Scalar::Bool(true)),
        (Class::Bool, "false") => return Some(Scalar::Bool(false)),
        _ => {}
    }
    if json.starts_with('"') {
        let text: String = serde_json::from_str(json).ok()?;
        return of_text(class, &text);
    }
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if is_number {
        of_number(class, json)
    } else {
        None
    }
}

/// Reads a number. Rows have it as a text where a double would lose digits or JSON has no number for it.
fn of_number(class: &Class, text: &str) -> Option<Scalar> {
    Some(match class {
        Class::Int => Scalar::Int(text.parse().ok()?),
        // The text is that of a `float4`; read as a double it would be another value.
        Class::Float4 => Scalar::Double(Double::new(f64::from(text.parse::<f32>().ok()?))),
        Class::Float8 => Scalar::Double(Double::new(text.parse().ok()?)),
        Class::Numeric => Scalar::Decimal(Decimal::read(text)?),
        Class::Real => Scalar::Real(match text.parse() {
            Ok(whole) => Real::Whole(whole),
            Err(_) => Real::new(text.parse().ok()?),
        }),
        _ => return None,
    })
}

fn of_text(class: &Class, text: &str) -> Option<Scalar> {
    Some(match class {
        Class::Int | Class::Float4 | Class::Float8 | Class::Numeric => {
            return of_number(class, text);
        }
        // A column of SQLite may hold any text; only these are numbers.
        Class::Real => Scalar::Real(match text {
            "Infinity" => Real::new(f64::INFINITY),
            "-Infinity" => Real::new(f64::NEG_INFINITY),
            _ => Real::Whole(text.parse().ok()?),
        }),
        Class::Text { .. } => Scalar::Text(text.into()),
        Class::Uuid => Scalar::Uuid(Uuid::try_parse(text).ok()?),
        Class::Date => Scalar::Date(Date::read(text)?),
        Class::Timestamp => Scalar::Timestamp(Timestamp::read(text)?.0),
        Class::TimestampTz => Scalar::TimestampTz(Timestamp::read(text)?.0),
        Class::Enum(labels) => {
            let order = labels.iter().position(|label| **label == *text)?;
            Scalar::Label {
                order,
                name: labels[order].clone(),
            }
        }
        Class::Bool => return None,
    })
}
