//! A thousand clients subscribe at once, while a writer continues.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};

use super::{ITEMS, column, whole_table};
use crate::load::now;
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::writers::{Background, Commit};

const CLIENTS: usize = 1_000;
const ROWS: usize = 1_000;

struct Round {
    rows_per_second: f64,
    commits_before: f64,
    commits_meanwhile: f64,
    seconds: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let database = stage
        .database(&format!("{};{}", stage::ITEMS, stage::fill(ROWS)))
        .await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds {
        rounds.push(round(stage, &database, &engine).await?);
    }
    let figures = vec![
        Figure::new(
            "1,000 clients, 1,000 rows each, together",
            "rows/s",
            column(&rounds, |round| round.rows_per_second),
        )
        .bar(Bar::AtLeast(300_000.0)),
        Figure::new(
            "until all are live",
            "s",
            column(&rounds, |round| round.seconds),
        ),
        Figure::new(
            "a writer meanwhile",
            "commits/s",
            column(&rounds, |round| round.commits_meanwhile),
        )
        .beside("before", column(&rounds, |round| round.commits_before))
        .bar(Bar::RatioAtLeast(0.5)),
    ];
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

async fn round(stage: &Stage, database: &Database, engine: &Engine) -> Result<Round> {
    let clients = stage.size(CLIENTS);
    let group = stage
        .receivers
        .group_at_gate(&engine.address(), clients, whole_table);
    group
        .wait("welcomes", PATIENCE, |tally| {
            tally.welcomed.load(Ordering::Relaxed) >= clients
        })
        .await?;
    let writer = Background::start(database, Commit::Update(ROWS)).await?;
    let time = stage.seconds(2.0);
    let first = writer.commits();
    tokio::time::sleep(time).await;
    let (second, began) = (writer.commits(), now());
    group.open_gate();
    group.live(PATIENCE).await?;
    let seconds = group.tally.live_after(began);
    let meanwhile = (now() - began) as f64 / 1e9;
    let third = writer.commits();
    let rows = group.tally.rows.load(Ordering::Relaxed);
    ensure!(
        rows == (clients * ROWS) as u64,
        "{rows} rows were received, instead of {ROWS} by each of {clients}"
    );
    Ok(Round {
        rows_per_second: rows as f64 / seconds,
        commits_before: (second - first) as f64 / time.as_secs_f64(),
        commits_meanwhile: (third - second) as f64 / meanwhile,
        seconds,
    })
}
