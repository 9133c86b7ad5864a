//! The routes for fields alone: plain HTTP and a WebSocket.

use std::sync::Arc;

use rhtmx_sync::{
    ColumnPolicy, Deletes, EntityConfig, EntityPolicy, Policies, SyncConfig, UpdatePolicy,
};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, Http, SyncClient, TestDatabase, both_backends};
use uuid::Uuid;

use super::{config, connect, serve, stamped, task};
use crate::claims::{ClaimsAreTokens, options, token};
use crate::writes::update;

const PREFIX: &str = "/api/field-sync";

fn ws_url(server: &TestServer) -> String {
    server.ws_url().replace("/api/sync/", "/api/field-sync/")
}

fn hlc(number: u8, second: u64) -> Value {
    stamped(json!({}), number, second)["hlc"].take()
}

fn push(client: u8, mutation: u64, write: Value) -> Value {
    let mut id = [0; 16];
    id[4] = client;
    json!({ "client_id": Uuid::from_bytes(id), "mutation": mutation, "writes": [write] })
}

/// Tasks of owners: only they see the due of theirs, and only they write them. Of `notes` nobody sees or writes anything.
async fn guarded(db: &TestDatabase) -> SyncConfig {
    db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)")
        .await;
    db.execute("INSERT INTO notes VALUES (1, 'nobody may read this')")
        .await;
    let mut config = config(db, Deletes::Win).await;
    let rules = super::rules(Deletes::Win);
    let notes = EntityConfig::new("notes").fields(rhtmx_sync::Rules {
        columns: [].into(),
        ..rules
    });
    config.entities.push(notes);
    db.execute("INSERT INTO tasks (id, title, due) VALUES (2, 'ben', 'secret')")
        .await;
    db.execute("UPDATE tasks SET title = 'ann' WHERE id = 1")
        .await;
    let own = "title = auth.sub".to_owned();
    let of_tasks = EntityPolicy {
        read: Some("title = auth.sub OR auth.role = 'reader'".to_owned()),
        update: Some(UpdatePolicy {
            using: own.clone(),
            check: None,
        }),
        columns: [
            (
                "due".to_owned(),
                ColumnPolicy {
                    readable: Some("auth.role <> 'reader'".into()),
                    ..ColumnPolicy::default()
                },
            ),
            (
                "likes".to_owned(),
                ColumnPolicy {
                    writable: Some(false.into()),
                    ..ColumnPolicy::default()
                },
            ),
        ]
        .into(),
        ..EntityPolicy::default()
    };
    let policies = Policies::new([("tasks".to_owned(), of_tasks)]).expect("policies");
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config.auth.authorizer = Arc::new(policies);
    config
}

fn as_user(server: &TestServer, claims: &Value) -> Http {
    server.http().with_token(token(claims))
}

