//! A hundred honest subscribers beside one neighbour who means harm: what each kind of harm costs them. What other
//! programs write meanwhile, they write without the neighbour as well.

mod neighbour;

use std::time::Duration;

use anyhow::Result;
use testkit::{ClientOptions, SyncClient};
use tokio::time::Instant;

use self::neighbour::{Harm, Writes};
use super::{ITEMS, column, latency_at, whole_table};
use crate::load::Group;
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::writers::Commit;

const HONEST: usize = 100;
const RATE: f64 = 50.0;
/// The table that the neighbour uses, which the honest ones do not.
const NOTES: &str = "notes";
const NOTES_ROWS: usize = 20_000;
/// How many times as long an honest subscriber may wait. This bar and the two below are the project's own.
const SLOWER_MAX: f64 = 3.0;
/// What the server may need at most, neighbour included: the sum of its budgets, and what it needs for itself.
const PEAK_MAX_MIB: f64 = 256.0;
/// How long a newcomer may wait for its first rows.
const NEWCOMER_MAX_MS: f64 = 1_000.0;

/// What was measured beside one kind of harm.
struct Round {
    alone_p99: f64,
    beside_p99: f64,
    newcomer_ms: f64,
    peak_mib: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let mut figures = Vec::new();
    for harm in Harm::EACH {
        let mut rounds = Vec::new();
        for _ in 0..stage.rounds {
            rounds.push(round(stage, harm).await?);
        }
        let name = harm.name();
        figures.extend([
            Figure::new(
                format!("{name}: p99"),
                "ms",
                column(&rounds, |round| round.beside_p99),
            )
            .beside("without", column(&rounds, |round| round.alone_p99))
            .bar(Bar::RatioAtMost(SLOWER_MAX)),
            Figure::new(
                "  a newcomer's first rows",
                "ms",
                column(&rounds, |round| round.newcomer_ms),
            )
            .bar(Bar::AtMost(NEWCOMER_MAX_MS)),
            Figure::new(
                "  the server's memory at its peak",
                "MiB",
                column(&rounds, |round| round.peak_mib),
            )
            .bar(Bar::AtMost(PEAK_MAX_MIB)),
        ]);
    }
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

async fn round(stage: &Stage, harm: Harm) -> Result<Round> {
    let database = stage
        .database(&format!(
            "{};
             CREATE TABLE {NOTES} (id bigint PRIMARY KEY, list_id integer NOT NULL, body text NOT NULL);
             INSERT INTO {NOTES} SELECT n, n % 100, repeat('.', 1000) FROM generate_series(1, {}) n;
             ANALYZE {NOTES}",
            stage::ITEMS,
            stage.size(NOTES_ROWS)
        ))
        .await?;
    let engine = Engine::start(&database.url, &[ITEMS, NOTES]).await;
    let writes = harm.prepare(&database).await?;
    let honest = stage
        .receivers
        .group(&engine.address(), HONEST, whole_table);
    honest.live(PATIENCE).await?;
    // Warm up: the first statements on each connection are parsed and planned.
    p99(&database, &honest, stage.seconds(1.0)).await?;
    let alone_p99 = p99(&database, &honest, stage.seconds(4.0)).await?;
    let neighbour = harm.start(&database, &engine.address()).await?;
    let beside_p99 = p99(&database, &honest, stage.seconds(4.0)).await?;
    let newcomer_ms = newcomer(&engine).await;
    let peak_mib = engine.process().peak_kib()? / 1024.0;
    neighbour.ensure_active()?;
    writes.iter().try_for_each(Writes::ensure_active)?;
    Ok(Round {
        alone_p99,
        beside_p99,
        newcomer_ms,
        peak_mib,
    })
}

/// The 99th percentile of the honest subscribers' waiting, in milliseconds.
async fn p99(database: &Database, honest: &Group, time: Duration) -> Result<f64> {
    let (times, _) = latency_at(database, honest, Commit::Insert(1), RATE, time).await?;
    Ok(times.quantile_ms(0.99))
}

/// Milliseconds until somebody who connects now has all rows.
async fn newcomer(engine: &Engine) -> f64 {
    let began = Instant::now();
    let url = format!("ws://{}/api/sync/ws", engine.address());
    let mut client = SyncClient::connect(&url, ClientOptions::default()).await;
    client.subscribe(1, ITEMS).await;
    client.wait_subscribed(1).await;
    began.elapsed().as_secs_f64() * 1e3
}
