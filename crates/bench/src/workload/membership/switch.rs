//! One row that decides for ten thousand users, and what its changes cost those whom they do not concern.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::load::{Group, Speaks, Subscribe, User, now};
use crate::report::{Bar, Figure};
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::users::{GuardedEngine, token};
use crate::workload::{ITEMS, latency_at};
use crate::writers::Commit;

const USERS: usize = 10_000;
const OTHERS: usize = 100;
const ROWS_A_SECOND: f64 = 50.0;
const SECONDS: f64 = 6.0;
/// How often the row changes meanwhile, to on and to off in turn.
const FLIPS: u32 = 4;
/// The rows that it shows to everybody.
const NOTES: usize = 10;

const POLICIES: &str = "[entities.items]
read = \"TRUE\"
[entities.notes]
read = \"owner_id = auth.sub OR EXISTS (SELECT 1 FROM switches WHERE is_on)\"
[entities.switches]
read = \"auth.role = 'admin'\"
";

pub(super) async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let database = stage
        .database(&format!(
            "{};
             CREATE TABLE notes (id bigint PRIMARY KEY, owner_id text NOT NULL, body text NOT NULL);
             INSERT INTO notes SELECT n, 'x' || n, '|' || lpad('', 16, '0')
                 FROM generate_series(1, {NOTES}) n;
             CREATE INDEX ON notes (owner_id);
             CREATE TABLE switches (id integer PRIMARY KEY, is_on boolean NOT NULL);
             INSERT INTO switches VALUES (1, false);
             ANALYZE",
            stage::ITEMS
        ))
        .await?;
    let guarded = GuardedEngine::start(&database.url, POLICIES).await?;
    let users = stage.size(USERS);
    let turned = group(stage, &guarded, 0..users, "notes")?;
    turned.live(PATIENCE).await?;
    let others = group(stage, &guarded, users..users + OTHERS, ITEMS)?;
    others.live(PATIENCE).await?;
    // Warm up: the first statements on each connection are parsed and planned.
    p99(&database, &others, stage.seconds(1.0)).await?;
    let (mut alone, mut beside, mut turning) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        let time = stage.seconds(SECONDS);
        alone.push(p99(&database, &others, time).await?);
        let (waited, turned) = tokio::join!(
            p99(&database, &others, time),
            flip(&database, &turned, time)
        );
        beside.push(waited?);
        turning.push(turned?);
    }
    Ok(vec![
        Figure::new("one row turns 10,000 users: p99 of others", "ms", beside)
            .beside("without", alone)
            .bar(Bar::RatioAtMost(2.0)),
        Figure::new("  until all of them have their rows", "ms", turning)
            .note(format!("{NOTES} rows each")),
    ])
}

fn group(
    stage: &Stage,
    guarded: &GuardedEngine,
    users: std::ops::Range<usize>,
    entity: &'static str,
) -> Result<Group> {
    let tokens = users.clone().map(|user| token(user, json!({})));
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    let address = guarded.engine.address();
    let group = stage.receivers.group(&address, users.len(), |user| User {
        token: Some(tokens[user].clone()),
        speaks: Speaks::Protocol(Subscribe::all(entity)),
    });
    Ok(group)
}

/// The 99th percentile of the others' waiting, in milliseconds.
async fn p99(database: &Database, others: &Group, time: Duration) -> Result<f64> {
    let (times, _) = latency_at(database, others, Commit::Insert(1), ROWS_A_SECOND, time).await?;
    Ok(times.quantile_ms(0.99))
}

/// Changes the row again and again. Returns the longest time until everybody had their rows, in milliseconds.
async fn flip(database: &Database, turned: &Group, time: Duration) -> Result<f64> {
    let client = database.connect().await?;
    let mut longest: f64 = 0.0;
    for number in 0..FLIPS {
        tokio::time::sleep(time / (FLIPS + 1)).await;
        let before = turned.tally.changes.load(Ordering::Relaxed);
        client
            .batch_execute("UPDATE switches SET is_on = NOT is_on")
            .await?;
        if number % 2 == 0 {
            let committed = now();
            let rows = (turned.size() * NOTES) as u64;
            turned.changes(before + rows, PATIENCE).await?;
            longest = longest.max(turned.tally.last_after(committed) * 1e3);
        }
    }
    Ok(longest)
}
