//! Rules that one or two events show; those that only many events can show are simulated.

mod apart;
mod rights;
mod shapes;

use protocol::{Reject, RejectCode};

use super::*;
use crate::cursor::CommitId;

/// A batch that consists of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TestBatch {
    position: Arc<Position>,
    complete: bool,
    touched: Vec<&'static str>,
    schema_changed: Vec<&'static str>,
    lost: Vec<&'static str>,
    unclear: Vec<&'static str>,
    /// Entities whose shapes' sets may have changed, since this position.
    moved: Option<(&'static str, Arc<Position>)>,
}

impl Batch for TestBatch {
    fn position(&self) -> &Arc<Position> {
        &self.position
    }

    fn complete(&self) -> bool {
        self.complete
    }

    fn bytes(&self) -> usize {
        if self.touched.contains(&"large") {
            BACKLOG_BYTES_MAX / 2
        } else {
            1
        }
    }

    fn touches(&self, shape: &Shape) -> bool {
        self.touched.contains(&shape.entity())
    }

    fn changes_schema_of(&self, shape: &Shape) -> bool {
        self.schema_changed.contains(&shape.entity())
    }

    fn loses_sets_of(&self, shape: &Shape) -> bool {
        self.lost.contains(&shape.entity())
    }

    fn is_unclear_for(&self, shape: &Shape) -> bool {
        self.unclear.contains(&shape.entity())
    }

    fn moves(&self, shape: &Shape) -> Option<&Arc<Position>> {
        let (entity, follows) = self.moved.as_ref()?;
        (shape.entity() == *entity).then_some(follows)
    }
}

type Commands = Vec<Command<TestBatch>>;

fn at(id: i64) -> Arc<Position> {
    Arc::new(Position::log_id(id))
}

