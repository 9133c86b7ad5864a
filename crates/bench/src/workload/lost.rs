//! Whether anything is lost, or sent twice, when connections break while writes go on: those of the
//! engine to its database, and those of clients.

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
/// Between two times that all of the engine's connections are terminated.
const EVERY: Duration = Duration::from_millis(300);
/// What should not come would have come by then.
const SETTLED: Duration = Duration::from_secs(1);

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name = 'rhtmx-sync'";

/// Changes, of all subscribers together.
struct Outcome {
    lost: f64,
    twice: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let (mut database_cut, mut sockets_cut) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds.min(2) {
        let database = stage.database(stage::ITEMS).await?;
        let engine = Engine::start(&database.url, &[ITEMS]).await;
        database_cut.push(terminated(stage, &database, &engine).await?);
        sockets_cut.push(came_back(stage, &database, &engine).await?);
    }
    let mut figures = Vec::new();
    for (what, rounds) in [
        ("the engine's connections terminated", database_cut),
        ("all clients cut off, and back", sockets_cut),
    ] {
        let lost = column(&rounds, |outcome| outcome.lost);
        let twice = column(&rounds, |outcome| outcome.twice);
        figures.push(Figure::new(format!("{what}: lost"), "changes", lost).bar(Bar::AtMost(0.0)));
        figures.push(Figure::new(format!("{what}: twice"), "changes", twice).bar(Bar::AtMost(0.0)));
    }
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

/// The engine loses all its connections again and again, its clients none.
async fn terminated(stage: &Stage, database: &Database, engine: &Engine) -> Result<Outcome> {
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

/// All clients are cut off in the middle, and others come with the cursor that they had.
async fn came_back(stage: &Stage, database: &Database, engine: &Engine) -> Result<Outcome> {
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

/// What each member of the group has received of what was written.
async fn received(group: &Group, written: &Written) -> Result<Outcome> {
    let wanted = written.rows * group.size() as u64;
    let all_came = group
        .wait("all changes", PATIENCE, |tally| {
            tally.changes.load(Ordering::Relaxed) >= wanted
        })
        .await;
    if all_came.is_err()
        && let Some(fault) = group.tally.fault()
    {
        anyhow::bail!(fault);
    }
    tokio::time::sleep(SETTLED).await;
    let came = group.tally.changes.load(Ordering::Relaxed);
    Ok(Outcome {
        lost: wanted.saturating_sub(came) as f64,
        twice: came.saturating_sub(wanted) as f64,
    })
}
