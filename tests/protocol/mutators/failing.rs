//! Functions that do not end as they should: nothing of their mutation is left, it is answered, and everything goes on.

use std::sync::{Arc, Mutex};

use rhtmx_sync::{DbPool, MutatorTx, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, TestDatabase, both_backends, eventually};

use super::{add, call, config, execute, serve, tables};
use crate::tables::{NOTES, count};

/// A configuration with one more mutator, `fail`.
async fn failing<Fut>(
    db: &TestDatabase,
    fail: impl Fn(MutatorTx) -> Fut + Send + Sync + 'static,
) -> SyncConfig
where
    Fut: Future<Output = Result<(), rhtmx_sync::MutatorError>> + Send + 'static,
{
    tables(db).await;
    let mut config = config(db).await;
    config.mutator("fail", move |tx, ()| fail(tx));
    config
}

/// Calls `fail` several times, more often than the pool has connections; each call is `refused` without a reason.
async fn fails(db: &TestDatabase, config: SyncConfig, calls: usize) -> String {
    let server = TestServer::with_config(config).await;
    let mut client = server.connect().await;
    let mut message = String::new();
    for _ in 0..calls {
        let outcome = client
            .push_next(json!([add(1), call("fail", Value::Null)]))
            .await;
        let reject = outcome.rejected();
        assert_eq!(
            (reject.code.as_str(), &reject.reason, reject.write),
            ("refused", &None, Some(1)),
            "{reject:?}"
        );
        message.clone_from(&reject.message);
    }
    assert_eq!(count(db, "notes").await, 0);
    client.push_next(json!([add(1)])).await.acked();
    message
}

both_backends! {
    async fn a_refusal_is_told_with_its_reason_and_stays(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        for _ in 0..2 {
            let outcome = client.push(1, json!([call("refuse", Value::Null)])).await;
            let reject = outcome.rejected();
            assert_eq!((reject.code.as_str(), reject.reason.as_deref()), ("refused", Some("list_full")));
            assert_eq!((reject.message.as_str(), reject.write), ("a list has at most three entries", Some(0)));
        }
        assert_eq!(count(&db, "notes").await, 0);
    }

    async fn a_panic_takes_nothing_with_it(db: TestDatabase) {
        let config = failing(&db, async |tx: MutatorTx| {
            tx.create("notes", json!({ "id": 2, "body": "x" })).await?;
            panic!("secret words")
        });
        assert_eq!(fails(&db, config.await, 20).await, "the mutator failed");
    }

    async fn another_error_is_not_told(db: TestDatabase) {
        let config = failing(&db, async |tx: MutatorTx| {
            tx.create("notes", json!({ "id": 2, "body": "x" })).await?;
            Err(std::io::Error::other("secret words").into())
        });
        assert_eq!(fails(&db, config.await, 3).await, "the mutator failed");
    }

    async fn a_statement_that_names_no_table_is_the_functions_failure(db: TestDatabase) {
        let config = failing(&db, async |tx: MutatorTx| execute(&tx, "DELETE FROM ghosts").await);
        assert_eq!(fails(&db, config.await, 3).await, "the mutator failed");
    }

    async fn the_connection_cannot_be_used_twice_at_once(db: TestDatabase) {
        let config = failing(&db, async |tx: MutatorTx| {
            let _held = tx.connection().await?;
            tx.create("notes", json!({ "id": 2, "body": "x" })).await
        });
        assert_eq!(fails(&db, config.await, 3).await, "the mutator failed");
    }

    async fn a_transaction_that_is_ended_by_hand_is_the_functions_failure(db: TestDatabase) {
        let config = failing(&db, async |tx: MutatorTx| execute(&tx, "ROLLBACK").await);
        let server = TestServer::with_config(config.await).await;
        let mut client = server.connect().await;
        let outcome = client.push_next(json!([add(1), call("fail", Value::Null)])).await;
        assert_eq!(outcome.rejected().code, "refused");
        assert_eq!(count(&db, "notes").await, 0);
        client.push_next(json!([add(1)])).await.acked();
    }

    async fn a_transaction_that_is_kept_is_closed(db: TestDatabase) {
        let kept = Arc::new(Mutex::new(None));
        let keeper = kept.clone();
        tables(&db).await;
        let mut config = config(&db).await;
        config.mutator("keep", move |tx: MutatorTx, ()| {
            let keeper = keeper.clone();
            async move {
                tx.create("notes", json!({ "id": 1, "body": "kept" })).await?;
                *keeper.lock().expect("a lock") = Some(tx);
                Ok(())
            }
        });
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        client.push_next(json!([call("keep", Value::Null)])).await.acked();
        let tx = kept.lock().expect("a lock").take().expect("a transaction");
        assert!(tx.create("notes", json!({ "id": 2, "body": "late" })).await.is_err());
        assert!(tx.connection().await.is_err());
        assert_eq!(count(&db, "notes").await, 1);
    }

    async fn a_call_that_takes_too_long_is_taken_back_and_rejected(db: TestDatabase) {
        let mut config = failing(&db, async |tx: MutatorTx| {
            tx.create("notes", json!({ "id": 2, "body": "x" })).await?;
            std::future::pending().await
        }).await;
        config.limits.mutator_ms = 50;
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        for _ in 0..3 {
            let outcome = client.push_next(json!([call("fail", Value::Null)])).await;
            let reject = outcome.rejected();
            assert_eq!((reject.code.as_str(), reject.message.as_str()), ("refused", "the mutation takes longer than 50 ms"));
        }
        assert_eq!(count(&db, "notes").await, 0);
        // The turn and the connections are free again.
        let body = json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": [crate::writes::note(1, "x")] });
        assert_eq!(server.http().post("/api/sync/notes", &body).await.status, 200);
    }

    async fn a_call_that_cannot_be_is_rejected_before_anything_runs(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        for (wrong, code) in [
            (call("ghost", Value::Null), "unknown_mutator"),
            (call("Add_note", json!({ "id": 1, "body": "x" })), "unknown_mutator"),
            (call("", Value::Null), "unknown_mutator"),
            (call(&"x".repeat(10_000), Value::Null), "unknown_mutator"),
            (call("add_note", Value::Null), "invalid"),
            (call("add_note", json!({ "id": "one", "body": "x" })), "invalid"),
            (call("add_note", json!({ "id": 1 })), "invalid"),
            (call("add_note", json!({ "id": 1.5, "body": "x" })), "invalid"),
            (json!({ "mutator": "add_note" }), "invalid"),
            (call("append", json!([[[["deep"]]]])), "invalid"),
        ] {
            let outcome = client.push_next(json!([add(1), wrong])).await;
            let reject = outcome.rejected();
            assert_eq!((reject.code.as_str(), reject.write), (code, Some(1)), "{reject:?}");
            assert!(reject.message.len() < 500, "{}", reject.message.len());
            assert!(code == "unknown_mutator" || reject.message.contains("add_note") || reject.message.contains("append"), "{reject:?}");
        }
        assert_eq!(count(&db, "notes").await, 0);
        // Both at once is no push.
        client.send_text(&json!({ "type": "push", "mutation": 99, "writes": [{ "mutator": "append", "entity": "notes", "op": "delete" }] }).to_string()).await;
        assert_eq!(client.wait_error().await, "protocol");
    }
}

