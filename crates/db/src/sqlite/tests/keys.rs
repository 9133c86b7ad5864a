//! How the log, the rows and the core spell keys.

use serde_json::json;
use sync_core::key;

use super::{Synced, entry};

/// A table with this key holds rows under these names, and changes find them.
async fn spelled(columns: &str, values: &[(&str, &str)]) {
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
    let mut names: Vec<&str> = values.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), names, "{columns}");
    assert!(synced.looks_rows_up().await, "{columns} is scanned");
    synced.follows(&["UPDATE t SET v = 2"]).await;
    assert!(
        synced.copy.values().all(|row| row["v"] == 2),
        "{columns}: {:?}",
        synced.copy
    );
    synced.follows(&["DELETE FROM t"]).await;
    assert!(synced.copy.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_column() {
    spelled(
        "k INTEGER PRIMARY KEY",
        &[("7", "7"), ("-9223372036854775808", "-9223372036854775808")],
    )
    .await;
    spelled(
        "k INT PRIMARY KEY",
        &[("7", "7"), ("'x'", "x"), ("1.5", "1.5"), ("2.0", "2")],
    )
    .await;
    spelled(
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
    spelled(
        "k UUID PRIMARY KEY",
        &[(
            "'67e55044-10b1-426f-9247-bb680e5fe0c8'",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
        )],
    )
    .await;
    spelled(
        "k BOOLEAN PRIMARY KEY",
        &[("TRUE", "true"), ("0", "false"), ("2", "2")],
    )
    .await;
    spelled(
        "k REAL PRIMARY KEY",
        &[
            ("0.1 + 0.2", "0.30000000000000004"),
            ("3", "3"),
            ("-0.5", "-0.5"),
        ],
    )
    .await;
    spelled("k DATE PRIMARY KEY", &[("'2026-11-20'", "2026-11-20")]).await;
    spelled(
        "k TIMESTAMP PRIMARY KEY",
        &[("'2026-11-20 07:00:00'", "2026-11-20 07:00:00")],
    )
    .await;
    spelled(
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
    spelled(
        "k PRIMARY KEY",
        &[("7", "7"), ("'x'", "x"), ("'007'", "007")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_columns_are_spelled_as_the_core_spells_them() {
    let text = "a\"\\/\u{8}\u{c}\n\r\t\u{1f}\u{7f}é🙂\u{2028}";
    let quoted = text.replace('\'', "''");
    let name = |values: &[serde_json::Value]| key::canonical(values);
    spelled(
        "a INTEGER, b TEXT, PRIMARY KEY (a, b)",
        &[
            (&format!("1, '{quoted}'"), &name(&[json!(1), json!(text)])),
            (
                "9007199254740992, '9'",
                &name(&[json!(9_007_199_254_740_992_i64), json!("9")]),
            ),
            (
                "9007199254740993, '5'",
                &name(&[json!("9007199254740993"), json!("5")]),
            ),
        ],
    )
    .await;
    spelled(
        "a BOOL, b BLOB, c REAL, d, PRIMARY KEY (d, c, b, a)",
        &[
            (
                "1, x'0001', 1.5, 'x'",
                &name(&[json!("x"), json!(1.5), json!("AAE="), json!(true)]),
            ),
            (
                "0, x'', 2.0, 5",
                &name(&[json!(5), json!(2), json!(""), json!(false)]),
            ),
            (
                "0, x'', 2.0, '5'",
                &name(&[json!("5"), json!(2), json!(""), json!(false)]),
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collations_do_not_make_two_keys_one() {
    let mut synced = Synced::new(
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v TEXT COLLATE NOCASE)",
        "t",
    )
    .await;
    synced
        .follows(&[
            "INSERT INTO t VALUES ('a', 'x')",
            "UPDATE t SET k = 'A'",
            "REPLACE INTO t VALUES ('a', 'y')",
        ])
        .await;
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), ["a"]);
    let respelled = synced.entries("UPDATE t SET v = 'Y'");
    assert_eq!(respelled, [entry("a", "update", Some(r#"{"v":"y"}"#))]);
    synced.follow().await;
}

/// A key that is null, or cannot be told from another, has no name, and its row is left out.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_name_harm_nobody() {
    let mut synced = Synced::new("CREATE TABLE t (k TEXT PRIMARY KEY, v)", "t").await;
    synced
        .follows(&[
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
        .follows(&[
            "INSERT INTO t VALUES (5, 1), ('5', 2)",
            "UPDATE t SET v = 3",
            "DELETE FROM t",
        ])
        .await;
}
