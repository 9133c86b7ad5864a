//! Invalid selections: the error comes at once, with the position, and without asking the database.

use rhtmx_sync::{DbPool, EntityConfig, SyncConfig};
use rhtmx_sync_tests::{TcpProxy, TestServer};
use serde_json::{Value, json};
use testkit::{Phase, SyncClient, TestDatabase, both_backends, eventually};

use super::bad_selections::bad_selections;
use super::polling::path;
use super::subscribers::{ENTITIES, changes_after, ops, serve, subscribe, subscriber};
use super::todos::{ALL, make_todos, todos};

/// Subscribes to each, and expects its error.
async fn assert_all_invalid(client: &mut SyncClient) {
    for (id, (selection, code, words)) in bad_selections().into_iter().enumerate() {
        let mut frame = selection.clone();
        frame["entity"] = json!("todos");
        client.subscribe_with(id as u64, frame).await;
        let error = client.wait_for(|frame| frame["type"] == "error").await;
        let mut shown = selection.to_string();
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

/// As above by `GET`.
async fn assert_all_invalid_over_http(server: &TestServer) {
    for (selection, code, words) in bad_selections() {
        let text = |name: &str| match &selection[name] {
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
        // Longer than any server accepts.
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
    async fn a_session_continues_after_invalid_selections(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        assert_all_invalid(&mut client).await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 1").await;
        assert_eq!(ops(&frames), ["leave 1"]);
        // None of them has left a shape.
        let status = server.http().get("/api/sync/status").await.json();
        assert_eq!(status["shapes_total"], 1);
        assert_eq!(todos(&db, &ALL, "TRUE").await.len(), 4);
    }

    async fn invalid_selections_are_errors_over_http(db: TestDatabase) {
        let server = serve(&db).await;
        assert_all_invalid_over_http(&server).await;
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

    /// The columns of an entity without a table are unknown, so a selection cannot name any.
    async fn an_entity_without_a_table_has_no_selections(db: TestDatabase) {
        make_todos(&db).await;
        let entities = [
            EntityConfig::new("todos"),
            EntityConfig::new("fence"),
            EntityConfig::without_table("presence"),
        ];
        let server = TestServer::start(&db, entities).await;
        let mut client = server.connect().await;
        for (id, selection) in [
            ("a", json!({ "where": "id = 1" })),
            ("b", json!({ "columns": ["id"] })),
            ("c", json!({ "where": "TRUE" })),
        ] {
            let mut frame = selection;
            frame["entity"] = json!("presence");
            client.subscribe_with(id, frame).await;
            assert_eq!(client.wait_refused(id).await, "bad_filter");
        }
        client.subscribe("d", "presence").await;
        client.wait_subscribed("d").await;
        subscribe(&mut client, "e", json!({ "where": "list_id = 1" })).await;
        assert_eq!(client.rows("e").len(), 2);
    }

    /// A pattern over a text that it almost matches at every position is evaluated quickly.
    async fn an_almost_matching_pattern_is_evaluated_quickly(db: TestDatabase) {
        let server = serve(&db).await;
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
            let selection = json!({ "entity": "todos", "where": "title LIKE $1", "params": [pattern] });
            client.subscribe_with(id.as_str(), selection).await;
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
        let frames = changes_after(&mut client, &db, &format!("UPDATE todos SET title = '{longer}'")).await;
        assert_eq!(frames, [] as [Value; 0]);
        let frames = changes_after(&mut client, &db, &format!("UPDATE todos SET title = '{longer}b' WHERE id = 1")).await;
        assert_eq!(frames.len(), live.len());
    }

    /// Filters at the limits themselves work.
    async fn a_filter_may_be_as_large_as_the_limits(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let params: Vec<i32> = (0..900).collect();
        let list: Vec<String> = (1..=900).map(|number| format!("${number}")).collect();
        let selection = json!({ "where": format!("id IN ({})", list.join(",")), "params": params });
        subscribe(&mut client, "a", selection).await;
        assert_eq!(client.rows("a").len(), 4);
        let nested = format!("{}list_id = 1{}", "(".repeat(60), ")".repeat(60));
        subscribe(&mut client, "b", json!({ "where": nested })).await;
        assert_eq!(client.rows("b").len(), 2);
        let ors: Vec<String> = (1..=450).map(|id| format!("id = {id} AND NOT done")).collect();
        let ors = ors[..300].join(" OR ");
        subscribe(&mut client, "c", json!({ "where": ors })).await;
        assert_eq!(*client.rows("c"), todos(&db, &ALL, "NOT done").await);
        let long = "x".repeat(15_000);
        let selection = json!({ "where": format!("owner <> '{long}' AND owner IS NOT NULL") });
        subscribe(&mut client, "d", selection).await;
        assert_eq!(client.rows("d").len(), 3);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET done = true, list_id = 2, owner = NULL").await;
        assert_eq!(frames.len(), 4);
        for (id, condition) in [("a", "TRUE"), ("b", "FALSE"), ("c", "FALSE"), ("d", "FALSE")] {
            assert_eq!(*client.rows(id), todos(&db, &ALL, condition).await, "{id}");
        }
    }
}

/// The errors come although the database is out of reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_selections_are_errors_without_the_database() {
    let db = TestDatabase::postgres().await;
    make_todos(&db).await;
    let (mut proxy, through) = TcpProxy::of_database(&db.url()).await;
    let pool = DbPool::from_url(&through)
        .await
        .expect("the database opens");
    let entities = ENTITIES.into_iter().map(EntityConfig::from).collect();
    let server = TestServer::with_config(SyncConfig::new(pool, entities)).await;
    let mut client = subscriber(&server, "list_id = 1").await;
    proxy.close().await;
    let status = async || {
        let status = server.http().get("/api/sync/status").await.json();
        (status["wake_up"] == "none").then_some(())
    };
    eventually("the server notices the outage", status).await;
    let before = proxy.requests();
    assert_all_invalid(&mut client).await;
    assert_all_invalid_over_http(&server).await;
    assert_eq!(proxy.requests(), before);
    proxy.open().await;
    db.execute("UPDATE todos SET list_id = 2 WHERE id = 1")
        .await;
    client
        .wait_until(|client| client.row("a", "1").is_none())
        .await;
}
