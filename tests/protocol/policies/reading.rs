//! Rows come and go with the rights to them.

use serde_json::json;
use testkit::{ClientOptions, SyncClient, both_backends};

use super::{http, keys, serve, sign_in, subscriber, user};
use crate::claims::{options, token};

both_backends! {
    async fn a_row_that_moves_into_or_out_of_somebodys_rights_enters_or_leaves(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (subscriber(&server, &user("ann")).await, subscriber(&server, &user("ben")).await);
        assert_eq!((keys(&ann), keys(&ben)), (vec!["1", "2", "4"], vec!["2", "3", "4"]));
        for (statement, to_ann, to_ben) in [
            ("UPDATE todos SET owner_id = 'ben' WHERE id = 1", &["2", "4"][..], &["1", "2", "3", "4"][..]),
            ("UPDATE todos SET visibility = 'private' WHERE id IN (2, 4)", &["2"], &["1", "3", "4"]),
            ("UPDATE todos SET visibility = 'public' WHERE id = 3", &["2", "3"], &["1", "3", "4"]),
            ("DELETE FROM todos WHERE id < 3", &["3"], &["3", "4"]),
        ] {
            db.execute(statement).await;
            ann.wait_until(|ann| keys(ann) == to_ann).await;
            ben.wait_until(|ben| keys(ben) == to_ben).await;
        }
        // What never was within somebody's rights is not heard of, nor is it that it went.
        for statement in [
            "INSERT INTO todos (id, owner_id, title) VALUES (77, 'cleo', 'unheard')",
            "UPDATE todos SET title = 'unheard too' WHERE id = 77",
            "DELETE FROM todos WHERE id = 77",
            "UPDATE todos SET title = 'heard' WHERE id = 3",
        ] {
            db.execute(statement).await;
        }
        for client in [&mut ann, &mut ben] {
            client.wait_until(|client| client.row("t", "3").is_some_and(|row| row["title"] == "heard")).await;
            assert!(!client.transcript().contains("\"77\"") && !client.transcript().contains("unheard"));
        }
    }

    async fn those_with_equal_rights_share_a_shape(db: TestDatabase) {
        let server = serve(&db).await;
        let mut shapes = Vec::new();
        for (name, filter) in [("ann", None), ("ann", Some("TRUE")), ("ben", None)] {
            let mut client = sign_in(&server, &json!({ "sub": name, "nonce": shapes.len() })).await;
            client.subscribe_with("t", json!({ "entity": "todos", "where": filter })).await;
            let frame = client.wait_for(|frame| frame["type"] == "subscribed").await;
            shapes.push(frame["shape"].as_str().expect("a name").to_owned());
        }
        assert_eq!(shapes[0], shapes[1]);
        assert_ne!(shapes[0], shapes[2]);
    }

    async fn a_client_with_history_unknown_to_the_server_is_told_no_key(db: TestDatabase) {
        let server = serve(&db).await;
        // The filter looks at the title, so the drain brings its previous values along, up to a bound.
        let mut ann = sign_in(&server, &user("ann")).await;
        ann.subscribe_with("t", json!({ "entity": "todos", "where": "title <> 'x'" })).await;
        ann.wait_subscribed("t").await;
        let large = "x".repeat(600_000);
        db.execute("INSERT INTO todos (id, owner_id, title) VALUES (77, 'ben', 'y')").await;
        db.execute(&format!(
            "BEGIN; UPDATE todos SET title = '1 {large}' WHERE id = 77; UPDATE todos SET title = '2 {large}' WHERE id = 77; \
             UPDATE todos SET title = '3 {large}' WHERE id = 77; DELETE FROM todos WHERE id = 77; COMMIT"
        )).await;
        db.execute("UPDATE todos SET title = 'heard' WHERE id = 1").await;
        ann.wait_until(|ann| ann.subscription("t").is_live() && ann.row("t", "1").is_some_and(|row| row["title"] == "heard")).await;
        assert!(!ann.transcript().contains("\"77\""), "{}", ann.transcript());
    }

    /// Roles and users that a client names beside its token, as in GHSA-rqpp-rjj8-7wv8.
    async fn what_a_client_says_of_itself_is_not_believed(db: TestDatabase) {
        let server = serve(&db).await;
        let said = json!({ "user": "ben", "user_id": "ben", "sub": "ben", "role": "admin", "scope": "all", "claims": { "sub": "ben", "role": "admin" } });
        let with = |mut frame: serde_json::Value| {
            for (name, value) in said.as_object().expect("members") {
                frame[name] = value.clone();
            }
            frame
        };
        let headers = vec![("x-user", "ben".to_owned()), ("x-role", "admin".to_owned()), ("x-forwarded-user", "ben".to_owned())];
        let connecting = ClientOptions { headers, ..options(&user("ann")) };
        let client_id = connecting.client_id;
        let mut ann = SyncClient::open(&server.ws_url(), connecting).await.expect("a connection");
        let hello = json!({ "type": "hello", "protocol": 1, "client_id": client_id, "token": token(&user("ann")) });
        ann.send_json(with(hello)).await;
        let welcome = ann.wait_for(|frame| frame["type"] == "welcome").await;
        assert_eq!(welcome["user"], "ann");
        ann.subscribe_with("t", with(json!({ "entity": "todos" }))).await;
        ann.wait_subscribed("t").await;
        assert_eq!(keys(&ann), ["1", "2", "4"]);
        ann.send_json(with(json!({ "type": "auth", "token": token(&user("ann")) }))).await;
        assert_eq!(ann.wait_for(|frame| frame["type"] == "authenticated").await["user"], "ann");
        db.execute("UPDATE todos SET title = title || '!'").await;
        ann.wait_until(|ann| ann.row("t", "1").is_some_and(|row| row["title"] == "ann one!")).await;
        assert!(!ann.transcript().contains("ben one"));
        let hidden = with(json!({ "entity": "todos", "op": "delete", "key": 3 }));
        assert_eq!(ann.push_next(json!([hidden])).await.rejected().code, "not_found");
        let page = http(&server, &user("ann")).get("/api/sync/todos?role=admin&user=ben&sub=ben").await;
        assert!(!page.text.contains("ben one"), "{}", page.text);
    }

    async fn http_answers_within_the_policies(db: TestDatabase) {
        let server = serve(&db).await;
        let ben = http(&server, &user("ben"));
        let page = ben.get("/api/sync/todos").await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(!page.text.contains("ann one") && !page.text.contains("secret of ann"), "{}", page.text);
        assert_eq!(page.json()["rows"].as_array().map(Vec::len), Some(3));
        let cursor = page.json()["cursor"].as_str().expect("a cursor").to_owned();
        db.execute("UPDATE todos SET title = title || '!', visibility = 'private'").await;
        let changes = ben.get(&format!("/api/sync/todos?cursor={cursor}&wait_ms=20000")).await;
        assert!(changes.text.contains("ben one!") && changes.text.contains("ben two!"), "{}", changes.text);
        assert!(!changes.text.contains("ann"), "{}", changes.text);
        assert!(changes.text.contains(r#"{"op":"leave","key":"2"}"#), "{}", changes.text);
        assert!(!changes.text.contains(r#""key":"1""#), "{}", changes.text);
    }
}
