//! Spells the values in a key in one way, so that each row has one key.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Number, Value};

use super::column_value::{Token, canonical_int, check};
use value::schema::ColumnKind;

/// Up to here every whole number is a double too; beyond, rows in JSON have a string.
const EXACT_MAX: u64 = 1 << 53;

/// The canonical form of a value in a key.
///
/// # Errors
/// What was expected, as a message.
pub(super) fn canonical(kind: &ColumnKind, raw: &RawValue) -> Result<Value, String> {
    let checked = check(kind, raw)?;
    let part = match (kind, Token::of(&checked)) {
        (ColumnKind::Int { .. }, Token::Number(text)) => whole_or_text(text),
        (ColumnKind::Int { .. }, Token::Text(text)) => whole_or_text(&text),
        (ColumnKind::Numeric, Token::Number(text)) => decimal_or_text(text),
        (ColumnKind::Numeric, Token::Text(text)) => decimal_or_text(&text),
        (ColumnKind::Float, Token::Number(text)) => double_or_text(text),
        _ => serde_json::from_str(checked.get())
            .map_err(|_| "this value cannot be part of a key".to_owned())?,
    };
    Ok(part)
}

/// The canonical form of a value in a key that a client sent; it may also be the text that canonical keys
/// hold.
///
/// # Errors
/// What was expected, as a message.
pub(super) fn canonical_as_sent(kind: &ColumnKind, sent: &Value) -> Result<Value, String> {
    let plain = match (kind, sent) {
        (_, Value::Null) => return Err("a key cannot hold null".to_owned()),
        (ColumnKind::Bool | ColumnKind::Float | ColumnKind::Array(_), Value::String(text)) => {
            RawValue::from_string(text.clone()).ok()
        }
        _ => None,
    };
    let raw = plain.unwrap_or_else(|| to_raw_value(sent).expect("values are JSON"));
    canonical(kind, &raw)
}

fn whole_or_text(text: &str) -> Value {
    match canonical_int(text) {
        Some(number) if number.unsigned_abs() <= EXACT_MAX => Value::from(number),
        _ => Value::from(text),
    }
}

/// A number if a double has the same digits, otherwise a string.
fn decimal_or_text(text: &str) -> Value {
    let text = text.strip_prefix('+').unwrap_or(text);
    let whole = whole_or_text(text);
    let double = text.parse().ok().and_then(Number::from_f64);
    match double {
        Some(double) if whole.is_string() && double.to_string() == text => Value::Number(double),
        _ => whole,
    }
}

/// The double that a JSON number names.
fn double_or_text(text: &str) -> Value {
    let whole = whole_or_text(text);
    let double = text.parse().ok().and_then(Number::from_f64);
    if whole.is_string() {
        double.map_or(whole, Value::Number)
    } else {
        whole
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_in_a_key_has_one_spelling() {
        for (kind, sent, part) in [
            (ColumnKind::INT8, json!("7"), json!(7)),
            (ColumnKind::INT8, json!(-7), json!(-7)),
            (
                ColumnKind::INT8,
                json!("9007199254740992"),
                json!(9_007_199_254_740_992_i64),
            ),
            (
                ColumnKind::INT8,
                json!(-9_007_199_254_740_993_i64),
                json!("-9007199254740993"),
            ),
            (ColumnKind::Bool, json!("true"), json!(true)),
            (ColumnKind::Numeric, json!("+1.5"), json!(1.5)),
            (ColumnKind::Numeric, json!("1.50"), json!("1.50")),
            (
                ColumnKind::Numeric,
                json!("9007199254740993"),
                json!("9007199254740993"),
            ),
            (ColumnKind::Float, json!("1.5"), json!(1.5)),
            (ColumnKind::Float, json!("NaN"), json!("NaN")),
            (ColumnKind::Text { chars_max: None }, json!("7"), json!("7")),
            (
                ColumnKind::Array(Box::new(ColumnKind::INT4)),
                json!("[1,2]"),
                json!([1, 2]),
            ),
        ] {
            assert_eq!(canonical_as_sent(&kind, &sent), Ok(part), "{kind:?}");
        }
        for (kind, sent) in [
            (ColumnKind::INT8, json!("007")),
            (ColumnKind::INT8, json!(7.0)),
            (ColumnKind::Text { chars_max: None }, json!(7)),
            (ColumnKind::Bool, json!("yes")),
            (ColumnKind::Json, json!(null)),
        ] {
            assert!(canonical_as_sent(&kind, &sent).is_err(), "{kind:?} {sent}");
        }
    }
}
