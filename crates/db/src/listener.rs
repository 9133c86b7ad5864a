//! What the listeners of both databases share.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::entity::Entities;
use crate::feed::LogSubscriber;

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
    /// SQLite: the engine's own commits at once, others by watching the file.
    DataVersion,
}

impl WakeUp {
    /// Its word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Notify => "notify",
            Self::Polling => "polling",
            Self::DataVersion => "data_version",
        }
    }
}

/// What the listener is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerStatus {
    /// How it learns of commits.
    pub wake_up: WakeUp,
    /// Whether this engine runs the doorbell for all engines on the database.
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

/// What a listener works with.
#[derive(Clone)]
pub struct ListenerContext {
    /// The entities that are synced.
    pub entities: Arc<Entities>,
    /// Who receives what is new in the log.
    pub subscriber: Arc<dyn LogSubscriber>,
    /// Has the log read at once.
    pub wake: Arc<Notify>,
    /// Where the listener says what it is doing.
    pub status: watch::Sender<ListenerStatus>,
    /// Ends the listener.
    pub shutdown: CancellationToken,
}
