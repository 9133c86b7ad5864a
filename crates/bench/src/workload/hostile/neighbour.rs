//! The neighbours: each does one kind of harm again and again, as far as the server lets it.
//!
//! A server defends itself by refusing, so a neighbour goes on after an error or a close; only a neighbour that
//! cannot reach the server at all is a fault of the measurement.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::{ClientOptions, SyncClient};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::Client;

use super::NOTES;
use crate::stage::{Database, PATIENCE};

/// Between two rounds of harm: the load's own processor time must not be what slows the server.
const PAUSE: Duration = Duration::from_millis(250);
/// A subscriber may have this many subscriptions.
const SUBSCRIPTIONS: usize = 100;
const IDLE_CONNECTIONS: usize = 1_000;
const ABORTED_GETS: usize = 16;
const LOCKED_OUT: usize = 20;
const CRAFTED_RESUMES: usize = 8;
/// Entries in the log that a cursor from its beginning has behind it.
const LOG_ENTRIES: usize = 200_000;

/// A kind of harm.
#[derive(Debug, Clone, Copy)]
pub(super) enum Harm {
    /// Filters of hundreds of patterns, while a long text is written for them to look at.
    CostlyFilters,
    /// A hundred subscriptions that all match bulk updates, of a client that reads nothing.
    NonReader,
    /// Requests for the whole table that are given up at once.
    AbortedGets,
    /// Subscriptions of clients that leave at once.
    AbandonedSubscriptions,
    /// Pushes to a row that somebody has locked.
    LockedRow,
    /// Connections that say nothing.
    IdleConnections,
    /// Cursors from the beginning of a long log.
    CraftedCursor,
}

/// Other programs' writes. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Writes {
    task: JoinHandle<Result<()>>,
}

