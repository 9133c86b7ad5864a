//! Checks that a JSON value is of its column's kind.
//!
//! Values are checked as the client wrote them, so that no digit is lost.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;
use value::schema::ColumnKind;
use value::{Date, Timestamp, Zone};

use super::shorten;

/// The deepest nesting of a JSON value. A row inside a frame stays below the 128 levels at which JSON
/// readers stop.
const DEPTH_MAX: usize = 100;

/// The largest exponent, either way, of a number in JSON. A database writes a number with all its digits when
/// it is read, so a few bytes with a large exponent would come back as a hundred kilobytes. A double, which is
/// what a browser reads, ends at 308.
const JSON_EXPONENT_MAX: u32 = 400;

/// The largest exponent, either way, of a decimal number.
const NUMERIC_EXPONENT_MAX: u32 = 1_000;

/// The most characters of a value, with the numbers in it written with all their digits.
const EXPANDED_CHARS_MAX: usize = 4 << 20;

/// The most dimensions of an array in PostgreSQL.
const DIMENSIONS_MAX: usize = 6;

/// The most labels of an enum that a message lists.
const LABELS_LISTED_MAX: usize = 20;

/// The value (not null) for the database: unchanged, except that uuids get their usual form.
///
/// # Errors
/// What was expected, as a message.
pub(super) fn check<'a>(kind: &ColumnKind, raw: &'a RawValue) -> Result<Cow<'a, RawValue>, String> {
    let fits = match (kind, Token::of(raw)) {
        (ColumnKind::Json | ColumnKind::Other, _) => return check_json(raw),
        (ColumnKind::Array(element), _) => return check_array(element, raw, DIMENSIONS_MAX),
        (ColumnKind::Text { chars_max }, Token::Text(text)) => {
            return check_text(&text, *chars_max).map(|()| Cow::Borrowed(raw));
        }
        (ColumnKind::Uuid, Token::Text(text)) => {
            return canonical_uuid(&text, raw).ok_or_else(|| wrong(kind, raw));
        }
        (ColumnKind::Bool, Token::Bool) => true,
        (ColumnKind::Int { min, max }, Token::Number(text)) => fits_int(text, *min, *max),
        (ColumnKind::Int { min, max }, Token::Text(text)) => fits_int(&text, *min, *max),
        (ColumnKind::Float, Token::Number(text)) => text.parse().is_ok_and(f64::is_finite),
        (ColumnKind::Float, Token::Text(text)) => is_special_float(&text),
        (ColumnKind::Numeric, Token::Number(text)) => {
            return check_exponent(text, NUMERIC_EXPONENT_MAX).map(|_| Cow::Borrowed(raw));
        }
        (ColumnKind::Numeric, Token::Text(text)) if is_decimal(&text) => {
            return check_exponent(&text, NUMERIC_EXPONENT_MAX).map(|_| Cow::Borrowed(raw));
        }
        (ColumnKind::Numeric, Token::Text(text)) => text == "NaN",
        (ColumnKind::Date, Token::Text(text)) => {
            Date::read(&text).is_some_and(Date::fits_a_literal)
        }
        (ColumnKind::Timestamp, Token::Text(text)) => {
            Timestamp::zone_of(&text).is_some_and(|zone| zone != Zone::Offset)
        }
        (ColumnKind::TimestampTz, Token::Text(text)) => Timestamp::zone_of(&text).is_some(),
        (ColumnKind::Bytes, Token::Text(text)) => BASE64.decode(&*text).is_ok(),
        (ColumnKind::Enum(labels), Token::Text(text)) => labels.contains(&text),
        _ => false,
    };
    if fits {
        Ok(Cow::Borrowed(raw))
    } else {
        Err(wrong(kind, raw))
    }
}

/// A JSON value, without the contents of arrays and objects.
pub(super) enum Token<'a> {
    Bool,
    Number(&'a str),
    /// A string, unescaped.
    Text(String),
    /// Something else, or a string with half a surrogate pair.
    Other,
}

impl<'a> Token<'a> {
    pub(super) fn of(raw: &'a RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b't' | b'f') => Self::Bool,
            Some(b'-' | b'0'..=b'9') => Self::Number(text),
            Some(b'"') => serde_json::from_str(text).map_or(Self::Other, Self::Text),
            _ => Self::Other,
        }
    }
}

fn fits_int(text: &str, min: i64, max: i64) -> bool {
    canonical_int(text).is_some_and(|number| (min..=max).contains(&number))
}

