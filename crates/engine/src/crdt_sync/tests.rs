//! Both protocols without a socket: what comes in, what goes out.

use std::sync::Arc;

use db::crdt_node::CrdtNode;
use merge::{Clock, NodeId};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::{Ack, ClientFrame, RejectCode, Rejected, ServerFrame, Step};
use serde_json::{Value, json};
use value::schema::{Collation, Column, ColumnKind, Schema};

use super::dialect::{Beginning, Dialect, End};
use super::frames::{Opening, read_changeset};
use super::progress::Progress;
use super::pushes::{Pushes, SETTLED_AFTER_MS};
use super::tables::{Table, Tables};

/// The time of the tests: the moment of their clocks.
const NOW_MS: u64 = 1_767_225_600_000;

fn column(name: &str, kind: ColumnKind, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        type_name: String::new(),
        nullable,
        has_default: false,
        generated: false,
        collation: Collation::Bytes,
        logged: true,
    }
}

fn tables() -> Tables {
    let text = ColumnKind::Text { chars_max: None };
    let int = ColumnKind::Int {
        min: i64::MIN,
        max: i64::MAX,
    };
    let table = |name: &str, columns: Vec<Column>| Table {
        schema: Arc::new(Schema {
            entity: name.to_owned(),
            columns,
            key: vec![0],
        }),
        is_guarded: false,
    };
    let lists = vec![
        column("id", int.clone(), false),
        column("name", text.clone(), true),
    ];
    let todos = vec![
        column("id", int, false),
        column("title", text, false),
        column("done", ColumnKind::Bool, true),
        column("tags", ColumnKind::Json, true),
    ];
    Tables::new(vec![table("lists", lists), table("todos", todos)], false)
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a node")
}

fn hlc(millis: u64) -> String {
    Clock::new(NOW_MS - 100_000 + millis, 0, &node("ann")).to_string()
}

fn dialect(since: Option<&str>, is_empty: bool) -> Dialect {
    let beginning = Beginning {
        node: node("ann"),
        database: node("database"),
        since: since.map(str::to_owned),
        is_empty,
    };
    let pushes = Pushes::new(4, None, 1000, NOW_MS);
    Dialect::new(
        tables(),
        beginning,
        pushes,
        Progress::new(&CrdtNode::default()),
    )
}

fn frame(json: Value) -> ServerFrame {
    ServerFrame::parse(&json.to_string()).expect("a frame")
}

fn subscribed(index: u8) -> ServerFrame {
    frame(
        json!({"type": "subscribed", "id": index, "shape": format!("shape {index}"), "cursor": format!("c{index}"),
        "schema": {"key": ["id"], "columns": {}}}),
    )
}

#[test]
fn a_node_of_tables_that_rest_is_asked_for_what_has_arrived() {
    let reached = |dialect: &mut Dialect| {
        let is_asked = dialect.takes_ping();
        dialect.progress.answered();
        let known = dialect.progress.known(None);
        (is_asked, known.reached)
    };
    let mut first = dialect(None, true);
    first.sent(subscribed(0), NOW_MS).expect("it goes on");
    first.sent(subscribed(1), NOW_MS).expect("it goes on");
    assert_eq!(reached(&mut first), (false, None), "rows may be gone");
    first.tombstones_done();
    // The other table has been read later.
    assert_eq!(reached(&mut first), (true, Some("c0".to_owned())));
    let mut resumed = dialect(Some("c0"), false);
    resumed.sent(subscribed(0), NOW_MS).expect("it goes on");
    assert_eq!(reached(&mut resumed), (false, None), "a table is missing");
    let denied = frame(
        json!({"type": "error", "id": 1, "code": "forbidden", "message": "no", "fatal": false}),
    );
    resumed.sent(denied, NOW_MS).expect("it goes on");
    assert_eq!(reached(&mut resumed), (true, Some("c0".to_owned())));
}

/// The next frame for the session: its mutation, with the entities and operations of its writes.
fn push(dialect: &mut Dialect) -> Option<(u64, Vec<Value>)> {
    let text = dialect.next_for_session(NOW_MS)?;
    let Ok(ClientFrame::Push(push)) = ClientFrame::parse(&text) else {
        panic!("{text} is no push");
    };
    let writes = push.writes.iter().filter_map(Step::as_write);
    let writes = writes.map(|write| serde_json::to_value(write).expect("JSON"));
    Some((push.mutation, writes.collect()))
}

