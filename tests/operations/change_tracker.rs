//! The change tracker: the log for Rust code in the same process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use rhtmx_sync::{
    Change, ChangeBatch, ChangeKind, ChangeReceiver, ChangeTracker, EntityConfig, ReceiveError,
    RefetchReason, TrackerError,
};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use sync_core::cursor::{Cursor, Epoch};
use testkit::{ClientOptions, SyncClient, TestDatabase, both_backends};

use crate::writers::{NOTES, insert};

/// A server with the entity `presence`, which has no table, and `notes`, which has one.
async fn start(db: &TestDatabase) -> (TestServer, ChangeTracker) {
    db.execute(NOTES).await;
    let entities = [
        EntityConfig::without_table("presence"),
        EntityConfig::new("notes"),
    ];
    let server = TestServer::start(db, entities).await;
    let tracker = server.engine().change_tracker();
    (server, tracker)
}

async fn subscriber(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    client.subscribe("presence", "presence").await;
    client.wait_subscribed("presence").await;
    client
}

async fn put(tracker: &ChangeTracker, key: &str, row: Value) -> Cursor {
    let recorded = tracker
        .record_change("presence", Some(key), ChangeKind::Update, Some(&row))
        .await;
    recorded.expect("a change")
}

/// A copy of rows that applies batches.
#[derive(Default)]
struct Copy {
    rows: BTreeMap<String, Value>,
    puts: BTreeMap<String, u32>,
    cursor: Option<Cursor>,
    batches: u32,
}

impl Copy {
    fn take(&mut self, batch: &ChangeBatch) {
        assert!(batch.schema_changed.is_empty(), "{batch:?}");
        for tracked in &batch.changes {
            match &tracked.change {
                Change::Put { key, row, .. } => {
                    let row = serde_json::from_str(row.get()).expect("JSON");
                    self.rows.insert(key.clone(), row);
                    *self.puts.entry(key.clone()).or_default() += 1;
                }
                Change::Delete { key, .. } => drop(self.rows.remove(key)),
                Change::Truncate => self.rows.clear(),
                Change::Patch { .. } | Change::Leave { .. } => panic!("{tracked:?}"),
            }
        }
        self.cursor = batch.cursor.clone().or(self.cursor.take());
        self.batches += 1;
    }

    async fn follow(&mut self, receiver: &mut ChangeReceiver, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            let received = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await;
            self.take(
                &received
                    .expect("no batch comes")
                    .expect("the receiver keeps up"),
            );
        }
    }
}

fn refetch<T: std::fmt::Debug>(result: Result<T, TrackerError>) -> RefetchReason {
    match result {
        Err(TrackerError::Refetch(reason)) => reason,
        other => panic!("no refetch: {other:?}"),
    }
}

