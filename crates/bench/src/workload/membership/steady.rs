//! Memberships that come and go all the time, beside changes of rows.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, MissedTickBehavior};

use super::MEMBERS;
use super::teams::{ROWS_A_LIST, Teams};
use crate::load::{Histogram, now};
use crate::report::{Bar, Figure};
use crate::stage::{PATIENCE, Stage};
use crate::workload::column;
use crate::writers::{self, Commit, Written};

const ROWS_A_SECOND: f64 = 1_000.0;
const MEMBERSHIPS_A_SECOND: f64 = 200.0;
const SECONDS: f64 = 5.0;
/// How far behind the writers the last receipt may be. This bar is the project's own.
const BEHIND_MAX_MS: f64 = 500.0;

struct Round {
    alone_p99: f64,
    beside_p99: f64,
    behind_ms: f64,
    rows: f64,
    memberships: f64,
}

/// Memberships of spare lists that were changed.
#[derive(Default)]
struct Changed {
    added: u64,
    removed: u64,
    seconds: f64,
}

pub(super) async fn run(stage: &Stage, teams: &Teams) -> Result<Vec<Figure>> {
    // Half of them leave while the other half joins.
    let mut members: Vec<bool> = (0..teams.users).map(|user| user % 2 == 0).collect();
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds {
        rounds.push(round(stage, teams, &mut members).await?);
    }
    let lowest = |value: fn(&Round) -> f64| {
        column(&rounds, value)
            .into_iter()
            .fold(f64::INFINITY, f64::min)
    };
    Ok(vec![
        Figure::new(
            "1,000 rows/s, 200 memberships/s: a row's p99",
            "ms",
            column(&rounds, |round| round.beside_p99),
        )
        .beside("rows alone", column(&rounds, |round| round.alone_p99))
        .note("each membership moves 100 rows"),
        Figure::new(
            "  how far behind the writers",
            "ms",
            column(&rounds, |round| round.behind_ms),
        )
        .bar(Bar::AtMost(BEHIND_MAX_MS))
        .note(format!(
            "at least {:.0} rows/s and {:.0} memberships/s written",
            lowest(|round| round.rows),
            lowest(|round| round.memberships)
        )),
    ])
}

async fn round(stage: &Stage, teams: &Teams, members: &mut [bool]) -> Result<Round> {
    let time = stage.seconds(SECONDS);
    let before = teams.group.tally.changes.load(Ordering::Relaxed);
    teams.group.tally.begin_latency();
    let written = rows(teams, time).await?;
    received(teams, before, &written, &Changed::default()).await?;
    let alone = teams.group.tally.end_latency();
    let before = teams.group.tally.changes.load(Ordering::Relaxed);
    teams.group.tally.begin_latency();
    let (written, changed) = tokio::join!(rows(teams, time), memberships(teams, members, time));
    let (written, changed) = (written?, changed?);
    let ended = now();
    received(teams, before, &written, &changed).await?;
    let beside = teams.group.tally.end_latency();
    let p99 = |histogram: &Histogram| histogram.quantile_ms(0.99);
    Ok(Round {
        alone_p99: p99(&alone),
        beside_p99: p99(&beside),
        behind_ms: teams.group.tally.last_after(ended) * 1e3,
        rows: written.commits_per_second(),
        memberships: (changed.added + changed.removed) as f64 / changed.seconds,
    })
}

async fn rows(teams: &Teams, time: Duration) -> Result<Written> {
    let commit = Commit::InsertIntoLists(teams.lists);
    writers::at_rate(&teams.database, commit, ROWS_A_SECOND, time).await
}

/// Waits until each user has received all rows of their lists, and of the lists that they have joined.
async fn received(teams: &Teams, before: u64, written: &Written, changed: &Changed) -> Result<()> {
    let audience = (teams.users * 10 / teams.lists) as u64;
    let expected = before + written.rows * audience + changed.added * ROWS_A_LIST as u64;
    teams.group.changes(expected, PATIENCE).await
}

/// Lets users join a spare list, or leave it, one after another.
async fn memberships(teams: &Teams, members: &mut [bool], time: Duration) -> Result<Changed> {
    let client = teams.database.connect().await?;
    let add = format!("INSERT INTO {MEMBERS} (list_id, user_id) VALUES ($1, $2)");
    let add = client.prepare(&add).await?;
    let remove = format!("DELETE FROM {MEMBERS} WHERE list_id = $1 AND user_id = $2");
    let remove = client.prepare(&remove).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / MEMBERSHIPS_A_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let began = Instant::now();
    let mut changed = Changed::default();
    // No user does twice, so each joining moves all rows of its list.
    for (user, is_member) in members.iter_mut().enumerate() {
        ticks.tick().await;
        if began.elapsed() >= time {
            break;
        }
        let statement = if *is_member { &remove } else { &add };
        let (list, name) = (teams.spare_list(user), user.to_string());
        client.execute(statement, &[&list, &name]).await?;
        if *is_member {
            changed.removed += 1;
        } else {
            changed.added += 1;
        }
        *is_member = !*is_member;
    }
    changed.seconds = began.elapsed().as_secs_f64();
    Ok(changed)
}
