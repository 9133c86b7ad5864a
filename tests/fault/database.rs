//! The suite's own PostgreSQL, which it stops and starts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rhtmx_sync_tests::{Dump, bin_dir, dump_into, of_database};
use test_postgres::{Cluster, FOR_TESTS};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

#[derive(Debug)]
pub(crate) struct Database {
    cluster: Mutex<Cluster>,
    url: String,
}

impl Database {
    pub(crate) async fn start() -> Self {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(bin_dir(), FOR_TESTS))
            .await
            .expect("the start does not panic")
            .unwrap_or_else(|error| panic!("{error:#}"));
        let url = cluster.url();
        let database = Self {
            cluster: Mutex::new(cluster),
            url,
        };
        database.execute(include_str!("tables.sql")).await;
        database
    }

    /// The direct address.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Stops the server as a crash does.
    pub(crate) fn stop(&self) {
        tokio::task::block_in_place(|| {
            let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
            cluster.stop_immediately().expect("PostgreSQL stops");
        });
    }

    /// Starts it after a crash. Returns the first transaction number that it assigns, whatever earlier
    /// snapshots have seen.
    pub(crate) async fn start_again(&self) -> u64 {
        tokio::task::block_in_place(|| {
            let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
            cluster.start_again().expect("PostgreSQL starts again");
        });
        // Recovery ends with a checkpoint, and the next one is minutes away.
        let next = "SELECT split_part(next_xid, ':', 2) FROM pg_control_checkpoint()";
        self.texts(next).await[0].parse().expect("a transaction")
    }

    /// Dumps the database into another one, which then takes its place and its name.
    pub(crate) async fn replace_by_its_dump(&self) {
        let (_, name) = self.url.rsplit_once('/').expect("a database's name");
        let template = connect(&of_database(&self.url, "template1"))
            .await
            .expect("PostgreSQL runs");
        let admin = async |sql: &str| template.simple_query(sql).await.expect(sql);
        admin("CREATE DATABASE restored").await;
        let restored = of_database(&self.url, "restored");
        tokio::task::block_in_place(|| dump_into(&self.url, &restored, Dump::Custom));
        // Nobody connects from here on.
        admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        admin(&format!("ALTER DATABASE restored RENAME TO {name}")).await;
        self.execute("ANALYZE").await;
    }

    /// A connection, or none while the server is down.
    pub(crate) async fn try_connect(&self) -> Option<Client> {
        connect(&self.url).await
    }

    pub(crate) async fn connect(&self) -> Client {
        for _ in 0..600 {
            if let Some(client) = self.try_connect().await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL accepts no connection");
    }

    pub(crate) async fn execute(&self, sql: &str) {
        if let Err(error) = self.connect().await.batch_execute(sql).await {
            panic!("{error:?}\nin: {sql}");
        }
    }

    /// The first column of every row.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let messages = self.connect().await.simple_query(sql).await;
        let messages = messages.unwrap_or_else(|error| panic!("{error:?}\nin: {sql}"));
        let first = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        };
        messages.into_iter().filter_map(first).collect()
    }
}

async fn connect(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    // Ends with the client or the server; the next statement fails then.
    tokio::spawn(connection);
    Some(client)
}
