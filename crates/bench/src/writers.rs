//! Writers of the table: at a rate, or as fast as commits return.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::{Client, Statement};

use crate::load::{Histogram, body, now};
use crate::stage::Database;

/// The commits per second that one connection can do on most machines.
const RATE_EACH: f64 = 300.0;

/// What one commit does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Commit {
    /// Inserts this many rows with one statement.
    Insert(i32),
    /// Inserts a row into one of this many lists, in turn.
    InsertIntoLists(usize),
    /// Updates one of the first rows, of which there are this many, in turn.
    Update(usize),
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) commits: u64,
    pub(crate) rows: u64,
    pub(crate) seconds: f64,
    /// The times from sending a statement to its answer.
    pub(crate) times: Histogram,
}

impl Written {
    pub(crate) fn commits_per_second(&self) -> f64 {
        self.commits as f64 / self.seconds.max(1e-9)
    }
}

/// A writer that commits as fast as it can until it is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    commits: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Background {
    pub(crate) async fn start(database: &Database, commit: Commit) -> Result<Self> {
        let writer = Writer::open(database, commit).await?;
        let commits = Arc::new(AtomicU64::new(0));
        let counted = commits.clone();
        let task = tokio::spawn(async move {
            // If it fails, the count shows it.
            while writer.once(counted.load(Ordering::Relaxed)).await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self { commits, task })
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Commits at `rate` per second, all writers together, for `time`. A late writer skips commits, which shows in
/// the count.
pub(crate) async fn at_rate(
    database: &Database,
    commit: Commit,
    rate: f64,
    time: Duration,
) -> Result<Written> {
    let writers = (rate / RATE_EACH).ceil().max(1.0) as u32;
    let every = Duration::from_secs_f64(f64::from(writers) / rate);
    run(database, commit, writers, Some(every), time).await
}

/// Commits with this many writers as fast as they can, for `time`.
pub(crate) async fn at_full_speed(
    database: &Database,
    commit: Commit,
    writers: u32,
    time: Duration,
) -> Result<Written> {
    run(database, commit, writers, None, time).await
}

async fn run(
    database: &Database,
    commit: Commit,
    writers: u32,
    every: Option<Duration>,
    time: Duration,
) -> Result<Written> {
    let mut open = Vec::new();
    for _ in 0..writers {
        open.push(Writer::open(database, commit).await?);
    }
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (number, writer) in (0..writers).zip(open) {
        // The writers take turns within the period instead of writing all at once.
        let first = every.map_or(began, |every| began + every * number / writers);
        running.spawn(writer.write(first, every, began + time));
    }
    let mut written = Written::default();
    while let Some(one) = running.join_next().await {
        let one = one??;
        written.commits += one.commits;
        written.rows += one.rows;
        written.times.merge(&one.times);
    }
    written.seconds = began.elapsed().as_secs_f64();
    Ok(written)
}

struct Writer {
    client: Client,
    statement: Statement,
    commit: Commit,
}

impl Writer {
    async fn open(database: &Database, commit: Commit) -> Result<Self> {
        let client = database.connect().await?;
        let sql = match commit {
            Commit::Insert(1) => "INSERT INTO items (body) VALUES ($1)".to_owned(),
            Commit::Insert(rows) => {
                format!("INSERT INTO items (body) SELECT $1 FROM generate_series(1, {rows})")
            }
            Commit::InsertIntoLists(_) => {
                "INSERT INTO items (body, list_id) VALUES ($1, $2)".to_owned()
            }
            Commit::Update(_) => "UPDATE items SET body = $1 WHERE id = $2".to_owned(),
        };
        let statement = client.prepare(&sql).await?;
        Ok(Self {
            client,
            statement,
            commit,
        })
    }

    async fn write(
        self,
        first: Instant,
        every: Option<Duration>,
        until: Instant,
    ) -> Result<Written> {
        let mut ticks = every.map(|every| {
            let mut ticks = tokio::time::interval_at(first, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        let mut written = Written::default();
        loop {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            if Instant::now() >= until {
                return Ok(written);
            }
            let sent = now();
            written.rows += self.once(written.commits).await?;
            written.times.add(now() - sent);
            written.commits += 1;
        }
    }

    async fn once(&self, number: u64) -> Result<u64> {
        let body = body();
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        match self.commit {
            Commit::Insert(_) => Ok(self.client.execute(&self.statement, &[&body]).await?),
            Commit::InsertIntoLists(lists) => {
                let list = i32::try_from(spread % lists as u64)?;
                Ok(self
                    .client
                    .execute(&self.statement, &[&body, &list])
                    .await?)
            }
            Commit::Update(rows) => {
                let id = i64::try_from(spread % rows as u64)? + 1;
                Ok(self.client.execute(&self.statement, &[&body, &id]).await?)
            }
        }
    }
}
