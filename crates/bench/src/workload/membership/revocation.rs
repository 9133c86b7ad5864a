//! A membership ends: how soon the rows have left the member's copy, and that no row follows.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use testkit::{ClientOptions, SyncClient};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use self::copy::Copy;
use super::MEMBERS;
use super::teams::Teams;
use crate::load::{Histogram, now};
use crate::report::{Bar, Figure};
use crate::stage::{PATIENCE, Stage};
use crate::workload::ITEMS;
use crate::writers::{self, Commit};

mod copy;

/// The members who are watched, beside all others.
const WATCHED: usize = 50;
/// The lists of each of them, each of which ends in a round.
const LISTS: usize = 4;
/// The first of them.
const FIRST: usize = 30_000;
/// Rows a second that are written to the lists of those who are watched.
const ROWS_A_SECOND: f64 = 500.0;

/// What one of them has seen, at a cursor.
enum Seen {
    /// Everything is there.
    Live,
    /// A list's rows are gone, at this time.
    Left { list: i64, at: u64 },
    /// This many rows came, or were kept, that they may not see.
    Forbidden(u64),
}

struct Round {
    p99_ms: f64,
    forbidden: f64,
}

pub(super) async fn run(stage: &Stage, teams: &Teams) -> Result<Vec<Figure>> {
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds {
        rounds.push(round(stage, teams).await?);
    }
    let values = |value: fn(&Round) -> f64| rounds.iter().map(value).collect();
    Ok(vec![
        Figure::new("a membership ends: until the rows have left, p99", "ms", values(|it| it.p99_ms))
            .bar(Bar::AtMost(50.0))
            .note("from before the DELETE is sent to the cursor; 1,000 sessions, 500 rows/s to these lists"),
        Figure::new("  forbidden rows after it", "", values(|it| it.forbidden)).bar(Bar::AtMost(0.0)),
    ])
}

async fn round(stage: &Stage, teams: &Teams) -> Result<Round> {
    let watched = stage.size(WATCHED);
    let client = teams.database.connect().await?;
    let all = format!(
        "INSERT INTO {MEMBERS} SELECT (u * {LISTS} + n) % {WATCHED}, ({FIRST} + u)::text \
         FROM generate_series(0, {watched} - 1) u, generate_series(0, {LISTS} - 1) n \
         ON CONFLICT DO NOTHING"
    );
    client.batch_execute(&all).await?;
    let (sender, mut seen) = unbounded_channel();
    let mut watching = JoinSet::new();
    for user in 0..watched {
        let address = teams.guarded.engine.address();
        let token = teams.token(FIRST + user)?;
        watching.spawn(watch(address, (user, token), sender.clone()));
    }
    let mut live = 0;
    while live < watched {
        if let Seen::Live = next(&mut seen, &mut watching).await?.1 {
            live += 1;
        }
    }
    let time = Duration::from_secs(3600);
    let rows = writers::at_rate(
        &teams.database,
        Commit::InsertIntoLists(WATCHED),
        ROWS_A_SECOND,
        time,
    );
    tokio::pin!(rows);
    let revocations = revoke(&client, &mut seen, &mut watching, watched);
    let round = tokio::select! {
        round = revocations => round,
        written = &mut rows => Err(written.err().unwrap_or_else(|| anyhow::anyhow!("the writers have ended"))),
    };
    watching.abort_all();
    round
}

/// Ends all memberships of those who are watched, one after another.
async fn revoke(
    client: &tokio_postgres::Client,
    seen: &mut UnboundedReceiver<(usize, Seen)>,
    watching: &mut JoinSet<Result<()>>,
    watched: usize,
) -> Result<Round> {
    let end = format!("DELETE FROM {MEMBERS} WHERE list_id = $1 AND user_id = $2");
    let end = client.prepare(&end).await?;
    let mut times = Histogram::default();
    let mut forbidden = 0;
    for number in 0..watched * LISTS {
        let user = number % watched;
        let list = i32::try_from((user * LISTS + number / watched) % WATCHED)?;
        let name = (FIRST + user).to_string();
        let sent = now();
        client.execute(&end, &[&list, &name]).await?;
        // They must not hear of this any more.
        let row = format!("INSERT INTO items (list_id, body) VALUES ({list}, '')");
        client.batch_execute(&row).await?;
        loop {
            match next(seen, watching).await? {
                (who, Seen::Left { list: left, at }) if who == user && left == i64::from(list) => {
                    times.add(at - sent);
                    break;
                }
                (_, Seen::Forbidden(rows)) => forbidden += rows,
                _ => {}
            }
        }
    }
    Ok(Round {
        p99_ms: times.quantile_ms(0.99),
        forbidden: forbidden as f64,
    })
}

async fn next(
    seen: &mut UnboundedReceiver<(usize, Seen)>,
    watching: &mut JoinSet<Result<()>>,
) -> Result<(usize, Seen)> {
    tokio::select! {
        ended = watching.join_next() => match ended.context("nobody is watched")?? {
            Ok(()) => anyhow::bail!("one who is watched has ended"),
            Err(error) => Err(error),
        },
        next = tokio::time::timeout(PATIENCE, seen.recv()) => {
            next.context("the rows of an ended membership never left")?.context("nobody is watched")
        }
    }
}

/// Connects one of them, and tells at each cursor what they have seen.
async fn watch(
    address: String,
    (user, token): (usize, String),
    seen: UnboundedSender<(usize, Seen)>,
) -> Result<()> {
    let options = ClientOptions {
        token: Some(token),
        patience: PATIENCE,
        ..ClientOptions::default()
    };
    let url = format!("ws://{address}/api/sync/ws");
    let mut client = SyncClient::connect(&url, options).await;
    client.subscribe(1, ITEMS).await;
    client.subscribe(2, MEMBERS).await;
    let mut copy = Copy::default();
    let mut is_live = false;
    loop {
        let frame: Value = client.next_frame().await;
        let at_cursor = copy.take(&frame);
        if !is_live && copy.is_live() {
            is_live = true;
            // It fails only when the round has ended.
            let _ = seen.send((user, Seen::Live));
        }
        let Some(at_cursor) = at_cursor else {
            continue;
        };
        let at = now();
        for list in at_cursor.left {
            let _ = seen.send((user, Seen::Left { list, at }));
        }
        if at_cursor.forbidden > 0 {
            let _ = seen.send((user, Seen::Forbidden(at_cursor.forbidden)));
        }
    }
}
