//! What is not taken, who is not let in, and what comes of it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _};
use merge::Rules;
use rhtmx_sync::{
    AuthError, Authenticator, ColumnAccess, ColumnPolicy, DbPool, EntityConfig, EntityPolicy,
    Policies, Principal, SyncConfig,
};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{TestDatabase, both_backends};
use tokio_tungstenite::tungstenite::Message;

use super::node::{Connection, Hlc, dial};
use super::{config, node, rows, serve, url, wait_for, wait_for_count};

/// Whose token is a name, that is the user's.
#[derive(Debug)]
struct NamesAreTokens;

impl Authenticator for NamesAreTokens {
    fn verify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Principal, AuthError>> {
        let no_token = || AuthError::Unauthenticated("no token".to_owned());
        let verified = token.map(Principal::of_user).ok_or_else(no_token);
        async move { verified }.boxed()
    }
}

/// Lists that each sees and writes if it is named like the user, and todos that nobody may see.
async fn guarded(db: &TestDatabase) -> TestServer {
    let mut config = config(db).await;
    let own = "name = auth.sub";
    let lists = EntityPolicy {
        read: Some(own.to_owned()),
        create: Some(own.to_owned()),
        update: Some(own.into()),
        delete: Some(own.to_owned()),
        ..EntityPolicy::default()
    };
    let policies = [
        ("lists".to_owned(), lists),
        ("todos".to_owned(), EntityPolicy::default()),
    ];
    config.auth.authorizer = Arc::new(Policies::new(policies).expect("policies"));
    config.auth.authenticator = Arc::new(NamesAreTokens);
    TestServer::with_config(config).await
}

