//! Clusters of the suite's own, and the programs that move databases between them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use test_postgres::{Cluster, FOR_TESTS};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// PostgreSQL's programs.
pub(crate) fn bin_dir() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        match std::env::var_os("TEST_PG_BIN_DIR").filter(|value| !value.is_empty()) {
            Some(chosen) => PathBuf::from(chosen),
            None => test_postgres::binaries::find().expect("PG_BIN_DIR").expect(
                "these tests make clusters, so they need PostgreSQL's programs: PG_BIN_DIR",
            ),
        }
    })
}

/// A new cluster.
pub(crate) async fn start() -> Cluster {
    let started = tokio::task::spawn_blocking(|| Cluster::start(bin_dir(), FOR_TESTS)).await;
    started
        .expect("the start does not panic")
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// The address of another database on the same server.
pub(crate) fn of_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a database's name");
    format!("{server}/{name}")
}

/// Runs statements, one after the other, and returns the first column of all rows.
pub(crate) async fn execute(url: &str, sql: &str) -> Vec<Option<String>> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    tokio::spawn(connection);
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{error:?}\nin: {sql}"));
    messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        })
        .collect()
}

/// Uses up this many transaction numbers.
pub(crate) async fn use_numbers(url: &str, count: u32) {
    let burn = format!(
        "DO $burn$ BEGIN FOR i IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $burn$"
    );
    execute(url, &burn).await;
}

/// How a dump travels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dump {
    /// `pg_dump | psql`
    Plain,
    /// `pg_dump --format=custom | pg_restore`
    Custom,
    /// The same without the data of unlogged tables.
    WithoutUnlogged,
}

/// Dumps one database into another, which must be empty.
pub(crate) fn dump_into(from: &str, to: &str, dump: Dump) {
    let mut dumping = Command::new(bin_dir().join("pg_dump"));
    dumping.arg(format!("--dbname={from}"));
    let mut restoring = match dump {
        Dump::Plain => {
            let mut psql = Command::new(bin_dir().join("psql"));
            psql.args(["--quiet", "--set=ON_ERROR_STOP=1"]);
            psql
        }
        Dump::Custom | Dump::WithoutUnlogged => {
            dumping.arg("--format=custom");
            let mut restore = Command::new(bin_dir().join("pg_restore"));
            restore.arg("--exit-on-error");
            restore
        }
    };
    if let Dump::WithoutUnlogged = dump {
        dumping.arg("--no-unlogged-table-data");
    }
    let mut dumping = dumping
        .stdout(Stdio::piped())
        .spawn()
        .expect("pg_dump runs");
    let restored = restoring
        .arg(format!("--dbname={to}"))
        .stdin(dumping.stdout.take().expect("a pipe"))
        .stdout(Stdio::null())
        .status()
        .expect("the restore runs");
    assert!(dumping.wait().expect("pg_dump ends").success() && restored.success());
}
