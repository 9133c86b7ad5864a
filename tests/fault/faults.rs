//! Applies the faults of the schedule.

use std::sync::Arc;
use std::time::Duration;

use rhtmx_sync::{DbPool, SyncConfig};
use rhtmx_sync_tests::{Dice, TestServer};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::alter::Alterations;
use crate::database::Database;
use crate::oracle::UNREADABLE_BODY;
use crate::scene::Scene;
use crate::schedule::Fault;
use crate::servers::{ENTITIES, Manner, Pooled, Servers, absence, entities};
use crate::subscriptions::reads_bulk;

/// The listeners of the followers, by their advisory lock, and of the leader, by its claim.
const LISTENERS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' \
                         AND classid = 1919448173 AND objid = 2019491844 \
                         UNION ALL SELECT pid FROM _rhtmx_sync_lock WHERE pid IS NOT NULL";
const DOORBELLS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' \
                         AND classid = 1919448173 AND objid <> 2019491844";

const DEAF: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(20);

pub(crate) struct Faults {
    pub(crate) db: Arc<Database>,
    pub(crate) scene: Arc<Scene>,
    pub(crate) servers: Servers,
    pub(crate) dice: Dice,
    pub(crate) clients: usize,
    pub(crate) alterations: Alterations,
    /// The first transaction after each crash of this round.
    pub(crate) crashes: Vec<u64>,
    /// Transactions that are held open.
    pub(crate) background: JoinSet<()>,
}

impl Faults {
    pub(crate) async fn apply(&mut self, fault: Fault) {
        let at = self.dice.pick(0..self.servers.len() as u64) as usize;
        self.scene.trace.note(format!("{fault:?}"));
        match fault {
            Fault::KillServer => self.replace(at, false).await,
            Fault::TerminateServer => self.replace(at, true).await,
            Fault::KillLeader => {
                let leader = self.leader().await.unwrap_or(at);
                self.replace(leader, false).await;
            }
            Fault::CutListeners => self.terminate(&format!("pid IN ({LISTENERS})")).await,
            Fault::CutDoorbells => self.terminate(&format!("pid IN ({DOORBELLS})")).await,
            Fault::CutPools => {
                self.terminate(&format!("pid NOT IN ({LISTENERS}) AND random() < 0.7"))
                    .await
            }
            Fault::CutAllConnections => self.terminate("true").await,
            Fault::StopPostgres => {
                self.db.stop();
                sleep(absence(&mut self.dice)).await;
                let next = self.db.start_again().await;
                self.scene
                    .trace
                    .note(format!("transactions go on from {next}"));
                self.crashes.push(next);
            }
            Fault::CutClients => self.servers.client_network(&mut self.dice).cut(),
            Fault::ResetClients => self.servers.client_network(&mut self.dice).reset(),
            Fault::CutDatabase => self.servers.database_network(&mut self.dice).cut(),
            Fault::ResetDatabase => self.servers.database_network(&mut self.dice).reset(),
            Fault::StallClients | Fault::StallDatabase => {
                let lasts = Duration::from_millis(self.dice.pick(500..3500));
                let network = self.network(fault == Fault::StallClients);
                network.stall(true);
                sleep(lasts).await;
                network.stall(false);
            }
            Fault::DelayClients | Fault::DelayDatabase => {
                let (lasts, late) = (self.dice.pick(500..3500), self.dice.pick(10..200));
                let network = self.network(fault == Fault::DelayClients);
                network.delay(late);
                sleep(Duration::from_millis(lasts)).await;
                network.delay(0);
            }
            Fault::DeafClients => {
                let deaf = (0..self.clients).filter(|client| reads_bulk(*client));
                deaf.for_each(|client| self.scene.stop_reading(client, DEAF));
                // More than all buffers on the way hold.
                for _ in 0..5 {
                    self.db.execute("UPDATE bulk SET n = n + 1, body = repeat('deaf ', 1000) WHERE id <= 425").await;
                }
                self.db
                    .execute("UPDATE bulk SET n = n + 1, body = repeat('b', 60) WHERE id <= 425")
                    .await;
            }
            Fault::Burst => self.burst().await,
            Fault::LongTransaction => self.long_transaction(),
            Fault::Retention => self.retention().await,
            Fault::AlterTable => {
                let done = self.alterations.make(&self.db, &mut self.dice).await;
                self.scene.trace.note(done);
            }
            Fault::LockedTable => self.locked_table().await,
            Fault::UnreadableRow => self.unreadable_row().await,
            Fault::RestoreDump => self.restore_dump().await,
            Fault::NewerVersion => self.newer_version().await,
            Fault::WrongClocks => {
                let other = (at + 1) % self.servers.len();
                for (at, clock) in [(at, 1800), (other, -1800)] {
                    let manner = Manner {
                        clock,
                        ..self.servers.manner(at)
                    };
                    self.servers.set_manner(at, manner);
                    self.replace(at, true).await;
                }
            }
            Fault::Pooler if self.servers.has_pooler() => {
                let pooled = if self.dice.chance(50) {
                    Pooled::ButForListening
                } else {
                    Pooled::Wholly
                };
                self.scene.trace.note(format!("server{at}: {pooled:?}"));
                self.servers.set_manner(
                    at,
                    Manner {
                        pooled: Some(pooled),
                        ..Manner::default()
                    },
                );
                self.replace(at, true).await;
            }
            Fault::Pooler => {}
        }
    }

