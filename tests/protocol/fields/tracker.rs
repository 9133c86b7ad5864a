//! The field tracker: fields and their clocks for Rust code in the same process.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rhtmx_sync::{
    Clock, Deletes, EntityConfig, FieldBatch, FieldChange, FieldEdit, FieldMergeStrategy,
    FieldTracker, FieldTrackerError, RefetchReason, RejectCode, Rules,
};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use sync_core::cursor::Epoch;
use testkit::{TestDatabase, both_backends};

use super::{config, connect, serve, stamped, task};
use crate::writes::update;

fn edit(id: u64, field: &str, value: impl Into<Value>) -> FieldEdit {
    FieldEdit {
        entity: "tasks".to_owned(),
        id: id.to_string(),
        field: field.to_owned(),
        value: value.into(),
    }
}

/// What was written elsewhere to the first task, in this second.
fn elsewhere(field: &str, value: impl Into<Value>, second: u64) -> FieldChange {
    FieldChange {
        entity: "tasks".to_owned(),
        id: "1".to_owned(),
        field: field.to_owned(),
        value: value.into(),
        clock: at(second),
        born: Clock::ground(),
    }
}

fn at(second: u64) -> Clock {
    Clock::read(&format!("2026-01-01T00:00:{second:02}.000Z-0000-elsewhere")).expect("a clock")
}

fn named(changes: &[FieldChange]) -> BTreeMap<String, Value> {
    let changes = changes.iter();
    changes
        .map(|change| {
            (
                format!("{} {}", change.id, change.field),
                change.value.clone(),
            )
        })
        .collect()
}

async fn latest(tracker: &FieldTracker, field: &str) -> FieldChange {
    let fields = tracker.latest_fields("tasks", "1").await;
    let fields = fields.expect("fields").expect("a row");
    let mut found = fields.into_iter().filter(|change| change.field == field);
    found.next().expect("the field")
}

/// Batches until one is as it should be.
async fn until(
    receiver: &mut rhtmx_sync::FieldReceiver,
    mut is_last: impl FnMut(&FieldBatch) -> bool,
) -> Vec<FieldBatch> {
    let mut batches = Vec::new();
    loop {
        let batch = receiver.recv().await.expect("a batch");
        let is_end = is_last(&batch);
        batches.push(batch);
        if is_end {
            return batches;
        }
    }
}

