//! Sets that change with every batch: who joins has a snapshot of its own, within a batch that moves rows, and must
//! become live nevertheless.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::connection::SimpleConnection as _;
use rhtmx_sync_tests::{Dice, TestServer};
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};
use tokio::task::JoinHandle;

const TODOS: u64 = 12;
/// Each belongs to one of the writers.
const LIKES: u64 = 16;
const WRITERS: u64 = 2;
const LIKED: &str = "id IN (SELECT todo_id FROM likes)";
const FIRST: usize = 3;
/// Nobody reads the log because of a full queue.
const LONG: usize = 100_000;
const SUBSCRIPTIONS: [&str; 3] = ["likes", "liked", "first"];

/// How many cursors a client receives once all its subscriptions are live. Without that there would be a read of the log
/// for each of them.
const CURSORS: u64 = 60;
/// For each subscription: its own, one for all those that are live when a batch cuts it, and what else may come between.
const READS_OF_LOG_MAX: u64 = 5;

async fn serve(db: &TestDatabase, queue_batches_max: usize) -> TestServer {
    for statement in [
        "CREATE TABLE todos (id integer PRIMARY KEY, at integer NOT NULL)",
        "CREATE TABLE likes (id integer PRIMARY KEY, todo_id integer NOT NULL)",
    ] {
        db.execute(statement).await;
    }
    for id in 0..TODOS {
        db.execute(&format!("INSERT INTO todos VALUES ({id}, {id})"))
            .await;
    }
    let mut config = TestServer::config(db, ["todos", "likes"]).await;
    config.limits.queue_batches_max = queue_batches_max;
    config.limits.queue_bytes_max = 1 << 30;
    TestServer::with_config(config).await
}

/// Likes that come, move, and go.
fn statement(dice: &mut Dice, writer: u64) -> String {
    let like = writer + WRITERS * dice.pick(0..LIKES / WRITERS);
    let todo = dice.pick(0..TODOS);
    match dice.pick(0..4) {
        0 => format!("DELETE FROM likes WHERE id = {like}"),
        1 => format!("UPDATE likes SET todo_id = {todo} WHERE id = {like}"),
        _ => format!("INSERT INTO likes VALUES ({like}, {todo}) ON CONFLICT DO NOTHING"),
    }
}

/// Writers that commit without a pause.
struct Writers {
    done: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    async fn start(db: &TestDatabase, dice: &mut Dice) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (done, mut dice) = (done.clone(), dice.split());
            tasks.push(match db.backend() {
                Backend::Postgres => {
                    let client = db.connect_postgres().await;
                    tokio::spawn(async move {
                        while !done.load(Ordering::Relaxed) {
                            let statement = statement(&mut dice, writer);
                            client.batch_execute(&statement).await.expect("a commit");
                        }
                    })
                }
                Backend::Sqlite => {
                    let mut conn = db.connect_sqlite();
                    tokio::task::spawn_blocking(move || {
                        while !done.load(Ordering::Relaxed) {
                            let statement = statement(&mut dice, writer);
                            conn.batch_execute(&statement).expect("a commit");
                        }
                    })
                }
            });
        }
        Self { done, tasks }
    }

    async fn stop(mut self) {
        self.done.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("a writer");
        }
    }
}

/// A test that fails ends.
impl Drop for Writers {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

async fn subscribe(client: &mut SyncClient) {
    client.subscribe("likes", "likes").await;
    let liked = json!({ "entity": "todos", "where": LIKED });
    client.subscribe_with("liked", liked).await;
    let first =
        json!({ "entity": "todos", "where": LIKED, "order": [["at", "desc"]], "limit": FIRST });
    client.subscribe_with("first", first).await;
}

fn is_live(client: &SyncClient) -> bool {
    let mut subscriptions = SUBSCRIPTIONS.iter();
    subscriptions.all(|id| client.subscription(*id).is_live())
}

fn numbers<'a>(rows: impl Iterator<Item = &'a Value>, column: &str) -> BTreeSet<u64> {
    rows.map(|row| row[column].as_u64().expect("a number"))
        .collect()
}

/// All copies are of one instant.
fn assert_consistent(client: &SyncClient) {
    let of_likes = numbers(client.rows("likes").values(), "todo_id");
    let liked = numbers(client.rows("liked").values(), "id");
    assert_eq!(liked, of_likes, "at a cursor: {}", client.transcript());
    let first: BTreeSet<u64> = liked.into_iter().rev().take(FIRST).collect();
    let found = numbers(client.rows("first").values(), "id");
    assert_eq!(found, first, "at a cursor: {}", client.transcript());
}