/// A whole number without plus, leading zeros or `-0`.
pub(super) fn canonical_int(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn is_special_float(text: &str) -> bool {
    matches!(text, "NaN" | "Infinity" | "-Infinity")
}

/// `[sign] digits [. digits] [e [sign] digits]`, with a digit on at least one side of the point.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = unsigned(mantissa)
        .split_once('.')
        .unwrap_or((unsigned(mantissa), ""));
    let exponent = unsigned(exponent);
    let all_digits = [whole, fraction, exponent]
        .iter()
        .all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    all_digits && !exponent.is_empty() && whole.len() + fraction.len() > 0
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

/// Checks the exponent of a number, and returns how many digits it adds at most when they are all written.
fn check_exponent(number: &str, max: u32) -> Result<usize, String> {
    let Some((_, exponent)) = number.split_once(['e', 'E']) else {
        return Ok(0);
    };
    match unsigned(exponent).parse::<u32>() {
        Ok(exponent) if exponent <= max => Ok(exponent as usize),
        _ => Err(format!(
            "expected a number with an exponent of at most {max}"
        )),
    }
}

fn canonical_uuid<'a>(text: &str, raw: &'a RawValue) -> Option<Cow<'a, RawValue>> {
    let canonical = Uuid::try_parse(text).ok()?.hyphenated().to_string();
    if canonical == text {
        return Some(Cow::Borrowed(raw));
    }
    Some(Cow::Owned(
        to_raw_value(&canonical).expect("a text is JSON"),
    ))
}

fn check_text(text: &str, chars_max: Option<u32>) -> Result<(), String> {
    if text.contains('\0') {
        return Err("a text cannot hold the character U+0000".to_owned());
    }
    match chars_max {
        Some(max) if text.chars().count() > max as usize => {
            Err(format!("expected a text of at most {max} characters"))
        }
        _ => Ok(()),
    }
}

/// Checks an array: each element is of the element's kind, or null, or (up to `dimensions`) another such
/// array. The database checks that nested arrays have equal lengths.
fn check_array<'a>(
    element: &ColumnKind,
    raw: &'a RawValue,
    dimensions: usize,
) -> Result<Cow<'a, RawValue>, String> {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
        return Err(format!("expected an array, not {}", excerpt(raw)));
    };
    let nests = dimensions > 1 && !matches!(element, ColumnKind::Json | ColumnKind::Other);
    let checked = elements
        .into_iter()
        .map(|raw| match raw.get().as_bytes().first() {
            Some(b'n') => Ok(Cow::Borrowed(raw)),
            Some(b'[') if nests => check_array(element, raw, dimensions - 1),
            _ => check(element, raw),
        });
    let checked: Vec<Cow<'_, RawValue>> = checked
        .collect::<Result<_, _>>()
        .map_err(|fault| format!("in the array: {fault}"))?;
    if checked
        .iter()
        .all(|value| matches!(value, Cow::Borrowed(_)))
    {
        return Ok(Cow::Borrowed(raw));
    }
    Ok(Cow::Owned(to_raw_value(&checked).expect("values are JSON")))
}

/// Looks for anything that `jsonb` does not accept, and for numbers that would explode on reading, in one pass
/// over the text, however deep it is nested.
fn check_json(raw: &RawValue) -> Result<Cow<'_, RawValue>, String> {
    let text = raw.get();
    let mut depth = 0;
    let mut escaped = false;
    let mut text_from = None;
    let mut number_from = None;
    let mut chars = text.len();
    // A number also ends at the end of the text.
    for (at, byte) in text.bytes().chain([b' ']).enumerate() {
        match number_from {
            Some(from) if !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') => {
                chars += check_exponent(&text[from..at], JSON_EXPONENT_MAX)?;
                number_from = None;
            }
            None if text_from.is_none() && matches!(byte, b'-' | b'0'..=b'9') => {
                number_from = Some(at);
            }
            _ => {}
        }
        match (text_from, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(from), b'"') => {
                check_inner_text(&text[from..=at])?;
                text_from = None;
            }
            (None, b'"') => text_from = Some(at),
            (None, b'[' | b'{') => depth += 1,
            (None, b']' | b'}') => depth -= 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("expected JSON of at most {DEPTH_MAX} levels"));
        }
        if chars > EXPANDED_CHARS_MAX {
            return Err(format!(
                "expected JSON of at most {EXPANDED_CHARS_MAX} characters with all digits"
            ));
        }
    }
    Ok(Cow::Borrowed(raw))
}

/// Checks a string, or an object's key, with its quotes.
fn check_inner_text(quoted: &str) -> Result<(), String> {
    if !quoted.contains(r"\u") {
        return Ok(());
    }
    match serde_json::from_str::<String>(quoted) {
        Ok(text) if !text.contains('\0') => Ok(()),
        Ok(_) => Err("a text inside holds the character U+0000".to_owned()),
        Err(_) => Err("a text inside holds half a surrogate pair".to_owned()),
    }
}

fn wrong(kind: &ColumnKind, raw: &RawValue) -> String {
    format!("expected {}, not {}", expected(kind), excerpt(raw))
}

