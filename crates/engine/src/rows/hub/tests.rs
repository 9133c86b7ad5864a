//! What sessions receive, and what they cost each other.

mod moved;

use futures_util::FutureExt as _;
use sync_core::cursor::CommitId;
use sync_core::log::NetChange;

use super::*;
use crate::mailbox::Taken;
use crate::rows::testing::{shape, update};

const ROW: &str = r#"{"id":1,"list_id":7,"owner":3,"done":false,"title":"x"}"#;
const LIMITS: HubLimits = HubLimits {
    entity_work_max: 10,
    filter_bytes_max: 1_000_000,
    set_values_max: 1_000,
    subquery_timeout: Duration::from_secs(5),
    queue_bytes_max: 1_000_000,
    shapes_of_user_max: 0,
};
const CAPACITY: Capacity = Capacity {
    items: 8,
    bytes: 1_000_000,
};

fn cursor(epoch: &str, id: i64) -> Cursor {
    Cursor {
        epoch: Epoch::new(epoch),
        position: Position::log_id(id),
    }
}

fn hub(limits: HubLimits) -> Hub {
    let hub = Hub::new(limits, Arc::default());
    hub.reset(cursor("one", 1));
    hub
}

/// A session with this shape.
fn session(hub: &Hub, shape: &Shape) -> Mailbox<Batch> {
    let mailbox = hub.join(SessionId::next(), None, &Epoch::new("one"), CAPACITY);
    hub.attach(mailbox.session, shape);
    mailbox
}

