//! Watches the file for commits of other connections and other programs.
//!
//! The file system says when the file or its write-ahead log changes; `PRAGMA data_version` says whether that
//! was a commit. A commit becomes visible *after* its last write to the file (the index of the write-ahead log is
//! shared memory, of which no file system tells), so each event is followed by checks at growing pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use diesel::sql_types::BigInt;
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::connect;
use super::file::FileId;
use super::file_events::FileEvents;
use super::statement::Statement;
use crate::error::{DbError, DbResult};

/// Between two checks where the file system does not tell; adds to the latency of another program's write.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// Between two checks where it does, to find out if it stops telling.
const SAFETY_PAUSE: Duration = Duration::from_secs(1);
/// The same after a check that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long after a commit was found the event that announces it may still be on its way.
const EVENT_DELAY_MAX: Duration = Duration::from_millis(250);
/// The first pause of the checks that follow an event.
const CHECK_PAUSE_MIN: Duration = Duration::from_micros(50);
/// A check takes no lock that others hold for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread that watches the file until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    stopped: Arc<AtomicBool>,
    look: SyncSender<()>,
}

impl Watch {
    /// Starts to watch. Every commit after this is followed by a notification, the engine's own included.
    pub(crate) fn start(path: &str, notify: Arc<Notify>) -> DbResult<Self> {
        // A signal that waits already says all that a second could.
        let (look, looks) = mpsc::sync_channel(1);
        let events = FileEvents::of(path, look.clone())
            .inspect_err(|error| {
                info!(
                    %error,
                    "the file system does not tell of changes to the SQLite file; it is polled"
                );
            })
            .ok();
        Self::run(path, notify, events, look, looks)
    }

    /// Watches a file of which the file system never tells.
    #[cfg(test)]
    pub(super) fn deaf(path: &str, notify: Arc<Notify>) -> DbResult<Self> {
        let (look, looks) = mpsc::sync_channel(1);
        Self::run(path, notify, Some(FileEvents::none()), look, looks)
    }

    fn run(
        path: &str,
        notify: Arc<Notify>,
        events: Option<FileEvents>,
        look: SyncSender<()>,
        looks: Receiver<()>,
    ) -> DbResult<Self> {
        let mut conn = connect::establish(path, BUSY_TIMEOUT)?;
        let seen = data_version(&mut conn).map_err(failed)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let watching = Watching {
            path: path.to_owned(),
            file: FileId::of(path),
            conn,
            seen,
            notify,
            events,
            looks,
            stopped: stopped.clone(),
        };
        std::thread::Builder::new()
            .name("rhtmx-sync-watch".to_owned())
            .spawn(move || watching.run())
            .map_err(|error| DbError::Unreachable(format!("watching the SQLite file: {error}")))?;
        Ok(Self { stopped, look })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // A full channel wakes the thread as well.
        let _ = self.look.try_send(());
    }
}

struct Watching {
    path: String,
    /// The file that the connection has open.
    file: Option<FileId>,
    conn: SqliteConnection,
    seen: i64,
    notify: Arc<Notify>,
    /// `None` where the file system does not tell of changes: the file is then polled.
    events: Option<FileEvents>,
    looks: Receiver<()>,
    stopped: Arc<AtomicBool>,
}

impl Watching {
    fn run(mut self) {
        let mut pause = self.pause();
        while !self.stopped.load(Ordering::Acquire) {
            let event = self.looks.recv_timeout(pause);
            let checked = match event {
                Ok(()) => self.check_after_event(),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.check_unannounced()
                }
            };
            pause = match checked {
                Ok(()) => self.pause(),
                Err(error) => {
                    warn!(error = %failed(error), "other programs' commits could not be checked for");
                    // The listener then reads the log itself.
                    self.notify.notify_one();
                    PAUSE_AFTER_FAILURE
                }
            };
        }
    }

    fn pause(&self) -> Duration {
        if self.events.is_some() {
            SAFETY_PAUSE
        } else {
            POLL_PAUSE
        }
    }

    /// Checks until what an event announced must be visible. Not every event announces a commit, and the commit
    /// that is found may be the one before, so finding one ends nothing.
    fn check_after_event(&mut self) -> QueryResult<()> {
        let mut began = Instant::now();
        while began.elapsed() < SAFETY_PAUSE && !self.stopped.load(Ordering::Acquire) {
            self.check()?;
            if self
                .looks
                .recv_timeout(check_pause(began.elapsed()))
                .is_ok()
            {
                began = Instant::now();
            }
        }
        Ok(())
    }

    /// Checks although nothing was announced. A commit that stays unannounced shows that the file system does not
    /// tell of all of them (it is shared over a network, or mapped into memory by its writer): then polls.
    fn check_unannounced(&mut self) -> QueryResult<()> {
        if !self.check()? || self.events.is_none() {
            return Ok(());
        }
        if self.looks.recv_timeout(EVENT_DELAY_MAX) == Err(RecvTimeoutError::Timeout) {
            info!("the file system did not tell of a commit to the SQLite file; it is polled");
            self.events = None;
            return Ok(());
        }
        self.check_after_event()
    }

    /// Looks once, and notifies of a commit. Returns whether there was one.
    fn check(&mut self) -> QueryResult<bool> {
        if let Some(file) = FileId::of(&self.path)
            && self.file != Some(file)
        {
            return self.reopen(file);
        }
        let version = data_version(&mut self.conn)?;
        let found = version != self.seen;
        if found {
            self.seen = version;
            self.notify.notify_one();
        }
        Ok(found)
    }

    /// Watches the file that has taken the place of the one before.
    fn reopen(&mut self, file: FileId) -> QueryResult<bool> {
        match connect::establish(&self.path, BUSY_TIMEOUT) {
            Ok(conn) => (self.conn, self.file) = (conn, Some(file)),
            Err(error) => debug!(%error, "the SQLite file that has taken this one's place"),
        }
        self.seen = data_version(&mut self.conn)?;
        self.notify.notify_one();
        Ok(true)
    }
}

/// The pause before the next check, so long after an event: a commit whose last write waits for its disk is found
/// after at most a quarter more of that time.
fn check_pause(since_event: Duration) -> Duration {
    (since_event / 4).max(CHECK_PAUSE_MIN)
}

/// A number that changes with every commit of another connection.
pub(super) fn data_version(conn: &mut SqliteConnection) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Version {
        #[diesel(sql_type = BigInt)]
        data_version: i64,
    }
    let version: Version = Statement::new("PRAGMA data_version")
        .kept()
        .get_result(conn)?;
    Ok(version.data_version)
}

fn failed(error: diesel::result::Error) -> DbError {
    DbError::while_doing("watching the SQLite file", error)
}