async fn reads_of_log(server: &TestServer) -> u64 {
    let status = server.http().get("/api/sync/status").await.json();
    status["reads"]["of_log"].as_u64().expect("a number")
}

/// Receives until the client is live and has so many cursors, without too many reads of the log.
async fn watch(server: &TestServer, client: &mut SyncClient, max_refetched: usize) {
    let before = reads_of_log(server).await;
    let max = READS_OF_LOG_MAX * SUBSCRIPTIONS.len() as u64;
    let (mut frames, mut cursors, mut refetched) = (0_u64, 0, 0);
    while cursors < CURSORS {
        let frame = client.next_frame().await;
        frames += 1;
        if is_live(client) && frame["type"] == "cursor" {
            cursors += 1;
            assert_consistent(client);
        }
        if frames.is_multiple_of(10) || cursors == CURSORS {
            let reads = reads_of_log(server).await - before;
            assert!(
                reads <= max,
                "{reads} reads of the log, after {cursors} cursors"
            );
        }
        // It may start over where it cannot be told what has changed since its cursor, and then once.
        refetched += usize::from(frame["type"] == "refetch");
        assert!(refetched <= max_refetched, "{}", client.transcript());
    }
}

async fn assert_true(db: &TestDatabase, client: &mut SyncClient) {
    let query = format!("SELECT CAST(id AS text) AS key FROM todos WHERE {LIKED}");
    let expected: BTreeSet<String> = db.query_text(&query).await.into_iter().flatten().collect();
    client
        .wait_until(|client| client.rows("liked").keys().eq(&expected))
        .await;
}

both_backends! {
    async fn a_client_becomes_live_though_every_batch_moves_rows(db: TestDatabase) {
        let server = serve(&db, LONG).await;
        let mut dice = Dice::new("every_batch_moves_rows");
        // It is live before the first write.
        let mut early = server.connect().await;
        subscribe(&mut early).await;
        early.wait_until(is_live).await;
        let writers = Writers::start(&db, &mut dice).await;
        watch(&server, &mut early, 0).await;
        drop(early);
        let mut left = None;
        for _ in 0..3 {
            let mut client = server.connect().await;
            subscribe(&mut client).await;
            watch(&server, &mut client, 0).await;
            left = Some(client.into_state());
        }
        // It comes back, to what has changed meanwhile.
        let state = left.expect("a client");
        let mut client = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        watch(&server, &mut client, SUBSCRIPTIONS.len()).await;
        writers.stop().await;
        assert_true(&db, &mut client).await;
    }

    async fn many_clients_that_join_together_become_live(db: TestDatabase) {
        let server = serve(&db, LONG).await;
        let mut dice = Dice::new("many_join");
        let writers = Writers::start(&db, &mut dice).await;
        let before = reads_of_log(&server).await;
        let clients = (0..12).map(|_| async {
            let mut client = server.connect().await;
            subscribe(&mut client).await;
            let mut cursors = 0;
            while cursors < CURSORS {
                let frame = client.next_frame().await;
                assert_ne!(frame["type"], "refetch", "{}", client.transcript());
                if is_live(&client) && frame["type"] == "cursor" {
                    cursors += 1;
                    assert_consistent(&client);
                }
            }
            client
        });
        let clients = futures_util::future::join_all(clients).await;
        let reads = reads_of_log(&server).await - before;
        let max = READS_OF_LOG_MAX * (SUBSCRIPTIONS.len() * clients.len()) as u64;
        assert!(reads <= max, "{reads} reads of the log");
        writers.stop().await;
        for mut client in clients {
            assert_true(&db, &mut client).await;
        }
    }

    /// Its subscriptions stand at different positions when its queue is full: each goes on from its own.
    async fn a_client_that_falls_behind_starts_nothing_over(db: TestDatabase) {
        let server = serve(&db, 1).await;
        let mut dice = Dice::new("falls_behind");
        let writers = Writers::start(&db, &mut dice).await;
        for _ in 0..8 {
            let mut client = server.connect().await;
            subscribe(&mut client).await;
            let mut cursors = 0;
            while cursors < CURSORS / 4 {
                let frame = client.next_frame().await;
                // On SQLite what the log says twice of a row cannot always be undone.
                let is_told = db.backend() == Backend::Postgres;
                assert!(!is_told || frame["type"] != "refetch", "{}", client.transcript());
                if is_live(&client) && frame["type"] == "cursor" {
                    cursors += 1;
                    assert_consistent(&client);
                }
            }
        }
        writers.stop().await;
    }
}