both_backends! {
    async fn a_node_gets_and_writes_what_its_user_may(db: TestDatabase) {
        let server = guarded(&db).await;
        db.execute("INSERT INTO lists (id, name) VALUES (1, 'ann'), (2, 'ben'), (3, 'ben')").await;
        db.execute("DELETE FROM lists WHERE id = 3").await;
        db.execute("INSERT INTO todos (id, title) VALUES (1, 'secret')").await;
        let mut ann = node("phone");
        ann.put("lists", json!({"id": 2, "name": "ann"}));
        ann.put("lists", json!({"id": 4, "name": "ben"}));
        ann.put("lists", json!({"id": 5, "name": "ann"}));
        ann.put("todos", json!({"id": 2, "list_id": null, "title": "mine", "note": null, "done": 0}));
        let mut connection = Connection::open(&ann, &url(&server), json!({"token": "ann"})).await;
        connection.send_missed(&ann).await;
        wait_for(&db, "lists", 5, "name", json!("ann")).await;
        db.execute("UPDATE lists SET name = 'ben' WHERE id = 2").await;
        db.execute("INSERT INTO lists (id, name) VALUES (6, 'ann')").await;
        connection.until(&mut ann, |ann| ann.tables["lists"].rows.contains_key("6")).await;
        let of_others = |name: &str, ids: &[&str]| {
            let table = &ann.tables[name];
            ids.iter().all(|id| !table.rows.contains_key(*id))
        };
        assert!(of_others("lists", &["3"]) && of_others("todos", &["1"]), "{ann:#?}");
        assert_eq!(ann.shown("lists")["1"]["name"], "ann");
        let names: Vec<Value> = rows(&db, "lists").await.into_values().map(|row| row["name"].clone()).collect();
        assert_eq!(names, ["ann", "ben", "ann", "ann"].map(Value::from));
        assert_eq!(rows(&db, "todos").await.len(), 1);
        assert_eq!(ann.errors, Vec::<String>::new());
    }

    async fn who_shows_no_token_gets_an_opening_that_asks_for_nothing_and_is_closed(db: TestDatabase) {
        let server = guarded(&db).await;
        let mut ann = node("phone");
        ann.put("lists", json!({"id": 5, "name": "ann"}));
        let connection = Connection::open(&ann, &url(&server), Value::Null).await;
        assert!(connection.wanted_after > ann.tables["lists"].rows["5"].hlc);
        assert_eq!(connection.closed().await, Some(4401));
    }

    async fn a_column_that_a_user_may_not_write_stays_and_the_rest_is_taken(db: TestDatabase) {
        let mut config = config(&db).await;
        let of_server = ColumnPolicy {
            writable: Some(ColumnAccess::Always(false)),
            ..ColumnPolicy::default()
        };
        let everybody = Some("TRUE".to_owned());
        let todos = EntityPolicy {
            read: everybody.clone(),
            create: everybody.clone(),
            update: Some("TRUE".into()),
            delete: everybody,
            columns: [("note".to_owned(), of_server)].into(),
        };
        let policies = [("todos".to_owned(), todos)];
        config.auth.authorizer = Arc::new(Policies::new(policies).expect("policies"));
        let server = TestServer::with_config(config).await;
        db.execute("INSERT INTO todos (id, title, note) VALUES (1, 'milk', 'kept')").await;
        let mut ann = node("ann");
        let mut connection = Connection::start(&ann, &url(&server)).await;
        connection.until(&mut ann, |ann| ann.shown("todos").len() == 1).await;
        let hlc = ann.put("todos", json!({"id": 1, "title": "bread", "note": "mine"}));
        connection.send_change(&ann, &hlc).await;
        wait_for(&db, "todos", 1, "title", json!("bread")).await;
        assert_eq!(rows(&db, "todos").await["1"]["note"], "kept");
    }

    async fn a_clock_from_the_future_waits_and_the_others_go_on(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = node("ann");
        ann.put("lists", json!({"id": 1, "name": "now"}));
        let now = ann.tables["lists"].rows["1"].hlc.clone();
        ann.ahead_micros = 3_600_000_000;
        ann.put("lists", json!({"id": 2, "name": "in an hour"}));
        let connection = Connection::start(&ann, &url(&server)).await;
        wait_for(&db, "lists", 1, "name", json!("now")).await;
        connection.end().await;
        for _ in 0..2 {
            let connection = Connection::open(&ann, &url(&server), Value::Null).await;
            assert!(connection.wanted_after < now, "all is asked for again");
            connection.end().await;
        }
        assert_eq!(rows(&db, "lists").await.len(), 1);
        // It has poisoned nothing: another node still writes.
        let mut ben = node("ben");
        ben.put("lists", json!({"id": 2, "name": "of ben"}));
        let _of_ben = Connection::start(&ben, &url(&server)).await;
        wait_for(&db, "lists", 2, "name", json!("of ben")).await;
    }

    async fn what_cannot_be_taken_holds_nothing_else_up(db: TestDatabase) {
        let server = serve(&db).await;
        let ann = node("ann");
        let mut connection = Connection::start(&ann, &url(&server)).await;
        let hlc = |number: u8| format!("2026-01-01T00:00:00.{number:03}Z-0000-ann");
        let list = |id: u8, name: Value| json!({"id": id, "name": name, "hlc": hlc(id)});
        let changeset = json!({
            "pg_authid": [{"rolname": "me", "hlc": hlc(1)}],
            "lists\"; DROP TABLE lists; --": [{"id": 1, "hlc": hlc(1)}],
            "todos": [
                {"id": 1, "list_id": 77, "title": "no such list", "hlc": hlc(1)},
                {"id": 2, "list_id": 5, "title": "of five", "hlc": hlc(2)},
                {"id": 3, "title": "some columns", "hlc": hlc(3)},
                {"id": 4, "title": "x", "no such column": 1, "hlc": hlc(4)},
                {"id": 5, "title": "x", "title\" = '': --": 1, "hlc": hlc(5)},
                {"id": 6, "title": "x", "done": "maybe", "hlc": hlc(6)},
                {"id": 7, "note": "no title", "hlc": hlc(7)},
                {"id": 8, "title": "of another", "hlc": "2026-01-01T00:00:00.000Z-0000-ben"},
                {"id": 9, "title": "no clock", "hlc": "yesterday"},
                "no record",
                {"title": "no key", "hlc": hlc(10)},
            ],
            "lists": [list(4, Value::Null), list(5, json!("five")), {"id": 6, "is_deleted": 1, "hlc": hlc(6)}],
        });
        connection.send(changeset.to_string()).await;
        wait_for(&db, "todos", 3, "title", json!("some columns")).await;
        wait_for(&db, "todos", 2, "title", json!("of five")).await;
        assert_eq!(rows(&db, "todos").await.len(), 2);
        assert_eq!(rows(&db, "lists").await.len(), 1);
        // The parent of the one that waited for it.
        connection.send(json!({"lists": [list(77, json!("late"))]}).to_string()).await;
        wait_for_count(&db, "todos", 3).await;
        connection.end().await;
        let connection = Connection::open(&ann, &url(&server), Value::Null).await;
        assert_eq!(Hlc::parse(&connection.wanted_after).micros, 0, "some may be taken another time");
    }

    async fn garbage_ends_a_connection_and_nothing_else(db: TestDatabase) {
        let server = serve(&db).await;
        for first in ["", "{", "[]", "null", r#"{"node_id": "a"}"#, r#"{"node_id": "a:b", "last_modified": "2026-01-01T00:00:00.000Z-0000-a"}"#,
            r#"{"node_id": "a", "last_modified": "yesterday"}"#, r#"{"node_id": "a", "last_modified": "2026-01-01T00:00:00.000Z-0000-a", "data": 5}"#] {
            let mut socket = dial(&url(&server)).await;
            socket.send(Message::text(first)).await.expect("a connection");
            assert_eq!(closed(socket).await, Some(4400), "{first}");
        }
        let mut ann = node("ann");
        for text in ["", "{", "[]", r#"{"lists": 5}"#, r#"{"lists": {"id": 1}}"#] {
            let mut connection = Connection::start(&ann, &url(&server)).await;
            connection.send(text.to_owned()).await;
            assert_eq!(connection.closed().await, Some(4400), "{text}");
        }
        let own = db.query_text("SELECT node FROM _rhtmx_sync_meta").await.remove(0).expect("a name");
        let mut socket = dial(&url(&server)).await;
        let opening = json!({"node_id": own, "last_modified": Hlc::zero(&own).to_string(), "data": null});
        socket.send(Message::text(opening.to_string())).await.expect("a connection");
        assert_eq!(closed(socket).await, Some(4403));
        ann.put("lists", json!({"id": 1, "name": "still here"}));
        let _connection = Connection::start(&ann, &url(&server)).await;
        wait_for(&db, "lists", 1, "name", json!("still here")).await;
    }

    async fn there_is_no_such_route_unless_it_is_configured(db: TestDatabase) {
        let mut config = config(&db).await;
        config.crdt = false;
        let server = TestServer::with_config(config).await;
        assert!(tokio_tungstenite::connect_async(url(&server)).await.is_err());
        let client = server.connect().await;
        assert!(!client.welcome()["features"].as_array().expect("names").contains(&json!("crdt")));
    }
}

/// A node that gets no answer would not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_the_database_is_out_of_reach_is_answered_and_closed() {
    let nowhere = DbPool::from_url("postgresql://nobody@127.0.0.1:1/nowhere")
        .await
        .expect("it may come up later");
    let lists = EntityConfig::new("lists").fields(Rules::default());
    let mut config = SyncConfig::new(nowhere, vec![lists]);
    config.crdt = true;
    let server = TestServer::with_config(config).await;
    let ann = node("phone");
    let connection = Connection::open(&ann, &url(&server), Value::Null).await;
    assert_eq!(connection.closed().await, Some(1001));
}

async fn closed(
    mut socket: tokio_tungstenite::WebSocketStream<
        tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>,
    >,
) -> Option<u16> {
    use futures_util::StreamExt as _;
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}