    fn network(&mut self, of_clients: bool) -> &rhtmx_sync_tests::TcpProxy {
        if of_clients {
            self.servers.client_network(&mut self.dice)
        } else {
            self.servers.database_network(&mut self.dice)
        }
    }

    /// Ends a server, and starts another in its place.
    async fn replace(&mut self, at: usize, in_peace: bool) {
        let trace = &self.scene.trace;
        trace.note(format!("server{at} ends"));
        if in_peace {
            self.servers.terminate(at, trace).await;
        } else {
            self.servers.kill(at, trace).await;
        }
        if self.dice.chance(30) {
            self.servers.set_manner(at, Manner::default());
        }
        sleep(absence(&mut self.dice)).await;
        self.servers.start_again(at).await;
        self.scene
            .trace
            .note(format!("server{at} is back: {:?}", self.servers.manner(at)));
    }

    /// The index of the leader.
    pub(crate) async fn leader(&self) -> Option<usize> {
        let found = self
            .db
            .texts(
                "SELECT application_name FROM pg_stat_activity JOIN _rhtmx_sync_lock USING (pid) \
                 WHERE name = 'leader'",
            )
            .await;
        found.first()?.strip_prefix("server")?.parse().ok()
    }

    async fn terminate(&self, which: &str) {
        let ended = self
            .db
            .texts(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name LIKE 'server%' AND {which}"
            ))
            .await;
        self.scene
            .trace
            .note(format!("{} connections terminated", ended.len()));
    }

    /// For a while nobody else reads or writes one table.
    async fn locked_table(&mut self) {
        let lasts = Duration::from_millis(self.dice.pick(500..4500));
        let client = self.db.connect().await;
        let lock = "SET lock_timeout = '3s'; BEGIN; LOCK TABLE bulk IN ACCESS EXCLUSIVE MODE";
        match client.batch_execute(lock).await {
            // The lock ends with the connection.
            Ok(()) => sleep(lasts).await,
            Err(error) => self.scene.trace.note(format!("not now ({error})")),
        }
    }

    /// For a while one row is larger than a row may be.
    async fn unreadable_row(&mut self) {
        let lasts = Duration::from_millis(self.dice.pick(500..4500));
        let id = self.dice.pick(1..425);
        let set = |body: &str| format!("UPDATE bulk SET body = {body} WHERE id = {id}");
        self.db.execute(&set(UNREADABLE_BODY)).await;
        sleep(lasts).await;
        self.db.execute(&set("repeat('b', 60)")).await;
    }

    /// While nobody writes, a restored dump takes the database's place. No row is lost, but the log's history is another
    /// one.
    async fn restore_dump(&mut self) {
        let scene = self.scene.clone();
        let _writing = scene.writing.write().await;
        self.background.shutdown().await;
        for at in 0..self.servers.len() {
            self.servers.terminate(at, &scene.trace).await;
        }
        self.db.replace_by_its_dump().await;
        for at in 0..self.servers.len() {
            self.servers.start_again(at).await;
        }
    }

    /// For a while a newer version of the engine runs beside the others. Its captures stay.
    async fn newer_version(&mut self) {
        let lasts = Duration::from_millis(self.dice.pick(500..4500));
        let pool = DbPool::from_url(&self.db.url()).await.expect("a pool");
        let config = SyncConfig::new(pool.newer_by(1), entities());
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        for entity in ENTITIES {
            client.subscribe(entity, entity).await;
            client.wait_subscribed(entity).await;
        }
        sleep(lasts).await;
        server.shutdown().await;
    }

    /// Inserts or deletes 100,000 rows in one transaction.
    async fn burst(&mut self) {
        let there = self.db.texts("SELECT count(*) FROM bulk").await[0]
            .parse::<u64>()
            .unwrap_or(0);
        let sql = if there > 10_000 {
            "DELETE FROM bulk WHERE id > 500"
        } else {
            "INSERT INTO bulk SELECT g, g % 50, 0, repeat('b', 60) FROM generate_series(501, 100500) g"
        };
        self.db.execute(sql).await;
    }

    /// Writes first, to rows that no other writer needs, and commits, or not, after twenty seconds.
    fn long_transaction(&mut self) {
        let (db, commits) = (self.db.clone(), self.dice.chance(70));
        let (id, scene) = (self.dice.pick(430..500), self.scene.clone());
        self.background.spawn(async move {
            let client = db.connect().await;
            let sql = format!(
                "BEGIN; UPDATE bulk SET n = -1 WHERE id = {id}; \
                 INSERT INTO ledger (client, tag) SELECT 'long', 'long' FROM generate_series(1, 3)"
            );
            // PostgreSQL may be stopped in the meantime.
            if client.batch_execute(&sql).await.is_err() {
                return;
            }
            sleep(LONG).await;
            // No transaction may commit while a client at rest checks that nothing has changed.
            let _writing = scene.writing_under_load().await;
            let ended = client
                .batch_execute(if commits { "COMMIT" } else { "ROLLBACK" })
                .await;
            scene.trace.note(format!(
                "the long transaction ended: {commits}, {}",
                ended.is_ok()
            ));
        });
    }

    /// For a while all servers prune their log as fast as they may.
    async fn retention(&mut self) {
        for forgets in [true, false] {
            for at in 0..self.servers.len() {
                let manner = Manner {
                    forgets,
                    ..self.servers.manner(at)
                };
                self.servers.set_manner(at, manner);
                self.servers.terminate(at, &self.scene.trace).await;
                self.servers.start_again(at).await;
            }
            if forgets {
                sleep(Duration::from_secs(4)).await;
            }
        }
    }
}
