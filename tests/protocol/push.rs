//! Mutations: applied once, answered in order, and visible with their ack.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, PushOutcome, SyncClient, TestDatabase, both_backends, eventually};
use uuid::Uuid;

use crate::sse::Events;
use crate::tables::{NOTES, TASKS, begin_another_epoch, count, insert_notes, ledger, notes, rows};
use crate::writes::{create, delete, note, update, upsert};

async fn server_of(db: &TestDatabase) -> TestServer {
    db.execute(&format!("{NOTES}; {TASKS}; {}", ledger(db.backend())))
        .await;
    TestServer::start(db, ["notes", "tasks", "ledger"]).await
}

async fn connect_as(server: &TestServer, client_id: Uuid) -> SyncClient {
    let options = ClientOptions {
        client_id,
        client_id_shared: true,
        ..ClientOptions::default()
    };
    SyncClient::connect(&server.ws_url(), options).await
}

/// Another row in the ledger.
fn entry(body: &str) -> Value {
    json!([create("ledger", json!({ "body": body }))])
}

/// The first answers, in their order.
async fn answers(client: &mut SyncClient, count: usize) -> Vec<(String, u64)> {
    let mut answers = Vec::new();
    while answers.len() < count {
        let frame = client.next_frame().await;
        let kind = frame["type"].as_str().expect("a type");
        if matches!(kind, "ack" | "reject") {
            answers.push((
                kind.to_owned(),
                frame["mutation"].as_u64().expect("a number"),
            ));
        }
    }
    answers
}

async fn wait_notes(client: &mut SyncClient, db: &TestDatabase) {
    let expected = notes(db).await;
    client
        .wait_until(|client| *client.rows("a") == expected)
        .await;
}