fn ack(dialect: &mut Dialect, mutation: u64) {
    let ack = ServerFrame::Ack(Ack {
        mutation,
        stamps: Vec::new(),
    });
    dialect.sent(ack, NOW_MS).expect("it goes on");
}

fn reject(dialect: &mut Dialect, mutation: u64, code: RejectCode, write: Option<usize>) {
    let reject = protocol::Reject::new(code, "no");
    let reject = match write {
        Some(write) => reject.of_write(write),
        None => reject,
    };
    let rejected = ServerFrame::Reject(Rejected { mutation, reject });
    dialect.sent(rejected, NOW_MS).expect("it goes on");
}

fn todo(id: u64) -> Value {
    json!({"id": id, "title": "t", "done": 1, "tags": "[1]", "hlc": hlc(id), "node_id": "ann", "modified": hlc(id), "is_deleted": 0})
}

fn for_node(dialect: &mut Dialect) -> Vec<Value> {
    let texts = std::iter::from_fn(|| dialect.next_for_node());
    texts
        .map(|text| serde_json::from_str(&text).expect("JSON"))
        .collect()
}

/// A dialect that has subscribed to everything.
fn live(is_empty: bool) -> Dialect {
    let mut dialect = dialect(None, is_empty);
    for index in 0..2 {
        assert!(
            dialect
                .next_for_session(NOW_MS)
                .is_some_and(|text| text.contains("subscribe"))
        );
        assert!(dialect.tombstones_due().is_none());
        dialect.sent(subscribed(index), NOW_MS).expect("it goes on");
    }
    assert_eq!(dialect.tombstones_due().map(|tables| tables.len()), Some(2));
    dialect.tombstones_done();
    assert!(dialect.next_for_session(NOW_MS).is_none());
    dialect
}

#[test]
fn an_opening_is_read_as_the_family_writes_it() {
    let opening = Opening::read(
        r#"{"node_id":"n1","last_modified":"1970-01-01T00:00:00.000Z-0000-n1","data":{"token":"t","x":1},"y":2}"#,
    );
    let opening = opening.expect("an opening");
    assert_eq!(
        (opening.node.as_str(), opening.token.as_deref()),
        ("n1", Some("t"))
    );
    assert_eq!(opening.last_modified.millis(), 0);
    assert_eq!(
        super::frames::opening(&node("srv"), &Clock::new(0, 0, &node("srv"))),
        r#"{"data":null,"last_modified":"1970-01-01T00:00:00.000Z-0000-srv","node_id":"srv"}"#
    );
}

#[test]
fn rows_go_out_as_records_and_in_as_writes() {
    let mut dialect = live(false);
    let newest = "2026-01-01T00:00:00.000Z-1EEA-ben";
    let shown = "2026-01-01T00:00:00.000123Z-002A-ben";
    let row = json!({"id": 1, "title": "t", "done": true, "tags": [1, {"a": 2}]});
    let changes = json!({"type": "changes", "shape": "shape 1", "changes": [{"op": "put", "key": "1", "row": row, "newest": newest}]});
    dialect.sent(frame(changes), NOW_MS).expect("it goes on");
    assert!(
        for_node(&mut dialect).is_empty(),
        "it is held for the end of the transaction"
    );
    dialect
        .sent(frame(json!({"type": "cursor", "cursor": "d"})), NOW_MS)
        .expect("it goes on");
    assert_eq!(
        for_node(&mut dialect),
        [
            json!({"todos": [{"id": 1, "title": "t", "done": 1, "tags": "[1,{\"a\":2}]",
        "is_deleted": 0, "hlc": shown, "node_id": "ben", "modified": shown}]})
        ]
    );
    dialect
        .received(
            &json!({"todos": [todo(1)], "others": [{"x": 1}]}).to_string(),
            NOW_MS,
        )
        .expect("a changeset");
    let (mutation, writes) = push(&mut dialect).expect("a push");
    assert_eq!(mutation, 5, "it goes on behind the last one");
    assert_eq!(
        writes,
        [
            json!({"entity": "todos", "op": "upsert", "hlc": "2025-12-31T23:58:20.001Z-FA00-ann",
        "values": {"id": 1, "title": "t", "done": true, "tags": [1]}})
        ]
    );
}

