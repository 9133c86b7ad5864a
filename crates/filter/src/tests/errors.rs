//! Which filters are errors, in which words, and at which position.

use serde_json::json;

use super::{error_of, filter_with, text_of};
use crate::FilterErrorKind;
use crate::{Backend, PARAMS_BYTES_MAX};

#[test]
fn a_filter_that_cannot_be_answered_is_an_error_with_its_position() {
    for (text, position, words) in [
        ("n = 'x'", 5, "whole number"),
        ("n = 1.5", 5, "whole number"),
        ("n = 9223372036854775808", 5, "whole number"),
        ("n = TRUE", 5, "whole number"),
        ("b = 1", 5, "true or false"),
        ("b = 'true'", 5, "true or false"),
        ("t = 5", 5, "a text"),
        ("t < 'x' AND s < 'x'", 13, "collation"),
        ("s BETWEEN 'a' AND 'b'", 1, "collation"),
        ("'x' < s", 7, "collation"),
        ("odd = 'x'", 1, "different texts as equal"),
        ("f8 = 1e400", 6, "a double"),
        ("f8 = 'nan'", 6, "a double"),
        ("num = 'Infinity'", 7, "a number"),
        ("num = 1e1001", 7, "a number"),
        ("u = 'x'", 5, "a uuid"),
        ("d = '2026-02-30'", 5, "a date"),
        ("d = 'infinity'", 5, "a date"),
        ("d = '2026-11-20T00:00:00'", 5, "a date"),
        ("ts = '2026-11-20T07:00:00+01:00'", 6, "a time"),
        ("tz = 'infinity'", 6, "a time"),
        ("tz = '2026-11-20T07:00:00.1234567Z'", 6, "a time"),
        ("tz = 'now'", 6, "a time"),
        ("e = 'other'", 5, "labels"),
        ("j = '{}'", 1, "JSON"),
        ("j IS NULL", 1, "own null"),
        ("a = '{1}'", 1, "arrays"),
        ("by = 'AAE='", 1, "bytes"),
        ("c = 'x'", 1, "spaces"),
        ("ci = 'x'", 1, "citext"),
        ("o = '::1'", 1, "this type"),
        ("virtual = 1", 1, "log"),
        ("virtual IS NULL", 1, "log"),
        ("n LIKE '1%'", 1, "LIKE"),
        ("t LIKE 'x\\'", 8, "backslash"),
        ("t LIKE 5", 8, "pattern"),
        ("t LIKE s", 8, "pattern"),
        ("n = id", 5, "not a column"),
        ("1 = 1", 1, "one side"),
        ("n IN (1, id)", 10, "columns"),
        ("1 IN (n)", 1, "expected a column"),
        ("n", 1, "not a condition"),
        ("'x'", 1, "not a condition"),
        ("n AND b", 1, "not a condition"),
        ("n = (SELECT 1)", 6, "behind IN or EXISTS"),
        ("EXISTS (SELECT 1 FROM t)", 9, "cannot stand here"),
        ("n = ANY (1)", 5, "\"ANY\""),
        ("lower(t) = 'x'", 1, "functions"),
        ("m.n = 1", 1, "no entity or alias \"m\""),
        ("t.m = 1", 1, "no column \"m\" in \"t\""),
        ("exists = 1", 1, "no column \"exists\""),
        ("select = 1", 1, "behind IN or EXISTS"),
        ("n = from", 5, "in quotes"),
        ("t || 'x' = 'y'", 3, "not supported"),
        ("n = 1; DROP TABLE t", 6, "one condition"),
        ("n::text = '1'", 2, "not supported"),
        ("t COLLATE \"C\" < 'x'", 3, "\"COLLATE\""),
    ] {
        let error = error_of(text, &[], Backend::Postgres);
        assert_eq!(
            (error.kind, error.position),
            (FilterErrorKind::Bad, Some(position)),
            "{text}"
        );
        assert!(error.message.contains(words), "{text}: {error}");
        assert!(error.message.chars().count() < 300, "{error}");
    }
}

#[test]
fn each_parameter_is_there_and_used() {
    let texts = [json!("x"), json!(1), json!(null), json!(true)];
    let filter = filter_with("t = $1 AND n = $2 AND s = $3 AND b = $4", &texts);
    assert_eq!(
        text_of(&filter),
        "NULL AND \"n\" = 1 AND \"t\" = 'x' AND \"b\" = TRUE"
    );
    assert_eq!(
        text_of(&filter_with("$1 OR n = 1", &[json!(false)])),
        "\"n\" = 1"
    );
    assert_eq!(
        text_of(&filter_with("num = $1", &[json!(1e-7)])),
        "\"num\" = 0.0000001"
    );
    assert_eq!(
        text_of(&filter_with("id = $1", &[json!(u64::MAX / 2)])),
        "\"id\" = 9223372036854775807"
    );
    for (text, params, position, words) in [
        (
            "n = $2",
            vec![json!(1)],
            Some(5),
            "there is no parameter $2",
        ),
        ("n = 1", vec![json!(1)], None, "$1 is not used"),
        ("n = $2", vec![json!(1), json!(2)], None, "$1 is not used"),
        ("n = $1", vec![json!([1])], Some(5), "neither"),
        ("n = $1", vec![json!({})], Some(5), "neither"),
        ("n = $1", vec![json!(1.5)], Some(5), "whole number"),
        ("n = $1", vec![json!(u64::MAX)], Some(5), "whole number"),
        ("t = $1", vec![json!("a\0b")], Some(5), "U+0000"),
        ("$1", vec![json!("x")], Some(1), "not a condition"),
    ] {
        let error = error_of(text, &params, Backend::Postgres);
        assert_eq!(error.position, position, "{text}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
    let long = json!("x".repeat(PARAMS_BYTES_MAX + 1));
    assert_eq!(
        error_of("t = $1", &[long], Backend::Postgres).kind,
        FilterErrorKind::TooLarge
    );
}

#[test]
fn sqlite_does_not_compare_values_that_it_keeps_in_many_forms() {
    for (text, words) in [
        ("ts = '2026-11-20'", "SQLite"),
        ("tz > '2026-11-20'", "SQLite"),
        ("f8 = 'NaN'", "a number"),
        ("e = 'low'", "this type"),
        ("odd = 'x'", "different texts"),
        ("s > 'x'", "collation"),
        ("u LIKE 'a%'", "LIKE"),
    ] {
        let error = error_of(text, &[], Backend::Sqlite);
        assert!(error.message.contains(words), "{text}: {error}");
    }
}
