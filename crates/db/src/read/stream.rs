//! A read under way: its start, then chunks of rows or of net changes, at the pace of whoever takes them.

use std::future::Future;

use protocol::RowImage;
use sync_core::cursor::Position;
use sync_core::log::NetChange;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::unreadable;
use crate::error::{DbError, DbResult};

/// Parts that may wait to be taken.
const PARTS_WAITING_MAX: usize = 4;

/// Where a read begins: what holds for everything that it brings.
#[derive(Debug)]
pub struct ReadStart {
    /// The position of the database at the read's snapshot. Everything up to here is in the stream.
    pub position: Position,
    /// What the log has forgotten at that snapshot.
    pub floor: Position,
}

/// Why a read brings no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This entity's table has changed since the statement was made, so what it brings may be half of the
    /// truth. Read again with the table as it is now.
    #[error("the table of {0:?} has just changed")]
    Outdated(String),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A part of what a read found, in order.
#[derive(Debug)]
pub(crate) enum Part<T> {
    /// First.
    Start(ReadStart),
    /// Instead of it: nothing follows.
    Outdated(String),
    /// A chunk.
    Items(Vec<T>),
}

/// Where a read puts its parts. When the receiver is gone the read ends.
pub(crate) type PartSender<T> = mpsc::Sender<Part<T>>;

/// A read under way in a task of its own, at most a few parts ahead of whoever takes them. Dropped, it
/// ends with its next part.
#[derive(Debug)]
pub struct ReadStream<T> {
    parts: mpsc::Receiver<Part<T>>,
    task: Option<JoinHandle<DbResult<()>>>,
}

/// The rows of a table.
pub type RowStream = ReadStream<RowImage>;

/// The net changes that are new since a position, in the log's order.
pub type ChangeStream = ReadStream<NetChange>;

impl<T> ReadStream<T> {
    /// Begins a read.
    pub(crate) fn begin<F: Future<Output = DbResult<()>> + Send + 'static>(
        read: impl FnOnce(PartSender<T>) -> F,
    ) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_WAITING_MAX);
        Self {
            parts,
            task: Some(tokio::spawn(read(sender))),
        }
    }

    /// Waits for the read's start, which is before all chunks.
    ///
    /// # Errors
    /// When the table has changed, or the database fails.
    pub async fn start(&mut self) -> Result<ReadStart, ReadError> {
        match self.parts.recv().await {
            Some(Part::Start(start)) => Ok(start),
            Some(Part::Outdated(entity)) => Err(ReadError::Outdated(entity)),
            Some(Part::Items(_)) => Err(unreadable(&"a read began without its position").into()),
            None => {
                self.ended().await?;
                Err(unreadable(&"a read ended without its position").into())
            }
        }
    }

    /// The next chunk; none at the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, ReadError> {
        match self.parts.recv().await {
            Some(Part::Items(items)) => Ok(Some(items)),
            Some(Part::Outdated(entity)) => Err(ReadError::Outdated(entity)),
            Some(Part::Start(_)) => Err(unreadable(&"a read began twice").into()),
            None => {
                self.ended().await?;
                Ok(None)
            }
        }
    }

    /// How the read ended.
    async fn ended(&mut self) -> DbResult<()> {
        match self.task.take() {
            Some(task) => task.await.unwrap_or_else(|error| Err(unreadable(&error))),
            None => Ok(()),
        }
    }
}
