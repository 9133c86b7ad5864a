//! Values of every type as the protocol writes them: nothing is lost on the way to a browser.

use serde_json::{Value, json};

use super::watch::Watch;
use super::*;

/// The types whose values filters compare, as the test below spells them.
const COMPARED: [&str; 16] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "real",
    "double precision",
    "text",
    "varchar",
    "uuid",
    "date",
    "timestamp",
    "timestamptz",
    "mood",
    "age",
    "big",
];

on_postgres! {
    /// One column of each type: SQL's literal, and the JSON that arrives.
    async fn values_of_every_type_arrive_whole(db: TestDatabase) {
        db.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"', '漢'); CREATE TYPE pair AS (x integer, y text); \
             CREATE DOMAIN age AS smallint CHECK (value >= 0); CREATE DOMAIN big AS bigint; \
             CREATE DOMAIN file AS bytea",
        )
        .await;
        let values: Vec<(&str, &str, Value)> = vec![
            ("boolean", "true", json!(true)),
            ("smallint", "-32768", json!(-32768)),
            ("integer", "2147483647", json!(2147483647)),
            ("bigint", "9007199254740992", json!(9007199254740992_i64)),
            ("bigint", "-9007199254740992", json!(-9007199254740992_i64)),
            ("bigint", "9007199254740993", json!("9007199254740993")),
            ("bigint", "-9223372036854775808", json!("-9223372036854775808")),
            ("numeric", "0", json!(0)),
            ("numeric", "-12.50", json!(-12.5)),
            ("numeric", "123456789012.345", json!(123456789012.345)),
            ("numeric", "1234567890123.456", json!("1234567890123.456")),
            ("numeric", "0.00000000000000000001", json!("0.00000000000000000001")),
            ("numeric", "123456789012345678901234567890.123456789", json!("123456789012345678901234567890.123456789")),
            ("numeric", "('1' || repeat('0', 300) || '.0000000000000000')::numeric", json!(format!("1{}.0000000000000000", "0".repeat(300)))),
            ("numeric(5,2)", "1.005", json!(1.01)),
            ("numeric", "'NaN'", json!("NaN")),
            ("numeric", "'-Infinity'", json!("-Infinity")),
            ("real", "0.1", json!(0.1)),
            ("real", "'NaN'", json!("NaN")),
            ("double precision", "0.1", json!(0.1)),
            ("double precision", "1e-320", json!(1e-320)),
            ("double precision", "1.7976931348623157e308", json!(f64::MAX)),
            ("double precision", "'-Infinity'", json!("-Infinity")),
            ("double precision", "'Infinity'", json!("Infinity")),
            ("double precision", "'NaN'", json!("NaN")),
            ("text", "E'tab\\t line\\n quote\" slash\\\\ \\u0001 漢 😀'", json!("tab\t line\n quote\" slash\\ \u{1} 漢 😀")),
            ("text", "''", json!("")),
            ("varchar(3)", "'abc'", json!("abc")),
            ("char(5)", "'ab'", json!("ab   ")),
            ("bytea", "'\\x'", json!("")),
            ("bytea", "'\\x00ff10'", json!("AP8Q")),
            ("bytea", "decode(repeat('ff', 100), 'hex')", json!(format!("{}w==", "/".repeat(133)))),
            ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
            ("date", "'2024-02-29'", json!("2024-02-29")),
            ("date", "'infinity'", json!("infinity")),
            ("date", "'0044-03-15 BC'", json!("0044-03-15 BC")),
            ("time", "'04:05:06.789'", json!("04:05:06.789")),
            ("timestamp", "'2024-02-29 23:59:59.123456'", json!("2024-02-29T23:59:59.123456")),
            ("timestamptz", "'2024-02-29 23:59:59.5+05:30'", json!("2024-02-29T18:29:59.5+00:00")),
            ("timestamptz", "'-infinity'", json!("-infinity")),
            ("interval", "'1 year 2 days 03:04:05'", json!("1 year 2 days 03:04:05")),
            ("jsonb", "'{\"b\": [1, null, {\"c\": \"ü\"}], \"a\": 1.5}'", json!({ "a": 1.5, "b": [1, null, { "c": "ü" }] })),
            ("jsonb", "'null'", Value::Null),
            ("jsonb", "'\"text\"'", json!("text")),
            ("json", "'{\"b\" : 1,  \"a\": [ ]}'", json!({ "a": [], "b": 1 })),
            ("mood", "'it''s \"ok\"'", json!("it's \"ok\"")),
            ("age", "7", json!(7)),
            ("big", "9007199254740993", json!("9007199254740993")),
            ("file", "'\\xff'", json!("/w==")),
            ("pair", "ROW(1, 'a b')", json!({ "x": 1, "y": "a b" })),
            ("integer[]", "'{1,NULL,3}'", json!([1, null, 3])),
            ("integer[]", "'{}'", json!([])),
            ("integer[]", "'{{1,2},{3,4}}'", json!([[1, 2], [3, 4]])),
            ("text[]", "ARRAY['a', 'b \"c\"', NULL, '{x}', '']", json!(["a", "b \"c\"", null, "{x}", ""])),
            ("bigint[]", "'{1,9007199254740993,NULL}'", json!([1, "9007199254740993", null])),
            ("bigint[]", "'{}'", json!([])),
            ("bigint[]", "'{{1,9007199254740993},{3,4}}'", json!([["1", "9007199254740993"], ["3", "4"]])),
            ("numeric[]", "'{1.5,12345678901234567890}'", json!([1.5, "12345678901234567890"])),
            ("bytea[]", "ARRAY['\\xff'::bytea, NULL, '\\x']", json!(["/w==", null, ""])),
            ("mood[]", "'{sad,漢}'", json!(["sad", "漢"])),
            ("timestamptz[]", "ARRAY['2024-01-01 00:00:00+02'::timestamptz]", json!(["2023-12-31T22:00:00+00:00"])),
            ("boolean[]", "'{t,f}'", json!([true, false])),
            ("jsonb[]", "ARRAY['{\"a\": 1}'::jsonb]", json!([{ "a": 1 }])),
            ("int4range", "'[1,5)'", json!("[1,5)")),
            ("tstzrange", "'[2024-01-01 00:00:00+02,)'", json!("[\"2023-12-31 22:00:00+00\",)")),
            ("daterange", "'[2024-12-31,2025-01-02)'", json!("[2024-12-31,2025-01-02)")),
            ("inet", "'10.0.0.1'", json!("10.0.0.1")),
            ("point", "'(1,2)'", json!("(1,2)")),
            ("xml", "'<a>1</a>'", json!("<a>1</a>")),
            ("bit(3)", "B'101'", json!("101")),
            ("money", "1.5::numeric", json!("$1.50")),
            ("tsvector", "'a b'", json!("'a' 'b'")),
            // Numbers stay exact however deep they are.
            ("money_of", "ROW(9007199254740993, 12345678901234567890, 'x')", json!({ "whole": "9007199254740993", "exact": "12345678901234567890", "t": "x" })),
            ("money_of", "ROW(1, 1.5, NULL)", json!({ "whole": 1, "exact": 1.5, "t": null })),
            ("money_of", "ROW(NULL, NULL, NULL)", json!({ "whole": null, "exact": null, "t": null })),
            ("money_of[]", "ARRAY[ROW(9007199254740993, NULL, 'x')::money_of, NULL, ROW(NULL, NULL, NULL)::money_of]",
                json!([{ "whole": "9007199254740993", "exact": null, "t": "x" }, null, { "whole": null, "exact": null, "t": null }])),
            ("money_of[]", "'{}'", json!([])),
            ("deep", "ROW(ROW(1, 2, ''), ARRAY[ROW(9007199254740993, 1, 'y')::money_of], '{9007199254740993}', '\\xff', ARRAY[9007199254740993])",
                json!({ "one": { "whole": 1, "exact": 2, "t": "" }, "many": [{ "whole": "9007199254740993", "exact": 1, "t": "y" }],
                    "list": ["9007199254740993"], "bytes": "\\xff", "bigs": ["9007199254740993"] })),
            ("deep_domain", "ROW(NULL, NULL, NULL, NULL, NULL)::deep", json!({ "one": null, "many": null, "list": null, "bytes": null, "bigs": null })),
            ("big[]", "ARRAY[9007199254740993]", json!(["9007199254740993"])),
        ];
        db.execute(
            "CREATE TYPE money_of AS (whole bigint, exact numeric, t text); \
             CREATE TYPE deep AS (one money_of, many money_of[], list bigint[], bytes bytea, bigs big[]); \
             CREATE DOMAIN deep_domain AS deep",
        )
        .await;
        let columns: Vec<String> =
            values.iter().enumerate().map(|(number, (sql_type, ..))| format!("c{number} {sql_type}")).collect();
        db.execute(&format!("CREATE TABLE t (id integer PRIMARY KEY, n integer, {})", columns.join(", "))).await;
        let mut watch = Watch::start(db, ["t"]).await;
        // The writer's settings must not show.
        let session = "SET \"TimeZone\" = 'Asia/Tokyo'; SET datestyle = 'German'; SET bytea_output = 'escape'; \
                       SET intervalstyle = 'iso_8601'; SET extra_float_digits = -10; SET lc_monetary = 'C'";
        let check = |watch: &Watch, keys: &[&str]| {
            for (number, (sql_type, literal, expected)) in values.iter().enumerate() {
                for key in keys {
                    let found = &watch.row("t", key)[format!("c{number}")];
                    assert_eq!(found, expected, "{literal}::{sql_type}");
                }
            }
        };
        let literals: Vec<&str> = values.iter().map(|(_, literal, _)| *literal).collect();
        let insert = format!("INSERT INTO t VALUES (1, 0, {})", literals.join(", "));
        watch.step_unlike_sql(&format!("{session}; {insert}")).await;
        check(&watch, &["1"]);
        watch.step_unlike_sql("INSERT INTO t (id) VALUES (2)").await;
        assert!((0..values.len()).all(|number| watch.row("t", "2")[format!("c{number}")] == Value::Null));

        // Every value becomes null and is set again: `old` has them all, as the protocol writes them, but 0 for
        // what no filter compares.
        let nulls: Vec<String> = (0..values.len()).map(|number| format!("c{number} = NULL")).collect();
        watch.step_unlike_sql(&format!("{session}; UPDATE t SET {} WHERE id = 1", nulls.join(", "))).await;
        for (number, (sql_type, literal, expected)) in values.iter().enumerate() {
            let compared = COMPARED.iter().any(|name| sql_type == name || sql_type.starts_with(&format!("{name}(")));
            // The literal `null` of `jsonb` is a value.
            let expected = if compared { expected } else { &json!(0) };
            assert_eq!(&watch.entries()[0].old[format!("c{number}")], expected, "{literal}::{sql_type}");
        }
        let back: Vec<String> =
            literals.iter().enumerate().map(|(number, literal)| format!("c{number} = {literal}")).collect();
        watch.step_unlike_sql(&format!("{session}; UPDATE t SET {} WHERE id = 1", back.join(", "))).await;
        check(&watch, &["1"]);

        // Only `n` changes, so nothing else is in the log.
        watch.step_unlike_sql(&format!("{session}; UPDATE t SET n = 1, {} WHERE id = 1", back.join(", "))).await;
        assert_eq!(watch.entries()[0].old, json!({ "n": 0 }));
        watch.step_unlike_sql(&format!("{session}; DELETE FROM t WHERE id = 1")).await;
        assert_eq!(watch.keys("t"), ["2"]);
    }

    /// A time is one instant whatever its writer's time zone, and it is sent in UTC.
    async fn a_time_is_sent_in_utc_whatever_its_zone(db: TestDatabase) {
        db.execute("CREATE TABLE visits (id integer PRIMARY KEY, at timestamptz, local timestamp)").await;
        let mut watch = Watch::start(db, ["visits"]).await;
        let zones = ["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati", "-03:30"];
        for (id, zone) in zones.iter().enumerate() {
            let noon = "'2024-07-01 12:00:00'";
            watch
                .step(&format!(
                    "SET \"TimeZone\" = '{zone}'; INSERT INTO visits VALUES ({id}, {noon}::timestamp AT TIME ZONE 'UTC', {noon})"
                ))
                .await;
            let expected = json!({ "id": id, "at": "2024-07-01T12:00:00+00:00", "local": "2024-07-01T12:00:00" });
            assert_eq!(watch.row("visits", &id.to_string()), &expected, "{zone}");
            watch.step(&format!("SET \"TimeZone\" = '{zone}'; UPDATE visits SET at = NULL WHERE id = {id}")).await;
            assert_eq!(watch.entries()[0].old, json!({ "at": "2024-07-01T12:00:00+00:00" }), "{zone}");
        }
        watch.step("SET \"TimeZone\" = 'Asia/Tokyo'; UPDATE visits SET at = '2024-07-01 12:00:00'").await;
        assert_eq!(watch.row("visits", "0")["at"], "2024-07-01T03:00:00+00:00");
    }

    async fn session_settings_of_the_database_do_not_show(db: TestDatabase) {
        db.execute("CREATE TABLE t (id timestamptz PRIMARY KEY, f double precision, i interval, b bytea, d daterange)").await;
        let name = db.query_text("SELECT current_database()").await.remove(0).unwrap_or_default();
        for setting in [
            "\"TimeZone\" = 'Asia/Tokyo'",
            "datestyle = 'SQL, DMY'",
            "intervalstyle = 'sql_standard'",
            "bytea_output = 'escape'",
            "extra_float_digits = -15",
        ] {
            db.execute(&format!("ALTER DATABASE {name} SET {setting}")).await;
        }
        let mut watch = Watch::start(db, ["t"]).await;
        let values = "('2024-02-01 00:00:00+00', 0.1, '1 day', '\\xff', '[2024-02-01,2024-02-03)')";
        watch.step_unlike_sql(&format!("SET datestyle = 'ISO'; INSERT INTO t VALUES {values}")).await;
        let key = "2024-02-01T00:00:00+00:00";
        let row = json!({ "id": key, "f": 0.1, "i": "1 day", "b": "/w==", "d": "[2024-02-01,2024-02-03)" });
        assert_eq!(watch.row("t", key), &row);
        watch.step_unlike_sql("UPDATE t SET f = f + 1, i = i * 2, b = NULL, d = NULL").await;
        watch.step_unlike_sql("DELETE FROM t").await;
    }
}

