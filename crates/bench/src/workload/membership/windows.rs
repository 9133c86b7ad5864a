//! Windows: the newest rows of a large table, and a thousand of them beside each other.

use std::sync::atomic::Ordering;

use anyhow::Result;

use super::teams::rows_of_lists;
use crate::load::{Group, Speaks, Subscribe, Tally, now};
use crate::report::{Bar, Figure};
use crate::server::Engine;
use crate::stage::{self, PATIENCE, Stage};
use crate::workload::{ITEMS, column, cost_of_a_change};

const ROWS: usize = 1_000_000;
const WINDOWS: usize = 1_000;
const FEW: usize = 10;
const FIRST_ROWS_MAX_MS: f64 = 50.0;

struct Round {
    first_ms: f64,
    among_many: f64,
    among_few: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let windows = stage.size(WINDOWS);
    let rows = rows_of_lists(0, windows, stage.size(ROWS) / windows);
    let database = stage
        .database(&format!(
            "{}; CREATE INDEX ON items (list_id, id); {rows}",
            stage::ITEMS
        ))
        .await?;
    database.execute("VACUUM ANALYZE").await?;
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds {
        let engine = Engine::start(&database.url, &[ITEMS]).await;
        // With its first set a server opens a connection to read sets.
        first_rows(stage, &engine).await?;
        let first_ms = first_rows(stage, &engine).await?;
        let mut costs = Vec::new();
        for count in [FEW, windows] {
            let group = stage.receivers.group(&engine.address(), count, |list| {
                Speaks::Protocol(newest(vec![list as i64]))
            });
            group.live(PATIENCE).await?;
            let receivers = (&group, engine.process());
            costs.push(cost_of_a_change(stage, &database, receivers, count, 1).await?);
        }
        rounds.push(Round {
            first_ms,
            among_few: costs[0],
            among_many: costs[1],
        });
    }
    Ok(vec![
        Figure::new(
            "the newest 50 of 1,000,000 rows: from subscribe to live",
            "ms",
            column(&rounds, |round| round.first_ms),
        )
        .bar(Bar::AtMost(FIRST_ROWS_MAX_MS)),
        Figure::new(
            "a change that concerns one of 1,000 windows",
            "µs",
            column(&rounds, |round| round.among_many),
        )
        .beside("of 10", column(&rounds, |round| round.among_few))
        .bar(Bar::RatioAtMost(1.5))
        .note("of the server's processor"),
    ])
}

/// The newest rows of these lists, or of all.
fn newest(lists: Vec<i64>) -> Subscribe {
    Subscribe {
        lists,
        newest: Some(50),
        ..Subscribe::all(ITEMS)
    }
}

async fn first_rows(stage: &Stage, engine: &Engine) -> Result<f64> {
    let group: Group = stage.receivers.group_at_gate(&engine.address(), 1, |_| {
        Speaks::Protocol(newest(Vec::new()))
    });
    let welcomed = |tally: &Tally| tally.welcomed.load(Ordering::Relaxed) > 0;
    group.wait("welcomes", PATIENCE, welcomed).await?;
    let began = now();
    group.open_gate();
    group.live(PATIENCE).await?;
    Ok(group.tally.live_after(began) * 1e3)
}
