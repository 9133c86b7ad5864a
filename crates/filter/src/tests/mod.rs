//! Filters from text to answer, and those that are errors.

mod access;
mod bounds;
mod errors;
mod one_form;
mod policies;
mod reference;
mod subqueries;
mod subquery_errors;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::testing::{raw, test_table};
use super::*;

fn raw_params(params: &[Value]) -> Vec<Box<RawValue>> {
    params.iter().map(|param| raw(&param.to_string())).collect()
}

fn filter_with(text: &str, params: &[Value]) -> Filter {
    let table = test_table(Backend::Postgres);
    match Filter::new(text, &raw_params(params), table.table()) {
        Ok(filter) => filter,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn filter(text: &str) -> Filter {
    filter_with(text, &[])
}

/// The text of a filter's one form.
fn text_of(filter: &Filter) -> String {
    filter.text(test_table(Backend::Postgres).table())
}

fn answer(text: &str, row: &Value) -> Option<bool> {
    let filter = filter(text);
    let table = test_table(Backend::Postgres);
    let row = RowReader::new(table.table(), filter.columns()).read(&raw(&row.to_string()));
    filter.matches(&row.expect("a row"), &NoSets)
}

fn error_of(text: &str, params: &[Value], backend: Backend) -> FilterError {
    match Filter::new(text, &raw_params(params), test_table(backend).table()) {
        Ok(filter) => panic!("{text} was accepted as {filter:?}"),
        Err(error) => error,
    }
}

#[test]
fn conditions_follow_three_valued_logic() {
    let row = json!({"n": 5, "t": "x", "s": null, "b": false});
    for (text, truth) in [
        ("n = 5", Some(true)),
        ("n <> 5 OR t = 'x'", Some(true)),
        ("s = 'x'", None),
        ("NOT s = 'x'", None),
        ("s = 'x' AND n = 4", Some(false)),
        ("s = 'x' AND n = 5", None),
        ("s = 'x' OR n = 5", Some(true)),
        ("s = 'x' OR n = 4", None),
        ("s IS NULL AND n IS NOT NULL", Some(true)),
        ("n = NULL", None),
        ("n IN (4, NULL)", None),
        ("n IN (5, NULL)", Some(true)),
        ("n NOT IN (5, NULL)", Some(false)),
        ("n NOT IN (4, NULL)", None),
        ("n BETWEEN 6 AND NULL", Some(false)),
        ("n NOT BETWEEN 6 AND NULL", Some(true)),
        ("b", Some(false)),
        ("NOT b", Some(true)),
        ("b OR NULL", None),
        ("TRUE", Some(true)),
        ("NULL", None),
        ("6 > n", Some(true)),
        ("t LIKE 'X'", Some(false)),
        ("s LIKE NULL", None),
    ] {
        assert_eq!(answer(text, &row), truth, "{text}");
    }
}

#[test]
fn values_of_each_kind_compare_as_in_postgresql() {
    let row = json!({
        "id": "9007199254740993", "n": 5, "t": "é", "b": true, "f4": 0.1, "f8": "NaN",
        "num": "0.1234567890123456789", "u": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "d": "infinity", "ts": "0044-03-15T12:00:00 BC", "tz": "2026-11-20T07:00:00.123456+00:00",
        "e": "mid", "j": {"a": 1}, "o": "::1",
    });
    for text in [
        "id = 9007199254740993 AND id > 9007199254740992 AND id < 9007199254740994",
        "id = '9007199254740993'",
        "n = 5.0 AND n = 50e-1",
        "t > 'z' AND t < 'ê' AND t LIKE '_'",
        "b > FALSE AND b",
        "f4 <> 0.1 AND f4 > 0.1 AND f4 = 0.10000000149011612",
        "f8 = 'NaN' AND f8 > 'Infinity'",
        "num > 0.123456789012345678 AND num < 0.12345678901234568 AND num = '0.12345678901234567890'",
        "u = '67E5504410B1426F9247BB680E5FE0C8' AND u > '67e55044-10b1-426f-9247-bb680e5fe0c7'",
        "d > '9999-12-31'",
        "ts < '0001-01-01'",
        "tz = '2026-11-20T08:00:00.123456+01:00' AND tz > '2026-11-20' AND tz < '2026-11-21'",
        "e > 'low' AND e < 'high' AND e IN ('mid', 'low')",
        "o IS NOT NULL AND a IS NOT NULL",
    ] {
        assert_eq!(answer(text, &row), Some(true), "{text}");
    }
    // A value that is not of its column's kind compares with nothing, but is not null.
    let foreign = json!({"n": "five", "b": 1, "d": "soon", "e": "new", "f8": true});
    for text in [
        "n = 5",
        "n <> 5",
        "b",
        "NOT b",
        "d < '2026-01-01'",
        "e <> 'low'",
        "f8 > 0",
    ] {
        assert_eq!(answer(text, &foreign), None, "{text}");
        let column = text
            .split(' ')
            .find(|word| *word != "NOT")
            .expect("a column");
        assert_eq!(answer(&format!("{column} IS NULL"), &foreign), Some(false));
    }
}

#[test]
fn names_are_read_as_postgresql_reads_them() {
    for text in ["N = 1", "\"n\" = 1", "\"Mixed Case\" = 'x'", "T = 'x'"] {
        filter(text);
    }
    for (text, position) in [
        ("\"N\" = 1", 1),
        ("nn = 1", 1),
        ("mixed = 1", 1),
        ("n = 1 AND m = 2", 11),
    ] {
        let error = error_of(text, &[], Backend::Postgres);
        assert_eq!(error.position, Some(position), "{text}");
        assert!(error.message.contains("no column"), "{error}");
    }
}

#[test]
fn rows_are_read_once_for_many_filters() {
    let table = test_table(Backend::Postgres);
    let reader = RowReader::new(table.table(), [1, 2, 13]);
    let row = reader.read(&raw(
        r#"{"n":1,"t":"a\u0062\"","j":{"n":2},"x":[1e999],"b":true}"#,
    ));
    let row = row.expect("a row");
    assert_eq!(row.scalar(1), Some(&Scalar::Int(1)));
    assert_eq!(row.scalar(2), Some(&Scalar::Text("ab\"".into())));
    assert_eq!(row.cell(13), &Cell::Foreign);
    assert_eq!((row.cell(3), row.cell(99)), (&Cell::Unread, &Cell::Unread));
    assert_eq!(
        reader.read(&raw("{}")).expect("a row").cell(1),
        &Cell::Foreign
    );
    assert!(reader.read(&raw("[]")).is_err());
    assert!(reader.read(&raw("null")).is_err());
}
