//! A client's own writes, seen through its selections.

use serde_json::{Value, json};
use testkit::{SyncClient, both_backends, eventually};

use super::subscribers::{serve, subscribe, subscriber, wait_equal};
use super::todos::{ALL, todos};
use crate::subscribers::reconnect;
use crate::tables::count;
use crate::writes::{create, delete, update};

fn todo(id: u64, list_id: u64) -> Value {
    create(
        "todos",
        json!({ "id": id, "list_id": list_id, "title": "new", "done": false }),
    )
}

/// Pushes, and returns the frames up to the cursor after the ack.
async fn pushed(client: &mut SyncClient, writes: Value) -> Vec<Value> {
    client.send_push(client.next_mutation(), writes).await;
    let mut frames = Vec::new();
    let mut acked = false;
    loop {
        let frame = client.next_frame().await;
        acked |= frame["type"] == "ack";
        let ends = acked && frame["type"] == "cursor";
        frames.push(frame);
        if ends {
            return frames;
        }
    }
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames
        .iter()
        .filter_map(|frame| frame["type"].as_str())
        .collect()
}

both_backends! {
    async fn a_pushed_matching_row_is_sent_before_its_ack(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        let frames = pushed(&mut client, json!([todo(9, 1)])).await;
        assert_eq!(kinds(&frames), ["changes", "ack", "cursor"]);
        let change = &frames[0]["changes"][0];
        assert_eq!((&change["op"], &change["key"]), (&json!("put"), &json!("9")));
        assert_eq!(change["mutation"], 1);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    async fn a_pushed_leave_is_sent_before_its_ack(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        let frames = pushed(&mut client, json!([update("todos", 1, json!({ "list_id": 2 }))])).await;
        assert_eq!(kinds(&frames), ["changes", "ack", "cursor"]);
        let change = &frames[0]["changes"][0];
        assert_eq!((&change["op"], &change["key"]), (&json!("leave"), &json!("1")));
        assert_eq!(change["mutation"], 1);
        assert!(change["client_id"].is_string() && change.get("row").is_none());
        assert_eq!(client.row("a", "1"), None);
    }

    /// No change matches, yet the mutation is acked at a new cursor.
    async fn a_push_that_matches_nothing_is_acked(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        let before = client.cursor().map(str::to_owned);
        for writes in [
            json!([todo(9, 2)]),
            json!([update("todos", 9, json!({ "title": "newer" }))]),
            json!([update("todos", 9, json!({ "list_id": 3 })), delete("todos", 9)]),
            json!([todo(10, 1), delete("todos", 10)]),
        ] {
            let frames = pushed(&mut client, writes).await;
            assert_eq!(kinds(&frames), ["ack", "cursor"]);
        }
        assert_ne!(client.cursor().map(str::to_owned), before);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    async fn a_push_to_other_columns_is_acked_without_changes(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        subscribe(&mut client, "a", json!({ "where": "list_id = 1", "columns": ["title"] })).await;
        let frames = pushed(&mut client, json!([update("todos", 1, json!({ "done": true }))])).await;
        assert_eq!(kinds(&frames), ["ack", "cursor"]);
        let frames = pushed(&mut client, json!([update("todos", 1, json!({ "title": "x" }))])).await;
        assert_eq!(kinds(&frames), ["changes", "ack", "cursor"]);
        assert_eq!(frames[0]["changes"][0]["row"], json!({ "id": 1, "title": "x" }));
    }

    /// A selection does not limit writes: other clients receive what they select.
    async fn a_write_outside_the_own_selection_reaches_others(db: TestDatabase) {
        let server = serve(&db).await;
        let mut one = subscriber(&server, "list_id = 1").await;
        let mut two = subscriber(&server, "list_id = 2").await;
        let writes = json!([
            update("todos", 1, json!({ "list_id": 2 })),
            update("todos", 3, json!({ "list_id": 1 })),
            todo(9, 2)
        ]);
        one.push_next(writes).await.acked();
        wait_equal(&mut one, &db, "a", "list_id = 1").await;
        wait_equal(&mut two, &db, "a", "list_id = 2").await;
        assert_eq!(two.rows("a").keys().collect::<Vec<_>>(), ["1", "9"]);
    }

    /// Each ack comes before the cursor at which its change is visible.
    async fn many_pushes_in_flight_are_all_acked(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        for mutation in 1..=60_u64 {
            let writes = match mutation % 3 {
                0 => json!([todo(100 + mutation, 1)]),
                1 => json!([todo(100 + mutation, 2)]),
                _ => json!([update("todos", 1 + mutation % 2, json!({ "list_id": mutation % 4 }))]),
            };
            client.send_push(mutation, writes).await;
        }
        client.wait_answered().await;
        wait_equal(&mut client, &db, "a", "list_id = 1").await;
        for mutation in 1..=60 {
            client.outcome(mutation).expect("an answer").acked();
        }
    }

    /// The push is answered again, even when the selection shows nothing of it.
    async fn a_lost_ack_is_sent_again(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        client.send_push(1, json!([todo(9, 2)])).await;
        client.send_push(2, json!([update("todos", 1, json!({ "list_id": 2 }))])).await;
        eventually("both mutations are applied", async || {
            let found = count(&db, "todos WHERE list_id = 2").await;
            (found == 3).then_some(())
        })
        .await;
        let mut client = reconnect(&server, client).await;
        client.wait_subscribed("a").await;
        client.wait_answered().await;
        wait_equal(&mut client, &db, "a", "list_id = 1").await;
    }
}
