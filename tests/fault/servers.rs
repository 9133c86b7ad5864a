//! Three server processes on one database, each behind networks that can be broken.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use rhtmx_sync::{EntityConfig, Rules};
use rhtmx_sync_tests::{Dice, Pooler, TcpProxy};
use tempfile::NamedTempFile;
use testkit::ServerProcess;

use crate::trace::Trace;

/// What the servers sync.
pub(crate) const ENTITIES: [&str; 5] = ["items", "accounts", "ledger", "bulk", "members"];

/// Those of whose entities whose rows merge by their fields.
const MERGING: [&str; 1] = ["items"];

/// What the servers sync, as it is configured.
pub(crate) fn entities() -> Vec<EntityConfig> {
    let entity = |name: &str| match MERGING.contains(&name) {
        true => EntityConfig::new(name).fields(Rules::default()),
        false => EntityConfig::new(name),
    };
    ENTITIES.map(entity).into()
}

/// The file that says so to a server. It is there as long as what is returned.
pub(crate) fn config_file() -> NamedTempFile {
    let sections = MERGING.map(|name| format!("[entities.{name}]\nfields = \"last_write_wins\"\n"));
    let mut file = NamedTempFile::with_suffix(".toml").expect("a file");
    file.write_all(sections.concat().as_bytes())
        .expect("a file");
    file
}

/// Where Debian installs it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// The memory that a server may use at any time, in megabytes. First reads alone may take 64.
const RESIDENT_MB_MAX: u64 = 400;

/// How a server differs from the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manner {
    /// Its clock is this many seconds off.
    pub(crate) clock: i64,
    /// It prunes its log as soon as it may.
    pub(crate) forgets: bool,
    /// A pooler stands between it and the database.
    pub(crate) pooled: Option<Pooled>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pooled {
    /// `listen_url` is direct.
    ButForListening,
    Wholly,
}

pub(crate) struct Servers {
    slots: Vec<Slot>,
    pooler: Option<Pooler>,
}

struct Slot {
    name: String,
    process: Option<ServerProcess>,
    /// `127.0.0.1:port`, kept from one process to the next.
    bind: String,
    database_url: String,
    database: TcpProxy,
    clients: Vec<TcpProxy>,
    manner: Manner,
    resident_mb_max: u64,
    config: NamedTempFile,
}

impl Servers {
    pub(crate) async fn start(count: usize, url: &str, pooler: Option<Pooler>) -> Self {
        let mut slots = Vec::new();
        for at in 0..count {
            let (database, database_url) = TcpProxy::of_database(url).await;
            let mut slot = Slot {
                name: format!("server{at}"),
                process: None,
                bind: "127.0.0.1:0".to_owned(),
                database_url,
                database,
                clients: Vec::new(),
                manner: Manner::default(),
                resident_mb_max: 0,
                config: config_file(),
            };
            slot.start(pooler.as_ref()).await;
            for _ in 0..2 {
                slot.clients
                    .push(TcpProxy::open_to(slot.bind.clone()).await);
            }
            slots.push(slot);
        }
        Self { slots, pooler }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn has_pooler(&self) -> bool {
        self.pooler.is_some()
    }

    /// The WebSocket URLs, through the networks.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let proxies = self.slots.iter().flat_map(|slot| &slot.clients);
        proxies
            .map(|proxy| format!("ws://{}/api/sync/ws", proxy.address()))
            .collect()
    }

    /// The WebSocket URL of one server, without a network that can be broken.
    pub(crate) fn address(&self, at: usize) -> String {
        format!("ws://{}/api/sync/ws", self.slots[at].bind)
    }

    /// A network between clients and a server.
    pub(crate) fn client_network(&self, dice: &mut Dice) -> &TcpProxy {
        let slot = &self.slots[dice.pick(0..self.slots.len() as u64) as usize];
        &slot.clients[dice.pick(0..slot.clients.len() as u64) as usize]
    }

    /// The network between a server and the database.
    pub(crate) fn database_network(&self, dice: &mut Dice) -> &TcpProxy {
        &self.slots[dice.pick(0..self.slots.len() as u64) as usize].database
    }

    pub(crate) async fn kill(&mut self, at: usize, trace: &Trace) {
        let slot = &mut self.slots[at];
        slot.look(trace);
        if let Some(process) = slot.process.take() {
            process.kill();
        }
    }

