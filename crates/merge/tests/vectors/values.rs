//! Values: their order, what they mean for a column, and what a counter makes of them.

use std::collections::BTreeMap;

use merge::{Amount, Comparison};
use serde_json::{Value, json};

pub(crate) fn vectors() -> BTreeMap<&'static str, Vec<Value>> {
    let ascending = |comparison: Comparison, values: Vec<Value>| {
        let mut values = [values, any()].concat();
        values.sort_by(|one, two| comparison.compare(one, two));
        values.dedup();
        json!({"comparison": comparison, "ascending": values})
    };
    let ascending = vec![
        ascending(Comparison::Json, Vec::new()),
        ascending(Comparison::Number, numbers()),
        ascending(Comparison::Timestamp, timestamps()),
        ascending(Comparison::Date, dates()),
    ];
    BTreeMap::from([
        ("ascending", ascending),
        ("amounts", amounts()),
        ("sums", sums()),
    ])
}

pub(crate) fn any() -> Vec<Value> {
    vec![
        json!(null),
        json!(false),
        json!(true),
        json!(-1.5),
        json!(0),
        json!(1),
        json!(0.1),
        json!(1e300),
        json!(5e-324),
        json!(9_007_199_254_740_991_i64),
        json!(""),
        json!("a"),
        json!("é"),
        json!("ﬀ"),
        json!("𝒳"),
        json!("a\u{1f}\u{7f}\u{2028}\"\\"),
        json!([]),
        json!([1]),
        json!([1, null]),
        json!([2]),
        json!({}),
        json!({"a": 1, "b": [null]}),
        json!({"b": 1, "a": {}}),
        json!({"a": 2}),
        json!({"ﬀ": 1, "𝒳": 2}),
        json!({"𝒳": 1}),
        json!({"__proto__": 1, "constructor": 2}),
        json!({"10": 1, "9": 2}),
    ]
}

pub(crate) fn numbers() -> Vec<Value> {
    [
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "0.1",
        "0.10",
        "+.1",
        "1.",
        "1e400",
        "-1e400",
        "1e1000001",
        "1e-400",
        "00012",
        "-0",
        "-0.05",
        "-.049",
        "Infinity",
        "-Infinity",
        "NaN",
        "nan",
        "1e",
        ".",
        "1_0",
        " 1",
        "0x1",
        "١",
    ]
    .map(Value::from)
    .to_vec()
}

pub(crate) fn timestamps() -> Vec<Value> {
    [
        "infinity",
        "-infinity",
        "0044-03-15T12:00:00 BC",
        "0045-03-15 12:00 BC",
        "0001-01-01T00:00",
        "0000-01-01T00:00",
        "1969-12-31T23:59:59.9995",
        "2024-02-29T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2026-11-20T07:00:00+05:30",
        "2026-11-20T01:30:00Z",
        "2026-11-20 01:30",
        "2026-11-20T01:30:00.000001",
        "2026-11-20T01:30:00.0000010",
        "2026-11-20T01:30:00.0000001",
        "2026-11-19T23:59-08",
        "2026-11-20T00:00:00+15:59",
        "2026-11-20T00:00:00+16",
        "2026-11-20T24:00",
        "2026-11-20T07:60",
        "2026-11-20T07:00:60",
        "2026-11-20",
        "2026-11-20T07:00:00z",
        "10000-01-01T00:00:00Z",
        "010000-01-01T00:00:00Z",
        "294246-12-31T23:59:59.999999",
        "294277-01-01T00:00:00",
        "soon",
    ]
    .map(Value::from)
    .to_vec()
}

pub(crate) fn dates() -> Vec<Value> {
    [
        "infinity",
        "-infinity",
        "0044-03-15 BC",
        "0001-12-31 BC",
        "0004-02-29 BC",
        "0005-02-29 BC",
        "0001-01-01",
        "0000-01-01",
        "1900-02-29",
        "2000-02-29",
        "2024-02-29",
        "2026-11-20",
        "2026-11-31",
        "2026-00-10",
        "2026-13-01",
        "2026-01-00",
        "2026-1-1",
        "10000-01-01",
        "02026-01-01",
        "5874897-12-31",
        "9999999-12-31",
        "2026-11-20T00:00",
        "2026-11-20 BC BC",
        "infinity BC",
    ]
    .map(Value::from)
    .to_vec()
}

fn amounts() -> Vec<Value> {
    let more = [
        json!("12.340"),
        json!("1e3"),
        json!(1e21),
        json!(1e-9),
        json!(1.5e-7),
        json!("0.0000000001"),
        json!("1000000000.000000001"),
        json!("123456789012345.123456789"),
        json!("-123456789012345.123456789"),
        json!("9223372036854775807"),
        json!("-9223372036854775808"),
        json!("9223372036854775808"),
        json!("100000000000000000000"),
        json!("123456789012345678901"),
        json!("999999999999999999999999999.999999999"),
        json!("1000000000000000000000000000"),
        json!("1e999999"),
        json!("0e999999"),
        json!("three"),
    ];
    let values = [any(), numbers(), more.to_vec()].concat();
    let case = |value: &Value| match Amount::of(value) {
        Ok(amount) => json!({"value": value, "is": amount}),
        Err(_) => json!({"value": value, "error": "counter"}),
    };
    values.iter().map(case).collect()
}

fn sums() -> Vec<Value> {
    let amounts: Vec<Amount> = [
        json!(0.1),
        json!(0.2),
        json!(-1),
        json!("9007199254740992"),
        json!("0.000000001"),
        json!("9223372036854775807"),
        json!("999999999999999999999999999.999999999"),
    ]
    .iter()
    .map(|value| Amount::of(value).expect("an amount"))
    .collect();
    let pairs = amounts
        .iter()
        .flat_map(|one| amounts.iter().map(move |two| (one, two)));
    pairs
        .map(|(one, two)| match one.plus(*two) {
            Ok(sum) => json!({"one": one, "two": two, "is": sum}),
            Err(_) => json!({"one": one, "two": two, "error": "counter"}),
        })
        .collect()
}