both_backends! {
    /// The rows of an entity without a table are those recorded last.
    async fn subscribers_receive_recorded_changes(db: TestDatabase) {
        let (server, tracker) = start(&db).await;
        let mut early = subscriber(&server).await;
        assert!(early.rows("presence").is_empty());

        put(&tracker, "anna", json!({ "at": "desk", "since": 1 })).await;
        put(&tracker, "ben", json!({ "room": [1, 2] })).await;
        put(&tracker, "anna", json!({ "at": "lunch" })).await;
        early.wait_until(|client| client.rows("presence").len() == 2).await;
        early.wait_until(|client| client.row("presence", "anna") == Some(&json!({ "at": "lunch" }))).await;
        let mut late = subscriber(&server).await;
        assert_eq!(late.rows("presence"), early.rows("presence"));

        let deleted = tracker.record_change("presence", Some("ben"), ChangeKind::Delete, None).await;
        deleted.expect("a change");
        for client in [&mut early, &mut late] {
            client.wait_until(|client| client.row("presence", "ben").is_none()).await;
            assert_eq!(client.rows("presence").len(), 1);
        }
        tracker.record_change("presence", None, ChangeKind::Truncate, None).await.expect("a change");
        put(&tracker, "carl", json!({})).await;
        for client in [&mut early, &mut late] {
            client.wait_until(|client| client.row("presence", "carl").is_some()).await;
            assert_eq!(client.rows("presence").len(), 1);
            assert_eq!(client.frames("refetch"), 0);
        }
        let last = subscriber(&server).await;
        assert_eq!(last.rows("presence"), early.rows("presence"));
    }

    /// Early and late subscribers agree on which record was last.
    async fn concurrent_records_end_the_same_for_all(db: TestDatabase) {
        let (server, tracker) = start(&db).await;
        let mut early = subscriber(&server).await;
        for row in 0..100 {
            let key = format!("row {row}");
            join_all((0..6).map(|writer| put(&tracker, &key, json!({ "writer": writer })))).await;
        }
        put(&tracker, "end", json!({})).await;
        early.wait_until(|client| client.row("presence", "end").is_some()).await;
        let late = subscriber(&server).await;
        assert_eq!(early.rows("presence"), late.rows("presence"));
    }

    async fn clients_cannot_write_an_entity_without_a_table(db: TestDatabase) {
        let (server, _) = start(&db).await;
        let mut client = server.connect().await;
        let write = json!({ "entity": "presence", "op": "create", "key": "a", "values": { "at": 1 } });
        let outcome = client.push_next(json!([write])).await;
        assert_eq!(outcome.rejected().code, "forbidden");
    }

    async fn invalid_records_are_errors(db: TestDatabase) {
        let (_server, tracker) = start(&db).await;
        let row = json!({});
        for entity in ["notes", "nowhere"] {
            let recorded = tracker.record_change(entity, Some("1"), ChangeKind::Create, Some(&row)).await;
            assert!(matches!(recorded, Err(TrackerError::NotALogEntity(_))), "{recorded:?}");
        }
        let incomplete = [
            (Some("1"), ChangeKind::Create, None),
            (None, ChangeKind::Update, Some(&row)),
            (None, ChangeKind::Delete, None),
            (Some("1"), ChangeKind::Delete, Some(&row)),
            (Some("1"), ChangeKind::Truncate, None),
            (None, ChangeKind::SchemaChange, None),
        ];
        for (key, action, data) in incomplete {
            let recorded = tracker.record_change("presence", key, action, data).await;
            assert!(matches!(recorded, Err(TrackerError::Incomplete)), "{action:?}: {recorded:?}");
        }
    }

    /// Each batch continues where the previous one ended, whichever program wrote.
    async fn changes_since_continue_from_their_cursor(db: TestDatabase) {
        let (_server, tracker) = start(&db).await;
        let begin = tracker.latest_cursor().await.expect("a cursor");
        db.execute(&insert([1, 2])).await;
        let recorded = put(&tracker, "anna", json!({ "at": 1 })).await;
        let mut copy = Copy::default();
        copy.take(&tracker.changes_since(&begin).await.expect("changes"));
        let keys = |copy: &Copy| copy.rows.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&copy), ["1", "2", "anna"]);
        // The cursor of a recorded change contains it.
        assert!(tracker.changes_since(&recorded).await.expect("changes").changes.is_empty());

        let middle = copy.cursor.clone().expect("a cursor");
        db.execute("DELETE FROM notes WHERE id = 1").await;
        db.execute("INSERT INTO notes VALUES (3, 'three'); DELETE FROM notes WHERE id = 3").await;
        db.execute("UPDATE notes SET body = 'changed' WHERE id = 2").await;
        let batch = tracker.changes_since(&middle).await.expect("changes");
        assert_eq!(batch.changes.len(), 2, "a transient row is not sent: {batch:?}");
        copy.take(&batch);
        assert_eq!(keys(&copy), ["2", "anna"]);
        assert_eq!(copy.rows["2"]["body"], "changed");
        let latest = tracker.latest_cursor().await.expect("a cursor");
        assert!(tracker.changes_since(&latest).await.expect("changes").changes.is_empty());
        // A cursor survives as text.
        let text = middle.to_string().parse::<Cursor>().expect("a cursor");
        assert_eq!(tracker.changes_since(&text).await.expect("changes").changes.len(), 2);
    }

    async fn a_cursor_of_another_epoch_must_refetch(db: TestDatabase) {
        let (_server, tracker) = start(&db).await;
        let here = tracker.latest_cursor().await.expect("a cursor");
        let elsewhere = Cursor { epoch: Epoch::new("elsewhere"), position: here.position.clone() };
        assert_eq!(refetch(tracker.changes_since(&elsewhere).await), RefetchReason::Epoch);
        let future = match here.position.to_string().as_bytes()[0] {
            b'p' => "p9000000000:9000000000:",
            _ => "s9000000000",
        };
        let future = Cursor { position: future.parse().expect("a position"), ..here };
        assert_eq!(refetch(tracker.changes_since(&future).await), RefetchReason::Epoch);
    }

    /// A receiver that is too slow receives `Lagged`, and catches up.
    async fn receivers_receive_all_changes_in_order(db: TestDatabase) {
        let (_server, tracker) = start(&db).await;
        let begin = tracker.latest_cursor().await.expect("a cursor");
        let (mut quick, mut slow) = (tracker.subscribe(), tracker.subscribe());
        let mut copy = Copy::default();
        // Records changes one by one until a receiver that does not read has lagged.
        let mut number = 0;
        while copy.batches < 1100 {
            put(&tracker, "counter", json!({ "number": number })).await;
            put(&tracker, &format!("row {number}"), json!({})).await;
            let key = format!("row {number}");
            copy.follow(&mut quick, |copy| copy.rows.contains_key(&key)).await;
            assert_eq!(copy.rows["counter"]["number"], number);
            number += 1;
        }
        assert!((0..number).all(|number| copy.puts[&format!("row {number}")] == 1));

        let lagged = slow.recv().await;
        assert!(matches!(lagged, Err(ReceiveError::Lagged(_))), "{lagged:?}");
        let mut late = Copy::default();
        late.take(&tracker.changes_since(&begin).await.expect("changes"));
        assert_eq!(late.rows, copy.rows);
        // From there it continues with later changes.
        put(&tracker, "last", json!({})).await;
        late.follow(&mut slow, |copy| copy.rows.contains_key("last")).await;
        copy.follow(&mut quick, |copy| copy.rows.contains_key("last")).await;
        assert_eq!(late.rows, copy.rows);
        assert!(late.puts.values().all(|puts| *puts == 1), "{:?}", late.puts);
    }

    async fn receivers_end_with_the_engine(db: TestDatabase) {
        let (server, tracker) = start(&db).await;
        let mut receiver = tracker.subscribe();
        server.shutdown().await;
        drop(tracker);
        let ended = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await;
        let ended = ended.expect("the receiver ends").expect_err("nothing was written");
        assert_eq!(ended, ReceiveError::Closed);
    }

    /// A cursor from before the cleanup must refetch.
    async fn a_cleanup_moves_the_floor(db: TestDatabase) {
        let (server, tracker) = start(&db).await;
        let begin = tracker.latest_cursor().await.expect("a cursor");
        let mut client = server.connect().await;
        client.subscribe("notes", "notes").await;
        client.wait_subscribed("notes").await;
        let away = client.state();
        db.execute(&insert(1..=20)).await;
        client.wait_until(|client| client.rows("notes").len() == 20).await;
        let hour = Duration::from_secs(3600);
        assert_eq!(tracker.cleanup_older_than(hour).await.expect("nothing is that old"), 0);
        assert_eq!(tracker.changes_since(&begin).await.expect("changes").changes.len(), 20);

        let gone = tracker.cleanup_older_than(Duration::ZERO).await.expect("a clean log");
        assert!(gone >= 20, "{gone}");
        assert_eq!(refetch(tracker.changes_since(&begin).await), RefetchReason::Expired);
        let url = server.ws_url();
        let mut resumed = SyncClient::reconnect(&url, ClientOptions::default(), &away).await;
        resumed.wait_subscribed("notes").await;
        assert_eq!(resumed.frames("refetch"), 1);
        assert_eq!(resumed.rows("notes").len(), 20);

        // A client that stayed connected is not affected.
        db.execute(&insert([21])).await;
        client.wait_until(|client| client.row("notes", "21").is_some()).await;
        assert_eq!(client.frames("refetch"), 0);
        let here = tracker.latest_cursor().await.expect("a cursor");
        assert!(tracker.changes_since(&here).await.expect("changes").changes.is_empty());
        let keys: BTreeSet<&String> = client.rows("notes").keys().collect();
        assert_eq!(keys.len(), 21);
    }
}
