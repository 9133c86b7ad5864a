//! Tables that change under the parts that clients follow: a part that still means something goes on
//! as another shape, one that does not ends.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, Phase, SyncClient, TestDatabase, both_backends, eventually};

use super::followers::{follow, heard, ops_of, serving};
use super::todos::{TODOS, todos};

/// Two parts that look at one column each, and the whole entity.
pub(super) async fn followers(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    follow(
        &mut client,
        "filtered",
        json!({ "where": "list_id = 1", "columns": ["title"] }),
    )
    .await;
    follow(&mut client, "projected", json!({ "columns": ["owner"] })).await;
    follow(&mut client, "all", json!({})).await;
    client
}

/// Waits until a subscription has been taken anew, or has ended.
pub(super) async fn taken_anew(client: &mut SyncClient, ids: &[&str]) {
    for id in ids {
        client
            .wait_until(|client| client.subscription(*id).phase() == &Phase::Live)
            .await;
    }
}

/// Runs a statement that changes the table, and waits until everybody has been told to refetch.
pub(super) async fn alter(client: &mut SyncClient, db: &TestDatabase, sql: &str) {
    client.reset_counters();
    let subscriptions = live(client);
    db.execute(sql).await;
    client
        .wait_until(|client| client.frames("refetch") == subscriptions)
        .await;
}

fn live(client: &SyncClient) -> u64 {
    let live = client
        .subscriptions()
        .values()
        .filter(|subscription| subscription.is_live());
    live.count() as u64
}

/// The one `error` of this connection.
fn the_error(client: &SyncClient) -> &Value {
    let [error] = client.errors() else {
        panic!("{:?}", client.errors())
    };
    error
}

