//! What the sessions of a shape are sent for a row.

use super::*;
use crate::log::{ChangeKind, UndoRecord};
use filter::SetsAtBoth;

/// The effect of a row with these versions, oldest first.
#[track_caller]
fn effect(shape: &Shape, versions: &[Option<&str>]) -> Option<(RowOp, bool)> {
    let selection = shape.selection().expect("a selection");
    let reader = RowReader::new(selection.table(), selection.filter().columns());
    let records = versions.windows(2).zip(1..).map(|(pair, id)| {
        let (kind, old) = match (pair[0], pair[1]) {
            (None, _) => (ChangeKind::Create, None),
            (Some(old), None) => (ChangeKind::Delete, Some(old)),
            (Some(old), Some(_)) => (ChangeKind::Update, Some(old)),
        };
        let old = old.map(raw);
        UndoRecord {
            id,
            transaction: u64::try_from(id).ok(),
            kind,
            old,
        }
    });
    let mut records: Vec<UndoRecord> = records.collect();
    records.reverse();
    let row = versions[versions.len() - 1].map(raw);
    let versions = RowVersions::read(&reader, row.as_deref(), Some(&records)).expect("rows");
    let effect = selection.effect(&versions, SetsAtBoth::NONE);
    effect.map(|effect| (effect.op, effect.transient))
}

#[test]
fn the_effect_of_a_row_follows_from_its_versions() {
    use RowOp::{Delete, Leave, Put};
    let shape = shape("n = 1", None);
    let (gone, out, matching) = (None, Some(r#"{"n":2}"#), Some(r#"{"n":1}"#));
    let null = Some(r#"{"n":null}"#);
    for (versions, expected) in [
        // The table in the documentation of `effect`.
        (vec![gone, out], None),
        (vec![gone, matching], Some((Put, false))),
        (vec![out, gone], None),
        (vec![out, out], None),
        (vec![out, matching], Some((Put, false))),
        (vec![matching, gone], Some((Delete, false))),
        (vec![matching, out], Some((Leave, false))),
        (vec![matching, matching], Some((Put, false))),
        // Unknown is not a match.
        (vec![null, out], None),
        (vec![matching, null], Some((Leave, false))),
        (vec![null, matching], Some((Put, false))),
        // A reader that joined in between may have the row, although earlier readers do not.
        (vec![gone, matching, gone], Some((Delete, true))),
        (vec![gone, matching, out], Some((Leave, true))),
        (vec![out, matching, gone], Some((Delete, true))),
        (vec![out, matching, out], Some((Leave, true))),
        (vec![gone, out, gone], None),
        (vec![out, null, out], None),
        // An effect that earlier readers need is for all.
        (vec![matching, out, gone], Some((Delete, false))),
        (vec![matching, gone, out], Some((Leave, false))),
        (vec![matching, out, matching], Some((Put, false))),
    ] {
        assert_eq!(effect(&shape, &versions), expected, "{versions:?}");
    }
}

#[test]
fn a_put_without_a_difference_is_for_readers_that_joined_without_the_row() {
    let shape = shape("n = 1", Some(&["t"]));
    let a = Some(r#"{"n":1,"t":"a"}"#);
    let selection = shape.selection().expect("a selection");
    let reader = RowReader::new(selection.table(), selection.filter().columns());
    let effect_of = |records: &[&str]| {
        let records = records.iter().zip(1..).map(|(&old, newest)| UndoRecord {
            id: -newest,
            transaction: u64::try_from(newest).ok(),
            kind: ChangeKind::Update,
            old: Some(raw(old)),
        });
        let records: Vec<UndoRecord> = records.collect();
        let row = a.map(raw);
        let versions = RowVersions::read(&reader, row.as_deref(), Some(&records)).expect("rows");
        let effect = selection.effect(&versions, SetsAtBoth::NONE);
        effect.map(|effect| (effect.op, effect.transient))
    };
    let put = |transient| Some((RowOp::Put, transient));
    assert_eq!(effect_of(&[r#"{"s":"x"}"#]), None);
    assert_eq!(effect_of(&["{}"]), None);
    assert_eq!(effect_of(&[r#"{"t":"b"}"#]), put(false));
    assert_eq!(
        effect_of(&[r#"{"id":2}"#]),
        put(false),
        "the key is always in the projection"
    );
    assert_eq!(effect_of(&[r#"{"s":"x"}"#, r#"{"t":"b"}"#]), put(false));
    // It left and came back unchanged.
    assert_eq!(effect_of(&[r#"{"n":2}"#, r#"{"n":1}"#]), put(true));
    assert_eq!(effect_of(&[r#"{"n":2}"#]), put(false), "it came in");
    // Deleted and created again: perhaps another row.
    assert_eq!(effect(&shape, &[a, None, a]), put(false));
}

#[test]
fn a_column_that_is_not_in_the_log_may_always_have_changed() {
    let shape = shape("n = 1", Some(&["virtual"]));
    let selection = shape.selection().expect("a selection");
    let reader = RowReader::new(selection.table(), selection.filter().columns());
    let record = UndoRecord {
        id: 0,
        transaction: None,
        kind: ChangeKind::Update,
        old: Some(raw(r#"{"t":"a"}"#)),
    };
    let row = raw(r#"{"n":1,"virtual":3}"#);
    let versions = RowVersions::read(&reader, Some(&row), Some(&[record])).expect("rows");
    let (op, transient) = (RowOp::Put, false);
    assert_eq!(
        selection.effect(&versions, SetsAtBoth::NONE),
        Some(RowEffect { op, transient })
    );
}

#[test]
fn a_row_of_unknown_past_is_always_sent() {
    let shape = shape("n = 1", Some(&["t"]));
    let selection = shape.selection().expect("a selection");
    let reader = RowReader::new(selection.table(), selection.filter().columns());
    for (row, op) in [
        (Some(r#"{"n":1,"t":"a"}"#), RowOp::Put),
        (Some(r#"{"n":2,"t":"a"}"#), RowOp::Leave),
        (None, RowOp::Delete),
    ] {
        let row = row.map(raw);
        let versions = RowVersions::read(&reader, row.as_deref(), None).expect("a row");
        let transient = false;
        assert_eq!(
            selection.effect(&versions, SetsAtBoth::NONE),
            Some(RowEffect { op, transient })
        );
    }
}
