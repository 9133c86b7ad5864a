//! The thread on which all receivers run, and groups of receivers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::connection::{self, Shared};
use super::{Tally, User};

/// Connections that may be in the handshake at once; more would only wait in the server's queue.
const CONNECTING_MAX: usize = 64;
const PAUSE: Duration = Duration::from_millis(2);

/// The receivers' thread. It ends with the process.
#[derive(Debug)]
pub(crate) struct Receivers {
    runtime: Handle,
}

/// Receivers that do the same. Dropping the group closes their connections.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) tally: Arc<Tally>,
    size: usize,
    gate: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Receivers {
    pub(crate) fn start() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("receivers".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .context("starting the receivers' thread")?;
        Ok(Self { runtime: handle })
    }

    /// Begins to connect this many receivers.
    pub(crate) fn group<U: Into<User>>(
        &self,
        address: &str,
        size: usize,
        speaks: impl Fn(usize) -> U,
    ) -> Group {
        let (gate, gated) = watch::channel(true);
        self.gated(address, size, speaks, gate, gated)
    }

    /// Like [`group`](Self::group), but the receivers subscribe when the gate opens.
    pub(crate) fn group_at_gate<U: Into<User>>(
        &self,
        address: &str,
        size: usize,
        speaks: impl Fn(usize) -> U,
    ) -> Group {
        let (gate, gated) = watch::channel(false);
        self.gated(address, size, speaks, gate, gated)
    }

    fn gated<U: Into<User>>(
        &self,
        address: &str,
        size: usize,
        speaks: impl Fn(usize) -> U,
        gate: watch::Sender<bool>,
        gated: watch::Receiver<bool>,
    ) -> Group {
        let shared = Shared {
            address: address.to_owned(),
            tally: Arc::default(),
            connecting: Arc::new(Semaphore::new(CONNECTING_MAX)),
            gate: gated,
        };
        let tasks = (0..size)
            .map(|index| {
                let receiving = connection::receive(index, speaks(index).into(), shared.clone());
                self.runtime.spawn(Box::pin(receiving))
            })
            .collect();
        Group {
            tally: shared.tally,
            size,
            gate,
            tasks,
        }
    }
}

impl Group {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn open_gate(&self) {
        // It fails only if all receivers have failed, and then the next wait reports that.
        let _ = self.gate.send(true);
    }

    /// Waits until all of them receive changes.
    pub(crate) async fn live(&self, at_most: Duration) -> Result<()> {
        let size = self.size;
        self.wait("being live", at_most, |tally| {
            tally.live.load(Ordering::Relaxed) >= size
        })
        .await
    }

    /// Waits until they have received this many changes together.
    pub(crate) async fn changes(&self, expected: u64, at_most: Duration) -> Result<()> {
        self.wait("all changes", at_most, |tally| {
            tally.changes.load(Ordering::Relaxed) >= expected
        })
        .await?;
        let received = self.tally.changes.load(Ordering::Relaxed);
        ensure!(
            received == expected,
            "{received} changes were received, but {expected} were written"
        );
        Ok(())
    }

    /// Waits until the tally satisfies a condition.
    pub(crate) async fn wait(
        &self,
        what: &str,
        at_most: Duration,
        reached: impl Fn(&Tally) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + at_most;
        while !reached(&self.tally) {
            if let Some(fault) = self.tally.fault() {
                bail!("a receiver failed: {fault}");
            }
            ensure!(
                Instant::now() < until,
                "gave up waiting for {what}: {} of {} live, {} changes, {} rows",
                self.tally.live.load(Ordering::Relaxed),
                self.size,
                self.tally.changes.load(Ordering::Relaxed),
                self.tally.rows.load(Ordering::Relaxed),
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
