//! The same on SQLite, with this program as the other one that writes to the file.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use diesel::sql_types::Text;
use diesel::{RunQueryDsl as _, SqliteConnection, sql_query};
use testkit::TestDatabase;

use super::Times;
use crate::load::{Group, body, now};
use crate::server::Engine;
use crate::stage::{PATIENCE, Stage};
use crate::workload::{ITEMS, all_received, whole_table};
use crate::writers::Written;

/// A file with a server and its subscribers.
pub(super) struct Subscribers {
    database: TestDatabase,
    group: Group,
    _engine: Engine,
}

impl Subscribers {
    pub(super) async fn start(stage: &Stage, subscribers: usize) -> Result<Self> {
        let database = TestDatabase::sqlite().await;
        database
            .execute(
                "CREATE TABLE items (id integer PRIMARY KEY, list_id integer NOT NULL DEFAULT 0, body text NOT NULL)",
            )
            .await;
        let engine = Engine::start(&database.url(), &[ITEMS]).await;
        let group = stage
            .receivers
            .group(&engine.address(), subscribers, whole_table);
        group.live(PATIENCE).await?;
        Ok(Self {
            database,
            group,
            _engine: engine,
        })
    }

    pub(super) async fn measure(&self, stage: &Stage, rate: u32, seconds: f64) -> Result<Times> {
        let before = self.group.tally.changes.load(Ordering::Relaxed);
        self.group.tally.begin_latency();
        let connection = self.database.connect_sqlite();
        let time = stage.seconds(seconds);
        let written = tokio::task::spawn_blocking(move || write(connection, rate, time))
            .await
            .context("the SQLite writer panicked")??;
        all_received(&self.group, before, &written).await?;
        let histogram = self.group.tally.end_latency();
        Ok(Times::of(&histogram, &written))
    }
}

fn write(mut connection: SqliteConnection, rate: u32, time: Duration) -> Result<Written> {
    let (began, every) = (Instant::now(), Duration::from_secs(1) / rate);
    let mut written = Written::default();
    let mut next = began;
    while began.elapsed() < time {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let sent = now();
        sql_query("INSERT INTO items (body) VALUES (?)")
            .bind::<Text, _>(body())
            .execute(&mut connection)?;
        written.times.add(now() - sent);
        written.commits += 1;
        written.rows += 1;
        next = (next + every).max(Instant::now());
    }
    written.seconds = began.elapsed().as_secs_f64();
    Ok(written)
}
