//! A new client reads a large table, ten read it at once, and one that was offline receives each row once.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use testkit::Http;
use tokio::process::Command;

use super::{ITEMS, column, whole_table};
use crate::load::{Speaks, Subscribe, now};
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};

const ROWS: usize = 100_000;
const AT_ONCE: usize = 10;
/// What the client missed: this many changes of each of this many rows.
const MISSED_TIMES: usize = 100;
const MISSED_ROWS: usize = 1_000;
const COPY: &str = "COPY (SELECT to_jsonb(t) FROM items t) TO STDOUT";

/// One round.
struct Round {
    copy: f64,
    one: f64,
    ten: f64,
    reads: f64,
    resume_ms: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let rows = stage.size(ROWS);
    let database = stage
        .database(&format!("{};{}", stage::ITEMS, stage::fill(rows)))
        .await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds {
        let copy = copy_seconds(stage, &database).await?;
        let one = read_seconds(stage, &engine, 1, rows).await?;
        let before = snapshot_reads(&engine).await?;
        let ten = read_seconds(stage, &engine, AT_ONCE, rows).await?;
        rounds.push(Round {
            copy: rows as f64 / copy,
            one: rows as f64 / one,
            ten: (rows * AT_ONCE) as f64 / ten,
            reads: snapshot_reads(&engine).await? - before,
            resume_ms: resume_milliseconds(stage, &database, &engine).await?,
        });
    }
    let copy = column(&rounds, |round| round.copy);
    let figures = vec![
        Figure::new(
            "100,000 rows to a new client",
            "rows/s",
            column(&rounds, |round| round.one),
        )
        .beside("COPY", copy.clone())
        .bar(Bar::RatioAtLeast(0.5)),
        Figure::new(
            "to ten at once, together",
            "rows/s",
            column(&rounds, |round| round.ten),
        )
        .beside("COPY", copy),
        Figure::new(
            "to ten at once: reads of the table",
            "",
            column(&rounds, |round| round.reads),
        )
        .bar(Bar::AtMost(2.0))
        .note("the first read begins before the other clients arrive"),
        Figure::new(
            "resume after 100,000 changes",
            "ms",
            column(&rounds, |round| round.resume_ms),
        )
        .note("of 1,000 rows: 1,000 changes are received, each row once"),
    ];
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

async fn copy_seconds(stage: &Stage, database: &Database) -> Result<f64> {
    let began = Instant::now();
    let status = Command::new(stage.program("psql"))
        .args(["--no-psqlrc", "--quiet", "--command", COPY, &database.url])
        .stdout(Stdio::null())
        .status()
        .await
        .context("could not run psql, which belongs to PostgreSQL's programs")?;
    ensure!(status.success(), "psql failed");
    Ok(began.elapsed().as_secs_f64())
}

/// Returns the seconds from the subscription to `subscribed`, for all clients.
async fn read_seconds(stage: &Stage, engine: &Engine, clients: usize, rows: usize) -> Result<f64> {
    let receivers = &stage.receivers;
    let group = receivers.group_at_gate(&engine.address(), clients, whole_table);
    group
        .wait("welcomes", PATIENCE, |tally| {
            tally.welcomed.load(Ordering::Relaxed) >= clients
        })
        .await?;
    let began = now();
    group.open_gate();
    group.live(PATIENCE).await?;
    let received = group.tally.rows.load(Ordering::Relaxed);
    ensure!(
        received == (rows * clients) as u64,
        "{received} rows were received, instead of {rows} by each of {clients}"
    );
    Ok(group.tally.live_after(began))
}

/// The number of times that the engine has read a table for clients.
async fn snapshot_reads(engine: &Engine) -> Result<f64> {
    let metrics = Http::new(format!("http://{}", engine.address()))
        .get("/metrics")
        .await
        .text;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("rhtmx_sync_snapshot_reads_total "));
    Ok(line
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or_default())
}

async fn resume_milliseconds(stage: &Stage, database: &Database, engine: &Engine) -> Result<f64> {
    let receivers = &stage.receivers;
    let leaving = receivers.group(&engine.address(), 1, whole_table);
    leaving.live(PATIENCE).await?;
    let cursor = leaving.tally.cursor();
    drop(leaving);
    let client = database.connect().await?;
    for _ in 0..MISSED_TIMES {
        client
            .batch_execute(&format!(
                "UPDATE items SET list_id = list_id + 1 WHERE id <= {MISSED_ROWS}"
            ))
            .await?;
    }
    let subscribe = Subscribe {
        cursor,
        ..Subscribe::all(ITEMS)
    };
    let back = receivers.group_at_gate(&engine.address(), 1, |_| {
        Speaks::Protocol(subscribe.clone())
    });
    back.wait("a welcome", PATIENCE, |tally| {
        tally.welcomed.load(Ordering::Relaxed) == 1
    })
    .await?;
    let began = now();
    back.open_gate();
    back.live(PATIENCE).await?;
    back.changes(MISSED_ROWS as u64, PATIENCE).await?;
    Ok(back.tally.live_after(began) * 1e3)
}
