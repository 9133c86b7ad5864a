//! Which shapes are equal, which requests are errors, and which columns of a row are sent.

mod effect;
mod fields;
mod policies;
mod subqueries;

use filter::FilterErrorKind;
use filter::testing::{raw, test_table};

use super::*;

fn table(fingerprint: &str) -> CurrentTable {
    let table = test_table(Backend::Postgres);
    CurrentTable {
        has_records: false,
        schema: Arc::new(table.schema),
        fingerprint: fingerprint.into(),
        backend: table.backend,
        fields: None,
    }
}

fn find(filter: Option<&str>, columns: Option<&[&str]>) -> Result<Shape, FilterError> {
    let columns: Option<Vec<String>> =
        columns.map(|columns| columns.iter().map(|&name| name.to_owned()).collect());
    let request = SelectionRequest {
        filter: filter.map(str::to_owned),
        params: None,
        columns,
        ..SelectionRequest::default()
    };
    resolve("1", &request)
}

fn resolve(fingerprint: &str, request: &SelectionRequest) -> Result<Shape, FilterError> {
    let resolved = Shape::resolve(
        &table(fingerprint),
        request,
        &ReadScope::Everything,
        Others::NONE,
    );
    resolved.map_err(of_request)
}

#[track_caller]
fn of_request(error: ResolveError) -> FilterError {
    match error {
        ResolveError::Request(error) => error,
        ResolveError::Scope(error) => panic!("the scope is at fault: {error}"),
        ResolveError::Mode(message) => panic!("the mode is at fault: {message}"),
    }
}

fn shape(filter: &str, columns: Option<&[&str]>) -> Shape {
    find(Some(filter), columns).expect("a shape")
}

#[test]
fn requests_for_the_same_are_one_shape_however_they_are_written() {
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
        assert!(same[0].selection().is_some());
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
fn all_rows_are_the_whole_entity_but_naming_all_columns_is_not() {
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
        find(Some("NOT FALSE"), None),
    ] {
        let everything = everything.expect("a shape");
        assert_eq!(everything, Shape::whole("t"));
        assert_eq!((everything.as_str(), everything.entity()), ("t", "t"));
        assert!(everything.selection().is_none());
    }
    // A column that is added tomorrow is not among those that were named.
    let all = find(None, Some(&all)).expect("a shape");
    assert_ne!(all, Shape::whole("t"));
    assert!(all.selection().is_some());
    let none = SelectionRequest {
        params: Some(Vec::new()),
        ..SelectionRequest::default()
    };
    assert_eq!(resolve("1", &none), Ok(Shape::whole("t")));
}

