//! Watches the file for commits of other connections and other programs.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use diesel::sql_types::BigInt;
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection};
use tokio::sync::Notify;
use tracing::warn;

use super::connect;
use super::statement::Statement;
use crate::error::{DbError, DbResult};

/// Between two checks; adds to the latency of another program's write.
const PAUSE: Duration = Duration::from_millis(5);
/// The same after a check that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A check takes no lock that others hold for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread that watches the file until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Dropping it ends the thread, which holds the other end.
    _stop: mpsc::Sender<()>,
}

impl Watch {
    /// Starts to watch. Every commit after this is followed by a notification, the engine's own included.
    pub(crate) fn start(path: &str, notify: Arc<Notify>) -> DbResult<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut conn = connect::establish(path, BUSY_TIMEOUT)?;
        let seen = data_version(&mut conn).map_err(failed)?;
        let watching = Watching { conn, seen, notify };
        std::thread::Builder::new()
            .name("rhtmx-sync-watch".to_owned())
            .spawn(move || watching.run(&stopped))
            .map_err(|error| DbError::Unreachable(format!("watching the SQLite file: {error}")))?;
        Ok(Self { _stop: stop })
    }
}

struct Watching {
    conn: SqliteConnection,
    seen: i64,
    notify: Arc<Notify>,
}

impl Watching {
    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        let mut pause = PAUSE;
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = match data_version(&mut self.conn) {
                Ok(version) => {
                    if version != self.seen {
                        self.seen = version;
                        self.notify.notify_one();
                    }
                    PAUSE
                }
                Err(error) => {
                    warn!(error = %failed(error), "other programs' commits could not be checked for");
                    // The listener then reads the log itself.
                    self.notify.notify_one();
                    PAUSE_AFTER_FAILURE
                }
            };
        }
    }
}

/// A number that changes with every commit of another connection.
fn data_version(conn: &mut SqliteConnection) -> QueryResult<i64> {
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
