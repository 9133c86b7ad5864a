//! Which filters are evaluated, with what effect, and that a detached shape leaves nothing behind.

use filter::Backend;
use protocol::SelectionRequest;
use serde_json::value::RawValue;
use sync_core::cursor::CommitId;
use sync_core::log::{ChangeKind, UndoRecord};
use sync_core::policy::ReadScope;
use sync_core::shape::{CurrentTable, RowOp};
use value::schema::{Collation, Column, ColumnKind, Schema};

use super::*;

/// `todos(id, list_id, owner, done, title)`.
fn todos(fingerprint: &str) -> CurrentTable {
    let columns = [
        ("id", ColumnKind::INT8),
        ("list_id", ColumnKind::INT8),
        ("owner", ColumnKind::INT8),
        ("done", ColumnKind::Bool),
        ("title", ColumnKind::Text { chars_max: None }),
    ];
    let columns = columns.into_iter().map(|(name, kind)| Column {
        name: name.to_owned(),
        kind,
        type_name: String::new(),
        nullable: true,
        has_default: false,
        generated: false,
        collation: Collation::Bytes,
        logged: true,
    });
    let schema = Schema {
        entity: "todos".to_owned(),
        columns: columns.collect(),
        key: vec![0],
    };
    CurrentTable {
        schema: Arc::new(schema),
        fingerprint: fingerprint.into(),
        backend: Backend::Postgres,
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

fn shape(filter: &str) -> Shape {
    let request = SelectionRequest {
        filter: Some(filter.to_owned()),
        ..SelectionRequest::default()
    };
    Shape::resolve(&todos("1"), &request, &ReadScope::Everything).expect("a shape")
}

fn index(filters: impl IntoIterator<Item = String>) -> ShapeIndex {
    let mut index = ShapeIndex::default();
    for (session, filter) in filters.into_iter().enumerate() {
        index.attach(&shape(&filter), SessionId::of(session as u64));
    }
    index
}

/// An update of a row to `row`, in which `old` was different.
fn update(row: &str, old: &str) -> NetChange {
    NetChange {
        id: 5,
        commit_id: CommitId::LogId(5),
        entity: "todos".to_owned(),
        key: Some("1".to_owned()),
        kind: ChangeKind::Update,
        created: 0,
        deleted: 0,
        truncated_at: None,
        mutation_id: None,
        row: Some(raw(row)),
        undo: Some(vec![UndoRecord {
            id: 5,
            transaction: Some(5),
            kind: ChangeKind::Update,
            old: Some(raw(old)),
        }]),
    }
}

fn find(index: &mut ShapeIndex, entry: &NetChange) -> Found {
    let old_value_columns = index.old_value_columns();
    index.find(entry, &old_value_columns)
}

fn ops(found: &Found) -> Vec<(Shape, RowOp)> {
    let mut ops: Vec<_> = found
        .effects
        .iter()
        .map(|(shape, effect)| (shape.clone(), effect.op))
        .collect();
    ops.sort_by(|(one, _), (other, _)| one.cmp(other));
    ops
}

const ROW: &str = r#"{"id":1,"list_id":7,"owner":3,"done":false,"title":"x"}"#;

#[test]
fn a_change_is_evaluated_only_by_filters_on_its_values() {
    for count in [100, 10_000] {
        let mut index = index((0..count).map(|list| format!("list_id = {list}")));
        let found = find(&mut index, &update(ROW, r#"{"title":"y"}"#));
        assert_eq!(found.evaluations, 1);
        assert_eq!(ops(&found), [(shape("list_id = 7"), RowOp::Put)]);
        // A row that moves from one list to another concerns both.
        let moved = find(&mut index, &update(ROW, r#"{"list_id":8}"#));
        assert_eq!(moved.evaluations, 2);
        let mut expected = [
            (shape("list_id = 7"), RowOp::Put),
            (shape("list_id = 8"), RowOp::Leave),
        ];
        expected.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(ops(&moved), expected);
    }
}

#[test]
fn a_filter_is_filed_under_its_most_selective_value() {
    for filter in [
        "NOT done AND list_id = {}",
        "owner = 3 AND list_id = {}",
        "list_id = {} AND title LIKE 'x%'",
        "owner = 3000{} OR list_id = {}",
        "list_id IN ({}, 1000000)",
    ] {
        let filters = (0..1000).map(|list| filter.replace("{}", &list.to_string()));
        let mut index = index(filters);
        let found = find(&mut index, &update(ROW, r#"{"title":"xy"}"#));
        assert!(found.evaluations <= 2, "{filter}: {}", found.evaluations);
        assert_eq!(found.effects.len(), 1, "{filter}");
    }
}

#[test]
fn an_unindexed_filter_is_evaluated_once_per_shape() {
    let mut index = ShapeIndex::default();
    for session in 0..1000 {
        index.attach(&shape("list_id > 5"), SessionId::of(session));
        index.attach(&shape("5 < list_id"), SessionId::of(session));
        index.attach(&shape("title LIKE 'y%'"), SessionId::of(session));
    }
    let found = find(&mut index, &update(ROW, r#"{"title":"z"}"#));
    assert_eq!(found.evaluations, 2);
    assert_eq!(found.effects.len(), 1);
    assert_eq!(
        index
            .audience(&found.effects[0].0)
            .map(|all| all.sessions.len()),
        Some(1000)
    );
}

#[test]
fn the_index_is_empty_after_every_session_has_left() {
    let filters = [
        "list_id = 1 OR owner = 2",
        "title LIKE 'x%'",
        "done",
        "list_id > 1",
        "FALSE",
    ];
    let mut index = ShapeIndex::default();
    for (session, filter) in filters.iter().enumerate() {
        index.attach(&shape(filter), SessionId::of(session as u64));
        index.attach(&shape(filter), SessionId::of(100));
    }
    index.attach(&Shape::whole("todos"), SessionId::of(1));
    assert_eq!(index.count_of("todos"), filters.len() + 1);
    for (session, filter) in filters.iter().enumerate() {
        index.detach(&shape(filter), SessionId::of(session as u64));
    }
    let columns: Vec<&str> = index
        .old_value_columns
        .get("todos")
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    assert_eq!(columns, ["done", "list_id", "owner", "title"]);
    index.detach(&shape("done"), SessionId::of(100));
    assert!(
        !index
            .old_value_columns
            .get("todos")
            .is_some_and(|columns| columns.contains("done"))
    );
    for filter in filters {
        index.detach(&shape(filter), SessionId::of(100));
    }
    assert!(index.old_value_columns.is_empty());
    index.detach(&Shape::whole("todos"), SessionId::of(1));
    assert!(index.entities.is_empty());
}

#[test]
fn a_shape_attached_after_the_drain_receives_its_effects_conservatively() {
    let mut index = index(["list_id = 7".to_owned(), "list_id = 8".to_owned()]);
    let before = index.old_value_columns();
    // No filter needed this column during the drain, so the entry lacks its old value.
    index.attach(&shape("owner = 4"), SessionId::of(9));
    let found = index.find(&update(ROW, r#"{"title":"y","owner":0}"#), &before);
    let mut expected = [
        (shape("list_id = 7"), RowOp::Put),
        (shape("owner = 4"), RowOp::Leave),
    ];
    expected.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(ops(&found), expected);
    // Nothing is known of the row's past, so a reader of any shape that it does not match now may hold it.
    let mut unknown = update(ROW, "{}");
    unknown.undo = None;
    let found = find(&mut index, &unknown);
    assert_eq!(found.effects.len(), 3);
}

#[test]
fn a_row_of_another_schema_outdates_the_shape_and_has_no_effect() {
    let mut index = index(["list_id = 7".to_owned()]);
    let found = find(&mut index, &update("[1]", "{}"));
    assert_eq!(found.outdated, [shape("list_id = 7")]);
    let mut entry = update(ROW, "{}");
    entry.entity = "others".to_owned();
    assert!(find(&mut index, &entry).effects.is_empty());
}
