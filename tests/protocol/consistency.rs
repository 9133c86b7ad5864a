//! At each cursor a copy equals the database at one committed instant, over all its subscriptions
//! together, while writers write and clients come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, SyncClient, TestDatabase, both_backends};

use crate::tables::{NOTES, TASKS, notes, rows};
use crate::writes::{create, delete, note, update};

/// The sum of all balances at any moment.
const TOTAL: i64 = 2000;

async fn make_accounts(db: &TestDatabase) {
    for table in ["accounts", "vault"] {
        db.execute(&format!(
            "CREATE TABLE {table} (id integer PRIMARY KEY, balance integer NOT NULL); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) \
             INSERT INTO {table} SELECT i, 100 FROM n"
        ))
        .await;
    }
}

/// Moves money in ways that keep the total: between rows, between tables, by rows that are created and
/// deleted, and at times in a transaction that is rolled back.
async fn move_money(db: &TestDatabase, number: i64) {
    let (from, to, sum) = (1 + number % 10, 1 + number * 7 % 10, number % 13);
    let (source, target) = if number % 3 == 0 {
        ("accounts", "vault")
    } else {
        ("vault", "accounts")
    };
    let passing = 100 + number;
    let statements = match number % 5 {
        0 => format!(
            "UPDATE {source} SET balance = balance - {sum} WHERE id = {from}; \
                      INSERT INTO {target} VALUES ({passing}, {sum})"
        ),
        1 => format!(
            "UPDATE {source} SET balance = balance - {sum} WHERE id = {from}; \
                      INSERT INTO {source} VALUES ({passing}, {sum}); \
                      DELETE FROM {source} WHERE id = {passing}; \
                      UPDATE {target} SET balance = balance + {sum} WHERE id = {to}"
        ),
        2 => format!("UPDATE {source} SET balance = balance - 5 WHERE id = {to}"),
        _ => format!(
            "UPDATE {source} SET balance = balance - {sum} WHERE id = {from}; \
                      UPDATE {target} SET balance = balance + {sum} WHERE id = {to}"
        ),
    };
    // The third way never commits.
    let end = if number % 5 == 2 {
        "ROLLBACK"
    } else {
        "COMMIT"
    };
    // Fails when two writers lock rows in different orders.
    let _ = db.try_execute(&format!("BEGIN; {statements}; {end}")).await;
}

fn total(client: &SyncClient, entities: [&str; 2]) -> i64 {
    let balances = entities.iter().flat_map(|id| client.rows(*id).values());
    balances
        .map(|row| row["balance"].as_i64().expect("a number"))
        .sum()
}

/// Reads one frame, and checks the copy at each cursor.
async fn next_frame(client: &mut SyncClient) -> Value {
    let frame = client.next_frame().await;
    let all_live = client
        .subscriptions()
        .values()
        .all(|subscription| subscription.is_live());
    if frame["type"] == "cursor" && all_live {
        assert_eq!(total(client, ["accounts", "vault"]), TOTAL, "{frame}");
        assert_eq!(client.rows("again"), client.rows("vault"));
    }
    frame
}

async fn subscribe_all(client: &mut SyncClient) {
    for (id, entity) in [
        ("accounts", "accounts"),
        ("vault", "vault"),
        ("again", "vault"),
    ] {
        client.subscribe(id, entity).await;
    }
}

/// Waits until the copy equals the tables.
async fn settle(client: &mut SyncClient, db: &TestDatabase) {
    for entity in ["accounts", "vault"] {
        let expected = rows(db, entity, &["id", "balance"]).await;
        while *client.rows(entity) != expected {
            next_frame(client).await;
        }
    }
    let expected = client.rows("vault").clone();
    client
        .wait_until(|client| *client.rows("again") == expected)
        .await;
    assert_eq!(total(client, ["accounts", "vault"]), TOTAL);
}

