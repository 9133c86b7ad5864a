//! The rules of the protocol, each kept once and broken once.

use serde_json::{Value, json};
use uuid::Uuid;

use super::frame::Violation;
use super::options::SubscriptionId;
use super::replica::Replica;

const CLIENT: Uuid = Uuid::nil();

fn replica() -> Replica {
    let mut replica = Replica::new(CLIENT, false);
    replica.receive(&welcome(0)).unwrap();
    replica
}

/// A replica whose subscription `a` is live with the rows 1 and 2, at the cursor c1, with the shape s.
fn live() -> Replica {
    let mut replica = replica();
    replica.send(&json!({ "type": "subscribe", "id": "a", "entity": "notes" }));
    accept(
        &mut replica,
        [
            snapshot("a", &["1", "2"], false),
            subscribed("a", "s", "c1"),
        ],
    );
    replica
}

fn welcome(last_mutation: u64) -> Value {
    json!({
        "type": "welcome", "protocol": 1, "session_id": "x", "epoch": "e",
        "last_mutation": last_mutation, "heartbeat_ms": 1000,
        "limits": { "frame_bytes_max": 1, "subscriptions_max": 1, "writes_max": 1 },
    })
}

fn row(key: &str, body: &str) -> Value {
    json!({ "id": key.parse::<u64>().unwrap(), "body": body })
}

fn snapshot(id: &str, keys: &[&str], more: bool) -> Value {
    let rows: Vec<Value> = keys
        .iter()
        .map(|key| json!({ "key": key, "row": row(key, "old") }))
        .collect();
    json!({ "type": "snapshot", "id": id, "rows": rows, "more": more })
}

fn subscribed(id: &str, shape: &str, cursor: &str) -> Value {
    let schema = json!({ "key": ["id"], "columns": { "id": "int4", "body": "text" } });
    json!({ "type": "subscribed", "id": id, "shape": shape, "cursor": cursor, "schema": schema })
}

fn put(key: &str) -> Value {
    json!({ "op": "put", "key": key, "row": row(key, "new") })
}

fn own(key: &str, mutation: u64) -> Value {
    let mut change = put(key);
    change["client_id"] = json!(CLIENT);
    change["mutation"] = json!(mutation);
    change
}

fn changes(shape: &str, changes: &[Value]) -> Value {
    json!({ "type": "changes", "shape": shape, "changes": changes })
}

fn caught_up(id: &str, changes: &[Value]) -> Value {
    json!({ "type": "changes", "id": id, "changes": changes })
}

fn cursor(cursor: &str) -> Value {
    json!({ "type": "cursor", "cursor": cursor })
}

fn ack(mutation: u64) -> Value {
    json!({ "type": "ack", "mutation": mutation })
}

fn reject(mutation: u64, code: &str) -> Value {
    json!({ "type": "reject", "mutation": mutation, "code": code, "message": "no" })
}

fn push(replica: &mut Replica, mutation: u64) {
    replica.send(&json!({ "type": "push", "mutation": mutation, "writes": [] }));
}

#[track_caller]
fn accept(replica: &mut Replica, frames: impl IntoIterator<Item = Value>) {
    for frame in frames {
        replica.receive(&frame).unwrap();
    }
}

#[track_caller]
fn refuse(replica: &mut Replica, frame: &Value, rule: &str) {
    let Violation(message) = replica
        .receive(frame)
        .expect_err("this frame should break a rule");
    assert!(message.contains(rule), "{message}");
}

fn keys(replica: &Replica, id: &str) -> Vec<String> {
    replica.subscriptions[&SubscriptionId::from(id)]
        .rows()
        .keys()
        .cloned()
        .collect()
}

#[test]
fn the_rows_of_a_snapshot_appear_with_subscribed() {
    let mut replica = replica();
    replica.send(&json!({ "type": "subscribe", "id": "a", "entity": "notes" }));
    accept(
        &mut replica,
        [snapshot("a", &["1"], true), snapshot("a", &["2"], false)],
    );
    assert!(keys(&replica, "a").is_empty());
    accept(&mut replica, [subscribed("a", "s", "c1")]);
    assert_eq!(keys(&replica, "a"), ["1", "2"]);
    assert_eq!(replica.cursor(), Some("c1"));
    assert_eq!(replica.subscriptions[&"a".into()].puts()["1"], 1);
}

