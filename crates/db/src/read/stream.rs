//! A read in progress: its start, then chunks of rows or of net changes, at the receiver's pace.

use std::future::Future;

use protocol::{RefetchReason, RowImage};
use sync_core::cursor::Position;
use sync_core::log::NetChange;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::unreadable;
use crate::error::{DbError, DbResult};

/// The maximum number of parts that wait for the receiver.
const PARTS_WAITING_MAX: usize = 4;

/// The start of a read, which applies to everything that follows.
#[derive(Debug)]
pub struct ReadStart {
    /// The database's position at the read's snapshot. The stream contains everything up to here.
    pub position: Position,
    /// The log's floor at that snapshot.
    pub floor: Position,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This entity's table has changed since the statement was generated, so the read may be incomplete. Read
    /// again with the table as it is now.
    #[error("the table of {0:?} has just changed")]
    Outdated(String),
    /// The changes cannot be read, or are too many: the rows themselves must be read.
    #[error("the changes are not read: {0:?}")]
    Refused(RefetchReason),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A part of a read's result.
#[derive(Debug)]
pub(crate) enum Part<T> {
    /// The first part.
    Start(ReadStart),
    /// The only part of a read whose entity's table has changed; takes the place of the start.
    Outdated(String),
    /// The only part of a read of changes that is refused.
    Refused(RefetchReason),
    /// A chunk, in order.
    Items(Vec<T>),
    /// The last part of a read that goes on for itself.
    #[cfg(feature = "sqlite")]
    Last,
}

/// Makes a channel for a read's parts.
pub(crate) fn parts<T>() -> (PartSender<T>, mpsc::Receiver<Part<T>>) {
    mpsc::channel(PARTS_WAITING_MAX)
}

/// Collects what a read sends until its end.
pub(crate) async fn collect<T>(mut parts: mpsc::Receiver<Part<T>>) -> Result<Vec<T>, ReadError> {
    let mut all = Vec::new();
    while let Some(part) = parts.recv().await {
        match part {
            Part::Start(_) => {}
            Part::Items(items) => all.extend(items),
            Part::Outdated(entity) => return Err(ReadError::Outdated(entity)),
            Part::Refused(reason) => return Err(ReadError::Refused(reason)),
            #[cfg(feature = "sqlite")]
            Part::Last => break,
        }
    }
    Ok(all)
}

/// The channel for a read's parts. The read ends when its receiver is dropped.
pub(crate) type PartSender<T> = mpsc::Sender<Part<T>>;

/// A read in a task of its own, at most a few parts ahead of its receiver. When the stream is dropped the
/// read ends with its next part.
#[derive(Debug)]
pub struct ReadStream<T> {
    parts: mpsc::Receiver<Part<T>>,
    task: Option<JoinHandle<DbResult<()>>>,
}

/// The rows of a table.
pub type RowStream = ReadStream<RowImage>;

/// The net changes since a position, in the log's order.
pub type ChangeStream = ReadStream<NetChange>;

impl<T> ReadStream<T> {
    /// Starts a read in a task.
    pub(crate) fn begin<F: Future<Output = DbResult<()>> + Send + 'static>(
        read: impl FnOnce(PartSender<T>) -> F,
    ) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_WAITING_MAX);
        Self {
            parts,
            task: Some(tokio::spawn(read(sender))),
        }
    }

    /// Waits for the read's start, which precedes all chunks.
    ///
    /// # Errors
    /// When the table has changed, or the database fails.
    pub async fn start(&mut self) -> Result<ReadStart, ReadError> {
        match self.parts.recv().await {
            Some(Part::Start(start)) => Ok(start),
            Some(Part::Outdated(entity)) => Err(ReadError::Outdated(entity)),
            Some(Part::Refused(reason)) => Err(ReadError::Refused(reason)),
            #[cfg(feature = "sqlite")]
            Some(Part::Last) => Err(unreadable(&"a read started with its end").into()),
            Some(Part::Items(_)) => Err(unreadable(&"a read started without its position").into()),
            None => {
                self.ended().await?;
                Err(unreadable(&"a read ended without its position").into())
            }
        }
    }

    /// Waits for the next chunk; `None` at the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, ReadError> {
        match self.parts.recv().await {
            Some(Part::Items(items)) => Ok(Some(items)),
            Some(Part::Outdated(entity)) => Err(ReadError::Outdated(entity)),
            Some(Part::Refused(reason)) => Err(ReadError::Refused(reason)),
            Some(Part::Start(_)) => Err(unreadable(&"a read started twice").into()),
            #[cfg(feature = "sqlite")]
            Some(Part::Last) => {
                self.task = None;
                Ok(None)
            }
            None => {
                self.ended().await?;
                Ok(None)
            }
        }
    }

    /// Ends the read, and returns when it holds nothing any more.
    pub async fn close(&mut self) {
        self.parts.close();
        while self.parts.recv().await.is_some() {}
        // Its result is of no interest to a receiver that wants no more.
        let _ = self.ended().await;
    }

    /// The result of the read's task.
    async fn ended(&mut self) -> DbResult<()> {
        match self.task.take() {
            Some(task) => task.await.unwrap_or_else(|error| Err(unreadable(&error))),
            None => Ok(()),
        }
    }
}
