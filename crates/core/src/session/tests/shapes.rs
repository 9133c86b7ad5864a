//! Subscriptions whose shape depends on what their table looks like.

use filter::Backend;
use filter::testing::test_table;

use super::*;
use crate::policy::ReadScope;
use crate::shape::TableVersion;

fn subscribe_to_part(id: &str, filter: &str) -> Subscribe {
    Subscribe {
        selection: SelectionRequest {
            filter: Some(filter.to_owned()),
            ..SelectionRequest::default()
        },
        ..subscribe(id, "t")
    }
}

/// Finds shapes in this version of the table.
fn find(version: &str) -> impl Fn(&Subscribe) -> Result<Shape, SubscribeError> {
    let table = test_table(Backend::Postgres);
    let version = TableVersion {
        schema: Arc::new(table.schema),
        version: version.into(),
        backend: table.backend,
    };
    move |subscribe| {
        let everything = &ReadScope::Everything;
        Ok(Shape::resolve(&version, &subscribe.selection, everything)?)
    }
}

fn part(version: &str) -> Shape {
    find(version)(&subscribe_to_part("", "n = 1")).expect("a shape")
}

fn read_part(id: &str, version: &str, from: Option<i64>) -> Command<Delivery> {
    let from = from.map(|from| ReadFrom::Position(at(from)));
    Command::Read(ReadCommand::Start {
        id: id.into(),
        shape: part(version),
        from,
    })
}

fn schema_change(id: i64) -> Delivery {
    Delivery {
        schema_changed: vec!["t"],
        ..batch(id, &[])
    }
}

fn bad_filter() -> SubscribeError {
    SubscribeError {
        code: ErrorCode::BadFilter,
        message: "there is no column n".to_owned(),
    }
}

/// A session with a live subscription to a part for each of these.
fn joined(ids: &[&str]) -> Session<Delivery> {
    let mut session = session();
    for &id in ids {
        session.subscribe(subscribe_to_part(id, "n = 1"), find("1"));
        session.read(&id.into(), ReadEnd::Complete(at(5)));
    }
    session
}

#[test]
fn a_part_is_found_when_it_is_asked_for() {
    let mut session = session();
    let commands = session.subscribe(subscribe_to_part("1", "n = 1"), find("1"));
    assert_eq!(
        commands,
        [
            Command::Hub(HubCommand::Attach(part("1"))),
            read_part("1", "1", None)
        ]
    );
    let again = session.subscribe(subscribe_to_part("2", "n IN (1)"), find("1"));
    assert_eq!(
        again,
        [Command::Read(ReadCommand::Start {
            id: "2".into(),
            shape: part("1"),
            from: None,
        })]
    );
    let bad = session.subscribe(subscribe_to_part("3", "nn = 1"), find("1"));
    assert_eq!(refused(&bad, "3"), ErrorCode::BadFilter);
    assert_eq!(session.subscriptions.len(), 2);

    let (_, asked) = session.request(&"2".into()).expect("what it asks for");
    assert_eq!(asked.filter.as_deref(), Some("n IN (1)"));
    session.subscribe(subscribe("4", "t"), find("1"));
    let (entity, everything) = session.request(&"4".into()).expect("what it asks for");
    assert!(entity == "t" && everything.is_everything());
    assert!(session.request(&"3".into()).is_none());
}

#[test]
fn what_cannot_be_subscribed_is_not_looked_for() {
    let mut session = joined(&["1", "2", "3"]);
    let looked = |_: &Subscribe| -> Result<Shape, SubscribeError> { panic!("it was looked for") };
    let taken = session.subscribe(subscribe_to_part("1", "n = 1"), looked);
    assert_eq!(refused(&taken, "1"), ErrorCode::Protocol);
    let full = session.subscribe(subscribe_to_part("4", "n = 1"), looked);
    assert_eq!(refused(&full, "4"), ErrorCode::TooManySubscriptions);
}

#[test]
fn a_changed_table_is_asked_again() {
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
    let first = session.resolved(&"1".into(), Ok(part("2")));
    assert_eq!(
        first,
        [
            Command::Hub(HubCommand::Attach(part("2"))),
            read_part("1", "2", None)
        ]
    );
    // The last who had the old shape lets go of it.
    let second = session.resolved(&"2".into(), Ok(part("2")));
    assert_eq!(
        second,
        [
            Command::Hub(HubCommand::Detach(part("1"))),
            read_part("2", "2", None)
        ]
    );
    let joined = session.read(&"1".into(), ReadEnd::Complete(at(7)));
    let subscribed = Command::Send(Frame::Subscribed {
        id: "1".into(),
        shape: part("2"),
        position: at(7),
    });
    assert_eq!(joined, [subscribed]);
}

#[test]
fn a_shape_that_is_found_as_it_was_stays_attached() {
    let mut session = joined(&["1"]);
    session.batch(schema_change(6));
    let again = session.resolved(&"1".into(), Ok(part("1")));
    assert_eq!(again, [read_part("1", "1", None)]);
    // Columns may have come, or gone, that made a part of what was everything.
    let whole = session.read(&"1".into(), ReadEnd::Refused(RefetchReason::Schema));
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
        Command::Hub(HubCommand::Detach(part("1"))),
        read("1", "t", None),
    ];
    assert_eq!(whole, expected);
}

#[test]
fn a_shape_that_can_no_longer_be_ends_its_subscription() {
    let mut session = joined(&["1", "2"]);
    session.batch(schema_change(6));
    let ended = session.resolved(&"1".into(), Err(bad_filter()));
    assert_eq!(refused(&ended, "1"), ErrorCode::BadFilter);
    let ended = session.resolved(&"2".into(), Err(bad_filter()));
    assert_eq!(ended[0], Command::Hub(HubCommand::Detach(part("1"))));
    assert_eq!(refused(&ended[1..].to_vec(), "2"), ErrorCode::BadFilter);
    assert!(session.request(&"2".into()).is_none());
    assert!(session.subscriptions.is_empty());
    assert_eq!(session.resolved(&"2".into(), Err(bad_filter())), []);
    assert_eq!(session.resolved(&"2".into(), Ok(part("2"))), []);
    // Its id is free.
    let again = session.subscribe(subscribe_to_part("2", "n = 1"), find("2"));
    assert_eq!(again.len(), 2);
}

#[test]
fn a_part_is_found_again_after_the_pull_that_missed_it() {
    let mut session = joined(&["1"]);
    join(&mut session, "other", "b", 5);
    session.overflowed();
    let refused = session.catch_up_refused(RefetchReason::Schema, Some("t"));
    let expected = [
        refetch("1", RefetchReason::Schema),
        Command::CatchUp(vec![(Shape::whole("b"), at(5))]),
        Command::Resolve("1".into()),
    ];
    assert_eq!(refused, expected);
}

#[test]
fn parts_of_one_entity_are_told_apart() {
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
    let told = session.batch(both.clone());
    assert_eq!(
        told,
        [
            of(Shape::whole("t"), 7),
            of(part("1"), 5),
            Command::Send(Frame::Cursor(at(8)))
        ]
    );
}
