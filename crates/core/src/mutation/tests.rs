//! Each rule of a write, by example.

use serde_json::json;

use super::*;
use value::schema::{Collation, Column, ColumnKind};

pub(super) fn column(name: &str, kind: ColumnKind) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        type_name: String::new(),
        nullable: false,
        has_default: false,
        generated: false,
        collation: Collation::Bytes,
        logged: true,
    }
}

pub(super) fn text() -> ColumnKind {
    ColumnKind::Text { chars_max: None }
}

/// `todos(id uuid default, title text, done bool default, note varchar(3) null, slug generated)`.
fn todos() -> Schema {
    let mut schema = Schema {
        entity: "todos".to_owned(),
        columns: vec![
            column("id", ColumnKind::Uuid),
            column("title", text()),
            column("done", ColumnKind::Bool),
            column("note", ColumnKind::Text { chars_max: Some(3) }),
            column("slug", text()),
        ],
        key: vec![0],
    };
    schema.columns[0].has_default = true;
    schema.columns[2].has_default = true;
    schema.columns[3].nullable = true;
    schema.columns[4].generated = true;
    schema
}

/// `seats(row int8, place text, taken bool null)` with the key `(place, row)`.
fn seats() -> Schema {
    let mut schema = Schema {
        entity: "seats".to_owned(),
        columns: vec![
            column("row", ColumnKind::INT8),
            column("place", text()),
            column("taken", ColumnKind::Bool),
        ],
        key: vec![1, 0],
    };
    schema.columns[2].nullable = true;
    schema
}

/// Checks the writes of a mutation, as far as the first fault.
pub(super) fn check_all<'c>(
    writes: &[Write],
    schemas: impl Fn(&str) -> Option<Arc<Schema>>,
    columns: impl Fn(usize) -> &'c WriteColumns,
    writes_max: usize,
) -> Result<Vec<CheckedWrite>, Reject> {
    check_count(writes.len(), writes_max)?;
    let checked = writes.iter().enumerate().map(|(index, write)| {
        let checked = check(write, schemas(&write.entity), columns(index));
        checked.map_err(|fault| fault.of_write(index))
    });
    checked.collect()
}

fn check_json(writes: Value) -> Result<Vec<CheckedWrite>, Reject> {
    let writes: Vec<Write> = serde_json::from_str(&writes.to_string()).expect("writes");
    let known = [todos(), seats()].map(Arc::new);
    check_all(
        &writes,
        |name| known.iter().find(|schema| schema.entity == name).cloned(),
        |_| WriteColumns::ALL,
        3,
    )
}

fn check_one(write: Value) -> Result<CheckedWrite, Reject> {
    check_json(json!([write])).map(|mut checked| checked.remove(0))
}

pub(super) const ID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

fn named_values(write: &CheckedWrite) -> Vec<(&str, &str)> {
    let name = |position: usize| write.schema.columns[position].name.as_str();
    write
        .values
        .iter()
        .map(|(position, raw)| (name(*position), raw.get()))
        .collect()
}

#[test]
fn valid_writes_are_returned_with_their_key_and_values() {
    let upper = ID.to_uppercase();
    let quoted = format!("\"{ID}\"");
    for (write, key, values) in [
        // The database makes the key.
        (
            json!({"entity": "todos", "op": "create", "values": {"title": "a"}}),
            None,
            vec![("title", "\"a\"")],
        ),
        (
            json!({"entity": "todos", "op": "create", "key": upper, "values": {"title": "a", "note": null}}),
            Some(ID),
            vec![
                ("id", quoted.as_str()),
                ("title", "\"a\""),
                ("note", "null"),
            ],
        ),
        (
            json!({"entity": "todos", "op": "create", "key": ID, "values": {"id": upper, "title": "a"}}),
            Some(ID),
            vec![("id", &quoted), ("title", "\"a\"")],
        ),
        // An upsert may find its row, so it may leave out columns that a create must set.
        (
            json!({"entity": "todos", "op": "upsert", "values": {"id": ID, "done": true}}),
            Some(ID),
            vec![("id", &quoted), ("done", "true")],
        ),
        (
            json!({"entity": "todos", "op": "update", "key": ID, "values": {"id": upper, "done": true}}),
            Some(ID),
            vec![("done", "true")],
        ),
        (
            json!({"entity": "todos", "op": "delete", "key": ID}),
            Some(ID),
            vec![],
        ),
        (
            json!({"entity": "seats", "op": "create", "values": {"place": "x", "row": "7"}}),
            Some("[\"x\",7]"),
            vec![("row", "7"), ("place", "\"x\"")],
        ),
        (
            json!({"entity": "seats", "op": "upsert", "key": "[\"x\",\"9007199254740993\"]", "hlc": "?"}),
            Some("[\"x\",\"9007199254740993\"]"),
            vec![("row", "\"9007199254740993\""), ("place", "\"x\"")],
        ),
        (
            json!({"entity": "seats", "op": "delete", "key": ["x", "7"]}),
            Some("[\"x\",7]"),
            vec![],
        ),
    ] {
        let checked = check_one(write.clone()).unwrap_or_else(|fault| panic!("{write}: {fault:?}"));
        assert_eq!(checked.canonical_key().as_deref(), key, "{write}");
        assert_eq!(named_values(&checked), values, "{write}");
        assert_eq!(checked.entity, checked.schema.entity);
    }
}

