//! An order of all JSON values, the same wherever they are merged. It decides ties, and what is greatest and least.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use value::{Date, Decimal, Timestamp};

/// How the values of a column compare, where the greatest or the least is kept. What cannot be read so is below what can,
/// null below everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// As numbers, also where they come as strings: `NaN` above all, `Infinity` below it.
    Number,
    /// As moments, in UTC.
    Timestamp,
    /// As days.
    Date,
    /// As the bytes of texts, or for other values as JSON.
    Json,
}

impl Comparison {
    /// Compares two values. Only a value itself is equal: of different spellings one is the greater.
    pub fn compare(self, one: &Value, two: &Value) -> Ordering {
        let by_meaning = match self {
            Self::Number => number(one).cmp(&number(two)),
            Self::Timestamp => moment(one).cmp(&moment(two)),
            Self::Date => day(one).cmp(&day(two)),
            Self::Json => Ordering::Equal,
        };
        by_meaning.then_with(|| compare(one, two))
    }

    /// Whether two values mean the same, however they are spelled.
    pub fn is_same(self, one: &Value, two: &Value) -> bool {
        let by_meaning = match self {
            Self::Number => number(one).is_some() && number(one) == number(two),
            Self::Timestamp => moment(one).is_some() && moment(one) == moment(two),
            Self::Date => day(one).is_some() && day(one) == day(two),
            Self::Json => false,
        };
        by_meaning || same(one, two)
    }
}

fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => Decimal::read(&number.to_string()),
        Value::String(text) => Decimal::read(text),
        _ => None,
    }
}

fn moment(value: &Value) -> Option<Timestamp> {
    let (moment, _) = Timestamp::read(value.as_str()?)?;
    Some(moment)
}

fn day(value: &Value) -> Option<Date> {
    Date::read(value.as_str()?)
}

/// Compares two values: null, booleans, numbers, texts by their bytes, arrays, objects by their names. Numbers that are
/// equal and spelled differently are ordered by their spelling, so that only a value itself is equal.
pub(crate) fn compare(one: &Value, two: &Value) -> Ordering {
    order(one, two, &|one, two| one.to_string().cmp(&two.to_string()))
}

/// Whether two values mean the same: numbers do in every spelling.
pub(crate) fn same(one: &Value, two: &Value) -> bool {
    order(one, two, &|_, _| Ordering::Equal).is_eq()
}

fn order(one: &Value, two: &Value, spelling: &dyn Fn(&Number, &Number) -> Ordering) -> Ordering {
    match (one, two) {
        (Value::Bool(one), Value::Bool(two)) => one.cmp(two),
        (Value::Number(one), Value::Number(two)) => {
            let decimal = |number: &Number| Decimal::read(&number.to_string());
            decimal(one)
                .cmp(&decimal(two))
                .then_with(|| spelling(one, two))
        }
        (Value::String(one), Value::String(two)) => one.cmp(two),
        (Value::Array(one), Value::Array(two)) => {
            let mut pairs = one.iter().zip(two);
            pairs
                .find_map(|(one, two)| {
                    Some(order(one, two, spelling)).filter(|order| order.is_ne())
                })
                .unwrap_or_else(|| one.len().cmp(&two.len()))
        }
        (Value::Object(one), Value::Object(two)) => {
            // A map keeps the order in which it was written, where a program asks for that.
            let sorted = |map: &serde_json::Map<String, Value>| {
                let mut members: Vec<_> = map.clone().into_iter().collect();
                members.sort_by(|one, two| one.0.cmp(&two.0));
                members
            };
            let (one, two) = (sorted(one), sorted(two));
            let mut pairs = one.iter().zip(&two);
            pairs
                .find_map(|(one, two)| {
                    let order = one.0.cmp(&two.0);
                    Some(order.then_with(|| self::order(&one.1, &two.1, spelling)))
                        .filter(|order| order.is_ne())
                })
                .unwrap_or_else(|| one.len().cmp(&two.len()))
        }
        (one, two) => rank(one).cmp(&rank(two)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_ordered_and_only_a_value_itself_is_equal() {
        let ascending = [
            json!(null),
            json!(false),
            json!(true),
            json!(-1.5),
            json!(-0.0),
            json!(0),
            json!(1),
            json!(1.0),
            json!(u64::MAX),
            json!(1e300),
            json!(""),
            json!("NaN"),
            json!("a"),
            json!("é"),
            json!([]),
            json!([1]),
            json!([1, 0]),
            json!([2]),
            json!({}),
            json!({"a": 1, "b": 1}),
            json!({"a": 2}),
            json!({"b": 0}),
        ];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                let expected = index.cmp(&other_index);
                assert_eq!(compare(one, other), expected, "{one} {other}");
            }
        }
        assert!(same(&json!({"a": [1, -0.0]}), &json!({"a": [1.0, 0]})));
        assert!(!same(&json!("1"), &json!(1)));
    }

    #[test]
    fn numbers_and_times_compare_by_what_they_mean() {
        let ascending = [
            json!(null),
            json!("text"),
            json!("-Infinity"),
            json!(9),
            json!("9007199254740993"),
            json!("1e400"),
            json!("Infinity"),
            json!("NaN"),
        ];
        for pair in ascending.windows(2) {
            assert!(
                Comparison::Number.compare(&pair[0], &pair[1]).is_lt(),
                "{pair:?}"
            );
        }
        let (earlier, later) = (
            json!("2026-11-20T07:00:00+05:30"),
            json!("2026-11-20T02:00:00Z"),
        );
        assert!(Comparison::Timestamp.compare(&earlier, &later).is_lt());
        assert!(
            Comparison::Date
                .compare(&json!("0044-03-15 BC"), &json!("0001-01-01"))
                .is_lt()
        );
    }
}
