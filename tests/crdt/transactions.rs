//! A transaction is one commit, and has one clock.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use merge::{Clock, NodeId};
use rhtmx_sync::crdt::{CrdtError, Query, RowWrite};
use serde_json::{Value, json};
use testkit::{TestDatabase, both_backends};

use super::{keys, metadata, open, reject_code, todo, values};

/// All clocks that are known of an entity's rows.
async fn clocks(db: &TestDatabase, entity: &str) -> BTreeSet<String> {
    fn collect(value: &Value, clocks: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => drop(clocks.insert(text.clone())),
            Value::Object(members) => members.values().for_each(|value| collect(value, clocks)),
            _ => {}
        }
    }
    let mut clocks = BTreeSet::new();
    for known in metadata(db, entity).await.values() {
        collect(known, &mut clocks);
    }
    clocks
}

/// A page with one todo that another database wrote, half a minute ahead of the time.
fn page_from_the_future() -> (String, Clock) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    let now_ms = u64::try_from(now.as_millis()).expect("a time");
    let node = NodeId::new("elsewhere").expect("a node");
    let clock = Clock::new(now_ms + 30_000, 3, &node);
    let record =
        json!({"id": "far", "title": "late", "done": false, "hlc": clock, "is_deleted": 0});
    (json!({"todos": [record]}).to_string(), clock)
}

