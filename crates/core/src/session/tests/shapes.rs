//! Subscriptions whose shape depends on the version of their table.

use filter::Backend;
use filter::testing::test_table;

use super::*;
use crate::policy::ReadScope;
use crate::shape::{CurrentTable, Others};

fn subscribe_to_selection(id: &str, filter: &str) -> Subscribe {
    Subscribe {
        selection: SelectionRequest {
            filter: Some(filter.to_owned()),
            ..SelectionRequest::default()
        },
        ..subscribe(id, "t")
    }
}

/// Resolves shapes against the table with this fingerprint.
fn find(fingerprint: &str) -> impl Fn(&Subscribe) -> Result<Shape, SubscribeError> {
    let table = test_table(Backend::Postgres);
    let table = CurrentTable {
        has_records: false,
        schema: Arc::new(table.schema),
        fingerprint: fingerprint.into(),
        backend: table.backend,
        fields: None,
    };
    move |subscribe| {
        let everything = &ReadScope::Everything;
        Ok(Shape::resolve(
            &table,
            &subscribe.selection,
            everything,
            Others::NONE,
        )?)
    }
}

fn selected(fingerprint: &str) -> Shape {
    find(fingerprint)(&subscribe_to_selection("", "n = 1")).expect("a shape")
}

fn read_selected(id: &str, version: &str, from: Option<i64>) -> Command<TestBatch> {
    let from = from.map(|from| ReadFrom::Position(at(from)));
    Command::Read(ReadCommand::Start {
        id: id.into(),
        shape: selected(version),
        from,
    })
}

fn schema_change(id: i64) -> TestBatch {
    TestBatch {
        schema_changed: vec!["t"],
        ..batch(id, &[])
    }
}

fn bad_filter() -> SubscribeError {
    SubscribeError::new(ErrorCode::BadFilter, "there is no column n")
}

/// A session with a live subscription to a selection for each of these ids.
fn joined(ids: &[&str]) -> Session<TestBatch> {
    let mut session = session();
    for &id in ids {
        session.subscribe(subscribe_to_selection(id, "n = 1"), find("1"));
        session.read(&id.into(), ReadEnd::Complete(at(5)));
    }
    session
}

#[test]
fn a_subscribe_resolves_its_selection() {
    let mut session = session();
    let commands = session.subscribe(subscribe_to_selection("1", "n = 1"), find("1"));
    assert_eq!(
        commands,
        [
            Command::Hub(HubCommand::Attach(selected("1"))),
            read_selected("1", "1", None)
        ]
    );
    let again = session.subscribe(subscribe_to_selection("2", "n IN (1)"), find("1"));
    assert_eq!(
        again,
        [Command::Read(ReadCommand::Start {
            id: "2".into(),
            shape: selected("1"),
            from: None,
        })]
    );
    let bad = session.subscribe(subscribe_to_selection("3", "nn = 1"), find("1"));
    assert_eq!(error_code(&bad, "3"), ErrorCode::BadFilter);
    assert_eq!(session.subscriptions.len(), 2);

    let (_, selection) = session.request(&"2".into()).expect("a request");
    assert_eq!(selection.filter.as_deref(), Some("n IN (1)"));
    session.subscribe(subscribe("4", "t"), find("1"));
    let (entity, everything) = session.request(&"4".into()).expect("a request");
    assert!(entity == "t" && everything.is_everything());
    assert!(session.request(&"3".into()).is_none());
}

#[test]
fn a_subscribe_that_is_an_error_is_not_resolved() {
    let mut session = joined(&["1", "2", "3"]);
    let resolve = |_: &Subscribe| -> Result<Shape, SubscribeError> { panic!("it was resolved") };
    let taken = session.subscribe(subscribe_to_selection("1", "n = 1"), resolve);
    assert_eq!(error_code(&taken, "1"), ErrorCode::Protocol);
    let full = session.subscribe(subscribe_to_selection("4", "n = 1"), resolve);
    assert_eq!(error_code(&full, "4"), ErrorCode::TooManySubscriptions);
}

#[test]
fn a_schema_change_resolves_every_subscription_of_the_table_again() {
    let mut session = joined(&["1", "2"]);
    join(&mut session, "all", "t", 5);
    let begun = session.batch(schema_change(6));
    let expected = [
        refetch("1", RefetchReason::Schema),
        Command::Resolve("1".into()),
        refetch("2", RefetchReason::Schema),
        Command::Resolve("2".into()),
        refetch("all", RefetchReason::Schema),
        Command::Resolve("all".into()),
    ];
    assert_eq!(begun, expected);
    let first = session.resolved(&"1".into(), Ok(selected("2")));
    assert_eq!(
        first,
        [
            Command::Hub(HubCommand::Attach(selected("2"))),
            read_selected("1", "2", None)
        ]
    );
    // The last subscription with the old shape detaches it.
    let second = session.resolved(&"2".into(), Ok(selected("2")));
    assert_eq!(
        second,
        [
            Command::Hub(HubCommand::Detach(selected("1"))),
            read_selected("2", "2", None)
        ]
    );
    let joined = session.read(&"1".into(), ReadEnd::Complete(at(7)));
    let subscribed = Command::Send(Frame::Subscribed {
        id: "1".into(),
        shape: selected("2"),
        position: at(7),
    });
    assert_eq!(joined, [subscribed]);
}