both_backends! {
    async fn rows_are_read_and_polled_with_their_clocks_and_one_by_its_key(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let http = server.http();
        let mut ann = connect(&server, 1).await;
        ann.push_next(json!([stamped(update("tasks", 1, json!({ "title": "milk" })), 1, 5)])).await.acked();
        let page = http.get(&format!("{PREFIX}/tasks")).await.json();
        let plain = http.get("/api/sync/tasks?mode=fields").await.json();
        assert_eq!(page["rows"], plain["rows"]);
        assert_eq!(page["rows"][0]["clocks"]["title"], hlc(1, 5));
        for path in ["tasks/1", "tasks/1/latest"] {
            assert_eq!(http.get(&format!("{PREFIX}/{path}")).await.json(), page["rows"][0], "{path}");
        }
        let part = http.get(&format!("{PREFIX}/tasks/1?columns=due")).await.json();
        assert_eq!(part["row"], json!({ "id": 1, "due": "b" }));
        assert_eq!((part.get("clocks"), part.get("edited")), (None, None), "{part}");
        ann.push_next(json!([stamped(update("tasks", 1, json!({ "due": "monday" })), 1, 6)])).await.acked();
        let cursor = page["cursor"].as_str().expect("a cursor");
        let changes = http.get(&format!("{PREFIX}/tasks?cursor={cursor}&wait_ms=20000")).await.json();
        let patch = &changes["changes"][0];
        assert_eq!((&patch["op"], &patch["values"]), (&json!("patch"), &json!({ "due": "monday" })), "{changes}");
        assert_eq!(patch["clocks"]["due"], hlc(1, 6));
    }

    async fn what_no_row_has_as_its_key_is_not_found(db: TestDatabase) {
        let mut config = config(&db, Deletes::Win).await;
        db.execute("CREATE TABLE parts (a integer, b text, n text, PRIMARY KEY (a, b))").await;
        db.execute("INSERT INTO parts VALUES (1, 'x/y', 'found')").await;
        config.entities.push(EntityConfig::new("parts").fields(Default::default()));
        let server = TestServer::with_config(config).await;
        let http = server.http();
        let found = http.get(&format!("{PREFIX}/parts/%5B1,%22x%2Fy%22%5D")).await.json();
        assert_eq!(found["row"]["n"], "found");
        for path in ["tasks/9", "tasks/one", "tasks/1%27%20OR%20TRUE", "parts/1", "parts/%5B1,%22x%22%5D", "parts/%5B1,%5B2%5D%5D"] {
            let answer = http.get(&format!("{PREFIX}/{path}")).await;
            assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")), "{path}");
        }
        for path in ["tasks?mode=rows", "tasks/1?mode=rows", "tasks/1?where=id=1", "tasks?order=[]"] {
            assert_eq!(http.get(&format!("{PREFIX}/{path}")).await.status, 400, "{path}");
        }
        assert_eq!(http.get(&format!("{PREFIX}/gone/1")).await.json()["code"], "unknown_entity");
    }

    async fn changes_of_fields_are_pushed(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let http = server.http();
        let path = format!("{PREFIX}/tasks");
        let later = push(1, 1, stamped(update("tasks", 1, json!({ "title": "later" })), 1, 9));
        let acked = http.post(&path, &later).await;
        assert_eq!((acked.status, &acked.json()["type"]), (200, &json!("ack")), "{}", acked.text);
        let earlier = push(2, 1, stamped(update("tasks", 1, json!({ "title": "earlier", "due": "monday" })), 2, 5));
        assert_eq!(http.post(&path, &earlier).await.status, 200);
        assert_eq!(task(&db, "title").await.as_deref(), Some("later"));
        assert_eq!(task(&db, "due").await.as_deref(), Some("monday"));
    }

    async fn entities_without_fields_are_not_here(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        db.execute("INSERT INTO notes VALUES (1, 'whole')").await;
        let mut config = config(&db, Deletes::Win).await;
        config.entities.push(EntityConfig::new("notes"));
        let server = TestServer::with_config(config).await;
        let http = server.http();
        for path in ["notes", "notes/1", "notes/1/latest"] {
            let answer = http.get(&format!("{PREFIX}/{path}")).await;
            assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("protocol")), "{path}");
        }
        let write = push(1, 1, update("notes", 1, json!({ "body": "x" })));
        assert_eq!(http.post(&format!("{PREFIX}/notes"), &write).await.json()["code"], "protocol");
        let kept = db.query_text("SELECT body FROM notes").await;
        assert_eq!(kept, [Some("whole".to_owned())]);
        let mut client = SyncClient::connect(&ws_url(&server), ClientOptions::default()).await;
        client.subscribe("n", "notes").await;
        assert_eq!(client.wait_refused("n").await, "protocol");
    }

    async fn a_websocket_for_fields_subscribes_to_them_without_a_mode(db: TestDatabase) {
        let server = serve(&db, Deletes::Win).await;
        let of_fields = ClientOptions { mode: Some("fields"), ..ClientOptions::default() };
        let mut client = SyncClient::connect(&ws_url(&server), of_fields).await;
        client.subscribe("t", "tasks").await;
        let joined = client.wait_for(|frame| frame["type"] == "subscribed").await;
        assert_eq!(joined["rules"]["strategy"], "last_write_wins");
        client.subscribe_with("r", json!({ "entity": "tasks", "mode": "rows" })).await;
        assert_eq!(client.wait_refused("r").await, "protocol");
        client.subscribe_with("f", json!({ "entity": "tasks", "mode": "fields", "columns": ["due"] })).await;
        client.wait_subscribed("f").await;
        client.push_next(json!([update("tasks", 1, json!({ "title": "pushed" }))])).await.acked();
        client.wait_until(|client| client.row("t", "1").is_some_and(|row| row["title"] == "pushed")).await;
        assert!(client.subscription("t").metadata()["1"]["clocks"]["title"].is_string());
    }

    async fn nobody_is_let_in_by_these_routes_whom_the_others_refuse(db: TestDatabase) {
        let server = TestServer::with_config(guarded(&db).await).await;
        let write = push(1, 1, update("tasks", 1, json!({ "due": "x" })));
        for path in ["tasks", "tasks/1", "tasks/1/latest", "notes", "notes/1", "gone"] {
            let path = format!("{PREFIX}/{path}");
            let http = server.http().with_token("no token");
            assert_eq!(http.get(&path).await.status, 401, "{path}");
            assert_eq!(http.post(&format!("{PREFIX}/tasks"), &write).await.status, 401);
            let foreign = reqwest::Client::new().get(server.http().url(&path)).header("Origin", "https://evil.example");
            let answer = foreign.bearer_auth(token(&json!({ "sub": "ann" }))).send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 403, "{path}");
        }
        // Of an entity without policies nobody learns that it exists.
        let ann = as_user(&server, &json!({ "sub": "ann" }));
        for path in ["ENTITY", "ENTITY/1", "ENTITY/1/latest", "ENTITY/x", "ENTITY?cursor=x"] {
            let [closed, gone] = ["notes", "gone"].map(|name| format!("{PREFIX}/{}", path.replace("ENTITY", name)));
            let (closed, gone) = (ann.get(&closed).await, ann.get(&gone).await);
            assert_eq!((closed.status, &closed.text), (gone.status, &gone.text), "{path}");
            assert_eq!(closed.json()["code"], "unknown_entity");
        }
        let [closed, gone] = ["notes", "gone"].map(|name| (format!("{PREFIX}/{name}"), push(1, 1, update(name, 1, json!({ "body": "x" })))));
        let (closed, gone) = (ann.post(&closed.0, &closed.1).await, ann.post(&gone.0, &gone.1).await);
        assert_eq!((closed.status, closed.text), (gone.status, gone.text));
        let mut client = SyncClient::connect(&ws_url(&server), options(&json!({ "sub": "ann" }))).await;
        for entity in ["notes", "gone"] {
            client.subscribe(entity, entity).await;
            assert_eq!(client.wait_refused(entity).await, "unknown_entity");
        }
    }

    async fn a_row_or_a_column_that_one_may_not_see_is_not_there(db: TestDatabase) {
        let server = TestServer::with_config(guarded(&db).await).await;
        let ann = as_user(&server, &json!({ "sub": "ann", "role": "member" }));
        db.execute("UPDATE tasks SET due = 'tuesday'").await;
        assert_eq!(ann.get(&format!("{PREFIX}/tasks/1")).await.json()["row"]["due"], "tuesday");
        let (hidden, absent) = (ann.get(&format!("{PREFIX}/tasks/2")).await, ann.get(&format!("{PREFIX}/tasks/9")).await);
        assert_eq!((hidden.status, hidden.text), (absent.status, absent.text));
        let rows = ann.get(&format!("{PREFIX}/tasks")).await.json();
        assert_eq!(rows["rows"].as_array().map(Vec::len), Some(1), "{rows}");
        // Who may not see the column learns neither its value nor when it was written.
        let reader = as_user(&server, &json!({ "sub": "eve", "role": "reader" }));
        for path in ["tasks", "tasks/1", "tasks/2/latest"] {
            let answer = reader.get(&format!("{PREFIX}/{path}")).await;
            assert!(answer.status == 200 && answer.text.contains("title"), "{}", answer.text);
            assert!(!answer.text.contains("due") && !answer.text.contains("tuesday"), "{path}: {}", answer.text);
        }
        let asked = reader.get(&format!("{PREFIX}/tasks/1?columns=due")).await;
        let unknown = reader.get(&format!("{PREFIX}/tasks/1?columns=dew")).await;
        assert_eq!((asked.status, asked.text.replace("due", "dew")), (unknown.status, unknown.text));
        // Nor may anybody write what is not theirs.
        let path = format!("{PREFIX}/tasks");
        let likes = ann.post(&path, &push(1, 1, update("tasks", 1, json!({ "likes": { "add": 1 } })))).await;
        assert_eq!(likes.json()["code"], "forbidden", "{}", likes.text);
        let [other, absent] = [2, 9].map(|key| push(1, 1, update("tasks", key, json!({ "due": "x" }))));
        assert_eq!(ann.post(&path, &other).await.json()["mutation"], 1);
        assert_eq!(ann.post(&path, &absent).await.status, 409);
        assert_eq!(task(&db, "likes").await.as_deref(), Some("1"));
        let due = db.query_text("SELECT due FROM tasks WHERE id = 2").await;
        assert_eq!(due, [Some("tuesday".to_owned())]);
    }
}