#[test]
fn a_snapshot_is_complete_and_has_each_row_once() {
    let mut replica = replica();
    replica.send(&json!({ "type": "subscribe", "id": "a", "entity": "notes" }));
    accept(&mut replica, [snapshot("a", &["1"], true)]);
    refuse(&mut replica, &snapshot("a", &["1"], true), "twice");
    refuse(&mut replica, &subscribed("a", "s", "c1"), "amid a snapshot");
    let mut replica = live();
    refuse(&mut replica, &snapshot("a", &["3"], false), "not joining");
    refuse(
        &mut replica,
        &snapshot("b", &["3"], false),
        "no subscription",
    );
}

#[test]
fn changes_take_effect_at_the_next_cursor() {
    let mut replica = live();
    let gone = json!({ "op": "delete", "key": "1" });
    let absent = json!({ "op": "leave", "key": "9" });
    accept(&mut replica, [changes("s", &[put("3"), gone, absent])]);
    assert_eq!(keys(&replica, "a"), ["1", "2"]);
    assert_eq!(replica.cursor(), Some("c1"));
    accept(&mut replica, [cursor("c2")]);
    assert_eq!(keys(&replica, "a"), ["2", "3"]);
    assert_eq!(replica.cursor(), Some("c2"));
    accept(
        &mut replica,
        [
            changes("s", &[json!({ "op": "truncate" }), put("4")]),
            cursor("c3"),
        ],
    );
    assert_eq!(keys(&replica, "a"), ["4"]);
}

#[test]
fn changes_concern_the_live_subscriptions_of_a_shape() {
    let mut replica = live();
    replica.send(&json!({ "type": "subscribe", "id": "b", "entity": "notes" }));
    accept(
        &mut replica,
        [changes("s", &[put("3")]), subscribed("b", "s", "c2")],
    );
    assert_eq!(replica.cursor(), None);
    accept(&mut replica, [cursor("c3")]);
    assert_eq!(
        (keys(&replica, "a").len(), keys(&replica, "b").len()),
        (3, 0)
    );
    assert_eq!(replica.cursor(), Some("c3"));
    refuse(&mut replica, &changes("t", &[]), "no live subscription");
    refuse(&mut replica, &caught_up("a", &[]), "not joining");
}

#[test]
fn a_cursor_needs_no_subscription() {
    let mut replica = replica();
    accept(&mut replica, [cursor("c1")]);
    assert_eq!(replica.cursor(), None);
}

#[test]
fn late_frames_of_an_ended_subscription_are_no_violation() {
    let mut replica = live();
    replica.send(&json!({ "type": "unsubscribe", "id": "a" }));
    accept(
        &mut replica,
        [
            changes("s", &[put("3")]),
            cursor("c2"),
            snapshot("a", &[], false),
        ],
    );
}

#[test]
fn a_resume_sends_the_difference_and_each_row_once() {
    let saved = live().save();
    let resume = || {
        let mut replica = Replica::restore(&saved, false);
        accept(&mut replica, [welcome(0)]);
        replica
    };
    let mut replica = resume();
    assert_eq!(keys(&replica, "a"), ["1", "2"]);
    accept(&mut replica, [caught_up("a", &[put("3")])]);
    assert_eq!(keys(&replica, "a"), ["1", "2"]);
    accept(&mut replica, [subscribed("a", "s", "c5")]);
    assert_eq!(keys(&replica, "a"), ["1", "2", "3"]);

    refuse(
        &mut resume(),
        &caught_up("a", &[put("3"), put("3")]),
        "twice",
    );
    refuse(
        &mut resume(),
        &snapshot("a", &[], false),
        "without a refetch",
    );

    let mut replica = resume();
    accept(
        &mut replica,
        [json!({ "type": "refetch", "id": "a", "reason": "expired" })],
    );
    assert!(keys(&replica, "a").is_empty());
    accept(
        &mut replica,
        [snapshot("a", &["7"], false), subscribed("a", "s", "c9")],
    );
    assert_eq!(keys(&replica, "a"), ["7"]);
}

