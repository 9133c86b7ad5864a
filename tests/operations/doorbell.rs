//! The cursor and the doorbell: no change is lost, repeated or held up, and not every commit sends a
//! notification.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use rhtmx_sync::{Change, ChangeReceiver};
use rhtmx_sync_tests::{Dice, TcpProxy, TestServer};
use testkit::{Backend, SyncClient, TestDatabase, both_backends};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::engines::{asleep, queued, silent_writer, terminate_leader};
use crate::writers::{self, LAST, NOTES, TASKS, Transaction, has_each_once, insert, write_last};

async fn subscriber(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    client
}

/// How often a receiver received each row, up to the last row.
async fn received(mut receiver: ChangeReceiver) -> BTreeMap<String, u32> {
    let mut received = BTreeMap::new();
    while !received.contains_key(&LAST.to_string()) {
        for tracked in &receiver
            .recv()
            .await
            .expect("the receiver keeps up")
            .changes
        {
            let Change::Put { key, .. } = &tracked.change else {
                panic!("{tracked:?}")
            };
            *received.entry(key.clone()).or_default() += 1;
        }
    }
    received
}

both_backends! {
    /// Transactions commit in another order than they began, and take between nothing and a second and
    /// a half; some are rolled back. One client subscribed before them, one subscribes in between.
    async fn nothing_is_lost_or_repeated(db: TestDatabase) {
        let mut dice = Dice::new("nothing_is_lost_or_repeated");
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut early = subscriber(&server).await;
        let receiver = tokio::spawn(received(server.engine().change_tracker().subscribe()));

        let (writers, transactions, slowest_ms) = match db.backend() {
            Backend::Postgres => (8, 25, 1500),
            Backend::Sqlite => (3, 25, 60),
        };
        let plans: Vec<Vec<Transaction>> = (0..writers)
            .map(|writer| {
                let first_id = 1 + writer * transactions * Transaction::IDS;
                Transaction::plan(&mut dice, first_id, transactions, slowest_ms)
            })
            .collect();
        let writing = join_all(plans.into_iter().map(|plan| writers::run(&db, plan)));
        let joining = async {
            early.wait_until(|client| client.rows("notes").len() > 30).await;
            subscriber(&server).await
        };
        let (left, mut late) = tokio::join!(writing, joining);
        let left: BTreeSet<u64> = left.into_iter().flatten().collect();
        write_last(&db).await;

        has_each_once(&mut early, "notes", &left).await;
        has_each_once(&mut late, "notes", &left).await;
        let received = receiver.await.expect("the receiver does not fail");
        assert_eq!(received.len(), left.len() + 1);
        assert!(received.values().all(|times| *times == 1), "{received:?}");
    }
}

/// Three transactions stay open: one that has nothing to do with the engine, one that writes to a table
/// that is not synced, and one that has written to a synced one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_transactions_hold_up_no_other_change() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {TASKS}")).await;
    let server = TestServer::start(&db, ["notes"]).await;
    let mut client = subscriber(&server).await;
    let mut long = Vec::new();
    for statement in [
        "SELECT pg_current_xact_id()",
        "INSERT INTO tasks VALUES (1, 'one')",
    ] {
        let conn = db.connect_postgres().await;
        conn.batch_execute(&format!("BEGIN; {statement}"))
            .await
            .expect("a transaction");
        long.push(conn);
    }
    let writer = db.connect_postgres().await;
    writer
        .batch_execute(&format!("BEGIN; {}", insert([1000])))
        .await
        .expect("a write");

    for id in 1..40 {
        db.execute(&insert([id])).await;
        client
            .wait_until(|client| client.row("notes", &id.to_string()).is_some())
            .await;
    }
    assert!(
        client.row("notes", "1000").is_none(),
        "the row is not committed"
    );
    writer.batch_execute("COMMIT").await.expect("a commit");
    client
        .wait_until(|client| client.row("notes", "1000").is_some())
        .await;
    for conn in long {
        conn.batch_execute("COMMIT").await.expect("a commit");
    }
    write_last(&db).await;
    has_each_once(&mut client, "notes", &(1..40).chain([1000]).collect()).await;
}

/// Round trips that a change may take beside other work. A listener that misses a wake-up finds the
/// change a second later, which is some thousands of round trips.
const ROUND_TRIPS_MAX: u32 = 400;

/// Waits for a row, for at most this many round trips to the same server and database.
async fn arrives_soon(client: &mut SyncClient, conn: &Client, id: u64) {
    for _ in 0..ROUND_TRIPS_MAX {
        conn.simple_query("SELECT 1").await.expect("an answer");
        client.ping().await;
        if client.row("notes", &id.to_string()).is_some() {
            return;
        }
    }
    panic!("row {id} has not arrived after {ROUND_TRIPS_MAX} round trips");
}