on_sqlite! {
    /// SQLite's five kinds of value, in columns that take anything and in columns with a type.
    async fn values_of_every_sqlite_type_arrive_whole(db: TestDatabase) {
        db.execute(
            "CREATE TABLE t (id integer PRIMARY KEY, whole integer, real real, words text, bytes blob, \
             flag boolean, day date, at timestamp, doc json, amount numeric, anything)",
        )
        .await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch
            .step_unlike_sql(
                "INSERT INTO t VALUES (1, 9007199254740993, 0.1, 'x\"\\ü😀', x'00ff10', 1, '2024-02-29', \
                 '2024-02-29T12:00:00', '{\"a\": [1, null]}', 12.5, 'any'), \
                 (2, -9007199254740992, 1e300, '', x'', 0, NULL, NULL, NULL, 3, 7), \
                 (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
            )
            .await;
        let one = watch.row("t", "1").clone();
        assert_eq!(one["whole"], "9007199254740993");
        assert_eq!(one["real"], 0.1);
        assert_eq!(one["words"], "x\"\\ü😀");
        assert_eq!(one["bytes"], "AP8Q");
        assert_eq!(one["flag"], true);
        assert_eq!(one["day"], "2024-02-29");
        assert_eq!(one["amount"], 12.5);
        assert_eq!(one["anything"], "any");
        let two = watch.row("t", "2").clone();
        assert_eq!(two["whole"], -9007199254740992_i64);
        assert_eq!((&two["real"], &two["bytes"], &two["flag"]), (&json!(1e300), &json!(""), &json!(false)));

        for column in ["whole", "real", "words", "flag", "day", "amount"] {
            watch.step_unlike_sql(&format!("UPDATE t SET {column} = NULL WHERE id = 1")).await;
            assert_eq!(watch.entries()[0].old, json!({ column: one[column] }), "{column}");
        }
        // What no filter compares is in the log as changed, and as not null.
        for column in ["bytes", "at", "doc", "anything"] {
            watch.step_unlike_sql(&format!("UPDATE t SET {column} = NULL WHERE id = 1")).await;
            assert_eq!(watch.entries()[0].old, json!({ column: 0 }), "{column}");
        }
        watch.step_unlike_sql("UPDATE t SET words = words || 'x', anything = 'text' WHERE id = 2").await;
        watch.step_unlike_sql("DELETE FROM t").await;
    }

    /// Infinity is a value of SQLite; not-a-number is its null.
    async fn extreme_numbers_arrive_whole(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, x real)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch
            .step_unlike_sql("INSERT INTO t VALUES (1, 9e999), (2, -9e999), (3, 9e999 - 9e999), (4, -0.0), (5, 5e-324)")
            .await;
        let x = |key: &str| watch.row("t", key)["x"].clone();
        assert_eq!([x("1"), x("2"), x("3")], [json!("Infinity"), json!("-Infinity"), Value::Null]);
        assert_eq!(x("5"), json!(5e-324));
        watch.step_unlike_sql("UPDATE t SET x = 1.5").await;
        watch.step_unlike_sql("UPDATE t SET x = 1.7976931348623157e308").await;
        assert_eq!(watch.row("t", "1")["x"], json!(f64::MAX));
        watch.step_unlike_sql("DELETE FROM t").await;
    }
}

