//! A SQLite file, and the connection of another program to it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use diesel::connection::SimpleConnection;
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::row::{Field, NamedRow, Row};
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;
use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
use tempfile::TempDir;

/// The connection of another program waits for the engine's lock instead of failing.
const SETTINGS: &str = "PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON;";

pub(super) struct SqliteDatabase {
    directory: TempDir,
    /// Opened when first used, so that the engine can be the first to open the file.
    connection: Arc<Mutex<Option<SqliteConnection>>>,
}

impl SqliteDatabase {
    pub(super) fn create() -> Self {
        let directory = TempDir::new().expect("could not create a temporary directory");
        Self {
            directory,
            connection: Arc::default(),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("sqlite://{}", self.file().display())
    }

    pub(super) fn connect(&self) -> SqliteConnection {
        open(&self.file())
    }

    pub(super) async fn execute(&self, sql: &str) -> Result<(), String> {
        let sql = sql.to_owned();
        self.run(move |connection| connection.batch_execute(&sql))
            .await
    }

    /// Returns the first column of every row, as text.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Option<String>>, String> {
        let query = sql_query(sql);
        let rows = self
            .run(move |connection| query.load::<FirstColumn>(connection))
            .await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn run<T, F>(&self, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection) -> diesel::QueryResult<T> + Send + 'static,
    {
        let (connection, file) = (Arc::clone(&self.connection), self.file());
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = connection.get_or_insert_with(|| open(&file));
            let result = work(connection);
            // Rolls back a transaction that was left open; most often there is none, and then this fails.
            let _ = connection.batch_execute("ROLLBACK");
            result.map_err(|error| error.to_string())
        });
        done.await
            .unwrap_or_else(|error| panic!("the SQLite thread panicked: {error}"))
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("test.db")
    }
}

impl std::fmt::Debug for SqliteDatabase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("SqliteDatabase")
            .field(&self.file())
            .finish()
    }
}

fn open(file: &std::path::Path) -> SqliteConnection {
    let file = file
        .to_str()
        .expect("the temporary directory's name is not UTF-8");
    let mut connection = SqliteConnection::establish(file)
        .unwrap_or_else(|error| panic!("could not open {file}: {error}"));
    connection
        .batch_execute(SETTINGS)
        .unwrap_or_else(|error| panic!("could not set up {file}: {error}"));
    connection
}

/// The first column of a row, whatever its name and type.
struct FirstColumn(Option<String>);

impl QueryableByName<Sqlite> for FirstColumn {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let field = Row::get(row, 0).ok_or("the query has no column")?;
        let text = field
            .value()
            .map(<String as FromSql<Text, Sqlite>>::from_sql)
            .transpose()?;
        Ok(Self(text))
    }
}