/// Writers that begin while the listener is awake do not ring. When the listener goes to sleep behind
/// such a writer, which then commits, only the drain before the sleep finds its row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_of_a_silent_writer_arrives_when_it_commits() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let server = TestServer::start(&db, ["notes"]).await;
    let mut client = subscriber(&server).await;
    let (other, observer) = (db.connect_postgres().await, db.connect_postgres().await);
    for round in 0..8 {
        let id = 1 + round * 10;
        // It is silent only if the listener is awake, which the write just before ensures.
        let silent = loop {
            let silent = db.connect_postgres().await;
            other.batch_execute("INSERT INTO notes VALUES (0, '') ON CONFLICT (id) DO UPDATE SET body = notes.body || '.'").await.expect("a write");
            silent
                .batch_execute(&format!("BEGIN; {}", insert([id])))
                .await
                .expect("a write");
            let held =
                "SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
            if !silent.query(held, &[]).await.expect("the locks").is_empty() {
                break silent;
            }
            silent.batch_execute("ROLLBACK").await.expect("a rollback");
        };
        silent_writer(&db).await;
        queued(&db).await;
        // While it waits, the changes of others arrive as ever.
        other
            .batch_execute(&insert([id + 1]))
            .await
            .expect("a write");
        arrives_soon(&mut client, &observer, id + 1).await;
        silent.batch_execute("COMMIT").await.expect("a commit");
        arrives_soon(&mut client, &observer, id).await;
        assert_eq!(client.puts("notes", &id.to_string()), 1);
        asleep(&db).await;
    }
}

/// A listener that sleeps, or waits behind a writer that has been open for long, looks at the log once
/// a second. One that spins would do so thousands of times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_listener_reads_the_log_once_a_second() {
    const PAUSE: Duration = Duration::from_secs(3);
    const REQUESTS_MAX: u64 = 40;
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let (proxy, through) = TcpProxy::of_database(&db.url()).await;
    let mut config = TestServer::config(&db, ["notes"]).await;
    config.database.listen_url = Some(through);
    let server = TestServer::with_config(config).await;
    let mut client = subscriber(&server).await;

    asleep(&db).await;
    let before = proxy.requests();
    tokio::time::sleep(PAUSE).await;
    let asleep = proxy.requests() - before;
    assert!(asleep < REQUESTS_MAX, "{asleep} requests asleep");

    let writer = db.connect_postgres().await;
    db.execute(&insert([1])).await;
    client
        .wait_until(|client| client.row("notes", "1").is_some())
        .await;
    writer
        .batch_execute(&format!("BEGIN; {}", insert([2])))
        .await
        .expect("a write");
    // Whether the writer has rung or is silent, the listener comes to rest.
    tokio::time::sleep(PAUSE).await;
    let before = proxy.requests();
    tokio::time::sleep(PAUSE).await;
    let beside = proxy.requests() - before;
    assert!(
        beside < REQUESTS_MAX,
        "{beside} requests beside an open writer"
    );
    writer.batch_execute("COMMIT").await.expect("a commit");
    client
        .wait_until(|client| client.row("notes", "2").is_some())
        .await;
}

/// Counts the notifications of a database until one says `end`.
async fn notifications(db: &TestDatabase) -> impl Future<Output = usize> {
    let (client, mut connection) = tokio_postgres::connect(&db.url(), NoTls)
        .await
        .expect("a connection");
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = futures_util::StreamExt::next(&mut messages).await {
            if let AsyncMessage::Notification(notification) = message
                && sender.send(notification.payload().to_owned()).is_err()
            {
                return;
            }
        }
    });
    client
        .batch_execute("LISTEN _rhtmx_sync")
        .await
        .expect("the connection listens");
    async move {
        let _open = client;
        let mut count = 0;
        while let Some(payload) = receiver.recv().await {
            if payload == "end" {
                return count;
            }
            count += 1;
        }
        panic!("the connection has ended");
    }
}

/// Most of thousands of commits find the listener awake and send no notification.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_writers_ring_under_load() {
    const WRITERS: u64 = 8;
    const COMMITS: u64 = 400;
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let server = TestServer::start(&db, ["notes"]).await;
    let mut client = subscriber(&server).await;
    asleep(&db).await;

    let counted = notifications(&db).await;
    let writing = (0..WRITERS).map(|writer| {
        let conn = db.connect_postgres();
        async move {
            let conn = conn.await;
            for number in 0..COMMITS {
                conn.batch_execute(&insert([1 + writer * COMMITS + number]))
                    .await
                    .expect("a write");
            }
        }
    });
    join_all(writing).await;
    db.execute("NOTIFY _rhtmx_sync, 'end'").await;
    let (rings, commits) = (counted.await, (WRITERS * COMMITS) as usize);
    assert!(rings >= 1, "a sleeping listener was rung");
    assert!(
        rings < commits / 20,
        "{rings} notifications for {commits} commits"
    );

    write_last(&db).await;
    has_each_once(&mut client, "notes", &(1..=WRITERS * COMMITS).collect()).await;
}

/// The listener's connection is ended again and again while writers write. No session is affected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_listener_connections_lose_nothing() {
    let mut dice = Dice::new("lost_listener_connections_lose_nothing");
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let server = TestServer::start(&db, ["notes"]).await;
    let mut client = subscriber(&server).await;
    let plans: Vec<Vec<Transaction>> = (0..4)
        .map(|writer| Transaction::plan(&mut dice, 1 + writer * 100_000, 150, 40))
        .collect();
    let writing = join_all(plans.into_iter().map(|plan| writers::run(&db, plan)));
    let terminating = async {
        let mut ended = 0;
        while ended < 12 {
            // There is no leader while the listener reconnects.
            ended += u32::from(terminate_leader(&db).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (left, ()) = tokio::join!(writing, terminating);
    write_last(&db).await;
    has_each_once(&mut client, "notes", &left.into_iter().flatten().collect()).await;
}
