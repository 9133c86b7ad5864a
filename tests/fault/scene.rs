//! The state that the run's tasks share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rhtmx_sync_tests::Dice;
use serde_json::Value;
use testkit::Backend;
use tokio::sync::{RwLock, RwLockReadGuard, mpsc, watch};

use crate::clients::Sentinel;
use crate::pushes::Pushed;
use crate::sample::Sample;
use crate::subscriptions::Plan;
use crate::trace::Trace;
use crate::watcher::Counts;

/// What all tasks do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Write, push, come and go.
    Load,
    /// Nothing is broken: receive all answers.
    Settle,
    /// The last write has been made: hand over the copy.
    Quiet(Sentinel),
    Stop,
}

/// A client's message to the run.
#[derive(Debug)]
pub(crate) enum Report {
    /// No push of this client waits for an answer.
    Answered(usize),
    Settled {
        client: usize,
        /// Id, plan and rows of each subscription.
        copies: Vec<(String, Plan, std::collections::BTreeMap<String, Value>)>,
        pushed: Vec<Pushed>,
        samples: Vec<Sample>,
        connections: u64,
        counts: Counts,
        transcript: String,
        /// The changes that it received.
        past: Vec<String>,
    },
}

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) backend: Backend,
    pub(crate) trace: Trace,
    pub(crate) phase: watch::Sender<Phase>,
    /// Where the servers are reached, through networks that break.
    addresses: Mutex<Vec<String>>,
    /// Each transaction of a writer holds it shared.
    pub(crate) writing: RwLock<()>,
    /// How long each client shall stop reading, in milliseconds.
    pauses: Vec<AtomicU64>,
    /// What each client does, for the message of a failed run.
    doing: Vec<Mutex<String>>,
    reports: mpsc::Sender<Report>,
}

impl Scene {
    /// Permission to write while there is load. Its holder finishes before everything comes to rest.
    pub(crate) async fn writing_under_load(&self) -> RwLockReadGuard<'_, ()> {
        let mut phase = self.phase.subscribe();
        loop {
            let writing = self.writing.read().await;
            if matches!(*self.phase.borrow(), Phase::Load) {
                return writing;
            }
            drop(writing);
            // Cannot fail: `self` has the sender.
            let _ = phase.wait_for(|phase| matches!(phase, Phase::Load)).await;
        }
    }

    pub(crate) fn new(
        backend: Backend,
        trace: Trace,
        addresses: Vec<String>,
        clients: usize,
    ) -> (Self, mpsc::Receiver<Report>) {
        let (reports, reported) = mpsc::channel(clients * 2);
        let scene = Self {
            backend,
            trace,
            phase: watch::Sender::new(Phase::Load),
            addresses: Mutex::new(addresses),
            writing: RwLock::new(()),
            pauses: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            doing: (0..clients).map(|_| Mutex::default()).collect(),
            reports,
        };
        (scene, reported)
    }

    /// The WebSocket URL of some server.
    pub(crate) fn address(&self, dice: &mut Dice) -> String {
        let addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        addresses[dice.pick(0..addresses.len() as u64) as usize].clone()
    }

    /// Makes a client stop reading.
    pub(crate) fn stop_reading(&self, client: usize, pause: Duration) {
        self.pauses[client].store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// How long a client is to be deaf from now on; asked once.
    pub(crate) fn pause(&self, client: usize) -> Duration {
        Duration::from_millis(self.pauses[client].swap(0, Ordering::Relaxed))
    }

    /// Records what a client does.
    pub(crate) fn say(&self, client: usize, text: String) {
        *self.doing[client]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// What these clients do.
    pub(crate) fn doing<'a>(&self, clients: impl IntoIterator<Item = &'a usize>) -> String {
        let one = |client: &usize| {
            let text = self.doing[*client]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            format!("client {client}: {text}\n")
        };
        clients.into_iter().map(one).collect()
    }

    pub(crate) async fn report(&self, report: Report) {
        // Nothing receives any more when the run has failed.
        let _ = self.reports.send(report).await;
    }
}
