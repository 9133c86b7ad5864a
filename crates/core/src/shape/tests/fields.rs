//! Shapes with metadata: which are equal, what a change is for them, and what of it is told.

use merge::Rules;
use protocol::{Change, RowMetadata};

use super::*;
use crate::cursor::CommitId;
use crate::effect::Effect;
use crate::log::{ChangeKind, NetChange, UndoRecord};

fn fields_table() -> CurrentTable {
    CurrentTable {
        has_records: false,
        fields: Some(Arc::new(Rules::default())),
        ..table("1")
    }
}

fn of_mode(mode: Option<&str>, columns: Option<&[&str]>, scope: &ReadScope) -> Shape {
    let request = SelectionRequest {
        mode: mode.map(str::to_owned),
        ..request(None, columns)
    };
    let shape = Shape::resolve(&fields_table(), &request, scope, Others::NONE);
    shape.expect("a shape")
}

fn fields(columns: Option<&[&str]>) -> Shape {
    of_mode(Some("fields"), columns, &ReadScope::Everything)
}

#[test]
fn the_mode_is_part_of_a_shape() {
    let everything = &ReadScope::Everything;
    assert_eq!(of_mode(None, None, everything), Shape::whole("t"));
    assert_eq!(of_mode(Some("rows"), None, everything), Shape::whole("t"));
    assert_ne!(fields(None), Shape::whole("t"));
    assert_eq!(fields(None), fields(None));
    for columns in [None, Some(&["t"][..])] {
        assert_ne!(of_mode(None, columns, everything), fields(columns));
        assert!(fields(columns).has_metadata());
        assert!(!of_mode(None, columns, everything).has_metadata());
    }
    assert!(!fields(None).is_guarded());
}

#[test]
fn a_mode_that_does_not_fit_is_an_error() {
    for (table, mode) in [(table("1"), "fields"), (fields_table(), "columns")] {
        let request = SelectionRequest {
            mode: Some(mode.to_owned()),
            ..request(None, None)
        };
        let resolved = Shape::resolve(&table, &request, &ReadScope::Everything, Others::NONE);
        assert!(matches!(resolved, Err(ResolveError::Mode(_))), "{mode}");
    }
}

/// What an update whose records have these previous values, newest first, is for a shape.
fn effect(shape: &Shape, row: &str, olds: &[(ChangeKind, &str)]) -> Option<Change> {
    let records = olds
        .iter()
        .zip(1..)
        .map(|((kind, old), number)| UndoRecord {
            id: -number,
            transaction: u64::try_from(number).ok(),
            kind: *kind,
            old: (*kind != ChangeKind::Create).then(|| raw(old)),
        });
    let metadata =
        crate::metadata::read(r#"{"born":"b","edited":"e","fields":{"n":"1","t":"2","gone":"3"}}"#);
    let change = NetChange {
        id: 9,
        commit_id: CommitId::LogId(9),
        entity: "t".to_owned(),
        key: Some("1".to_owned()),
        kind: ChangeKind::Update,
        created: 0,
        deleted: 0,
        truncated_at: None,
        mutation_id: None,
        row: Some(raw(row)),
        metadata: Some(Box::new(metadata.expect("metadata"))),
        undo: Some(records.collect()),
    };
    let reader = ShapeReader::new(shape.clone());
    match change.effect_on(&reader, SetsAtBoth::NONE).expect("a row") {
        Effect::Change { change, transient } => {
            assert!(!transient);
            Some(change)
        }
        Effect::Nothing => None,
        other => panic!("{other:?}"),
    }
}

const ROW: &str = r#"{"id":1,"n":2,"t":"x"}"#;

#[track_caller]
fn assert_patch(change: Option<Change>, values: &str, clocks: &[&str]) -> RowMetadata {
    let Some(Change::Patch {
        values: found,
        metadata,
        ..
    }) = change
    else {
        panic!("{change:?}")
    };
    assert_eq!(found.get(), values);
    assert!(metadata.clocks.keys().eq(clocks), "{metadata:?}");
    metadata
}

#[test]
fn an_update_of_a_row_that_is_here_is_a_patch() {
    use ChangeKind::{Create, Delete, Update};
    let all = fields(None);
    let known = assert_patch(
        effect(&all, ROW, &[(Update, r#"{"t":"y"}"#)]),
        r#"{"t":"x"}"#,
        &["n", "t"],
    );
    assert_eq!(
        (known.born.as_deref(), known.edited.as_deref()),
        (Some("b"), Some("e"))
    );
    // Changed, and changed back: somebody may have joined in between.
    let back = [(Update, r#"{"t":"y"}"#), (Update, r#"{"n":7,"t":"x"}"#)];
    assert_patch(effect(&all, ROW, &back), r#"{"n":2,"t":"x"}"#, &["n", "t"]);
    assert_patch(effect(&all, ROW, &[(Update, "{}")]), "{}", &["n", "t"]);
    for put in [&[(Create, "")][..], &[(Create, ""), (Delete, ROW)]] {
        assert!(
            matches!(effect(&all, ROW, put), Some(Change::Put { .. })),
            "{put:?}"
        );
    }
}

#[test]
fn a_row_that_was_not_here_all_the_time_is_put() {
    let request = SelectionRequest {
        mode: Some("fields".to_owned()),
        ..request(Some("n = 2"), None)
    };
    let shape = Shape::resolve(
        &fields_table(),
        &request,
        &ReadScope::Everything,
        Others::NONE,
    );
    let shape = shape.expect("a shape");
    let update = |old| (ChangeKind::Update, old);
    assert_patch(
        effect(&shape, ROW, &[update(r#"{"t":"y"}"#)]),
        r#"{"t":"x"}"#,
        &["n", "t"],
    );
    for came in [
        &[update(r#"{"n":1}"#)][..],
        &[update(r#"{"n":1}"#), update(r#"{"n":2}"#)],
    ] {
        assert!(
            matches!(effect(&shape, ROW, came), Some(Change::Put { .. })),
            "{came:?}"
        );
    }
}

#[test]
fn nothing_is_told_of_columns_that_are_left_out() {
    let update = |old| (ChangeKind::Update, old);
    let some = fields(Some(&["t"]));
    let known = assert_patch(
        effect(&some, ROW, &[update(r#"{"n":1,"t":"y"}"#)]),
        r#"{"t":"x"}"#,
        &["t"],
    );
    assert_eq!(known.edited, None);
    assert!(effect(&some, ROW, &[update(r#"{"n":1}"#)]).is_none());
    assert_patch(effect(&some, ROW, &[update("{}")]), "{}", &["t"]);
    // It may be the clock of a column that one may not see.
    let scope = restricted(None, Some(&["t"]));
    let hidden = of_mode(Some("fields"), None, &scope);
    assert!(hidden.is_guarded() && effect(&hidden, ROW, &[update("{}")]).is_none());
    assert_patch(
        effect(&hidden, ROW, &[update(r#"{"n":1,"t":"y"}"#)]),
        r#"{"t":"x"}"#,
        &["t"],
    );
}
