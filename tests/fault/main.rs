//! Everything that can go wrong, at random, while writers write and clients come and go. After each
//! round everything is compared.
//!
//! `FAULT_SECONDS` sets the duration (60), `FAULT_SEED` repeats the choices; their timing differs from
//! run to run. `FAULT_ONLY=StopPostgres,Burst` selects some faults, `FAULT_WITHOUT=…` leaves some out.

mod alter;
mod clients;
mod crash;
mod database;
mod faults;
mod filters;
mod oracle;
mod prompt;
mod pushes;
mod rest;
mod sample;
mod scene;
mod schedule;
mod servers;
mod sqlite;
mod subscriptions;
mod trace;
mod watcher;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rhtmx_sync_tests::{Dice, Pooler};
use sync_core::cursor::Position;
use testkit::Backend;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use clients::{Client, Sentinel};
use database::Database;
use faults::Faults;
use oracle::Oracle;
use rest::{Crashes, RunStats};
use scene::{Phase, Report, Scene};
use schedule::Schedule;
use servers::Servers;
use trace::Trace;

const SERVERS: usize = 3;
const CLIENTS: usize = 24;
const WRITERS: usize = 5;
/// How the pooler works: it gives a session to each transaction, and knows nothing of prepared statements.
const POOLER: [&str; 3] = [
    "pool_mode = transaction",
    "default_pool_size = 40",
    "ignore_startup_parameters = extra_float_digits,options",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres() {
    let ends = Instant::now() + Duration::from_secs(number("FAULT_SECONDS").unwrap_or(60));
    let mut run = Run::start().await;
    while Instant::now() < ends {
        run.round().await;
    }
    run.end().await;
}

/// The seed of the environment, or a new one.
fn seed() -> u64 {
    let seed = number("FAULT_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32);
    println!("fault: FAULT_SEED={seed}");
    seed
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Run {
    db: Arc<Database>,
    scene: Arc<Scene>,
    faults: Faults,
    schedule: Schedule,
    dice: Dice,
    oracle: Oracle,
    reports: mpsc::Receiver<Report>,
    clients: JoinSet<()>,
    writers: JoinSet<u64>,
    stats: RunStats,
}

impl Run {
    async fn start() -> Self {
        let seed = seed();
        let mut dice = Dice::seeded(seed);
        let trace = Trace::new(seed);
        let db = Arc::new(Database::start().await);
        let pooler = Pooler::start(&db.url(), &POOLER).await;
        if let Err(why) = &pooler {
            trace.note(format!("NOT TESTED, no pooler: {why}"));
        }
        if !servers::can_shift_clocks() {
            trace.note("NOT TESTED, clocks: libfaketime is not installed");
        }
        let servers = Servers::start(SERVERS, &db.url(), pooler.ok()).await;
        let (scene, reports) = Scene::new(Backend::Postgres, trace, servers.addresses(), CLIENTS);
        let scene = Arc::new(scene);
        let schedule = Schedule::new(dice.split());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(Client::new(number, scene.clone(), dice.split()).run());
        }
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            writers.spawn(writers::write(db.clone(), scene.clone(), dice.split()));
        }
        let faults = Faults {
            db: db.clone(),
            scene: scene.clone(),
            servers,
            dice: dice.split(),
            clients: CLIENTS,
            alterations: alter::Alterations::default(),
            crashes: Vec::new(),
            background: JoinSet::new(),
        };
        let oracle = Oracle::default();
        let stats = RunStats::default();
        Self {
            db,
            scene,
            faults,
            schedule,
            dice,
            oracle,
            reports,
            clients,
            writers,
            stats,
        }
    }

    /// Load with faults, then rest.
    async fn round(&mut self) {
        self.stats.rounds += 1;
        self.scene
            .trace
            .note(format!("round {}", self.stats.rounds));
        self.scene.phase.send_replace(Phase::Load);
        let faults = self.schedule.round();
        for fault in faults {
            // The pace of the load, not a wait for anything.
            sleep(Duration::from_millis(self.dice.pick(100..1800))).await;
            self.faults.apply(fault).await;
            self.nobody_failed().await;
        }
        sleep(Duration::from_millis(self.dice.pick(100..1800))).await;
        self.faults.servers.look(&self.scene.trace);
        self.faults.servers.mend().await;
        self.rest().await;
    }

    async fn rest(&mut self) {
        self.scene.phase.send_replace(Phase::Settle);
        self.scene.trace.note("settling");
        // Granted when every writer has ended its transaction.
        drop(self.scene.writing.write().await);
        let clients = self.clients.len();
        let answered = {
            let answered = rest::answered(&self.scene, &mut self.reports, clients);
            tokio::select! {
                answered = answered => answered,
                failed = first_failure(&mut self.clients) => Err(failed),
            }
        };
        self.must(answered);
        let before = self.db.texts("SELECT pg_current_snapshot()::text").await;
        let position = Position::Snapshot(before[0].parse().expect("a snapshot"));
        let note = format!("rest {}", self.stats.rounds);
        self.db
            .execute(&format!("UPDATE accounts SET note = '{note}' WHERE id = 0"))
            .await;
        let now = self.oracle.read(&self.db).await;
        // Makes what the snapshot saw survive a crash.
        self.db.execute("INSERT INTO pulse DEFAULT VALUES").await;
        let sentinel = Sentinel {
            note,
            position,
            columns: self.faults.alterations.columns(),
        };
        self.scene.phase.send_replace(Phase::Quiet(sentinel));
        let ledger = rest::counted(self.db.texts("SELECT tag FROM ledger").await.into_iter());
        let crashes = Crashes {
            epoch: self
                .db
                .texts("SELECT epoch FROM _rhtmx_sync_meta")
                .await
                .remove(0),
            first_transactions: std::mem::take(&mut self.faults.crashes),
        };
        let compared = {
            let compared = rest::compare(
                &self.scene,
                &self.oracle,
                (&now, &crashes),
                &ledger,
                &mut self.reports,
                clients,
                &mut self.stats,
            );
            tokio::select! {
                compared = compared => compared,
                failed = first_failure(&mut self.clients) => Err(failed),
            }
        };
        self.must(compared);
        let at = self.faults.leader().await.unwrap_or(0);
        let prompt = prompt::late_writes(&self.db, &self.faults.servers.address(at)).await;
        self.must(prompt);
        self.oracle.forget_before(&now);
        self.scene.trace.note(format!(
            "at rest: {} samples, {} acks, {} rejects, {} connections, {} cursors, {} refetches; at most {} MB",
            self.stats.samples,
            self.stats.acked,
            self.stats.rejected,
            self.stats.connections,
            self.stats.cursors,
            self.stats.refetches,
            self.faults.servers.resident_mb_max(),
        ));
    }

    fn must(&self, result: Result<(), String>) {
        if let Err(wrong) = result {
            self.scene
                .trace
                .fail(&format!("{wrong}\n{}", self.faults.servers.outputs()));
        }
    }

    /// A client that has found something wrong ends the run at once.
    async fn nobody_failed(&mut self) {
        let failed =
            self.clients.try_join_next().is_some() || self.writers.try_join_next().is_some();
        if failed {
            self.must(Err("a client or a writer has failed: see above".to_owned()));
        }
    }

    async fn end(mut self) {
        self.faults.background.shutdown().await;
        self.scene.phase.send_replace(Phase::Stop);
        while self.clients.join_next().await.is_some() {}
        let commits: u64 = self.writers.join_all().await.into_iter().sum();
        println!("fault: {commits} commits, {:?}", self.stats);
        assert!(commits > 20 && self.stats.acked > 20, "this was no load");
    }
}

/// Never returns while all clients run.
async fn first_failure(clients: &mut JoinSet<()>) -> String {
    match clients.join_next().await {
        Some(Err(error)) => format!("a client has failed: {error}"),
        _ => std::future::pending().await,
    }
}
