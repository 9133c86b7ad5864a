//! What an idle connection keeps in memory, and whether it is given back.
//!
//! Taken from the slope between two crowds, so what the server needs without any connection is not
//! counted. Each connection has received something before: one that has just been accepted has not
//! grown its buffers yet.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::Http;

use super::{ITEMS, column, whole_table};
use crate::load::Group;
use crate::process::Process;
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::writers::{self, Commit};

/// A crowd, and the smaller one to take the slope from.
#[derive(Clone, Copy)]
struct Crowds {
    few: usize,
    many: usize,
    /// In the table that each of them reads first.
    rows: usize,
}

const SHORT_LIST: Crowds = Crowds {
    few: 1_000,
    many: 8_000,
    rows: 10,
};
/// Buffers grow with what passes through them, and may stay so.
const LONG_LIST: Crowds = Crowds {
    few: 500,
    many: 2_000,
    rows: 1_000,
};
/// Of what the connections took. Our own bar.
const LEFT_BEHIND_MAX: f64 = 0.25;
/// An allocator may keep for a while what it may soon need again.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(20);
const KIB_PER_MIB: f64 = 1024.0;

struct Round {
    at_rest: f64,
    each: f64,
    /// By all connections, in KiB.
    taken: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let (mut rounds, mut long, mut left_behind) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.rounds.min(2) {
        let (round, engine) = crowds(stage, SHORT_LIST).await?;
        left_behind.push(still_held(&round, &engine).await?);
        drop(engine);
        rounds.push(round);
        long.push(crowds(stage, LONG_LIST).await?.0);
    }
    let figures = vec![
        Figure::new(
            "the server at rest",
            "MiB",
            column(&rounds, |round| round.at_rest / KIB_PER_MIB),
        )
        .bar(Bar::AtMost(25.0)),
        Figure::new(
            "an idle subscribed connection",
            "KiB",
            column(&rounds, |round| round.each),
        )
        .bar(Bar::AtMost(8.0)),
        Figure::new(
            "the same, after it has read 1,000 rows",
            "KiB",
            column(&long, |round| round.each),
        ),
        Figure::new("left behind when they are gone", "", left_behind)
            .bar(Bar::AtMost(LEFT_BEHIND_MAX))
            .note("share of what they took"),
    ];
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

/// Two crowds, and the server that they have just left.
async fn crowds(stage: &Stage, crowds: Crowds) -> Result<(Round, Engine)> {
    let database = stage
        .database(&format!("{};{}", stage::ITEMS, stage::fill(crowds.rows)))
        .await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let process = engine.process();
    settle().await;
    let at_rest = process.resident_kib()?;
    let (few, many) = (stage.size(crowds.few), stage.size(crowds.many));
    let first = stage.receivers.group(&engine.address(), few, whole_table);
    let with_few = after_some_changes(&database, &[&first], process).await?;
    let rest = stage
        .receivers
        .group(&engine.address(), many - few, whole_table);
    let with_many = after_some_changes(&database, &[&first, &rest], process).await?;
    drop((first, rest));
    let round = Round {
        at_rest,
        each: (with_many - with_few) / (many - few) as f64,
        taken: with_many - at_rest,
    };
    Ok((round, engine))
}

/// Of what the connections took, the share that is still held when they have gone.
async fn still_held(round: &Round, engine: &Engine) -> Result<f64> {
    until_nobody_is_there(engine).await;
    let wanted = round.at_rest + round.taken * LEFT_BEHIND_MAX;
    let after = given_back(engine.process(), wanted).await?;
    Ok((after - round.at_rest) / round.taken)
}

async fn after_some_changes(
    database: &Database,
    groups: &[&Group],
    process: Process,
) -> Result<f64> {
    for group in groups {
        group.live(PATIENCE).await?;
    }
    let before: Vec<u64> = groups
        .iter()
        .map(|group| group.tally.changes.load(Ordering::Relaxed))
        .collect();
    let time = Duration::from_secs(2);
    let written = writers::at_rate(database, Commit::Update(10), 5.0, time).await?;
    for (group, before) in groups.iter().zip(before) {
        let wanted = before + written.rows * group.size() as u64;
        group.changes(wanted, PATIENCE).await?;
    }
    settle().await;
    process.resident_kib()
}

/// Time for what has ended to be dropped.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// What is resident when it has come down to that, or does not come down any more.
async fn given_back(process: Process, wanted_kib: f64) -> Result<f64> {
    let patience = Instant::now() + GIVEN_BACK_WITHIN;
    loop {
        settle().await;
        let resident = process.resident_kib()?;
        if resident <= wanted_kib || Instant::now() >= patience {
            return Ok(resident);
        }
    }
}

async fn until_nobody_is_there(engine: &Engine) {
    let http = Http::new(format!("http://{}", engine.address()));
    for _ in 0..100 {
        let status = http.get("/api/sync/status").await.json();
        if status["sessions"] == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
