//! What the audience of a shape hears of a row.

use super::*;
use crate::history::Step;
use crate::log::Action;

/// What the audience hears of a row that was in these states, oldest first.
#[track_caller]
fn verdict(shape: &Shape, states: &[Option<&str>]) -> Option<(Outcome, bool)> {
    let part = shape.part().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    let steps = states.windows(2).zip(1..).map(|(pair, id)| {
        let (action, old) = match (pair[0], pair[1]) {
            (None, _) => (Action::Create, None),
            (Some(old), None) => (Action::Delete, Some(old)),
            (Some(old), Some(_)) => (Action::Update, Some(old)),
        };
        let old = old.map(raw);
        Step {
            id,
            transaction: u64::try_from(id).ok(),
            action,
            old,
        }
    });
    let mut steps: Vec<Step> = steps.collect();
    steps.reverse();
    let row = states[states.len() - 1].map(raw);
    let states = States::read(&reader, row.as_deref(), Some(&steps)).expect("rows");
    let told = part.verdict(&states);
    told.map(|told| (told.outcome, told.transient))
}

#[test]
fn what_an_audience_hears() {
    use Outcome::{Delete, Leave, Put};
    let shape = shape("n = 1", None);
    let (gone, out, matching) = (None, Some(r#"{"n":2}"#), Some(r#"{"n":1}"#));
    let null = Some(r#"{"n":null}"#);
    for (states, told) in [
        // The table in the documentation of `verdict`.
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
        assert_eq!(verdict(&shape, &states), told, "{states:?}");
    }
}

#[test]
fn a_put_that_shows_nothing_is_for_who_joined_without_the_row() {
    let shape = shape("n = 1", Some(&["t"]));
    let a = Some(r#"{"n":1,"t":"a"}"#);
    let part = shape.part().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    let told = |steps: &[&str]| {
        let steps = steps.iter().zip(1..).map(|(&old, newest)| Step {
            id: -newest,
            transaction: u64::try_from(newest).ok(),
            action: Action::Update,
            old: Some(raw(old)),
        });
        let steps: Vec<Step> = steps.collect();
        let row = a.map(raw);
        let states = States::read(&reader, row.as_deref(), Some(&steps)).expect("rows");
        part.verdict(&states)
            .map(|told| (told.outcome, told.transient))
    };
    let put = |transient| Some((Outcome::Put, transient));
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
    assert_eq!(verdict(&shape, &[a, None, a]), put(false));
}

#[test]
fn a_column_that_the_log_does_not_have_may_always_have_changed() {
    let shape = shape("n = 1", Some(&["virtual"]));
    let part = shape.part().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    let step = Step {
        id: 0,
        transaction: None,
        action: Action::Update,
        old: Some(raw(r#"{"t":"a"}"#)),
    };
    let row = raw(r#"{"n":1,"virtual":3}"#);
    let states = States::read(&reader, Some(&row), Some(&[step])).expect("rows");
    let (outcome, transient) = (Outcome::Put, false);
    assert_eq!(part.verdict(&states), Some(Verdict { outcome, transient }));
}

#[test]
fn of_a_history_that_is_not_known_all_is_told() {
    let shape = shape("n = 1", Some(&["t"]));
    let part = shape.part().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    for (row, outcome) in [
        (Some(r#"{"n":1,"t":"a"}"#), Outcome::Put),
        (Some(r#"{"n":2,"t":"a"}"#), Outcome::Leave),
        (None, Outcome::Delete),
    ] {
        let row = row.map(raw);
        let states = States::read(&reader, row.as_deref(), None).expect("a row");
        let transient = false;
        assert_eq!(part.verdict(&states), Some(Verdict { outcome, transient }));
    }
}
