//! Columns that change their type under the parts that look at them.

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, TestDatabase, eventually};

use super::altered::{alter, followers, taken_anew};
use super::followers::{ENTITIES, follow, heard, ops_of, serving};
use super::polling::path;
use super::todos::MARKS;

/// The filter's value may still fit the new type, or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_changes_its_type() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serving(&db).await;
    let mut client = followers(&server).await;
    alter(
        &mut client,
        &db,
        "ALTER TABLE todos ALTER COLUMN list_id TYPE bigint",
    )
    .await;
    taken_anew(&mut client, &["filtered", "projected", "all"]).await;
    let frames = heard(
        &mut client,
        &db,
        "UPDATE todos SET list_id = 1 WHERE id = 3",
    )
    .await;
    assert_eq!(ops_of(&client, "filtered", &frames), ["put 3"]);
    alter(
        &mut client,
        &db,
        "ALTER TABLE todos ALTER COLUMN list_id TYPE text",
    )
    .await;
    assert_eq!(client.wait_refused("filtered").await, "bad_filter");
    taken_anew(&mut client, &["projected", "all"]).await;
    assert_eq!(client.row("all", "3").expect("a row")["list_id"], "1");
}

/// An enum that gets one more label is another type, whose labels filters may name from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enum_gets_a_label() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute(MARKS).await;
    db.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); \
         CREATE TABLE todos (id integer PRIMARY KEY, mood mood); \
         INSERT INTO todos VALUES (1, 'sad'), (2, 'happy'), (3, NULL)",
    )
    .await;
    let server = TestServer::start(&db, ENTITIES).await;
    let mut client = server.connect().await;
    follow(&mut client, "a", json!({ "where": "mood < 'happy'" })).await;
    assert_eq!(client.rows("a").len(), 1);
    db.execute("ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy'")
        .await;
    db.execute("UPDATE todos SET mood = 'ok' WHERE id = 2")
        .await;
    client
        .wait_until(|client| client.rows("a").len() == 2)
        .await;
    eventually("the label is known", async || {
        let asked = path("todos", &[("where", "mood = 'ok'")]);
        (server.http().get(&asked).await.status == 200).then_some(())
    })
    .await;
    follow(&mut client, "b", json!({ "where": "mood = 'ok'" })).await;
    assert_eq!(
        client.row("b", "2"),
        Some(&json!({ "id": 2, "mood": "ok" }))
    );
    let frames = heard(
        &mut client,
        &db,
        "UPDATE todos SET mood = 'happy' WHERE id = 2",
    )
    .await;
    assert_eq!(ops_of(&client, "b", &frames), ["leave 2"]);
    assert_eq!(ops_of(&client, "a", &frames), ["leave 2"]);
}
