//! What authors are told of values that lost, and what is kept of them.

use rhtmx_sync::{
    ColumnAccess, ColumnPolicy, ColumnRule, Deletes, EntityPolicy, FieldMergeStrategy, Policies,
    UpdatePolicy,
};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends};

use super::{config_of, connect, rules, stamped, task};
use crate::writes::{delete, update};

fn clock(number: u8, second: u64) -> String {
    format!("2026-01-01T00:00:{second:02}.000Z-0000-0000000{number}")
}

/// Tasks of which both titles of a conflict are kept.
async fn serve(db: &TestDatabase) -> TestServer {
    serve_with(db, FieldMergeStrategy::KeepBoth).await
}

async fn serve_with(db: &TestDatabase, strategy: FieldMergeStrategy) -> TestServer {
    let mut rules = rules(Deletes::Win);
    let strategy = Some(strategy);
    let rule = ColumnRule {
        strategy,
        ..ColumnRule::default()
    };
    rules.columns.insert("title".to_owned(), rule);
    TestServer::with_config(config_of(db, rules).await).await
}

fn edit(values: Value, number: u8, second: u64) -> Value {
    json!([stamped(update("tasks", 1, values), number, second)])
}

/// Subscribes to the fields of tasks, as `f`.
async fn fields(server: &TestServer, number: u8) -> SyncClient {
    let mut client = connect(server, number).await;
    client
        .subscribe_with("f", json!({ "entity": "tasks", "mode": "fields" }))
        .await;
    client.wait_subscribed("f").await;
    client
}

/// What a client knows to be lost of the first task's title.
fn lost(client: &SyncClient) -> Value {
    let known = client.subscription("f").metadata().get("1");
    known.map_or(Value::Null, |known| known["lost"]["title"].clone())
}