both_backends! {
    async fn no_text_ends_the_statement_that_carries_it(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        let many: String = (0..20_000).map(|number| format!("$q{number}$")).collect();
        let texts = [
            "'; DROP TABLE notes; --", r"\'; DROP TABLE notes; --", r"\", "$q$", "$q", "$", "$$", "$q$); DROP TABLE notes; --", r"$q$\'", "$1 $2", &many,
        ];
        for (id, text) in (0..).zip(texts) {
            client.push_next(json!([note(id, text)])).await.acked();
        }
        for (id, text) in texts.iter().enumerate() {
            assert_eq!(notes(&db).await[&id.to_string()]["body"], *text);
        }
    }

    async fn each_operation_is_applied_and_visible(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        let body = |client: &SyncClient, key: &str| {
            client
                .row("a", key)
                .map(|row| row["body"].as_str().expect("text").to_owned())
        };
        client.push_next(json!([note(1, "created")])).await.acked();
        client.wait_cursor().await;
        assert_eq!(body(&client, "1").as_deref(), Some("created"));

        let writes = json!([update("notes", 1, json!({ "body": "updated" }))]);
        client.push_next(writes).await.acked();
        client.wait_cursor().await;
        assert_eq!(body(&client, "1").as_deref(), Some("updated"));

        for text in ["inserted", "replaced"] {
            let writes = json!([upsert("notes", json!({ "id": 2, "body": text }))]);
            client.push_next(writes).await.acked();
            client.wait_cursor().await;
            assert_eq!(body(&client, "2").as_deref(), Some(text));
        }

        client
            .push_next(json!([delete("notes", "1")]))
            .await
            .acked();
        client.wait_cursor().await;
        assert_eq!(body(&client, "1"), None);
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    /// The key may be in `key`, in `values`, or in both.
    async fn the_key_may_be_in_key_or_in_values(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        let write = |op: &str, key: Option<Value>, values: Value| {
            let mut write = json!({ "entity": "notes", "op": op, "values": values });
            if let Some(key) = key {
                write["key"] = key;
            }
            json!([write])
        };
        for writes in [
            write("create", None, json!({ "id": 1, "body": "a" })),
            write("create", Some(json!("2")), json!({ "body": "a" })),
            write("create", Some(json!(3)), json!({ "id": 3, "body": "a" })),
            write("upsert", Some(json!(3)), json!({ "body": "b" })),
            write(
                "upsert",
                Some(json!("4")),
                json!({ "id": "4", "body": "b" }),
            ),
            write("update", Some(json!("1")), json!({ "id": 1, "body": "c" })),
        ] {
            client.push_next(writes).await.acked();
        }
        let bodies = rows(&db, "notes", &["id", "body"]).await;
        let bodies: Vec<&str> = bodies
            .values()
            .map(|row| row["body"].as_str().expect("text"))
            .collect();
        assert_eq!(bodies, ["c", "a", "b", "b"]);
    }

    /// Only other answers come between an ack and the cursor at which its change is visible.
    async fn an_ack_comes_just_before_its_cursor(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        for id in 1..=30 {
            client.send_push(id, json!([note(id, "mine")])).await;
            db.execute(&format!(
                "INSERT INTO notes VALUES ({}, 'theirs')",
                100 + id
            ))
            .await;
        }
        let mut acked = Vec::new();
        let mut seen = 0;
        while seen < 30 {
            let frame = client.next_frame().await;
            match frame["type"].as_str().expect("a type") {
                "ack" => acked.push(frame["mutation"].to_string()),
                "cursor" => {
                    for key in acked.drain(..) {
                        assert!(
                            client.row("a", &key).is_some(),
                            "{key} is acked but not visible"
                        );
                        seen += 1;
                    }
                }
                other => assert!(acked.is_empty(), "{other} after an ack, before its cursor"),
            }
        }
    }

    async fn a_push_without_a_subscription_is_answered(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        client.push_next(json!([note(1, "one")])).await.acked();
        assert_eq!(
            client
                .push_next(json!([note(1, "one")]))
                .await
                .rejected()
                .code,
            "exists"
        );
        // A mutation of an entity that others are subscribed to, while this client is subscribed to
        // another.
        client.subscribe("t", "tasks").await;
        client.wait_subscribed("t").await;
        client.push_next(json!([note(2, "two")])).await.acked();
        client.unsubscribe("t").await;
        client.push_next(json!([note(3, "three")])).await.acked();
        assert_eq!(notes(&db).await.len(), 3);
    }

    async fn a_push_during_a_first_read_is_answered(db: TestDatabase) {
        let server = server_of(&db).await;
        insert_notes(&db, 1, 3000).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        for mutation in 1..=20 {
            client
                .send_push(mutation, json!([note(5000 + mutation, "mine")]))
                .await;
        }
        client.wait_answered().await;
        client.wait_subscribed("a").await;
        wait_notes(&mut client, &db).await;
    }

    async fn the_writes_of_a_mutation_are_one_instant(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut watcher = server.connect().await;
        watcher.subscribe("n", "notes").await;
        watcher.subscribe("t", "tasks").await;
        watcher.wait_subscribed("n").await;
        watcher.wait_subscribed("t").await;
        let mut client = server.connect().await;
        for id in 1..=20_u64 {
            let values = json!({ "id": id, "body": "x" });
            let writes = json!([
                create("notes", values.clone()),
                create("tasks", values),
                update("notes", id, json!({ "body": "y" })),
            ]);
            client.send_push(id, writes).await;
        }
        while watcher.rows("n").len() < 20 {
            watcher.wait_cursor().await;
            assert_eq!(watcher.rows("n").len(), watcher.rows("t").len());
            assert!(watcher.rows("n").values().all(|row| row["body"] == "y"));
        }
        client.wait_answered().await;
    }

    async fn a_rejected_mutation_leaves_nothing(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        client.subscribe("n", "notes").await;
        client.wait_subscribed("n").await;
        let task = |id: u64| create("tasks", json!({ "id": id, "body": "x" }));
        let writes = json!([note(1, "x"), task(1), task(2), task(1), note(2, "x")]);
        let outcome = client.push_next(writes).await;
        let rejection = outcome.rejected();
        assert_eq!(
            (rejection.code.as_str(), rejection.write),
            ("exists", Some(3))
        );
        assert_eq!(
            (count(&db, "notes").await, count(&db, "tasks").await),
            (0, 0)
        );
        client.push_next(json!([note(2, "y")])).await.acked();
        client
            .wait_until(|client| client.row("n", "2").is_some())
            .await;
        assert_eq!((client.rows("n").len(), client.puts("n", "1")), (1, 0));
    }

    async fn answers_come_in_the_order_of_the_pushes(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        for mutation in 1..=100 {
            // Every third row exists already.
            let id = if mutation % 3 == 0 { 1 } else { mutation };
            client.send_push(mutation, json!([note(id, "x")])).await;
        }
        let expected: Vec<(String, u64)> = (1..=100)
            .map(|mutation| {
                let kind = if mutation % 3 == 0 { "reject" } else { "ack" };
                (kind.to_owned(), mutation)
            })
            .collect();
        assert_eq!(answers(&mut client, 100).await, expected);
        wait_notes(&mut client, &db).await;
        assert_eq!(client.rows("a").len(), 67);
    }

    async fn a_mutation_sent_twice_on_one_connection_is_applied_once(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        for mutation in [1, 1, 2, 1, 2] {
            client.push(mutation, entry("once")).await.acked();
        }
        // And without a wait for the answers.
        for mutation in [3, 3, 4, 3, 4, 4] {
            client.send_push(mutation, entry("once")).await;
        }
        let expected = [3, 3, 4, 3, 4, 4].map(|mutation| ("ack".to_owned(), mutation));
        assert_eq!(answers(&mut client, 6).await, expected);
        assert_eq!(count(&db, "ledger").await, 4);
    }

    async fn a_mutation_sent_on_two_connections_is_applied_once(db: TestDatabase) {
        let server = server_of(&db).await;
        let client_id = Uuid::new_v4();
        let mut one = connect_as(&server, client_id).await;
        let mut two = connect_as(&server, client_id).await;
        for client in [&mut one, &mut two] {
            client.subscribe("l", "ledger").await;
            client.wait_subscribed("l").await;
        }
        for mutation in 1..=30 {
            one.send_push(mutation, entry("once")).await;
            two.send_push(mutation, entry("once")).await;
        }
        for client in [&mut one, &mut two] {
            let mut acked = Vec::new();
            while acked.len() < 30 {
                let frame = client.next_frame().await;
                match frame["type"].as_str() {
                    Some("ack") => acked.push(frame["mutation"].as_u64().expect("a number")),
                    Some("reject") => panic!("{frame}"),
                    _ => {}
                }
            }
            assert_eq!(acked, (1..=30).collect::<Vec<u64>>());
            client
                .wait_until(|client| client.rows("l").len() == 30)
                .await;
        }
        assert_eq!(count(&db, "ledger").await, 30);
    }

    async fn a_mutation_sent_by_http_and_websocket_is_applied_once(db: TestDatabase) {
        let server = server_of(&db).await;
        let http = server.http();
        let client_id = Uuid::new_v4();
        let mut client = connect_as(&server, client_id).await;
        let body = |mutation: u64, writes: Value| -> Value {
            json!({ "client_id": client_id, "mutation": mutation, "writes": writes })
        };
        client.push(1, entry("once")).await.acked();
        let reply = http.post("/api/sync/ledger", &body(1, entry("once"))).await;
        assert_eq!((reply.status, &reply.json()["mutation"]), (200, &json!(1)));
        let reply = http.post("/api/sync/ledger", &body(2, entry("once"))).await;
        assert_eq!(reply.status, 200);
        client.push(2, entry("once")).await.acked();
        assert_eq!(count(&db, "ledger").await, 2);

        let duplicate = json!([note(1, "x"), note(1, "x")]);
        let reply = http
            .post("/api/sync/notes", &body(3, duplicate.clone()))
            .await;
        assert_eq!(reply.status, 409);
        let outcome = client.push(3, duplicate).await;
        let rejection = outcome.rejected();
        let by_http = reply.json();
        assert_eq!(by_http["code"], rejection.code);
        assert_eq!(by_http["message"], rejection.message);
        assert_eq!(by_http["write"], json!(rejection.write));
    }

    async fn a_mutation_sent_again_after_a_restart_is_applied_once(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        let state = client.state();
        let absent = json!([note(1, "x"), update("notes", 7, json!({ "body": "y" }))]);
        client.push(1, entry("once")).await.acked();
        client.push(2, absent.clone()).await.rejected();
        client.push(3, entry("once")).await.acked();
        drop(client);
        server.shutdown().await;
        insert_notes(&db, 7, 7).await;

        let server = TestServer::start(&db, ["notes", "tasks", "ledger"]).await;
        let mut client = connect_as(&server, state.client_id).await;
        assert_eq!(client.welcome()["last_mutation"], 3);
        client.push(1, entry("once")).await.acked();
        // The stored answer is returned, whatever the mutation would do now.
        let outcome = client.push(2, absent).await;
        let rejection = outcome.rejected();
        assert_eq!(
            (rejection.code.as_str(), rejection.write),
            ("not_found", Some(1))
        );
        client.push(3, entry("once")).await.acked();
        assert_eq!(
            (count(&db, "ledger").await, count(&db, "notes").await),
            (2, 1)
        );
        client.push(4, entry("once")).await.acked();
    }

    /// Each push in flight is applied once.
    async fn pushes_in_flight_on_a_broken_connection_are_applied_once(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        client.subscribe("l", "ledger").await;
        client.wait_subscribed("l").await;
        for round in 0..10 {
            for _ in 0..5 {
                let mutation = client.next_mutation();
                client.send_push(mutation, entry("once")).await;
            }
            if round % 2 == 0 {
                client.wait_for(|frame| frame["type"] == "ack").await;
            }
            let state = client.into_state();
            client =
                SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        }
        client.wait_answered().await;
        client
            .wait_until(|client| client.rows("l").len() == 50)
            .await;
        assert_eq!(count(&db, "ledger").await, 50);
    }

    async fn a_mutation_out_of_order_is_rejected(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        for mutation in [0, 2, 3, 99, i64::MAX as u64, u64::MAX] {
            let outcome = client.push(mutation, entry("never")).await;
            let rejection = outcome.rejected();
            assert_eq!(
                (rejection.code.as_str(), rejection.expected),
                ("out_of_order", Some(1))
            );
        }
        assert_eq!(count(&db, "ledger").await, 0);
        client.push(1, entry("once")).await.acked();
        let outcome = client.push(3, entry("never")).await;
        assert_eq!(outcome.rejected().expected, Some(2));
        client.push(2, entry("once")).await.acked();
        client.push(3, entry("once")).await.acked();
        assert_eq!(count(&db, "ledger").await, 3);
        for mutation in [json!(-1), json!(1.5), json!("4"), json!(null), json!(1e300)] {
            let push = json!({ "type": "push", "mutation": mutation, "writes": entry("never") });
            client.send_text(&push.to_string()).await;
            assert_eq!(client.wait_error().await, "protocol", "{mutation}");
        }
        client.push(4, entry("once")).await.acked();
        assert_eq!(count(&db, "ledger").await, 4);
    }

    async fn a_rejected_mutation_does_not_hold_up_the_next(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        let bad = [
            json!([]),
            json!([note(1, "x"), note(1, "x")]),
            json!([create("nowhere", json!({}))]),
            json!([update("notes", 77, json!({ "body": "x" }))]),
            json!([create("notes", json!({ "id": "x", "body": "x" }))]),
        ];
        let mut mutation = 0;
        for writes in bad {
            client.send_push(mutation + 1, writes).await;
            client.send_push(mutation + 2, entry("once")).await;
            mutation += 2;
        }
        let expected: Vec<(String, u64)> = (1..=10)
            .map(|mutation| {
                (
                    if mutation % 2 == 1 { "reject" } else { "ack" }.to_owned(),
                    mutation,
                )
            })
            .collect();
        assert_eq!(answers(&mut client, 10).await, expected);
        assert_eq!(count(&db, "ledger").await, 5);
    }

    /// A clock concerns field entities, not entities that keep rows.
    async fn a_clock_is_accepted_and_ignored(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = server.connect().await;
        for (id, hlc) in [(1, "2026-11-20T07:00:00.000Z-0000-node"), (2, "soon")] {
            let mut write = note(id, "x");
            write["hlc"] = json!(hlc);
            client.push_next(json!([write])).await.acked();
        }
    }

    /// In the end the copy of each client equals the table.
    async fn two_clients_that_write_one_row_see_the_same(db: TestDatabase) {
        let server = server_of(&db).await;
        insert_notes(&db, 1, 1).await;
        let mut one = server.connect().await;
        let mut two = server.connect().await;
        for client in [&mut one, &mut two] {
            client.subscribe("a", "notes").await;
            client.wait_subscribed("a").await;
        }
        for mutation in 1..=40 {
            for (name, client) in [("one", &mut one), ("two", &mut two)] {
                let body = format!("{name} {mutation}");
                let writes = json!([update("notes", 1, json!({ "body": body }))]);
                client.send_push(mutation, writes).await;
            }
        }
        for client in [&mut one, &mut two] {
            client.wait_answered().await;
        }
        for client in [&mut one, &mut two] {
            wait_notes(client, &db).await;
        }
    }

    /// Each of the two mutations waits for a row that the other has locked.
    async fn deadlocked_mutations_are_both_applied(db: TestDatabase) {
        let server = server_of(&db).await;
        insert_notes(&db, 1, 2).await;
        let mut one = server.connect().await;
        let mut two = server.connect().await;
        for mutation in 1..=10 {
            for (client, ids) in [(&mut one, [1, 2]), (&mut two, [2, 1])] {
                let writes = ids
                    .map(|id| update("notes", id, json!({ "body": format!("{id} {mutation}") })));
                client
                    .send_push(
                        mutation,
                        json!([writes[0], entry("x")[0], entry("y")[0], writes[1]]),
                    )
                    .await;
            }
        }
        for client in [&mut one, &mut two] {
            client.wait_answered().await;
            assert!((1..=10).all(|mutation| {
                matches!(client.outcome(mutation), Some(PushOutcome::Acked { .. }))
            }));
        }
        assert_eq!(count(&db, "ledger").await, 40);
    }
}

