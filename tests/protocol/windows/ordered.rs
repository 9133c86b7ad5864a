//! In which order the rows are: by their values, and where these do not tell it as the server says.

use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends};

use super::{connect, keys, serve, settle, subscribe};

/// The order that the changes up to a note say.
async fn said(
    db: &TestDatabase,
    client: &mut SyncClient,
    (note, statement): (u32, &str),
) -> Option<Value> {
    db.execute(&format!(
        "BEGIN; {statement}; INSERT INTO notes VALUES ({note}, ''); COMMIT"
    ))
    .await;
    let mut said = None;
    let key = note.to_string();
    while client.row("n", &key).is_none() {
        let frame = client.next_frame().await;
        if frame["type"] == "changes" && frame["shape"] != "notes" {
            said = Some(frame["order"].clone());
        }
    }
    said
}

async fn in_order(db: &TestDatabase, order: &str) -> Value {
    let query = format!("SELECT CAST(id AS text) AS key FROM posts ORDER BY {order} LIMIT 4");
    let keys = db.query_text(&query).await.into_iter().flatten();
    keys.map(Value::from).collect()
}

both_backends! {
    async fn the_order_of_texts_is_said_with_each_change(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO posts (id, at, title) VALUES (1, 1, 'b'), (2, 2, 'C'), (3, 3, 'ä'), (4, 4, 'a')").await;
        let mut client = connect(&server).await;
        subscribe(&mut client, "w", json!({ "order": [["title", "asc"]], "limit": 4 })).await;
        settle(&db, &mut client).await;
        for (note, statement) in [
            "INSERT INTO posts (id, title) VALUES (5, 'B')",
            "UPDATE posts SET title = 'A' WHERE id = 2",
            "UPDATE posts SET at = 9 WHERE id = 4",
            "DELETE FROM posts WHERE id = 1",
            "BEGIN; DELETE FROM posts WHERE id = 4; INSERT INTO posts (id, title) VALUES (6, 'z'), (7, NULL); COMMIT",
        ].into_iter().enumerate() {
            let statement = statement.trim_start_matches("BEGIN; ").trim_end_matches("; COMMIT");
            let order = said(&db, &mut client, (note as u32 + 1, statement)).await;
            assert_eq!(order, Some(in_order(&db, "title NULLS LAST, id").await), "{statement}");
        }
        // A resume of such a window takes its rows again, in their order.
        let before = keys(&client, "w");
        let state = client.into_state();
        let mut client = SyncClient::reconnect(&server.ws_url(), testkit::ClientOptions::default(), &state).await;
        client.wait_subscribed("w").await;
        client.wait_subscribed("n").await;
        settle_again(&db, &mut client).await;
        assert_eq!((client.frames("refetch"), keys(&client, "w")), (1, before));
    }

    async fn no_order_is_said_that_the_values_tell(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO posts (id, at, title) VALUES (1, 1, 'b'), (2, 2, 'c'), (3, NULL, NULL), (4, 2, 'a')").await;
        let mut client = connect(&server).await;
        subscribe(&mut client, "w", json!({ "order": [["at", "desc"]], "limit": 3 })).await;
        subscribe(&mut client, "t", json!({ "order": [["at", "desc"], ["title", "asc"]], "limit": 2 })).await;
        settle(&db, &mut client).await;
        let mut note = 0;
        let mut order = async |client: &mut SyncClient, statement: &str| {
            note += 1;
            said(&db, client, (note, statement)).await
        };
        assert_eq!(order(&mut client, "INSERT INTO posts (id, at) VALUES (5, 7)").await, Some(Value::Null));
        client.unsubscribe("w").await;
        client.ping().await;
        // As long as no text decides.
        assert_eq!(order(&mut client, "UPDATE posts SET at = 8 WHERE id = 5").await, Some(Value::Null));
        assert_eq!(order(&mut client, "INSERT INTO posts (id, at, title) VALUES (6, NULL, 'x')").await, Some(Value::Null));
        assert_eq!(order(&mut client, "UPDATE posts SET title = 'y' WHERE id = 3").await, Some(json!(["6", "3"])));
    }
}

async fn settle_again(db: &TestDatabase, client: &mut SyncClient) {
    super::mark(db, client, 901).await;
}
