//! Parts that cannot be answered: said at once, with the place, and without asking the database.

use rhtmx_sync::{DbPool, EntityConfig, SyncConfig};
use rhtmx_sync_tests::{TcpProxy, TestServer};
use serde_json::{Value, json};
use testkit::{Phase, SyncClient, TestDatabase, both_backends, eventually};

use super::bad_parts::bad_parts;
use super::followers::{ENTITIES, follow, follower, heard, ops, serving};
use super::polling::path;
use super::todos::{ALL, make_todos, todos};

/// Asks for each, and is told what is wrong with it.
async fn refuses_all(client: &mut SyncClient) {
    for (id, (part, code, words)) in bad_parts().into_iter().enumerate() {
        let mut frame = part.clone();
        frame["entity"] = json!("todos");
        client.subscribe_with(id as u64, frame).await;
        let error = client.wait_for(|frame| frame["type"] == "error").await;
        let mut shown = part.to_string();
        shown.truncate(200);
        assert_eq!(
            (&error["code"], &error["id"], &error["fatal"]),
            (&json!(code), &json!(id), &json!(false)),
            "{shown}: {error}"
        );
        let message = error["message"].as_str().expect("text");
        assert!(message.contains(words), "{shown}: {message}");
        assert!(message.len() < 600, "{shown}: {} bytes", message.len());
    }
}

/// The same by `GET`.
async fn refuses_all_over_http(server: &TestServer) {
    for (part, code, words) in bad_parts() {
        let text = |name: &str| match &part[name] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let parameters = ["where", "params", "columns"].map(|name| (name, text(name)));
        let given: Vec<(&str, &str)> = parameters
            .iter()
            .filter_map(|(name, text)| Some((*name, text.as_deref()?)))
            .collect();
        let path_of_rows = path("todos", &given);
        // Longer than any server reads.
        if path_of_rows.len() > 30_000 {
            continue;
        }
        let status = if code == "too_large" { 413 } else { 400 };
        let events = [("entity", "todos")]
            .into_iter()
            .chain(given)
            .collect::<Vec<_>>();
        for path in [path_of_rows, path("events", &events)] {
            let reply = server.http().get(&path).await;
            let body = reply.json();
            assert_eq!(
                (reply.status, &body["code"]),
                (status, &json!(code)),
                "{path}"
            );
            assert!(
                body["message"].as_str().expect("text").contains(words),
                "{path}: {body}"
            );
        }
    }
}

