//! Own writes, seen through the parts that a client follows.

use serde_json::{Value, json};
use testkit::{SyncClient, both_backends, eventually};

use super::followers::{follow, follower, serving, wait_equal};
use super::todos::{ALL, todos};
use crate::followers::again;
use crate::tables::count;
use crate::writes::{create, delete, update};

fn todo(id: u64, list_id: u64) -> Value {
    create(
        "todos",
        json!({ "id": id, "list_id": list_id, "title": "new", "done": false }),
    )
}

/// Pushes, and gives the frames up to the cursor behind the ack.
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
    async fn a_row_that_matches(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        let frames = pushed(&mut client, json!([todo(9, 1)])).await;
        assert_eq!(kinds(&frames), ["changes", "ack", "cursor"]);
        let change = &frames[0]["changes"][0];
        assert_eq!((&change["op"], &change["key"]), (&json!("put"), &json!("9")));
        assert_eq!(change["mutation"], 1);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    async fn a_row_that_leaves_by_it(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        let frames = pushed(&mut client, json!([update("todos", 1, json!({ "list_id": 2 }))])).await;
        assert_eq!(kinds(&frames), ["changes", "ack", "cursor"]);
        let change = &frames[0]["changes"][0];
        assert_eq!((&change["op"], &change["key"]), (&json!("leave"), &json!("1")));
        assert_eq!(change["mutation"], 1);
        assert!(change["client_id"].is_string() && change.get("row").is_none());
        assert_eq!(client.row("a", "1"), None);
    }

    /// Nothing of it is news here, and the client has to know all the same.
    async fn a_row_that_never_matches(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
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

    async fn columns_that_are_not_followed(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = server.connect().await;
        follow(&mut client, "a", json!({ "where": "list_id = 1", "columns": ["title"] })).await;
        let frames = pushed(&mut client, json!([update("todos", 1, json!({ "done": true }))])).await;
        assert_eq!(kinds(&frames), ["ack", "cursor"]);
        let frames = pushed(&mut client, json!([update("todos", 1, json!({ "title": "x" }))])).await;
        assert_eq!(kinds(&frames), ["changes", "ack", "cursor"]);
        assert_eq!(frames[0]["changes"][0]["row"], json!({ "id": 1, "title": "x" }));
    }

    /// A part is no right to write, nor a bound of it: what others follow, they are told.
    async fn from_one_part_to_another_clients(db: TestDatabase) {
        let server = serving(&db).await;
        let mut one = follower(&server, "list_id = 1").await;
        let mut two = follower(&server, "list_id = 2").await;
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

    /// Many at once: each ack comes before the cursor at which its change is there.
    async fn many_pushes_in_flight(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
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

    /// A push whose answer was lost is answered again, also when the part shows nothing of it.
    async fn an_ack_that_was_lost(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        client.send_push(1, json!([todo(9, 2)])).await;
        client.send_push(2, json!([update("todos", 1, json!({ "list_id": 2 }))])).await;
        eventually("both are applied", async || {
            let found = count(&db, "todos WHERE list_id = 2").await;
            (found == 3).then_some(())
        })
        .await;
        let mut client = again(&server, client).await;
        client.wait_subscribed("a").await;
        client.wait_answered().await;
        wait_equal(&mut client, &db, "a", "list_id = 1").await;
    }
}
