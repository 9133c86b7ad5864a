//! Tables that change under shapes: a selection that is still valid continues as another shape, one
//! that is not ends.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, Phase, SyncClient, TestDatabase, both_backends, eventually};

use super::subscribers::{changes_after, ops_of, serve, subscribe};
use super::todos::{TODOS, todos};

/// Subscribed to two selections with one column each, and to the whole entity.
pub(super) async fn subscribers(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    subscribe(
        &mut client,
        "filtered",
        json!({ "where": "list_id = 1", "columns": ["title"] }),
    )
    .await;
    subscribe(&mut client, "projected", json!({ "columns": ["owner"] })).await;
    subscribe(&mut client, "all", json!({})).await;
    client
}

/// Waits until the subscriptions are live again.
pub(super) async fn wait_live(client: &mut SyncClient, ids: &[&str]) {
    for id in ids {
        client
            .wait_until(|client| client.subscription(*id).phase() == &Phase::Live)
            .await;
    }
}

/// Runs a statement that changes the table, and waits until every live subscription has received
/// `refetch`.
pub(super) async fn alter(client: &mut SyncClient, db: &TestDatabase, sql: &str) {
    client.reset_counters();
    let subscriptions = count_live(client);
    db.execute(sql).await;
    client
        .wait_until(|client| client.frames("refetch") == subscriptions)
        .await;
}

fn count_live(client: &SyncClient) -> u64 {
    let live = client
        .subscriptions()
        .values()
        .filter(|subscription| subscription.is_live());
    live.count() as u64
}

/// The only `error` of this connection.
fn the_error(client: &SyncClient) -> &Value {
    let [error] = client.errors() else {
        panic!("{:?}", client.errors())
    };
    error
}

