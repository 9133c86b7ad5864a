//! Sets of a hundred thousand values: what the server keeps for each, and how long a subscription takes.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::MEMBERS;
use crate::load::{Group, Speaks, Subscribe, User, now};
use crate::process::Process;
use crate::report::{Bar, Figure};
use crate::stage::{self, PATIENCE, Stage};
use crate::users::{GuardedEngine, token};
use crate::workload::{ITEMS, column};

const KEYS: usize = 100_000;
/// Users with sets of their own, from whose numbers the slope is taken.
const FEW: usize = 1;
const MANY: usize = 4;
/// An allocator keeps memory for a while, in case it is needed again soon.
const SETTLED_WITHIN: Duration = Duration::from_secs(25);
const BYTES_MAX: f64 = 64.0;

const POLICIES: &str = "[entities.items]
read = \"list_id IN (SELECT list_id FROM list_members WHERE user_id = auth.team)\"
[entities.list_members]
read = \"user_id = auth.sub\"
";

struct Round {
    bytes_a_key: f64,
    bytes_a_shared_key: f64,
    subscribe_ms: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds.min(2) {
        rounds.push(round(stage).await?);
    }
    Ok(vec![
        Figure::new(
            "a set of 100,000 keys: memory of each",
            "bytes",
            column(&rounds, |round| round.bytes_a_key),
        )
        .bar(Bar::AtMost(BYTES_MAX)),
        Figure::new(
            "  of each key, for another user of the same set",
            "bytes",
            column(&rounds, |round| round.bytes_a_shared_key),
        )
        .bar(Bar::AtMost(1.0)),
        Figure::new(
            "  from subscribe to live",
            "ms",
            column(&rounds, |round| round.subscribe_ms),
        ),
    ])
}

async fn round(stage: &Stage) -> Result<Round> {
    let keys = stage.size(KEYS);
    let database = stage
        .database(&format!(
            "{};{};
             CREATE INDEX ON items (list_id);
             CREATE TABLE {MEMBERS} (
                 list_id integer NOT NULL, user_id text NOT NULL, PRIMARY KEY (list_id, user_id)
             );
             CREATE INDEX ON {MEMBERS} (user_id);
             INSERT INTO {MEMBERS} SELECT n * 16 + u, u::text
                 FROM generate_series(1, {keys}) n, generate_series(0, {MANY} - 1) u;
             ANALYZE",
            stage::ITEMS,
            stage::fill(10)
        ))
        .await?;
    let guarded = GuardedEngine::start(&database.url, POLICIES).await?;
    let process = guarded.engine.process();
    // What the first one needs besides stays out of the slopes.
    let (first, subscribe_ms) = subscribe(stage, &guarded, 0..FEW).await?;
    let with_few = settled_kib(process).await?;
    let (rest, _) = subscribe(stage, &guarded, FEW..MANY).await?;
    let with_many = settled_kib(process).await?;
    let (same, _) = subscribe(stage, &guarded, MANY..2 * MANY).await?;
    let with_same = settled_kib(process).await?;
    drop((first, rest, same));
    let bytes = |kib: f64, sets: usize| kib.max(0.0) * 1024.0 / (sets * keys) as f64;
    Ok(Round {
        bytes_a_key: bytes(with_many - with_few, MANY - FEW),
        bytes_a_shared_key: bytes(with_same - with_many, MANY),
        subscribe_ms,
    })
}

/// Connects these users, of which two that are [`MANY`] apart share a set. Returns the time until all are live.
async fn subscribe(
    stage: &Stage,
    guarded: &GuardedEngine,
    users: std::ops::Range<usize>,
) -> Result<(Group, f64)> {
    let tokens = users.clone().map(|user| {
        let team = (user % MANY).to_string();
        token(user, json!({ "team": team }))
    });
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    let address = guarded.engine.address();
    let group = stage
        .receivers
        .group_at_gate(&address, users.len(), |user| User {
            token: Some(tokens[user].clone()),
            speaks: Speaks::Protocol(Subscribe::all(ITEMS)),
        });
    let welcomed = |tally: &crate::load::Tally| {
        tally.welcomed.load(std::sync::atomic::Ordering::Relaxed) >= users.len()
    };
    group.wait("welcomes", PATIENCE, welcomed).await?;
    let began = now();
    group.open_gate();
    group.live(PATIENCE).await?;
    let milliseconds = group.tally.live_after(began) * 1e3;
    Ok((group, milliseconds))
}

/// Resident memory once it does not become less any more.
async fn settled_kib(process: Process) -> Result<f64> {
    let began = Instant::now();
    let (mut least, mut unchanged) = (f64::INFINITY, 0);
    while began.elapsed() < SETTLED_WITHIN && unchanged < 6 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let resident = process.resident_kib()?;
        unchanged = if resident < least - 64.0 {
            0
        } else {
            unchanged + 1
        };
        least = least.min(resident);
    }
    Ok(least)
}
