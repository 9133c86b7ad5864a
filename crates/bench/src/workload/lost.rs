//! Whether changes are lost or sent twice when connections break during writes: the engine's connections to
//! its database, and those of clients.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{ITEMS, column, whole_table};
use crate::load::{Group, Speaks, Subscribe};
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::writers::{self, Commit, Written};

const SUBSCRIBERS: usize = 100;
const RATE: f64 = 200.0;
/// The interval at which all of the engine's connections are terminated.
const EVERY: Duration = Duration::from_millis(300);
/// The time in which changes sent twice would arrive.
const SETTLED: Duration = Duration::from_secs(1);

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name = 'rhtmx-sync'";

/// The wrong changes of all subscribers together.
struct Wrong {
    lost: f64,
    twice: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let (mut database_cut, mut clients_cut) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds.min(2) {
        let database = stage.database(stage::ITEMS).await?;
        let engine = Engine::start(&database.url, &[ITEMS]).await;
        database_cut.push(terminated(stage, &database, &engine).await?);
        clients_cut.push(came_back(stage, &database, &engine).await?);
    }
    let mut figures = Vec::new();
    for (what, rounds) in [
        ("the engine's connections terminated", database_cut),
        ("all clients cut off, and back", clients_cut),
    ] {
        let lost = column(&rounds, |wrong| wrong.lost);
        let twice = column(&rounds, |wrong| wrong.twice);
        figures.push(Figure::new(format!("{what}: lost"), "changes", lost).bar(Bar::AtMost(0.0)));
        figures.push(Figure::new(format!("{what}: twice"), "changes", twice).bar(Bar::AtMost(0.0)));
    }
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

/// Terminates the engine's connections again and again, but none of its clients'.
async fn terminated(stage: &Stage, database: &Database, engine: &Engine) -> Result<Wrong> {
    let group = stage
        .receivers
        .group(&engine.address(), SUBSCRIBERS, whole_table);
    group.live(PATIENCE).await?;
    let time = stage.seconds(3.0);
    let writing = writers::at_rate(database, Commit::Insert(1), RATE, time);
    let until = Instant::now() + time;
    let terminating = async {
        let client = database.connect().await?;
        while Instant::now() < until {
            tokio::time::sleep(EVERY).await;
            client.batch_execute(TERMINATE).await?;
        }
        anyhow::Ok(())
    };
    let (written, terminated) = tokio::join!(writing, terminating);
    terminated?;
    received(&group, &written?).await
}

/// Cuts off all clients half-way, and connects others with their cursor.
async fn came_back(stage: &Stage, database: &Database, engine: &Engine) -> Result<Wrong> {
    let leaving = stage
        .receivers
        .group(&engine.address(), SUBSCRIBERS, whole_table);
    leaving.live(PATIENCE).await?;
    let subscribe = Subscribe {
        cursor: leaving.tally.cursor(),
        ..Subscribe::all(ITEMS)
    };
    let time = stage.seconds(2.0);
    let writing = writers::at_rate(database, Commit::Insert(1), RATE, time);
    let coming_back = async {
        tokio::time::sleep(time / 2).await;
        drop(leaving);
        stage
            .receivers
            .group(&engine.address(), SUBSCRIBERS, move |_| {
                Speaks::Protocol(subscribe.clone())
            })
    };
    let (written, back) = tokio::join!(writing, coming_back);
    received(&back, &written?).await
}

/// Compares what each client of the group has received with what was written.
async fn received(group: &Group, written: &Written) -> Result<Wrong> {
    let expected = written.rows * group.size() as u64;
    let all_received = group
        .wait("all changes", PATIENCE, |tally| {
            tally.changes.load(Ordering::Relaxed) >= expected
        })
        .await;
    if all_received.is_err()
        && let Some(fault) = group.tally.fault()
    {
        anyhow::bail!(fault);
    }
    tokio::time::sleep(SETTLED).await;
    let received = group.tally.changes.load(Ordering::Relaxed);
    Ok(Wrong {
        lost: expected.saturating_sub(received) as f64,
        twice: received.saturating_sub(expected) as f64,
    })
}
