//! Which filters are evaluated, with what effect, and that a detached shape leaves nothing behind.

use sync_core::shape::RowOp;

use super::*;
use crate::rows::sets::SetContext;
use crate::rows::testing::{shape, update};

fn index(filters: impl IntoIterator<Item = String>) -> ShapeIndex {
    let mut index = ShapeIndex::default();
    for filter in filters {
        attach(&mut index, &shape(&filter));
    }
    index
}

fn attach(index: &mut ShapeIndex, shape: &Shape) {
    index.attach(shape, Arc::default());
}

fn find(index: &ShapeIndex, entry: &NetChange) -> Found {
    let old_value_columns = index.old_value_columns();
    index.find(
        entry,
        &old_value_columns,
        &SetContext::unknown(),
        &mut Budget::new(HashSet::new()),
    )
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
        let index = index((0..count).map(|list| format!("list_id = {list}")));
        let found = find(&index, &update(ROW, r#"{"title":"y"}"#));
        assert_eq!(found.evaluations, 1);
        assert_eq!(ops(&found), [(shape("list_id = 7"), RowOp::Put)]);
        // A row that moves from one list to another concerns both.
        let moved = find(&index, &update(ROW, r#"{"list_id":8}"#));
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
        let index = index(filters);
        let found = find(&index, &update(ROW, r#"{"title":"xy"}"#));
        assert!(found.evaluations <= 2, "{filter}: {}", found.evaluations);
        assert_eq!(found.effects.len(), 1, "{filter}");
    }
}

#[test]
fn an_unindexed_filter_is_evaluated_once_per_shape() {
    let mut index = ShapeIndex::default();
    for filter in ["list_id > 5", "5 < list_id", "title LIKE 'y%'"] {
        attach(&mut index, &shape(filter));
    }
    let found = find(&index, &update(ROW, r#"{"title":"z"}"#));
    assert_eq!(found.evaluations, 2);
    assert_eq!(found.effects.len(), 1);
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
    for filter in filters {
        attach(&mut index, &shape(filter));
    }
    attach(&mut index, &Shape::whole("todos"));
    assert_eq!(index.shapes_of("todos").count(), filters.len() + 1);
    let columns: Vec<&str> = index
        .old_value_columns
        .get("todos")
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    assert_eq!(columns, ["done", "list_id", "owner", "title"]);
    index.detach(&shape("done"));
    assert!(
        !index
            .old_value_columns
            .get("todos")
            .is_some_and(|columns| columns.contains("done"))
    );
    for filter in filters {
        index.detach(&shape(filter));
    }
    assert!(index.old_value_columns.is_empty());
    assert!(index.has_whole("todos"));
    index.detach(&Shape::whole("todos"));
    assert!(index.entities.is_empty());
}

#[test]
fn a_shape_attached_after_the_drain_receives_no_key_that_it_may_never_have_had() {
    let mut index = index(["list_id = 7".to_owned(), "list_id = 8".to_owned()]);
    let before = index.old_value_columns();
    // No filter needed this column during the drain, so the entry lacks its old value.
    attach(&mut index, &shape("owner = 4"));
    let entry = update(ROW, r#"{"title":"y","owner":0}"#);
    let found = index.find(
        &entry,
        &before,
        &SetContext::unknown(),
        &mut Budget::new(HashSet::new()),
    );
    assert_eq!(found.evaluations, 2, "no others are asked");
    assert_eq!(ops(&found), [(shape("list_id = 7"), RowOp::Put)]);
    // The row may have been in it, and is not told to those who never had it.
    assert_eq!(found.unclear, [shape("owner = 4")]);
    // Nothing is known of the row's past, so a reader of any shape that it does not match now may hold it.
    let mut unknown = update(ROW, "{}");
    unknown.undo = None;
    let found = find(&index, &unknown);
    assert_eq!(found.effects.len(), 3);
}

#[test]
fn a_row_of_another_schema_outdates_the_shape_and_has_no_effect() {
    let index = index(["list_id = 7".to_owned()]);
    let found = find(&index, &update("[1]", "{}"));
    assert_eq!(found.outdated, [shape("list_id = 7")]);
    let mut entry = update(ROW, "{}");
    entry.entity = "others".to_owned();
    assert!(find(&index, &entry).effects.is_empty());
}

#[test]
fn a_filter_over_its_share_is_not_evaluated() {
    let searches: Vec<String> = (0..400).map(|n| format!("title LIKE '%a_{n}%'")).collect();
    let dear = searches.join(" OR ");
    let index = index([dear.clone(), "list_id > 1".to_owned()]);
    let long = ROW.replace(r#""x""#, &format!(r#""{}""#, "x".repeat(100_000)));
    let mut budget = Budget::new(HashSet::new());
    let entry = update(&long, "{}");
    let found = index.find(
        &entry,
        &index.old_value_columns(),
        &SetContext::unknown(),
        &mut budget,
    );
    assert_eq!(ops(&found), [(shape("list_id > 1"), RowOp::Put)]);
    assert_eq!(budget.into_over(), HashSet::from([shape(&dear)]));
    let mut budget = Budget::new(HashSet::new());
    index.find(
        &update(ROW, "{}"),
        &index.old_value_columns(),
        &SetContext::unknown(),
        &mut budget,
    );
    assert!(
        budget.into_over().is_empty(),
        "it costs little for a short text"
    );
}
