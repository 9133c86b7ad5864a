//! A user becomes a member: how soon the rows are there, and what that asks of the database and of others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_postgres::Client;

use super::MEMBERS;
use super::teams::{ROWS_A_LIST, Teams, rows_of_lists};
use crate::load::now;
use crate::report::{Bar, Figure};
use crate::stage::{PATIENCE, Stage};

/// The rows of a list, and how many users join it in a round.
pub(super) const SIZES: [(usize, usize); 3] = [(ROWS_A_LIST, 20), (TEAM_ROWS, 10), (10_000, 3)];
const TEAM_ROWS: usize = 1_000;
/// The first of the users who join.
const FIRST: usize = 20_000;
/// Beyond this a backend has told the others what it has read.
const UNTIL_COUNTED: Duration = Duration::from_millis(1_100);
const COUNTED_WITHIN: u32 = 12;

/// What was measured of one size.
#[derive(Default)]
struct Times {
    live: Vec<f64>,
    query: Vec<f64>,
}

/// What a team of [`TEAM_ROWS`] rows asks of others.
struct Touched {
    reads: f64,
    bytes: f64,
}

/// With lists of some of the [`SIZES`].
pub(super) async fn run(
    stage: &Stage,
    teams: &Teams,
    sizes: &[(usize, usize)],
) -> Result<Vec<Figure>> {
    for (number, (rows, _)) in sizes.iter().enumerate() {
        let list = teams.extra_list(number) as usize;
        teams
            .database
            .execute(&rows_of_lists(list, 1, *rows))
            .await?;
    }
    teams.database.execute("VACUUM ANALYZE items").await?;
    let client = teams.database.connect().await?;
    let mut figures = Vec::new();
    for (number, (rows, users)) in sizes.iter().copied().enumerate() {
        let mut times = Times::default();
        for _ in 0..stage.rounds {
            let list = teams.extra_list(number);
            join(stage, teams, &client, (list, rows), users, &mut times).await?;
        }
        let name = format!("a member of a list of {rows} rows: until all have arrived");
        figures.push(
            Figure::new(name, "ms", times.live)
                .beside("the query alone", times.query)
                .bar(Bar::RatioAtMost(3.0))
                .note("from the commit of the membership"),
        );
    }
    let mut touched = Vec::new();
    for _ in 0..stage.rounds.min(2) {
        touched.push(gain_a_team(stage, teams, &client).await?);
    }
    let values = |value: fn(&Touched) -> f64| touched.iter().map(value).collect();
    figures.push(
        Figure::new(
            "one user gains 1,000 rows: reads of the table",
            "",
            values(|it| it.reads),
        )
        .bar(Bar::AtMost(1.0)),
    );
    figures.push(
        Figure::new(
            "  bytes that 1,000 other users receive",
            "",
            values(|it| it.bytes),
        )
        .bar(Bar::AtMost(0.0)),
    );
    Ok(figures)
}

/// Lets users join a list, one after another. Adds the medians of the times, in milliseconds.
async fn join(
    stage: &Stage,
    teams: &Teams,
    client: &Client,
    (list, rows): (i32, usize),
    users: usize,
    times: &mut Times,
) -> Result<()> {
    let joining = teams.connect(stage, FIRST..FIRST + users)?;
    joining.live(PATIENCE).await?;
    let add = format!("INSERT INTO {MEMBERS} (list_id, user_id) VALUES ($1, $2)");
    let add = client.prepare(&add).await?;
    let query = "SELECT id, list_id, body FROM items WHERE list_id = $1";
    let query = client.prepare(query).await?;
    let (mut live, mut alone) = (Vec::new(), Vec::new());
    for user in 0..users {
        let before = joining.tally.changes.load(Ordering::Relaxed);
        client
            .execute(&add, &[&list, &(FIRST + user).to_string()])
            .await?;
        let committed = now();
        joining.changes(before + rows as u64, PATIENCE).await?;
        live.push(joining.tally.last_after(committed) * 1e3);
        let began = now();
        client.query(&query, &[&list]).await?;
        alone.push((now() - began) as f64 / 1e6);
    }
    times.live.push(median(live));
    times.query.push(median(alone));
    drop(joining);
    leave(client).await
}

/// One user joins a team while the others are idle.
async fn gain_a_team(stage: &Stage, teams: &Teams, client: &Client) -> Result<Touched> {
    let joining = teams.connect(stage, FIRST..FIRST + 1)?;
    joining.live(PATIENCE).await?;
    let reads_before = reads(client).await?;
    let others = || teams.group.tally.bytes.load(Ordering::Relaxed);
    let (bytes_before, before) = (others(), joining.tally.changes.load(Ordering::Relaxed));
    let add = format!(
        "INSERT INTO {MEMBERS} VALUES ({}, '{FIRST}')",
        teams.extra_list(1)
    );
    client.batch_execute(&add).await?;
    joining.changes(before + TEAM_ROWS as u64, PATIENCE).await?;
    let bytes = others() - bytes_before;
    let reads = reads(client).await? - reads_before;
    drop(joining);
    leave(client).await?;
    Ok(Touched {
        reads,
        bytes: bytes as f64,
    })
}

/// How often `items` was read by its lists, or as a whole. A backend may tell that only later, when it is used again.
async fn reads(client: &Client) -> Result<f64> {
    let count = "SELECT (SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'items') \
         + (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'items_by_list')";
    let (mut last, mut same) = (None, 0);
    for _ in 0..COUNTED_WITHIN {
        tokio::time::sleep(UNTIL_COUNTED).await;
        // Makes the engine use its connections.
        client
            .batch_execute("INSERT INTO items (list_id, body) VALUES (-1, '')")
            .await?;
        let reads: i64 = client.query_one(count, &[]).await?.get(0);
        same = if last == Some(reads) { same + 1 } else { 0 };
        last = Some(reads);
        if same == 3 {
            break;
        }
    }
    Ok(last.context("nothing was counted")? as f64)
}

/// Ends the memberships of all who have joined.
async fn leave(client: &Client) -> Result<()> {
    let leave = format!("DELETE FROM {MEMBERS} WHERE length(user_id) = 5");
    Ok(client.batch_execute(&leave).await?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