    pub(crate) async fn terminate(&mut self, at: usize, trace: &Trace) {
        let slot = &mut self.slots[at];
        slot.look(trace);
        if let Some(process) = slot.process.take() {
            let exited = process.terminate().await;
            if !exited.status.success() || exited.output.contains("panicked") {
                trace.fail(&format!(
                    "{} ended badly: {}\n{}",
                    slot.name, exited.status, exited.output
                ));
            }
        }
    }

    pub(crate) fn set_manner(&mut self, at: usize, manner: Manner) {
        self.slots[at].manner = manner;
    }

    pub(crate) fn manner(&self, at: usize) -> Manner {
        self.slots[at].manner.clone()
    }

    pub(crate) async fn start_again(&mut self, at: usize) {
        self.slots[at].start(self.pooler.as_ref()).await;
    }

    /// Makes everything work again: networks forward, every server runs.
    pub(crate) async fn mend(&mut self) {
        for slot in &mut self.slots {
            for network in slot.clients.iter().chain([&slot.database]) {
                network.stall(false);
                network.delay(0);
            }
            if slot.process.is_none() {
                slot.start(self.pooler.as_ref()).await;
            }
        }
    }

    /// Fails when a server has panicked, ended or grown too large.
    pub(crate) fn look(&mut self, trace: &Trace) {
        for slot in &mut self.slots {
            slot.look(trace);
        }
    }

    pub(crate) fn resident_mb_max(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| slot.resident_mb_max)
            .max()
            .unwrap_or(0)
    }

    /// The recent output of each server.
    pub(crate) fn outputs(&self) -> String {
        let tail = |slot: &Slot| {
            let output = slot
                .process
                .as_ref()
                .map(ServerProcess::output)
                .unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let newest = lines.len().saturating_sub(25);
            format!("--- {} ---\n{}\n", slot.name, lines[newest..].join("\n"))
        };
        self.slots.iter().map(tail).collect()
    }
}

impl Slot {
    async fn start(&mut self, pooler: Option<&Pooler>) {
        let named = |url: &str| format!("{url}?application_name={}", self.name);
        let direct = named(&self.database_url);
        let mut settings = vec![
            ("DATABASE_URL".to_owned(), direct.clone()),
            ("RHTMX_SYNC_DATABASE_POOL_SIZE".to_owned(), "6".to_owned()),
            (
                "RHTMX_SYNC_LIMITS_QUEUE_BATCHES_MAX".to_owned(),
                "16".to_owned(),
            ),
            (
                "RUST_LOG".to_owned(),
                std::env::var("FAULT_LOG").unwrap_or("warn".to_owned()),
            ),
        ];
        let mut set = |name: &str, value: String| settings.push((name.to_owned(), value));
        if let (Some(pooled), Some(pooler)) = (self.manner.pooled, pooler) {
            set("DATABASE_URL", named(pooler.url()));
            if pooled == Pooled::ButForListening {
                set("RHTMX_SYNC_DATABASE_LISTEN_URL", direct);
            }
        }
        if self.manner.forgets {
            set("RHTMX_SYNC_RETENTION_HOURS", "0".to_owned());
            set("RHTMX_SYNC_RETENTION_INTERVAL_MS", "300".to_owned());
        }
        if self.manner.clock != 0 && Path::new(FAKETIME).exists() {
            set("LD_PRELOAD", FAKETIME.to_owned());
            set("FAKETIME", format!("{:+}s", self.manner.clock));
            // Waits must not depend on the wrong clock.
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned());
        }
        set(
            "RHTMX_SYNC_CONFIG",
            self.config.path().display().to_string(),
        );
        let args = ENTITIES.map(|entity| ["--entity", entity]);
        let args: Vec<&str> = ["--bind", &self.bind]
            .into_iter()
            .chain(args.into_iter().flatten())
            .collect();
        let process = ServerProcess::spawn(args, settings).await;
        self.bind = process.address();
        self.process = Some(process);
    }

    fn look(&mut self, trace: &Trace) {
        let Some(process) = &self.process else { return };
        let output = process.output();
        if output.contains("panicked") {
            trace.fail(&format!("{} panicked:\n{output}", self.name));
        }
        let resident = resident_mb(process.pid());
        self.resident_mb_max = self.resident_mb_max.max(resident);
        if resident > RESIDENT_MB_MAX {
            trace.fail(&format!("{} uses {resident} MB", self.name));
        }
    }
}

/// Zero where there is no `/proc`.
fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

/// Whether clocks can be shifted here.
pub(crate) fn can_shift_clocks() -> bool {
    Path::new(FAKETIME).exists()
}

/// How long a killed server stays down.
pub(crate) fn absence(dice: &mut Dice) -> Duration {
    Duration::from_millis(dice.pick(0..1500))
}