/// The server does not read from a client with too many pending pushes, so missing answers to its pings
/// do not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_waiting_pushes_is_not_timed_out() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    insert_notes(&db, 1, 1).await;
    let mut config = TestServer::config(&db, ["notes"]).await;
    config.limits.heartbeat_ms = 1000;
    let server = TestServer::with_config(config).await;
    let mut clock = Events::open(&server, "entity=notes", None).await;
    let holder = db.connect_postgres().await;
    holder
        .batch_execute("BEGIN; UPDATE notes SET body = 'held' WHERE id = 1")
        .await
        .expect("the holder locks the row");
    let mut client = server.connect().await;
    for mutation in 1..=100 {
        let writes = json!([update("notes", 1, json!({ "body": mutation.to_string() }))]);
        client.send_push(mutation, writes).await;
    }
    clock.heartbeats(4).await;
    holder
        .batch_execute("COMMIT")
        .await
        .expect("the holder commits");
    client.wait_answered().await;
    assert_eq!(count(&db, "notes WHERE body = '100'").await, 1);
}

/// An engine that shuts down lets a running mutation finish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_mutation_outlives_its_session() {
    let db = TestDatabase::postgres().await;
    let server = server_of(&db).await;
    insert_notes(&db, 1, 1).await;
    let holder = db.connect_postgres().await;
    holder
        .batch_execute("BEGIN; UPDATE notes SET body = 'held' WHERE id = 1")
        .await
        .expect("the holder locks the row");
    let mut client = server.connect().await;
    let writes = json!([
        update("notes", 1, json!({ "body": "mine" })),
        entry("once")[0]
    ]);
    client.send_push(1, writes.clone()).await;
    eventually("the mutation waits", || async {
        let waiting = "pg_stat_activity \
                       WHERE datname = current_database() AND wait_event = 'transactionid'";
        (count(&db, waiting).await == 1).then_some(())
    })
    .await;
    let (code, ()) = tokio::join!(
        async {
            let code = client.close_code().await;
            holder
                .batch_execute("COMMIT")
                .await
                .expect("the holder commits");
            code
        },
        server.engine().shutdown()
    );
    assert_eq!(code, 1001);
    assert_eq!(count(&db, "notes WHERE body = 'mine'").await, 1);

    let server = TestServer::start(&db, ["notes", "tasks", "ledger"]).await;
    let state = client.into_state();
    let mut client = connect_as(&server, state.client_id).await;
    assert_eq!(client.welcome()["last_mutation"], 1);
    client.push(1, writes).await.acked();
    assert_eq!(count(&db, "ledger").await, 1);
}