#[test]
fn a_refetch_drops_the_rows_and_starts_over() {
    let mut replica = live();
    refuse(
        &mut replica,
        &json!({ "type": "refetch", "id": "a", "reason": "mood" }),
        "reason",
    );
    accept(
        &mut replica,
        [
            changes("s", &[put("3")]),
            json!({ "type": "refetch", "id": "a", "reason": "schema" }),
        ],
    );
    assert!(keys(&replica, "a").is_empty());
    assert_eq!(replica.save().subscriptions[&"a".into()].cursor, None);
    refuse(
        &mut replica,
        &changes("s", &[put("3")]),
        "no live subscription",
    );
    accept(
        &mut replica,
        [
            cursor("c2"),
            snapshot("a", &["1"], false),
            subscribed("a", "t", "c3"),
        ],
    );
    assert_eq!(keys(&replica, "a"), ["1"]);
}

/// A replica with a live subscription `a` to fields, whose rows 1 and 2 have no metadata, at the cursor c1, with the shape s.
fn live_fields() -> Replica {
    let mut replica = replica();
    replica.send(&json!({ "type": "subscribe", "id": "a", "entity": "notes", "mode": "fields" }));
    let mut joined = subscribed("a", "s", "c1");
    joined["rules"] = json!({ "strategy": "last_write_wins" });
    accept(&mut replica, [snapshot("a", &["1", "2"], false), joined]);
    replica
}

fn patch(key: &str) -> Value {
    json!({ "op": "patch", "key": key, "values": { "body": "x" }, "clocks": { "body": "h" } })
}

#[test]
fn a_patch_changes_fields_of_a_row_that_the_client_has() {
    let mut replica = live_fields();
    accept(&mut replica, [changes("s", &[patch("1")]), cursor("c2")]);
    let subscription = &replica.subscriptions[&"a".into()];
    assert_eq!(subscription.rows()["1"], row("1", "x"));
    assert_eq!(
        subscription.metadata()["1"],
        json!({ "clocks": { "body": "h" } })
    );
    let known = json!({ "op": "patch", "key": "1", "values": {}, "born": "b" });
    accept(&mut replica, [changes("s", &[known]), cursor("c3")]);
    let subscription = &replica.subscriptions[&"a".into()];
    assert_eq!(subscription.metadata()["1"], json!({ "born": "b" }));
    accept(&mut replica, [changes("s", &[patch("9")])]);
    refuse(&mut replica, &cursor("c4"), "not here");
}

#[test]
fn a_patch_of_another_row_means_nothing_until_the_stream_is_where_the_rows_are() {
    let mut replica = live_fields();
    accept(&mut replica, [changes("s", &[patch("9")]), cursor("c2")]);
    assert_eq!(keys(&replica, "a"), ["1", "2"]);
}

#[test]
fn patches_and_metadata_are_for_subscriptions_to_fields() {
    let mut put = put("1");
    put["born"] = json!("b");
    for change in [patch("1"), put] {
        refuse(
            &mut live(),
            &changes("s", &[change]),
            "subscription to rows",
        );
    }
    for (values, clocks) in [
        (json!({ "id": 2 }), json!({})),
        (json!({ "ghost": 2 }), json!({})),
        (json!({}), json!({ "ghost": "h" })),
    ] {
        let mut replica = live_fields();
        let change = json!({ "op": "patch", "key": "1", "values": values, "clocks": clocks });
        accept(&mut replica, [changes("s", &[change])]);
        refuse(&mut replica, &cursor("c2"), "the row 1 has a");
    }
}

#[test]
fn rows_agree_with_schema_and_key() {
    let mut replica = live();
    accept(
        &mut replica,
        [changes(
            "s",
            &[json!({ "op": "put", "key": "3", "row": { "id": 3 } })],
        )],
    );
    refuse(&mut replica, &cursor("c2"), "columns");
    let mut replica = live();
    accept(
        &mut replica,
        [changes(
            "s",
            &[json!({ "op": "put", "key": "3", "row": row("4", "x") })],
        )],
    );
    refuse(&mut replica, &cursor("c2"), "id = 4");
}

