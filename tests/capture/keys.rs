//! Primary keys: changed, shifted and swapped ones, and every type that a key may have.

use serde_json::json;

use super::watch::Watch;
use super::*;

both_backends! {
    async fn a_changed_key_is_a_create_and_a_delete(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a'), (2, 'b')").await;
        watch.step("UPDATE notes SET id = 7, body = 'moved' WHERE id = 1").await;
        assert_eq!(watch.keys("notes"), ["2", "7"]);
        let mut said: Vec<_> = watch.entries().iter().map(|entry| entry.says()).collect();
        said.sort_by_key(|(action, ..)| *action);
        assert_eq!((said[0].0, said[0].1), ("create", Some("7")));
        assert_eq!(said[1], ("delete", Some("1"), &json!({ "id": 1, "body": "a" })));
    }

    /// All keys move up by one, in two statements because each key must be unique at any moment.
    async fn keys_shifted_in_two_statements_are_captured(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)";
        watch.step(&format!("INSERT INTO notes {numbers} SELECT i, 'note ' || i FROM n")).await;
        watch
            .step("BEGIN; UPDATE notes SET id = -id; UPDATE notes SET id = 1 - id; COMMIT")
            .await;
        assert_eq!(watch.rows("notes").len(), 500);
        assert_eq!(watch.row("notes", "501")["body"], "note 500");
        assert_eq!(watch.row("notes", "2")["body"], "note 1");
    }

    async fn keys_swapped_through_a_third_are_captured(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
        watch
            .step(
                "BEGIN; UPDATE notes SET id = -1 WHERE id = 1; UPDATE notes SET id = 1 WHERE id = 2; \
                 UPDATE notes SET id = 2 WHERE id = -1; COMMIT",
            )
            .await;
        assert_eq!(watch.row("notes", "1")["body"], "b");
        assert_eq!(watch.row("notes", "2")["body"], "a");
    }

    /// A key of several columns, in another order than the table's.
    async fn composite_keys_are_captured(db: TestDatabase) {
        db.execute(
            "CREATE TABLE seats (hall text NOT NULL, note text, place integer NOT NULL, taken integer, \
             PRIMARY KEY (place, hall))",
        )
        .await;
        let mut watch = Watch::start(db, ["seats"]).await;
        watch
            .step(
                "INSERT INTO seats VALUES ('red', 'a', 1, 0), ('blue', 'b', 1, 0), ('red', 'c', 2, 0), \
                 ('say \"hi\", [you]', 'd', -3, 0), ('', 'e', 4, 0), ('line\nbreak\tand \\ ü 漢 😀', 'f', 5, 0)",
            )
            .await;
        assert_eq!(watch.row("seats", r#"[1,"blue"]"#)["note"], "b");
        watch.step("UPDATE seats SET taken = 1").await;
        watch.step("UPDATE seats SET place = place + 10 WHERE hall = 'red'").await;
        assert_eq!(watch.row("seats", r#"[12,"red"]"#)["note"], "c");
        watch.step("UPDATE seats SET hall = 'green' WHERE hall = 'red'").await;
        watch.step("DELETE FROM seats WHERE place < 5").await;
        watch.step("DELETE FROM seats").await;
    }

    /// Texts that careless code would split, quote wrongly or consider equal.
    async fn odd_texts_as_keys_stay_distinct(db: TestDatabase) {
        db.execute("CREATE TABLE words (word text PRIMARY KEY, n integer)").await;
        let mut watch = Watch::start(db, ["words"]).await;
        let words = [
            "", " ", "  ", "a", "A", "a ", "'", "''", "\"", "\\", "\\n", "\n", "\t", "%", "_", "[\"a\"]",
            "[1,2]", "{}", "null", "NULL", "1", "01", "1.0", "ä", "a\u{308}", "漢字", "😀", "\u{feff}x",
            "$1", "$$", "it's", "a;b--c", "/* */", "\u{1}", "\u{7f}", "\r\n",
        ];
        let quoted: Vec<String> =
            words.iter().map(|word| format!("('{}', 0)", word.replace('\'', "''"))).collect();
        watch.step(&format!("INSERT INTO words VALUES {}", quoted.join(", "))).await;
        assert_eq!(watch.rows("words").len(), words.len());
        watch.step("UPDATE words SET n = n + 1").await;
        assert_eq!(watch.sent().len(), words.len());
        for word in words {
            assert_eq!(watch.row("words", word), &json!({ "word": word, "n": 1 }));
        }
        watch.step("UPDATE words SET word = word || '!'").await;
        watch.step("DELETE FROM words WHERE word LIKE '%''%' OR word = '!'").await;
        watch.step("DELETE FROM words").await;
    }

    /// Keys beyond what a double holds exactly.
    async fn large_numbers_as_keys_stay_exact(db: TestDatabase) {
        db.execute("CREATE TABLE visits (id bigint PRIMARY KEY, n integer)").await;
        let mut watch = Watch::start(db, ["visits"]).await;
        watch
            .step_unlike_sql(
                "INSERT INTO visits VALUES (9007199254740991, 1), (9007199254740993, 2), \
                 (9223372036854775807, 3), (-9223372036854775808, 4), (0, 5)",
            )
            .await;
        assert_eq!(watch.row("visits", "9007199254740991")["id"], 9007199254740991_i64);
        for (key, n) in [("9007199254740993", 2), ("9223372036854775807", 3), ("-9223372036854775808", 4)] {
            assert_eq!(watch.row("visits", key), &json!({ "id": key, "n": n }));
        }
        watch.step_unlike_sql("UPDATE visits SET n = n * 10").await;
        assert_eq!(watch.row("visits", "9223372036854775807")["n"], 30);
        watch.step_unlike_sql("UPDATE visits SET id = id - 1 WHERE id = 9007199254740993").await;
        watch.step_unlike_sql("DELETE FROM visits WHERE id <> 0").await;
        assert_eq!(watch.keys("visits"), ["0"]);
    }
}

on_postgres! {
    /// `SET id = id + 1` over many rows, and a swap, in one statement each.
    async fn keys_shifted_or_swapped_in_one_statement_are_captured(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY DEFERRABLE, body text)").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series(1, 2000) i").await;
        watch.step("UPDATE notes SET id = id + 1").await;
        assert_eq!(watch.row("notes", "2001")["body"], "note 2000");
        assert_eq!(watch.rows("notes").len(), 2000);
        // One row is deleted, one created, and all between are updated in place.
        let count = |action| watch.entries().iter().filter(|entry| entry.action == action).count();
        assert_eq!((count("delete"), count("update"), count("create")), (1, 1999, 1));

        watch.step("UPDATE notes SET id = CASE id WHEN 2 THEN 3 ELSE 2 END WHERE id IN (2, 3)").await;
        assert_eq!(watch.row("notes", "2")["body"], "note 2");
        assert_eq!(watch.row("notes", "3")["body"], "note 1");
        let keys = |entry: &super::log::Entry| (entry.action.clone(), entry.key.clone().unwrap_or_default());
        let mut said: Vec<_> = watch.entries().iter().map(keys).collect();
        said.sort();
        assert_eq!(said, [("update".into(), "2".into()), ("update".into(), "3".into())]);
    }

    async fn swapped_composite_keys_are_captured(db: TestDatabase) {
        db.execute("CREATE TABLE cells (x integer, y integer, body text, PRIMARY KEY (x, y) DEFERRABLE)").await;
        let mut watch = Watch::start(db, ["cells"]).await;
        watch.step("INSERT INTO cells VALUES (1, 2, 'a'), (2, 1, 'b'), (3, 3, 'c'), (1, 3, 'd')").await;
        watch.step("UPDATE cells SET x = y, y = x").await;
        assert_eq!(watch.row("cells", "[1,2]")["body"], "b");
        assert_eq!(watch.row("cells", "[3,1]")["body"], "d");
        assert_eq!(watch.rows("cells").len(), 4);
    }

    /// The canonical text of a key is that of its JSON value.
    async fn a_key_of_any_type_has_the_text_of_its_json(db: TestDatabase) {
        db.execute("CREATE TYPE mood AS ENUM ('sad', 'very \"happy\"')").await;
        let keys = [
            ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("boolean", "true", "true"),
            ("smallint", "-7", "-7"),
            ("date", "'2024-02-29'", "2024-02-29"),
            ("timestamp", "'2024-02-29 12:00:00.25'", "2024-02-29T12:00:00.25"),
            ("timestamptz", "'2024-02-29 12:00:00+05'", "2024-02-29T07:00:00+00:00"),
            ("bytea", "'\\x00ff10'", "AP8Q"),
            ("mood", "'very \"happy\"'", "very \"happy\""),
            ("varchar(10)", "'abc '", "abc "),
            ("char(5)", "'ab'", "ab"),
            ("name", "'a name'", "a name"),
            ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
            ("numeric", "12345678901234567890.10", "12345678901234567890.10"),
            ("double precision", "0.1", "0.1"),
            ("int4range", "'[1,5)'", "[1,5)"),
            ("text[]", "'{a,b}'", "{a,b}"),
            ("interval", "'1 day 02:00'", "1 day 02:00:00"),
            ("time", "'04:05:06'", "04:05:06"),
        ];
        let name = |number: usize| format!("t{number}");
        for (number, (sql_type, ..)) in keys.iter().enumerate() {
            db.execute(&format!("CREATE TABLE {} (id {sql_type} PRIMARY KEY, n integer)", name(number))).await;
        }
        let names: Vec<String> = (0..keys.len()).map(name).collect();
        let mut watch = Watch::start(db, names.iter().map(String::as_str)).await;
        for (number, (sql_type, value, text)) in keys.iter().enumerate() {
            let table = name(number);
            // The settings of the writer's database session must not show in the key.
            let session = "SET \"TimeZone\" = 'Asia/Tokyo'; SET datestyle = 'German'; \
                           SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; \
                           SET extra_float_digits = -10";
            watch.step_unlike_sql(&format!("{session}; INSERT INTO {table} VALUES ({value}, 1)")).await;
            assert_eq!(watch.keys(&table), [*text], "{sql_type}");
            watch.step_unlike_sql(&format!("{session}; UPDATE {table} SET n = 2")).await;
            assert_eq!(watch.row(&table, text)["n"], 2, "{sql_type}");
            watch.step_unlike_sql(&format!("{session}; DELETE FROM {table}")).await;
            assert!(watch.rows(&table).is_empty(), "{sql_type}");
        }
    }

    /// A key that could not be read back would stop all later changes.
    async fn extreme_keys_do_not_stop_the_stream(db: TestDatabase) {
        let keys: &[(&str, &[&str])] = &[
            ("integer", &["-2147483648", "2147483647"]),
            ("date", &["'-infinity'", "'infinity'", "'4713-01-01 BC'", "'12024-01-01'", "'0001-01-01'"]),
            ("timestamp", &["'-infinity'", "'infinity'", "'0044-03-15 12:00 BC'", "'12024-01-01'"]),
            ("timestamptz", &["'-infinity'", "'infinity'", "'0044-03-15 12:00+00 BC'", "'12024-01-01+00'"]),
            ("double precision", &["'NaN'", "'Infinity'", "'-Infinity'", "-0.0", "5e-324", "1e308", "0.1::real"]),
            ("real", &["'NaN'", "0.1", "3.4e38"]),
            ("numeric", &["'NaN'", "'Infinity'", "1e-30", "10 ^ 100::numeric"]),
            ("bytea", &["''", "decode(repeat('ff', 100), 'hex')"]),
            ("jsonb", &["'null'", "'\"text\"'", "'[1, {\"a\": null}]'", "'1.50'"]),
            ("text[]", &["'{}'", "'{a,NULL,\"b c\",\"d\\\"e\"}'", "'{{1,2},{3,4}}'"]),
            ("bigint[]", &["'{}'", "'{9007199254740993}'"]),
            ("interval", &["'-1 year 3 days -04:05:06.7'", "'0'"]),
            ("tstzrange", &["'empty'", "'(,)'", "'[2024-01-01 00:00:00+03,2024-02-01)'"]),
            ("inet", &["'::1'", "'10.0.0.0/8'"]),
            ("char(5)", &["'kg'", "''", "' x'", "'12345'"]),
            ("varchar(9)", &["'kg '", "''"]),
            ("\"char\"", &["'x'"]),
            ("name", &["'kg '"]),
            ("mood", &["'sad'", "'very \"happy\"'"]),
            ("moods", &["'sad'", "'very \"happy\"'"]),
            ("short", &["'kg'", "'a b'"]),
            ("boolean", &["true", "false"]),
            ("uuid", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
            ("bigint", &["9007199254740993", "-1"]),
            ("smallint", &["-1"]),
            ("time", &["'04:05:06.7'", "'24:00'"]),
            ("timetz", &["'04:05:06+02'"]),
            ("bit(3)", &["B'101'"]),
            ("bit varying", &["B''", "B'0101'"]),
            ("macaddr", &["'08:00:2b:01:02:03'"]),
            ("money", &["1.5::numeric::money"]),
            ("oid", &["4294967295"]),
            ("pair", &["ROW(9007199254740993, 'kg')", "ROW(NULL, '')"]),
            ("int8range", &["'[1,9007199254740993)'"]),
            ("char(5)[]", &["ARRAY['kg'::char(5)]"]),
            ("mood[]", &["'{sad}'"]),
            ("pg_lsn", &["'0/16B3748'"]),
            ("tsvector", &["'a b'"]),
        ];
        db.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'very \"happy\"'); CREATE DOMAIN moods AS mood; \
             CREATE DOMAIN short AS char(5); CREATE TYPE pair AS (x bigint, y char(5))",
        )
        .await;
        let name = |number: usize| format!("t{number}");
        for (number, (sql_type, _)) in keys.iter().enumerate() {
            let table = name(number);
            db.execute(&format!("CREATE TABLE {table} (id {sql_type} PRIMARY KEY, n integer)")).await;
            db.execute(&format!("CREATE TABLE {table}_two (id {sql_type}, b text, n integer, PRIMARY KEY (b, id))")).await;
        }
        let names: Vec<String> = (0..keys.len()).flat_map(|number| [name(number), format!("{}_two", name(number))]).collect();
        let mut watch = Watch::start(db, names.iter().map(String::as_str)).await;
        for (number, (sql_type, values)) in keys.iter().enumerate() {
            for (table, columns) in [(name(number), "id, n"), (format!("{}_two", name(number)), "id, n, b")] {
                let b = if columns.ends_with('b') { ", 'x'" } else { "" };
                let rows: Vec<String> = values.iter().map(|value| format!("({value}, 1{b})")).collect();
                watch.step_unlike_sql(&format!("INSERT INTO {table} ({columns}) VALUES {}", rows.join(", "))).await;
                assert_eq!(watch.rows(&table).len(), values.len(), "{sql_type}");
                watch.step_unlike_sql(&format!("UPDATE {table} SET n = 2")).await;
                assert!(watch.rows(&table).values().all(|row| row["n"] == 2), "{sql_type}");
                watch.step_unlike_sql(&format!("DELETE FROM {table}")).await;
                assert!(watch.rows(&table).is_empty(), "{sql_type}");
            }
        }
        assert_eq!(watch.client.frames("refetch"), 0);
    }

    /// As above in a composite key, where each component is its JSON.
    async fn a_composite_key_has_the_json_of_its_components(db: TestDatabase) {
        db.execute(
            "CREATE TABLE t (at timestamptz, big bigint, bytes bytea, day date, yes boolean, n integer, \
             PRIMARY KEY (at, big, bytes, day, yes))",
        )
        .await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch
            .step_unlike_sql(
                "SET \"TimeZone\" = 'America/Lima'; INSERT INTO t VALUES \
                 ('2024-01-01 00:00:00+00', 9007199254740993, '\\xff', '2024-01-01', true, 1)",
            )
            .await;
        let key = r#"["2024-01-01T00:00:00+00:00","9007199254740993","/w==","2024-01-01",true]"#;
        assert_eq!(watch.keys("t"), [key]);
        watch.step_unlike_sql("SET \"TimeZone\" = 'Asia/Tokyo'; UPDATE t SET n = 2").await;
        assert_eq!(watch.row("t", key)["n"], 2);
        watch.step_unlike_sql("UPDATE t SET yes = false").await;
        assert_eq!(watch.keys("t"), [key.replace("true", "false")]);
        watch.step_unlike_sql("DELETE FROM t").await;
    }

    /// Two spellings of one number are one row of the table but two keys: the first must be deleted.
    async fn another_spelling_of_an_equal_key_replaces_the_first(db: TestDatabase) {
        db.execute("CREATE TABLE prices (id numeric PRIMARY KEY, n integer)").await;
        db.execute("CREATE TABLE spans (id interval PRIMARY KEY, n integer)").await;
        db.execute(
            "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             CREATE TABLE words (id text COLLATE caseless PRIMARY KEY, n integer)",
        )
        .await;
        let mut watch = Watch::start(db, ["prices", "spans", "words"]).await;
        watch.step_unlike_sql("INSERT INTO prices VALUES (1.0, 1)").await;
        watch.step_unlike_sql("UPDATE prices SET id = 1.00").await;
        assert_eq!(watch.keys("prices"), ["1.00"]);
        watch.step_unlike_sql("INSERT INTO spans VALUES ('1 day', 1)").await;
        watch.step_unlike_sql("UPDATE spans SET id = '24:00'").await;
        assert_eq!(watch.keys("spans"), ["24:00:00"]);
        watch.step_unlike_sql("INSERT INTO words VALUES ('Word', 1), ('Other', 1)").await;
        watch.step_unlike_sql("UPDATE words SET id = 'WORD' WHERE id = 'word'").await;
        assert_eq!(watch.keys("words"), ["Other", "WORD"]);
        watch.step_unlike_sql("BEGIN; DELETE FROM words; INSERT INTO words VALUES ('word', 2); COMMIT").await;
        assert_eq!(watch.keys("words"), ["word"]);
    }
}

