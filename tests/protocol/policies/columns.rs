//! Columns that one may not read, or not write, or that the server fills in.

use rhtmx_sync::{ColumnPolicy, EntityPolicy};
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{SyncClient, TestDatabase, both_backends};

use super::{config, http, of_todos, serve, sign_in, subscriber, tables, titles, user};
use crate::claims::options;
use crate::writes::{create, update, upsert};

/// The policies with a column that only admins may read.
fn with_hidden_code() -> EntityPolicy {
    let mut policy = of_todos();
    let code = ColumnPolicy {
        readable: Some("auth.role = 'admin'".into()),
        ..ColumnPolicy::default()
    };
    policy.columns.insert("code".to_owned(), code);
    policy
}

both_backends! {
    async fn a_column_is_left_out_of_the_rows_in_which_one_may_not_read_it(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = subscriber(&server, &user("ann")).await;
        assert_eq!(ann.row("t", "2").expect("a row")["secret_note"], "secret of ann");
        assert!(ann.row("t", "4").expect("a row").get("secret_note").is_none());
        // It comes and goes with the right to it, in first reads, changes and resumes.
        db.execute("UPDATE todos SET owner_id = 'ann' WHERE id = 4").await;
        ann.wait_until(|ann| ann.row("t", "4").is_some_and(|row| row["secret_note"] == "secret of ben")).await;
        db.execute("UPDATE todos SET owner_id = 'ben', secret_note = 'unheard' WHERE id = 4").await;
        ann.wait_until(|ann| ann.row("t", "4").is_some_and(|row| row.get("secret_note").is_none())).await;
        // A change of nothing but what one may not read is none.
        let puts = ann.puts("t", "4");
        db.execute("UPDATE todos SET secret_note = 'unheard again' WHERE id = 4").await;
        db.execute("UPDATE todos SET title = 'heard' WHERE id = 2").await;
        ann.wait_until(|ann| ann.row("t", "2").is_some_and(|row| row["title"] == "heard")).await;
        assert_eq!(ann.puts("t", "4"), puts);
        assert!(!ann.transcript().contains("unheard"));
        let page = http(&server, &user("ann")).get("/api/sync/todos").await;
        assert!(page.text.contains("secret of ann") && !page.text.contains("unheard"), "{}", page.text);
        let mut some = sign_in(&server, &user("ann")).await;
        some.subscribe_with("t", json!({ "entity": "todos", "columns": ["secret_note"] })).await;
        some.wait_subscribed("t").await;
        assert_eq!(some.row("t", "4"), Some(&json!({ "id": 4 })));
        assert_eq!(some.row("t", "1"), Some(&json!({ "id": 1, "secret_note": "secret of ann" })));
    }

    /// CVE-2026-54698: a filter as a question.
    async fn a_filter_finds_nothing_out_about_a_column_that_one_may_not_read(db: TestDatabase) {
        let server = serve(&db).await;
        for filter in ["secret_note = 'secret of ben'", "secret_note IS NOT NULL", "NOT secret_note = 'x'", "secret_note LIKE 's%'"] {
            let mut ann = sign_in(&server, &user("ann")).await;
            ann.subscribe_with("t", json!({ "entity": "todos", "where": filter })).await;
            ann.wait_subscribed("t").await;
            assert!(ann.row("t", "4").is_none(), "{filter}");
            db.execute("UPDATE todos SET secret_note = 'x' WHERE id = 4").await;
            db.execute("UPDATE todos SET secret_note = 'secret of ben' WHERE id = 4").await;
            db.execute("INSERT INTO todos (id, owner_id, title, secret_note) VALUES (9, 'ann', 'heard', 'secret of ben')").await;
            ann.wait_until(|ann| ann.row("t", "9").is_some()).await;
            assert!(!ann.transcript().contains("ben two"), "{filter}");
            db.execute("DELETE FROM todos WHERE id = 9").await;
        }
    }

    async fn a_hidden_column_is_answered_as_one_that_does_not_exist(db: TestDatabase) {
        tables(&db).await;
        let server = TestServer::with_config(config(&db, with_hidden_code()).await).await;
        let mut ann = subscriber(&server, &user("ann")).await;
        assert!(ann.row("t", "1").expect("a row").get("code").is_none());
        assert!(!ann.transcript().contains("code"));
        for (hidden, missing) in [
            (json!({ "entity": "todos", "where": "code = 'a1'" }), json!({ "entity": "todos", "where": "gone = 'a1'" })),
            (json!({ "entity": "todos", "columns": ["code"] }), json!({ "entity": "todos", "columns": ["gone"] })),
        ] {
            ann.subscribe_with("hidden", hidden).await;
            ann.wait_refused("hidden").await;
            ann.subscribe_with("missing", missing).await;
            ann.wait_refused("missing").await;
            let [.., hidden, missing] = ann.errors() else { panic!("two errors") };
            assert_eq!(hidden["message"].to_string().replace("code", "gone"), missing["message"].to_string());
            assert_eq!(hidden["code"], missing["code"]);
            ann.unsubscribe("hidden").await;
            ann.unsubscribe("missing").await;
            ann = subscriber(&server, &user("ann")).await;
        }
        // A reject names no column that its writer does not know.
        let mut admin = subscriber(&server, &json!({ "sub": "ann", "role": "admin" })).await;
        assert_eq!(admin.row("t", "1").expect("a row")["code"], "a1");
        let default = match db.backend() {
            testkit::Backend::Postgres => "ALTER TABLE todos ADD CONSTRAINT short CHECK (length(code) < 3 OR title <> 'bad')",
            testkit::Backend::Sqlite => "CREATE TRIGGER short BEFORE UPDATE ON todos WHEN new.title = 'bad' BEGIN SELECT raise(abort, 'code'); END",
        };
        db.execute("UPDATE todos SET code = 'long' WHERE id = 2").await;
        db.execute(default).await;
        let bad = json!([update("todos", 2, json!({ "title": "bad" }))]);
        let rejection = ann.push_next(bad.clone()).await.rejected().clone();
        assert_eq!((rejection.code.as_str(), rejection.column), ("constraint", None));
        assert!(!rejection.message.contains("code"), "{}", rejection.message);
        assert_eq!(admin.push_next(bad).await.rejected().code, "constraint");
    }

    async fn the_server_fills_in_whose_a_row_is_and_takes_no_other_value(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = subscriber(&server, &user("ann")).await;
        ann.push_next(json!([create("todos", json!({ "id": 10, "title": "mine" }))])).await.acked();
        ann.push_next(json!([create("todos", json!({ "id": 11, "title": "mine", "owner_id": "ann" }))])).await.acked();
        ann.push_next(json!([upsert("todos", json!({ "id": 12, "title": "mine" }))])).await.acked();
        ann.push_next(json!([upsert("todos", json!({ "id": 12, "title": "mine again" }))])).await.acked();
        ann.wait_until(|ann| ann.row("t", "12").is_some_and(|row| row["title"] == "mine again")).await;
        for id in ["10", "11", "12"] {
            assert_eq!(ann.row("t", id).expect("a row")["owner_id"], "ann");
        }
        let before = titles(&db).await;
        for write in [
            create("todos", json!({ "id": 20, "title": "his", "owner_id": "ben" })),
            upsert("todos", json!({ "id": 20, "title": "his", "owner_id": "ben" })),
            upsert("todos", json!({ "id": 1, "title": "his", "owner_id": "ben" })),
            update("todos", 1, json!({ "owner_id": "ben" })),
        ] {
            let rejection = ann.push_next(json!([write])).await.rejected().clone();
            assert_eq!((rejection.code.as_str(), rejection.column.as_deref()), ("forbidden", Some("owner_id")), "{write}");
        }
        // Somebody who is nobody owns nothing.
        let mut nobody = testkit::SyncClient::connect(&server.ws_url(), testkit::ClientOptions::default()).await;
        let outcome = nobody.push_next(json!([create("todos", json!({ "id": 21, "title": "whose" }))])).await;
        assert_eq!(outcome.rejected().code, "forbidden");
        assert_eq!(titles(&db).await, before);
    }

    async fn a_column_that_one_may_not_write_is_rejected_by_name(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        for write in [
            update("todos", 1, json!({ "locked": true })),
            create("todos", json!({ "id": 10, "title": "x", "locked": true })),
            upsert("todos", json!({ "id": 1, "title": "x", "locked": false })),
        ] {
            let rejection = ann.push_next(json!([write])).await.rejected().clone();
            assert_eq!((rejection.code.as_str(), rejection.column.as_deref()), ("forbidden", Some("locked")), "{write}");
        }
        let mut admin = sign_in(&server, &json!({ "sub": "ann", "role": "admin" })).await;
        admin.push_next(json!([update("todos", 1, json!({ "locked": true }))])).await.acked();
        // Which forbids to delete it, in so many words: it is a row that she may read.
        let outcome = ann.push_next(json!([crate::writes::delete("todos", 1)])).await;
        assert_eq!(outcome.rejected().code, "forbidden");
    }
}

/// Answers are stored, and rights change. On SQLite no answer names a column that its write does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reject_that_is_told_again_names_no_column_that_one_may_no_longer_read() {
    let db = TestDatabase::postgres().await;
    tables(&db).await;
    db.execute("ALTER TABLE todos ADD CONSTRAINT short CHECK (length(code) < 2 OR title <> 'bad')")
        .await;
    let server = TestServer::with_config(config(&db, with_hidden_code()).await).await;
    let mut admin = sign_in(&server, &json!({ "sub": "ann", "role": "admin" })).await;
    let writes = json!([update("todos", 1, json!({ "title": "bad" }))]);
    let first = admin.push(1, writes.clone()).await.rejected().clone();
    assert_eq!(
        (first.code.as_str(), first.column.as_deref()),
        ("constraint", Some("code"))
    );
    let state = admin.into_state();
    let mut ann = SyncClient::reconnect(&server.ws_url(), options(&user("ann")), &state).await;
    let again = ann.push(1, writes).await.rejected().clone();
    assert_eq!((again.code.as_str(), again.column), ("constraint", None));
    assert!(!again.message.contains("code"), "{}", again.message);
}