on_sqlite! {
    /// SQLite permits texts that are not valid elsewhere: one such row must not hold up the others.
    async fn an_invalid_text_holds_up_no_other_row(db: TestDatabase) {
        db.execute("CREATE TABLE t (id text PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.write("INSERT INTO t VALUES ('null', 'a' || char(0) || 'b'), ('bytes', CAST(x'61ff62' AS TEXT))").await;
        watch.write("INSERT INTO t VALUES ('fine', 'ok')").await;
        assert_eq!(watch.row("t", "null")["a"], "a\u{0}b");
        assert_eq!(watch.row("t", "bytes")["a"], "a\u{fffd}b");
        watch.write("UPDATE t SET a = 'new'").await;
        watch.compare().await;

        watch.write("INSERT INTO t VALUES ('k' || char(0), 'x'), (CAST(x'6bff' AS TEXT), 'y')").await;
        assert_eq!(watch.rows("t").len(), 5);
        watch.write("UPDATE t SET a = 'again'").await;
        assert!(watch.rows("t").values().all(|row| row["a"] == "again"), "{:?}", watch.rows("t"));
        watch.write("DELETE FROM t").await;
        assert!(watch.rows("t").is_empty(), "{:?}", watch.rows("t"));
    }
}

both_backends! {
    /// No text may hold a null byte: only the mutation is rejected.
    async fn a_null_byte_is_rejected(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        db.execute("CREATE TABLE words (word text PRIMARY KEY, n integer)").await;
        let mut watch = Watch::start(db, ["notes", "words"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a')").await;
        let create = |values: Value| json!([{ "entity": "notes", "op": "create", "values": values }]);

        let outcome = watch.client.push_next(create(json!({ "id": 2, "body": "a\u{0}b" }))).await;
        let rejection = outcome.rejected();
        assert_eq!((rejection.code.as_str(), rejection.column.as_deref()), ("invalid", Some("body")));
        assert_eq!(rejection.write, Some(0));
        let update = json!([{ "entity": "notes", "op": "update", "key": 1, "values": { "body": "\u{0}" } }]);
        assert_eq!(watch.client.push_next(update).await.rejected().code, "invalid");
        let key = json!([{ "entity": "words", "op": "create", "values": { "word": "\u{0}", "n": 1 } }]);
        assert_eq!(watch.client.push_next(key).await.rejected().column.as_deref(), Some("word"));

        watch.client.push_next(create(json!({ "id": 2, "body": "ab" }))).await.acked();
        watch.settle().await;
        watch.compare().await;
        assert_eq!(watch.keys("notes"), ["1", "2"]);
        assert!(watch.rows("words").is_empty());
    }

    /// A number that no double holds survives the way in and out.
    async fn a_pushed_large_number_stays_exact(db: TestDatabase) {
        db.execute("CREATE TABLE visits (id bigint PRIMARY KEY, n bigint)").await;
        let mut watch = Watch::start(db, ["visits"]).await;
        let values = json!({ "id": "9223372036854775807", "n": "-9223372036854775808" });
        let create = json!([{ "entity": "visits", "op": "create", "values": values }]);
        watch.client.push_next(create).await.acked();
        watch.settle().await;
        assert_eq!(watch.row("visits", "9223372036854775807"), &values);
        let found = watch.db.query_text("SELECT n FROM visits").await;
        assert_eq!(found, [Some("-9223372036854775808".to_owned())]);
    }
}
