//! Everything at once: writers, subscribers that come and go and change their subscriptions, servers
//! that die. In the end every copy equals what the database returns for its filter, and every mutation
//! is applied as often as its answer says.
//!
//! `SEED=…` repeats the choices; their timing differs from run to run.

mod selections;
mod subscribers;
mod writers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rhtmx_sync_tests::Dice;
use serde_json::Value;
use testkit::{Backend, ServerProcess, TestDatabase};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use subscribers::{Copies, Subscriber};

/// The amount of load, and its duration.
struct Load {
    servers: usize,
    writers: usize,
    subscribers: usize,
    /// Servers killed, or connections terminated, one after another.
    accidents: usize,
}

/// The state that all tasks share.
struct Scene {
    /// The current addresses of the servers.
    urls: Mutex<Vec<String>>,
    stop: AtomicBool,
    stopped: watch::Sender<bool>,
    /// Whether the last write has been made.
    sentinel: watch::Sender<bool>,
    ready: Barrier,
}

/// The last row of each table.
const SENTINEL: &str = "987654321";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres() {
    let load = Load {
        servers: 2,
        writers: 8,
        subscribers: 20,
        accidents: 12,
    };
    soak(TestDatabase::postgres().await, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let load = Load {
        servers: 1,
        writers: 3,
        subscribers: 8,
        accidents: 5,
    };
    soak(TestDatabase::sqlite().await, load).await;
}

async fn soak(db: TestDatabase, load: Load) {
    let mut dice = Dice::new("soak");
    db.execute(writers::tables(db.backend())).await;
    let db = Arc::new(db);
    let mut servers = Vec::new();
    for _ in 0..load.servers {
        servers.push(server(&db).await);
    }
    let scene = Arc::new(Scene {
        urls: Mutex::new(servers.iter().map(ServerProcess::ws_url).collect()),
        stop: AtomicBool::new(false),
        stopped: watch::Sender::new(false),
        sentinel: watch::Sender::new(false),
        ready: Barrier::new(load.subscribers + 1),
    });

    let mut writing = JoinSet::new();
    for _ in 0..load.writers {
        writing.spawn(writers::write(db.clone(), scene.clone(), dice.split()));
    }
    let mut subscribed = JoinSet::new();
    for _ in 0..load.subscribers {
        subscribed.spawn(Subscriber::new(scene.clone(), dice.split()).run());
    }
    accidents(&db, &scene, &mut servers, &mut dice, load.accidents).await;
    scene.stop.store(true, Ordering::Relaxed);
    scene.stopped.send_replace(true);
    let commits: usize = writing.join_all().await.into_iter().sum();
    println!("soak: {commits} transactions were committed");
    assert!(commits > 20, "the writers hardly wrote: {commits}");

    // All subscribers are connected and have all answers. Then come some items for every filter and the
    // last write, which all subscribers must receive.
    scene.ready.wait().await;
    db.execute(writers::MORE_ITEMS).await;
    db.execute(&format!(
        "INSERT INTO items (id, owner, n) VALUES ({SENTINEL}, 0, 0)"
    ))
    .await;
    db.execute(&format!(
        "INSERT INTO marks (id, token) VALUES ({SENTINEL}, 'last')"
    ))
    .await;
    scene.sentinel.send_replace(true);
    let copies = subscribed.join_all().await;
    compare(&db, copies).await;
}

async fn server(db: &TestDatabase) -> ServerProcess {
    let url = db.url();
    let args = [
        "serve",
        "--database-url",
        &url,
        "--bind",
        "127.0.0.1:0",
        "--entity",
        "items",
        "--entity",
        "marks",
    ];
    ServerProcess::spawn(args, [("RUST_LOG", "warn")]).await
}

/// Kills a server, or cuts its connections to the database, again and again.
async fn accidents(
    db: &Arc<TestDatabase>,
    scene: &Scene,
    servers: &mut [ServerProcess],
    dice: &mut Dice,
    count: usize,
) {
    for _ in 0..count {
        // The pace of the load, not a wait for anything.
        tokio::time::sleep(Duration::from_millis(dice.pick(800..2500))).await;
        if db.backend() == Backend::Postgres && dice.chance(50) {
            // Listener, drain and pool connections alike; sometimes all at once.
            let some = if dice.chance(30) {
                "true"
            } else {
                "random() < 0.4"
            };
            db.execute(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'rhtmx-sync' AND datname = current_database() AND {some}"
            ))
            .await;
        } else {
            let victim = dice.pick(0..servers.len() as u64) as usize;
            let successor = server(db).await;
            let killed = std::mem::replace(&mut servers[victim], successor);
            scene.urls.lock().expect("not poisoned")[victim] = servers[victim].ws_url();
            killed.kill();
        }
    }
}

/// Every copy equals the rows of its filter, and every mutation is applied as its answer says.
async fn compare(db: &TestDatabase, copies: Vec<Copies>) {
    let object = match db.backend() {
        Backend::Postgres => "json_build_object",
        Backend::Sqlite => "json_object",
    };
    let items = table(
        db,
        &format!("SELECT {object}('id', id, 'owner', owner, 'n', n, 'note', note) FROM items"),
    )
    .await;
    let marks = table(
        db,
        &format!("SELECT {object}('id', id, 'token', token) FROM marks"),
    )
    .await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for mark in marks.values() {
        *times
            .entry(mark["token"].as_str().expect("a text").to_owned())
            .or_default() += 1;
    }
    let (mut acked, mut sent, mut selections, mut selected) = (0, 0, 0, 0);
    for (number, copy) in copies.iter().enumerate() {
        for (selection, rows) in &copy.items {
            assert_eq!(
                *rows,
                selection.of(db, &items).await,
                "subscriber {number} of {selection:?}"
            );
            selections += 1;
            selected += rows.len();
        }
        assert_eq!(copy.marks, marks, "marks of subscriber {number}");
        for token in &copy.acked {
            assert_eq!(
                times.get(token),
                Some(&1),
                "an acked mutation is applied once: {token}"
            );
        }
        for token in &copy.sent {
            assert!(
                times.get(token).is_none_or(|times| *times == 1),
                "a mutation is applied twice: {token}"
            );
        }
        acked += copy.acked.len();
        sent += copy.sent.len();
    }
    let known: usize = copies
        .iter()
        .map(|copy| {
            copy.sent
                .iter()
                .filter(|token| times.contains_key(*token))
                .count()
        })
        .sum();
    assert_eq!(known + 1, times.len(), "every applied mutation was sent");
    println!(
        "soak: {} items, {selected} of them in {selections} copies",
        items.len()
    );
    println!("soak: {sent} mutations sent, {acked} acks received");
    assert!(
        selected > selections,
        "the filters matched hardly any item: {selected} in {selections}"
    );
    assert!(acked > 20, "hardly any mutation was acked: {acked}");
}

async fn table(db: &TestDatabase, sql: &str) -> BTreeMap<String, Value> {
    let rows = db.query_json(sql).await;
    rows.into_iter()
        .map(|row| (row["id"].to_string(), row))
        .collect()
}
