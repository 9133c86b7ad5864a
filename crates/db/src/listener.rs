//! What the listeners of both databases share.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::entity::Entities;
use crate::feed::LogSubscriber;
use crate::read::DrainSnapshots;

/// How the listener learns of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WakeUp {
    /// Not connected.
    None,
    /// Writers ring the doorbell.
    Notify,
    /// Notifications do not arrive (a transaction pooler swallows them): the log is polled.
    Polling,
    /// SQLite: the engine's own commits wake the listener at once; those of others show in the file's
    /// `data_version`.
    DataVersion,
}

impl WakeUp {
    /// Its name in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Notify => "notify",
            Self::Polling => "polling",
            Self::DataVersion => "data_version",
        }
    }
}

/// What the listener is doing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerStatus {
    /// How it learns of commits.
    pub wake_up: WakeUp,
    /// Whether this engine is the leader, which rings for all other engines on the database.
    pub leader: bool,
}

impl Default for ListenerStatus {
    fn default() -> Self {
        Self {
            wake_up: WakeUp::None,
            leader: false,
        }
    }
}

/// Everything that a listener needs from the engine.
#[derive(Clone)]
pub struct ListenerContext {
    /// The entities that are synced.
    pub entities: Arc<Entities>,
    /// Receives the log's new entries.
    pub subscriber: Arc<dyn LogSubscriber>,
    /// Makes the listener drain the log at once.
    pub wake: Arc<Notify>,
    /// Receives the listener's status.
    pub status: watch::Sender<ListenerStatus>,
    /// Ends the listener.
    pub shutdown: CancellationToken,
    /// The reads that wait for the snapshot of a drain.
    pub drain_snapshots: Arc<DrainSnapshots>,
    /// Whether it only looks on: it never takes the lead, which would leave the log unpruned.
    pub observes: bool,
}
