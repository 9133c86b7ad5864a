//! The name of a shape: the same for all who want the same, and for nobody else.

use std::collections::BTreeSet;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{both_backends, eventually};

use super::followers::{ENTITIES, follow, follower, heard, ops_of, serving, up_to_now};
use super::todos::{ALL, todos};

/// The shape that a client of its own is given.
async fn shape_of(server: &TestServer, part: &Value) -> String {
    let mut client = server.connect().await;
    follow(&mut client, "a", part.clone()).await;
    let shape = client.subscription("a").shape();
    shape.expect("a shape").to_owned()
}

async fn shapes_in_status(server: &TestServer) -> Value {
    let status = server.http().get("/api/sync/status").await.json();
    status["shapes_total"].clone()
}

both_backends! {
    async fn equal_parts_are_one_shape(db: TestDatabase) {
        let server = serving(&db).await;
        for equal in [
            vec![
                json!({ "where": "list_id = 1 AND done" }),
                json!({ "where": "done AND list_id = 1" }),
                json!({ "where": "((list_id = 1)) and\n DONE = true" }),
                json!({ "where": "NOT (NOT done OR list_id <> 1)" }),
                json!({ "where": "list_id = $1 AND done = $2", "params": [1, true] }),
                json!({ "where": "$2 = done AND $1 = list_id", "params": ["1", true] }),
                json!({ "where": "list_id IN (1) AND done AND done" }),
            ],
            vec![
                json!({ "where": "list_id IN (1, 2)" }),
                json!({ "where": "list_id = 2 OR list_id = 1" }),
                json!({ "where": "list_id IN ($1, $2, $1)", "params": [2, 1] }),
            ],
            vec![
                json!({}),
                json!({ "where": "TRUE" }),
                json!({ "where": null, "params": null, "columns": null }),
                json!({ "params": [] }),
            ],
            vec![
                json!({ "columns": ["done", "title", "owner", "list_id", "id"] }),
                json!({ "columns": ["id", "list_id", "owner", "title", "done"], "where": "TRUE" }),
            ],
            vec![
                json!({ "columns": ["title", "owner"] }),
                json!({ "columns": ["owner", "id", "title", "title"] }),
                json!({ "where": "list_id = 1 OR TRUE", "columns": ["title", "owner"] }),
            ],
        ] {
            let mut names = BTreeSet::new();
            for part in &equal {
                names.insert(shape_of(&server, part).await);
            }
            assert_eq!(names.len(), 1, "{equal:?}: {names:?}");
        }
    }

    async fn different_parts_are_not(db: TestDatabase) {
        let server = serving(&db).await;
        let mut names = BTreeSet::new();
        let parts = [
            json!({}),
            json!({ "where": "list_id = 1" }),
            json!({ "where": "list_id = 2" }),
            json!({ "where": "list_id <> 1" }),
            json!({ "where": "list_id IS NULL" }),
            json!({ "where": "list_id = 1", "columns": ["title"] }),
            json!({ "where": "list_id = 1", "columns": ["owner"] }),
            json!({ "columns": ["title"] }),
            json!({ "columns": [] }),
            json!({ "where": "list_id = 1 OR done" }),
            json!({ "where": "list_id = 1 AND done" }),
            json!({ "where": "owner = '1'" }),
            json!({ "where": "owner = ' 1'" }),
            json!({ "where": "title = '1'" }),
            json!({ "where": "FALSE" }),
        ];
        for part in &parts {
            assert!(names.insert(shape_of(&server, part).await), "{part}");
        }
        // What a filter asks for is nobody else's business, so its name does not tell.
        let secret = json!({ "where": "owner = 'secretly'" });
        assert!(!shape_of(&server, &secret).await.contains("secret"));
    }

    /// One name stands for one thing also on another server of the same database.
    async fn another_server_gives_the_same_name(db: TestDatabase) {
        let server = serving(&db).await;
        let other = TestServer::start(&db, ENTITIES).await;
        let part = json!({ "where": "list_id = 1", "columns": ["title"] });
        assert_eq!(shape_of(&server, &part).await, shape_of(&other, &part).await);
    }

    async fn a_second_subscription_of_a_live_shape(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        db.execute("UPDATE todos SET title = 'before b' WHERE id = 1").await;
        follow(&mut client, "b", json!({ "where": "list_id = $1", "params": [1] })).await;
        assert_eq!(client.subscription("a").shape(), client.subscription("b").shape());
        up_to_now(&mut client).await;
        // One frame serves both.
        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 3").await;
        assert_eq!((frames.len(), ops_of(&client, "b", &frames)), (1, vec!["put 3".to_owned()]));
        assert_eq!(client.rows("a"), client.rows("b"));
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        client.unsubscribe("a").await;
        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "b", &frames), ["leave 3"]);
    }

    /// The second joins while rows go in and out, which it may hear of twice and must not miss.
    async fn joining_a_live_shape_amid_writes(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        let writer = async {
            for round in 0..100 {
                db.execute(&format!(
                    "UPDATE todos SET list_id = 3 - list_id, title = 'round {round}' \
                     WHERE id = 1 + {round} % 3"
                ))
                .await;
            }
        };
        let joiner = async {
            for id in 0..20_u64 {
                let part = json!({ "entity": "todos", "where": "list_id = 1" });
                client.subscribe_with(id, part).await;
                client.wait_subscribed(id).await;
            }
        };
        tokio::join!(writer, joiner);
        let expected = todos(&db, &ALL, "list_id = 1").await;
        for id in 0..20_u64 {
            client.wait_until(|client| *client.rows(id) == expected).await;
        }
        assert_eq!(*client.rows("a"), expected);
    }

    async fn shapes_end_with_their_last_subscriber(db: TestDatabase) {
        let server = serving(&db).await;
        let mut one = follower(&server, "list_id = 1").await;
        let two = follower(&server, "list_id = 1").await;
        follow(&mut one, "b", json!({ "where": "list_id = 2" })).await;
        follow(&mut one, "c", json!({ "where": "list_id = 1 AND TRUE" })).await;
        assert_eq!(shapes_in_status(&server).await, 2);
        one.unsubscribe("b").await;
        one.unsubscribe("a").await;
        one.ping().await;
        assert_eq!(shapes_in_status(&server).await, 1);
        one.unsubscribe("c").await;
        one.ping().await;
        assert_eq!(shapes_in_status(&server).await, 1);
        drop(two);
        eventually("the shape ends", async || {
            (shapes_in_status(&server).await == 0).then_some(())
        })
        .await;
    }
}
