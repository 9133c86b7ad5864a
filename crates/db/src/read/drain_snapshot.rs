//! Reads at the snapshot of a drain.
//!
//! A read that leads into the live stream usually has a snapshot of its own, somewhere between two drains, and so within
//! the batch of the second one. Where that batch moves rows, it does not say what is new to such a reader, which reads
//! the log again; and while every batch moves rows, so would the next read, without end. A read at the drain's own
//! snapshot ends where the batch ends, and the next batch is all new.
//!
//! All reads that wait when a drain has found out what it publishes are at its snapshot, however many they are. On PostgreSQL
//! the drain exports the snapshot and waits for a moment until the others have taken it over; on SQLite it lends them its
//! connection once it has handed on all that it found. No drain waits for a read.

#[cfg(feature = "sqlite")]
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(feature = "sqlite")]
use diesel::SqliteConnection;
use tokio::sync::Notify;
#[cfg(feature = "postgres")]
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a read waits for the next drain. Without drains there are no batches either, so any snapshot will do.
const PATIENCE: Duration = Duration::from_secs(5);

/// The reads of one engine that wait for the snapshot of its listener's next drain.
pub struct DrainSnapshots {
    /// Makes the listener drain the log at once.
    wake: Arc<Notify>,
    #[cfg(feature = "postgres")]
    exported: Mutex<Vec<oneshot::Sender<Exported>>>,
    #[cfg(feature = "sqlite")]
    lent: Mutex<Lent>,
}

/// The reads that wait for the transaction of a drain, numbered in their order.
#[cfg(feature = "sqlite")]
#[derive(Default)]
struct Lent {
    reads: VecDeque<(u64, ReadWithin)>,
    last: u64,
}

/// The reads that waited at some moment: those up to this number.
#[cfg(feature = "sqlite")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting(u64);

/// A read within the transaction of a drain.
#[cfg(feature = "sqlite")]
pub(crate) type ReadWithin = Box<dyn FnOnce(&mut SqliteConnection) + Send>;

/// The snapshot of a drain whose transaction is still open. The drain waits until it is dropped.
#[cfg(feature = "postgres")]
#[derive(Debug)]
pub(crate) struct Exported {
    /// Its name.
    pub(crate) snapshot: Arc<str>,
    taken: mpsc::Sender<()>,
}

#[cfg(feature = "postgres")]
impl Exported {
    /// Says that the snapshot has been taken over. Returns whether that was in time: the drain's transaction was open
    /// until then, and with it the locks of its tables.
    pub(crate) fn confirm(self) -> bool {
        self.taken.try_send(()).is_ok()
    }
}

impl fmt::Debug for DrainSnapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainSnapshots").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DrainSnapshots {
    /// Nobody waits yet. `wake` makes the listener drain the log at once.
    pub fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            wake,
            #[cfg(feature = "postgres")]
            exported: Mutex::default(),
            #[cfg(feature = "sqlite")]
            lent: Mutex::default(),
        })
    }
}

#[cfg(feature = "postgres")]
impl DrainSnapshots {
    /// Waits for the snapshot of the next drain; none when there is no drain in time, or the drain fails.
    pub(crate) async fn exported(&self) -> Option<Exported> {
        let (sender, exported) = oneshot::channel();
        lock(&self.exported).push(sender);
        self.wake.notify_one();
        timeout(PATIENCE, exported).await.ok()?.ok()
    }

    /// Whether somebody waits for a snapshot.
    pub(crate) fn is_awaited(&self) -> bool {
        let mut waiting = lock(&self.exported);
        waiting.retain(|waiting| !waiting.is_closed());
        !waiting.is_empty()
    }

    /// Gives a snapshot to all who wait. Returns once all have taken it over, or do not want it, or `patience` is over.
    pub(crate) async fn export(&self, snapshot: &str, patience: Duration) {
        let waiting = std::mem::take(&mut *lock(&self.exported));
        let (taken, mut takers) = mpsc::channel(waiting.len().max(1));
        for waiting in waiting {
            // It fails when the read has ended meanwhile.
            let _ = waiting.send(Exported {
                snapshot: snapshot.into(),
                taken: taken.clone(),
            });
        }
        drop(taken);
        let all = async { while takers.recv().await.is_some() {} };
        if timeout(patience, all).await.is_err() {
            tracing::debug!("the snapshot of a drain was not taken over in time");
        }
        // From here on nobody takes it over in time.
        takers.close();
    }
}

#[cfg(feature = "sqlite")]
impl DrainSnapshots {
    /// Makes a read within the transaction of the next drain, on its connection. The error is the read itself, which has
    /// not been made: there is no drain in time, or it has failed. None when the read has panicked.
    pub(crate) async fn read_within<R: Send + 'static, T: Send + 'static>(
        &self,
        read: R,
        make: fn(R, &mut SqliteConnection) -> T,
    ) -> Result<Option<T>, R> {
        let waiting = Arc::new(Mutex::new(Some(read)));
        let (sender, mut made) = oneshot::channel();
        let lent = waiting.clone();
        self.lend(Box::new(move |conn| {
            let read = lock(&lent).take();
            if let Some(read) = read {
                // It fails when nobody waits for the read any more.
                let _ = sender.send(make(read, conn));
            }
        }));
        self.wake.notify_one();
        let in_time = timeout(PATIENCE, &mut made).await;
        let withdrawn = lock(&waiting).take();
        match (in_time, withdrawn) {
            (Ok(made), None) => Ok(made.ok()),
            (Err(_), None) => Ok(made.await.ok()),
            (_, Some(read)) => Err(read),
        }
    }

    fn lend(&self, read: ReadWithin) {
        let mut lent = lock(&self.lent);
        lent.last += 1;
        let number = lent.last;
        lent.reads.push_back((number, read));
    }

    /// Those that wait now; none when nobody does. Asked before anything of the drain is published: who begins to wait
    /// later may have missed it.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        let lent = lock(&self.lent);
        (!lent.reads.is_empty()).then_some(Waiting(lent.last))
    }

    /// The next of them that is to be made. Those that a later drain has taken meanwhile are not among them: one read that
    /// takes long does not hold up the others.
    pub(crate) fn next_read(&self, Waiting(last): Waiting) -> Option<ReadWithin> {
        let mut lent = lock(&self.lent);
        let first = lent.reads.front();
        first.filter(|(number, _)| *number <= last)?;
        lent.reads.pop_front().map(|(_, read)| read)
    }

    /// Makes the listener drain again, if some reads wait.
    pub(crate) fn wake_if_wanted(&self) {
        if !lock(&self.lent).reads.is_empty() {
            self.wake.notify_one();
        }
    }
}