#[test]
fn each_fault_has_a_code_and_a_column() {
    use RejectCode::{Constraint, Invalid, UnknownColumn, UnknownEntity};
    let other = ID.replace('6', "7");
    for (write, code, column, words) in [
        (
            json!({"entity": "t", "op": "delete", "key": 1}),
            UnknownEntity,
            None,
            "no entity \"t\"",
        ),
        (
            json!({"entity": "todos", "op": "update", "key": ID, "values": {"colour": 1}}),
            UnknownColumn,
            Some("colour"),
            "no column \"colour\"",
        ),
        (
            json!({"entity": "todos", "op": "update", "key": ID, "values": {"slug": "a"}}),
            Invalid,
            Some("slug"),
            "the database computes this column",
        ),
        (
            json!({"entity": "todos", "op": "update", "key": ID, "values": {"title": null}}),
            Constraint,
            Some("title"),
            "title may not be null",
        ),
        (
            json!({"entity": "todos", "op": "create", "key": ID}),
            Constraint,
            Some("title"),
            "title may not be null",
        ),
        (
            json!({"entity": "todos", "op": "create", "values": {"title": 7}}),
            Invalid,
            Some("title"),
            "expected a text, not 7",
        ),
        // Keys.
        (
            json!({"entity": "todos", "op": "delete"}),
            Invalid,
            None,
            "name its row in `key`",
        ),
        (
            json!({"entity": "todos", "op": "update", "values": {"id": ID, "done": true}}),
            Invalid,
            None,
            "name its row in `key`",
        ),
        (
            json!({"entity": "todos", "op": "delete", "key": {}}),
            Invalid,
            None,
            "a key of one column",
        ),
        (
            json!({"entity": "seats", "op": "delete", "key": "x"}),
            Invalid,
            None,
            "a key of 2 columns must be an array",
        ),
        (
            json!({"entity": "todos", "op": "delete", "key": "x"}),
            Invalid,
            Some("id"),
            "expected a uuid, not \"x\"",
        ),
        (
            json!({"entity": "seats", "op": "delete", "key": ["x", "007"]}),
            Invalid,
            Some("row"),
            "expected a whole number",
        ),
        (
            json!({"entity": "seats", "op": "delete", "key": ["x", null]}),
            Invalid,
            Some("row"),
            "a key cannot hold null",
        ),
        (
            json!({"entity": "seats", "op": "create", "values": {"row": null, "place": "x"}}),
            Constraint,
            Some("row"),
            "row may not be null",
        ),
        (
            json!({"entity": "seats", "op": "create", "values": {"row": 1}}),
            Constraint,
            Some("place"),
            "place may not be null",
        ),
        (
            json!({"entity": "seats", "op": "upsert", "values": {"row": 1}}),
            Invalid,
            Some("place"),
            "an upsert must name its whole key",
        ),
        (
            json!({"entity": "todos", "op": "upsert", "key": ID, "values": {"id": other}}),
            Invalid,
            Some("id"),
            "name different rows",
        ),
        (
            json!({"entity": "todos", "op": "update", "key": ID, "values": {"id": other, "done": true}}),
            Invalid,
            Some("id"),
            "a key cannot change",
        ),
        (
            json!({"entity": "todos", "op": "update", "key": ID}),
            Invalid,
            None,
            "at least one value",
        ),
        (
            json!({"entity": "todos", "op": "update", "key": ID, "values": {"id": ID}}),
            Invalid,
            None,
            "at least one value",
        ),
        (
            json!({"entity": "todos", "op": "delete", "key": ID, "values": {"done": true}}),
            Invalid,
            None,
            "a delete cannot have values",
        ),
    ] {
        let fault = check_one(write.clone()).expect_err(&write.to_string());
        assert_eq!(
            (fault.code, fault.column.as_deref()),
            (code, column),
            "{write}"
        );
        assert!(fault.message.contains(words), "{write}: {}", fault.message);
        assert_eq!(fault.write, Some(0), "{write}");
    }
}