impl Writes {
    /// It is a fault of the measurement when one failed.
    pub(super) fn ensure_active(&self) -> Result<()> {
        ensure!(
            !self.task.is_finished(),
            "the other programs' writes have ended"
        );
        Ok(())
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A neighbour at work. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Neighbour {
    rounds: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Neighbour {
    /// It is a fault of the measurement when it did nothing.
    pub(super) fn ensure_active(&self) -> Result<()> {
        ensure!(!self.task.is_finished(), "the hostile neighbour has ended");
        ensure!(
            self.rounds.load(Ordering::Relaxed) > 0,
            "the hostile neighbour did nothing"
        );
        Ok(())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Harm {
    pub(super) const EACH: [Self; 7] = [
        Self::CostlyFilters,
        Self::NonReader,
        Self::AbortedGets,
        Self::AbandonedSubscriptions,
        Self::LockedRow,
        Self::IdleConnections,
        Self::CraftedCursor,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CostlyFilters => "costly filters",
            Self::NonReader => "a client that does not read",
            Self::AbortedGets => "aborted GETs",
            Self::AbandonedSubscriptions => "abandoned subscriptions",
            Self::LockedRow => "pushes to a locked row",
            Self::IdleConnections => "idle connections",
            Self::CraftedCursor => "crafted cursors",
        }
    }

    /// What other programs write again and again, with the neighbour and without: they are not its harm, though it
    /// lives on them.
    fn writes(self) -> Option<String> {
        match self {
            Self::CostlyFilters => Some(format!(
                "UPDATE {NOTES} SET body = repeat('3_1', 80000) WHERE id = 1"
            )),
            Self::NonReader => Some(format!(
                "UPDATE {NOTES} SET list_id = list_id + 1 WHERE id <= 400"
            )),
            _ => None,
        }
    }

    /// Prepares the database, and begins the writes of other programs.
    pub(super) async fn prepare(self, database: &Database) -> Result<Option<Writes>> {
        let client = database.connect().await?;
        if matches!(self, Self::CraftedCursor) {
            let many = format!(
                "UPDATE {NOTES} SET list_id = list_id + n FROM generate_series(1, {}) n WHERE id = n",
                LOG_ENTRIES / 10
            );
            for _ in 0..10 {
                client.batch_execute(&many).await?;
            }
        }
        let Some(statement) = self.writes() else {
            return Ok(None);
        };
        let task = tokio::spawn(async move {
            loop {
                client.batch_execute(&statement).await?;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Some(Writes { task }))
    }

    /// Returns once the first round of harm is done.
    pub(super) async fn start(self, database: &Database, address: &str) -> Result<Neighbour> {
        let scene = Scene {
            database: database.connect().await?,
            address: address.to_owned(),
            rounds: Arc::default(),
            began: Arc::default(),
        };
        let (rounds, began) = (scene.rounds.clone(), scene.began.clone());
        let task = tokio::spawn(async move {
            match self {
                Self::CostlyFilters => scene.costly_filters().await,
                Self::NonReader => scene.non_reader().await,
                Self::AbortedGets => scene.aborted_gets().await,
                Self::AbandonedSubscriptions => scene.abandoned_subscriptions().await,
                Self::LockedRow => scene.locked_row().await,
                Self::IdleConnections => scene.idle_connections().await,
                Self::CraftedCursor => scene.crafted_cursor().await,
            }
        });
        tokio::time::timeout(PATIENCE, began.notified())
            .await
            .with_context(|| format!("{}: never began", self.name()))?;
        Ok(Neighbour { rounds, task })
    }
}

/// Where the harm is done.
struct Scene {
    database: Client,
    address: String,
    rounds: Arc<AtomicU64>,
    began: Arc<Notify>,
}

impl Scene {
    async fn costly_filters(self) -> Result<()> {
        let patterns = |subscription: usize, count: usize| {
            let patterns =
                (0..count).map(|pattern| format!("body LIKE '%{subscription}_{pattern}%'"));
            patterns.collect::<Vec<_>>().join(" OR ")
        };
        // Those that are over the server's budget are refused; the smaller ones use up what is left of it.
        let _large = self.subscriber(|it| patterns(it, 500)).await?;
        let _small = self.subscriber(|it| patterns(it, 20)).await?;
        loop {
            self.pause().await;
        }
    }

    async fn non_reader(self) -> Result<()> {
        let _silent = self
            .subscriber(|it| format!("id <> {}", -(it as i64)))
            .await?;
        loop {
            self.pause().await;
        }
    }

    async fn aborted_gets(self) -> Result<()> {
        let request = format!(
            "GET /api/sync/{NOTES} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.address
        );
        loop {
            let mut streams = Vec::new();
            for _ in 0..ABORTED_GETS {
                let mut stream = TcpStream::connect(&self.address).await?;
                stream.write_all(request.as_bytes()).await?;
                streams.push(stream);
            }
            tokio::time::sleep(PAUSE / 5).await;
            self.pause().await;
        }
    }

    async fn abandoned_subscriptions(self) -> Result<()> {
        let mut round = 0;
        loop {
            round += 1;
            self.subscriber(|it| format!("id <> {}", -((round * SUBSCRIPTIONS + it) as i64)))
                .await?;
            self.pause().await;
        }
    }

    async fn locked_row(self) -> Result<()> {
        let lock = format!("BEGIN; SELECT FROM {NOTES} WHERE id = 1 FOR UPDATE");
        self.database.batch_execute(&lock).await?;
        let write =
            json!([{ "entity": NOTES, "op": "update", "key": "1", "values": { "body": "" } }]);
        let mut pushing = JoinSet::new();
        for _ in 0..LOCKED_OUT {
            let mut client = self.connect().await?;
            client.send_push(1, write.clone()).await;
            pushing.spawn(async move {
                // It waits for an answer, and leaves when there is none.
                let _ = client.try_wait_for(|_| false).await;
            });
        }
        loop {
            self.pause().await;
        }
    }

    async fn idle_connections(self) -> Result<()> {
        let mut idle = Vec::new();
        for _ in 0..IDLE_CONNECTIONS {
            idle.push(TcpStream::connect(&self.address).await?);
        }
        loop {
            // Those that the server has closed come back.
            let closed = idle.iter_mut().filter(|stream| is_closed(stream));
            for stream in closed {
                *stream = TcpStream::connect(&self.address).await?;
            }
            self.pause().await;
        }
    }

    async fn crafted_cursor(self) -> Result<()> {
        let mut honest = self.connect().await?;
        honest.subscribe(1, NOTES).await;
        honest.wait_subscribed(1).await;
        let cursor = honest.subscription(1).cursor().context("a cursor")?;
        let cursor = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor)?)?;
        let epoch = cursor.split('/').next().context("a cursor has an epoch")?;
        let crafted = URL_SAFE_NO_PAD.encode(format!("{epoch}/p1:1:"));
        loop {
            let mut clients = Vec::new();
            for _ in 0..CRAFTED_RESUMES {
                let mut client = self.connect().await?;
                client.resume(1, NOTES, &crafted).await;
                clients.push(client);
            }
            tokio::time::sleep(PAUSE).await;
            self.pause().await;
        }
    }

    /// A client that has sent all its subscriptions, and read no answer.
    async fn subscriber(&self, filter: impl Fn(usize) -> String) -> Result<SyncClient> {
        let mut client = self.connect().await?;
        for it in 0..SUBSCRIPTIONS {
            let subscribe = json!({ "where": filter(it) });
            client.send_json(with(subscribe, it)).await;
        }
        Ok(client)
    }

    /// Connects, also to a server that lets it wait.
    async fn connect(&self) -> Result<SyncClient> {
        let url = format!("ws://{}/api/sync/ws", self.address);
        loop {
            if let Ok(client) = SyncClient::try_connect(&url, ClientOptions::default()).await {
                return Ok(client);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Between two rounds of harm.
    async fn pause(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.began.notify_one();
        tokio::time::sleep(PAUSE).await;
    }
}

fn with(mut subscribe: Value, id: usize) -> Value {
    subscribe["type"] = "subscribe".into();
    subscribe["id"] = id.into();
    subscribe["entity"] = NOTES.into();
    subscribe
}

fn is_closed(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Ok(0)) || stream.take_error().is_ok_and(|it| it.is_some())
}