/// After a crash of PostgreSQL another server's listener may be the first to begin the new epoch. A
/// commit id of the new epoch means nothing to a server that still has positions of the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_of_an_unknown_epoch_is_not_acked() {
    let db = TestDatabase::postgres().await;
    let server = server_of(&db).await;
    let mut client = server.connect().await;
    client.subscribe("l", "ledger").await;
    client.wait_subscribed("l").await;
    let epoch = client.welcome()["epoch"].clone();
    // As recovery does. The listener's connections survive here, so this server does not notice.
    db.execute("DELETE FROM _rhtmx_sync_alive").await;
    client.send_push(1, entry("once")).await;
    db.execute("UPDATE _rhtmx_sync_meta SET epoch = gen_random_uuid()::text; INSERT INTO _rhtmx_sync_alive DEFAULT VALUES")
        .await;
    assert_eq!(client.wait_error().await, "unavailable");
    assert_eq!(client.close_code().await, 1001);

    begin_another_epoch(&db).await;
    let state = client.into_state();
    let mut client = loop {
        let options = ClientOptions::default();
        if let Ok(client) = SyncClient::try_reconnect(&server.ws_url(), options, &state).await
            && client.welcome()["epoch"] != epoch
        {
            break client;
        }
    };
    client.wait_answered().await;
    client
        .wait_until(|client| client.rows("l").len() == 1)
        .await;
    assert_eq!(count(&db, "ledger").await, 1);
}