#[test]
fn acks_come_once_and_in_order() {
    let mut replica = live();
    refuse(&mut replica, &ack(1), "no push waits");
    (1..=3).for_each(|mutation| push(&mut replica, mutation));
    assert_eq!(replica.pushes.next(), 4);
    accept(&mut replica, [reject(3, "constraint"), ack(2)]);
    refuse(&mut replica, &ack(1), "after ack 2");
    refuse(&mut replica, &ack(2), "no push waits");
}

#[test]
fn a_repeated_mutation_has_the_same_answer() {
    let mut replica = live();
    (1..=2).for_each(|mutation| push(&mut replica, mutation));
    accept(&mut replica, [ack(1), ack(2)]);
    push(&mut replica, 1);
    accept(&mut replica, [ack(1)]);
    push(&mut replica, 1);
    refuse(&mut replica, &reject(1, "invalid"), "is now");
}

#[test]
fn a_mutation_out_of_order_leaves_its_number_free() {
    let mut replica = live();
    push(&mut replica, 2);
    let mut out_of_order = reject(2, "out_of_order");
    refuse(&mut replica, &out_of_order, "expected");
    out_of_order["expected"] = json!(1);
    accept(&mut replica, [out_of_order]);
    assert_eq!(replica.pushes.next(), 1);
    (1..=2).for_each(|mutation| push(&mut replica, mutation));
    accept(&mut replica, [ack(1), ack(2)]);
}

#[test]
fn a_change_becomes_visible_after_its_ack() {
    let mut replica = live();
    push(&mut replica, 1);
    accept(
        &mut replica,
        [changes("s", &[own("3", 1)]), ack(1), cursor("c2")],
    );
    push(&mut replica, 2);
    accept(&mut replica, [changes("s", &[own("4", 2)])]);
    refuse(&mut replica, &cursor("c3"), "before its ack");
}

#[test]
fn a_rejected_mutation_has_no_effect() {
    let mut replica = live();
    push(&mut replica, 1);
    accept(
        &mut replica,
        [reject(1, "constraint"), changes("s", &[own("3", 1)])],
    );
    refuse(&mut replica, &cursor("c2"), "was rejected");
}

#[test]
fn unanswered_mutations_survive_the_connection() {
    let mut replica = live();
    (1..=3).for_each(|mutation| push(&mut replica, mutation));
    accept(&mut replica, [ack(1)]);
    let saved = replica.save();
    assert_eq!((saved.last_mutation, saved.unanswered.len()), (1, 2));

    let mut again = Replica::restore(&saved, false);
    accept(&mut again, [welcome(2)]);
    assert_eq!(again.pushes.unanswered.keys().collect::<Vec<_>>(), [&3]);
    refuse(
        &mut Replica::restore(&saved, false),
        &welcome(0),
        "was answered before",
    );
}

#[test]
fn unknown_and_misplaced_frames_are_violations() {
    let mut replica = Replica::new(CLIENT, false);
    refuse(&mut replica, &cursor("c1"), "`welcome` comes first");
    accept(&mut replica, [welcome(0)]);
    refuse(&mut replica, &welcome(0), "`welcome` comes first");
    refuse(&mut replica, &json!({ "type": "surprise" }), "unknown type");
    refuse(&mut replica, &json!([]), "not an object");
    let fatal = json!({ "type": "error", "code": "protocol", "message": "no", "fatal": true });
    accept(&mut replica, [fatal]);
    refuse(
        &mut replica,
        &json!({ "type": "pong" }),
        "after a fatal error",
    );
}

#[test]
fn an_error_refuses_its_subscription() {
    let mut replica = replica();
    replica.send(&json!({ "type": "subscribe", "id": 7, "entity": "nothing" }));
    accept(
        &mut replica,
        [
            json!({ "type": "error", "id": 7, "code": "unknown_entity", "message": "no", "fatal": false }),
        ],
    );
    assert_eq!(
        replica.subscriptions[&7.into()].phase(),
        &super::Phase::Refused("unknown_entity".to_owned())
    );
    refuse(&mut replica, &subscribed("a", "s", "c1"), "no subscription");
}
