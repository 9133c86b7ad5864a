//! What tests need of PostgreSQL: its programs, databases dumped with them, types of extensions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where PostgreSQL's programs are: those of the server that the tests use, or those of `PG_BIN_DIR`.
pub fn bin_dir() -> &'static Path {
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

/// The address of another database on the same server.
pub fn of_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a database's name");
    format!("{server}/{name}")
}

/// How a dump travels.
#[derive(Debug, Clone, Copy)]
pub enum Dump {
    /// `pg_dump | psql`
    Plain,
    /// `pg_dump --format=custom | pg_restore`
    Custom,
    /// The same without the data of unlogged tables.
    WithoutUnlogged,
}

/// Dumps one database into another, which must be empty.
pub fn dump_into(from: &str, to: &str, dump: Dump) {
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

/// The statements that make a base type, stored and written as another one is. Unlike any other type's, its cast to json
/// is called, because only a superuser makes one.
pub fn base_type(name: &str, like: &str, functions: &str) -> String {
    format!(
        "CREATE TYPE {name}; \
         CREATE FUNCTION {name}_in(cstring) RETURNS {name} LANGUAGE internal IMMUTABLE STRICT AS '{functions}in'; \
         CREATE FUNCTION {name}_out({name}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS '{functions}out'; \
         CREATE TYPE {name} (INPUT = {name}_in, OUTPUT = {name}_out, LIKE = {like})"
    )
}
