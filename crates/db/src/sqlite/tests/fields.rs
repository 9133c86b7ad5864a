//! What triggers keep beside the rows of an entity whose rows merge by their fields.

use diesel::sql_types::{Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use merge::{Clock, ColumnMerge, ColumnRule, Comparison, Deletes, Metadata, NodeId, Rules};
use serde_json::{Value, json};

use super::Synced;
use crate::entity::EntityConfig;

const TODOS: &str = "CREATE TABLE todos (id INTEGER PRIMARY KEY, title TEXT, due DATE, likes INT, tags JSON, best INT, \
    slug TEXT UNIQUE, loud TEXT AS (upper(title)))";
const GROUND: &str = "1970-01-01T00:00:00.000Z-0000-0";
/// Above every clock of these tests' time.
const LATE: &str = "2100-01-01T00:00:00.999Z-0009-client";

/// An entry of the metadata.
#[derive(QueryableByName, Debug, Clone, PartialEq)]
pub(super) struct Kept {
    #[diesel(sql_type = Text)]
    pub(super) entity_id: String,
    #[diesel(sql_type = Text)]
    pub(super) newest: String,
    #[diesel(sql_type = Text)]
    pub(super) metadata: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) image: Option<String>,
}

impl Kept {
    fn json(&self) -> Value {
        serde_json::from_str(&self.metadata).expect("JSON")
    }

    pub(super) fn parsed(&self) -> Metadata {
        serde_json::from_str(&self.metadata).expect("metadata")
    }
}

impl Synced {
    pub(super) fn entries_of_fields(&mut self) -> Vec<Kept> {
        sql_query("SELECT entity_id, newest, metadata, image FROM _rhtmx_sync_field WHERE entity = 'e' ORDER BY 1")
            .load(&mut self.other)
            .expect("the entries")
    }

    fn kept(&mut self, key: &str) -> Option<Kept> {
        let mut entries = self.entries_of_fields().into_iter();
        entries.find(|entry| entry.entity_id == key)
    }

    fn metadata(&mut self, key: &str) -> Value {
        self.kept(key)
            .unwrap_or_else(|| panic!("no entry of {key}"))
            .json()
    }

    /// Says of a row what a client's write would have left.
    fn write_entry(&mut self, key: &str, newest: &str, metadata: &Value) {
        self.run(&format!(
            "REPLACE INTO _rhtmx_sync_field VALUES ('e', '{key}', '{newest}', '{metadata}', NULL)"
        ));
    }

    fn node(&mut self) -> NodeId {
        let node = self.ask("SELECT node AS text FROM _rhtmx_sync_meta");
        NodeId::new(&node[0]).expect("a node")
    }
}

pub(super) fn rules(deletes: Deletes) -> Rules {
    let mut rules = Rules {
        deletes,
        ..Rules::default()
    };
    for (column, merge) in [
        ("likes", ColumnMerge::Counter),
        ("tags", ColumnMerge::Set),
        ("best", ColumnMerge::Max(Comparison::Number)),
    ] {
        let rule = ColumnRule {
            merge,
            strategy: None,
        };
        rules.columns.insert(column.to_owned(), rule);
    }
    rules
}

async fn todos(deletes: Deletes) -> Synced {
    let mut synced = Synced::with_fields(TODOS, "todos", rules(deletes)).await;
    synced.run(
        "INSERT INTO todos VALUES (1, 'a', NULL, 1, '[\"x\"]', 1, 'one'), (2, 'b', NULL, 1, NULL, 1, 'two'), \
         (3, 'c', NULL, 1, NULL, 1, 'three')",
    );
    assert_eq!(synced.entries_of_fields(), []);
    synced
}