#[test]
fn a_tombstone_has_what_a_table_must_have_and_is_alone() {
    let mut dialect = live(false);
    let died = "2026-01-01T00:00:00.000Z-0000-ben";
    let shown = "2026-01-01T00:00:00.000000Z-0000-ben";
    for shape in ["shape 1", "shape 0"] {
        let deletes = ["1", "2"].map(|key| json!({"op": "delete", "key": key, "hlc": died}));
        let changes = json!({"type": "changes", "shape": shape, "changes": deletes});
        dialect.sent(frame(changes), NOW_MS).expect("it goes on");
    }
    dialect
        .sent(frame(json!({"type": "cursor", "cursor": "d"})), NOW_MS)
        .expect("it goes on");
    let of = |id: u8, more: Value| {
        let mut record =
            json!({"id": id, "is_deleted": 1, "hlc": shown, "node_id": "ben", "modified": shown});
        let record_of = record.as_object_mut().expect("an object");
        record_of.extend(more.as_object().expect("an object").clone());
        record
    };
    let title = || json!({"title": ""});
    assert_eq!(
        for_node(&mut dialect),
        [
            json!({"lists": [of(1, json!({})), of(2, json!({}))]}),
            json!({"todos": [of(1, title())]}),
            json!({"todos": [of(2, title())]}),
        ]
    );
}

#[test]
fn a_node_is_not_sent_its_own_rows_unless_it_has_lost_them() {
    for (is_empty, expected) in [(false, 0), (true, 1)] {
        let mut dialect = dialect(None, is_empty);
        let snapshot = json!({"type": "snapshot", "id": 0, "more": false, "rows": [{"key": "1", "row": {"id": 1, "name": "n"}, "newest": hlc(5)}]});
        dialect.sent(frame(snapshot), NOW_MS).expect("it goes on");
        let frames = for_node(&mut dialect);
        assert_eq!(frames.len(), expected);
        for frame in frames {
            assert_eq!(frame["lists"][0]["node_id"], "database");
        }
        let mut live = live(is_empty);
        let changes = json!({"type": "changes", "shape": "shape 0", "changes": [{"op": "put", "key": "1", "row": {"id": 1}, "newest": hlc(5)}]});
        live.sent(frame(changes), NOW_MS).expect("it goes on");
        live.sent(frame(json!({"type": "cursor", "cursor": "d"})), NOW_MS)
            .expect("it goes on");
        assert!(for_node(&mut live).is_empty());
    }
}

#[test]
fn what_is_refused_holds_up_nothing_but_itself() {
    let mut dialect = live(false);
    let records: Vec<Value> = (1..=4).map(todo).collect();
    dialect
        .received(&json!({"todos": records}).to_string(), NOW_MS)
        .expect("a changeset");
    let ids = |writes: &[Value]| -> Vec<u64> {
        writes
            .iter()
            .filter_map(|write| write["values"]["id"].as_u64())
            .collect()
    };
    let (first, writes) = push(&mut dialect).expect("a push");
    assert_eq!(ids(&writes), [1, 2, 3, 4]);
    assert!(push(&mut dialect).is_none(), "one at a time");
    // Another has used the number.
    reject(&mut dialect, first, RejectCode::Forked, None);
    let (second, writes) = push(&mut dialect).expect("a push");
    assert_eq!((second, ids(&writes)), (first + 1, vec![1, 2, 3, 4]));
    reject(&mut dialect, second, RejectCode::Constraint, Some(1));
    let (third, writes) = push(&mut dialect).expect("a push");
    assert_eq!(ids(&writes), [1, 3, 4]);
    // Nobody knows which: each goes alone.
    reject(&mut dialect, third, RejectCode::Forbidden, None);
    for (id, is_taken) in [(1, true), (3, false), (4, true)] {
        let (number, writes) = push(&mut dialect).expect("a push");
        assert_eq!(ids(&writes), [id]);
        match is_taken {
            true => ack(&mut dialect, number),
            false => reject(&mut dialect, number, RejectCode::Forbidden, Some(0)),
        }
    }
    // What a constraint was against is tried again after what has been taken, and then no more.
    let (number, writes) = push(&mut dialect).expect("a push");
    assert_eq!(ids(&writes), [2]);
    assert!(dialect.pushes.taken(NOW_MS).is_none());
    reject(&mut dialect, number, RejectCode::Constraint, Some(0));
    assert!(push(&mut dialect).is_none());
    assert!(dialect.pushes.taken(NOW_MS).is_none(), "it must come again");
}

