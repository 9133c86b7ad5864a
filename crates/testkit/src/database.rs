//! A real, isolated database for each test.

mod postgres;
mod sqlite;

use diesel::SqliteConnection;
use serde_json::Value;

use self::postgres::PostgresDatabase;
use self::sqlite::SqliteDatabase;

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A database on the server of `TEST_DATABASE_URL`.
    Postgres,
    /// A file in a temporary directory.
    Sqlite,
}

/// A database for one test alone, removed when the value is dropped.
///
/// Its methods act as another program that uses the same database: they share no connection with the engine.
#[derive(Debug)]
pub struct TestDatabase {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Postgres(PostgresDatabase),
    Sqlite(SqliteDatabase),
}

/// A login role of PostgreSQL, removed with its database.
#[derive(Clone, Debug)]
pub struct TestRole {
    /// Its name, unique on the server.
    pub name: String,
    /// The database's URL, with this role's name and password.
    pub url: String,
}

impl TestDatabase {
    /// Creates an empty database of the given kind.
    pub async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Postgres => Self::postgres().await,
            Backend::Sqlite => Self::sqlite().await,
        }
    }

    /// Creates an empty PostgreSQL database.
    pub async fn postgres() -> Self {
        Self {
            kind: Kind::Postgres(PostgresDatabase::create().await),
        }
    }

    /// Creates an empty SQLite file.
    pub async fn sqlite() -> Self {
        Self {
            kind: Kind::Sqlite(SqliteDatabase::create()),
        }
    }

    /// Its URL: `postgresql://…` or `sqlite:///absolute/path`.
    pub fn url(&self) -> String {
        match &self.kind {
            Kind::Postgres(database) => database.url(),
            Kind::Sqlite(database) => database.url(),
        }
    }

    /// Its kind.
    pub fn backend(&self) -> Backend {
        match self.kind {
            Kind::Postgres(_) => Backend::Postgres,
            Kind::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Runs statements separated by semicolons. A transaction that they leave open is rolled back, and session
    /// settings are reset.
    pub async fn execute(&self, sql: &str) {
        if let Err(error) = self.try_execute(sql).await {
            panic!("{error}\nin: {sql}");
        }
    }

    /// Like [`execute`](Self::execute), but returns the database's message when a statement fails.
    pub async fn try_execute(&self, sql: &str) -> Result<(), String> {
        match &self.kind {
            Kind::Postgres(database) => database.rows(sql).await.map(drop),
            Kind::Sqlite(database) => database.execute(sql).await,
        }
    }

    /// Returns the first column of every row, as text.
    pub async fn query_text(&self, sql: &str) -> Vec<Option<String>> {
        let rows = match &self.kind {
            Kind::Postgres(database) => database.rows(sql).await,
            Kind::Sqlite(database) => database.rows(sql).await,
        };
        rows.unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// Returns the first column of every row, parsed as JSON; SQL's null becomes JSON's.
    ///
    /// Examples: `SELECT to_jsonb(t) FROM t` on PostgreSQL, `SELECT json_object('id', id) FROM t` on SQLite.
    pub async fn query_json(&self, sql: &str) -> Vec<Value> {
        let parse = |text: Option<String>| match text {
            None => Value::Null,
            Some(text) => serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("not JSON ({error}): {text}")),
        };
        self.query_text(sql).await.into_iter().map(parse).collect()
    }

    /// Opens another connection, for a transaction that stays open.
    pub async fn connect_postgres(&self) -> tokio_postgres::Client {
        self.as_postgres().connect().await
    }

    /// Opens another connection. It blocks the thread that uses it.
    pub fn connect_sqlite(&self) -> SqliteConnection {
        match &self.kind {
            Kind::Sqlite(database) => database.connect(),
            Kind::Postgres(_) => panic!("this test database is on PostgreSQL, not SQLite"),
        }
    }

    /// Creates a login role with only the rights of PUBLIC. Its name begins with `name`.
    pub async fn create_role(&self, name: &str) -> TestRole {
        self.as_postgres().create_role(name).await
    }

    fn as_postgres(&self) -> &PostgresDatabase {
        match &self.kind {
            Kind::Postgres(database) => database,
            Kind::Sqlite(_) => panic!("this test database is on SQLite, not PostgreSQL"),
        }
    }
}
