//! Values of the wrong type, for every type.

use super::*;

const POSTGRES: &str = "
    CREATE TYPE level AS ENUM ('low', 'high');
    CREATE TABLE kinds (
        id integer PRIMARY KEY, flag boolean, small smallint, big bigint, ratio real,
        ratio8 double precision, amount numeric, fixed numeric(5,2), body text, code uuid,
        day date, at timestamp, at_zone timestamptz, bytes bytea, doc jsonb, level level,
        numbers integer[], texts text[], address inet, span interval, pair int4range
    )";

/// Columns that exist in SQLite's tables too are in both lists.
fn cases() -> Vec<(&'static str, Value)> {
    vec![
        ("flag", json!("true")),
        ("flag", json!(1)),
        ("small", json!(40_000)),
        ("small", json!("x")),
        ("big", json!("9223372036854775808")),
        ("big", json!(1e20)),
        ("ratio", json!("x")),
        ("ratio", json!(true)),
        ("ratio", json!(1e300)),
        ("ratio8", json!("1.5")),
        ("ratio8", json!([])),
        ("amount", json!("12,5")),
        ("amount", json!(false)),
        ("fixed", json!(1000)),
        ("body", json!(1)),
        ("body", json!({ "a": 1 })),
        ("body", json!("\0")),
        ("code", json!("not a uuid")),
        ("code", json!(1)),
        ("day", json!("2026-02-30")),
        ("day", json!("yesterday")),
        ("day", json!(20_261_120)),
        ("at", json!("2026-11-20T25:00:00")),
        ("at", json!("now")),
        ("at_zone", json!("2026-11-20")),
        ("at_zone", json!(0)),
        ("bytes", json!("no base64!")),
        ("bytes", json!([1, 2])),
        ("doc", json!({ "a": "\0" })),
        ("level", json!("middle")),
        ("level", json!(1)),
        ("numbers", json!("{1,2}")),
        ("numbers", json!([1, "x"])),
        ("numbers", json!([[1], [2, 3]])),
        ("texts", json!([1])),
        ("texts", json!(["\0"])),
        ("address", json!("300.0.0.1")),
        ("address", json!({})),
        ("span", json!("a while")),
        ("pair", json!("[5,1)")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_the_wrong_type_are_rejected_on_postgres() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!(
        "{NOTES}; {POSTGRES}; INSERT INTO kinds (id) VALUES (1)"
    ))
    .await;
    let server = TestServer::start(&db, ["notes", "kinds"]).await;
    let mut client = server.connect().await;
    for (column, value) in cases() {
        let reason = ("invalid", Some(1), Some(column));
        let writes = json!([note(5, "x"), update("kinds", 1, json!({ column: value }))]);
        assert_rejected(&mut client, writes, reason).await;
        let reason = ("invalid", Some(0), Some(column));
        let writes = json!([create("kinds", json!({ "id": 2, column: value }))]);
        assert_rejected(&mut client, writes, reason).await;
    }
    assert_eq!(
        (count(&db, "kinds").await, count(&db, "notes").await),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_the_wrong_type_are_rejected_on_sqlite() {
    let db = TestDatabase::sqlite().await;
    let table = "CREATE TABLE kinds (
        id integer PRIMARY KEY, flag boolean, big bigint, ratio8 double precision,
        body text, code uuid, day date, at timestamp, at_zone timestamptz, bytes blob,
        doc json)";
    db.execute(&format!(
        "{NOTES}; {table}; INSERT INTO kinds (id) VALUES (1)"
    ))
    .await;
    let server = TestServer::start(&db, ["notes", "kinds"]).await;
    let mut client = server.connect().await;
    for (column, value) in cases()
        .into_iter()
        .filter(|(column, _)| table.contains(&format!(" {column} ")))
    {
        let reason = ("invalid", Some(1), Some(column));
        let writes = json!([note(5, "x"), update("kinds", 1, json!({ column: value }))]);
        assert_rejected(&mut client, writes, reason).await;
    }
    assert_eq!(
        (count(&db, "kinds").await, count(&db, "notes").await),
        (1, 1)
    );
}
