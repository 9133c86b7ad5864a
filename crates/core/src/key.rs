//! The canonical text of a primary key: how the log, the protocol and a client's copy name a row.
//!
//! A key of one column is that column's value as text (`42`, `a1b2…`); a key of several columns is
//! a JSON array of their values in the key's order (`[42,"eu"]`), without spaces. The database
//! writes the same text in its triggers.

use protocol::SelectionRequest;
use serde_json::Value;
use serde_json::value::to_raw_value;
use value::schema::Schema;

/// The canonical text of a key whose columns have these JSON values.
pub fn canonical(values: &[Value]) -> String {
    match values {
        [one] => plain(one),
        several => serde_json::to_string(several).expect("values are JSON"),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Splits a key as clients may send it into one JSON value for each of `columns` columns. It may be
/// canonical text, a bare number, or (for several columns) an array.
pub fn split(key: &Value, columns: usize) -> Option<Vec<Value>> {
    match key {
        Value::Array(values) if values.len() == columns => Some(values.clone()),
        Value::String(text) if columns > 1 => match serde_json::from_str(text) {
            Ok(Value::Array(values)) if values.len() == columns => Some(values),
            _ => None,
        },
        Value::String(_) | Value::Number(_) | Value::Bool(_) if columns == 1 => {
            Some(vec![key.clone()])
        }
        _ => None,
    }
}

/// What selects the row of this key. None for a text that is no key of the table.
pub fn selection(key: &str, schema: &Schema) -> Option<SelectionRequest> {
    let parts = split(&Value::from(key), schema.key.len())?;
    let columns = schema.key_columns().enumerate();
    let conditions = columns.map(|(index, column)| {
        let name = column.name.replace('"', "\"\"");
        format!("\"{name}\" = ${}", index + 1)
    });
    let params = parts.iter().map(to_raw_value).collect::<Result<_, _>>();
    Some(SelectionRequest {
        filter: Some(conditions.collect::<Vec<_>>().join(" AND ")),
        params: Some(params.ok()?),
        ..SelectionRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use value::schema::{Collation, Column, ColumnKind};

    use super::*;

    fn schema(key: &[(&str, ColumnKind)]) -> Schema {
        let columns = key.iter().map(|(name, kind)| Column {
            name: (*name).to_owned(),
            kind: kind.clone(),
            type_name: String::new(),
            nullable: false,
            has_default: false,
            generated: false,
            collation: Collation::Bytes,
            logged: true,
        });
        Schema {
            entity: "todos".to_owned(),
            columns: columns.collect(),
            key: (0..key.len()).collect(),
        }
    }

    #[test]
    fn the_selection_of_a_key_compares_each_of_its_columns() {
        let selected = |key: &str, schema: &Schema| {
            let request = selection(key, schema)?;
            let params = request.params.unwrap_or_default();
            let params: Vec<String> = params.iter().map(|it| it.get().to_owned()).collect();
            Some((request.filter.unwrap_or_default(), params.join(" ")))
        };
        let text = |filter: &str, params: &str| Some((filter.to_owned(), params.to_owned()));
        let one = schema(&[("a \"b\"", ColumnKind::INT8)]);
        let filter = r#""a ""b""" = $1"#;
        assert_eq!(selected("42", &one), text(filter, "\"42\""));
        let two = schema(&[("n", ColumnKind::INT8), ("region", ColumnKind::INT8)]);
        let filter = r#""n" = $1 AND "region" = $2"#;
        assert_eq!(selected(r#"[42,"eu"]"#, &two), text(filter, "42 \"eu\""));
        assert_eq!(selected("42", &two), None);
        assert_eq!(selected("42", &schema(&[])), None);
    }

    #[test]
    fn a_key_of_one_column_is_plain_and_of_several_an_array() {
        assert_eq!(canonical(&[json!(42)]), "42");
        assert_eq!(canonical(&[json!("a\"b")]), "a\"b");
        assert_eq!(canonical(&[json!(42), json!("eu")]), r#"[42,"eu"]"#);
    }

    #[test]
    fn split_undoes_canonical() {
        for values in [vec![json!("x")], vec![json!(1), json!("[]")]] {
            let text = Value::String(canonical(&values));
            assert_eq!(split(&text, values.len()), Some(values));
        }
        assert_eq!(split(&json!(7), 1), Some(vec![json!(7)]));
        assert_eq!(split(&json!([1, 2]), 2), Some(vec![json!(1), json!(2)]));
    }

    #[test]
    fn other_forms_are_not_keys() {
        for (key, columns) in [
            (json!(null), 1),
            (json!({"id": 1}), 1),
            (json!("x"), 2),
            (json!([1]), 2),
            (json!([1, 2]), 1),
            (json!(1), 2),
        ] {
            assert_eq!(split(&key, columns), None, "{key}");
        }
    }
}
