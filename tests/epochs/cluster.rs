//! Clusters of the suite's own.

use rhtmx_sync_tests::bin_dir;
use test_postgres::{Cluster, FOR_TESTS};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// A new cluster.
pub(crate) async fn start() -> Cluster {
    let started = tokio::task::spawn_blocking(|| Cluster::start(bin_dir(), FOR_TESTS)).await;
    started
        .expect("the start does not panic")
        .unwrap_or_else(|error| panic!("{error:#}"))
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