fn names(metadata: &Value) -> Vec<&String> {
    metadata["fields"]
        .as_object()
        .expect("fields")
        .keys()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_stamps_the_columns_that_changed() {
    let mut synced = todos(Deletes::Win).await;
    let node = synced.node();
    synced.run("UPDATE todos SET title = 'new', due = due, slug = slug");
    assert_eq!(synced.entries_of_fields().len(), 3);
    let first = synced.kept("1").expect("an entry");
    assert_eq!(names(&first.json()), ["title"]);
    assert_eq!(first.json()["born"], GROUND);
    assert_eq!(first.json()["fields"]["title"], *first.newest);
    let clock = Clock::read(&first.newest).expect("a clock");
    assert!(clock.is_of(&node) && clock.counter() == 0, "{clock:?}");
    // In the same millisecond, too, the next clock is above.
    synced.run("UPDATE todos SET title = 'newer' WHERE id = 1; UPDATE todos SET due = '2026-12-01' WHERE id = 1");
    let second = synced.kept("1").expect("an entry");
    assert_eq!(names(&second.json()), ["due", "title"]);
    assert!(second.json()["fields"]["title"].as_str() > Some(&*first.newest));
    assert!(
        second.json()["fields"]["due"] == *second.newest
            && second.json()["fields"]["title"] != *second.newest
    );
    synced.run("UPDATE todos SET title = title");
    assert_eq!(synced.kept("1"), Some(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_clock_gets_none() {
    let mut synced = todos(Deletes::Win).await;
    synced.run("UPDATE todos SET likes = likes + 1, tags = '[\"y\"]', best = 0");
    assert_eq!(synced.entries_of_fields(), []);
    // An edit that can bring the row back is one all the same.
    let mut synced = todos(Deletes::Revive).await;
    for sql in ["SET likes = 9", "SET tags = NULL", "SET best = 0"] {
        synced.run(&format!("UPDATE todos {sql} WHERE id = 1"));
        let entry = synced.kept("1").expect("an entry");
        assert_eq!(entry.json()["edited"], *entry.newest, "{sql}");
    }
    synced.run("UPDATE todos SET title = 'z', best = 5 WHERE id = 1");
    assert_eq!(synced.metadata("1").get("edited"), None);
    assert_eq!(names(&synced.metadata("1")), ["title"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_follow_what_is_written_beside_them() {
    let mut synced = todos(Deletes::Win).await;
    let set = json!({"added": LATE, "removed": {"seen": null, "at": LATE}});
    let sums = json!({"client": {"added": 3, "taken": 0}});
    let marks = json!({"born": GROUND, "fields": {
        "title": LATE, "likes": {"counter": {"set": LATE, "sums": sums}}, "tags": {"set": {"\"x\"": set}}}});
    synced.write_entry("1", LATE, &marks);
    synced.run("UPDATE todos SET best = 9 WHERE id = 1");
    assert_eq!(synced.metadata("1"), marks);
    synced.run("UPDATE todos SET likes = 5 WHERE id = 1");
    assert_eq!(synced.metadata("1"), marks);
    synced.run("UPDATE todos SET likes = NULL, tags = '[\"x\", \"y\"]' WHERE id = 1");
    let entry = synced.kept("1").expect("an entry");
    assert_eq!(
        entry.json(),
        json!({"born": GROUND, "fields": {
        "title": LATE, "likes": {"counter": {"set": LATE, "null": true}}}})
    );
    entry.parsed();
    assert_eq!(entry.newest, LATE);
    synced.run("UPDATE todos SET likes = 7, title = 'z' WHERE id = 1");
    let fields = synced.metadata("1")["fields"].clone();
    assert_eq!(fields["likes"], json!({"counter": {"set": LATE}}));
    assert!(fields["title"].as_str() > Some(LATE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_born_again_above_its_tombstone() {
    let mut synced = todos(Deletes::Win).await;
    synced.run("UPDATE todos SET title = 'z' WHERE id = 1; DELETE FROM todos WHERE id < 3");
    let died = synced.kept("1").expect("a tombstone");
    assert_eq!(died.json(), json!({"born": GROUND, "died": died.newest}));
    assert_eq!(synced.metadata("2")["born"], GROUND);
    synced.run("INSERT INTO todos (id, title) VALUES (1, 'again'), (4, 'new')");
    let born = synced.kept("1").expect("an entry");
    assert_eq!(born.json(), json!({"born": born.newest}));
    assert!(born.newest > died.newest);
    assert_eq!(synced.kept("4"), None);
    synced.run("DELETE FROM todos");
    let died = synced.kept("1").expect("a tombstone");
    assert_eq!(
        died.json(),
        json!({"born": born.newest, "died": died.newest})
    );
    assert_eq!(synced.entries_of_fields().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_row_that_may_come_back_is_what_reads_show() {
    let table = "CREATE TABLE t (k BLOB PRIMARY KEY, text TEXT, real REAL, num NUMERIC, bytes BLOB, at DATETIME, flag BOOL, \
        doc JSON, any, loud AS (upper(text)))";
    let mut synced = Synced::with_fields(
        table,
        "t",
        Rules {
            deletes: Deletes::Revive,
            ..Rules::default()
        },
    )
    .await;
    synced.run(
        "INSERT INTO t VALUES (x'01', 'a\"b\n', 0.1, 9007199254740993, x'00ff10', '2026-11-20 07:00:00', 1, \
         '{\"a\": [1, null]}', x'1234'), (x'02', NULL, 1e300, 2.5, x'', NULL, NULL, NULL, NULL)",
    );
    let (_, rows) = synced.rows().await;
    synced.run("DELETE FROM t");
    for (key, mut row) in rows {
        let members = row.as_object_mut().expect("an object");
        members.remove("k");
        members.remove("loud");
        let image = synced
            .kept(&key)
            .expect("a tombstone")
            .image
            .expect("an image");
        assert_eq!(serde_json::from_str::<Value>(&image).expect("JSON"), row);
    }
    // Once the row is there, it is its own image. What cannot be kept cannot come back.
    synced.run("INSERT INTO t (k, num) VALUES (x'01', x'00')");
    assert_eq!(synced.kept("AQ==").expect("an entry").image, None);
    synced.run("DELETE FROM t");
    assert_eq!(synced.kept("AQ==").expect("an entry").image, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_stay_beside_an_image() {
    let mut synced = todos(Deletes::Revive).await;
    synced
        .run("UPDATE todos SET title = 'z' WHERE id = 1; UPDATE todos SET likes = 3 WHERE id = 1");
    let before = synced.metadata("1");
    synced.run("DELETE FROM todos WHERE id = 1");
    let died = synced.kept("1").expect("a tombstone");
    assert_eq!(
        died.json(),
        json!({"born": GROUND, "died": died.newest, "fields": before["fields"]})
    );
    assert!(
        died.image
            .is_some_and(|image| image.contains("\"likes\":3"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_another_row() {
    for deletes in [Deletes::Win, Deletes::Revive] {
        let mut synced = todos(deletes).await;
        synced.run("UPDATE todos SET id = 9, title = 'z' WHERE id = 1");
        assert_eq!(synced.entries_of_fields().len(), 1);
        assert!(synced.metadata("1")["died"].is_string());
        synced.run("UPDATE todos SET rowid = 1 WHERE id = 9");
        let back = synced.kept("1").expect("an entry");
        assert_eq!(back.json(), json!({"born": back.newest}));
        assert!(synced.metadata("9")["died"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_replaced_is_deleted_and_created() {
    for recursive in ["OFF", "ON"] {
        let mut synced = todos(Deletes::Revive).await;
        synced.run(&format!("PRAGMA recursive_triggers = {recursive}"));
        synced.run("REPLACE INTO todos (id, title, slug) VALUES (1, 'same', 'one')");
        let same = synced.kept("1").expect("an entry");
        assert_eq!(same.json(), json!({"born": same.newest}));
        synced.run("REPLACE INTO todos (id, title, slug) VALUES (8, 'other', 'two')");
        assert_eq!(synced.kept("8"), None);
        let gone = synced.kept("2").expect("a tombstone");
        assert_eq!(gone.json(), json!({"born": GROUND, "died": gone.newest}));
        assert!(gone.image.expect("an image").contains("\"slug\":\"two\""));
        synced.run("UPDATE OR REPLACE todos SET slug = 'three' WHERE id = 8");
        assert!(synced.metadata("3")["died"].is_string());
        assert_eq!(names(&synced.metadata("8")), ["slug"]);
        synced.run("UPDATE OR REPLACE todos SET id = 1 WHERE id = 8");
        let twice = synced.kept("1").expect("an entry");
        assert_eq!(twice.json(), json!({"born": twice.newest}));
        assert!(twice.newest > same.newest);
        assert!(synced.metadata("8")["died"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_kept_is_not_touched() {
    let mut synced = todos(Deletes::Win).await;
    for sql in [
        "INSERT OR IGNORE INTO todos (id, slug) VALUES (1, 'x'), (9, 'two'), (10, 'ten')",
        "INSERT INTO todos (id, slug) VALUES (1, 'x'), (9, 'two') ON CONFLICT DO NOTHING",
        "UPDATE OR IGNORE todos SET slug = 'one'",
        "INSERT INTO todos (id, slug) VALUES (11, 'eleven')",
        "DELETE FROM todos WHERE id > 9",
    ] {
        synced.run(sql);
        let entries = synced.entries_of_fields();
        assert!(
            entries.iter().all(|entry| entry.entity_id.len() == 2),
            "{sql}: {entries:?}"
        );
    }
    synced.fails("INSERT INTO todos (id, slug) VALUES (12, 'twelve'), (1, 'x')");
    synced.run("INSERT INTO todos (id, title) VALUES (1, 'upserted') ON CONFLICT (id) DO UPDATE SET title = excluded.title");
    let entry = synced.metadata("1");
    assert_eq!(
        (&entry["born"], names(&entry)),
        (&json!(GROUND), vec![&"title".to_owned()])
    );
    assert_eq!(
        synced.ask("SELECT entity_id AS text FROM _rhtmx_sync_replaced"),
        [""; 0]
    );
}

/// The clause of the program's statement applies to what the triggers write.
#[tokio::test(flavor = "multi_thread")]
async fn no_conflict_clause_keeps_a_stamp_away() {
    let mut synced = todos(Deletes::Win).await;
    let mut newest = String::new();
    for (index, or) in ["IGNORE", "REPLACE", "FAIL", "ABORT", "ROLLBACK"]
        .iter()
        .enumerate()
    {
        synced.run(&format!(
            "UPDATE OR {or} todos SET title = '{index}' WHERE id = 1"
        ));
        let entry = synced.kept("1").expect("an entry");
        assert!(entry.newest > newest, "{or}");
        newest = entry.newest;
    }
    synced.run("DELETE FROM todos WHERE id = 1; INSERT OR IGNORE INTO todos (id) VALUES (1)");
    assert!(synced.metadata("1").get("died").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_stamps_is_not_stamped_again() {
    let mut synced = todos(Deletes::Win).await;
    let stamp = |columns: &str| {
        format!(
            "DELETE FROM _rhtmx_sync_mutation; INSERT INTO _rhtmx_sync_mutation (client_id, mutation, stamped) \
             VALUES ('c', 1, '{{\"entity\": \"e\", \"id\": \"1\", \"columns\": {columns}}}')"
        )
    };
    let mine = json!({"born": GROUND, "fields": {"title": LATE}});
    synced.write_entry("1", LATE, &mine);
    synced.run(&stamp("[\"title\"]"));
    synced.run("UPDATE todos SET title = 'mine' WHERE id = 1");
    assert_eq!(synced.metadata("1"), mine);
    // What a trigger of the user's changes beside it is stamped.
    synced.run("UPDATE todos SET title = 'more', due = '2026-12-01'");
    assert_eq!(synced.metadata("1")["fields"]["title"], LATE);
    assert!(synced.metadata("1")["fields"]["due"].as_str() > Some(LATE));
    assert_eq!(names(&synced.metadata("2")), ["due", "title"]);
    synced.run(&stamp("null"));
    synced.run("UPDATE todos SET title = 'whole' WHERE id = 1");
    assert_eq!(synced.metadata("1")["fields"]["title"], LATE);
    let dead = json!({"born": GROUND, "died": LATE});
    synced.write_entry("1", LATE, &dead);
    synced.run("DELETE FROM todos WHERE id < 3");
    assert_eq!(synced.metadata("1"), dead);
    assert!(synced.metadata("2")["died"].is_string());
    let alive = json!({"born": LATE});
    synced.write_entry("1", LATE, &alive);
    synced.run("INSERT INTO todos (id) VALUES (1), (2)");
    assert_eq!(synced.metadata("1"), alive);
    assert_eq!(synced.metadata("2").get("died"), None);
    // A deletion of a row that the engine has created is none of the engine's.
    synced.run("DELETE FROM todos WHERE id = 1");
    assert!(synced.metadata("1")["died"].as_str() > Some(LATE));
    for broken in ["'x'", "'5'", "'{}'", "NULL"] {
        synced.run(&format!(
            "UPDATE _rhtmx_sync_mutation SET stamped = {broken}"
        ));
        synced.run("UPDATE todos SET title = coalesce(title, '') || '!' WHERE id = 2");
        assert_eq!(names(&synced.metadata("2")), ["title"], "{broken}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_is_the_next_above_the_newest() {
    let mut synced = todos(Deletes::Win).await;
    let node = synced.node();
    for newest in [
        LATE,
        "2100-01-01T00:00:00.000Z-0000-a",
        "2100-01-01T00:00:00.000Z-000F-a",
        "2100-01-01T00:00:00.000Z-09FF-zürich-5",
        "2100-01-01T00:00:00.000Z-9FFE-a",
        "2100-01-01T00:00:00.000Z-FFFE-a",
        "2100-01-01T00:00:00.000Z-FFFF-a",
        "2100-02-28T23:59:59.999Z-FFFF-a",
        "2100-01-01T00:00:00.000Z-00ff-a",
        "2100-01-01T00:00:00.123456Z-00FF-a",
        "9999-12-31T23:59:59.998Z-FFFF-a",
    ] {
        let below = Clock::read_foreign(newest).expect("a clock");
        let next = Clock::after(Some(&below), 0, &node).expect("a later clock");
        synced.write_entry("1", newest, &json!({"born": newest}));
        synced.run("UPDATE todos SET title = title || '!' WHERE id = 1");
        assert_eq!(synced.kept("1").expect("an entry").newest, next.as_str());
    }
    // There is no later one: no writer fails for that.
    synced.write_entry("1", "9999-12-31T23:59:59.999Z-FFFF-a", &json!({}));
    synced.run("UPDATE todos SET title = title || '!' WHERE id = 1; DELETE FROM todos");
    synced.kept("1").expect("an entry").parsed();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_metadata_makes_a_writer_fail() {
    let kinds = [Deletes::Win, Deletes::Revive].map(|deletes| [(deletes, false), (deletes, true)]);
    for (deletes, has_peers) in kinds.into_iter().flatten() {
        let mut synced = todos(deletes).await;
        synced.run("UPDATE _rhtmx_sync_meta SET node = 'here'");
        if has_peers {
            synced.run("INSERT INTO _rhtmx_sync_peer VALUES ('there', 'e', '')");
        }
        for broken in [
            "",
            "x",
            "5",
            "[]",
            "null",
            "{\"fields\": 5}",
            "{\"fields\": [1, {}]}",
            "{\"born\": {}, \"died\": []}",
            "{\"fields\": {\"likes\": 7, \"tags\": [], \"title\": {}}}",
            "{\"fields\": {\"likes\": {\"counter\": 7}, \"tags\": {\"set\": {\"\\\"x\\\"\": 5}}}}",
            "{\"fields\": {\"likes\": {\"counter\": {\"sums\": []}}, \"tags\": {\"set\": {\"\\\"x\\\"\": {\"added\": 5}}}}}",
            "{\"fields\": {\"likes\": {\"counter\": {\"sums\": {\"here\": {\"added\": \"x\", \"taken\": 9e999}}}}}}",
            "{\"fields\": {\"likes\": {\"counter\": {\"sums\": {\"here\": \"x\"}}}}}",
        ] {
            for sql in [
                "UPDATE todos SET title = title || '!', likes = NULL, tags = 'no json' WHERE id = 1",
                "UPDATE todos SET likes = 1, tags = '[\"y\", 1.5]' WHERE id = 1",
                "UPDATE todos SET likes = 7, tags = '[]' WHERE id = 1",
                "DELETE FROM todos WHERE id = 1",
                "INSERT INTO todos (id, title) VALUES (1, 'a')",
                "REPLACE INTO todos (id, title) VALUES (1, 'b')",
                "UPDATE todos SET id = 5 WHERE id = 1; UPDATE todos SET id = 1 WHERE id = 5",
            ] {
                synced.run(&format!(
                    "REPLACE INTO _rhtmx_sync_field VALUES ('e', '1', '{broken}', '{broken}', NULL)"
                ));
                synced.run(sql);
            }
        }
        synced.follow().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_no_mark_can_hold_harm_no_writer() {
    let table = "CREATE TABLE t (k INTEGER PRIMARY KEY, likes INT, tags JSON, best)";
    let mut synced = Synced::with_fields(table, "t", rules(Deletes::Win)).await;
    synced.run("INSERT INTO _rhtmx_sync_peer VALUES ('there', 'e', ''); INSERT INTO t VALUES (1, 0, '[]', NULL)");
    let many: Vec<u32> = (0..5000).collect();
    for values in [
        ["9e999", "'x'"],
        ["-9e999", "x'00'"],
        [
            "-9223372036854775808",
            "'[\"\\u0000\", \"\u{1f600}\", null, [], {}, 1.0, 1, 1e300, -0.0]'",
        ],
        ["9223372036854775807", "'{\"a\": 1}'"],
        ["9007199254740992", "'5'"],
        ["-9007199254740992", "NULL"],
        ["NULL", "'[\"a\", \"a\"]'"],
        ["0.1", "5"],
        ["1e-300", "cast(x'225b00' AS TEXT)"],
        ["x'00'", "'[]'"],
        ["'x'", &format!("'{many:?}'")],
        ["7", "'[\"b\"]'"],
    ] {
        let [likes, tags] = values;
        synced.run(&format!("UPDATE t SET likes = {likes}, tags = {tags}"));
        if let Some(entry) = synced.kept("1") {
            entry.parsed();
        }
    }
    // Numbers beside the whole ones are added up, too.
    synced.run("UPDATE t SET likes = likes + 0.1; UPDATE t SET likes = likes + 0.2; UPDATE t SET likes = likes - 2.5");
    let node = synced.node();
    let sums = synced.metadata("1")["fields"]["likes"]["counter"]["sums"][node.as_str()].clone();
    assert_eq!(
        sums,
        json!({"added": "0.300000000", "taken": "2.600000000"})
    );
    synced.follow().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_come_and_go_under_the_triggers() {
    let mut synced = todos(Deletes::Revive).await;
    synced.run("UPDATE todos SET due = '2026-12-01' WHERE id = 1");
    synced.run("ALTER TABLE todos DROP COLUMN due");
    synced.run("ALTER TABLE todos RENAME COLUMN title TO name");
    synced.run("ALTER TABLE todos ADD COLUMN more TEXT");
    synced.run("UPDATE todos SET name = 'z', likes = 2 WHERE id = 1; REPLACE INTO todos (id, slug) VALUES (7, 'two')");
    synced.run("DELETE FROM todos WHERE id = 1");
    let before = synced.entries_of_fields();
    assert_eq!(before.len(), 2);
    // The new capture stamps the new column, and leaves what is there.
    synced
        .install_as(EntityConfig::on_table("e", "todos").fields(rules(Deletes::Revive)))
        .await;
    assert_eq!(synced.entries_of_fields(), before);
    synced.run("UPDATE todos SET more = 'm', name = 'n' WHERE id = 3");
    assert_eq!(names(&synced.metadata("3")), ["more", "name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_dropped_with_the_rules() {
    let mut synced = todos(Deletes::Win).await;
    synced.run("UPDATE todos SET title = 'z'");
    synced
        .install_as(EntityConfig::on_table("e", "todos").fields(rules(Deletes::Revive)))
        .await;
    assert_eq!(synced.entries_of_fields().len(), 3);
    synced.install("e", "todos").await;
    assert_eq!(synced.entries_of_fields(), []);
    let triggers = "SELECT name AS text FROM sqlite_schema WHERE type = 'trigger'";
    assert_eq!(synced.ask(triggers).len(), 7);
    synced.run("UPDATE todos SET title = 'y'");
    assert_eq!(synced.entries_of_fields(), []);
    // No row is touched when they merge again; what is left of another time is dropped.
    synced.write_entry("1", LATE, &json!({"born": LATE}));
    synced
        .install_as(EntityConfig::on_table("e", "todos").fields(rules(Deletes::Win)))
        .await;
    assert_eq!(synced.entries_of_fields(), []);
    synced
        .follow_each(&["UPDATE todos SET title = 'x' WHERE id = 1"])
        .await;
    assert_eq!(synced.entries_of_fields().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_key_have_no_metadata() {
    let mut synced = Synced::with_fields(
        "CREATE TABLE t (a TEXT, b INT, c TEXT UNIQUE, d TEXT, PRIMARY KEY (a, b))",
        "t",
        Rules::default(),
    )
    .await;
    synced
        .run("INSERT INTO t VALUES (NULL, 1, 'x', 'd'), ('k', NULL, 'y', 'd'), ('k', 2, 'z', 'd')");
    synced.run("UPDATE t SET d = 'e'");
    synced.run("REPLACE INTO t VALUES (NULL, 3, 'x', 'd'); REPLACE INTO t VALUES (NULL, 3, 'z', 'd'); DELETE FROM t");
    let entries = synced.entries_of_fields();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].entity_id, "[\"k\",2]");
    assert!(entries[0].json()["died"].is_string());
}