#[test]
fn a_mutation_has_at_least_one_write_and_at_most_the_limit() {
    let delete = json!({"entity": "todos", "op": "delete", "key": ID});
    let of = |count| check_json(Value::Array(vec![delete.clone(); count]));
    let fault = of(0).expect_err("none");
    assert_eq!((fault.code, fault.write), (RejectCode::Invalid, None));
    assert_eq!(of(3).expect("three").len(), 3);
    let fault = of(4).expect_err("four");
    assert_eq!((fault.code, fault.write), (RejectCode::TooLarge, None));
}

#[test]
fn the_first_fault_wins_and_names_its_write() {
    let good = json!({"entity": "todos", "op": "delete", "key": ID});
    let bad = json!({"entity": "todos", "op": "delete"});
    let worse = json!({"entity": "?", "op": "delete"});
    let fault = check_json(json!([good, bad, worse])).expect_err("two faults");
    assert_eq!((fault.code, fault.write), (RejectCode::Invalid, Some(1)));
}

#[test]
fn a_key_that_the_database_always_generates_cannot_be_written() {
    let mut schema = todos();
    schema.columns[0].generated = true;
    schema.columns[0].has_default = false;
    let schema = Arc::new(schema);
    let check_one = |write: Value| {
        let write: Write = serde_json::from_str(&write.to_string()).expect("a write");
        check_all(
            &[write],
            |_| Some(Arc::clone(&schema)),
            |_| WriteColumns::ALL,
            1,
        )
    };
    let title = json!({"title": "a"});
    for op in ["create", "upsert"] {
        let fault = check_one(json!({"entity": "todos", "op": op, "key": ID, "values": title}))
            .expect_err(op);
        assert_eq!(
            (fault.code, fault.column.as_deref()),
            (RejectCode::Invalid, Some("id"))
        );
    }
    check_one(json!({"entity": "todos", "op": "create", "values": title})).expect("no key");
    check_one(json!({"entity": "todos", "op": "update", "key": ID, "values": title}))
        .expect("a row that is there");
}

/// SQLite lets a key's columns be null.
#[test]
fn a_key_is_never_null_even_where_its_column_may_be() {
    let mut schema = seats();
    schema.columns[0].nullable = true;
    let write = json!({"entity": "seats", "op": "create", "values": {"place": "x", "row": null}});
    let write: Write = serde_json::from_str(&write.to_string()).expect("a write");
    let fault = check_all(
        &[write],
        |_| Some(Arc::new(schema.clone())),
        |_| WriteColumns::ALL,
        1,
    )
    .expect_err("a null");
    assert_eq!(
        (fault.code, fault.column.as_deref()),
        (RejectCode::Constraint, Some("row"))
    );
}

#[test]
fn messages_repeat_little_of_what_the_client_sent() {
    let long = "é".repeat(10_000);
    for write in [
        json!({"entity": long, "op": "delete", "key": 1}),
        json!({"entity": "todos", "op": "delete", "key": long}),
        json!({"entity": "todos", "op": "update", "key": ID, "values": {&*long: 1}}),
        json!({"entity": "todos", "op": "update", "key": ID, "values": {"done": long}}),
        json!({"entity": "seats", "op": "delete", "key": [long, long]}),
    ] {
        let fault = check_one(write).expect_err("too long to be right");
        for repeated in [Some(&fault.message), fault.column.as_ref()]
            .into_iter()
            .flatten()
        {
            assert!(repeated.matches('é').count() <= 100, "{repeated}");
        }
    }
}