fn excerpt(raw: &RawValue) -> String {
    shorten(raw.get())
}

fn expected(kind: &ColumnKind) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        ColumnKind::Bool => "true or false",
        ColumnKind::Int { min, max } => {
            return Cow::Owned(format!("a whole number from {min} to {max}"));
        }
        ColumnKind::Float => r#"a double, "NaN", "Infinity" or "-Infinity""#,
        ColumnKind::Numeric => r#"a number, a text that spells one, or "NaN""#,
        ColumnKind::Text { .. } => "a text",
        ColumnKind::Uuid => "a uuid",
        ColumnKind::Date => "a date as YYYY-MM-DD",
        ColumnKind::Timestamp => "a time as YYYY-MM-DDTHH:MM:SS, without a zone or in UTC",
        ColumnKind::TimestampTz => "a time as YYYY-MM-DDTHH:MM:SS with Z, +HH:MM or -HH:MM",
        ColumnKind::Bytes => "bytes in base64 with padding",
        ColumnKind::Json | ColumnKind::Other => "a JSON value",
        ColumnKind::Enum(labels) => return Cow::Owned(one_of(labels)),
        ColumnKind::Array(_) => "an array",
    })
}

fn one_of(labels: &[String]) -> String {
    let listed = &labels[..labels.len().min(LABELS_LISTED_MAX)];
    let more = if listed.len() < labels.len() {
        ", …"
    } else {
        ""
    };
    format!("one of {}{more}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(kind: &ColumnKind, text: &str) -> Result<String, String> {
        let raw = RawValue::from_string(text.to_owned()).expect("JSON");
        check(kind, &raw).map(|value| value.get().to_owned())
    }

    /// Asserts that `good` values are returned unchanged, and `bad` ones are errors with `words`.
    fn assert_kind(kind: &ColumnKind, good: &[&str], bad: &[&str], words: &str) {
        for text in good {
            assert_eq!(checked(kind, text).as_deref(), Ok(*text), "{kind:?}");
        }
        for text in bad {
            let fault = checked(kind, text).expect_err(text);
            assert!(fault.contains(words), "{kind:?} {text}: {fault}");
        }
    }

    #[test]
    fn bools_and_numbers_are_checked() {
        assert_kind(
            &ColumnKind::Bool,
            &["true", "false"],
            &["1", "\"true\"", "[]"],
            "true or",
        );
        let ints = ["0", "-32768", "32767", "\"7\"", "\"-7\""];
        let not_ints = [
            "32768", "1.0", "1e2", "-0", "\"abc\"", "\"007\"", "\"+7\"", "\"\"", "true", "{}",
        ];
        assert_kind(&ColumnKind::INT2, &ints, &not_ints, "from -32768 to 32767");
        let large = ["\"9223372036854775807\"", "-9223372036854775808"];
        assert_kind(
            &ColumnKind::INT8,
            &large,
            &["9223372036854775808"],
            "a whole number",
        );
        let floats = ["0", "-1.5e300", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""];
        assert_kind(
            &ColumnKind::Float,
            &floats,
            &["1e400", "\"1\"", "\"nan\""],
            "a double",
        );
        let numerics = [
            "0.1234567890123456789",
            "1e400",
            "\"-12.5e-3\"",
            "\"+.5\"",
            "\"5.\"",
            "\"NaN\"",
        ];
        let not_numerics = [
            "\"\"", "\".\"", "\"1e\"", "\"--1\"", "\"1 \"", "\"0x1\"", "false",
        ];
        assert_kind(&ColumnKind::Numeric, &numerics, &not_numerics, "a number");
    }

    #[test]
    fn texts_are_checked() {
        let any = ColumnKind::Text { chars_max: None };
        assert_kind(
            &any,
            &["\"\"", "\"\\n\""],
            &["1", "null", r#""\ud800""#],
            "a text",
        );
        assert_kind(&any, &[], &[r#""a\u0000""#], "U+0000");
        let three = ColumnKind::Text { chars_max: Some(3) };
        assert_kind(&three, &["\"äöü\""], &["\"abcd\""], "at most 3 characters");
        let labels = ColumnKind::Enum(vec!["low".to_owned(), "high".to_owned()]);
        assert_kind(
            &labels,
            &["\"low\""],
            &["\"Low\"", "\"\"", "0"],
            "one of low, high",
        );
        let bytes = ["\"\"", "\"AAE=\"", "\"+/+/\""];
        assert_kind(
            &ColumnKind::Bytes,
            &bytes,
            &["\"AAE\"", "\"-_-_\"", "\"A\"", "1"],
            "base64",
        );
    }

    #[test]
    fn uuids_get_their_usual_form() {
        const ID: &str = "\"67e55044-10b1-426f-9247-bb680e5fe0c8\"";
        assert_kind(
            &ColumnKind::Uuid,
            &[ID],
            &["\"67e55044\"", "7", "\"\""],
            "a uuid",
        );
        for text in [
            "\"67E55044-10B1-426F-9247-BB680E5FE0C8\"",
            "\"67e5504410b1426f9247bb680e5fe0c8\"",
        ] {
            assert_eq!(checked(&ColumnKind::Uuid, text).as_deref(), Ok(ID));
            let array = ColumnKind::Array(Box::new(ColumnKind::Uuid));
            let inside = checked(&array, &format!("[null,{text}]"));
            assert_eq!(inside, Ok(format!("[null,{ID}]")));
        }
    }

    #[test]
    fn dates_and_times_are_checked() {
        assert_kind(
            &ColumnKind::Date,
            &["\"2024-02-29\""],
            &["\"2023-02-29\"", "1"],
            "YYYY-MM-DD",
        );
        let utc = [
            "\"2026-11-20T07:00\"",
            "\"2026-11-20 07:00:00.5Z\"",
            "\"infinity\"",
        ];
        let offset = "\"2026-11-20T07:00:00+02:00\"";
        assert_kind(
            &ColumnKind::Timestamp,
            &utc,
            &[offset, "\"now\"", "0"],
            "without a zone",
        );
        assert_kind(
            &ColumnKind::TimestampTz,
            &utc,
            &["\"2026-11-20\"", "0"],
            "with Z",
        );
        assert_kind(&ColumnKind::TimestampTz, &[offset], &[], "");
    }

    #[test]
    fn json_is_checked_for_what_jsonb_does_not_accept() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for kind in [ColumnKind::Json, ColumnKind::Other] {
            let good = [
                r#"{"a":[1e400,"\\u0000","\"[{","\ud83d\ude00"]}"#,
                &deep(DEPTH_MAX),
            ];
            assert_kind(
                &kind,
                &good,
                &[&deep(DEPTH_MAX + 1), &deep(100_000)],
                "100 levels",
            );
            assert_kind(
                &kind,
                &[],
                &[r#"["\u0000"]"#, r#"{"\\\u0000":1}"#],
                "U+0000",
            );
            assert_kind(
                &kind,
                &[],
                &[r#""\ud800""#, r#"["\ude00\ud83d"]"#],
                "surrogate",
            );
        }
    }

    #[test]
    fn numbers_that_would_explode_on_reading_are_errors() {
        for kind in [ColumnKind::Json, ColumnKind::Other] {
            let good = [
                "1e400",
                "-1.5E-400",
                r#"["1e131071", 1E+4]"#,
                r#"{"1e999":[0]}"#,
            ];
            let bad = [
                "1e401",
                "1E+131071",
                "-1.5e-131071",
                r#"{"a":[1,{"b":1e99999999999999999999}]}"#,
                "[1e0000000000401]",
            ];
            assert_kind(&kind, &good, &bad, "an exponent of at most 400");
            let many = |count: usize| format!("[{}1]", "1e400,".repeat(count));
            assert_kind(&kind, &[&many(10_000)], &[&many(10_400)], "with all digits");
        }
        let numeric = ["1e1000", "\"1e-1000\"", "\"+.5E+7\""];
        let too_large = ["1e1001", "\"-1e131071\"", "\"1e-16383\""];
        assert_kind(&ColumnKind::Numeric, &numeric, &too_large, "at most 1000");
        let array = ColumnKind::Array(Box::new(ColumnKind::Numeric));
        assert_kind(&array, &["[1e1000]"], &["[[1],[1e1001]]"], "at most 1000");
    }

    #[test]
    fn arrays_are_checked_element_by_element() {
        let array = |kind| ColumnKind::Array(Box::new(kind));
        let ints = ["[]", "[1,null,\"2\"]", "[[1],[2]]", "[[[[[[1]]]]]]"];
        let not_ints = ["[1.5]", "[[true]]", "[[[[[[[1]]]]]]]", "[{}]"];
        assert_kind(&array(ColumnKind::INT4), &ints, &not_ints, "in the array: ");
        assert_kind(
            &array(ColumnKind::INT4),
            &[],
            &["1", "\"{1}\"", "{}"],
            "expected an array",
        );
        let nested = format!("[{}]", "[".repeat(50_000) + &"]".repeat(50_000));
        assert_kind(&array(ColumnKind::INT4), &[], &[&nested], "expected");
        assert_kind(
            &array(ColumnKind::Json),
            &["[[[[[[[[1]]]]]]]]"],
            &[&nested],
            "levels",
        );
        let messages = checked(&array(ColumnKind::INT2), "[[[[[7.5]]]]]").expect_err("no int");
        assert!(messages.len() < 200, "{messages}");
    }
}
