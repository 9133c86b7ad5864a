//! Calls that are applied: once, all of a mutation or nothing, and visible as its changes.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};
use uuid::Uuid;

use super::{Gate, add, call, config, execute, serve, tables};
use crate::tables::{count, notes};
use crate::writes::{create, note, update};

async fn connect_as(server: &TestServer, client_id: Uuid) -> SyncClient {
    let options = ClientOptions {
        client_id,
        client_id_shared: true,
        ..ClientOptions::default()
    };
    SyncClient::connect(&server.ws_url(), options).await
}

/// A server whose mutator `gated` writes to the ledger, and then waits for the test.
async fn gated(db: &TestDatabase, gate: &Gate) -> TestServer {
    let mut config = config(db).await;
    let gate = gate.clone();
    config.limits.mutator_ms = 60_000;
    config.mutator("gated", move |tx, body: String| {
        let gate = gate.clone();
        async move {
            tx.create("ledger", json!({ "body": body })).await?;
            gate.pass().await;
            Ok(())
        }
    });
    TestServer::with_config(config).await
}

/// The changes of the next `changes` frame.
async fn changes(client: &mut SyncClient) -> Vec<Value> {
    let frame = client.wait_for(|frame| frame["type"] == "changes").await;
    frame["changes"].as_array().expect("changes").clone()
}

