//! Connections to SQLite: opening and setting them up, and explaining failures.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::Text;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use super::{entry, time_limit};
use crate::error::{DbError, DbResult, Failed};

/// A connection that does its work on tokio's blocking threads.
pub(crate) type SqliteConn = SyncConnectionWrapper<SqliteConnection>;

/// The address of a database in memory.
const MEMORY: &str = ":memory:";

/// The oldest SQLite on which the generated SQL runs: it needs binary JSON.
const VERSION_MIN: (u32, u32) = (3, 45);

/// Between two attempts to switch to the write-ahead log while others open the file.
const JOURNAL_PAUSE: Duration = Duration::from_millis(10);

/// An acknowledged write must survive a power failure, hence `FULL`. Recursive triggers stay off: a trigger
/// of the user's that updates its own table, as many do, would call itself without end.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON";

mod functions {
    //! The functions that reads use in addition to SQLite's own. Triggers must not: other programs fire them.

    #[diesel::declare_sql_function]
    extern "SQL" {
        /// Bytes as base64.
        fn rhtmx_base64(bytes: diesel::sql_types::Binary) -> diesel::sql_types::Text;
        /// Bytes from base64; null when the text is not base64.
        fn rhtmx_unbase64(
            text: diesel::sql_types::Text,
        ) -> diesel::sql_types::Nullable<diesel::sql_types::Binary>;
        /// A finite double with all its digits, as JSON writes it.
        fn rhtmx_double(value: diesel::sql_types::Double) -> diesel::sql_types::Text;
        /// The hash of a log entry. The key is bytes, because SQLite accepts any as text.
        fn rhtmx_entry_hash(
            created_at: diesel::sql_types::Text,
            entity: diesel::sql_types::Text,
            key: diesel::sql_types::Nullable<diesel::sql_types::Binary>,
            action: diesel::sql_types::Text,
        ) -> diesel::sql_types::Text;
        /// Whether the statement's time is not up.
        fn rhtmx_in_time() -> diesel::sql_types::Bool;
    }

    pub(super) use rhtmx_base64_utils::register_impl as register_base64;
    pub(super) use rhtmx_double_utils::register_impl as register_double;
    pub(super) use rhtmx_entry_hash_utils::register_impl as register_entry_hash;
    pub(super) use rhtmx_in_time_utils::register_nondeterministic_impl as register_in_time;
    pub(super) use rhtmx_unbase64_utils::register_impl as register_unbase64;
}

/// Opens `:memory:` or a file, which is created if its directory exists. Blocks.
pub(crate) fn establish(path: &str, busy_timeout: Duration) -> DbResult<SqliteConnection> {
    if path != MEMORY {
        check_path(path)?;
    }
    let mut conn = SqliteConnection::establish(path).map_err(|error| {
        DbError::Refused(format!(
            "the SQLite file {path:?} cannot be opened ({error}); may this user read and write it \
             and its directory?"
        ))
    })?;
    let opened = set_up(&mut conn, path, busy_timeout);
    opened.map_err(|failed| explain(path, failed.while_doing("opening the SQLite file")))?;
    Ok(conn)
}

fn check_path(path: &str) -> DbResult<()> {
    let file = Path::new(path);
    if file.is_dir() {
        return Err(DbError::Refused(format!(
            "{path:?} is a directory, not a SQLite file"
        )));
    }
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(DbError::Refused(format!(
                "the SQLite file {path:?} cannot be created: there is no directory {parent:?}"
            )))
        }
        _ => Ok(()),
    }
}

fn set_up(conn: &mut SqliteConnection, path: &str, busy_timeout: Duration) -> Result<(), Failed> {
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {}",
        busy_timeout.as_millis()
    ))?;
    if path != MEMORY {
        use_write_ahead_log(conn, path, busy_timeout)?;
    }
    check_version(conn)?;
    conn.batch_execute(SETTINGS)?;
    functions::register_base64(conn, |bytes: Vec<u8>| BASE64.encode(bytes))?;
    functions::register_unbase64(conn, |text: String| BASE64.decode(text).ok())?;
    functions::register_double(conn, |value: f64| format!("{value:?}"))?;
    functions::register_entry_hash(
        conn,
        |created_at: String, entity: String, key: Option<Vec<u8>>, action: String| {
            entry::hash(&created_at, &entity, key.as_deref(), &action)
        },
    )?;
    functions::register_in_time(conn, time_limit::is_in_time)?;
    Ok(())
}

/// Checks the version of the linked SQLite, which all crates of the program share.
fn check_version(conn: &mut SqliteConnection) -> Result<(), Failed> {
    #[derive(QueryableByName)]
    struct Version {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let found: Version = sql_query("SELECT sqlite_version() AS version").get_result(conn)?;
    if is_supported(&found.version) {
        return Ok(());
    }
    let (major, minor) = VERSION_MIN;
    Err(Failed::Other(DbError::Unsupported(format!(
        "SQLite {major}.{minor} or later is needed; this program links {}",
        found.version
    ))))
}

fn is_supported(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= VERSION_MIN,
        _ => false,
    }
}

/// Switches to the write-ahead log, without which readers and writers wait for each other. The switch needs
/// exclusive access to the file and does not itself wait for that.
fn use_write_ahead_log(
    conn: &mut SqliteConnection,
    path: &str,
    patience: Duration,
) -> Result<(), Failed> {
    #[derive(QueryableByName)]
    struct Mode {
        #[diesel(sql_type = Text)]
        journal_mode: String,
    }
    let begun = Instant::now();
    loop {
        match sql_query("PRAGMA journal_mode = WAL").get_result::<Mode>(conn) {
            Ok(mode) if mode.journal_mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(Failed::Other(DbError::Unsupported(format!(
                    "the SQLite file {path:?} cannot use a write-ahead log (its journal mode \
                     stays {:?}); is it on a network disk?",
                    mode.journal_mode
                ))));
            }
            Err(diesel::result::Error::DatabaseError(_, info))
                if info.message().contains("locked") && begun.elapsed() < patience =>
            {
                std::thread::sleep(JOURNAL_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Adds the file's name, and what can be done.
fn explain(path: &str, error: DbError) -> DbError {
    match error {
        DbError::Unreachable(text) => {
            DbError::Unreachable(format!("the SQLite file {path:?}: {text}"))
        }
        DbError::Statement { message, .. } if message.contains("not a database") => {
            DbError::Refused(format!("{path:?} is not a SQLite file"))
        }
        DbError::Statement { message, .. } if message.contains("readonly") => DbError::Refused(
            format!("the SQLite file {path:?} is read-only, but the engine keeps its log in it"),
        ),
        DbError::Statement { message, .. } => DbError::Refused(format!(
            "the SQLite file {path:?} cannot be used: {message}"
        )),
        other => other,
    }
}

/// Runs `work` on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    conn: &mut SqliteConn,
    context: &'static str,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Failed> + Send + 'static,
) -> DbResult<T> {
    match conn.spawn_blocking(move |conn| Ok(work(conn))).await {
        Ok(done) => done.map_err(|failed| failed.while_doing(context)),
        Err(error) => Err(DbError::while_doing(context, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_supported;

    #[test]
    fn versions_are_compared_by_number() {
        for version in ["3.45.0", "3.46.1", "3.100.0", "4.0.0"] {
            assert!(is_supported(version), "{version}");
        }
        for version in ["3.44.2", "3.5.9", "2.60.0", "", "3"] {
            assert!(!is_supported(version), "{version}");
        }
    }
}
