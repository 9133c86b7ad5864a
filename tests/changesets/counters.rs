//! Increments that clients of two databases push add up.

use merge::Deletes;
use rhtmx_sync::{EntityConfig, Replication};
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, ClientOptions, SyncClient};

use super::{Synced, rules};

/// Pushes that many increments to a server on the database.
async fn push_increments(synced: &Synced, increments: &[i64]) {
    let entity = EntityConfig::new("todos").fields(rules(Deletes::Win));
    let server = TestServer::start(&synced.db, [entity]).await;
    let mut client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
    for add in increments {
        let values = json!({ "likes": { "add": add } });
        let write = json!([{ "entity": "todos", "op": "update", "key": "1", "values": values }]);
        client.push_next(write).await.acked();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_in_two_databases_add_up() {
    let one = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let two = Synced::new(Backend::Postgres, Deletes::Win).await;
    one.db
        .execute("INSERT INTO todos (id, likes) VALUES (1, 5)")
        .await;
    let both = Replication::new(one.replica.clone(), two.replica.clone()).expect("two databases");
    both.round().await.expect("a round");
    for _ in 0..2 {
        push_increments(&one, &[1, 2]).await;
        push_increments(&two, &[10, -3, 20]).await;
        both.round().await.expect("a round");
        both.round().await.expect("a round");
    }
    for synced in [&one, &two] {
        assert_eq!(synced.rows().await["1"]["likes"], 5 + 2 * (3 + 27));
    }
    assert!(one.is_same(&two).await);
}

/// Both databases, in both pairings, with a row, and known to each other.
async fn both_ways() -> Vec<(Synced, Synced, Replication)> {
    let mut pairs = Vec::new();
    for backends in [
        [Backend::Postgres, Backend::Sqlite],
        [Backend::Sqlite, Backend::Postgres],
    ] {
        let one = Synced::new(backends[0], Deletes::Win).await;
        let two = Synced::new(backends[1], Deletes::Win).await;
        one.db
            .execute(
                "INSERT INTO todos (id, title, likes, best, tags) VALUES (1, 'a', 94, 9, '[\"a\"]')",
            )
            .await;
        let both = Replication::new(one.replica.clone(), two.replica.clone()).expect("two");
        quiet(&both).await;
        pairs.push((one, two, both));
    }
    pairs
}

async fn quiet(both: &Replication) {
    for _ in 0..10 {
        let copied = both.round().await.expect("a round");
        if copied.there.records + copied.back.records == 0 {
            return;
        }
    }
    panic!("the databases do not come to rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_programs_do_to_numbers_and_sets_in_two_databases_adds_up() {
    for (one, two, both) in both_ways().await {
        let write = async |of: &Synced, sql: &str| {
            of.db.execute(&format!("UPDATE todos SET {sql}")).await;
        };
        for _ in 0..2 {
            write(&one, "likes = likes + 1, tags = '[\"a\", \"one\"]'").await;
            write(&one, "likes = likes - 5").await;
            write(&two, "likes = likes + 10, tags = '[\"two\", 2.50, \"a\"]'").await;
            quiet(&both).await;
            write(&two, "tags = '[\"one\", 3]'").await;
            write(&one, "likes = 0").await;
            write(&two, "likes = likes + 94").await;
            quiet(&both).await;
        }
        let row = one.rows().await["1"].clone();
        assert_eq!(row["likes"], 94);
        let tags = row["tags"].as_array().expect("a set").iter();
        let mut tags: Vec<String> = tags.map(ToString::to_string).collect();
        tags.sort();
        assert_eq!(tags, ["\"one\"", "3"]);
        write(&two, "likes = 3").await;
        quiet(&both).await;
        write(&one, "likes = likes * 2").await;
        write(&two, "likes = likes * 2").await;
        quiet(&both).await;
        assert_eq!(one.rows().await["1"]["likes"], 9);
        assert_eq!(one.rows().await, two.rows().await);
        assert!(both.is_equal().await.expect("compared"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lowers_the_greatest_by_sql_is_told_of_it_again() {
    for (one, two, both) in both_ways().await {
        for lowers in [&one, &two] {
            lowers.db.execute("UPDATE todos SET best = 3").await;
            quiet(&both).await;
            assert_eq!(one.rows().await["1"]["best"], 9);
            assert_eq!(one.rows().await, two.rows().await);
            assert!(both.is_equal().await.expect("compared"));
        }
    }
}
