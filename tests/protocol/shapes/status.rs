//! What `status` says of the parts that clients follow.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::both_backends;

use super::followers::{follow, follower, heard, serving};

async fn status(server: &TestServer) -> Value {
    server.http().get("/api/sync/status").await.json()
}

/// The entry of the shape with this filter and these columns.
fn entry(status: &Value, filter: &Value, columns: &Value) -> Value {
    let shapes = status["shapes"].as_array().expect("a list");
    let wanted = |entry: &&Value| entry["where"] == *filter && entry["columns"] == *columns;
    let found = shapes.iter().find(wanted);
    found
        .unwrap_or_else(|| panic!("{filter} is not in {status}"))
        .clone()
}

both_backends! {
    async fn who_wants_what(db: TestDatabase) {
        let server = serving(&db).await;
        let mut one = follower(&server, "owner = 'confidential'").await;
        let mut two = follower(&server, "owner = 'confidential'").await;
        let part = json!({ "where": "list_id IN (4711, 1) AND title LIKE 'confi%'", "columns": ["title"] });
        follow(&mut two, "b", part).await;
        follow(&mut two, "c", json!({ "columns": ["owner"] })).await;
        follow(&mut two, "d", json!({})).await;
        let reply = server.http().get("/api/sync/status").await;
        for value in ["confi", "4711"] {
            assert!(!reply.text.contains(value), "{}", reply.text);
        }
        let status = reply.json();
        assert_eq!((&status["sessions"], &status["shapes_total"]), (&json!(2), &json!(4)));
        for (sessions, filter, columns) in [
            (2, json!("\"owner\" = ?"), json!(null)),
            (1, json!(null), json!(["id", "owner"])),
            (1, json!(null), json!(null)),
        ] {
            let found = entry(&status, &filter, &columns);
            assert_eq!(
                (&found["entity"], &found["sessions"]),
                (&json!("todos"), &json!(sessions))
            );
        }
        let shapes = status["shapes"].as_array().expect("a list");
        let titles = |entry: &&Value| entry["columns"] == json!(["id", "title"]);
        let found = shapes.iter().find(titles).expect("an entry");
        let outline = found["where"].as_str().expect("text");
        for words in ["\"list_id\" IN (?)", "\"title\" LIKE ?", " AND "] {
            assert!(outline.contains(words), "{outline}");
        }
        one.ping().await;
    }

    async fn what_it_costs(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        follow(&mut client, "b", json!({ "where": "id > 2" })).await;
        let before = status(&server).await;
        // One row of the first part, and three that only the second has to look at.
        heard(&mut client, &db, "UPDATE todos SET done = NOT done WHERE id = 1").await;
        heard(&mut client, &db, "UPDATE todos SET done = NOT done WHERE id >= 3").await;
        heard(&mut client, &db, "INSERT INTO todos VALUES (0, 7, NULL, 'x', true)").await;
        let after = status(&server).await;
        let of = |id: &str, name: &str| {
            let filter = if id == "a" { json!("\"list_id\" = ?") } else { json!("\"id\" > ?") };
            let number = |status| entry(status, &filter, &json!(null))[name].as_u64();
            number(&after).expect("a number") - number(&before).expect("a number")
        };
        assert_eq!((of("a", "evaluations"), of("a", "changes")), (1, 1));
        assert_eq!((of("b", "evaluations"), of("b", "changes")), (4, 2));
        assert!(of("b", "bytes") > of("a", "bytes") && of("a", "bytes") > 0);
        let hub = |name: &str| {
            after["hub"][name].as_u64().expect("a number") - before["hub"][name].as_u64().expect("a number")
        };
        assert_eq!(hub("evaluations"), 5);
        // Four todos, and the marks that are news.
        assert!((4..=7).contains(&hub("changes")), "{after}");
    }

    /// However many there are, the list stays short: those that cost most.
    async fn the_list_has_an_end(db: TestDatabase) {
        let server = serving(&db).await;
        let mut clients = Vec::new();
        for number in 0..3 {
            let mut client = server.connect().await;
            for id in 0..60_u64 {
                let list = 100 * number + id;
                let part = json!({ "entity": "todos", "where": "list_id = $1", "params": [list] });
                client.subscribe_with(id, part).await;
            }
            for id in 0..60_u64 {
                client.wait_subscribed(id).await;
            }
            clients.push(client);
        }
        let mut costly = follower(&server, "title LIKE '%x'").await;
        heard(&mut costly, &db, "UPDATE todos SET title = 'x'").await;
        let status = status(&server).await;
        assert_eq!(status["shapes_total"], 181);
        let shapes = status["shapes"].as_array().expect("a list");
        assert_eq!(shapes.len(), 100);
        assert_eq!(shapes[0]["where"], "\"title\" LIKE ?");
    }
}
