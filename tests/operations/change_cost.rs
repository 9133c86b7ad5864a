//! A change costs as much as the sessions that receive it, not as much as those that might.
//!
//! Costs are counted, not timed: how often a filter was evaluated, and how often a session was woken.

use futures_util::future::join_all;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, Http, SyncClient, TestDatabase, both_backends, eventually};

use crate::engines::status;

const TODOS: &str = "CREATE TABLE todos (id integer PRIMARY KEY, list_id integer, owner text, \
     assignee text, title text, done boolean NOT NULL)";
/// The limit of one connection.
const SUBSCRIPTIONS: u64 = 100;

/// A server over one todo, on list 7 and owned by ann.
async fn serve(db: &TestDatabase) -> TestServer {
    db.execute(TODOS).await;
    db.execute("INSERT INTO todos VALUES (1, 7, 'ann', 'bob', 'one', false)")
        .await;
    let mut config = TestServer::config(db, ["todos"]).await;
    // A session that has joined reads no heartbeats while others join.
    config.limits.heartbeat_ms = 600_000;
    TestServer::with_config(config).await
}

/// A client with a live subscription for each selection.
async fn client(server: &TestServer, selections: Vec<Value>) -> SyncClient {
    let options = ClientOptions {
        // Ten thousand first reads take a busy machine a while.
        patience: std::time::Duration::from_secs(600),
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&server.ws_url(), options).await;
    let count = selections.len() as u64;
    for (id, selection) in (0..).zip(selections) {
        let mut fields = selection;
        fields["entity"] = json!("todos");
        client.subscribe_with(id, fields).await;
    }
    // Each is at the cursor of its own read: the next change or heartbeat brings them together.
    for id in 0..count {
        client.wait_subscribed(id).await;
    }
    client
}

/// Clients with 100 numbered subscriptions each.
async fn clients_of(
    server: &TestServer,
    connections: u64,
    selection: impl Fn(u64) -> Value,
) -> Vec<SyncClient> {
    let selections_of = |connection: u64| {
        let numbers = connection * SUBSCRIPTIONS..(connection + 1) * SUBSCRIPTIONS;
        numbers.map(&selection).collect::<Vec<_>>()
    };
    join_all((0..connections).map(|connection| client(server, selections_of(connection)))).await
}

#[derive(Debug, PartialEq, Eq)]
struct Cost {
    evaluations: u64,
    deliveries: u64,
}

async fn total(http: &Http) -> Cost {
    let hub = status(http).await["hub"].clone();
    let number = |name: &str| hub[name].as_u64().expect("a number");
    Cost {
        evaluations: number("evaluations"),
        deliveries: number("deliveries"),
    }
}

/// Runs a statement, and waits until `witness` has received its changes.
async fn change(db: &TestDatabase, witness: &mut SyncClient, sql: &str) {
    db.execute(sql).await;
    witness.wait_for(|frame| frame["type"] == "changes").await;
    witness.wait_cursor().await;
}

/// A subscription that has just joined waits until the stream has reached the end of its read, and is
/// woken once more for that. Makes changes that the first client receives, until no subscription waits
/// any more.
async fn settle(db: &TestDatabase, clients: &mut [SyncClient]) {
    for round in 0..2 {
        let sql = format!("UPDATE todos SET title = 'settled {round}' WHERE id = 1");
        change(db, &mut clients[0], &sql).await;
        for client in &mut *clients {
            client.ping().await;
            client.reset_counters();
        }
    }
}

/// The cost of one statement whose changes `witness` receives.
async fn cost(db: &TestDatabase, http: &Http, witness: &mut SyncClient, sql: &str) -> Cost {
    let before = total(http).await;
    change(db, witness, sql).await;
    let after = total(http).await;
    Cost {
        evaluations: after.evaluations - before.evaluations,
        deliveries: after.deliveries - before.deliveries,
    }
}

fn list(number: u64) -> Value {
    json!({ "where": "list_id = $1", "params": [number] })
}

