//! Names that must be quoted, names that the engine's own statements use, and long ones.

use rhtmx_sync::EntityConfig;
use serde_json::json;

use super::watch::{Table, Watch};
use super::*;

/// The name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table whose entity has the same name.
fn table(name: &str) -> Table {
    Table::new(EntityConfig::new(name), &quoted(name))
}

/// Runs every kind of statement on a table of `id`, `key` and `value`, under any names.
async fn write_everything(watch: &mut Watch, entity: &str, sql: &str, key: &str, value: &str) {
    let (k, v) = (quoted(key), quoted(value));
    watch
        .step(&format!(
            "INSERT INTO {sql} ({k}, {v}) VALUES (1, 'a'), (2, 'b'), (3, 'c')"
        ))
        .await;
    watch
        .step(&format!("UPDATE {sql} SET {v} = 'B' WHERE {k} = 2"))
        .await;
    assert_eq!(watch.entries()[0].old, json!({ value: "b" }), "{entity}");
    watch
        .step(&format!("UPDATE {sql} SET {k} = 30 WHERE {k} = 3"))
        .await;
    watch
        .step(&format!("DELETE FROM {sql} WHERE {k} = 1"))
        .await;
    assert_eq!(watch.row(entity, "2"), &json!({ key: 2, value: "B" }));
    assert_eq!(watch.row(entity, "30"), &json!({ key: 30, value: "c" }));
    assert_eq!(watch.rows(entity).len(), 2);
}

const ODD_NAMES: [&str; 14] = [
    "MixedCase",
    "with space",
    "with.dot",
    "two.dots.here",
    "say \"hi\"",
    "it's",
    "back\\slash",
    "select",
    "a;b--c",
    "%I %s $1 {}",
    "naïve 漢字 😀",
    "$rhtmx_sync_capture$",
    "[brackets]",
    " ",
];

both_backends! {
    async fn tables_with_odd_names_are_captured(db: TestDatabase) {
        for name in ODD_NAMES {
            db.execute(&format!("CREATE TABLE {} (id integer PRIMARY KEY, body text)", quoted(name))).await;
        }
        let mut watch = Watch::start(db, ODD_NAMES.map(table)).await;
        for name in ODD_NAMES {
            write_everything(&mut watch, name, &quoted(name), "id", "body").await;
        }
    }

    /// Odd names for the key's column and for another.
    async fn columns_with_odd_names_are_captured(db: TestDatabase) {
        let name = |number: usize| format!("t{number}");
        for (number, column) in ODD_NAMES.iter().enumerate() {
            let (key, value) = (quoted(column), quoted(&format!("{column}2")));
            db.execute(&format!("CREATE TABLE {} ({key} integer PRIMARY KEY, {value} text)", name(number)))
                .await;
        }
        let names: Vec<String> = (0..ODD_NAMES.len()).map(name).collect();
        let mut watch = Watch::start(db, names.iter().map(String::as_str)).await;
        for (number, column) in ODD_NAMES.iter().enumerate() {
            let entity = name(number);
            write_everything(&mut watch, &entity, &entity, column, &format!("{column}2")).await;
        }
    }

    /// Columns with names that the generated statements use themselves.
    async fn columns_named_like_the_engines_own_are_captured(db: TestDatabase) {
        let names = [
            "client", "mutation", "key", "row", "id", "xid", "entity", "entity_id", "action", "old", "new",
            "data", "client_id", "created_at", "rank", "position", "floor", "checkpoint", "first_action",
            "truncated_at", "schema_changed_at", "t", "r", "n", "o", "e", "v", "k", "s", "l", "ranked", "news",
            "tg_op", "found", "_rhtmx_client", "_rhtmx_mutation", "_rhtmx_old", "_rhtmx_new", "rowid",
            "singleton", "value", "epoch",
        ];
        // Each is once the key and once the value.
        for (number, name) in names.iter().enumerate() {
            let (key, value) = (quoted(name), quoted(names[(number + 1) % names.len()]));
            db.execute(&format!("CREATE TABLE t{number} ({key} integer PRIMARY KEY, {value} text)")).await;
        }
        // And one table has all of them.
        let all: Vec<String> = names.iter().map(|name| format!("{} text", quoted(name))).collect();
        let key = "PRIMARY KEY (entity_id, \"key\", mutation)";
        db.execute(&format!("CREATE TABLE everything ({}, {key})", all.join(", "))).await;
        let tables: Vec<String> = (0..names.len()).map(|number| format!("t{number}")).collect();
        let all_tables = tables.iter().map(String::as_str).chain(["everything"]);
        let mut watch = Watch::start(db, all_tables).await;
        for (number, name) in names.iter().enumerate() {
            let entity = &tables[number];
            write_everything(&mut watch, entity, entity, name, names[(number + 1) % names.len()]).await;
        }
        let values: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        watch.step(&format!("INSERT INTO everything VALUES ({})", values.join(", "))).await;
        watch.step("UPDATE everything SET mutation = 'a', \"row\" = 'b', entity = NULL").await;
        watch.step("DELETE FROM everything").await;
    }

    /// The longest names that PostgreSQL keeps whole.
    async fn names_of_63_bytes_are_captured(db: TestDatabase) {
        let long = "n".repeat(63);
        let other = format!("{}m", "n".repeat(62));
        let unicode = "ü".repeat(31) + "x";
        let names = [long, other, unicode];
        for name in &names {
            assert_eq!(name.len(), 63);
            let table = quoted(name);
            db.execute(&format!("CREATE TABLE {table} ({table} integer PRIMARY KEY, body text)")).await;
        }
        let mut watch = Watch::start(db, names.each_ref().map(|name| table(name))).await;
        for name in &names {
            write_everything(&mut watch, name, &quoted(name), name, "body").await;
        }
    }

    /// An entity may have another name than its table, and two may be on one table.
    async fn an_entity_may_have_another_name_than_its_table(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let one = "it's \"one\", ü/🙂?&";
        let tables = [one, "other"].map(|name| Table::new(EntityConfig::on_table(name, "notes"), "notes"));
        let mut watch = Watch::start(db, tables).await;
        watch.step("INSERT INTO notes VALUES (1, 'a'), (2, 'b')").await;
        watch.step("UPDATE notes SET body = 'c' WHERE id = 1").await;
        watch.step("DELETE FROM notes WHERE id = 2").await;
        assert_eq!(watch.rows(one), watch.rows("other"));
        assert_eq!(watch.keys(one), ["1"]);
    }
}

