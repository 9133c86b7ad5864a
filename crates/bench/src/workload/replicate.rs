//! How fast a table comes into an empty database with `replicate`, and what memory that takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};

use super::{FIELDS, ITEMS};
use crate::report::{Bar, Figure, Findings};
use crate::server::{Engine, Running};
use crate::stage::{self, Database, Stage};

const ROWS: usize = 1_000_000;
const SAMPLED_EVERY: Duration = Duration::from_millis(20);

/// A round: seconds, and KiB at the peak.
#[derive(Debug, Clone, Copy)]
struct Turn {
    replicate: f64,
    copy: f64,
    captured_copy: f64,
    memory_kib: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let rows = stage.size(ROWS);
    let source = stage
        .database(&format!("{};{}", stage::ITEMS, stage::fill(rows)))
        .await?;
    let empty = async || stage.database(stage::ITEMS).await;
    // The triggers are made, and what follows is measured from the same state.
    let nothing = replicate(&empty().await?, &empty().await?).await?;
    Engine::start_configured(&source.url, FIELDS, &[])
        .await?
        .stop()
        .await;
    let mut turns = Vec::new();
    for _ in 0..stage.rounds {
        let (bare, captured, target) = (empty().await?, empty().await?, empty().await?);
        Engine::start_configured(&captured.url, FIELDS, &[])
            .await?
            .stop()
            .await;
        let copied = copy(&source, &bare).await?;
        let captured_copy = copy(&source, &captured).await?;
        let replicated = replicate(&source, &target).await?;
        ensure!(count(&target).await? == rows as i64, "rows are missing");
        turns.push(Turn {
            replicate: replicated.seconds,
            copy: copied,
            captured_copy,
            memory_kib: replicated.peak_kib - nothing.peak_kib,
        });
    }
    let rate = |seconds: fn(&Turn) -> f64| -> Vec<f64> {
        turns
            .iter()
            .map(|turn| rows as f64 / seconds(turn))
            .collect()
    };
    let name = format!("{rows} rows into an empty database");
    let replicated = Figure::new(name.clone(), "rows/s", rate(|turn| turn.replicate));
    Ok(Findings {
        figures: vec![
            replicated
                .beside("COPY out and in, captured", rate(|turn| turn.captured_copy))
                .bar(Bar::RatioAtLeast(0.3)),
            Figure::new(name, "rows/s", rate(|turn| turn.replicate))
                .beside("COPY out and in, bare", rate(|turn| turn.copy)),
            Figure::new(
                "memory at the peak, above that of a run without rows",
                "MiB",
                turns.iter().map(|turn| turn.memory_kib / 1024.0).collect(),
            )
            .bar(Bar::AtMost(64.0)),
        ],
        plots: Vec::new(),
    })
}

/// Seconds that `COPY` takes from one database to the other, without a file between.
async fn copy(from: &Database, to: &Database) -> Result<f64> {
    let (from, to) = (from.connect().await?, to.connect().await?);
    let began = Instant::now();
    let out = from
        .copy_out("COPY items TO STDOUT (FORMAT binary)")
        .await?;
    let into = to.copy_in("COPY items FROM STDIN (FORMAT binary)").await?;
    let (mut out, mut into) = (Box::pin(out), Box::pin(into));
    while let Some(bytes) = out.next().await {
        into.feed(bytes?).await?;
    }
    into.as_mut().finish().await?;
    Ok(began.elapsed().as_secs_f64())
}

/// What a run took.
struct Run {
    seconds: f64,
    peak_kib: f64,
}

async fn replicate(from: &Database, to: &Database) -> Result<Run> {
    let began = Instant::now();
    let mut running = Running::start(
        &["replicate", "--once", "--entity", ITEMS],
        &[("--from", &from.url), ("--to", &to.url)],
        FIELDS,
    )?;
    let mut peak_kib = 0.0;
    let status = loop {
        if let Some(status) = running.try_wait()? {
            break status;
        }
        // It may have ended in between.
        peak_kib = running.process().peak_kib().unwrap_or(peak_kib);
        tokio::time::sleep(SAMPLED_EVERY).await;
    };
    ensure!(status.success(), "replicate failed: {status}");
    Ok(Run {
        seconds: began.elapsed().as_secs_f64(),
        peak_kib,
    })
}

async fn count(database: &Database) -> Result<i64> {
    let client = database.connect().await?;
    let row = client.query_one("SELECT count(*) FROM items", &[]).await;
    Ok(row.context("counting rows")?.get(0))
}
