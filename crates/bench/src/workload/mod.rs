//! The workloads: each measures one or a few of the figures that the project promises.

mod baseline;
mod catch_up;
mod fan_out;
mod field_cost;
mod field_ingest;
mod herd;
mod hostile;
mod ingest;
mod latency;
mod logins;
mod lost;
mod membership;
mod memory;
mod replicate;
mod selective;
mod write_cost;

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cli::Workload;
use crate::load::{Group, Histogram, Speaks, Subscribe, now};
use crate::process::Process;
use crate::report::Findings;
use crate::stage::{Database, PATIENCE, Stage};
use crate::writers::{self, Commit, Written};

/// The name of the table and its entity.
const ITEMS: &str = "items";
/// The configuration of an entity whose rows merge by their fields.
const FIELDS: &str = "[entities.items]\nfields = \"last_write_wins\"\n";

/// Runs a workload.
pub(crate) async fn run(workload: Workload, stage: &Stage) -> Result<Findings> {
    match workload {
        Workload::WriteCost if stage.fields => field_cost::run(stage).await,
        Workload::WriteCost => write_cost::run(stage).await,
        Workload::Latency => latency::run(stage).await,
        Workload::FanOut => fan_out::run(stage).await,
        Workload::Selective => selective::run(stage).await,
        Workload::Membership => membership::run(stage).await,
        Workload::RowLevel => membership::run_row_level(stage).await,
        Workload::CatchUp => catch_up::run(stage).await,
        Workload::Herd => herd::run(stage).await,
        Workload::Memory => memory::run(stage).await,
        Workload::Ingest if stage.fields => field_ingest::run(stage).await,
        Workload::Ingest => ingest::run(stage).await,
        Workload::Replicate => replicate::run(stage).await,
        Workload::Lost => lost::run(stage).await,
        Workload::Logins => logins::run(stage).await,
        Workload::Hostile => hostile::run(stage).await,
        Workload::Baseline => baseline::run(stage).await,
        Workload::All => bail!("`all` is not a workload of its own"),
    }
}

fn whole_table(_: usize) -> Speaks {
    Speaks::Protocol(Subscribe::all(ITEMS))
}

/// Writes at a rate, and returns the times from before each write to each receipt.
async fn latency_at(
    database: &Database,
    group: &Group,
    commit: Commit,
    rate: f64,
    time: Duration,
) -> Result<(Histogram, Written)> {
    let before = group.tally.changes.load(Ordering::Relaxed);
    group.tally.begin_latency();
    let written = writers::at_rate(database, commit, rate, time).await?;
    all_received(group, before, &written).await?;
    Ok((group.tally.end_latency(), written))
}

/// Waits until every receiver of the group has received what was written.
async fn all_received(group: &Group, before: u64, written: &Written) -> Result<()> {
    let deliveries = written.rows * group.size() as u64;
    group.changes(before + deliveries, PATIENCE).await
}

/// The throughput of a server, with writers at full speed.
#[derive(Debug, Clone, Copy)]
struct Throughput {
    deliveries_per_second: f64,
    /// The server's processor time.
    cpu_seconds_per_million: f64,
    /// The processor time of writers and receivers: if it is near the server's, they are the bottleneck.
    load_seconds_per_million: f64,
    /// The rate that the writers reached.
    commits_per_second: f64,
    /// Seconds from the writer's end to the last receipt.
    behind_seconds: f64,
}

/// The time and the processor times at the start of a measurement.
struct Began {
    at: u64,
    server_cpu: f64,
    load_cpu: f64,
}

impl Began {
    fn now(server: Process) -> Result<Self> {
        Ok(Self {
            at: now(),
            server_cpu: server.cpu_seconds()?,
            load_cpu: Process::own().cpu_seconds()?,
        })
    }
}

/// Writes at full speed, and measures until every receiver has received everything.
async fn full_speed(
    database: &Database,
    group: &Group,
    server: Process,
    (writers, commit): (u32, Commit),
    time: Duration,
) -> Result<Throughput> {
    let before = group.tally.changes.load(Ordering::Relaxed);
    let began = Began::now(server)?;
    let written = writers::at_full_speed(database, commit, writers, time).await?;
    let ended = now();
    all_received(group, before, &written).await?;
    Ok(Throughput {
        commits_per_second: written.commits_per_second(),
        behind_seconds: group.tally.last_after(ended),
        ..throughput(group, before, server, &began)?
    })
}

/// The throughput since `began`.
fn throughput(group: &Group, before: u64, server: Process, began: &Began) -> Result<Throughput> {
    let deliveries = (group.tally.changes.load(Ordering::Relaxed) - before) as f64;
    let ended = Began::now(server)?;
    let per_million = |seconds: f64| seconds / deliveries * 1e6;
    Ok(Throughput {
        deliveries_per_second: deliveries / group.tally.last_after(began.at),
        cpu_seconds_per_million: per_million(ended.server_cpu - began.server_cpu),
        load_seconds_per_million: per_million(ended.load_cpu - began.load_cpu),
        commits_per_second: 0.0,
        behind_seconds: 0.0,
    })
}

/// The rate at which [`cost_of_a_change`] writes.
const CHANGES_A_SECOND: f64 = 500.0;

/// Microseconds of a server's processor time for a row that is inserted into one of the first lists, each of which this
/// many of the receivers hear. The cost of idle connections, their heartbeats, is measured before and subtracted.
async fn cost_of_a_change(
    stage: &Stage,
    database: &Database,
    (group, server): (&Group, Process),
    lists: usize,
    audience: u64,
) -> Result<f64> {
    let time = stage.seconds(4.0);
    let at_rest = cpu_over(server, tokio::time::sleep(time)).await?.0;
    let before = group.tally.changes.load(Ordering::Relaxed);
    let commit = Commit::InsertIntoLists(lists);
    let (cpu, written) = cpu_over(server, async {
        let written = writers::at_rate(database, commit, CHANGES_A_SECOND, time).await?;
        let expected = before + written.rows * audience;
        group.changes(expected, PATIENCE).await?;
        Ok::<_, anyhow::Error>(written)
    })
    .await?;
    Ok((cpu - at_rest).max(0.0) / written?.rows as f64 * 1e6)
}

async fn cpu_over<T>(process: Process, work: impl Future<Output = T>) -> Result<(f64, T)> {
    let before = process.cpu_seconds()?;
    let done = work.await;
    Ok((process.cpu_seconds()? - before, done))
}

/// Collects one value from each round.
fn column<T>(rounds: &[T], value: impl Fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(value).collect()
}
