//! Which comparisons a column supports.
//!
//! A class says how a column's values are compared, in the database and in Rust alike. A column whose
//! comparisons cannot be repeated exactly in Rust has no class.

use std::sync::Arc;

use super::condition::{Backend, Table};
use value::schema::{Collation, ColumnKind};

/// How a column's values are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    Bool,
    Int,
    /// Compared as doubles.
    Float4,
    Float8,
    Numeric,
    /// Any number of SQLite, which keeps decimals as doubles.
    Real,
    Text {
        form: Form,
        ordered: bool,
    },
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    Enum(Arc<[Arc<str>]>),
}

/// What the texts of a column stand for. SQLite keeps them as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Any,
    Uuid,
    Date,
}

impl Class {
    /// The class of a column.
    ///
    /// # Errors
    /// The reason why its values cannot be compared.
    pub(super) fn of(table: Table<'_>, index: usize) -> Result<Self, &'static str> {
        let column = table.column(index);
        match table.backend {
            Backend::Postgres => of_postgres(&column.kind, &column.type_name, column.collation),
            Backend::Sqlite => of_sqlite(&column.kind, column.collation),
        }
    }

    /// Whether `<`, `<=`, `>` and `>=` are supported.
    pub(super) fn is_ordered(&self) -> bool {
        !matches!(self, Self::Text { ordered: false, .. })
    }

    /// Whether a column of this class equals one of the other as their values do. The order of texts does not matter.
    pub(super) fn equals_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text { form, .. }, Self::Text { form: other, .. }) => form == other,
            _ => self == other,
        }
    }

    /// What its values are, for a message.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bool => "booleans",
            Self::Int => "whole numbers",
            Self::Float4 => "numbers of 4 bytes",
            Self::Float8 => "doubles",
            Self::Numeric => "decimals",
            Self::Real => "numbers",
            Self::Text {
                form: Form::Any, ..
            } => "texts",
            Self::Uuid
            | Self::Text {
                form: Form::Uuid, ..
            } => "uuids",
            Self::Date
            | Self::Text {
                form: Form::Date, ..
            } => "dates",
            Self::Timestamp => "times without a zone",
            Self::TimestampTz => "times with a zone",
            Self::Enum(_) => "labels",
        }
    }

    /// Whether `LIKE` is supported.
    pub(super) fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Text {
                form: Form::Any,
                ..
            }
        )
    }

    /// The literals that it takes, for a message.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number of 64 bits",
            Self::Float4 | Self::Float8 => r#"a double, 'NaN', 'Infinity' or '-Infinity'"#,
            Self::Numeric => {
                "a number of at most 1000 digits on either side of its point, or 'NaN'"
            }
            Self::Real => "a number, 'Infinity' or '-Infinity'",
            Self::Text {
                form: Form::Any, ..
            } => "a text without the character U+0000",
            Self::Uuid
            | Self::Text {
                form: Form::Uuid, ..
            } => "a uuid",
            Self::Date
            | Self::Text {
                form: Form::Date, ..
            } => "a date of the years 1 to 9999 as 'YYYY-MM-DD'",
            Self::Timestamp => {
                "a time of the years 1 to 9999 as 'YYYY-MM-DDTHH:MM:SS.ffffff', without a zone or in UTC"
            }
            Self::TimestampTz => {
                "a time of the years 1 to 9999 as 'YYYY-MM-DDTHH:MM:SS.ffffff' with Z, +HH:MM or -HH:MM"
            }
            Self::Enum(_) => "one of the type's labels",
        }
    }
}

/// Whether a filter can compare the values of a table's column. Any other column can only be tested for null, so
/// of its previous values only that matters.
pub fn compares(table: Table<'_>, index: usize) -> bool {
    Class::of(table, index).is_ok()
}

fn of_postgres(
    kind: &ColumnKind,
    type_name: &str,
    collation: Collation,
) -> Result<Class, &'static str> {
    Ok(match kind {
        ColumnKind::Bool => Class::Bool,
        ColumnKind::Int { .. } => Class::Int,
        ColumnKind::Float if type_name == "float4" => Class::Float4,
        ColumnKind::Float => Class::Float8,
        ColumnKind::Numeric => Class::Numeric,
        ColumnKind::Text { .. } => match type_name {
            "bpchar" => return Err("char(n) ignores trailing spaces"),
            "citext" => return Err("citext has its own equality"),
            _ => text(collation)?,
        },
        ColumnKind::Uuid => Class::Uuid,
        ColumnKind::Date => Class::Date,
        ColumnKind::Timestamp => Class::Timestamp,
        ColumnKind::TimestampTz => Class::TimestampTz,
        ColumnKind::Enum(labels) => {
            Class::Enum(labels.iter().map(|label| label.as_str().into()).collect())
        }
        other => return Err(opaque(other)),
    })
}

fn of_sqlite(kind: &ColumnKind, collation: Collation) -> Result<Class, &'static str> {
    let form = match kind {
        ColumnKind::Bool => return Ok(Class::Bool),
        ColumnKind::Int { .. } => return Ok(Class::Int),
        ColumnKind::Float | ColumnKind::Numeric => return Ok(Class::Real),
        ColumnKind::Text { .. } => Form::Any,
        ColumnKind::Uuid => Form::Uuid,
        ColumnKind::Date => Form::Date,
        ColumnKind::Timestamp | ColumnKind::TimestampTz => {
            return Err("SQLite keeps times in the form in which they were written");
        }
        other => return Err(opaque(other)),
    };
    let Class::Text { ordered, .. } = text(collation)? else {
        unreachable!("made by `text`")
    };
    Ok(Class::Text { form, ordered })
}

fn text(collation: Collation) -> Result<Class, &'static str> {
    let ordered = match collation {
        Collation::Bytes => true,
        Collation::Deterministic => false,
        Collation::Other => return Err("its collation treats different texts as equal"),
    };
    Ok(Class::Text {
        form: Form::Any,
        ordered,
    })
}

fn opaque(kind: &ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Bytes => "bytes are not compared",
        ColumnKind::Json => "JSON values are not compared",
        ColumnKind::Array(_) => "arrays are not compared",
        _ => "values of this type are not compared",
    }
}
