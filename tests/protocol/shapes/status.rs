//! The shapes in `status`.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::both_backends;

use super::subscribers::{changes_after, serve, subscribe, subscriber};

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
    async fn status_lists_shapes_without_their_values(db: TestDatabase) {
        let server = serve(&db).await;
        let mut one = subscriber(&server, "owner = 'confidential'").await;
        let mut two = subscriber(&server, "owner = 'confidential'").await;
        let selection = json!({ "where": "list_id IN (4711, 1) AND title LIKE 'confi%'", "columns": ["title"] });
        subscribe(&mut two, "b", selection).await;
        subscribe(&mut two, "c", json!({ "columns": ["owner"] })).await;
        subscribe(&mut two, "d", json!({})).await;
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

    async fn status_counts_the_cost_of_each_shape(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        subscribe(&mut client, "b", json!({ "where": "id > 2" })).await;
        let before = status(&server).await;
        // One row of the first selection, and three that only the second one evaluates.
        changes_after(&mut client, &db, "UPDATE todos SET done = NOT done WHERE id = 1").await;
        changes_after(&mut client, &db, "UPDATE todos SET done = NOT done WHERE id >= 3").await;
        changes_after(&mut client, &db, "INSERT INTO todos VALUES (0, 7, NULL, 'x', true)").await;
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
        // Four todos, and the changes of the fence.
        assert!((4..=7).contains(&hub("changes")), "{after}");
    }

    /// The list is limited to the shapes that cost most.
    async fn status_lists_only_the_costliest_shapes(db: TestDatabase) {
        let server = serve(&db).await;
        let mut clients = Vec::new();
        for number in 0..3 {
            let mut client = server.connect().await;
            for id in 0..60_u64 {
                let list = 100 * number + id;
                let selection = json!({ "entity": "todos", "where": "list_id = $1", "params": [list] });
                client.subscribe_with(id, selection).await;
            }
            for id in 0..60_u64 {
                client.wait_subscribed(id).await;
            }
            clients.push(client);
        }
        let mut costly = subscriber(&server, "title LIKE '%x'").await;
        changes_after(&mut costly, &db, "UPDATE todos SET title = 'x'").await;
        let status = status(&server).await;
        assert_eq!(status["shapes_total"], 181);
        let shapes = status["shapes"].as_array().expect("a list");
        assert_eq!(shapes.len(), 100);
        assert_eq!(shapes[0]["where"], "\"title\" LIKE ?");
    }
}