fn batch(id: i64, touched: &[&'static str]) -> TestBatch {
    TestBatch {
        position: at(id),
        complete: true,
        touched: touched.to_vec(),
        schema_changed: Vec::new(),
        lost: Vec::new(),
        unclear: Vec::new(),
        moved: None,
    }
}

fn part(id: i64, touched: &[&'static str]) -> TestBatch {
    TestBatch {
        complete: false,
        ..batch(id, touched)
    }
}

fn subscribe(id: &str, entity: &str) -> Subscribe {
    Subscribe {
        id: id.into(),
        entity: entity.to_owned(),
        selection: SelectionRequest::default(),
        cursor: None,
    }
}

/// The shape of all rows, where there is such an entity.
fn whole(subscribe: &Subscribe) -> Result<Shape, SubscribeError> {
    if subscribe.entity == "ghost" {
        let code = ErrorCode::UnknownEntity;
        return Err(SubscribeError::new(code, "no such entity"));
    }
    Ok(Shape::whole(&subscribe.entity))
}

fn push(mutation: u64) -> Push {
    Push {
        mutation,
        chain: None,
        writes: Vec::new().into(),
    }
}

fn session() -> Session<TestBatch> {
    Session::new(SessionLimits {
        subscriptions_max: 3,
        filter_work_max: 10,
        filter_bytes_max: 1000,
    })
}

/// Subscribes and ends the read.
fn join(session: &mut Session<TestBatch>, id: &str, entity: &str, position: i64) -> Commands {
    session.subscribe(subscribe(id, entity), whole);
    session.read(&id.into(), ReadEnd::Complete(at(position)))
}

fn read(id: &str, entity: &str, from: Option<i64>) -> Command<TestBatch> {
    let from = from.map(|from| ReadFrom::Position(at(from)));
    Command::Read(ReadCommand::Start {
        id: id.into(),
        shape: Shape::whole(entity),
        from,
    })
}

fn resolve(id: &str) -> Command<TestBatch> {
    Command::Resolve(id.into())
}

fn deliver(batch: TestBatch, entity: &str, since: Option<i64>) -> Command<TestBatch> {
    Command::Send(Frame::Changes {
        batch,
        shape: Shape::whole(entity),
        id: None,
        since: since.map(at),
    })
}

fn subscribed(id: &str, entity: &str, position: i64) -> Command<TestBatch> {
    Command::Send(Frame::Subscribed {
        id: id.into(),
        shape: Shape::whole(entity),
        position: at(position),
    })
}

fn refetch(id: &str, reason: RefetchReason) -> Command<TestBatch> {
    Command::Send(Frame::Refetch {
        id: id.into(),
        reason,
    })
}

/// The code of an answer that is one error about this subscription.
#[track_caller]
fn error_code(commands: &Commands, about: &str) -> ErrorCode {
    match commands.as_slice() {
        [
            Command::Send(Frame::Error {
                error,
                id: Some(id),
            }),
        ] if *id == about.into() => error.code,
        other => panic!("not an error about {about}: {other:?}"),
    }
}

#[test]
fn a_subscribe_attaches_its_shape_once_and_starts_a_read() {
    let mut session = session();
    let attach = Command::Hub(HubCommand::Attach(Shape::whole("a")));
    assert_eq!(
        session.subscribe(subscribe("1", "a"), whole),
        [attach, read("1", "a", None)]
    );
    let again = session.subscribe(subscribe("2", "a"), whole);
    assert_eq!(again, [read("2", "a", None)], "attached already");
}

#[test]
fn a_subscribe_that_cannot_be_served_is_an_error() {
    type Change = fn(&mut Subscribe);
    let cases: [(Change, ErrorCode); 2] = [
        (|wanted| wanted.id = "taken".into(), ErrorCode::Protocol),
        (
            |wanted| wanted.entity = "ghost".to_owned(),
            ErrorCode::UnknownEntity,
        ),
    ];
    for (change, code) in cases {
        let mut session = session();
        session.subscribe(subscribe("taken", "a"), whole);
        let mut wanted = subscribe("new", "b");
        change(&mut wanted);
        let id = wanted.id.clone();
        let commands = session.subscribe(wanted, whole);
        assert_eq!(error_code(&commands, &id.to_string()), code);
        assert_eq!(session.subscriptions.len(), 1);
    }
}

#[test]
fn a_subscription_beyond_the_limit_is_an_error() {
    let mut session = session();
    for id in ["1", "2", "3"] {
        session.subscribe(subscribe(id, "a"), whole);
    }
    let full = session.subscribe(subscribe("4", "b"), whole);
    assert_eq!(error_code(&full, "4"), ErrorCode::TooManySubscriptions);
    session.unsubscribe(&"2".into());
    assert_eq!(
        session.subscribe(subscribe("4", "a"), whole),
        [read("4", "a", None)]
    );
}

#[test]
fn a_cursor_is_resumed_from_and_garbage_is_refetched() {
    let mut resume = subscribe("1", "a");
    let cursor = Cursor {
        epoch: crate::cursor::Epoch::new("here"),
        position: (*at(7)).clone(),
    };
    resume.cursor = Some(cursor.to_string());
    let from = Some(ReadFrom::Cursor(cursor));
    let wanted = Command::Read(ReadCommand::Start {
        id: "1".into(),
        shape: Shape::whole("a"),
        from,
    });
    assert_eq!(session().subscribe(resume, whole)[1..], [wanted]);

    let mut garbage = subscribe("1", "a");
    garbage.cursor = Some("garbage".to_owned());
    let commands = session().subscribe(garbage, whole);
    assert_eq!(
        commands[1..],
        [refetch("1", RefetchReason::Epoch), read("1", "a", None)]
    );
}

#[test]
fn a_refused_read_resolves_again() {
    let mut session = session();
    session.subscribe(subscribe("1", "a"), whole);
    let commands = session.read(&"1".into(), ReadEnd::Refetch(RefetchReason::Expired));
    assert_eq!(
        commands,
        [refetch("1", RefetchReason::Expired), resolve("1")]
    );
}

#[test]
fn a_failed_read_ends_the_subscription() {
    let mut session = session();
    session.subscribe(subscribe("1", "a"), whole);
    let error = SubscribeError::new(ErrorCode::Unavailable, "it cannot be read");
    let commands = session.read(&"1".into(), ReadEnd::Failed(error));
    let detach = Command::Hub(HubCommand::Detach(Shape::whole("a")));
    assert_eq!(commands[..1], [detach]);
    assert_eq!(
        error_code(&commands[1..].to_vec(), "1"),
        ErrorCode::Unavailable
    );
    assert_eq!(
        session.read(&"1".into(), ReadEnd::Complete(at(5))),
        [],
        "too late"
    );
}

#[test]
fn an_unsubscribe_stops_the_read_and_detaches_the_shape() {
    let mut session = session();
    assert_eq!(
        error_code(&session.unsubscribe(&"1".into()), "1"),
        ErrorCode::Protocol
    );
    session.subscribe(subscribe("1", "a"), whole);
    join(&mut session, "2", "a", 5);
    assert_eq!(
        session.unsubscribe(&"1".into()),
        [Command::Read(ReadCommand::Stop("1".into()))]
    );
    assert_eq!(
        session.read(&"1".into(), ReadEnd::Complete(at(5))),
        [],
        "too late"
    );
    assert_eq!(
        session.unsubscribe(&"2".into()),
        [Command::Hub(HubCommand::Detach(Shape::whole("a")))]
    );
    assert_eq!(session.batch(batch(6, &["a"])), []);
    assert_eq!(
        error_code(&session.unsubscribe(&"2".into()), "2"),
        ErrorCode::Protocol
    );
}

#[test]
fn mutations_are_applied_one_at_a_time_and_answered_in_order() {
    let mut session = session();
    let apply = |mutation| Command::Apply(Box::new(push(mutation)));
    let wait = |id| Command::Hub(HubCommand::Await(Awaited::Commit(CommitId::LogId(id))));
    let reject = || Reject::new(RejectCode::Exists, "it is there");
    assert_eq!(session.push(push(1)), [apply(1)]);
    assert_eq!(session.push(push(2)), []);
    assert_eq!(session.push(push(3)), []);
    assert_eq!((session.is_applying(), session.pushes_waiting()), (true, 2));
    let first = session.applied(1, Applied::committed(Some(CommitId::LogId(4))));
    assert_eq!(first, [wait(4), apply(2)]);
    // The reject waits for the ack of the mutation before it.
    assert_eq!(session.applied(2, Applied::Rejected(reject())), [apply(3)]);
    let third = session.applied(3, Applied::committed(Some(CommitId::LogId(6))));
    assert_eq!(third, [wait(6)]);
    let reached = session.batch(batch(5, &[]));
    let rejected = Command::Send(Frame::Reject {
        mutation: 2,
        reject: reject(),
    });
    assert_eq!(
        reached,
        [
            Command::Send(Frame::Ack {
                mutation: 1,
                merged: None
            }),
            rejected,
            Command::Send(Frame::Cursor(at(5)))
        ]
    );
    let reached = session.batch(batch(6, &[]));
    assert_eq!(
        reached,
        [
            Command::Send(Frame::Ack {
                mutation: 3,
                merged: None
            }),
            Command::Send(Frame::Cursor(at(6)))
        ]
    );
}

#[test]
fn answers_that_need_no_position_do_not_wait_for_one() {
    let mut session = session();
    session.push(push(1));
    session.push(push(2));
    let forgotten = session.applied(1, Applied::committed(None));
    assert_eq!(
        forgotten[0],
        Command::Send(Frame::Ack {
            mutation: 1,
            merged: None
        })
    );
    let reject = Reject::new(RejectCode::NotFound, "it is not there");
    let rejected = session.applied(2, Applied::Rejected(reject.clone()));
    assert_eq!(
        rejected,
        [Command::Send(Frame::Reject {
            mutation: 2,
            reject
        })]
    );
}

#[test]
fn no_cursor_is_sent_within_a_batch() {
    let mut session = session();
    join(&mut session, "1", "a", 5);
    session.batch(batch(6, &["a"]));
    session.subscribe(subscribe("2", "b"), whole);
    let half = part(8, &["a", "b"]);
    assert_eq!(
        session.batch(half.clone()),
        [deliver(half.clone(), "a", None)]
    );
    // Neither when a read ends in the middle, nor after an empty batch from before.
    let joined = session.read(&"2".into(), ReadEnd::Complete(at(6)));
    assert_eq!(
        joined,
        [subscribed("2", "b", 6), deliver(half, "b", Some(6))]
    );
    assert_eq!(session.batch(batch(6, &[])), []);
    assert_eq!(
        session.batch(batch(8, &[])),
        [Command::Send(Frame::Cursor(at(8)))]
    );
}

#[test]
fn a_second_subscription_behind_the_live_shape_reads_on() {
    let mut session = session();
    session.subscribe(subscribe("slow", "a"), whole);
    join(&mut session, "fast", "a", 9);
    // Changes between 5 and 9 are not sent for the shape again.
    let behind = session.read(&"slow".into(), ReadEnd::Complete(at(5)));
    assert_eq!(behind, [read("slow", "a", Some(5))]);
    let joined = session.read(&"slow".into(), ReadEnd::Complete(at(9)));
    assert_eq!(joined, [subscribed("slow", "a", 9)]);
}

#[test]
fn transient_changes_are_sent_until_the_stream_covers_every_subscription() {
    let mut session = session();
    join(&mut session, "1", "a", 5);
    session.batch(batch(6, &["a"]));
    join(&mut session, "2", "a", 9);
    let delivered = |session: &mut Session<TestBatch>, id| {
        session
            .batch(batch(id, &["a"]))
            .into_iter()
            .next()
            .expect("a command")
    };
    assert_eq!(
        delivered(&mut session, 8),
        deliver(batch(8, &["a"]), "a", Some(6))
    );
    assert_eq!(
        delivered(&mut session, 10),
        deliver(batch(10, &["a"]), "a", Some(8))
    );
    assert_eq!(
        delivered(&mut session, 11),
        deliver(batch(11, &["a"]), "a", None)
    );
}

#[test]
fn after_a_refused_catch_up_the_other_shapes_catch_up_again() {
    let mut session = session();
    join(&mut session, "1", "a", 5);
    join(&mut session, "2", "b", 5);
    let catch_up = |entities: &[&str]| {
        Command::CatchUp(
            entities
                .iter()
                .map(|entity| (Shape::whole(entity), at(5)))
                .collect(),
        )
    };
    assert_eq!(session.overflowed(), [catch_up(&["a", "b"])]);
    let commands = session.catch_up_failed(RefetchReason::Schema, Some("a"));
    let begun = [
        refetch("1", RefetchReason::Schema),
        catch_up(&["b"]),
        resolve("1"),
    ];
    assert_eq!(commands, begun);
    assert_eq!(
        session.caught_up(at(7)),
        [Command::Send(Frame::Cursor(at(7)))]
    );
    assert_eq!(
        session.read(&"1".into(), ReadEnd::Complete(at(8))),
        [subscribed("1", "a", 8)]
    );
}

#[test]
fn an_empty_batch_brings_all_subscriptions_to_one_cursor() {
    let mut session = session();
    join(&mut session, "1", "a", 5);
    assert_eq!(session.batch(batch(5, &[])), [], "nothing new");
    join(&mut session, "2", "b", 7);
    assert_eq!(
        session.batch(batch(7, &[])),
        [Command::Send(Frame::Cursor(at(7)))]
    );
    assert_eq!(session.batch(batch(7, &[])), []);
}

#[test]
fn a_schema_change_restarts_subscriptions_that_have_not_seen_it() {
    let mut session = session();
    join(&mut session, "old", "a", 5);
    join(&mut session, "other", "b", 5);
    let schema_change = TestBatch {
        schema_changed: vec!["a"],
        ..batch(6, &[])
    };
    let begun = [refetch("old", RefetchReason::Schema), resolve("old")];
    let mut expected = begun.to_vec();
    expected.push(Command::Send(Frame::Cursor(at(6))));
    assert_eq!(session.batch(schema_change.clone()), expected);
    // It came during this read as well, which may have used the old columns.
    session.batch(schema_change.clone());
    assert_eq!(session.read(&"old".into(), ReadEnd::Complete(at(6))), begun);
    assert_eq!(
        session.read(&"old".into(), ReadEnd::Complete(at(6))),
        [subscribed("old", "a", 6)]
    );
    assert_eq!(session.batch(schema_change), []);
}

/// What has moved since the loss, until the set is known again, no batch says.
#[test]
fn a_lost_set_restarts_subscriptions_that_have_read_further_too() {
    let mut session = session();
    join(&mut session, "a", "a", 7);
    join(&mut session, "b", "b", 7);
    let loss = TestBatch {
        lost: vec!["a"],
        ..batch(6, &[])
    };
    assert_eq!(
        session.batch(loss),
        [refetch("a", RefetchReason::Schema), resolve("a")]
    );
}

#[test]
fn a_backlog_of_too_many_bytes_is_read_from_the_log() {
    let mut session = session();
    session.subscribe(subscribe("a", "large"), whole);
    for id in [11, 12] {
        session.batch(batch(id, &["large"]));
    }
    let ended = session.read(&"a".into(), ReadEnd::Complete(at(10)));
    assert!(matches!(
        &ended[..],
        [Command::Send(Frame::Subscribed { .. }), ..]
    ));
    session.subscribe(subscribe("b", "large"), whole);
    for id in [13, 14, 15] {
        session.batch(batch(id, &["large"]));
    }
    let ended = session.read(&"b".into(), ReadEnd::Complete(at(12)));
    assert_eq!(ended, [read("b", "large", Some(12))]);
}

#[test]
fn answers_that_wait_for_a_position_are_counted() {
    let mut session = session();
    for mutation in 1..=3 {
        session.push(push(mutation));
        session.applied(mutation, Applied::committed(Some(CommitId::LogId(5))));
    }
    assert_eq!(session.answers_waiting(), 3);
    session.batch(batch(5, &[]));
    assert_eq!(session.answers_waiting(), 0);
}

#[test]
fn a_batch_that_is_unclear_for_a_shape_restarts_what_has_not_seen_more() {
    let unclear = |id| TestBatch {
        unclear: vec!["a"],
        ..batch(id, &["b"])
    };
    let restarts = |commands: &Commands| {
        let refetch = |command: &Command<TestBatch>| {
            let reason = RefetchReason::Expired;
            matches!(command, Command::Send(Frame::Refetch { id, reason: found }) if *id == "a".into() && *found == reason)
        };
        commands.iter().any(refetch)
    };
    // Joining: it matters whether the read has seen more.
    for (position, expected) in [(5, false), (4, true)] {
        let mut session = session();
        session.subscribe(subscribe("a", "a"), whole);
        assert!(!restarts(&session.batch(unclear(5))));
        let ended = session.read(&"a".into(), ReadEnd::Complete(at(position)));
        assert_eq!(restarts(&ended), expected, "{ended:?}");
    }
    // Live: likewise.
    let mut session = session();
    join(&mut session, "b", "b", 5);
    join(&mut session, "a", "a", 5);
    assert!(!restarts(&session.batch(unclear(5))));
    let restarted = session.batch(unclear(6));
    assert!(restarts(&restarted) && restarted.contains(&Command::Resolve("a".into())));
}

/// No commit says which of the rows that sets have moved are new to a reader in the middle of the batch.
#[test]
fn a_reader_within_a_batch_that_moves_rows_reads_the_log() {
    let moving = |follows, id, touched: &[&'static str]| TestBatch {
        moved: Some(("a", at(follows))),
        ..batch(id, touched)
    };
    // Joining, also where the sets have changed back, so that there is nothing to send.
    for touched in [&["a"][..], &[]] {
        for (position, is_within) in [(3, false), (4, true), (5, true), (6, false), (7, false)] {
            let mut session = session();
            session.subscribe(subscribe("a", "a"), whole);
            session.batch(moving(3, 6, touched));
            let ended = session.read(&"a".into(), ReadEnd::Complete(at(position)));
            let goes_on = vec![read("a", "a", Some(position))];
            assert_eq!(ended == goes_on, is_within, "{position}: {ended:?}");
        }
    }
    // Live, after a read or a catch-up that went further than the stream.
    for (position, is_within) in [(3, false), (4, true), (6, false)] {
        let mut session = session();
        join(&mut session, "b", "b", 2);
        join(&mut session, "a", "a", position);
        let commands = session.batch(moving(3, 6, &["a"]));
        let catches_up = matches!(&commands[..], [Command::CatchUp(shapes)] if shapes.len() == 2);
        assert_eq!(catches_up, is_within, "{position}: {commands:?}");
    }
    // A shape without sets is not concerned.
    let mut session = session();
    join(&mut session, "b", "b", 4);
    let commands = session.batch(moving(3, 6, &["b"]));
    assert!(
        !commands
            .iter()
            .any(|command| matches!(command, Command::CatchUp(_)))
    );
}