both_backends! {
    async fn who_loses_is_told_what_stands_and_is_told_again(db: TestDatabase) {
        let server = serve_with(&db, FieldMergeStrategy::LastWriteWins).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        ann.push_next(edit(json!({ "title": "later" }), 1, 9)).await.acked();
        let writes = edit(json!({ "title": "earlier", "due": "monday" }), 2, 5);
        let number = ben.next_mutation();
        ben.push_next(writes.clone()).await.acked();
        let told = json!([{
            "type": "conflict", "entity": "tasks", "key": "1", "field": "title", "strategy": "last_write_wins",
            "kept": { "value": "later", "hlc": clock(1, 9) }, "lost": { "value": "earlier", "hlc": clock(2, 5) },
            "mutation": number, "write": 0,
        }]);
        assert_eq!(json!(ben.conflicts()), told, "{}", ben.transcript());
        ben.push(number, writes).await;
        ben.wait_until(|ben| ben.conflicts().len() == 2).await;
        assert_eq!(json!(ben.conflicts()[1..]), told, "{}", ben.transcript());
        assert_eq!(json!(ann.conflicts()), json!([]));
    }

    async fn whose_value_is_replaced_unseen_is_told_while_connected(db: TestDatabase) {
        let server = serve_with(&db, FieldMergeStrategy::LastWriteWins).await;
        let (mut ann, mut ben) = (fields(&server, 1).await, fields(&server, 2).await);
        ann.push_next(edit(json!({ "title": "ann's" }), 1, 5)).await.acked();
        ben.push_next(edit(json!({ "title": "ben's" }), 2, 9)).await.acked();
        ann.wait_until(|ann| !ann.conflicts().is_empty()).await;
        assert_eq!(json!(ann.conflicts()), json!([{
            "type": "conflict", "entity": "tasks", "key": "1", "field": "title", "strategy": "last_write_wins",
            "kept": { "value": "ben's", "hlc": clock(2, 9) }, "lost": { "value": "ann's", "hlc": clock(1, 5) },
        }]));
        // What its author had seen is no conflict.
        let mut seen = edit(json!({ "title": "ann's again" }), 1, 20);
        seen[0]["seen"] = json!(clock(2, 9));
        ann.push_next(seen).await.acked();
        ben.push_next(edit(json!({ "due": "monday" }), 2, 21)).await.acked();
        assert_eq!(json!(ben.conflicts()), json!([]), "{}", ben.transcript());
    }

    async fn a_clock_that_does_not_count_as_said_comes_back_and_comes_back_again(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = connect(&server, 1).await;
        let mut future = stamped(update("tasks", 1, json!({ "title": "2100" })), 1, 0);
        future["hlc"] = json!("2100-01-01T00:00:00.000Z-0000-00000001");
        let writes = json!([stamped(update("tasks", 1, json!({ "due": "b" })), 1, 5), future]);
        let number = ann.next_mutation();
        let outcome = ann.push_next(writes.clone()).await;
        let [stamp] = outcome.stamps() else { panic!("one stamp: {outcome:?}") };
        assert_eq!(stamp["write"], 1);
        let hlc = stamp["hlc"].as_str().expect("a clock");
        assert!(hlc.ends_with("-00000001") && hlc < "2100" && hlc > "2026-02", "{hlc}");
        // The client of the test compares the answers.
        ann.push(number, writes).await;
        ann.wait_until(|ann| ann.frames("ack") == 2).await;
        ann.push_next(edit(json!({ "due": "c" }), 1, 6)).await.acked();
    }

    async fn who_has_a_row_hears_of_a_late_deletion_that_has_lost(db: TestDatabase) {
        let server = TestServer::with_config(config_of(&db, rules(Deletes::Revive)).await).await;
        let (mut ann, mut ben) = (fields(&server, 1).await, fields(&server, 2).await);
        ann.push_next(edit(json!({ "title": "later" }), 1, 9)).await.acked();
        // The row stays as it is. Only its clocks tell.
        ben.push_next(json!([stamped(delete("tasks", 1), 2, 5)])).await.acked();
        let died = |client: &SyncClient| client.subscription("f").metadata().get("1").map(|known| known["died"].clone());
        for client in [&mut ann, &mut ben] {
            client.wait_until(|client| died(client) == Some(json!(clock(2, 5)))).await;
            assert_eq!(client.row("f", "1").expect("a row")["title"], "later");
        }
    }

    async fn both_values_are_kept_until_somebody_resolves(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (fields(&server, 1).await, fields(&server, 2).await);
        ann.push_next(edit(json!({ "title": "later" }), 1, 9)).await.acked();
        ben.push_next(edit(json!({ "title": "earlier" }), 2, 5)).await.acked();
        let kept = json!([{ "value": "earlier", "hlc": clock(2, 5) }]);
        for client in [&mut ann, &mut ben] {
            client.wait_until(|client| lost(client) == kept).await;
        }
        // A client that comes later finds it too.
        assert_eq!(lost(&fields(&server, 3).await), kept);
        let resolve = |values: Value, number, second| {
            let mut write = edit(values, number, second);
            write[0]["seen"] = json!(clock(1, 9));
            write[0]["resolves"] = json!({ "title": [clock(2, 5)] });
            write
        };
        ben.push_next(resolve(json!({ "title": "earlier" }), 2, 20)).await.acked();
        for client in [&mut ann, &mut ben] {
            client.wait_until(|client| lost(client).is_null() && client.row("f", "1").is_some_and(|row| row["title"] == "earlier")).await;
        }
        // Somebody was faster.
        let late = ann.push_next(resolve(json!({}), 1, 21)).await;
        assert_eq!((late.rejected().code.as_str(), late.rejected().column.as_deref()), ("not_found", Some("title")));
        assert_eq!(task(&db, "title").await.as_deref(), Some("earlier"));
    }

    async fn of_many_that_resolve_one_is_the_first(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = connect(&server, 1).await;
        ann.push_next(edit(json!({ "title": "later" }), 1, 9)).await.acked();
        let mut clients = Vec::new();
        for number in 2..=6 {
            clients.push(connect(&server, number).await);
        }
        clients[0].push_next(edit(json!({ "title": "earlier" }), 2, 5)).await.acked();
        let resolving = clients.iter_mut().zip(2..).map(|(client, number)| async move {
            let mut write = edit(json!({}), number, 20);
            write[0]["resolves"] = json!({ "title": [clock(2, 5)] });
            client.push_next(write).await
        });
        let outcomes = futures_util::future::join_all(resolving).await;
        let acked = outcomes.iter().filter(|outcome| matches!(outcome, testkit::PushOutcome::Acked { .. }));
        assert_eq!(acked.count(), 1, "{outcomes:?}");
    }

    async fn only_so_many_lost_values_of_a_field_are_kept(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (fields(&server, 1).await, connect(&server, 2).await);
        ann.push_next(edit(json!({ "title": "later" }), 1, 59)).await.acked();
        for second in 1..=25 {
            ben.push_next(edit(json!({ "title": format!("{second}") }), 2, second)).await.acked();
        }
        ann.wait_until(|ann| lost(ann).as_array().is_some_and(|lost| lost.len() == 20 && lost[19]["value"] == "25")).await;
    }

    async fn a_row_that_is_created_again_has_no_conflicts(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (fields(&server, 1).await, connect(&server, 2).await);
        ann.push_next(edit(json!({ "title": "later" }), 1, 9)).await.acked();
        ben.push_next(edit(json!({ "title": "earlier" }), 2, 5)).await.acked();
        ann.wait_until(|ann| !lost(ann).is_null()).await;
        db.execute("DELETE FROM tasks WHERE id = 1").await;
        db.execute("INSERT INTO tasks (id, title) VALUES (1, 'new')").await;
        ann.wait_until(|ann| ann.row("f", "1").is_some_and(|row| row["title"] == "new")).await;
        assert_eq!(lost(&ann), Value::Null);
        // An edit of the row that is gone.
        let number = ben.next_mutation();
        ben.push_next(edit(json!({ "title": "late" }), 2, 30)).await.acked();
        let told = ben.conflicts().last().expect("a conflict");
        assert_eq!((&told["lost"]["value"], told["mutation"].as_u64()), (&json!("late"), Some(number)));
        assert_eq!(told["kept"]["value"], "new", "{told}");
        ann.push_next(edit(json!({ "due": "x" }), 1, 31)).await.acked();
        assert_eq!(lost(&ann), Value::Null);
        db.execute("DELETE FROM tasks WHERE id = 1").await;
        ben.push_next(edit(json!({ "title": "later still" }), 2, 32)).await.acked();
        let told = ben.conflicts().last().expect("a conflict");
        assert_eq!((&told["lost"]["value"], told.get("kept")), (&json!("later still"), None));
    }

    async fn what_cannot_resolve_says_why(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = connect(&server, 1).await;
        for (resolves, op, code) in [
            (json!({ "title": [clock(2, 5)] }), "update", "not_found"),
            (json!({ "none": [clock(2, 5)] }), "update", "unknown_column"),
            (json!({ "title": ["yesterday"] }), "update", "invalid"),
            (json!({ "title": [clock(2, 5)] }), "delete", "invalid"),
            (json!({ "title": vec![clock(2, 5); 1001] }), "update", "too_large"),
        ] {
            let mut write = match op {
                "delete" => stamped(delete("tasks", 1), 1, 5),
                _ => stamped(update("tasks", 1, json!({})), 1, 5),
            };
            write["resolves"] = resolves.clone();
            assert_eq!(ann.push_next(json!([write])).await.rejected().code, code, "{resolves}");
        }
        assert_eq!(ann.push_next(edit(json!({}), 1, 5)).await.rejected().code, "invalid");
    }

    /// A client's node is part of every clock, and a client chooses its own id: whose clocks one sees, one can listen for.
    async fn of_rows_that_a_policy_selects_nobody_hears_but_by_its_own_pushes(db: TestDatabase) {
        let mut config = config_of(&db, rules(Deletes::Win)).await;
        let open = || Some("due IS NULL OR due <> 'secret'".to_owned());
        let policy = EntityPolicy {
            read: open(),
            create: open(),
            update: Some(UpdatePolicy { using: "TRUE".to_owned(), check: Some("TRUE".to_owned()) }),
            delete: open(),
            ..EntityPolicy::default()
        };
        config.auth.authorizer = std::sync::Arc::new(Policies::new([("tasks".to_owned(), policy)]).expect("policies"));
        let server = TestServer::with_config(config).await;
        let (mut ann, mut ben) = (fields(&server, 1).await, fields(&server, 2).await);
        ann.push_next(edit(json!({ "title": "ann's" }), 1, 5)).await.acked();
        ben.push_next(edit(json!({ "title": "ben's" }), 2, 9)).await.acked();
        ann.push_next(edit(json!({ "title": "again" }), 1, 6)).await.acked();
        let own: Vec<bool> = ann.conflicts().iter().map(|told| told["mutation"].is_u64()).collect();
        assert_eq!(own, [true], "{}", ann.transcript());
    }

    async fn a_column_that_one_may_not_read_is_in_no_conflict(db: TestDatabase) {
        let mut config = config_of(&db, {
            let mut rules = rules(Deletes::Win);
            rules.strategy = FieldMergeStrategy::KeepBoth;
            rules
        }).await;
        let everything = || Some("TRUE".to_owned());
        let policy = EntityPolicy {
            read: everything(),
            create: everything(),
            update: Some(UpdatePolicy { using: "TRUE".to_owned(), check: Some("TRUE".to_owned()) }),
            delete: everything(),
            columns: [("due".to_owned(), ColumnPolicy { readable: Some(ColumnAccess::Always(false)), ..ColumnPolicy::default() })].into(),
        };
        let policies = Policies::new([("tasks".to_owned(), policy)]).expect("policies");
        config.auth.authorizer = std::sync::Arc::new(policies);
        let server = TestServer::with_config(config).await;
        let mut ann = fields(&server, 1).await;
        db.execute("UPDATE tasks SET due = 'secret', title = 'x' WHERE id = 1").await;
        let outcome = ann.push_next(edit(json!({ "title": "mine" }), 1, 5)).await;
        outcome.acked();
        assert_eq!(ann.conflicts().len(), 1, "{}", ann.transcript());
        assert!(!ann.transcript().contains("secret") && !ann.transcript().contains("due"), "{}", ann.transcript());
    }
}

#[tokio::test]
async fn a_truncate_takes_the_conflicts_with_the_rows() {
    let db = TestDatabase::postgres().await;
    let server = serve(&db).await;
    let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
    ann.push_next(edit(json!({ "title": "later" }), 1, 9))
        .await
        .acked();
    ben.push_next(edit(json!({ "title": "earlier" }), 2, 5))
        .await
        .acked();
    let lost = "SELECT count(*)::text FROM _rhtmx_field_conflict";
    assert_eq!(db.query_text(lost).await, [Some("1".to_owned())]);
    db.execute("TRUNCATE tasks").await;
    assert_eq!(db.query_text(lost).await, [Some("0".to_owned())]);
}
