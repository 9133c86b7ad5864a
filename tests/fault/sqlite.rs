//! SQLite: its server is killed, and its disk is full.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use rhtmx_sync_tests::Dice;
use sync_core::cursor::Position;
use sync_core::snapshot::Snapshot;
use tempfile::TempDir;
use testkit::{Backend, ServerProcess, TestDatabase};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clients::{Client, Sentinel};
use crate::filters::MEMBERS;
use crate::oracle::Oracle;
use crate::rest::{self, Crashes, RunStats};
use crate::scene::{Phase, Scene};
use crate::servers::config_file;
use crate::trace::Trace;
use crate::{number, seed};

const CLIENTS: usize = 8;
const WRITERS: usize = 2;

const TABLES: &str = "
CREATE TABLE items (id INTEGER PRIMARY KEY, list INT NOT NULL, n INT, done BOOLEAN NOT NULL DEFAULT false,
    title TEXT CHECK (title <> 'forbidden'), body TEXT NOT NULL DEFAULT '');
CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount INT NOT NULL, moves INT NOT NULL, note TEXT NOT NULL);
CREATE TABLE members (id INTEGER PRIMARY KEY, list INT NOT NULL, who INT NOT NULL);
CREATE TABLE ledger (id INTEGER PRIMARY KEY, client TEXT NOT NULL, tag TEXT NOT NULL);
WITH RECURSIVE g(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM g WHERE n < 15)
INSERT INTO accounts SELECT n, 100, 0, '' FROM g;
";

/// Each table with the JSON of its rows.
const ROWS: [(&str, &str); 4] = [
    (
        "members",
        "SELECT json_object('id', id, 'list', list, 'who', who) FROM members",
    ),
    (
        "items",
        "SELECT json_object('id', id, 'list', list, 'n', n, 'done', json(iif(done, 'true', 'false')), \
         'title', title, 'body', body) FROM items",
    ),
    (
        "accounts",
        "SELECT json_object('id', id, 'amount', amount, 'moves', moves, 'note', note) FROM accounts",
    ),
    (
        "ledger",
        "SELECT json_object('id', id, 'client', client, 'tag', tag) FROM ledger",
    ),
];

/// A library that is preloaded into a server, and the file whose presence fills its disk.
struct Disk {
    directory: TempDir,
}

impl Disk {
    /// Compiled here: the C compiler that builds SQLite is available.
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fault/disk_full.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(directory.path().join("disk_full.so"))
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("cc runs");
        assert!(compiled.success(), "disk_full.c does not compile");
        Self { directory }
    }

    fn settings(&self) -> [(&'static str, PathBuf); 2] {
        let place = self.directory.path();
        [
            ("LD_PRELOAD", place.join("disk_full.so")),
            ("DISK_FULL", place.join("full")),
        ]
    }

    fn fill(&self, full: bool) {
        let flag = self.directory.path().join("full");
        let done = if full {
            std::fs::write(flag, "")
        } else {
            std::fs::remove_file(flag)
        };
        done.expect("the flag");
    }
}

async fn server(db: &TestDatabase, disk: &Disk, bind: &str) -> ServerProcess {
    let url = db.url();
    let args = [
        "--bind", bind, "--entity", "items", "--entity", "accounts", "--entity", "ledger",
        "--entity", "members",
    ];
    let mut settings = vec![
        ("DATABASE_URL", PathBuf::from(url)),
        ("RUST_LOG", PathBuf::from("warn")),
    ];
    let config = config_file();
    settings.push(("RHTMX_SYNC_CONFIG", config.path().to_owned()));
    settings.extend(disk.settings());
    ServerProcess::spawn(args, settings).await
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let ends = Instant::now() + Duration::from_secs(number("FAULT_SECONDS").unwrap_or(60) / 4);
    let seed = seed();
    let mut dice = Dice::seeded(seed);
    let db = Arc::new(TestDatabase::sqlite().await);
    db.execute(TABLES).await;
    let disk = Disk::new();
    let mut process = server(&db, &disk, "127.0.0.1:0").await;
    let bind = process.address();
    let addresses = vec![process.ws_url()];
    let (scene, mut reports) = Scene::new(Backend::Sqlite, Trace::new(seed), addresses, CLIENTS);
    let scene = Arc::new(scene);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(Client::new(number, scene.clone(), dice.split()).run());
    }
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (db, scene, dice) = (db.clone(), scene.clone(), dice.split());
        writers.spawn_blocking(move || write(&db, &scene, dice));
    }
    let mut stats = RunStats::default();
    while Instant::now() < ends {
        stats.rounds += 1;
        scene.phase.send_replace(Phase::Load);
        for _ in 0..dice.pick(1..4) {
            sleep(Duration::from_millis(dice.pick(100..1500))).await;
            let full = dice.chance(60);
            if full {
                scene.trace.note("the disk is full");
                disk.fill(true);
                sleep(Duration::from_millis(dice.pick(200..2000))).await;
            }
            if dice.chance(50) {
                scene.trace.note("the server is killed");
                assert!(
                    !process.output().contains("panicked"),
                    "{}",
                    process.output()
                );
                process.kill();
                if full {
                    disk.fill(false);
                }
                process = server(&db, &disk, &bind).await;
            } else if full {
                disk.fill(false);
            }
        }
        at_rest(&db, &scene, &mut reports, &mut stats, &process).await;
    }
    scene.phase.send_replace(Phase::Stop);
    while clients.join_next().await.is_some() {}
    let commits: u64 = writers.join_all().await.into_iter().sum();
    println!("fault: on SQLite {commits} commits, {stats:?}");
    assert!(commits > 10 && stats.acked > 10, "this was no load");
}

