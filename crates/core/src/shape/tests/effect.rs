//! What the audience of a shape hears of a row.

use super::*;
use crate::log::{ChangeKind, UndoRecord};

/// What the audience hears of a row that was in these versions, oldest first.
#[track_caller]
fn effect(shape: &Shape, versions: &[Option<&str>]) -> Option<(RowOp, bool)> {
    let part = shape.selection().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
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
    let told = part.effect(&versions);
    told.map(|told| (told.op, told.transient))
}

#[test]
fn what_an_audience_hears() {
    use RowOp::{Delete, Leave, Put};
    let shape = shape("n = 1", None);
    let (gone, out, matching) = (None, Some(r#"{"n":2}"#), Some(r#"{"n":1}"#));
    let null = Some(r#"{"n":null}"#);
    for (versions, told) in [
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
        // Who joined in between may have it, although who was there before does not.
        (vec![gone, matching, gone], Some((Delete, true))),
        (vec![gone, matching, out], Some((Leave, true))),
        (vec![out, matching, gone], Some((Delete, true))),
        (vec![out, matching, out], Some((Leave, true))),
        (vec![gone, out, gone], None),
        (vec![out, null, out], None),
        // And what matters to who was there before matters to all.
        (vec![matching, out, gone], Some((Delete, false))),
        (vec![matching, gone, out], Some((Leave, false))),
        (vec![matching, out, matching], Some((Put, false))),
    ] {
        assert_eq!(effect(&shape, &versions), told, "{versions:?}");
    }
}

#[test]
fn a_put_that_shows_nothing_is_for_who_joined_without_the_row() {
    let shape = shape("n = 1", Some(&["t"]));
    let a = Some(r#"{"n":1,"t":"a"}"#);
    let part = shape.selection().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    let told = |records: &[&str]| {
        let records = records.iter().zip(1..).map(|(&old, newest)| UndoRecord {
            id: -newest,
            transaction: u64::try_from(newest).ok(),
            kind: ChangeKind::Update,
            old: Some(raw(old)),
        });
        let records: Vec<UndoRecord> = records.collect();
        let row = a.map(raw);
        let versions = RowVersions::read(&reader, row.as_deref(), Some(&records)).expect("rows");
        part.effect(&versions).map(|told| (told.op, told.transient))
    };
    let put = |transient| Some((RowOp::Put, transient));
    assert_eq!(told(&[r#"{"s":"x"}"#]), None);
    assert_eq!(told(&["{}"]), None);
    assert_eq!(told(&[r#"{"t":"b"}"#]), put(false));
    assert_eq!(
        told(&[r#"{"id":2}"#]),
        put(false),
        "the key is always wanted"
    );
    assert_eq!(told(&[r#"{"s":"x"}"#, r#"{"t":"b"}"#]), put(false));
    // It was out and came back as it was.
    assert_eq!(told(&[r#"{"n":2}"#, r#"{"n":1}"#]), put(true));
    assert_eq!(told(&[r#"{"n":2}"#]), put(false), "it came in");
    // Deleted and created again: perhaps another row.
    assert_eq!(effect(&shape, &[a, None, a]), put(false));
}

#[test]
fn a_column_that_the_log_does_not_have_may_always_have_changed() {
    let shape = shape("n = 1", Some(&["virtual"]));
    let part = shape.selection().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    let record = UndoRecord {
        id: 0,
        transaction: None,
        kind: ChangeKind::Update,
        old: Some(raw(r#"{"t":"a"}"#)),
    };
    let row = raw(r#"{"n":1,"virtual":3}"#);
    let versions = RowVersions::read(&reader, Some(&row), Some(&[record])).expect("rows");
    let (op, transient) = (RowOp::Put, false);
    assert_eq!(part.effect(&versions), Some(RowEffect { op, transient }));
}

#[test]
fn of_a_history_that_is_not_known_all_is_told() {
    let shape = shape("n = 1", Some(&["t"]));
    let part = shape.selection().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    for (row, op) in [
        (Some(r#"{"n":1,"t":"a"}"#), RowOp::Put),
        (Some(r#"{"n":2,"t":"a"}"#), RowOp::Leave),
        (None, RowOp::Delete),
    ] {
        let row = row.map(raw);
        let versions = RowVersions::read(&reader, row.as_deref(), None).expect("a row");
        let transient = false;
        assert_eq!(part.effect(&versions), Some(RowEffect { op, transient }));
    }
}
