//! How fast changes are taken in: from the log to the hub, and as mutations from clients.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{ITEMS, all_received, column, whole_table};
use crate::load::{Speaks, User, Writes, now};
use crate::pgbench;
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::users::{GuardedEngine, token};
use crate::writers::{self, Commit};

const BURST_ROWS: usize = 100_000;
const WRITERS: u32 = 8;
const ROWS_A_COMMIT: i32 = 10;
pub(super) const PUSHERS: u32 = 50;
const PUSHERS_AT_ONCE: usize = 1_000;
const NEWCOMERS: usize = 10;
const POLICIES: &str = r#"[entities.items]
read = "list_id = auth.list"
create = "list_id = auth.list"
"#;
/// The number of connections in the engine's pool.
const DIRECT: u32 = 16;

struct Round {
    burst: f64,
    stream: f64,
    behind_ms: f64,
    pushed: f64,
    ack_p99_ms: f64,
    guarded: f64,
    inserted: f64,
    all_acked: f64,
    newcomer: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let database = stage.database(stage::ITEMS).await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let mut rounds = Vec::new();
    for number in 0..stage.rounds {
        let burst = burst(stage, &database, &engine).await?;
        let (stream, behind_ms) = stream(stage, &database, &engine).await?;
        let (pushed, ack_p99_ms) = pushed(stage, &engine, number).await?;
        let guarded = guarded(stage).await?;
        let inserted = inserted(stage, &database).await?;
        let (all_acked, newcomer) = at_once(stage, &database, &engine, number).await?;
        rounds.push(Round {
            burst,
            stream,
            behind_ms,
            pushed,
            ack_p99_ms,
            guarded,
            inserted,
            all_acked,
            newcomer,
        });
    }
    let figures = vec![
        Figure::new(
            "100,000 rows in one commit",
            "changes/s",
            column(&rounds, |round| round.burst),
        )
        .bar(Bar::AtLeast(15_000.0))
        .note("from the commit's return to the last receipt"),
        Figure::new(
            "8 writers, 10 rows a commit",
            "changes/s",
            column(&rounds, |round| round.stream),
        )
        .bar(Bar::AtLeast(15_000.0))
        .note("what they write, until the last is received"),
        Figure::new(
            "how far behind the writers",
            "ms",
            column(&rounds, |round| round.behind_ms),
        ),
        Figure::new(
            "mutations from 50 clients",
            "acks/s",
            column(&rounds, |round| round.pushed),
        )
        .beside("16 x INSERT", column(&rounds, |round| round.inserted))
        .bar(Bar::RatioAtLeast(0.4)),
        Figure::new(
            "from a push to its ack, p99",
            "ms",
            column(&rounds, |round| round.ack_p99_ms),
        )
        .bar(Bar::AtMost(50.0)),
        Figure::new(
            "mutations from 50 users, with policies",
            "acks/s",
            column(&rounds, |round| round.guarded),
        )
        .beside("without policies", column(&rounds, |round| round.pushed))
        .bar(Bar::RatioAtLeast(0.9)),
        Figure::new(
            "1,000 clients push at once, until all are acked",
            "s",
            column(&rounds, |round| round.all_acked),
        ),
        Figure::new(
            "meanwhile, until ten newcomers are live",
            "s",
            column(&rounds, |round| round.newcomer),
        )
        .bar(Bar::AtMost(1.0)),
    ];
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

async fn burst(stage: &Stage, database: &Database, engine: &Engine) -> Result<f64> {
    let rows = stage.size(BURST_ROWS);
    let group = stage
        .receivers
        .group(&engine.address(), 1, |_| Speaks::Protocol(empty()));
    group.live(PATIENCE).await?;
    database.execute(&stage::fill(rows)).await?;
    let began = now();
    group.changes(rows as u64, PATIENCE).await?;
    let seconds = group.tally.last_after(began).max(1e-3);
    drop(group);
    database.execute("TRUNCATE items").await?;
    Ok(rows as f64 / seconds)
}

fn empty() -> crate::load::Subscribe {
    crate::load::Subscribe::all(ITEMS)
}

/// Returns changes per second, and milliseconds from the last commit to its receipt.
async fn stream(stage: &Stage, database: &Database, engine: &Engine) -> Result<(f64, f64)> {
    let group = stage.receivers.group(&engine.address(), 1, whole_table);
    group.live(PATIENCE).await?;
    let before = group.tally.changes.load(Ordering::Relaxed);
    let began = now();
    let commit = Commit::Insert(ROWS_A_COMMIT);
    let time = stage.seconds(3.0);
    let written = writers::at_full_speed(database, commit, WRITERS, time).await?;
    let ended = now();
    all_received(&group, before, &written).await?;
    let seconds = group.tally.last_after(began);
    Ok((
        written.rows as f64 / seconds,
        group.tally.last_after(ended) * 1e3,
    ))
}

/// Returns acks per second, when each client pushes its next mutation once the previous one is acked, and the
/// milliseconds from a push to its ack that one in a hundred exceeds.
async fn pushed(stage: &Stage, engine: &Engine, round: u32) -> Result<(f64, f64)> {
    let first = u64::from(round + 1) << 32;
    pushed_by(stage, engine, first, Writes::default(), &[]).await
}

/// Returns acks per second where policies decide on every row.
async fn guarded(stage: &Stage) -> Result<f64> {
    let database = stage.database(stage::ITEMS).await?;
    let guarded = GuardedEngine::start(&database.url, POLICIES).await?;
    let tokens = (0..PUSHERS as usize).map(|user| token(user, json!({ "list": 0 })));
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    let (rate, _) = pushed_by(stage, &guarded.engine, 1 << 32, Writes::default(), &tokens).await?;
    Ok(rate)
}

/// The same, of clients with the numbers from `first`, and each with a token if there are any.
pub(super) async fn pushed_by(
    stage: &Stage,
    engine: &Engine,
    first: u64,
    writes: Writes,
    tokens: &[String],
) -> Result<(f64, f64)> {
    let clients = PUSHERS as usize;
    let group = stage
        .receivers
        .group(&engine.address(), clients, |index| User {
            token: tokens.get(index).cloned(),
            speaks: Speaks::Pushes {
                entity: ITEMS,
                client_id: first + index as u64,
                writes,
                once: false,
            },
        });
    let acks = || group.tally.acks.load(Ordering::Relaxed);
    group
        .wait("the first acks", PATIENCE, |tally| {
            tally.acks.load(Ordering::Relaxed) >= u64::from(PUSHERS)
        })
        .await?;
    group.tally.begin_latency();
    let (before, began) = (acks(), now());
    tokio::time::sleep(stage.seconds(3.0)).await;
    let (after, ended) = (acks(), now());
    let latency = group.tally.end_latency();
    let rate = (after - before) as f64 / (ended - began) as f64 * 1e9;
    Ok((rate, latency.quantile_ms(0.99)))
}

/// Returns seconds until many mutations, each of its own client and pushed at once, are acked, and until newcomers
/// that come meanwhile are live.
async fn at_once(
    stage: &Stage,
    database: &Database,
    engine: &Engine,
    round: u32,
) -> Result<(f64, f64)> {
    database.execute("TRUNCATE items").await?;
    let clients = stage.size(PUSHERS_AT_ONCE);
    let first = u64::from(round + 1) << 40;
    let group = stage
        .receivers
        .group_at_gate(&engine.address(), clients, |index| Speaks::Pushes {
            entity: ITEMS,
            client_id: first + index as u64,
            writes: Writes::default(),
            once: true,
        });
    group
        .wait("welcomes", PATIENCE, |tally| {
            tally.welcomed.load(Ordering::Relaxed) >= clients
        })
        .await?;
    let began = now();
    group.open_gate();
    let newcomers = stage
        .receivers
        .group(&engine.address(), NEWCOMERS, whole_table);
    newcomers.live(PATIENCE).await?;
    let newcomer = newcomers.tally.live_after(began);
    let acks = clients as u64;
    group
        .wait("all acks", PATIENCE, |tally| {
            tally.acks.load(Ordering::Relaxed) >= acks
        })
        .await?;
    let acked = group.tally.last_after(began);
    let rows = database.connect().await?;
    let rows: i64 = rows
        .query_one("SELECT count(*) FROM items", &[])
        .await?
        .get(0);
    ensure!(
        rows == clients as i64,
        "{clients} mutations were acked, and there are {rows} rows"
    );
    Ok((acked, newcomer))
}

/// Returns commits per second, when clients insert the same rows directly into the database.
async fn inserted(stage: &Stage, database: &Database) -> Result<f64> {
    let script = format!("INSERT INTO items (body) VALUES ('{:.<100}');\n", "");
    pgbench::commits_per_second(stage, database, &script, DIRECT, stage.seconds(3.0)).await
}
