//! Which shapes are one, which are refused, and what an audience hears.

use super::*;
use crate::filter::tests::{raw, test_table};
use crate::history::Step;
use crate::log::Action;
use crate::protocol::ErrorCode;

fn table(version: &str) -> TableVersion {
    let table = test_table(Backend::Postgres);
    TableVersion {
        schema: Arc::new(table.schema),
        version: version.into(),
        backend: table.backend,
    }
}

fn find(filter: Option<&str>, columns: Option<&[&str]>) -> Result<Shape, FilterError> {
    let columns: Option<Vec<String>> =
        columns.map(|columns| columns.iter().map(|&name| name.to_owned()).collect());
    let wanted = Wanted {
        filter,
        params: None,
        columns: columns.as_deref(),
    };
    Shape::new(&table("1"), wanted)
}

fn shape(filter: &str, columns: Option<&[&str]>) -> Shape {
    find(Some(filter), columns).expect("a shape")
}

#[test]
fn shapes_are_one_however_they_are_written() {
    for same in [
        [
            shape("n = 1 AND b", None),
            shape("b AND 1 = n AND TRUE", None),
        ],
        [
            shape("n = 1", Some(&["t", "n"])),
            shape("n IN (1)", Some(&["n", "id", "t", "n"])),
        ],
        [
            find(None, Some(&[])).expect("a shape"),
            shape("TRUE", Some(&["id"])),
        ],
    ] {
        assert_eq!(same[0], same[1]);
        assert_eq!(same[0].as_str(), same[1].as_str());
        assert!(same[0].part().is_some());
    }
    let different = [
        Shape::whole("t"),
        Shape::whole("u"),
        shape("n = 1", None),
        shape("n = 2", None),
        shape("n = 1", Some(&["t"])),
        shape("n = 1", Some(&["s"])),
        shape("n = 1", Some(&["s", "t"])),
        shape("TRUE", Some(&["t"])),
        shape("FALSE", None),
    ];
    let names: BTreeSet<&str> = different.iter().map(Shape::as_str).collect();
    assert_eq!(names.len(), different.len(), "{names:?}");
    let kept: BTreeSet<&Shape> = different.iter().collect();
    assert_eq!(kept.len(), different.len());
}

#[test]
fn all_rows_and_all_columns_are_the_whole_entity() {
    let all: Vec<String> = table("1")
        .schema
        .columns
        .iter()
        .map(|it| it.name.clone())
        .collect();
    let all: Vec<&str> = all.iter().rev().map(String::as_str).collect();
    for everything in [
        find(None, None),
        find(Some("TRUE"), None),
        find(Some("n = 1 OR TRUE"), None),
        find(None, Some(&all)),
        find(Some("NOT FALSE"), Some(&all)),
    ] {
        let everything = everything.expect("a shape");
        assert_eq!(everything, Shape::whole("t"));
        assert_eq!((everything.as_str(), everything.entity()), ("t", "t"));
        assert!(everything.part().is_none());
    }
    let none = Wanted {
        params: Some(&[]),
        ..Wanted::default()
    };
    assert_eq!(Shape::new(&table("1"), none), Ok(Shape::whole("t")));
}

#[test]
fn a_name_says_nothing_of_the_filter() {
    let secret = shape("t = 'secret'", Some(&["s"]));
    let name = secret
        .as_str()
        .strip_prefix("t.")
        .expect("the entity first");
    assert_eq!(name.len(), NAME_BYTES * 4 / 3);
    assert!(
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    );
}

#[test]
fn shapes_of_two_versions_of_a_table_differ() {
    let wanted = Wanted {
        filter: Some("n = 1"),
        ..Wanted::default()
    };
    let of = |version| Shape::new(&table(version), wanted).expect("a shape");
    assert_eq!(of("1"), of("1"));
    assert_ne!(of("1"), of("2"));
    // One filter is not two, wherever a name ends and the next begins.
    assert_ne!(
        shape("TRUE", Some(&["t", "s"])),
        shape("TRUE", Some(&["ts"]))
    );
}

#[test]
fn what_cannot_be_answered_is_refused() {
    for (error, words) in [
        (find(None, Some(&["n", "nn"])), "no column \"nn\""),
        (find(Some("n = 1"), Some(&["N"])), "no column \"N\""),
        (find(Some("nn = 1"), None), "no column \"nn\""),
        (find(Some("n = $1"), None), "no parameter $1"),
    ] {
        let error = error.expect_err("no shape");
        assert_eq!(error.code, ErrorCode::BadFilter);
        assert!(error.message.contains(words), "{error}");
    }
    let params = [raw("1")];
    let wanted = Wanted {
        params: Some(&params),
        ..Wanted::default()
    };
    let error = Shape::new(&table("1"), wanted).expect_err("no shape");
    assert_eq!((error.code, error.position), (ErrorCode::BadFilter, None));
    assert!(error.message.contains("`where`"), "{error}");
}

/// What the audience hears of a row that was in these states, oldest first.
#[track_caller]
fn verdict(shape: &Shape, states: &[Option<&str>]) -> Option<(Outcome, bool)> {
    let part = shape.part().expect("a part");
    let reader = RowReader::new(part.table(), part.filter().columns());
    let steps = states.windows(2).map(|pair| {
        let (action, old) = match (pair[0], pair[1]) {
            (None, _) => (Action::Create, None),
            (Some(old), None) => (Action::Delete, Some(old)),
            (Some(old), Some(_)) => (Action::Update, Some(old)),
        };
        let old = old.map(raw);
        Step { id: 0, action, old }
    });
    let steps: Vec<Step> = steps.rev().collect();
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
        let steps = steps.iter().map(|&old| Step {
            id: 0,
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

#[test]
fn rows_are_sent_with_the_columns_that_are_wanted() {
    let row = raw(r#"{"id":1,"n":1.50,"t":"a\"b","s":null,"extra":[{"n":1}]}"#);
    let projected = |shape: &Shape, row| {
        let part = shape.part().expect("a part");
        let row = part.project(row).expect("a row");
        row.map(|row| row.get().to_owned())
    };
    assert_eq!(
        projected(&shape("n = 1", Some(&["t", "n"])), &row).as_deref(),
        Some(r#"{"id":1,"n":1.50,"t":"a\"b"}"#)
    );
    assert_eq!(projected(&shape("n = 1", None), &row), None, "as it is");
    let nothing = shape("n = 1", Some(&[]));
    assert_eq!(projected(&nothing, &row).as_deref(), Some(r#"{"id":1}"#));
    assert_eq!(projected(&nothing, &raw("{}")).as_deref(), Some("{}"));
    assert!(
        nothing
            .part()
            .expect("a part")
            .project(&raw("[1]"))
            .is_err()
    );
}
