//! The name of a shape: equal selections have the same name, different ones do not.

use std::collections::BTreeSet;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{both_backends, eventually};

use super::subscribers::{
    ENTITIES, changes_after, ops_of, pending_changes, serve, subscribe, subscriber,
};
use super::todos::{ALL, todos};

/// The shape of a new client's subscription.
async fn shape_of(server: &TestServer, selection: &Value) -> String {
    let mut client = server.connect().await;
    subscribe(&mut client, "a", selection.clone()).await;
    let shape = client.subscription("a").shape();
    shape.expect("a shape").to_owned()
}

async fn shapes_in_status(server: &TestServer) -> Value {
    let status = server.http().get("/api/sync/status").await.json();
    status["shapes_total"].clone()
}

both_backends! {
    async fn equal_selections_are_one_shape(db: TestDatabase) {
        let server = serve(&db).await;
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
            for selection in &equal {
                names.insert(shape_of(&server, selection).await);
            }
            assert_eq!(names.len(), 1, "{equal:?}: {names:?}");
        }
    }

    async fn different_selections_are_different_shapes(db: TestDatabase) {
        let server = serve(&db).await;
        let mut names = BTreeSet::new();
        let selections = [
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
        for selection in &selections {
            assert!(names.insert(shape_of(&server, selection).await), "{selection}");
        }
        // A filter is private, so the name does not reveal it.
        let secret = json!({ "where": "owner = 'secretly'" });
        assert!(!shape_of(&server, &secret).await.contains("secret"));
    }

    /// A name means the same on every server of a database.
    async fn two_servers_give_a_shape_the_same_name(db: TestDatabase) {
        let server = serve(&db).await;
        let other = TestServer::start(&db, ENTITIES).await;
        let selection = json!({ "where": "list_id = 1", "columns": ["title"] });
        assert_eq!(shape_of(&server, &selection).await, shape_of(&other, &selection).await);
    }

    async fn two_subscriptions_of_a_shape_share_each_frame(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        db.execute("UPDATE todos SET title = 'before b' WHERE id = 1").await;
        subscribe(&mut client, "b", json!({ "where": "list_id = $1", "params": [1] })).await;
        assert_eq!(client.subscription("a").shape(), client.subscription("b").shape());
        pending_changes(&mut client).await;
        // One frame serves both.
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 3").await;
        assert_eq!((frames.len(), ops_of(&client, "b", &frames)), (1, vec!["put 3".to_owned()]));
        assert_eq!(client.rows("a"), client.rows("b"));
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        client.unsubscribe("a").await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "b", &frames), ["leave 3"]);
    }

    /// The second subscription joins while rows enter and leave: it may receive changes twice and must
    /// not miss any.
    async fn a_client_may_join_a_live_shape_during_writes(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
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
                let selection = json!({ "entity": "todos", "where": "list_id = 1" });
                client.subscribe_with(id, selection).await;
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
        let server = serve(&db).await;
        let mut one = subscriber(&server, "list_id = 1").await;
        let two = subscriber(&server, "list_id = 1").await;
        subscribe(&mut one, "b", json!({ "where": "list_id = 2" })).await;
        subscribe(&mut one, "c", json!({ "where": "list_id = 1 AND TRUE" })).await;
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
