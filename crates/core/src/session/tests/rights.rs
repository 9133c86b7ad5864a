//! What a session does when its principal's rights change, and when it ends.

use filter::Backend;
use filter::testing::test_table;

use super::*;
use crate::policy::ReadScope;
use crate::shape::{CurrentTable, Others};

/// The shape of a request, where the principal may read the rows with this `n`; all rows for none.
fn shape(request: &SelectionRequest, only: Option<u8>) -> Result<Shape, SubscribeError> {
    let table = test_table(Backend::Postgres);
    let table = CurrentTable {
        has_records: false,
        schema: Arc::new(table.schema),
        fingerprint: "1".into(),
        backend: table.backend,
        fields: None,
    };
    let scope = only.map_or(ReadScope::Everything, |n| {
        ReadScope::Restricted(SelectionRequest {
            filter: Some(format!("n = {n}")),
            ..SelectionRequest::default()
        })
    });
    Ok(Shape::resolve(&table, request, &scope, Others::NONE)?)
}

/// Rows of `t` are restricted, those of other entities are not.
fn may_read(
    only: Option<u8>,
) -> impl Fn(&str, &SelectionRequest) -> Result<Shape, SubscribeError> + Copy {
    move |entity, request| match entity {
        "t" => shape(request, only),
        _ => Ok(Shape::whole(entity)),
    }
}

fn subscribe_as(session: &mut Session<TestBatch>, id: &str, entity: &str, only: Option<u8>) {
    session.subscribe(subscribe(id, entity), |subscribe| {
        may_read(only)(&subscribe.entity, &subscribe.selection)
    });
}

fn permission(id: &str) -> Command<TestBatch> {
    refetch(id, RefetchReason::Permission)
}

#[test]
fn only_subscriptions_whose_rights_changed_restart() {
    let mut session = session();
    for (id, entity) in [("mine", "t"), ("all", "a")] {
        subscribe_as(&mut session, id, entity, Some(1));
        session.read(&id.into(), ReadEnd::Complete(at(5)));
    }
    assert_eq!(session.reauthorize(may_read(Some(1))), []);
    let commands = session.reauthorize(may_read(Some(2)));
    assert_eq!(commands, [permission("mine"), resolve("mine")]);
    // What arrives before the new rows are read is not sent.
    let late = session.batch(batch(6, &["t", "a"]));
    let shapes = late.iter().filter_map(|command| match command {
        Command::Send(Frame::Changes { shape, .. }) => Some(shape.entity()),
        _ => None,
    });
    assert_eq!(shapes.collect::<Vec<_>>(), ["a"]);
    let request = SelectionRequest::default();
    let commands = session.resolved(&"mine".into(), shape(&request, Some(2)));
    let (before, after) = (shape(&request, Some(1)), shape(&request, Some(2)));
    let attach = Command::Hub(HubCommand::Attach(after.clone().expect("a shape")));
    let detach = Command::Hub(HubCommand::Detach(before.expect("a shape")));
    assert_eq!(commands[..2], [attach, detach]);
    assert!(matches!(
        &commands[2..],
        [Command::Read(ReadCommand::Start { from: None, .. })]
    ));
}

#[test]
fn a_read_under_the_old_rights_is_stopped_before_its_rows_are_dropped() {
    let mut session = session();
    subscribe_as(&mut session, "mine", "t", Some(1));
    let stop = Command::Read(ReadCommand::Stop("mine".into()));
    let commands = session.reauthorize(may_read(None));
    assert_eq!(commands, [stop, permission("mine"), resolve("mine")]);
}

#[test]
fn subscriptions_that_shared_a_shape_part_when_only_one_of_them_keeps_it() {
    let mut session = session();
    subscribe_as(&mut session, "mine", "t", Some(1));
    session.read(&"mine".into(), ReadEnd::Complete(at(5)));
    let asked = SelectionRequest {
        filter: Some("n = 1".to_owned()),
        ..SelectionRequest::default()
    };
    let asking = Subscribe {
        selection: asked.clone(),
        ..subscribe("ones", "t")
    };
    session.subscribe(asking, |_| shape(&asked, None));
    session.read(&"ones".into(), ReadEnd::Complete(at(5)));
    let commands = session.reauthorize(may_read(None));
    assert_eq!(commands, [permission("mine"), resolve("mine")]);
    session.resolved(&"mine".into(), shape(&SelectionRequest::default(), None));
    let sent = session.batch(batch(6, &["t"]));
    let kept = shape(&asked, None).expect("a shape");
    let is_kept = |command: &Command<TestBatch>| matches!(command, Command::Send(Frame::Changes { shape, id: None, .. }) if *shape == kept);
    assert!(sent.iter().any(is_kept), "{sent:?}");
}

#[test]
fn rows_that_may_not_be_read_any_more_are_dropped_before_the_subscription_ends() {
    let mut session = session();
    subscribe_as(&mut session, "all", "a", None);
    session.read(&"all".into(), ReadEnd::Complete(at(5)));
    let forbidden = || SubscribeError::new(ErrorCode::Forbidden, "not for this user");
    let commands = session.reauthorize(|_, _| Err(forbidden()));
    assert_eq!(commands, [permission("all"), resolve("all")]);
    let ended = session.resolved(&"all".into(), Err(forbidden()));
    assert!(
        ended.contains(&error_frame("all".into(), forbidden())),
        "{ended:?}"
    );
}

#[test]
fn a_session_that_ends_answers_its_mutations_without_a_position() {
    let committed = |id| Applied::committed(Some(CommitId::LogId(id)));
    let ack = |mutation| {
        Command::Send(Frame::Ack {
            mutation,
            merged: None,
        })
    };
    let mut session = session();
    for mutation in 1..=3 {
        session.push(push(mutation));
    }
    session.applied(1, committed(7));
    assert_eq!(session.end(), [ack(1)]);
    assert!(session.applied(2, committed(8)).contains(&ack(2)));
    let rejected = session.applied(3, Applied::Rejected(Reject::new(RejectCode::NotFound, "")));
    assert!(matches!(
        &rejected[..],
        [Command::Send(Frame::Reject { mutation: 3, .. })]
    ));
    assert!(!session.is_applying());
}
