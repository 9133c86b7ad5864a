//! Properties of any write, whatever the client sends.

use proptest::prelude::*;
use serde_json::json;

use super::tests::{ID, check_all, column, text};
use super::*;
use value::schema::ColumnKind;

/// Every kind of column, with bounds and labels that arbitrary values sometimes fit.
fn kinds() -> Vec<ColumnKind> {
    let plain = vec![
        ColumnKind::Bool,
        ColumnKind::INT2,
        ColumnKind::INT4,
        ColumnKind::INT8,
        ColumnKind::Float,
        ColumnKind::Numeric,
        text(),
        ColumnKind::Text { chars_max: Some(4) },
        ColumnKind::Uuid,
        ColumnKind::Date,
        ColumnKind::Timestamp,
        ColumnKind::TimestampTz,
        ColumnKind::Bytes,
        ColumnKind::Json,
        ColumnKind::Enum(vec!["a".to_owned(), "b".to_owned()]),
        ColumnKind::Other,
    ];
    let arrays = plain
        .iter()
        .cloned()
        .map(|kind| ColumnKind::Array(Box::new(kind)));
    plain.iter().cloned().chain(arrays).collect()
}

/// JSON texts of all forms, some of them close to a value of some kind.
fn json_text() -> impl Strategy<Value = String> {
    let string = prop_oneof![any::<String>(), "[ab]", "[-+0-9.eE]{0,8}"];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| json!(value).to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?",
        string.prop_map(|text| json!(text).to_string()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""\u0000""#.to_owned()),
        Just(format!("\"{ID}\"")),
        Just(format!("\"{{{}}}\"", ID.to_uppercase())),
        "\"20[0-9]{2}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](Z|[+-]0[0-9])?)?\"",
        "\"[A-Za-z0-9+/]{0,6}={0,2}\"",
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|pairs| {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", json!(name)))
                    .collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

/// JSON texts that are mostly of this kind.
fn json_text_of(kind: &ColumnKind) -> BoxedStrategy<String> {
    let double = any::<f64>().prop_map(|value| json!(value).to_string());
    let decimal = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?(e-?[0-9]{1,3})?";
    let clock = "20[0-9]{2}-0[1-9]-[0-2][1-9][T ]1[0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,6})?)?";
    match kind {
        ColumnKind::Bool => any::<bool>().prop_map(|value| value.to_string()).boxed(),
        ColumnKind::Int { min, max } => prop_oneof![
            (*min..=*max).prop_map(|value| value.to_string()),
            (*min..=*max).prop_map(|value| format!("\"{value}\"")),
        ]
        .boxed(),
        ColumnKind::Float => prop_oneof![double, decimal, Just("\"NaN\"".to_owned())].boxed(),
        ColumnKind::Numeric => prop_oneof![
            double,
            decimal,
            decimal.prop_map(|text| format!("\"{text}\""))
        ]
        .boxed(),
        ColumnKind::Text { .. } => any::<String>()
            .prop_map(|text| json!(text).to_string())
            .boxed(),
        ColumnKind::Uuid => prop_oneof![
            "\"[0-9A-F]{32}\"",
            "\"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\""
        ]
        .boxed(),
        ColumnKind::Date => "\"20[0-9]{2}-0[1-9]-[0-2][1-9]\"".boxed(),
        ColumnKind::Timestamp => clock.prop_map(|text| format!("\"{text}\"")).boxed(),
        ColumnKind::TimestampTz => clock.prop_map(|text| format!("\"{text}+02\"")).boxed(),
        ColumnKind::Bytes => "\"([A-Za-z0-9+/]{4}){0,3}([A-Za-z0-9+/]{2}[AQgw]=)?\"".boxed(),
        ColumnKind::Json | ColumnKind::Other => json_text().boxed(),
        ColumnKind::Enum(labels) => prop::sample::select(labels.clone())
            .prop_map(|text| json!(text).to_string())
            .boxed(),
        ColumnKind::Array(element) => prop::collection::vec(json_text_of(element), 0..3)
            .prop_map(|texts| format!("[{}]", texts.join(",")))
            .boxed(),
    }
}

fn schema_of_key(columns: &[(ColumnKind, String)]) -> Arc<Schema> {
    let kinds = columns.iter().map(|(kind, _)| kind.clone()).enumerate();
    Arc::new(Schema {
        entity: "t".to_owned(),
        columns: kinds
            .map(|(at, kind)| column(&format!("k{at}"), kind))
            .collect(),
        key: (0..columns.len()).collect(),
    })
}

fn check_key(schema: &Arc<Schema>, op: Op, key: Option<Value>, raw: &str) -> Option<CheckedWrite> {
    let values = serde_json::from_str(raw).expect("values");
    let write = Write {
        entity: "t".to_owned(),
        op,
        key,
        values,
        hlc: None,
        born: None,
        seen: None,
        resolves: BTreeMap::new(),
    };
    let checked = check_all(
        &[write],
        |_| Some(Arc::clone(schema)),
        |_| WriteColumns::ALL,
        1,
    );
    checked.ok().map(|mut checked| checked.remove(0))
}

/// Kinds of one or two columns, each with a JSON text.
fn key_columns() -> impl Strategy<Value = Vec<(ColumnKind, String)>> {
    let column = prop::sample::select(kinds()).prop_flat_map(|kind| {
        let text = prop_oneof![9 => json_text_of(&kind), 1 => json_text().boxed()];
        (Just(kind), text)
    });
    prop::collection::vec(column, 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_checked_value_passes_the_check_again(
        columns in key_columns(),
    ) {
        let (kind, text) = columns.into_iter().next().expect("one or two");
        let raw = RawValue::from_string(text).expect("JSON");
        if let Ok(checked) = column_value::check(&kind, &raw) {
            // A checked value passes the check again, unchanged.
            let again = column_value::check(&kind, &checked).expect("still of its kind");
            prop_assert_eq!(again.get(), checked.get());
        }
        let _ = key_part::canonical(&kind, &raw);
    }

    #[test]
    fn any_write_is_checked_or_has_a_short_fault(
        columns in key_columns(),
        op in prop::sample::select(vec![Op::Create, Op::Update, Op::Upsert, Op::Delete]),
        key in prop::option::of(json_text()),
        values in prop::collection::btree_map("k[0-3]", json_text(), 0..3),
    ) {
        let key = key.and_then(|key| serde_json::from_str(&key).ok());
        let values = values.into_iter();
        let values = values.map(|(name, raw)| (name, RawValue::from_string(raw).expect("JSON")));
        let write = Write { entity: "t".to_owned(), op, key, values: values.collect(), hlc: None, born: None, seen: None, resolves: BTreeMap::new() };
        let schema = schema_of_key(&columns);
        if let Err(fault) = check_all(&[write], |_| Some(Arc::clone(&schema)), |_| WriteColumns::ALL, 1) {
            prop_assert!(fault.message.chars().count() < 400, "{}", fault.message);
        }
    }

    #[test]
    fn a_canonical_key_names_the_row_that_it_was_made_of(
        columns in key_columns(),
    ) {
        let schema = schema_of_key(&columns);
        let pairs = columns.iter().enumerate();
        let pairs: Vec<String> = pairs.map(|(at, (_, text))| format!("\"k{at}\":{text}")).collect();
        let values = format!("{{{}}}", pairs.join(","));
        let Some(created) = check_key(&schema, Op::Create, None, &values) else { return Ok(()) };
        let canonical = created.canonical_key().expect("all of the key was given");
        let deleted = check_key(&schema, Op::Delete, Some(Value::String(canonical.clone())), "{}");
        let deleted = deleted.expect("a canonical key is a key");
        prop_assert_eq!(deleted.canonical_key(), Some(canonical));
        // The text of a key of one JSON column does not tell a string from other values.
        let kind = &columns[0].0;
        if columns.len() > 1 || !matches!(kind, ColumnKind::Json | ColumnKind::Other) {
            prop_assert_eq!(deleted.key, created.key);
        }
    }
}