both_backends! {
    async fn and_the_session_goes_on(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        refuses_all(&mut client).await;
        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 1").await;
        assert_eq!(ops(&frames), ["leave 1"]);
        // None of them has left a shape behind.
        let status = server.http().get("/api/sync/status").await.json();
        assert_eq!(status["shapes_total"], 1);
        assert_eq!(todos(&db, &ALL, "TRUE").await.len(), 4);
    }

    async fn over_http(db: TestDatabase) {
        let server = serving(&db).await;
        refuses_all_over_http(&server).await;
        for (query, words) in [
            ("params=1&where=id%3D%241", "`params`"),
            ("params=%5B1&where=id%3D%241", "`params`"),
            ("params=%7B%7D", "`params`"),
            ("columns=%5B1%5D", "`columns`"),
            ("columns=%5B%22id%22", "`columns`"),
        ] {
            let reply = server.http().get(&format!("/api/sync/todos?{query}")).await;
            let body = reply.json();
            assert_eq!((reply.status, &body["code"]), (400, &json!("bad_filter")), "{query}");
            assert!(body["message"].as_str().expect("text").contains(words), "{query}: {body}");
        }
    }

    /// What an entity without a table holds nobody has said, so nothing of it can be asked for.
    async fn of_an_entity_without_a_table(db: TestDatabase) {
        make_todos(&db).await;
        let entities = [
            EntityConfig::new("todos"),
            EntityConfig::new("marks"),
            EntityConfig::without_table("presence"),
        ];
        let server = TestServer::start(&db, entities).await;
        let mut client = server.connect().await;
        for (id, part) in [
            ("a", json!({ "where": "id = 1" })),
            ("b", json!({ "columns": ["id"] })),
            ("c", json!({ "where": "TRUE" })),
        ] {
            let mut frame = part;
            frame["entity"] = json!("presence");
            client.subscribe_with(id, frame).await;
            assert_eq!(client.wait_refused(id).await, "bad_filter");
        }
        client.subscribe("d", "presence").await;
        client.wait_subscribed("d").await;
        follow(&mut client, "e", json!({ "where": "list_id = 1" })).await;
        assert_eq!(client.rows("e").len(), 2);
    }

    /// A pattern over a text that it nearly fits, everywhere: nobody waits for the answer.
    async fn a_slow_pattern_is_not_slow(db: TestDatabase) {
        let server = serving(&db).await;
        let text = "a".repeat(50_000);
        db.execute(&format!("UPDATE todos SET title = '{text}'")).await;
        let mut client = server.connect().await;
        let patterns = [
            format!("%{}b", "a%".repeat(400)),
            format!("%{}b", "a_%".repeat(300)),
            format!("{}b", "%a".repeat(450)),
            format!("%{}%b%", "a".repeat(900)),
        ];
        let mut live = Vec::new();
        for (id, pattern) in patterns.iter().enumerate() {
            let id = format!("{id}");
            let part = json!({ "entity": "todos", "where": "title LIKE $1", "params": [pattern] });
            client.subscribe_with(id.as_str(), part).await;
            let answered = |client: &SyncClient| {
                *client.subscription(&*id).phase() != Phase::Joining
            };
            client.wait_until(answered).await;
            if client.subscription(&*id).is_live() {
                live.push(id);
            } else {
                let error = client.errors().last().expect("an error");
                assert_eq!(error["code"], "bad_filter");
            }
        }
        assert!(!live.is_empty());
        let longer = "a".repeat(60_000);
        let frames = heard(&mut client, &db, &format!("UPDATE todos SET title = '{longer}'")).await;
        assert_eq!(frames, [] as [Value; 0]);
        let frames = heard(&mut client, &db, &format!("UPDATE todos SET title = '{longer}b' WHERE id = 1")).await;
        assert_eq!(frames.len(), live.len());
    }

    /// At the bounds themselves filters work.
    async fn as_large_as_may_be(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = server.connect().await;
        let params: Vec<i32> = (0..900).collect();
        let list: Vec<String> = (1..=900).map(|number| format!("${number}")).collect();
        let part = json!({ "where": format!("id IN ({})", list.join(",")), "params": params });
        follow(&mut client, "a", part).await;
        assert_eq!(client.rows("a").len(), 4);
        let nested = format!("{}list_id = 1{}", "(".repeat(60), ")".repeat(60));
        follow(&mut client, "b", json!({ "where": nested })).await;
        assert_eq!(client.rows("b").len(), 2);
        let ors: Vec<String> = (1..=450).map(|id| format!("id = {id} AND NOT done")).collect();
        let ors = ors[..300].join(" OR ");
        follow(&mut client, "c", json!({ "where": ors })).await;
        assert_eq!(*client.rows("c"), todos(&db, &ALL, "NOT done").await);
        let long = "x".repeat(15_000);
        let part = json!({ "where": format!("owner <> '{long}' AND owner IS NOT NULL") });
        follow(&mut client, "d", part).await;
        assert_eq!(client.rows("d").len(), 3);
        let frames = heard(&mut client, &db, "UPDATE todos SET done = true, list_id = 2, owner = NULL").await;
        assert_eq!(frames.len(), 4);
        for (id, condition) in [("a", "TRUE"), ("b", "FALSE"), ("c", "FALSE"), ("d", "FALSE")] {
            assert_eq!(*client.rows(id), todos(&db, &ALL, condition).await, "{id}");
        }
    }
}

/// The database is out of reach, and the answers come all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database() {
    let db = TestDatabase::postgres().await;
    make_todos(&db).await;
    let (mut proxy, through) = TcpProxy::of_database(&db.url()).await;
    let pool = DbPool::from_url(&through)
        .await
        .expect("the database opens");
    let entities = ENTITIES.into_iter().map(EntityConfig::from).collect();
    let server = TestServer::with_config(SyncConfig::new(pool, entities)).await;
    let mut client = follower(&server, "list_id = 1").await;
    proxy.close().await;
    let status = async || {
        let status = server.http().get("/api/sync/status").await.json();
        (status["wake_up"] == "none").then_some(())
    };
    eventually("the database is missed", status).await;
    let before = proxy.requests();
    refuses_all(&mut client).await;
    refuses_all_over_http(&server).await;
    assert_eq!(proxy.requests(), before);
    proxy.open().await;
    db.execute("UPDATE todos SET list_id = 2 WHERE id = 1")
        .await;
    client
        .wait_until(|client| client.row("a", "1").is_none())
        .await;
}
