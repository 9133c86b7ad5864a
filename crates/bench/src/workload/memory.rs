//! The memory that an idle connection keeps, and whether it is returned.
//!
//! It is the slope between two numbers of connections, so that what the server needs without any is not
//! counted. Each connection has received something before: a new one has not grown its buffers yet.

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

/// Two numbers of connections, from which the slope is taken.
#[derive(Clone, Copy)]
struct Connections {
    few: usize,
    many: usize,
    /// The number of rows in the table that each connection reads first.
    rows: usize,
}

const SHORT_LIST: Connections = Connections {
    few: 1_000,
    many: 8_000,
    rows: 10,
};
/// Buffers grow with what passes through them, and may stay large.
const LONG_LIST: Connections = Connections {
    few: 500,
    many: 2_000,
    rows: 1_000,
};
/// The largest share of the connections' memory that may still be held. This bar is the project's own.
const LEFT_BEHIND_MAX: f64 = 0.25;
/// An allocator may keep memory for a while, in case it is needed again soon.
const RETURNED_WITHIN: Duration = Duration::from_secs(20);
const KIB_PER_MIB: f64 = 1024.0;

struct Round {
    at_rest: f64,
    each: f64,
    /// The memory of all connections, in KiB.
    taken: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let (mut rounds, mut long, mut left_behind) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.rounds.min(2) {
        let (round, engine) = connect_and_leave(stage, SHORT_LIST).await?;
        left_behind.push(still_held(&round, &engine).await?);
        drop(engine);
        rounds.push(round);
        long.push(connect_and_leave(stage, LONG_LIST).await?.0);
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

/// Measures both numbers of connections, and returns the server that they have just left.
async fn connect_and_leave(stage: &Stage, connections: Connections) -> Result<(Round, Engine)> {
    let database = stage
        .database(&format!(
            "{};{}",
            stage::ITEMS,
            stage::fill(connections.rows)
        ))
        .await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let process = engine.process();
    settle().await;
    let at_rest = process.resident_kib()?;
    let (few, many) = (stage.size(connections.few), stage.size(connections.many));
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

/// Returns the share of the connections' memory that is still held after they have closed.
async fn still_held(round: &Round, engine: &Engine) -> Result<f64> {
    until_no_session_is_left(engine).await;
    let allowed = round.at_rest + round.taken * LEFT_BEHIND_MAX;
    let after = resident_after(engine.process(), allowed).await?;
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
        let expected = before + written.rows * group.size() as u64;
        group.changes(expected, PATIENCE).await?;
    }
    settle().await;
    process.resident_kib()
}

/// Waits until everything that has ended is dropped.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Returns the resident memory once it is down to `allowed_kib`, or after a while.
async fn resident_after(process: Process, allowed_kib: f64) -> Result<f64> {
    let patience = Instant::now() + RETURNED_WITHIN;
    loop {
        settle().await;
        let resident = process.resident_kib()?;
        if resident <= allowed_kib || Instant::now() >= patience {
            return Ok(resident);
        }
    }
}

async fn until_no_session_is_left(engine: &Engine) {
    let http = Http::new(format!("http://{}", engine.address()));
    for _ in 0..100 {
        let status = http.get("/api/sync/status").await.json();
        if status["sessions"] == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