both_backends! {
    async fn what_a_batch_writes_has_one_clock(db: TestDatabase) {
        let crdt = open(&db).await;
        db.execute("INSERT INTO todos (id, title) VALUES ('old', 'tea'), ('gone', 'salt')").await;
        let clock = crdt
            .batch(vec![
                RowWrite::insert("lists", json!({"id": "l", "name": "food"})),
                RowWrite::insert("todos", todo("a", "milk")),
                RowWrite::put("todos", todo("b", "bread")),
                RowWrite::update("todos", "old", json!({"title": "green tea", "done": true})),
                RowWrite::delete("todos", "gone"),
            ])
            .await
            .expect("written");
        assert_eq!(keys(&crdt, "todos").await, ["a", "b", "old"]);
        assert_eq!(clocks(&db, "lists").await, BTreeSet::from([clock.to_string()]));
        assert_eq!(metadata(&db, "todos").await.len(), 4);
        let mut of_todos = clocks(&db, "todos").await;
        // What was there before anything was stamped has the ground for its birth.
        of_todos.remove(Clock::ground().as_str());
        assert_eq!(of_todos, BTreeSet::from([clock.to_string()]));
        assert!(clock.is_of(crdt.node_id()));
        let next = crdt.update("todos", "a", json!({"done": true})).await.expect("written");
        assert!(next > clock);
    }

    async fn a_batch_is_written_whole_or_not_at_all(db: TestDatabase) {
        let crdt = open(&db).await;
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        let (known, logged) = (metadata(&db, "todos").await, log_entries(&db).await);
        let refused = crdt
            .batch(vec![
                RowWrite::insert("lists", json!({"id": "l", "name": "food"})),
                RowWrite::update("todos", "a", json!({"title": "tea"})),
                RowWrite::insert("todos", todo("a", "bread")),
            ])
            .await;
        assert_eq!(reject_code(refused), "\"exists\"");
        assert!(keys(&crdt, "lists").await.is_empty());
        assert_eq!(values(crdt.get("todos", "a").await.expect("read"))["title"], "milk");
        assert_eq!(metadata(&db, "todos").await, known);
        assert_eq!(log_entries(&db).await, logged);
    }

    async fn a_transaction_sees_what_it_has_written(db: TestDatabase) {
        let crdt = open(&db).await;
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        let open_ones = Query::new("todos").filter("done = $1", [false]);
        let (seen, clock) = crdt
            .transaction(async |tx| {
                tx.insert("todos", todo("b", "bread")).await?;
                tx.update("todos", "a", json!({"done": true})).await?;
                let a = values(tx.get("todos", "a").await?);
                assert_eq!(a["done"], true);
                // It can go on after a write that was rejected.
                assert_eq!(reject_code(tx.insert("todos", todo("a", "again")).await), "\"exists\"");
                tx.insert("lists", json!({"id": "l", "name": "food"})).await?;
                let seen = tx.query(&open_ones).await?;
                Ok::<_, CrdtError>((seen, tx.clock().clone()))
            })
            .await
            .expect("committed");
        assert_eq!(seen.iter().map(|row| &*row.key).collect::<Vec<_>>(), ["b"]);
        assert_eq!(crdt.query(&open_ones).await.expect("read"), seen);
        assert_eq!(metadata(&db, "lists").await["l"]["born"], clock.as_str());
        assert_eq!(metadata(&db, "todos").await["b"]["born"], clock.as_str());
    }

    async fn of_a_transaction_that_fails_nothing_is_left(db: TestDatabase) {
        let crdt = open(&db).await;
        let logged = log_entries(&db).await;
        let kept = Mutex::new(None);
        let failed: Result<(), CrdtError> = crdt
            .transaction(async |tx| {
                tx.insert("todos", todo("a", "milk")).await?;
                *kept.lock().expect("no panic") = Some(tx.clone());
                Err(CrdtError::Values("no".to_owned()))
            })
            .await;
        assert!(matches!(failed, Err(CrdtError::Values(_))));
        assert!(keys(&crdt, "todos").await.is_empty());
        assert!(metadata(&db, "todos").await.is_empty());
        assert_eq!(log_entries(&db).await, logged);
        // It does not outlive its function.
        let kept = kept.into_inner().expect("no panic").expect("a transaction");
        let late = kept.insert("todos", todo("b", "tea")).await;
        assert!(matches!(late, Err(CrdtError::Ended)), "{late:?}");
    }

    async fn of_a_transaction_that_nobody_waits_for_nothing_is_left(db: TestDatabase) {
        let crdt = open(&db).await;
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let begun = Mutex::new(Some(begun));
        let writer = crdt.clone();
        // It is sent to another thread.
        let task = tokio::spawn(async move {
            let ended: Result<(), CrdtError> = writer
                .transaction(|tx| {
                    let begun = begun.lock().expect("no panic").take();
                    async move {
                        tx.insert("todos", todo("a", "milk")).await?;
                        begun.expect("it runs once").send(()).expect("somebody waits");
                        std::future::pending().await
                    }
                })
                .await;
            ended
        });
        has_begun.await.expect("it has begun");
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        crdt.insert("todos", todo("b", "tea")).await.expect("inserted");
        assert_eq!(keys(&crdt, "todos").await, ["b"]);
    }

    async fn a_row_with_a_later_clock_makes_the_whole_transaction_later(db: TestDatabase) {
        let crdt = open(&db).await;
        let (page, far) = page_from_the_future();
        let page = crdt.replica().read(&page).expect("a page");
        assert_eq!(crdt.merge(page).await.expect("merged").changed, 1);
        let runs = AtomicU32::new(0);
        crdt.transaction(async |tx| {
            runs.fetch_add(1, Ordering::Relaxed);
            tx.insert("todos", todo("a", "milk")).await?;
            tx.update("todos", "far", json!({"title": "found"})).await
        })
        .await
        .expect("committed");
        assert_eq!(runs.into_inner(), 2);
        let known = metadata(&db, "todos").await;
        let clock = known["a"]["born"].as_str().expect("a clock");
        assert!(clock > far.as_str());
        assert_eq!(known["far"]["fields"]["title"], clock);
        assert_eq!(values(crdt.get("todos", "far").await.expect("read"))["title"], "found");
    }

    async fn a_row_that_is_written_twice_is_as_it_was_written_last(db: TestDatabase) {
        let crdt = open(&db).await;
        let clock = crdt
            .batch(vec![
                RowWrite::insert("todos", todo("a", "z")),
                RowWrite::update("todos", "a", json!({"title": "b"})),
                RowWrite::delete("todos", "a"),
                RowWrite::insert("todos", todo("a", "a")),
                RowWrite::insert("todos", todo("b", "b")),
            ])
            .await
            .expect("written");
        assert_eq!(values(crdt.get("todos", "a").await.expect("read"))["title"], "a");
        let known = metadata(&db, "todos").await;
        assert_eq!(known["b"]["born"], clock.as_str());
        assert!(known["a"]["born"].as_str() > Some(clock.as_str()));
        assert!(crdt.query_deleted(Query::new("todos")).await.expect("read").is_empty());
    }

    async fn writers_at_the_same_time_lose_nothing(db: TestDatabase) {
        let (one, two) = (open(&db).await, open(&db).await);
        one.insert("todos", todo("a", "")).await.expect("inserted");
        let writers = [&one, &two].map(|crdt| async move {
            for _ in 0..10 {
                let appended = crdt.transaction(async |tx| {
                    let title = values(tx.get("todos", "a").await?)["title"].clone();
                    let title = format!("{}x", title.as_str().expect("a text"));
                    tx.update("todos", "a", json!({"title": title, "done": true})).await
                });
                appended.await.expect("committed");
            }
        });
        let [first, second] = writers;
        tokio::join!(first, second);
        let title = values(one.get("todos", "a").await.expect("read"))["title"].clone();
        // On SQLite one waits for the other; on PostgreSQL both may have read the same.
        let length = title.as_str().expect("a text").len();
        match db.backend() {
            testkit::Backend::Sqlite => assert_eq!(length, 20),
            testkit::Backend::Postgres => assert!((10..=20).contains(&length), "{length}"),
        }
    }
}

/// How many entries the log has.
async fn log_entries(db: &TestDatabase) -> Vec<Option<String>> {
    db.query_text("SELECT CAST(count(*) AS TEXT) FROM _rhtmx_sync_log")
        .await
}