both_backends! {
    async fn what_the_server_records_reaches_clients_under_a_clock_above_all_others(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let tracker = server.engine().field_tracker();
        let mut ann = connect(&server, 1).await;
        ann.push_next(json!([stamped(update("tasks", 1, json!({ "title": "ann" })), 1, 5)])).await.acked();
        let first = tracker.record_field_change("tasks", "1", "title", "server").await.expect("a clock");
        ann.wait_until(|client| client.row("t", "1").is_some_and(|row| row["title"] == "server")).await;
        let second = tracker.record_field_change("tasks", "1", "title", "again").await.expect("a clock");
        assert!(second > first);
        assert_eq!(latest(&tracker, "title").await.clock, second);
        // An older edit loses against it, and one of another field lives.
        ann.push_next(json!([stamped(update("tasks", 1, json!({ "title": "older", "due": "monday" })), 1, 9)])).await.acked();
        assert_eq!(task(&db, "title").await.as_deref(), Some("again"));
        assert_eq!(task(&db, "due").await.as_deref(), Some("monday"));
        tracker.record_field_change("tasks", "1", "likes", json!({ "add": 2 })).await.expect("a clock");
        assert_eq!(task(&db, "likes").await.as_deref(), Some("3"));
    }

    async fn a_batch_is_written_whole_or_not_at_all(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let tracker = server.engine().field_tracker();
        let cursor = tracker.latest_cursor().await.expect("a cursor");
        for (wrong, code, write) in [
            (edit(7, "title", "no such row"), RejectCode::NotFound, 1),
            (edit(1, "tilte", "x"), RejectCode::UnknownColumn, 1),
            (edit(1, "likes", "many"), RejectCode::Invalid, 1),
            (edit(1, "id", 2), RejectCode::Invalid, 1),
        ] {
            let batch = vec![edit(1, "title", "half"), wrong.clone()];
            match tracker.record_field_batch(batch).await {
                Err(FieldTrackerError::Rejected(reject)) => {
                    assert_eq!((reject.code, reject.write), (code, Some(write)), "{wrong:?}: {reject:?}");
                }
                other => panic!("{wrong:?}: {other:?}"),
            }
        }
        assert!(matches!(tracker.record_field_batch(Vec::new()).await, Err(FieldTrackerError::Rejected(_))));
        assert_eq!(task(&db, "title").await.as_deref(), Some("a"));
        assert!(tracker.field_changes_since(&cursor).await.expect("a batch").is_empty());
        let clocks = tracker.record_field_batch(vec![edit(1, "title", "b"), edit(1, "due", Value::Null)]).await;
        assert_eq!(clocks.expect("clocks").len(), 2);
        let batch = tracker.field_changes_since(&cursor).await.expect("a batch");
        let expected = [("1 due".to_owned(), Value::Null), ("1 title".to_owned(), json!("b"))];
        assert_eq!(named(&batch.changes), expected.into());
    }

    async fn only_fields_that_changed_are_told_of_a_row_that_was_there_before(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let tracker = server.engine().field_tracker();
        let start = tracker.latest_cursor().await.expect("a cursor");
        db.execute("UPDATE tasks SET title = 'x', due = 'y' WHERE id = 1").await;
        db.execute("UPDATE tasks SET title = 'z' WHERE id = 1").await;
        let batch = tracker.field_changes_since(&start).await.expect("a batch");
        assert_eq!(named(&batch.changes), [("1 due".to_owned(), json!("y")), ("1 title".to_owned(), json!("z"))].into());
        for change in &batch.changes {
            assert_eq!(*change, latest(&tracker, &change.field).await);
            assert!(change.clock > at(0), "{change:?}");
        }
        db.execute("INSERT INTO tasks (id, title) VALUES (2, 'new')").await;
        db.execute("INSERT INTO tasks (id, title) VALUES (3, 'passing')").await;
        db.execute("DELETE FROM tasks WHERE id IN (1, 3)").await;
        let next = tracker.field_changes_since(&batch.cursor).await.expect("a batch");
        let names: Vec<String> = named(&next.changes).into_keys().collect();
        assert_eq!(names, ["2 due", "2 likes", "2 tags", "2 title"]);
        let [gone] = &next.deleted[..] else { panic!("{next:?}") };
        assert!(gone.id == "1" && gone.died.as_ref() > Some(&at(0)), "{gone:?}");
        assert_eq!(tracker.latest_fields("tasks", "1").await.expect("an answer"), None);
        assert!(tracker.field_changes_since(&next.cursor).await.expect("a batch").is_empty());
    }

    async fn what_was_written_elsewhere_is_merged_and_its_conflicts_are_returned(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let tracker = server.engine().field_tracker();
        let merge = async |changes| tracker.merge_field_changes(changes).await.expect("conflicts");
        assert_eq!(merge(vec![elsewhere("title", "later", 9), elsewhere("due", "monday", 5)]).await, []);
        let lost = merge(vec![elsewhere("due", "friday", 7), elsewhere("title", "earlier", 3)]).await;
        let [conflict] = &lost[..] else { panic!("{lost:?}") };
        assert_eq!((conflict.entity.as_str(), conflict.id.as_str(), conflict.conflict.field.as_str()), ("tasks", "1", "title"));
        assert_eq!(conflict.conflict.lost.value, json!("earlier"));
        let kept = conflict.conflict.kept.as_ref().expect("what is kept");
        assert_eq!((&kept.value, &kept.hlc), (&json!("later"), &at(9)));
        assert_eq!(task(&db, "title").await.as_deref(), Some("later"));
        assert_eq!(task(&db, "due").await.as_deref(), Some("friday"));
        assert_eq!(latest(&tracker, "due").await, elsewhere("due", "friday", 7));
        // A clock from the future becomes that of the receipt.
        let future = Clock::read("2999-01-01T00:00:00.000Z-0000-elsewhere").expect("a clock");
        merge(vec![FieldChange { clock: future.clone(), ..elsewhere("title", "future", 0) }]).await;
        let now = latest(&tracker, "title").await;
        assert!(now.value == "future" && now.clock < future && now.clock > at(9), "{now:?}");
    }

    async fn two_servers_that_exchange_their_changes_have_the_same_fields(db: TestDatabase) {
        let other = match db.backend() {
            testkit::Backend::Postgres => TestDatabase::postgres().await,
            testkit::Backend::Sqlite => TestDatabase::sqlite().await,
        };
        let servers = [serve(&db, Deletes::Win).await, serve(&other, Deletes::Win).await];
        let trackers = servers.each_ref().map(|server| server.engine().field_tracker());
        let starts = [trackers[0].latest_cursor().await.expect("a cursor"), trackers[1].latest_cursor().await.expect("a cursor")];
        trackers[0].record_field_change("tasks", "1", "title", "of the first").await.expect("a clock");
        trackers[1].record_field_change("tasks", "1", "due", "of the second").await.expect("a clock");
        trackers[1].record_field_change("tasks", "1", "title", "of both").await.expect("a clock");
        let batches = [
            trackers[0].field_changes_since(&starts[0]).await.expect("a batch"),
            trackers[1].field_changes_since(&starts[1]).await.expect("a batch"),
        ];
        trackers[0].merge_field_changes(batches[1].changes.clone()).await.expect("conflicts");
        trackers[1].merge_field_changes(batches[0].changes.clone()).await.expect("conflicts");
        let first = trackers[0].latest_fields("tasks", "1").await.expect("fields");
        assert_eq!(first, trackers[1].latest_fields("tasks", "1").await.expect("fields"));
        assert_eq!(task(&other, "title").await.as_deref(), Some("of both"));
        assert_eq!(task(&db, "due").await.as_deref(), Some("of the second"));
    }

    async fn a_receiver_has_every_change_of_fields_and_no_other(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let mut config = config(&db, Deletes::Win).await;
        config.entities.push(EntityConfig::new("notes"));
        let server = TestServer::with_config(config).await;
        let tracker = server.engine().field_tracker();
        let mut receiver = tracker.subscribe().await.expect("a receiver");
        let before = receiver.cursor().clone();
        db.execute("INSERT INTO notes VALUES (1, 'of whole rows')").await;
        let edits = (0..20).map(|number| tracker.record_field_change("tasks", "1", "due", number.to_string()));
        assert!(join_all(edits).await.iter().all(Result::is_ok));
        tracker.record_field_change("tasks", "1", "title", "last").await.expect("a clock");
        let batches = until(&mut receiver, |batch| batch.changes.iter().any(|change| change.value == "last")).await;
        assert!(batches.iter().flat_map(|batch| &batch.changes).all(|change| change.entity == "tasks"));
        let dues: Vec<&FieldChange> = batches.iter().flat_map(|batch| &batch.changes).filter(|change| change.field == "due").collect();
        assert!(dues.windows(2).all(|pair| pair[0].clock < pair[1].clock), "{dues:?}");
        assert_eq!(*dues[dues.len() - 1], latest(&tracker, "due").await);
        // One that begins where the first began has the same.
        let mut again = tracker.subscribe_since(before);
        let batches = until(&mut again, |batch| batch.changes.iter().any(|change| change.value == "last")).await;
        assert_eq!(batches.iter().flat_map(|batch| &batch.changes).count(), 2);
        server.engine().shutdown().await;
        assert!(matches!(receiver.recv().await, Err(FieldTrackerError::Closed)));
    }

    async fn a_reset_receiver_is_told_to_read_again(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let tracker = server.engine().field_tracker();
        let mut receiver = tracker.subscribe().await.expect("a receiver");
        db.execute("ALTER TABLE tasks ADD COLUMN note text").await;
        let batches = until(&mut receiver, |batch| !batch.schema_changed.is_empty()).await;
        assert_eq!(batches[batches.len() - 1].schema_changed, ["tasks"]);
        let mut cursor = receiver.cursor().clone();
        cursor.epoch = Epoch::new("another");
        let refused = tracker.field_changes_since(&cursor).await;
        assert!(matches!(refused, Err(FieldTrackerError::Refetch(RefetchReason::Epoch))), "{refused:?}");
    }

    async fn only_entities_with_fields_and_their_keys_are_known(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        db.execute("CREATE TABLE parts (a integer, b text, n text, PRIMARY KEY (a, b))").await;
        db.execute("INSERT INTO parts VALUES (1, 'x\"y', 'found')").await;
        let mut config = config(&db, Deletes::Win).await;
        let parts = Rules { strategy: FieldMergeStrategy::KeepBoth, ..Rules::default() };
        config.entities.push(EntityConfig::new("parts").fields(parts));
        config.entities.push(EntityConfig::new("notes"));
        let server = TestServer::with_config(config).await;
        let tracker = server.engine().field_tracker();
        for entity in ["notes", "nothing"] {
            let read = tracker.latest_fields(entity, "1").await;
            assert!(matches!(read, Err(FieldTrackerError::NotFields(_))), "{read:?}");
            let written = tracker.record_field_change(entity, "1", "body", "x").await;
            assert!(matches!(written, Err(FieldTrackerError::NotFields(_))), "{written:?}");
        }
        for (entity, id) in [("tasks", "one"), ("parts", "1"), ("parts", "[1]")] {
            let read = tracker.latest_fields(entity, id).await;
            assert!(matches!(read, Err(FieldTrackerError::NotAKey { .. })), "{entity} {id}: {read:?}");
        }
        let found = tracker.latest_fields("parts", r#"[1,"x\"y"]"#).await.expect("fields").expect("a row");
        assert_eq!(named(&found), [(r#"[1,"x\"y"] n"#.to_owned(), json!("found"))].into());
        assert_eq!(tracker.latest_fields("tasks", "99").await.expect("an answer"), None);
    }
}