both_backends! {
    async fn an_added_column_makes_a_new_shape(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        let before = client.subscription("filtered").shape().map(str::to_owned);
        alter(&mut client, &db, "ALTER TABLE todos ADD COLUMN colour text").await;
        wait_live(&mut client, &["filtered", "projected", "all"]).await;
        assert_ne!(client.subscription("filtered").shape().map(str::to_owned), before);
        assert_eq!(client.errors(), [] as [Value; 0]);
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        assert_eq!(*client.rows("filtered"), expected);
        assert!(client.row("all", "1").expect("a row")["colour"].is_null());

        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "filtered", &frames), ["put 3"]);
        assert_eq!(ops_of(&client, "projected", &frames), [""; 0]);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET colour = 'red' WHERE id = 3").await;
        assert_eq!(ops_of(&client, "filtered", &frames), [""; 0]);
        subscribe(&mut client, "red", json!({ "where": "colour = 'red'", "columns": ["colour"] })).await;
        assert_eq!(client.row("red", "3"), Some(&json!({ "id": 3, "colour": "red" })));
    }

    async fn a_selection_survives_the_drop_of_another_column(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos DROP COLUMN done").await;
        wait_live(&mut client, &["filtered", "projected", "all"]).await;
        assert_eq!(client.errors(), [] as [Value; 0]);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 1").await;
        assert_eq!(ops_of(&client, "filtered", &frames), ["leave 1"]);
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        assert_eq!(*client.rows("filtered"), expected);
    }

    async fn a_selection_ends_with_its_filters_column(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos DROP COLUMN list_id").await;
        assert_eq!(client.wait_refused("filtered").await, "bad_filter");
        wait_live(&mut client, &["projected", "all"]).await;
        let error = the_error(&client);
        assert_eq!((&error["id"], &error["fatal"]), (&json!("filtered"), &json!(false)));
        let message = error["message"].as_str().expect("text");
        assert!(message.contains("list_id") && message.contains("at character 1"), "{message}");
        let frames = changes_after(&mut client, &db, "UPDATE todos SET owner = 'eve', title = 'x' WHERE id = 1").await;
        assert_eq!(ops_of(&client, "projected", &frames), ["put 1"]);
        assert_eq!(frames.len(), 2);
    }

    async fn a_selection_ends_with_its_projected_column(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos DROP COLUMN owner").await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        wait_live(&mut client, &["filtered", "all"]).await;
        assert_eq!(the_error(&client)["id"], "projected");
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "filtered", &frames), ["put 3"]);
    }

    async fn a_selection_ends_when_its_column_is_renamed(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos RENAME COLUMN done TO finished").await;
        wait_live(&mut client, &["filtered", "projected", "all"]).await;
        assert_eq!(client.row("all", "2").expect("a row")["finished"], true);
        alter(&mut client, &db, "ALTER TABLE todos RENAME COLUMN owner TO person").await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        wait_live(&mut client, &["filtered", "all"]).await;
        alter(&mut client, &db, "ALTER TABLE todos RENAME COLUMN list_id TO list").await;
        assert_eq!(client.wait_refused("filtered").await, "bad_filter");
        wait_live(&mut client, &["all"]).await;
        // A new subscription may use the new names.
        subscribe(&mut client, "new", json!({ "where": "list = 1", "columns": ["person"] })).await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list = 1 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "new", &frames), ["put 3"]);
    }

    /// The filter's text stays the same and its meaning changes.
    async fn a_filter_is_resolved_again_when_columns_swap_names(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        subscribe(&mut client, "a", json!({ "where": "owner = 'ann'", "columns": ["title"] })).await;
        db.execute(
            "BEGIN; ALTER TABLE todos RENAME COLUMN owner TO other; \
             ALTER TABLE todos RENAME COLUMN title TO owner; \
             ALTER TABLE todos RENAME COLUMN other TO title; \
             UPDATE todos SET owner = 'ann' WHERE id = 2; COMMIT",
        )
        .await;
        let expected = todos(&db, &["id", "title"], "owner = 'ann'").await;
        assert_eq!(expected.len(), 1);
        client.wait_until(|client| *client.rows("a") == expected).await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET owner = 'eve' WHERE id = 2").await;
        assert_eq!(ops_of(&client, "a", &frames), ["leave 2"]);
    }

    async fn a_selection_is_resolved_again_for_a_new_table(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        db.execute(
            "BEGIN; DROP TABLE todos; CREATE TABLE todos (id integer PRIMARY KEY, title text, \
             list_id integer, extra text); INSERT INTO todos VALUES (1, 'again', 1, 'x'), (2, 'other', 2, 'y'); COMMIT",
        )
        .await;
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        client.wait_until(|client| *client.rows("filtered") == expected).await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 3 - list_id").await;
        let received = ops_of(&client, "filtered", &frames);
        assert!(received.contains(&"leave 1".to_owned()) && received.contains(&"put 2".to_owned()), "{received:?}");
    }

    /// The table is missing for a while. Subscriptions wait, and continue when it is back.
    async fn subscriptions_continue_when_a_missing_table_is_back(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        db.execute("DROP TABLE todos").await;
        let status = async || {
            let status = server.http().get("/api/sync/status").await.json();
            (status["entities_missing"] == json!(["todos"])).then_some(())
        };
        eventually("the server notices that the table is missing", status).await;
        db.execute(TODOS).await;
        db.execute("INSERT INTO todos VALUES (7, 1, 'ann', 'back', true), (8, 2, NULL, 'x', true)").await;
        client.wait_until(|client| client.row("filtered", "7").is_some()).await;
        // It may refetch once more before it settles.
        for sql in ["UPDATE todos SET list_id = 1 WHERE id = 8", "UPDATE todos SET list_id = 2"] {
            db.execute(sql).await;
            let expected = todos(&db, &["id", "title"], "list_id = 1").await;
            client.wait_until(|client| *client.rows("filtered") == expected).await;
        }
        wait_live(&mut client, &["filtered", "projected", "all"]).await;
    }

    async fn a_schema_change_during_an_absence_is_noticed_on_resume(db: TestDatabase) {
        let server = serve(&db).await;
        let state = subscribers(&server).await.into_state();
        db.execute("ALTER TABLE todos DROP COLUMN owner").await;
        db.execute("ALTER TABLE todos ADD COLUMN colour text").await;
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        wait_live(&mut client, &["filtered", "all"]).await;
        // The table has changed twice, so it may refetch twice.
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        client.wait_until(|client| *client.rows("filtered") == expected).await;
    }

    /// The table is altered and written in quick succession; the final copy is right.
    async fn repeated_schema_changes_end_in_the_right_copy(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribers(&server).await;
        for round in 0..5 {
            db.execute(&format!("ALTER TABLE todos ADD COLUMN extra_{round} integer")).await;
            db.execute("UPDATE todos SET list_id = 3 - list_id").await;
            db.execute(&format!("ALTER TABLE todos DROP COLUMN extra_{round}")).await;
            db.execute(&format!("UPDATE todos SET title = 'round {round}' WHERE id < 3")).await;
        }
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        client.wait_until(|client| *client.rows("filtered") == expected).await;
        wait_live(&mut client, &["filtered", "projected", "all"]).await;
        // By `leave`s, or by another `snapshot` frame if the table is still being checked.
        db.execute("UPDATE todos SET list_id = 2").await;
        client.wait_until(|client| client.rows("filtered").is_empty()).await;
    }
}
