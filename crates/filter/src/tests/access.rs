//! How an index finds a filter.

use super::filter;
use crate::{Access, AccessKey};

/// The access keys as `column:value`, with the table's positions; none where there are no keys.
fn keys(text: &str, load: impl Fn(&AccessKey) -> usize) -> Option<String> {
    let Access::Keys { keys, .. } = filter(text).access(load) else {
        return None;
    };
    let keys = keys
        .iter()
        .map(|(column, value)| format!("{column}:{value}"));
    Some(keys.collect::<Vec<_>>().join(" "))
}

#[test]
fn a_filter_is_found_by_keys_that_its_rows_hold() {
    for (text, expected) in [
        ("n = 1", Some("1:1")),
        ("n IN (1, 2)", Some("1:1 1:2")),
        ("n IN (1, NULL)", Some("1:1")),
        ("b", Some("3:true")),
        ("n = 1 AND t LIKE 'x%' AND s IS NULL", Some("1:1")),
        ("n = 1 OR t = 'x'", Some("1:1 2:x")),
        (
            "n = 1 AND b OR t = 'x' AND d > '2026-01-01'",
            Some("1:1 2:x"),
        ),
        ("(n = 1 OR t = 'x') AND n > 0", Some("1:1 2:x")),
        ("n > 1", None),
        ("n <> 1", None),
        ("n NOT IN (1, 2)", None),
        ("n IS NULL", None),
        ("t LIKE 'x%'", None),
        ("n = 1 OR n > 5", None),
        ("TRUE", None),
    ] {
        assert_eq!(keys(text, |_| 0).as_deref(), expected, "{text}");
    }
}

#[test]
fn a_filter_that_no_row_matches_has_an_empty_set_of_keys() {
    for text in [
        "FALSE",
        "NULL",
        "n = NULL",
        "n NOT IN (1, NULL)",
        "n > 1 AND t = NULL",
        "n = 1 AND t NOT IN ('x', NULL)",
        "b = NULL OR n NOT IN (1, NULL)",
    ] {
        assert_eq!(keys(text, |_| 0).as_deref(), Some(""), "{text}");
    }
    // A side of an `OR` that matches nothing does not affect the other.
    assert_eq!(keys("n = 1 OR t = NULL", |_| 0).as_deref(), Some("1:1"));
}

#[test]
fn the_rarest_of_several_keys_is_chosen() {
    let free = |_: &AccessKey| 0;
    // A flag or a label comes last, since many rows hold it; a short list comes before a long one.
    assert_eq!(keys("b AND id = 7", free).as_deref(), Some("0:7"));
    assert_eq!(keys("e = 'low' AND s = 'x'", free).as_deref(), Some("7:x"));
    assert_eq!(
        keys("n IN (1, 2) AND s = 'x'", free).as_deref(),
        Some("7:x")
    );
    assert_eq!(
        keys("e = 'low' AND s IN ('x', 'y')", free).as_deref(),
        Some("7:x 7:y")
    );
    assert_eq!(
        keys("b AND e IN ('low', 'mid')", free).as_deref(),
        Some("3:true")
    );
    // A key that other filters share comes after any that they do not.
    let crowded = |(column, _): &AccessKey| if *column == 0 { 9 } else { 0 };
    assert_eq!(
        keys("id = 7 AND n IN (1, 2)", crowded).as_deref(),
        Some("1:1 1:2")
    );
    assert_eq!(keys("id = 7 AND b", crowded).as_deref(), Some("3:true"));
    let each = |(_, value): &AccessKey| usize::from(value.to_string() == "1");
    assert_eq!(keys("id = 1 AND n = 2", each).as_deref(), Some("1:2"));
    assert_eq!(keys("id = 2 AND n = 1", each).as_deref(), Some("0:2"));
    // The keys of a list count together.
    let three = |(column, _): &AccessKey| if *column == 7 { 3 } else { 2 };
    assert_eq!(
        keys("n IN (1, 2) AND s = 'x'", three).as_deref(),
        Some("7:x")
    );
}