on_postgres! {
    /// One name in several schemas, and names with a dot that look like a schema's.
    async fn tables_of_the_same_name_in_two_schemas_are_told_apart(db: TestDatabase) {
        db.execute("CREATE SCHEMA a; CREATE SCHEMA \"B c\"").await;
        let columns = "(id integer PRIMARY KEY, body text)";
        for table in ["items", "a.items", "\"B c\".items", "\"a.items\"", "\"B c\".\"it.ems\""] {
            db.execute(&format!("CREATE TABLE {table} {columns}")).await;
        }
        let tables = [
            Table::new("items".into(), "public.items"),
            Table::new(EntityConfig::on_table("a's", "a.items"), "\"a.items\""),
            Table::new(EntityConfig::on_table("b's", "B c.items"), "\"B c\".items"),
            Table::new(EntityConfig::on_table("b's dotted", "B c.it.ems"), "\"B c\".\"it.ems\""),
        ];
        let mut watch = Watch::start(db, tables).await;
        write_everything(&mut watch, "items", "items", "id", "body").await;
        // A name is first looked up as a whole.
        write_everything(&mut watch, "a's", "\"a.items\"", "id", "body").await;
        write_everything(&mut watch, "b's", "\"B c\".items", "id", "body").await;
        write_everything(&mut watch, "b's dotted", "\"B c\".\"it.ems\"", "id", "body").await;
        watch.step("INSERT INTO a.items VALUES (9, 'nobody watches this one')").await;
        assert_eq!(watch.entries(), []);
    }

    /// Writers find their own tables first; the log is found all the same.
    async fn a_writers_search_path_does_not_hide_the_log(db: TestDatabase) {
        db.execute("CREATE SCHEMA mine; CREATE TABLE mine.notes (id integer PRIMARY KEY, body text)").await;
        db.execute("CREATE TABLE mine._rhtmx_sync_log (id integer)").await;
        let notes = Table::new(EntityConfig::on_table("notes", "mine.notes"), "mine.notes");
        let mut watch = Watch::start(db, [notes]).await;
        watch.step("SET search_path = mine; INSERT INTO notes VALUES (1, 'a')").await;
        watch.step("SET search_path = ''; UPDATE mine.notes SET body = 'b'").await;
        watch.step("SET search_path = mine; CREATE TEMP TABLE _rhtmx_sync_log (id integer); DELETE FROM notes").await;
    }
}