both_backends! {
    async fn sums_stay_the_same_at_each_cursor(db: TestDatabase) {
        make_accounts(&db).await;
        let server = TestServer::start(&db, ["accounts", "vault"]).await;
        let db = Arc::new(db);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            subscribe_all(&mut client).await;
            clients.push(client);
        }
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let db = db.clone();
                tokio::spawn(async move {
                    for step in 0..100 {
                        move_money(&db, writer * 1000 + step).await;
                    }
                })
            })
            .collect();
        let subscribers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                tokio::spawn(async move {
                    while client.frames("cursor") < 20 {
                        next_frame(&mut client).await;
                    }
                    client
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("no panic");
        }
        for subscriber in subscribers {
            let mut client = subscriber.await.expect("no panic");
            settle(&mut client, &db).await;
        }
    }

    /// Clients subscribe, leave and resume while a writer writes.
    async fn a_client_that_joins_during_writes_misses_nothing(db: TestDatabase) {
        make_accounts(&db).await;
        let server = TestServer::start(&db, ["accounts", "vault"]).await;
        let db = Arc::new(db);
        let done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (db, done) = (db.clone(), done.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    move_money(&db, number).await;
                }
            })
        };
        let mut client = server.connect().await;
        subscribe_all(&mut client).await;
        for round in 0..30_u64 {
            let enough = client.frames("cursor") + 1 + round % 3;
            while client.frames("cursor") < enough {
                next_frame(&mut client).await;
            }
            if round % 5 == 4 {
                let mut other = server.connect().await;
                subscribe_all(&mut other).await;
                while other.frames("cursor") < 3 {
                    next_frame(&mut other).await;
                }
            }
            let state = client.into_state();
            client =
                SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        }
        done.store(true, Ordering::Relaxed);
        writer.await.expect("no panic");
        settle(&mut client, &db).await;
        assert_eq!(client.frames("refetch"), 0);
    }

    /// The writer inserts increasing ids, so every copy must hold the first ids without a gap.
    async fn no_change_falls_between_first_read_and_stream(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let db = Arc::new(db);
        let writer = {
            let db = db.clone();
            tokio::spawn(async move {
                for id in 1..=600 {
                    db.execute(&format!("INSERT INTO notes VALUES ({id}, 'x')"))
                        .await;
                }
            })
        };
        let mut client = server.connect().await;
        let mut reached = 0;
        let mut joined = 0_u64;
        while reached < 600 {
            joined += 1;
            client.subscribe(joined, "notes").await;
            client.wait_subscribed(joined).await;
            for id in 1..=joined {
                let keys = client.rows(id).len();
                assert!(
                    (1..=keys).all(|key| client.row(id, &key.to_string()).is_some()),
                    "a gap"
                );
            }
            if joined == 90 {
                client
                    .wait_until(|client| client.rows(joined).len() == 600)
                    .await;
            }
            let now = client.rows(joined).len();
            assert!(now >= reached);
            reached = now;
        }
        writer.await.expect("no panic");
        for id in 1..=joined {
            client
                .wait_until(|client| client.rows(id).len() == 600)
                .await;
        }
    }

    /// Mutations of clients and statements of another program write the same rows.
    async fn copies_are_right_while_clients_and_programs_write_the_same_rows(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let db = Arc::new(db);
        let program = {
            let db = db.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    let id = number % 20;
                    let _ = db
                        .try_execute(&format!("INSERT INTO notes VALUES ({id}, 'theirs')"))
                        .await;
                    db.execute(&format!(
                        "UPDATE notes SET body = 'theirs {number}' WHERE id = {}",
                        id / 2
                    ))
                    .await;
                    db.execute(&format!("DELETE FROM notes WHERE id = {}", id + 1))
                        .await;
                }
            })
        };
        let mut clients = Vec::new();
        for client in 0..3_u64 {
            let mut one = server.connect().await;
            one.subscribe("n", "notes").await;
            one.subscribe("t", "tasks").await;
            for mutation in 1..=60 {
                let id = (mutation * 7 + client) % 20;
                let writes = match mutation % 4 {
                    0 => json!([note(id, "mine")]),
                    1 => json!([update(
                        "notes",
                        id,
                        json!({ "body": format!("mine {mutation}") })
                    )]),
                    2 => json!([delete("notes", id)]),
                    _ => json!([create(
                        "tasks",
                        json!({ "id": client * 100 + mutation, "body": "x" })
                    )]),
                };
                one.send_push(mutation, writes).await;
            }
            clients.push(one);
        }
        for client in &mut clients {
            client.wait_answered().await;
        }
        program.await.expect("no panic");
        let expected = notes(&db).await;
        let tasks = rows(&db, "tasks", &["id", "body"]).await;
        assert_eq!(tasks.len(), 45);
        for client in &mut clients {
            client
                .wait_until(|client| *client.rows("n") == expected)
                .await;
            client.wait_until(|client| *client.rows("t") == tasks).await;
        }
    }

    async fn a_rolled_back_transaction_is_never_sent(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        db.execute("BEGIN; INSERT INTO notes VALUES (1, 'never'); ROLLBACK")
            .await;
        db.execute(
            "BEGIN; INSERT INTO notes VALUES (2, 'two'); SAVEPOINT s; \
             INSERT INTO notes VALUES (3, 'never'); UPDATE notes SET body = 'never' WHERE id = 2; \
             ROLLBACK TO s; INSERT INTO notes VALUES (4, 'four'); COMMIT",
        )
        .await;
        let expected = notes(&db).await;
        client
            .wait_until(|client| *client.rows("a") == expected)
            .await;
        assert_eq!(
            (
                client.puts("a", "1"),
                client.puts("a", "3"),
                client.puts("a", "2")
            ),
            (0, 0, 1)
        );
    }
}