async fn at_rest(
    db: &TestDatabase,
    scene: &Scene,
    reports: &mut tokio::sync::mpsc::Receiver<crate::scene::Report>,
    stats: &mut RunStats,
    process: &ServerProcess,
) {
    scene.phase.send_replace(Phase::Settle);
    scene.trace.note("settling");
    drop(scene.writing.write().await);
    if let Err(wrong) = rest::answered(scene, reports, CLIENTS).await {
        scene.trace.fail(&format!("{wrong}\n{}", process.output()));
    }
    let newest = db.query_text("SELECT max(id) FROM _rhtmx_sync_log").await;
    let newest = newest[0]
        .as_ref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let note = format!("rest {}", stats.rounds);
    db.execute(&format!("UPDATE accounts SET note = '{note}' WHERE id = 0"))
        .await;
    let mut tables = BTreeMap::new();
    for (entity, sql) in ROWS {
        tables.insert(entity.to_owned(), db.query_json(sql).await);
    }
    let oracle = Oracle::of_tables(tables);
    let sentinel = Sentinel {
        note,
        position: Position::log_id(newest),
        columns: Vec::new(),
    };
    scene.phase.send_replace(Phase::Quiet(sentinel));
    let now = Snapshot::new(1, 1, Vec::new()).expect("a snapshot");
    let ledger = rest::counted(
        db.query_text("SELECT tag FROM ledger")
            .await
            .into_iter()
            .flatten(),
    );
    let compared = rest::compare(
        scene,
        &oracle,
        (&now, &Crashes::default()),
        &ledger,
        reports,
        CLIENTS,
        stats,
    )
    .await;
    if let Err(wrong) = compared {
        scene.trace.fail(&format!("{wrong}\n{}", process.output()));
    }
    scene.trace.note(format!("at rest: {stats:?}"));
}

/// Another program on the same file; its disk is not full.
fn write(db: &TestDatabase, scene: &Scene, mut dice: Dice) -> u64 {
    let mut conn = db.connect_sqlite();
    let mut commits = 0;
    loop {
        std::thread::sleep(Duration::from_millis(dice.pick(5..60)));
        let _writing = scene.writing.blocking_read();
        match *scene.phase.borrow() {
            Phase::Stop => return commits,
            Phase::Load => {}
            Phase::Settle | Phase::Quiet(_) => continue,
        }
        let from = dice.pick(0..15);
        let to = dice.pick(from + 1..16);
        let (id, list, n) = (dice.pick(1..300), dice.pick(0..12), dice.pick(0..1000));
        let (member, who) = (dice.pick(0..20), dice.pick(0..MEMBERS));
        let commit = dice.chance(85);
        let sql = format!(
            "BEGIN IMMEDIATE; \
             UPDATE accounts SET amount = amount - {n}, moves = moves + 1 WHERE id = {from}; \
             INSERT INTO items (id, list, n, title) VALUES ({id}, {list}, {n}, 't{}') \
             ON CONFLICT (id) DO UPDATE SET n = excluded.n, list = excluded.list; \
             DELETE FROM items WHERE id = {}; UPDATE items SET done = NOT done WHERE id % 17 = {}; \
             DELETE FROM members WHERE id = {}; INSERT OR REPLACE INTO members VALUES ({member}, {list}, {who}); \
             UPDATE accounts SET amount = amount + {n}, moves = moves + 1 WHERE id = {to}; {}",
            n % 5,
            id + 1,
            n % 17,
            (member + 7) % 20,
            if commit { "COMMIT" } else { "ROLLBACK" }
        );
        match conn.batch_execute(&sql) {
            Ok(()) => commits += u64::from(commit),
            // Another connection had the file for too long.
            Err(_) => drop(conn.batch_execute("ROLLBACK")),
        }
    }
}
