//! The log, the rows and the core spell keys alike.

use serde_json::json;
use sync_core::key;

use super::{Synced, entry};

/// Checks that rows with these values have these canonical keys, and that changes find them by their keys.
async fn assert_keys(columns: &str, values: &[(&str, &str)]) {
    let (columns, constraint) = columns
        .split_once(", PRIMARY")
        .map_or((columns, String::new()), |(columns, key)| {
            (columns, format!(", PRIMARY{key}"))
        });
    let mut synced = Synced::new(
        &format!("CREATE TABLE t ({columns}, v INT{constraint})"),
        "t",
    )
    .await;
    for (value, _) in values {
        synced.run(&format!("INSERT INTO t VALUES ({value}, 1)"));
    }
    synced.follow().await;
    let mut keys: Vec<&str> = values.iter().map(|(_, key)| *key).collect();
    keys.sort_unstable();
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), keys, "{columns}");
    assert!(synced.finds_rows_by_index().await, "{columns} is scanned");
    synced.follow_each(&["UPDATE t SET v = 2"]).await;
    assert!(
        synced.copy.values().all(|row| row["v"] == 2),
        "{columns}: {:?}",
        synced.copy
    );
    synced.follow_each(&["DELETE FROM t"]).await;
    assert!(synced.copy.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_column_are_spelled_by_their_type() {
    assert_keys(
        "k INTEGER PRIMARY KEY",
        &[("7", "7"), ("-9223372036854775808", "-9223372036854775808")],
    )
    .await;
    assert_keys(
        "k INT PRIMARY KEY",
        &[("7", "7"), ("'x'", "x"), ("1.5", "1.5"), ("2.0", "2")],
    )
    .await;
    assert_keys(
        "k TEXT PRIMARY KEY",
        &[
            ("'7'", "7"),
            ("7.0", "7.0"),
            ("''", ""),
            ("'a\"\\é🙂'", "a\"\\é🙂"),
            ("'it''s'", "it's"),
        ],
    )
    .await;
    assert_keys(
        "k UUID PRIMARY KEY",
        &[(
            "'67e55044-10b1-426f-9247-bb680e5fe0c8'",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
        )],
    )
    .await;
    assert_keys(
        "k BOOLEAN PRIMARY KEY",
        &[("TRUE", "true"), ("0", "false"), ("2", "2")],
    )
    .await;
    assert_keys(
        "k REAL PRIMARY KEY",
        &[
            ("0.1 + 0.2", "0.30000000000000004"),
            ("3", "3"),
            ("-0.5", "-0.5"),
        ],
    )
    .await;
    assert_keys("k DATE PRIMARY KEY", &[("'2026-11-20'", "2026-11-20")]).await;
    assert_keys(
        "k TIMESTAMP PRIMARY KEY",
        &[("'2026-11-20 07:00:00'", "2026-11-20 07:00:00")],
    )
    .await;
    assert_keys(
        "k BLOB PRIMARY KEY",
        &[
            ("x''", ""),
            ("x'00'", "AA=="),
            ("x'0001'", "AAE="),
            ("x'fbefff'", "++//"),
            ("x'00102030405060708090'", "ABAgMEBQYHCAkA=="),
        ],
    )
    .await;
    assert_keys(
        "k PRIMARY KEY",
        &[("7", "7"), ("'x'", "x"), ("'007'", "007")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_columns_are_spelled_as_the_core_spells_them() {
    let text = "a\"\\/\u{8}\u{c}\n\r\t\u{1f}\u{7f}é🙂\u{2028}";
    let quoted = text.replace('\'', "''");
    let key = |values: &[serde_json::Value]| key::canonical(values);
    assert_keys(
        "a INTEGER, b TEXT, PRIMARY KEY (a, b)",
        &[
            (&format!("1, '{quoted}'"), &key(&[json!(1), json!(text)])),
            (
                "9007199254740992, '9'",
                &key(&[json!(9_007_199_254_740_992_i64), json!("9")]),
            ),
            (
                "9007199254740993, '5'",
                &key(&[json!("9007199254740993"), json!("5")]),
            ),
        ],
    )
    .await;
    assert_keys(
        "a BOOL, b BLOB, c REAL, d, PRIMARY KEY (d, c, b, a)",
        &[
            (
                "1, x'0001', 1.5, 'x'",
                &key(&[json!("x"), json!(1.5), json!("AAE="), json!(true)]),
            ),
            (
                "0, x'', 2.0, 5",
                &key(&[json!(5), json!(2), json!(""), json!(false)]),
            ),
            (
                "0, x'', 2.0, '5'",
                &key(&[json!("5"), json!(2), json!(""), json!(false)]),
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_equal_only_under_a_collation_are_two() {
    let mut synced = Synced::new(
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v TEXT COLLATE NOCASE)",
        "t",
    )
    .await;
    synced
        .follow_each(&[
            "INSERT INTO t VALUES ('a', 'x')",
            "UPDATE t SET k = 'A'",
            "REPLACE INTO t VALUES ('a', 'y')",
        ])
        .await;
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), ["a"]);
    let respelled = synced.entries("UPDATE t SET v = 'Y'");
    // No filter compares texts of such a column, so the log says only that it changed.
    assert_eq!(respelled, [entry("a", "update", Some(r#"{"v":0}"#))]);
    synced.follow().await;
}

/// A row whose key is null, or whose key's text is also another key's, is not synced.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_identified_are_left_out() {
    let mut synced = Synced::new("CREATE TABLE t (k TEXT PRIMARY KEY, v)", "t").await;
    synced
        .follow_each(&[
            "INSERT INTO t VALUES (NULL, 1), (NULL, 2), (x'00', 3), ('n', 4)",
            "UPDATE t SET v = v + 1",
            "UPDATE t SET k = NULL WHERE k = 'n'",
            "UPDATE t SET k = 'named' WHERE v = 2",
            "REPLACE INTO t VALUES (x'00', 9)",
            "DELETE FROM t WHERE k IS NULL",
        ])
        .await;
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), ["named"]);
    let mut untyped = Synced::new("CREATE TABLE t (k PRIMARY KEY, v)", "t").await;
    untyped
        .follow_each(&[
            "INSERT INTO t VALUES (5, 1), ('5', 2)",
            "UPDATE t SET v = 3",
            "DELETE FROM t",
        ])
        .await;
}