#[test]
fn the_name_of_a_shape_reveals_nothing_of_its_filter() {
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
fn shapes_of_two_fingerprints_differ() {
    let request = SelectionRequest {
        filter: Some("n = 1".to_owned()),
        ..SelectionRequest::default()
    };
    let of = |fingerprint| resolve(fingerprint, &request).expect("a shape");
    assert_eq!(of("1"), of("1"));
    assert_ne!(of("1"), of("2"));
    // Where one name ends and the next begins makes a difference.
    assert_ne!(
        shape("TRUE", Some(&["t", "s"])),
        shape("TRUE", Some(&["ts"]))
    );
}

#[test]
fn a_request_that_cannot_be_answered_is_an_error() {
    for (error, words) in [
        (find(None, Some(&["n", "nn"])), "no column \"nn\""),
        (find(Some("n = 1"), Some(&["N"])), "no column \"N\""),
        (find(Some("nn = 1"), None), "no column \"nn\""),
        (find(Some("n = $1"), None), "no parameter $1"),
    ] {
        let error = error.expect_err("no shape");
        assert_eq!(error.kind, FilterErrorKind::Bad);
        assert!(error.message.contains(words), "{error}");
    }
    let request = SelectionRequest {
        params: Some(vec![raw("1")]),
        ..SelectionRequest::default()
    };
    let error = resolve("1", &request).expect_err("no shape");
    assert_eq!((error.kind, error.position), (FilterErrorKind::Bad, None));
    assert!(error.message.contains("`where`"), "{error}");
}

#[test]
fn rows_are_sent_with_the_columns_of_the_projection() {
    let row = raw(r#"{"id":1,"n":1.50,"t":"a\"b","s":null,"extra":[{"n":1}]}"#);
    let projected = |shape: &Shape, row| {
        let selection = shape.selection().expect("a selection");
        let row = selection.project(row).expect("a row");
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
            .selection()
            .expect("a selection")
            .project(&raw("[1]"))
            .is_err()
    );
}

fn restricted(filter: Option<&str>, columns: Option<&[&str]>) -> ReadScope {
    ReadScope::Restricted(SelectionRequest {
        filter: filter.map(str::to_owned),
        params: None,
        columns: columns.map(|columns| columns.iter().map(|&name| name.to_owned()).collect()),
        ..SelectionRequest::default()
    })
}

fn request(filter: Option<&str>, columns: Option<&[&str]>) -> SelectionRequest {
    let ReadScope::Restricted(request) = restricted(filter, columns) else {
        unreachable!("it was made restricted")
    };
    request
}

fn within(scope: &ReadScope, request: &SelectionRequest) -> Result<Shape, FilterError> {
    Shape::resolve(&table("1"), request, scope, Others::NONE).map_err(of_request)
}

/// Whether two shapes select the same rows and columns. One that is guarded is never the same shape as one that is not.
#[track_caller]
fn assert_selects(scoped: &Shape, open: &Shape) {
    let selected = |shape: &Shape| {
        let selection = shape.selection().expect("a selection");
        let filter = selection.filter().text(selection.table());
        (filter, selection.columns().cloned())
    };
    assert_eq!(selected(scoped), selected(open));
    assert!(scoped.is_guarded() && !open.is_guarded());
    assert_ne!(scoped, open);
}

#[test]
fn a_scope_and_a_request_select_what_the_request_selects_that_says_both() {
    let scope = restricted(Some("n = 1"), Some(&["n", "t"]));
    for (asked, same) in [
        (
            request(None, None),
            request(Some("n = 1"), Some(&["n", "t"])),
        ),
        (
            request(Some("t = 'a'"), None),
            request(Some("t = 'a' AND n = 1"), Some(&["n", "t"])),
        ),
        (
            request(Some("t = 'a' OR n = 2"), Some(&["t"])),
            request(Some("(t = 'a' OR n = 2) AND n = 1"), Some(&["t"])),
        ),
    ] {
        let scoped = within(&scope, &asked).expect("a shape");
        assert_selects(&scoped, &resolve("1", &same).expect("a shape"));
    }
    // Somebody who may see all rows today may not tomorrow.
    let everything = within(&restricted(None, None), &request(None, None)).expect("a shape");
    assert_ne!(everything, Shape::whole("t"));
    let selection = everything.selection().expect("a selection");
    assert!(selection.filter().is_everything() && selection.columns().is_none());
}

#[test]
fn a_scope_may_use_columns_that_it_hides() {
    let scope = restricted(Some("b AND n = 1"), Some(&["t"]));
    let shape = within(&scope, &request(Some("t = 'a'"), None)).expect("a shape");
    let same = request(Some("t = 'a' AND b AND n = 1"), Some(&["t"]));
    assert_selects(&shape, &resolve("1", &same).expect("a shape"));
}

#[test]
fn a_hidden_column_is_refused_as_one_that_does_not_exist() {
    let scope = restricted(None, Some(&["t"]));
    for (hidden, missing) in [
        (request(Some("n = 1"), None), request(Some("x = 1"), None)),
        (
            request(Some("t = 'a' AND n IS NULL"), None),
            request(Some("t = 'a' AND x IS NULL"), None),
        ),
        (request(None, Some(&["n"])), request(None, Some(&["x"]))),
        // Types of a hidden column tell nothing either.
        (
            request(Some("n = 'a'"), None),
            request(Some("x = 'a'"), None),
        ),
    ] {
        let hidden = within(&scope, &hidden)
            .expect_err("it is hidden")
            .to_string();
        let missing = within(&scope, &missing)
            .expect_err("it is not there")
            .to_string();
        assert_eq!(hidden.replace('n', "x"), missing.replace('n', "x"));
    }
    assert!(
        within(&scope, &request(None, Some(&["id", "t"]))).is_ok(),
        "the key is always visible"
    );
}
