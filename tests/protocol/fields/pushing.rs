//! What pushes make of rows that merge by their fields.

use futures_util::future::join_all;
use rhtmx_sync::Deletes;
use serde_json::{Value, json};
use testkit::{TestDatabase, both_backends, eventually};

use super::{connect, serve, stamped, task};
use crate::writes::{create, delete, update, upsert};

fn edit(values: Value, number: u8, second: u64) -> Value {
    json!([stamped(update("tasks", 1, values), number, second)])
}

async fn is(db: &TestDatabase, column: &str, expected: Option<&str>) {
    assert_eq!(task(db, column).await.as_deref(), expected, "{column}");
}

both_backends! {
    async fn edits_of_different_fields_both_live_whatever_comes_first(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        ben.push_next(edit(json!({ "due": "monday" }), 2, 9)).await.acked();
        ann.push_next(edit(json!({ "title": "milk" }), 1, 5)).await.acked();
        is(&db, "title", Some("milk")).await;
        is(&db, "due", Some("monday")).await;
        for client in [&mut ann, &mut ben] {
            client.wait_until(|client| client.row("t", "1").is_some_and(|row| row["title"] == "milk" && row["due"] == "monday")).await;
        }
    }

    async fn of_one_field_the_later_edit_stays_however_late_the_earlier_comes(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        ann.push_next(edit(json!({ "title": "later" }), 1, 9)).await.acked();
        ben.push_next(edit(json!({ "title": "earlier", "due": "monday" }), 2, 5)).await.acked();
        is(&db, "title", Some("later")).await;
        is(&db, "due", Some("monday")).await;
        // Nor does what has lost disturb what comes next.
        ben.push_next(edit(json!({ "title": "last" }), 2, 10)).await.acked();
        is(&db, "title", Some("last")).await;
    }

    async fn what_a_program_writes_is_not_undone_by_an_older_edit(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let mut ann = connect(&server, 1).await;
        ann.push_next(edit(json!({ "title": "first" }), 1, 5)).await.acked();
        db.execute("UPDATE tasks SET title = 'program', likes = likes + 1 WHERE id = 1").await;
        ann.push_next(edit(json!({ "title": "older", "due": "monday", "likes": { "add": 1 } }), 1, 9)).await.acked();
        is(&db, "title", Some("program")).await;
        is(&db, "due", Some("monday")).await;
        is(&db, "likes", Some("3")).await;
        db.execute("DELETE FROM tasks WHERE id = 1").await;
        ann.push_next(edit(json!({ "title": "too late" }), 1, 10)).await.acked();
        is(&db, "id", None).await;
        // A row of the same key that a program makes is another one.
        db.execute("INSERT INTO tasks (id, title) VALUES (1, 'again')").await;
        ann.push_next(edit(json!({ "title": "of the first" }), 1, 11)).await.acked();
        is(&db, "title", Some("again")).await;
    }

    /// A trigger's change is its own: it is stamped, while what the push wrote keeps the push's clock.
    async fn what_a_trigger_changes_beside_a_push_is_stamped_as_the_triggers(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let touch = match db.backend() {
            testkit::Backend::Postgres => "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS                 $$ BEGIN NEW.due := 'touched'; RETURN NEW; END $$;                 CREATE TRIGGER touch BEFORE UPDATE OF title ON tasks FOR EACH ROW EXECUTE FUNCTION touch()",
            testkit::Backend::Sqlite => "CREATE TRIGGER touch AFTER UPDATE OF title ON tasks BEGIN \
                UPDATE tasks SET due = 'touched' WHERE id = NEW.id; END",
        };
        db.execute(touch).await;
        let mut ann = connect(&server, 1).await;
        ann.push_next(edit(json!({ "title": "x" }), 1, 5)).await.acked();
        is(&db, "due", Some("touched")).await;
        let entry = db.query_text("SELECT CAST(metadata AS text) FROM _rhtmx_sync_field").await.remove(0).expect("an entry");
        let entry: Value = serde_json::from_str(&entry).expect("JSON");
        assert_eq!(entry["fields"]["title"], "2026-01-01T00:00:05.000Z-0000-00000001", "{entry}");
        assert!(entry["fields"]["due"].as_str() > Some("2026-02"), "{entry}");
    }

    async fn increments_add_up_however_many_come_at_once(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let mut clients = Vec::new();
        for number in 1..=6 {
            clients.push(connect(&server, number).await);
        }
        let pushing = clients.iter_mut().zip(1..).map(|(client, number)| async move {
            for second in 0..10 {
                client.push_next(edit(json!({ "likes": { "add": 2 }, "title": format!("{number} {second}") }), number, second)).await.acked();
            }
        });
        join_all(pushing).await;
        is(&db, "likes", Some("121")).await;
        // Of equal seconds the greater node's is the later clock.
        is(&db, "title", Some("6 9")).await;
    }

    async fn a_counter_that_is_set_is_set_by_the_later(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let mut ann = connect(&server, 1).await;
        ann.push_next(edit(json!({ "likes": 10 }), 1, 9)).await.acked();
        ann.push_next(edit(json!({ "likes": { "add": -3 } }), 1, 10)).await.acked();
        let mut ben = connect(&server, 2).await;
        ben.push_next(edit(json!({ "likes": 99 }), 2, 5)).await.acked();
        is(&db, "likes", Some("7")).await;
    }

    async fn elements_are_added_and_removed_and_adding_wins(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        ann.push_next(edit(json!({ "tags": { "remove": ["x"] } }), 1, 9)).await.acked();
        ben.push_next(edit(json!({ "tags": { "add": ["x", "y"] } }), 2, 5)).await.acked();
        let tags: Value = serde_json::from_str(&task(&db, "tags").await.expect("tags")).expect("JSON");
        assert_eq!(tags, json!(["x", "y"]));
    }

    async fn a_deletion_wins_over_edits_that_did_not_know_of_it(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        ann.push_next(json!([stamped(delete("tasks", 1), 1, 5)])).await.acked();
        ben.push_next(edit(json!({ "title": "late" }), 2, 9)).await.acked();
        ben.push_next(json!([stamped(delete("tasks", 1), 2, 9)])).await.acked();
        is(&db, "id", None).await;
        ben.wait_until(|ben| ben.row("t", "1").is_none()).await;
        // Created again, it is another row: edits of the first are not seen in it.
        ann.push_next(json!([stamped(create("tasks", json!({ "id": 1, "title": "new" })), 1, 20)])).await.acked();
        ben.push_next(edit(json!({ "title": "stale" }), 2, 30)).await.acked();
        is(&db, "title", Some("new")).await;
        let mut knowing = edit(json!({ "title": "fresh" }), 2, 31);
        knowing[0]["born"] = json!("2026-01-01T00:00:20.000Z-0000-00000001");
        ben.push_next(knowing).await.acked();
        is(&db, "title", Some("fresh")).await;
    }

    async fn where_edits_revive_a_deleted_row_comes_back_with_what_it_had(db: TestDatabase) {
        let server = serve(&db, Deletes::Revive).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        ann.push_next(json!([stamped(delete("tasks", 1), 1, 5)])).await.acked();
        is(&db, "id", None).await;
        ben.push_next(edit(json!({ "title": "late" }), 2, 9)).await.acked();
        is(&db, "title", Some("late")).await;
        is(&db, "due", Some("b")).await;
        is(&db, "likes", Some("1")).await;
        ann.wait_until(|ann| ann.row("t", "1").is_some_and(|row| row["due"] == "b")).await;
    }

    async fn an_upsert_creates_or_merges(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let mut ann = connect(&server, 1).await;
        let put = |values: Value, second| json!([stamped(upsert("tasks", values), 1, second)]);
        ann.push_next(put(json!({ "id": 1, "title": "merged" }), 5)).await.acked();
        ann.push_next(put(json!({ "id": 1, "title": "older" }), 4)).await.acked();
        is(&db, "title", Some("merged")).await;
        is(&db, "due", Some("b")).await;
        ann.push_next(put(json!({ "id": 2, "title": "made" }), 5)).await.acked();
        ann.wait_until(|ann| ann.row("t", "2").is_some_and(|row| row["title"] == "made")).await;
    }

    async fn writes_of_one_mutation_come_one_after_the_other(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let mut ann = connect(&server, 1).await;
        let all = json!([
            stamped(create("tasks", json!({ "id": 2, "title": "z" })), 1, 5),
            stamped(update("tasks", 2, json!({ "title": "y", "likes": { "add": 5 } })), 1, 5),
            stamped(update("tasks", 2, json!({ "title": "x" })), 1, 5),
            stamped(update("tasks", 1, json!({ "title": "too" })), 1, 5),
        ]);
        ann.push_next(all).await.acked();
        ann.wait_until(|ann| ann.row("t", "2").is_some_and(|row| row["title"] == "x" && row["likes"] == 5)).await;
        is(&db, "title", Some("too")).await;
        // None of them is there when one is rejected, nor anything of it beside the rows.
        let before = db.query_text("SELECT count(*) FROM _rhtmx_sync_field").await;
        let reject = ann.push_next(json!([
            stamped(update("tasks", 1, json!({ "title": "gone" })), 1, 6),
            stamped(update("tasks", 9, json!({ "title": "nobody" })), 1, 6),
        ])).await;
        assert_eq!((reject.rejected().code.as_str(), reject.rejected().write), ("not_found", Some(1)));
        is(&db, "title", Some("too")).await;
        assert_eq!(db.query_text("SELECT count(*) FROM _rhtmx_sync_field").await, before);
        ann.push_next(edit(json!({ "title": "still" }), 1, 6)).await.acked();
        is(&db, "title", Some("still")).await;
    }

    async fn who_stamps_nothing_writes_above_all_that_is_there(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        ann.push_next(edit(json!({ "title": "stamped" }), 1, 50)).await.acked();
        ben.push_next(json!([update("tasks", 1, json!({ "title": "plain" }))])).await.acked();
        is(&db, "title", Some("plain")).await;
        ann.push_next(edit(json!({ "title": "older" }), 1, 55)).await.acked();
        is(&db, "title", Some("plain")).await;
    }

    async fn a_clock_of_the_future_wins_nothing(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        let mut future = edit(json!({ "title": "2100" }), 1, 0);
        future[0]["hlc"] = json!("2100-01-01T00:00:00.000Z-0000-00000001");
        ann.push_next(future).await.acked();
        is(&db, "title", Some("2100")).await;
        ben.push_next(json!([update("tasks", 1, json!({ "title": "now" }))])).await.acked();
        is(&db, "title", Some("now")).await;
    }

    async fn what_cannot_merge_is_rejected_and_leaves_nothing(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let mut ann = connect(&server, 1).await;
        for (values, column) in [
            (json!({ "likes": { "add": "NaN" } }), "likes"),
            (json!({ "likes": { "add": 1e30 } }), "likes"),
            (json!({ "likes": { "add": 0.5 } }), "likes"),
            (json!({ "likes": { "add": 9223372036854775807_u64 } }), "likes"),
            (json!({ "tags": { "add": [{}] } }), "tags"),
            (json!({ "title": 1 }), "title"),
        ] {
            let reject = ann.push_next(edit(values.clone(), 1, 5)).await;
            assert_eq!((reject.rejected().code.as_str(), reject.rejected().column.as_deref()), ("invalid", Some(column)), "{values}");
        }
        for hlc in ["", "-1", "2100-01-01", "2026-01-01T00:00:00.000Z-0000-00000002"] {
            let mut write = edit(json!({ "title": "x" }), 1, 5);
            write[0]["hlc"] = json!(hlc);
            assert_eq!(ann.push_next(write).await.rejected().code, "invalid", "{hlc}");
        }
        is(&db, "title", Some("a")).await;
    }
}

/// As after a `TRUNCATE` between the plan of a write and the write itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_of_a_row_that_is_gone_without_a_trace_creates_it() {
    let db = TestDatabase::postgres().await;
    let server = serve(&db, Deletes::Win).await;
    let mut ann = connect(&server, 1).await;
    let other = db.connect_postgres().await;
    other
        .batch_execute(
            "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM tasks WHERE id = 1",
        )
        .await
        .expect("the row is deleted");
    let write = stamped(upsert("tasks", json!({ "id": 1, "title": "milk" })), 1, 5);
    let pushed = ann.push_next(json!([write]));
    let goes_on = async {
        let waiting = "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        eventually("the write waits for the row", async || {
            (!db.query_text(waiting).await.is_empty()).then_some(())
        })
        .await;
        other.batch_execute("COMMIT").await.expect("committed");
    };
    let (pushed, ()) = tokio::join!(pushed, goes_on);
    pushed.acked();
    is(&db, "title", Some("milk")).await;
}
