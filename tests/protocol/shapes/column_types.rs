//! Columns that a filter may not compare in every way: a comparison whose answer only the database
//! could repeat is an error. A projection may have every column.

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, TestDatabase};

use super::polling::path;
use super::subscribers::{ENTITIES, changes_after, ops_of, pending_changes, subscribe};
use super::todos::FENCE;

/// A server over todos with these columns.
async fn serve(db: &TestDatabase, columns: &str) -> TestServer {
    db.execute(&format!(
        "{FENCE}; CREATE TABLE todos (id integer PRIMARY KEY, {columns})"
    ))
    .await;
    TestServer::start(db, ENTITIES).await
}

/// The codes that filters are answered with, `ok` for success.
async fn answers(server: &TestServer, filters: &[&str]) -> Vec<String> {
    let mut answers = Vec::new();
    for filter in filters {
        let reply = server
            .http()
            .get(&path("todos", &[("where", filter)]))
            .await;
        let code = reply.json()["code"].as_str().unwrap_or("ok").to_owned();
        answers.push(format!("{filter}: {code}"));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_compare_only_repeatable_columns_on_postgres() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        .await;
    let columns = "bytes text COLLATE \"C\", words text COLLATE \"und-x-icu\", loose text COLLATE loose, \
                   fixed char(3), doc jsonb, list integer[], blob bytea, span interval, ok varchar(9)";
    let server = serve(&db, columns).await;
    let filters = [
        "bytes < 'b'",
        "words = 'b'",
        "words < 'b'",
        "words LIKE 'b%'",
        "loose = 'b'",
        "fixed = 'b'",
        "doc = '1'",
        "doc IS NULL",
        "list = '{1}'",
        "list IS NULL",
        "blob = 'x'",
        "blob IS NOT NULL",
        "span = '1 day'",
        "span IS NULL",
        "ok = 'b'",
        "loose IS NULL",
        "fixed IS NULL",
    ];
    let errors = [
        "words <", "loose = ", "fixed = ", "doc ", "list = ", "blob = ", "span = ",
    ];
    for answer in answers(&server, &filters).await {
        let is_error = errors.iter().any(|begin| answer.starts_with(begin));
        let expected = if is_error { "bad_filter" } else { "ok" };
        assert!(answer.ends_with(expected), "{answer}");
    }
    // All of them may be projected and compared with null.
    let mut client = server.connect().await;
    subscribe(
        &mut client,
        "a",
        json!({ "columns": ["doc", "list", "blob"] }),
    )
    .await;
    subscribe(
        &mut client,
        "b",
        json!({ "where": "list IS NULL AND blob IS NULL" }),
    )
    .await;
    subscribe(
        &mut client,
        "c",
        json!({ "where": "bytes < 'b'", "columns": [] }),
    )
    .await;
    pending_changes(&mut client).await;
    let sql = "INSERT INTO todos (id, bytes, doc) VALUES (1, 'a', 'null')";
    let frames = changes_after(&mut client, &db, sql).await;
    assert_eq!(frames.len(), 3);
    let sql = "UPDATE todos SET bytes = 'B', list = '{1,2}', blob = '\\x00ff'";
    let frames = changes_after(&mut client, &db, sql).await;
    assert_eq!(ops_of(&client, "a", &frames), ["put 1"]);
    assert_eq!(ops_of(&client, "b", &frames), ["leave 1"]);
    assert_eq!(ops_of(&client, "c", &frames), [""; 0]);
    assert_eq!(
        client.row("a", "1"),
        Some(&json!({ "id": 1, "doc": null, "list": [1, 2], "blob": "AP8=" }))
    );
    let frames = changes_after(&mut client, &db, "UPDATE todos SET bytes = 'é'").await;
    assert_eq!(ops_of(&client, "c", &frames), ["leave 1"]);
}

/// A column that is computed when it is read changes with the columns it is computed from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_compare_only_repeatable_columns_on_sqlite() {
    let db = TestDatabase::new(Backend::Sqlite).await;
    let columns = "n integer, t text, loose text COLLATE NOCASE, at timestamp, \
                   twice integer GENERATED ALWAYS AS (n * 2) VIRTUAL";
    let server = serve(&db, columns).await;
    let filters = [
        "n = 1",
        "t < 'b'",
        "t LIKE 'b%'",
        "loose = 'b'",
        "at = '2026-01-01'",
        "at IS NULL",
        "twice = 2",
        "twice IS NULL",
    ];
    let errors = ["loose = ", "at = "];
    for answer in answers(&server, &filters).await {
        let is_error = errors.iter().any(|begin| answer.starts_with(begin));
        let expected = if is_error { "bad_filter" } else { "ok" };
        assert!(answer.ends_with(expected), "{answer}");
    }
    let mut client = server.connect().await;
    subscribe(
        &mut client,
        "a",
        json!({ "where": "n > 0", "columns": ["twice"] }),
    )
    .await;
    pending_changes(&mut client).await;
    changes_after(
        &mut client,
        &db,
        "INSERT INTO todos (id, n, t) VALUES (1, 1, 'x')",
    )
    .await;
    assert_eq!(client.row("a", "1"), Some(&json!({ "id": 1, "twice": 2 })));
    changes_after(&mut client, &db, "UPDATE todos SET n = 2").await;
    assert_eq!(client.row("a", "1"), Some(&json!({ "id": 1, "twice": 4 })));
    subscribe(
        &mut client,
        "b",
        json!({ "where": "twice = 4", "columns": ["t"] }),
    )
    .await;
    let frames = changes_after(&mut client, &db, "UPDATE todos SET n = -1").await;
    assert_eq!(ops_of(&client, "a", &frames), ["leave 1"]);
    assert_eq!(ops_of(&client, "b", &frames), ["leave 1"]);
}