both_backends! {
    /// Each client has its own list: one change costs the same with a hundred subscriptions and with
    /// ten thousand, and wakes only the sessions that it concerns.
    async fn a_change_costs_the_same_among_ten_thousand_lists(db: TestDatabase) {
        let server = serve(&db).await;
        let http = server.http();
        let mut costs = Vec::new();
        for connections in [1, 100] {
            let mut clients = clients_of(&server, connections, list).await;
            let shapes = connections * SUBSCRIPTIONS;
            assert_eq!(status(&http).await["shapes_total"], shapes);
            settle(&db, &mut clients).await;
            let mut found = Vec::new();
            for sql in [
                "UPDATE todos SET title = 'new' WHERE id = 1",
                "UPDATE todos SET list_id = 8 WHERE id = 1",
                "UPDATE todos SET list_id = 7 WHERE id = 1",
                "INSERT INTO todos VALUES (2, 9, NULL, NULL, 'two', false)",
                "DELETE FROM todos WHERE id = 2",
            ] {
                found.push(cost(&db, &http, &mut clients[0], sql).await);
            }
            costs.push(found);
            // Nothing was sent to the others.
            for client in &mut clients[1..] {
                client.ping().await;
                assert_eq!((client.frames("changes"), client.frames("cursor")), (0, 0));
            }
            join_all(clients.into_iter().map(SyncClient::close)).await;
            eventually("the shapes end", async || {
                (status(&http).await["sessions"] == 0).then_some(())
            })
            .await;
        }
        for (few, many) in costs[0].iter().zip(&costs[1]) {
            assert!(many.evaluations * 2 <= few.evaluations * 3, "{few:?} became {many:?}");
            assert!(many.evaluations <= 2 && many.evaluations > 0, "{many:?}");
            assert_eq!((few.deliveries, many.deliveries), (1, 1));
        }
    }

    /// Each session is woken once.
    async fn equal_filters_are_evaluated_once(db: TestDatabase) {
        let server = serve(&db).await;
        let http = server.http();
        let spelled = |number: u64| match number % 4 {
            0 => json!({ "where": "list_id = 7 AND NOT done" }),
            1 => json!({ "where": "done = false AND list_id = $1", "params": [7] }),
            2 => json!({ "where": "NOT (done OR list_id <> 7)" }),
            _ => json!({ "where": "list_id IN ($1) AND done = $2", "params": [7, false] }),
        };
        let mut clients = clients_of(&server, 100, spelled).await;
        assert_eq!(status(&http).await["shapes_total"], 1);
        settle(&db, &mut clients).await;
        let sql = "UPDATE todos SET title = 'new' WHERE id = 1";
        let found = cost(&db, &http, &mut clients[0], sql).await;
        assert_eq!(found, Cost { evaluations: 1, deliveries: 100 });
        for client in &mut clients {
            client
                .wait_until(|client| client.row(99, "1").is_some_and(|row| row["title"] == "new"))
                .await;
            assert_eq!((client.frames("changes"), client.frames("cursor")), (1, 1));
        }
    }

    /// However many clients subscribe to it.
    async fn an_unindexed_filter_is_evaluated_once_per_shape(db: TestDatabase) {
        let server = serve(&db).await;
        let http = server.http();
        let selections = |number: u64| match number % 5 {
            0 => json!({ "where": "list_id > 5" }),
            1 => json!({ "where": "title LIKE '%e%'" }),
            2 => json!({ "where": "list_id BETWEEN 100 AND 200" }),
            3 => json!({ "where": "owner IS NULL" }),
            _ => json!({ "where": "NOT (list_id = 7)" }),
        };
        let mut clients = clients_of(&server, 4, selections).await;
        assert_eq!(status(&http).await["shapes_total"], 5);
        settle(&db, &mut clients).await;
        let sql = "UPDATE todos SET title = 'new' WHERE id = 1";
        let found = cost(&db, &http, &mut clients[0], sql).await;
        assert_eq!(found, Cost { evaluations: 5, deliveries: 4 });
    }

    /// The index finds a filter of several conditions by the one that distinguishes it.
    async fn a_filter_of_several_conditions_is_indexed(db: TestDatabase) {
        let server = serve(&db).await;
        let http = server.http();
        let selections = |number: u64| match number % 4 {
            0 => json!({ "where": "done = false AND list_id = $1", "params": [number] }),
            1 => {
                let name = format!("user {number}");
                json!({ "where": "owner = $1 OR assignee = $1", "params": [name] })
            }
            2 => json!({ "where": "list_id IN ($1, $2) AND title LIKE '%'", "params": [number, number + 100_000] }),
            _ => json!({ "where": "list_id > 0 AND (list_id = $1 OR owner = 'nobody')", "params": [number] }),
        };
        let mut clients = clients_of(&server, 10, selections).await;
        let own = vec![
            json!({ "where": "done = false AND list_id = 7" }),
            json!({ "where": "owner = 'ann' OR assignee = 'ann'" }),
            json!({ "where": "list_id IN (7, 100007) AND title LIKE '%'" }),
        ];
        clients.insert(0, client(&server, own).await);
        settle(&db, &mut clients).await;
        for (sql, most) in [
            ("UPDATE todos SET title = 'new' WHERE id = 1", 6),
            ("UPDATE todos SET assignee = 'ann', owner = 'bob' WHERE id = 1", 6),
            ("UPDATE todos SET done = true WHERE id = 1", 6),
            ("UPDATE todos SET list_id = 100007, assignee = NULL WHERE id = 1", 6),
        ] {
            let found = cost(&db, &http, &mut clients[0], sql).await;
            assert!((1..=most).contains(&found.evaluations), "{sql}: {found:?}");
            assert!((1..=2).contains(&found.deliveries), "{sql}: {found:?}");
        }
    }

    /// After clients have joined and left, a change meets nothing of them.
    async fn ended_subscriptions_cost_nothing(db: TestDatabase) {
        let server = serve(&db).await;
        let http = server.http();
        let mut clients = clients_of(&server, 1, |number| json!({ "where": "id > $1", "params": [number] })).await;
        clients.insert(0, client(&server, vec![list(7)]).await);
        settle(&db, &mut clients).await;
        let mut other = clients.pop().expect("the client with many subscriptions");
        let mut witness = clients.pop().expect("the witness");
        let sql = "UPDATE todos SET title = 'new' WHERE id = 1";
        assert_eq!(cost(&db, &http, &mut witness, sql).await.evaluations, 101);
        for id in 0..50 {
            other.unsubscribe(id).await;
        }
        other.ping().await;
        let sql = "UPDATE todos SET title = 'newer' WHERE id = 1";
        assert_eq!(cost(&db, &http, &mut witness, sql).await.evaluations, 51);
        drop(other);
        eventually("the shapes end", async || {
            (status(&http).await["shapes_total"] == 1).then_some(())
        })
        .await;
        let sql = "UPDATE todos SET title = 'newest' WHERE id = 1";
        let alone = Cost { evaluations: 1, deliveries: 1 };
        assert_eq!(cost(&db, &http, &mut witness, sql).await, alone);
    }
}
