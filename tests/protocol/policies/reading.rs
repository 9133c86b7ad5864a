//! Rows come and go with the rights to them.

use serde_json::json;
use testkit::both_backends;

use super::{http, keys, serve, sign_in, subscriber, user};

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
