//! A database on the server of `TEST_DATABASE_URL`.

use std::env;
use std::sync::{Mutex, PoisonError};
use std::thread;

use reqwest::Url;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use uuid::Uuid;

use super::TestRole;

const NO_SERVER: &str = "\
TEST_DATABASE_URL is not set, so there is no PostgreSQL to test with.
Run the tests with `cargo xtask test`, or start a server with `cargo xtask cluster`.";

#[derive(Debug)]
pub(super) struct PostgresDatabase {
    /// The server on which databases are created: `TEST_DATABASE_URL`.
    server: Url,
    name: String,
    /// Connections that no statement uses. Logging in costs more than most statements.
    idle: Mutex<Vec<Client>>,
    roles: Mutex<Vec<String>>,
}

impl PostgresDatabase {
    pub(super) async fn create() -> Self {
        let server = env::var("TEST_DATABASE_URL")
            .ok()
            .filter(|url| !url.is_empty())
            .expect(NO_SERVER);
        let server = Url::parse(&server)
            .unwrap_or_else(|error| panic!("TEST_DATABASE_URL is not a URL: {error}"));
        let name = unique("test");
        let client = connect(&server).await;
        // From template0, because template1 cannot be copied while it has connections.
        client
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .unwrap_or_else(|error| panic!("could not create a test database: {error:?}"));
        Self {
            server,
            name,
            idle: Mutex::default(),
            roles: Mutex::default(),
        }
    }

    pub(super) fn url(&self) -> String {
        self.address().into()
    }

    pub(super) async fn connect(&self) -> Client {
        connect(&self.address()).await
    }

    /// Runs the statements, and returns the first column of every row, as text.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Option<String>>, String> {
        let idle = lock(&self.idle).pop().filter(|client| !client.is_closed());
        let client = match idle {
            Some(client) => client,
            None => self.connect().await,
        };
        let messages = client
            .simple_query(sql)
            .await
            .map_err(|error| message(&error))?;
        // It fails in an open transaction; then the connection is dropped, and the transaction with it.
        if client.batch_execute("DISCARD ALL").await.is_ok() {
            lock(&self.idle).push(client);
        }
        let first_column = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(first_column).collect())
    }

    pub(super) async fn create_role(&self, name: &str) -> TestRole {
        let (name, password) = (unique(name), unique("password"));
        self.rows(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"))
            .await
            .unwrap_or_else(|error| panic!("could not create a role: {error}"));
        lock(&self.roles).push(name.clone());
        let mut url = self.address();
        url.set_username(&name)
            .and_then(|()| url.set_password(Some(&password)))
            .expect("TEST_DATABASE_URL has no host, so it cannot take a role");
        TestRole {
            name,
            url: url.into(),
        }
    }

    fn address(&self) -> Url {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url
    }
}

impl Drop for PostgresDatabase {
    /// Uses its own runtime in its own thread, because the test's may be ending.
    fn drop(&mut self) {
        let server = self.server.clone();
        let mut statements = vec![format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            self.name
        )];
        statements.extend(
            lock(&self.roles)
                .iter()
                .map(|role| format!("DROP ROLE IF EXISTS {role}")),
        );
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("could not start a runtime").block_on(async {
                let client = connect(&server).await;
                for statement in statements {
                    if let Err(error) = client.batch_execute(&statement).await {
                        eprintln!("{statement}: {}", message(&error));
                    }
                }
            });
        });
        if dropping.join().is_err() {
            eprintln!("could not drop the test database {}", self.name);
        }
    }
}

async fn connect(url: &Url) -> Client {
    let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls)
        .await
        .unwrap_or_else(|error| panic!("could not connect to PostgreSQL: {}", message(&error)));
    // It ends with the client, or when a test terminates the connection; then the next statement fails.
    tokio::spawn(connection);
    client
}

fn message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.to_string(),
        None => format!("{error:?}"),
    }
}

/// Makes a name that needs no quotes and that no other test has.
fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::new_v4().simple())
}

/// Locks a mutex, even if it is poisoned: a test that panicked while it held the lock has already failed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