on_sqlite! {
    /// SQLite permits null in most keys. Such a row has no key for clients, so it is not sent, and no
    /// write fails because of it.
    async fn rows_with_a_null_key_are_left_out(db: TestDatabase) {
        db.execute("CREATE TABLE words (word text PRIMARY KEY, n integer)").await;
        db.execute("CREATE TABLE pairs (a text, b text, n integer, PRIMARY KEY (a, b))").await;
        let mut watch = Watch::start(db, ["words", "pairs"]).await;
        for sql in [
            "INSERT INTO words VALUES (NULL, 1), ('one', 1)",
            "UPDATE words SET n = 2",
            "INSERT INTO pairs VALUES (NULL, 'x', 1), ('x', NULL, 1), ('x', 'y', 1)",
            "UPDATE pairs SET n = 2",
        ] {
            watch.write(sql).await;
        }
        assert_eq!(watch.rows("words").len(), 1);
        assert_eq!(watch.row("words", "one")["n"], 2);
        assert_eq!(watch.keys("pairs"), [r#"["x","y"]"#]);

        watch.write("UPDATE words SET word = 'two' WHERE word IS NULL").await;
        assert_eq!(watch.keys("words"), ["one", "two"]);
        watch.write("UPDATE words SET word = NULL WHERE word = 'one'").await;
        assert_eq!(watch.keys("words"), ["two"]);
        watch.write("DELETE FROM words; DELETE FROM pairs").await;
        watch.compare().await;
    }

    /// Keys of every declared type, and of none. Values that no text can identify are left out without
    /// harm to others.
    async fn keys_of_every_declared_type_are_captured(db: TestDatabase) {
        let keys: [(&str, &[&str], &[&str]); 9] = [
            ("real", &["0.1", "1.0", "-2.5e300", "5e-324", "1e15", "123456789.125"], &["9e999", "-9e999"]),
            ("numeric", &["1", "1.5", "'text'", "9007199254740993", "1e300"], &["x'00'"]),
            ("boolean", &["0", "1"], &[]),
            ("blob", &["x''", "x'00'", "x'ff10'"], &["'text'"]),
            ("date", &["'2024-02-29'"], &[]),
            ("timestamp", &["'2024-02-29 12:00:00'", "'2024-02-29T12:00:00.5Z'"], &[]),
            ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"], &["x'00'"]),
            ("", &["5", "'x'"], &["x'35'"]),
            ("int", &["5", "-9223372036854775808", "'not a number'"], &["x'00'"]),
        ];
        let name = |number: usize| format!("t{number}");
        for (number, (sql_type, ..)) in keys.iter().enumerate() {
            let table = name(number);
            db.execute(&format!("CREATE TABLE {table} (id {sql_type} PRIMARY KEY, n integer) WITHOUT ROWID")).await;
            db.execute(&format!("CREATE TABLE {table}_two (id {sql_type}, b text, n integer, PRIMARY KEY (b, id))")).await;
        }
        let names: Vec<String> =
            (0..keys.len()).flat_map(|number| [name(number), format!("{}_two", name(number))]).collect();
        let mut watch = Watch::start(db, names.iter().map(String::as_str)).await;
        for (number, (sql_type, named, unnamed)) in keys.iter().enumerate() {
            for (table, b) in [(name(number), ""), (format!("{}_two", name(number)), ", 'x'")] {
                let columns = if b.is_empty() { "id, n" } else { "id, n, b" };
                let values = named.iter().chain(*unnamed);
                let rows: Vec<String> = values.map(|value| format!("({value}, 1{b})")).collect();
                watch.write(&format!("INSERT INTO {table} ({columns}) VALUES {}", rows.join(", "))).await;
                assert_eq!(watch.rows(&table).len(), named.len(), "{sql_type}: {:?}", watch.keys(&table));
                watch.write(&format!("UPDATE {table} SET n = 2")).await;
                assert!(watch.rows(&table).values().all(|row| row["n"] == 2), "{sql_type}");
                watch.compare_http().await;
                watch.write(&format!("DELETE FROM {table}")).await;
                assert!(watch.rows(&table).is_empty(), "{sql_type}: {:?}", watch.keys(&table));
            }
        }
    }

    /// A collation that considers two texts equal does not make them one key.
    async fn a_caseless_collation_keeps_keys_apart(db: TestDatabase) {
        db.execute("CREATE TABLE words (word text COLLATE NOCASE PRIMARY KEY, n integer)").await;
        let mut watch = Watch::start(db, ["words"]).await;
        watch.step("INSERT INTO words VALUES ('Word', 1), ('Other', 1)").await;
        watch.step("UPDATE words SET word = 'WORD' WHERE word = 'word'").await;
        assert_eq!(watch.keys("words"), ["Other", "WORD"]);
        watch.step("UPDATE words SET n = 2 WHERE word = 'word'").await;
        watch.step("BEGIN; DELETE FROM words; INSERT INTO words VALUES ('word', 3); COMMIT").await;
        assert_eq!(watch.keys("words"), ["word"]);
    }
}
