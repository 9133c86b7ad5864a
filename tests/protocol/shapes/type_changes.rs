//! Columns that change their type under selections that use them.

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, TestDatabase, eventually};

use super::polling::path;
use super::schema_changes::{alter, subscribers, wait_live};
use super::subscribers::{ENTITIES, changes_after, ops_of, serve, subscribe};
use super::todos::FENCE;

/// The filter's value may still be valid for the new type, or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selection_ends_when_its_value_does_not_fit_the_new_type() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serve(&db).await;
    let mut client = subscribers(&server).await;
    alter(
        &mut client,
        &db,
        "ALTER TABLE todos ALTER COLUMN list_id TYPE bigint",
    )
    .await;
    wait_live(&mut client, &["filtered", "projected", "all"]).await;
    let frames = changes_after(
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
    wait_live(&mut client, &["projected", "all"]).await;
    assert_eq!(client.row("all", "3").expect("a row")["list_id"], "1");
}

/// An enum with another label is another type, and filters may use the new label.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_may_use_a_new_enum_label() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute(FENCE).await;
    db.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); \
         CREATE TABLE todos (id integer PRIMARY KEY, mood mood); \
         INSERT INTO todos VALUES (1, 'sad'), (2, 'happy'), (3, NULL)",
    )
    .await;
    let server = TestServer::start(&db, ENTITIES).await;
    let mut client = server.connect().await;
    subscribe(&mut client, "a", json!({ "where": "mood < 'happy'" })).await;
    assert_eq!(client.rows("a").len(), 1);
    db.execute("ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy'")
        .await;
    db.execute("UPDATE todos SET mood = 'ok' WHERE id = 2")
        .await;
    client
        .wait_until(|client| client.rows("a").len() == 2)
        .await;
    eventually("the server knows the label", async || {
        let asked = path("todos", &[("where", "mood = 'ok'")]);
        (server.http().get(&asked).await.status == 200).then_some(())
    })
    .await;
    subscribe(&mut client, "b", json!({ "where": "mood = 'ok'" })).await;
    assert_eq!(
        client.row("b", "2"),
        Some(&json!({ "id": 2, "mood": "ok" }))
    );
    let frames = changes_after(
        &mut client,
        &db,
        "UPDATE todos SET mood = 'happy' WHERE id = 2",
    )
    .await;
    assert_eq!(ops_of(&client, "b", &frames), ["leave 2"]);
    assert_eq!(ops_of(&client, "a", &frames), ["leave 2"]);
}