/// It lives in its one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_memory_survives_whatever_a_function_does() {
    let pool = DbPool::from_url("sqlite::memory:").await.expect("a pool");
    let DbPool::Sqlite(sqlite) = &pool else {
        panic!("not SQLite")
    };
    sqlite.batch_execute(NOTES).await.expect("a table");
    let mut config = SyncConfig::new(pool, vec!["notes"]);
    config.limits.mutator_ms = 100;
    config.mutator("end", async |tx, how: String| {
        tx.create("notes", json!({ "id": 1, "body": "x" })).await?;
        match how.as_str() {
            "panic" => panic!("a panic of the application's"),
            "wait" => std::future::pending().await,
            _ => Ok(()),
        }
    });
    let server = TestServer::with_config(config).await;
    let mut client = server.connect().await;
    for how in ["panic", "wait", "panic"] {
        let outcome = client.push_next(json!([call("end", json!(how))])).await;
        assert_eq!(outcome.rejected().code, "refused", "{how}");
    }
    client
        .push_next(json!([call("end", json!("commit"))]))
        .await
        .acked();
    let rows = server.http().get("/api/sync/notes").await.json();
    assert_eq!(rows["rows"][0]["key"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_takes_too_long_is_cancelled() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let config = failing(&db, async |tx: MutatorTx| {
        execute(&tx, "SELECT pg_sleep(600)").await
    });
    let mut config = config.await;
    config.limits.mutator_ms = 300;
    let server = TestServer::with_config(config).await;
    let mut client = server.connect().await;
    let outcome = client.push_next(json!([call("fail", Value::Null)])).await;
    assert_eq!(outcome.rejected().code, "refused");
    eventually("no statement runs", || async {
        let running = "pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%' AND datname = current_database()";
        (count(&db, running).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_statement_that_the_function_passes_over_is_its_failure() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let config = failing(&db, async |tx: MutatorTx| {
        let _ = execute(&tx, "INSERT INTO notes VALUES (1, NULL)").await;
        Ok(())
    });
    let server = TestServer::with_config(config.await).await;
    let mut client = server.connect().await;
    let outcome = client.push_next(json!([call("fail", Value::Null)])).await;
    assert_eq!(outcome.rejected().code, "refused");
    client.push_next(json!([add(1)])).await.acked();
}