#[test]
fn the_clock_up_to_which_all_is_taken_never_passes_what_has_yet_to_come() {
    let taken = |dialect: &Dialect, now_ms: u64| dialect.pushes.taken(now_ms).map(Clock::to_string);
    let send = |dialect: &mut Dialect, ids: &[u64]| {
        let records: Vec<Value> = ids.iter().copied().map(todo).collect();
        dialect
            .received(&json!({"todos": records}).to_string(), NOW_MS)
            .expect("a changeset");
        while let Some((number, _)) = push(dialect) {
            ack(dialect, number);
        }
    };
    // One row: it may be a new one, before the older ones.
    let mut dialect = live(false);
    send(&mut dialect, &[9]);
    assert_eq!(taken(&dialect, NOW_MS + SETTLED_AFTER_MS - 1), None);
    assert_eq!(taken(&dialect, NOW_MS + SETTLED_AFTER_MS), Some(hlc(9)));
    // Then the older ones, or several at once.
    send(&mut dialect, &[5]);
    assert_eq!(taken(&dialect, NOW_MS), Some(hlc(9)));
    let mut dialect = live(false);
    send(&mut dialect, &[5, 6]);
    assert_eq!(taken(&dialect, NOW_MS), Some(hlc(6)));
    send(&mut dialect, &[8]);
    assert_eq!(taken(&dialect, NOW_MS), Some(hlc(8)));
    // One whose time has not come, and comes.
    let early = json!({"todos": [{"id": 1, "title": "t", "hlc": Clock::new(NOW_MS + 70_000, 0, &node("ann")).as_str()}]});
    dialect
        .received(&early.to_string(), NOW_MS)
        .expect("a changeset");
    assert!(push(&mut dialect).is_none());
    assert_eq!(dialect.pushes.due_ms(), Some(NOW_MS + 10_000));
    assert_eq!(taken(&dialect, NOW_MS), None);
    assert!(dialect.pushes.next(NOW_MS + 10_000).is_some());
}

#[test]
fn a_table_that_one_may_not_read_is_passed_over_and_a_refetch_begins_again() {
    let mut dialect = dialect(Some("c"), false);
    assert!(
        dialect
            .next_for_session(NOW_MS)
            .is_some_and(|text| text.contains(r#""cursor":"c""#))
    );
    let forbidden = json!({"type": "error", "id": 0, "code": "unknown_entity", "message": "no", "fatal": false});
    dialect.sent(frame(forbidden), NOW_MS).expect("it goes on");
    assert!(
        dialect
            .next_for_session(NOW_MS)
            .is_some_and(|text| text.contains("todos"))
    );
    assert!(
        dialect.tombstones_due().is_none(),
        "it goes on from a cursor"
    );
    let refetch = json!({"type": "refetch", "id": 1, "reason": "expired"});
    assert_eq!(dialect.sent(frame(refetch), NOW_MS), Err(End::Refetch));
}

/// JSON of any form, with the names that mean something.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("hlc".to_owned()),
        Just(hlc(1)),
        Just("todos".to_owned()),
        Just("id".to_owned()),
        Just("is_deleted".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((text.clone(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_that_a_node_sends_is_more_than_refused(text in ".{0,60}", json in any_json()) {
        for text in [text, json.to_string(), json!({"todos": json}).to_string(), json!({"todos": [json]}).to_string()] {
            let _ = Opening::read(&text);
            let _ = read_changeset(&text, &tables(), &node("ann"));
            let mut dialect = live(false);
            let _ = dialect.received(&text, NOW_MS);
            if let Some(text) = dialect.next_for_session(NOW_MS) {
                prop_assert!(ClientFrame::parse(&text).is_ok(), "{}", text);
            }
        }
    }
}
