//! Sees commits of other connections and other programs.

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

/// Between two looks; what it adds to the latency of another program's write.
const PAUSE: Duration = Duration::from_millis(5);
/// The same when looking fails.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Looking takes no lock that others hold for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread that looks at the file until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The thread ends when its other end hears that this one is gone.
    _stop: mpsc::Sender<()>,
}

impl Watch {
    /// Begins to watch. Every commit after this is followed by a notification, the engine's own
    /// too.
    pub(crate) fn start(path: &str, notify: Arc<Notify>) -> DbResult<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut conn = connect::establish(path, BUSY_TIMEOUT)?;
        let seen = data_version(&mut conn).map_err(failed)?;
        let looking = Looking { conn, seen, notify };
        std::thread::Builder::new()
            .name("rhtmx-sync-watch".to_owned())
            .spawn(move || looking.run(&stopped))
            .map_err(|error| DbError::Unreachable(format!("watching the SQLite file: {error}")))?;
        Ok(Self { _stop: stop })
    }
}

struct Looking {
    conn: SqliteConnection,
    seen: i64,
    notify: Arc<Notify>,
}

impl Looking {
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
                    warn!(error = %failed(error), "looking for other programs' commits");
                    // Whoever is notified looks for itself.
                    self.notify.notify_one();
                    PAUSE_AFTER_FAILURE
                }
            };
        }
    }
}

/// A number that changes when another connection has committed.
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