both_backends! {
    async fn a_column_comes(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        let before = client.subscription("filtered").shape().map(str::to_owned);
        alter(&mut client, &db, "ALTER TABLE todos ADD COLUMN colour text").await;
        taken_anew(&mut client, &["filtered", "projected", "all"]).await;
        assert_ne!(client.subscription("filtered").shape().map(str::to_owned), before);
        assert_eq!(client.errors(), [] as [Value; 0]);
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        assert_eq!(*client.rows("filtered"), expected);
        assert!(client.row("all", "1").expect("a row")["colour"].is_null());

        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "filtered", &frames), ["put 3"]);
        assert_eq!(ops_of(&client, "projected", &frames), [""; 0]);
        let frames = heard(&mut client, &db, "UPDATE todos SET colour = 'red' WHERE id = 3").await;
        assert_eq!(ops_of(&client, "filtered", &frames), [""; 0]);
        follow(&mut client, "red", json!({ "where": "colour = 'red'", "columns": ["colour"] })).await;
        assert_eq!(client.row("red", "3"), Some(&json!({ "id": 3, "colour": "red" })));
    }

    async fn another_column_goes(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos DROP COLUMN done").await;
        taken_anew(&mut client, &["filtered", "projected", "all"]).await;
        assert_eq!(client.errors(), [] as [Value; 0]);
        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 1").await;
        assert_eq!(ops_of(&client, "filtered", &frames), ["leave 1"]);
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        assert_eq!(*client.rows("filtered"), expected);
    }

    async fn a_filtered_column_goes(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos DROP COLUMN list_id").await;
        assert_eq!(client.wait_refused("filtered").await, "bad_filter");
        taken_anew(&mut client, &["projected", "all"]).await;
        let error = the_error(&client);
        assert_eq!((&error["id"], &error["fatal"]), (&json!("filtered"), &json!(false)));
        let message = error["message"].as_str().expect("text");
        assert!(message.contains("list_id") && message.contains("at character 1"), "{message}");
        let frames = heard(&mut client, &db, "UPDATE todos SET owner = 'eve', title = 'x' WHERE id = 1").await;
        assert_eq!(ops_of(&client, "projected", &frames), ["put 1"]);
        assert_eq!(frames.len(), 2);
    }

    async fn a_projected_column_goes(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos DROP COLUMN owner").await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        taken_anew(&mut client, &["filtered", "all"]).await;
        assert_eq!(the_error(&client)["id"], "projected");
        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "filtered", &frames), ["put 3"]);
    }

    async fn columns_are_renamed(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        alter(&mut client, &db, "ALTER TABLE todos RENAME COLUMN done TO finished").await;
        taken_anew(&mut client, &["filtered", "projected", "all"]).await;
        assert_eq!(client.row("all", "2").expect("a row")["finished"], true);
        alter(&mut client, &db, "ALTER TABLE todos RENAME COLUMN owner TO person").await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        taken_anew(&mut client, &["filtered", "all"]).await;
        alter(&mut client, &db, "ALTER TABLE todos RENAME COLUMN list_id TO list").await;
        assert_eq!(client.wait_refused("filtered").await, "bad_filter");
        taken_anew(&mut client, &["all"]).await;
        // A new subscription knows the new names.
        follow(&mut client, "new", json!({ "where": "list = 1", "columns": ["person"] })).await;
        let frames = heard(&mut client, &db, "UPDATE todos SET list = 1 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "new", &frames), ["put 3"]);
    }

    /// Two columns trade their names: nothing of the filter's text changes, and all of its meaning.
    async fn two_columns_trade_their_names(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = server.connect().await;
        follow(&mut client, "a", json!({ "where": "owner = 'ann'", "columns": ["title"] })).await;
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
        let frames = heard(&mut client, &db, "UPDATE todos SET owner = 'eve' WHERE id = 2").await;
        assert_eq!(ops_of(&client, "a", &frames), ["leave 2"]);
    }

    async fn the_table_is_made_anew(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        db.execute(
            "BEGIN; DROP TABLE todos; CREATE TABLE todos (id integer PRIMARY KEY, title text, \
             list_id integer, extra text); INSERT INTO todos VALUES (1, 'anew', 1, 'x'), (2, 'other', 2, 'y'); COMMIT",
        )
        .await;
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        client.wait_until(|client| *client.rows("filtered") == expected).await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 3 - list_id").await;
        let told = ops_of(&client, "filtered", &frames);
        assert!(told.contains(&"leave 1".to_owned()) && told.contains(&"put 2".to_owned()), "{told:?}");
    }

    /// The table is away for a while; whoever asks meanwhile waits, and goes on when it is back.
    async fn the_table_goes_and_comes_back(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        db.execute("DROP TABLE todos").await;
        let status = async || {
            let status = server.http().get("/api/sync/status").await.json();
            (status["entities_missing"] == json!(["todos"])).then_some(())
        };
        eventually("the table is missed", status).await;
        db.execute(TODOS).await;
        db.execute("INSERT INTO todos VALUES (7, 1, 'ann', 'back', true), (8, 2, NULL, 'x', true)").await;
        client.wait_until(|client| client.row("filtered", "7").is_some()).await;
        // It may be taken anew once more before it rests.
        for sql in ["UPDATE todos SET list_id = 1 WHERE id = 8", "UPDATE todos SET list_id = 2"] {
            db.execute(sql).await;
            let expected = todos(&db, &["id", "title"], "list_id = 1").await;
            client.wait_until(|client| *client.rows("filtered") == expected).await;
        }
        taken_anew(&mut client, &["filtered", "projected", "all"]).await;
    }

    async fn it_changed_while_the_client_was_away(db: TestDatabase) {
        let server = serving(&db).await;
        let state = followers(&server).await.into_state();
        db.execute("ALTER TABLE todos DROP COLUMN owner").await;
        db.execute("ALTER TABLE todos ADD COLUMN colour text").await;
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        assert_eq!(client.wait_refused("projected").await, "bad_filter");
        taken_anew(&mut client, &["filtered", "all"]).await;
        // The table has changed twice, so perhaps it is taken twice.
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        client.wait_until(|client| *client.rows("filtered") == expected).await;
    }

    /// Alterations and writes in quick succession: what is left is right.
    async fn again_and_again(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = followers(&server).await;
        for round in 0..5 {
            db.execute(&format!("ALTER TABLE todos ADD COLUMN extra_{round} integer")).await;
            db.execute("UPDATE todos SET list_id = 3 - list_id").await;
            db.execute(&format!("ALTER TABLE todos DROP COLUMN extra_{round}")).await;
            db.execute(&format!("UPDATE todos SET title = 'round {round}' WHERE id < 3")).await;
        }
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        client.wait_until(|client| *client.rows("filtered") == expected).await;
        taken_anew(&mut client, &["filtered", "projected", "all"]).await;
        // By `leave`s, or by one more snapshot if the table is still being looked at.
        db.execute("UPDATE todos SET list_id = 2").await;
        client.wait_until(|client| client.rows("filtered").is_empty()).await;
    }
}
