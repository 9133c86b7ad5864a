//! Values that can be compared, and what a row holds in a column.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;
use value::{Date, Decimal, Double, Real, Timestamp};

/// A value of a column. Values that are equal in the database are equal here, and the order is the
/// database's. Only values of one column are ever compared, so the order between variants means nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    /// False is below true.
    Bool(bool),
    /// `int2`, `int4`, `int8`.
    Int(i64),
    /// `float4`, `float8`.
    Double(Double),
    /// `numeric`.
    Decimal(Decimal),
    /// Any number of SQLite.
    Real(Real),
    /// A text, ordered by its bytes in UTF-8.
    Text(Arc<str>),
    /// A uuid, ordered by its bytes.
    Uuid(Uuid),
    /// `date`.
    Date(Date),
    /// `timestamp`.
    Timestamp(Timestamp),
    /// `timestamptz`.
    TimestampTz(Timestamp),
    /// A label of an enum, ordered as the type lists them.
    Label {
        /// Its position among the labels.
        order: usize,
        /// Its spelling.
        name: Arc<str>,
    },
}

/// What a row holds in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// It was not read.
    Unread,
    /// Null.
    Null,
    /// Something that is not of the column's kind: no comparison with it is true or false.
    Foreign,
    /// A value.
    Value(Scalar),
}

impl fmt::Display for Scalar {
    /// The text that both databases read as this value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::Decimal(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Uuid(value) => value.hyphenated().fmt(f),
            Self::Date(value) => value.fmt(f),
            Self::Timestamp(value) => value.fmt(f),
            Self::TimestampTz(value) => write!(f, "{value}Z"),
            Self::Label { name, .. } => name.fmt(f),
        }
    }
}

impl Scalar {
    /// The value as a filter spells it.
    pub(super) fn literal(&self) -> String {
        let text = self.to_string();
        match self {
            Self::Bool(_) => text.to_uppercase(),
            Self::Int(_) | Self::Double(_) | Self::Decimal(_) | Self::Real(_)
                if text.ends_with(|last: char| last.is_ascii_digit()) =>
            {
                text
            }
            _ => quoted(&text),
        }
    }
}

/// A text literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_a_filter_spells_it() {
        for (scalar, literal) in [
            (Scalar::Bool(true), "TRUE"),
            (Scalar::Int(-5), "-5"),
            (Scalar::Double(Double::new(1e300)), "1e300"),
            (Scalar::Double(Double::new(f64::NAN)), "'NaN'"),
            (Scalar::Decimal(Decimal::NaN), "'NaN'"),
            (Scalar::Real(Real::new(f64::NEG_INFINITY)), "'-Infinity'"),
            (Scalar::Text("it's".into()), "'it''s'"),
            (Scalar::Text("7".into()), "'7'"),
            (
                Scalar::Label {
                    order: 3,
                    name: "low".into(),
                },
                "'low'",
            ),
        ] {
            assert_eq!(scalar.literal(), literal);
        }
    }
}