#[test]
fn a_shape_that_resolves_to_itself_stays_attached() {
    let mut session = joined(&["1"]);
    session.batch(schema_change(6));
    let again = session.resolved(&"1".into(), Ok(selected("1")));
    assert_eq!(again, [read_selected("1", "1", None)]);
    // With other columns in the table, the selection may be everything, or no longer.
    let whole = session.read(&"1".into(), ReadEnd::Refetch(RefetchReason::Schema));
    assert_eq!(
        whole,
        [
            refetch("1", RefetchReason::Schema),
            Command::Resolve("1".into())
        ]
    );
    let whole = session.resolved(&"1".into(), Ok(Shape::whole("t")));
    let expected = [
        Command::Hub(HubCommand::Attach(Shape::whole("t"))),
        Command::Hub(HubCommand::Detach(selected("1"))),
        read("1", "t", None),
    ];
    assert_eq!(whole, expected);
}

#[test]
fn a_subscription_that_no_longer_resolves_ends() {
    let mut session = joined(&["1", "2"]);
    session.batch(schema_change(6));
    let ended = session.resolved(&"1".into(), Err(bad_filter()));
    assert_eq!(error_code(&ended, "1"), ErrorCode::BadFilter);
    let ended = session.resolved(&"2".into(), Err(bad_filter()));
    assert_eq!(ended[0], Command::Hub(HubCommand::Detach(selected("1"))));
    assert_eq!(error_code(&ended[1..].to_vec(), "2"), ErrorCode::BadFilter);
    assert!(session.request(&"2".into()).is_none());
    assert!(session.subscriptions.is_empty());
    assert_eq!(session.resolved(&"2".into(), Err(bad_filter())), []);
    assert_eq!(session.resolved(&"2".into(), Ok(selected("2"))), []);
    // Its id is free.
    let again = session.subscribe(subscribe_to_selection("2", "n = 1"), find("2"));
    assert_eq!(again.len(), 2);
}

#[test]
fn a_selection_is_resolved_again_after_a_failed_catch_up() {
    let mut session = joined(&["1"]);
    join(&mut session, "other", "b", 5);
    session.overflowed();
    let commands = session.catch_up_failed(RefetchReason::Schema, Some("t"));
    let expected = [
        refetch("1", RefetchReason::Schema),
        Command::CatchUp(vec![(Shape::whole("b"), at(5))]),
        Command::Resolve("1".into()),
    ];
    assert_eq!(commands, expected);
}

#[test]
fn shapes_of_one_entity_are_distinguished() {
    let mut session = joined(&["1"]);
    join(&mut session, "all", "t", 7);
    let both = batch(8, &["t"]);
    let of = |shape, since| {
        Command::Send(Frame::Changes {
            batch: both.clone(),
            shape,
            id: None,
            since: Some(at(since)),
        })
    };
    let sent = session.batch(both.clone());
    assert_eq!(
        sent,
        [
            of(Shape::whole("t"), 7),
            of(selected("1"), 5),
            Command::Send(Frame::Cursor(at(8)))
        ]
    );
}

#[test]
fn the_filters_of_a_session_have_a_budget() {
    let mut session = session();
    let code = |commands: &Commands| match &commands[..] {
        [Command::Send(Frame::Error { error, .. })] => Some(error.code),
        _ => None,
    };
    let six = "n > 1 OR n > 2 OR n > 3 OR n > 4 OR n > 5 OR n > 6";
    let of_six = |id| subscribe_to_selection(id, six);
    assert_eq!(code(&session.subscribe(of_six("a"), find("1"))), None);
    // A shape that is shared costs each of its subscriptions.
    let refused = session.subscribe(of_six("b"), find("1"));
    assert_eq!(code(&refused), Some(ErrorCode::TooLarge));
    let bytes = session.selection_bytes();
    assert!(bytes > six.len(), "{bytes}");
    let long = format!("t = '{}'", "x".repeat(600));
    let refused = session.subscribe(subscribe_to_selection("b", &long), find("1"));
    assert_eq!(code(&refused), Some(ErrorCode::TooLarge));
    session.unsubscribe(&"a".into());
    assert_eq!(session.selection_bytes(), 0);
    assert_eq!(code(&session.subscribe(of_six("b"), find("1"))), None);
    // A restart does not count the subscription twice.
    let restarted = session.resolved(&"b".into(), find("2")(&of_six("b")));
    assert_eq!(code(&restarted), None);
    assert_eq!(session.selection_bytes(), bytes);
}
