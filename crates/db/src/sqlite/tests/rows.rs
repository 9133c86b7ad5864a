//! The JSON of rows.

use std::sync::Arc;

use diesel::sql_types::{BigInt, Double};
use diesel::{RunQueryDsl as _, sql_query};
use serde_json::{Value, json};

use super::Synced;
use crate::read::RowsQuery;
use sync_core::shape::Shape;

/// Checks the JSON of values in a column of this type.
async fn assert_json(sql_type: &str, values: &[(&str, Value)]) {
    let mut synced = Synced::new(
        &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {sql_type})"),
        "t",
    )
    .await;
    let schema = synced.entities["e"].schema.clone();
    for (value, json) in values {
        synced.run(&format!("DELETE FROM t; INSERT INTO t VALUES (1, {value})"));
        assert_eq!(synced.only("v").await, *json, "{sql_type} {value}");
        synced.follow().await;
        // The log has the same JSON for the old value, except for bytes, and for what no filter compares.
        let old = synced
            .entries("UPDATE t SET v = CASE WHEN v IS NULL THEN 'x' END")
            .pop()
            .and_then(|entry| entry.old);
        let old: Value = serde_json::from_str(&old.expect("an old value")).expect("JSON");
        let table = filter::Table::new(&schema, filter::Backend::Sqlite);
        if !filter::compares(table, 1) {
            assert_eq!(
                old["v"].is_null(),
                *value == "NULL",
                "old {sql_type} {value}"
            );
        } else if !value.contains("x'") && !value.contains("blob") {
            assert_eq!(old["v"], *json, "old {sql_type} {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_the_same_json_as_on_postgresql() {
    assert_json(
        "BIGINT",
        &[
            ("9007199254740992", json!(9_007_199_254_740_992_i64)),
            ("9007199254740993", json!("9007199254740993")),
            ("-9223372036854775808", json!("-9223372036854775808")),
            ("'text'", json!("text")),
            ("NULL", Value::Null),
            ("x'01ff'", json!({"base64": "Af8="})),
            ("1.5", json!(1.5)),
        ],
    )
    .await;
    assert_json(
        "BOOLEAN",
        &[
            ("1", json!(true)),
            ("FALSE", json!(false)),
            ("2", json!(2)),
            ("'maybe'", json!("maybe")),
        ],
    )
    .await;
    assert_json(
        "DOUBLE",
        &[
            ("0.1 + 0.2", json!(0.1 + 0.2)),
            ("3", json!(3)),
            ("-2.0", json!(-2)),
            ("1e300", json!(1e300)),
            ("5e-324", json!(5e-324)),
            ("1.7976931348623157e308", json!(1.797_693_134_862_315_7e308)),
            ("9e999", json!("Infinity")),
            ("-9e999", json!("-Infinity")),
        ],
    )
    .await;
    assert_json(
        "NUMERIC(10, 2)",
        &[
            ("'1.50'", json!(1.5)),
            ("12345678901234567", json!("12345678901234567")),
            ("'NaN'", json!("NaN")),
            ("-1e300", json!(-1e300)),
            ("9e999", json!("Infinity")),
            ("'Infinity'", json!({"text": "Infinity"})),
        ],
    )
    .await;
    assert_json(
        "TEXT",
        &[
            (
                "'it''s \"é🙂\" \\ ' || char(10) || char(31)",
                json!("it's \"é🙂\" \\ \n\u{1f}"),
            ),
            ("'{\"a\":1}'", json!("{\"a\":1}")),
            ("'123'", json!("123")),
            ("x'ff'", json!({"base64": "/w=="})),
        ],
    )
    .await;
    assert_json(
        "BLOB",
        &[
            ("x''", json!("")),
            ("x'00'", json!("AA==")),
            ("zeroblob(1000)", json!("A".repeat(1334) + "==")),
        ],
    )
    .await;
    assert_json(
        "JSON",
        &[
            (
                "'{\"a\": [1, null, true], \"b\": {}}'",
                json!({"a": [1, null, true], "b": {}}),
            ),
            ("'\"text\"'", json!("text")),
            ("'not json'", json!("not json")),
            ("'17'", json!(17)),
            ("'null'", Value::Null),
        ],
    )
    .await;
    assert_json("JSONB", &[("'[1,2]'", json!([1, 2]))]).await;
    assert_json(
        "UUID",
        &[
            (
                "'67e55044-10b1-426f-9247-bb680e5fe0c8'",
                json!("67e55044-10b1-426f-9247-bb680e5fe0c8"),
            ),
            ("9007199254740993", json!({"number": "9007199254740993"})),
            ("NULL", Value::Null),
        ],
    )
    .await;
    assert_json(
        "DATE",
        &[("'2026-11-20'", json!("2026-11-20")), ("20", json!(20))],
    )
    .await;
    assert_json(
        "TIMESTAMP",
        &[
            ("'2026-11-20 07:00:00'", json!("2026-11-20T07:00:00+00:00")),
            (
                "'2026-11-20 07:00:00.500'",
                json!("2026-11-20T07:00:00.5+00:00"),
            ),
            (
                "'2026-11-20 07:00:00.123456'",
                json!("2026-11-20T07:00:00.123456+00:00"),
            ),
            ("'2026-11-20T07:00:00Z'", json!("2026-11-20T07:00:00+00:00")),
            (
                "'2026-11-20T07:00:59.9999+02:00'",
                json!("2026-11-20T05:00:59.9999+00:00"),
            ),
            (
                "'2026-11-20 07:00:00 or so'",
                json!("2026-11-20 07:00:00 or so"),
            ),
            ("'soon'", json!("soon")),
            ("1700000000", json!(1_700_000_000)),
        ],
    )
    .await;
    assert_json(
        "",
        &[
            ("7", json!(7)),
            ("'7'", json!("7")),
            ("2.5", json!(2.5)),
            ("x'00'", json!("AA==")),
        ],
    )
    .await;
}

/// Before 3.53 SQLite itself writes only 15 digits, and the linked version depends on the program's other
/// crates.
#[tokio::test(flavor = "multi_thread")]
async fn doubles_keep_all_their_digits() {
    let mut synced = Synced::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v DOUBLE)", "t").await;
    // Multiplication by an odd number spreads the bits over all doubles.
    let bits = (1..=5000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let doubles: Vec<f64> = bits.map(f64::from_bits).filter(|v| v.is_finite()).collect();
    for (id, double) in (1..).zip(&doubles) {
        sql_query("INSERT INTO t VALUES (?1, ?2)")
            .bind::<BigInt, _>(id)
            .bind::<Double, _>(double)
            .execute(&mut synced.other)
            .expect("a row");
    }
    let (position, rows) = synced.rows().await;
    let read = |row: &Value| row["v"].as_f64().expect("a number");
    for (id, double) in (1..).zip(&doubles) {
        assert_eq!(read(&rows[&i32::to_string(&id)]), *double, "read");
    }
    synced.run("UPDATE t SET v = NULL");
    let old_value_columns = [("e".to_owned(), ["v".to_owned()].into())].into();
    let (_, entries) = synced.changes_with(&position, old_value_columns).await;
    assert_eq!(entries.len(), doubles.len());
    for entry in entries {
        let id: usize = entry.key.expect("a key").parse().expect("a number");
        let undo = entry.undo.expect("undo records");
        let old = undo[0].old.as_ref().expect("old values");
        let old = serde_json::from_str(old.get()).expect("JSON");
        // A trigger has only SQLite's own digits, and 3.51 gets the last of them wrong outside of this range.
        if (1e-80..1e110).contains(&doubles[id - 1].abs()) {
            assert_eq!(read(&old), doubles[id - 1], "old");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_json_is_read_as_json() {
    let mut synced = Synced::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v JSONB)", "t").await;
    synced
        .follow_each(&["INSERT INTO t VALUES (1, jsonb('{\"a\":[1,2]}'))"])
        .await;
    assert_eq!(synced.only("v").await, json!({"a": [1, 2]}));
}

/// Bytes that are not UTF-8 are replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_not_utf_8_can_be_read() {
    let mut synced = Synced::new("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)", "t").await;
    synced
        .follow_each(&[
            "INSERT INTO t VALUES ('a', CAST(x'61ff62' AS TEXT)), ('b', 'x' || char(0) || 'y')",
        ])
        .await;
    assert_eq!(synced.copy["a"]["v"], "a\u{fffd}b");
    synced
        .follow_each(&["UPDATE t SET v = 'fine'", "DELETE FROM t"])
        .await;
}

/// The position carries the hash of the newest entry, whatever bytes its key has.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_entry_may_have_any_key() {
    let mut synced = Synced::new("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)", "t").await;
    for key in ["CAST(x'6bff' AS TEXT)", "'k' || char(0)", "''"] {
        synced
            .follow_each(&[&format!("INSERT INTO t VALUES ({key}, 'x')")])
            .await;
    }
    assert_eq!(
        synced.copy.keys().collect::<Vec<_>>(),
        ["", "k\0", "k\u{fffd}"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_several_chunks_is_complete() {
    let mut synced = Synced::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "t").await;
    synced.run(
        "INSERT INTO t WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < \
         3000) \
         SELECT n, hex(zeroblob(200)) FROM n",
    );
    synced.follow().await;
    assert_eq!(synced.copy.len(), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_when_its_receiver_is_dropped() {
    let mut synced = Synced::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "t").await;
    synced.run(
        "INSERT INTO t WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < \
         5000) \
         SELECT n, 'v' FROM n",
    );
    let (sender, mut parts) = tokio::sync::mpsc::channel(1);
    let entity = synced.entities["e"].clone();
    let mut conn = synced.conn;
    let reading = tokio::spawn(async move {
        let query = RowsQuery::all(Shape::whole("e"), Arc::default());
        let read = super::read::Rows::new(&entity, &std::sync::Arc::default(), &query, &sender);
        drop(sender);
        super::read::read_rows(&mut conn, read.expect("a table"))
            .await
            .expect("a read");
        conn
    });
    parts.recv().await.expect("a part");
    // A writer does not wait for the reader.
    diesel::connection::SimpleConnection::batch_execute(&mut synced.other, "DELETE FROM t")
        .expect("a write");
    drop(parts);
    reading.await.expect("no panic");
}