/// A row whose title has so many bytes.
fn row(title_bytes: usize) -> String {
    ROW.replace(r#""x""#, &format!(r#""{}""#, "x".repeat(title_bytes)))
}

fn publish(hub: &Hub, id: i64, row: &str) {
    let entry = NetChange {
        commit_id: CommitId::LogId(id),
        ..update(row, "{}")
    };
    hub.publish(LogBatch {
        position: Arc::new(Position::log_id(id)),
        entries: vec![entry],
        complete: true,
        old_value_columns: hub.old_value_columns(),
    });
}

/// What a session finds: the position of a batch, or none for an overflow.
fn next(mailbox: &mut Mailbox<Batch>) -> Option<Option<Position>> {
    match mailbox.next().now_or_never()?? {
        Taken::Item(batch) => Some(Some((**batch.position()).clone())),
        Taken::Overflow => Some(None),
    }
}

fn at(id: i64) -> Option<Option<Position>> {
    Some(Some(Position::log_id(id)))
}

#[test]
fn what_was_queued_before_a_reset_is_not_given_out_after_it() {
    let hub = hub(LIMITS);
    let mut before = session(&hub, &Shape::whole("todos"));
    publish(&hub, 2, ROW);
    assert!(!before.is_empty());
    hub.reset(cursor("two", 1));
    assert!(before.is_closed());
    assert!(before.next().now_or_never().expect("closed").is_none());
    // A client that was told of the first epoch just before is not served in the second.
    assert!(
        hub.join(SessionId::next(), None, &Epoch::new("one"), CAPACITY)
            .is_closed()
    );
    let mut after = hub.join(SessionId::next(), None, &Epoch::new("two"), CAPACITY);
    hub.attach(after.session, &Shape::whole("todos"));
    publish(&hub, 3, ROW);
    assert_eq!(next(&mut after), at(3));
}

#[test]
fn a_session_attaches_while_a_batch_is_evaluated() {
    let hub = hub(LIMITS);
    let evaluating = hub.index();
    // Nothing of this waits.
    let mut mailbox = session(&hub, &shape("list_id = 7"));
    let mut left = session(&hub, &shape("list_id = 7"));
    hub.leave(left.session);
    assert!(hub.admit(&shape("list_id > 1")).is_ok());
    assert_eq!(hub.stats(9).shapes_total, 1);
    assert_eq!(hub.epoch(), Some(Epoch::new("one")));
    assert_eq!(evaluating.shapes.shapes_of("todos").count(), 0);
    drop(evaluating);
    publish(&hub, 2, ROW);
    assert_eq!(next(&mut mailbox), at(2));
    assert!(left.next().now_or_never().expect("closed").is_none());
}

#[test]
fn only_the_sessions_of_a_filter_over_its_share_are_left_behind() {
    let hub = hub(LIMITS);
    let searches: Vec<String> = (0..400).map(|n| format!("title LIKE '%a_{n}%'")).collect();
    let mut dear = session(&hub, &shape(&searches.join(" OR ")));
    let mut cheap = session(&hub, &shape("list_id = 7"));
    publish(&hub, 2, &row(100_000));
    assert_eq!((next(&mut dear), next(&mut cheap)), (Some(None), at(2)));
    hub.rejoin(dear.session);
    publish(&hub, 3, ROW);
    // It does not match, but the session is not behind.
    assert_eq!((next(&mut dear), next(&mut cheap)), (None, at(3)));
}

#[test]
fn sessions_that_lag_are_left_behind_when_batches_take_too_much_memory() {
    let hub = hub(HubLimits {
        queue_bytes_max: 250_000,
        ..LIMITS
    });
    let mut lagging = session(&hub, &shape("list_id = 7"));
    let mut current = session(&hub, &Shape::whole("todos"));
    for id in 2..9 {
        publish(&hub, id, &row(100_000));
        assert_eq!(next(&mut current), at(id));
        assert!(hub.held.load(Ordering::Relaxed) < 400_000);
    }
    assert_eq!(next(&mut lagging), Some(None));
}

#[test]
fn a_batch_is_counted_once_for_all_who_hold_it() {
    let hub = hub(LIMITS);
    let mut sessions: Vec<Mailbox<Batch>> = (0..50)
        .map(|number| session(&hub, &shape(&format!("list_id <> {}", 100 + number))))
        .collect();
    publish(&hub, 2, &row(100_000));
    let held = hub.held.load(Ordering::Relaxed);
    assert!((100_000..130_000).contains(&held), "{held}");
    assert!(sessions.iter_mut().all(|one| next(one) == at(2)));
    assert_eq!(hub.held.load(Ordering::Relaxed), 0);
}

#[test]
fn filters_that_no_index_finds_have_a_budget() {
    let hub = hub(LIMITS);
    let five = "list_id > 1 OR list_id > 2 OR list_id > 3 OR list_id > 4 OR list_id > 5";
    let first = session(&hub, &shape(five));
    let other = shape(&five.replace("list_id", "owner"));
    assert!(hub.admit(&other).is_ok());
    let second = session(&hub, &other);
    assert!(hub.admit(&shape("id > 1")).is_err());
    assert!(hub.admit(&shape("id = 1")).is_ok(), "an index finds it");
    assert!(hub.admit(&shape(five)).is_ok(), "it is evaluated already");
    hub.leave(second.session);
    assert!(hub.admit(&shape("id > 1")).is_ok());
    let mut bytes = hub.filter_bytes();
    bytes.set(LIMITS.filter_bytes_max);
    assert!(hub.admit(&shape("id = 1")).is_err());
    drop(bytes);
    assert!(hub.admit(&shape("id = 1")).is_ok());
    drop(first);
}

#[test]
fn what_a_session_waits_for_is_noted_once() {
    let hub = hub(LIMITS);
    let mut mailbox = session(&hub, &shape("list_id = 8"));
    for _ in 0..100 {
        assert!(hub.wait_for(mailbox.session, Awaited::Commit(CommitId::LogId(5))));
    }
    assert_eq!(hub.state().waiting[&mailbox.session].len(), 1);
    publish(&hub, 5, ROW);
    assert_eq!(next(&mut mailbox), at(5));
    assert!(hub.state().waiting.is_empty());
}

#[test]
fn a_panic_does_not_stop_the_hub_for_good() {
    let hub = hub(LIMITS);
    let mut mailbox = session(&hub, &Shape::whole("todos"));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _index = hub.index();
        let _state = hub.state();
        panic!("while both are locked");
    }));
    assert!(panicked.is_err());
    publish(&hub, 2, ROW);
    assert_eq!(next(&mut mailbox), at(2));
}
