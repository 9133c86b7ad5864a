//! Reads what a client wrote as a value of a column's class.

use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;
use value::{Date, Decimal, Double, Finite, Real, Timestamp, Zone};

use super::claim::Claim;
use super::class::{Class, Form};
use super::scalar::Scalar;
use super::syntax::Term;

/// A literal or a parameter, as the client wrote it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Arc<str>),
}

impl<'a> Given<'a> {
    /// Reads a parameter; none when it is an array or an object.
    pub(super) fn of_param(json: &'a RawValue) -> Option<Self> {
        Some(match json.get() {
            "null" => Self::Null,
            "true" => Self::Bool(true),
            "false" => Self::Bool(false),
            text if text.starts_with('"') => {
                Self::Text(serde_json::from_str::<String>(text).ok()?.into())
            }
            text if text.starts_with(['[', '{']) => return None,
            number => Self::Number(number),
        })
    }

    /// Reads a literal; none when the term is something else.
    pub(super) fn of_term(term: &'a Term) -> Option<Self> {
        Some(match term {
            Term::Null => Self::Null,
            Term::Bool(value) => Self::Bool(*value),
            Term::Number(text) => Self::Number(text),
            Term::Text(text) => Self::Text(text.as_str().into()),
            Term::Column { .. } | Term::Param(_) | Term::Claim(_) => return None,
        })
    }

    /// The value of a claim; null for one that is not a single value.
    pub(super) fn of_claim(claim: &'a Claim) -> Self {
        match claim {
            Claim::Bool(value) => Self::Bool(*value),
            Claim::Number(digits) => Self::Number(digits),
            Claim::Text(text) => Self::Text(text.clone()),
            Claim::Null | Claim::List(_) | Claim::Other => Self::Null,
        }
    }

    /// What the client wrote, for a message.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Null => "NULL",
            Self::Bool(true) => "TRUE",
            Self::Bool(false) => "FALSE",
            Self::Number(text) => text,
            Self::Text(text) => text,
        }
    }
}

/// The value of the class that the client gave (not null), if it is one.
///
/// A number may also be given as a text, as rows have it where a double would lose digits.
pub(super) fn scalar(class: &Class, given: &Given<'_>) -> Option<Scalar> {
    match (class, given) {
        (Class::Bool, Given::Bool(value)) => Some(Scalar::Bool(*value)),
        (Class::Int | Class::Float4 | Class::Float8 | Class::Numeric | Class::Real, _) => {
            match given {
                Given::Number(text) => number(class, text),
                Given::Text(text) => number(class, text).or_else(|| special(class, text)),
                Given::Null | Given::Bool(_) => None,
            }
        }
        (_, Given::Text(text)) => of_text(class, text),
        _ => None,
    }
}

fn number(class: &Class, text: &str) -> Option<Scalar> {
    let decimal = Finite::read(text)?;
    let double = || text.parse().ok().filter(|double: &f64| double.is_finite());
    Some(match class {
        Class::Int => Scalar::Int(decimal.whole()?),
        Class::Float4 | Class::Float8 => Scalar::Double(Double::new(double()?)),
        Class::Real => Scalar::Real(match decimal.whole() {
            Some(whole) => Real::Whole(whole),
            None => Real::new(double()?),
        }),
        Class::Numeric if decimal.fits_a_literal() => Scalar::Decimal(Decimal::Finite(decimal)),
        _ => return None,
    })
}

/// NaN and the infinities, in the classes whose columns may hold them.
fn special(class: &Class, text: &str) -> Option<Scalar> {
    let double = match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => return None,
    };
    match class {
        Class::Float4 | Class::Float8 => Some(Scalar::Double(Double::new(double))),
        // The oldest PostgreSQL that is supported has no infinities in `numeric`.
        Class::Numeric if double.is_nan() => Some(Scalar::Decimal(Decimal::NaN)),
        // SQLite has no NaN and would store null.
        Class::Real if !double.is_nan() => Some(Scalar::Real(Real::new(double))),
        _ => None,
    }
}

fn of_text(class: &Class, text: &Arc<str>) -> Option<Scalar> {
    match class {
        Class::Text {
            form: Form::Any, ..
        } => (!text.contains('\0')).then(|| Scalar::Text(text.clone())),
        Class::Text {
            form: Form::Uuid, ..
        } => Some(Scalar::Text(uuid(text)?.hyphenated().to_string().into())),
        Class::Text {
            form: Form::Date, ..
        } => Some(Scalar::Text(date(text)?.to_string().into())),
        Class::Uuid => uuid(text).map(Scalar::Uuid),
        Class::Date => date(text).map(Scalar::Date),
        Class::Timestamp => timestamp(text)
            .filter(|(_, zone)| *zone != Zone::Offset)
            .map(|(at, _)| Scalar::Timestamp(at)),
        Class::TimestampTz => timestamp(text).map(|(at, _)| Scalar::TimestampTz(at)),
        Class::Enum(labels) => {
            let order = labels.iter().position(|label| label == text)?;
            Some(Scalar::Label {
                order,
                name: labels[order].clone(),
            })
        }
        _ => None,
    }
}

fn uuid(text: &str) -> Option<Uuid> {
    // The crate accepts a URN too, PostgreSQL does not.
    Uuid::try_parse(text)
        .ok()
        .filter(|_| !text.starts_with("urn"))
}

fn date(text: &str) -> Option<Date> {
    Date::read(text).filter(|date| date.fits_a_literal())
}

/// A time; a date alone means its midnight.
fn timestamp(text: &str) -> Option<(Timestamp, Zone)> {
    let midnight = || {
        Some((
            Timestamp::at_midnight(Date::read(text)?)?,
            Zone::Unspecified,
        ))
    };
    Timestamp::read(text)
        .or_else(midnight)
        .filter(|(timestamp, _)| timestamp.fits_a_literal())
}