both_backends! {
    async fn a_call_is_visible_as_a_change_of_its_mutation(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        client.subscribe("n", "notes").await;
        client.wait_subscribed("n").await;
        for (number, writes) in [
            (1, json!([add(1)])),
            // Statements of the function's own.
            (2, json!([call("run", json!("INSERT INTO notes VALUES (2, 'raw')"))])),
            (3, json!([call("run", json!("UPDATE notes SET body = 'raw again' WHERE id = 1"))])),
        ] {
            client.send_push(number, writes).await;
            let changes = changes(&mut client).await;
            assert_eq!(changes[0]["mutation"], number, "{changes:?}");
            client.wait_answered().await;
            client.outcome(number).expect("an answer").acked();
        }
        let expected = notes(&db).await;
        client.wait_until(|client| *client.rows("n") == expected).await;
        // What others write is nobody's.
        db.execute("INSERT INTO notes VALUES (3, 'of another program')").await;
        let changes = changes(&mut client).await;
        assert_eq!(changes[0].get("mutation"), None, "{changes:?}");
    }

    async fn calls_and_writes_are_applied_in_their_order(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let writes = json!([
            add(1),
            update("notes", 1, json!({ "body": "updated" })),
            call("put_note", json!({ "id": 1, "body": "put" })),
            note(2, "plain"),
            call("put_note", json!({ "id": 2, "body": "put" })),
        ]);
        client.push_next(writes).await.acked();
        let put = |id: u64| (id.to_string(), json!({ "id": id, "body": "put" }));
        assert_eq!(notes(&db).await, BTreeMap::from([put(1), put(2)]));
    }

    async fn a_mutation_with_calls_is_applied_all_or_not_at_all(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        for (writes, code, index) in [
            (json!([note(1, "a"), add(2), note(1, "again")]), "exists", 2),
            (json!([note(1, "a"), add(2), add(2)]), "exists", 2),
            (json!([note(1, "a"), call("refuse", json!(null)), note(3, "b")]), "refused", 1),
            (json!([add(1), update("notes", 7, json!({ "body": "x" })), add(2)]), "not_found", 1),
            (json!([add(1), create("ghosts", json!({ "id": 1 }))]), "unknown_entity", 1),
        ] {
            let outcome = client.push_next(writes).await;
            let reject = outcome.rejected();
            assert_eq!((reject.code.as_str(), reject.write), (code, Some(index)), "{reject:?}");
            assert_eq!(count(&db, "notes").await, 0, "{reject:?}");
        }
        // The next one goes on.
        client.push_next(json!([add(1)])).await.acked();
    }

    async fn a_rejected_write_can_be_caught(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO notes VALUES (1, 'before')").await;
        let mut client = server.connect().await;
        client.push_next(json!([call("put_note", json!({ "id": 1, "body": "put" }))])).await.acked();
        assert_eq!(notes(&db).await["1"]["body"], "put");
    }

    async fn a_call_that_is_pushed_again_runs_once(db: TestDatabase) {
        tables(&db).await;
        let gate = Gate::new();
        let server = gated(&db, &gate).await;
        gate.let_go(1);
        let client_id = Uuid::new_v4();
        for _ in 0..3 {
            let mut client = connect_as(&server, client_id).await;
            client.push(1, json!([call("gated", json!("once"))])).await.acked();
        }
        assert_eq!((gate.calls(), count(&db, "ledger").await), (1, 1));
        // With other arguments the number is another mutation's.
        let mut client = connect_as(&server, client_id).await;
        let outcome = client.push(1, json!([call("gated", json!("twice"))])).await;
        assert_eq!(outcome.rejected().code, "forked");
    }

    async fn a_call_whose_client_goes_away_is_finished_and_answered_later(db: TestDatabase) {
        tables(&db).await;
        let gate = Gate::new();
        let server = gated(&db, &gate).await;
        let client_id = Uuid::new_v4();
        let writes = json!([call("gated", json!("once"))]);
        let mut gone = connect_as(&server, client_id).await;
        gone.send_push(1, writes.clone()).await;
        gate.wait_calls(1).await;
        drop(gone);
        // The same mutation waits for the first.
        let mut back = connect_as(&server, client_id).await;
        back.send_push(1, writes).await;
        gate.let_go(2);
        back.wait_answered().await;
        back.outcome(1).expect("an answer").acked();
        assert_eq!((gate.calls(), count(&db, "ledger").await), (1, 1));
    }

    async fn a_call_that_is_pushed_to_two_servers_at_once_is_applied_once(db: TestDatabase) {
        tables(&db).await;
        let gate = Gate::new();
        let servers = [gated(&db, &gate).await, gated(&db, &gate).await];
        let client_id = Uuid::new_v4();
        let writes = json!([call("gated", json!("once")), note(1, "once")]);
        let mut one = connect_as(&servers[0], client_id).await;
        one.send_push(1, writes.clone()).await;
        gate.wait_calls(1).await;
        let mut other = connect_as(&servers[1], client_id).await;
        other.send_push(1, writes).await;
        gate.let_go(2);
        for client in [&mut one, &mut other] {
            client.wait_answered().await;
            client.outcome(1).expect("an answer").acked();
        }
        assert_eq!((gate.calls(), count(&db, "ledger").await), (1, 1));
    }

    async fn deferred_constraints_are_checked_when_a_mutation_ends(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let item = create("items", json!({ "id": 1, "list_id": 1 }));
        let insert = call("run", json!("INSERT INTO items VALUES (2, 1)"));
        for writes in [json!([insert]), json!([item, add(1)])] {
            let outcome = client.push_next(writes).await;
            assert_eq!(outcome.rejected().code, "constraint");
        }
        assert_eq!((count(&db, "items").await, count(&db, "notes").await), (0, 0));
        let list = call("run", json!("INSERT INTO lists VALUES (1)"));
        client.push_next(json!([insert, item, list])).await.acked();
        assert_eq!(count(&db, "items").await, 2);
    }

    async fn many_clients_call_at_once(db: TestDatabase) {
        let server = serve(&db).await;
        let pushes = (0..20).map(async |_| {
            let mut client = server.connect().await;
            for _ in 0..3 {
                client.push_next(json!([call("append", json!("called"))])).await.acked();
                client.push_next(json!([create("ledger", json!({ "body": "plain" }))])).await.acked();
            }
        });
        join_all(pushes).await;
        assert_eq!(count(&db, "ledger").await, 120);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_take_long_hold_up_neither_newcomers_nor_plain_mutations() {
    let db = TestDatabase::new(Backend::Postgres).await;
    tables(&db).await;
    let gate = Gate::new();
    let server = gated(&db, &gate).await;
    let mut callers = Vec::new();
    for _ in 0..20 {
        let mut client = server.connect().await;
        client
            .send_push(1, json!([call("gated", json!("long"))]))
            .await;
        callers.push(client);
    }
    gate.wait_calls(1).await;
    for id in 1..=5 {
        let mut newcomer = server.connect().await;
        newcomer.subscribe("n", "notes").await;
        newcomer.wait_subscribed("n").await;
        newcomer.push_next(json!([note(id, "plain")])).await.acked();
    }
    gate.let_go(callers.len());
    for mut client in callers {
        client.wait_answered().await;
        client.outcome(1).expect("an answer").acked();
    }
    assert_eq!(count(&db, "ledger").await, 20);
}

/// Though the function goes on after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_the_database_could_not_do_is_tried_again() {
    let db = TestDatabase::new(Backend::Postgres).await;
    tables(&db).await;
    db.execute("INSERT INTO notes VALUES (1, 'before')").await;
    let gate = Gate::new();
    let counted = gate.clone();
    let mut config = config(&db).await;
    config.mutator("pass_over", move |tx, ()| {
        let gate = counted.clone();
        async move {
            gate.pass().await;
            let _ = tx.update("notes", 1, json!({ "body": "after" })).await;
            Ok(())
        }
    });
    let server = TestServer::with_config(config).await;
    let conn = db.connect_postgres().await;
    conn.batch_execute("BEGIN; SELECT FROM notes FOR UPDATE")
        .await
        .expect("a lock");
    let mut client = server.connect().await;
    client
        .send_push(1, json!([call("pass_over", Value::Null)]))
        .await;
    gate.let_go(100);
    gate.wait_calls(2).await;
    conn.batch_execute("COMMIT").await.expect("a commit");
    client.wait_answered().await;
    client.outcome(1).expect("an answer").acked();
    assert_eq!(notes(&db).await["1"]["body"], "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_and_a_lost_connection_are_tried_again() {
    let db = TestDatabase::new(Backend::Postgres).await;
    tables(&db).await;
    db.execute("INSERT INTO notes VALUES (1, ''), (2, '')")
        .await;
    let mut config = config(&db).await;
    let gate = Gate::new();
    let held = gate.clone();
    config.limits.mutator_ms = 60_000;
    config.mutator("both", move |tx, ids: [i64; 2]| {
        let gate = held.clone();
        async move {
            let lock = |id: i64| format!("UPDATE notes SET body = body || 'x' WHERE id = {id}");
            execute(&tx, &lock(ids[0])).await?;
            gate.pass().await;
            execute(&tx, &lock(ids[1])).await
        }
    });
    let server = TestServer::with_config(config).await;
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    one.send_push(1, json!([call("both", json!([1, 2]))])).await;
    other
        .send_push(1, json!([call("both", json!([2, 1]))]))
        .await;
    gate.wait_calls(2).await;
    // The one that the database gives up comes again.
    gate.let_go(3);
    for client in [&mut one, &mut other] {
        client.wait_answered().await;
        client.outcome(1).expect("an answer").acked();
    }
    assert_eq!(gate.calls(), 3);
    assert_eq!(notes(&db).await["1"]["body"], "xx");

    one.send_push(2, json!([call("both", json!([1, 2]))])).await;
    gate.wait_calls(4).await;
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' \
         AND datname = current_database()",
    )
    .await;
    gate.let_go(2);
    one.wait_answered().await;
    one.outcome(2).expect("an answer").acked();
    assert_eq!(notes(&db).await["1"]["body"], "xxx");
}
