//! Random programs against the merge itself: a statement must leave what a write with the same clock makes of each row.
//!
//! Two connections take turns, each with its own half of the keys, so that neither waits for the other.

use std::collections::{BTreeMap, BTreeSet};

use merge::{ColumnMerge, Comparison, Deletes, Edit, Metadata, NodeId, Row, Rules, Site, Write};
use rhtmx_sync_tests::Dice;
use serde_json::{Map, Value, json};
use testkit::TestDatabase;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::*;

const STATEMENTS: usize = 250;
const KEYS: u64 = 16;
const REGISTERS: [&str; 2] = ["a", "b"];

/// How rows merge, and the name under which the database counts if others merge with it.
struct Entity {
    rules: Rules,
    site: Site,
}

/// What a connection sees: the rows, and what is known of them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Seen {
    rows: BTreeMap<String, Map<String, Value>>,
    entries: BTreeMap<String, Entry>,
}

impl Seen {
    /// What is known of a key, if it ever was a row.
    fn row(&self, key: &str, rules: &Rules) -> Option<Row> {
        let entry = self.entries.get(key);
        let none = Metadata::default();
        let metadata = entry.map_or(&none, |entry| &entry.metadata);
        let gone = entry
            .and_then(|entry| entry.image.as_object().cloned())
            .unwrap_or_default();
        let values = match self.rows.get(key) {
            Some(values) => values,
            None => entry.map(|_| &gone)?,
        };
        let row = Row::new(metadata, values, rules);
        Some(row.unwrap_or_else(|error| panic!("{key}: {error}: {entry:?}")))
    }
}

/// A connection, and the keys that are its own.
struct Program {
    client: Client,
    parity: u64,
    /// What it saw last, and what is committed of its keys.
    seen: Seen,
    committed: Seen,
    is_open: bool,
    is_deferrable: bool,
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let text = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    messages.iter().filter_map(text).collect()
}

impl Program {
    async fn look(&self) -> Seen {
        let parity = self.parity;
        let rows = format!(
            "SELECT json_build_array(id::text, json_build_object('a', a, 'b', b, 'n', n, 'top', top, 'tags', tags)) \
             FROM todos WHERE id % 2 = {parity}"
        );
        let entries = format!(
            "SELECT jsonb_build_array(entity_id, newest, metadata, image) FROM _rhtmx_sync_field \
             WHERE entity = 'todos' AND entity_id::integer % 2 = {parity}"
        );
        let parse = |text: &String| -> Value { serde_json::from_str(text).expect("JSON") };
        let mut seen = Seen::default();
        for mut row in texts(&self.client, &rows).await.iter().map(parse) {
            let Value::Object(values) = row[1].take() else {
                panic!("{row}")
            };
            seen.rows
                .insert(row[0].as_str().expect("a key").to_owned(), values);
        }
        for row in texts(&self.client, &entries).await.iter().map(parse) {
            seen.entries
                .insert(row[0].as_str().expect("a key").to_owned(), Entry::read(row));
        }
        seen
    }

    fn key(&self, dice: &mut Dice) -> u64 {
        dice.pick(0..KEYS) * 2 + self.parity
    }

    fn keys(&self, dice: &mut Dice) -> String {
        let keys: BTreeSet<u64> = (0..dice.pick(1..6)).map(|_| self.key(dice)).collect();
        let keys: Vec<String> = keys.iter().map(u64::to_string).collect();
        keys.join(", ")
    }

    /// A key that is no row's.
    fn free(&self, dice: &mut Dice) -> Option<u64> {
        let key = self.key(dice);
        (!self.seen.rows.contains_key(&key.to_string())).then_some(key)
    }

    fn statement(&self, dice: &mut Dice) -> Option<String> {
        let (key, other) = (self.key(dice), self.key(dice));
        let statement = match dice.pick(0..11) {
            0 | 1 => {
                let action = if dice.chance(50) {
                    "NOTHING".to_owned()
                } else {
                    format!("UPDATE SET {}", sets(dice))
                };
                let keys = self.keys(dice);
                if self.is_deferrable {
                    format!(
                        "INSERT INTO todos SELECT v, 'i', NULL, 1 FROM unnest(ARRAY[{keys}]) v WHERE v NOT IN (SELECT id FROM todos)"
                    )
                } else {
                    format!(
                        "INSERT INTO todos AS t SELECT v, 'i', NULL, 1 FROM unnest(ARRAY[{keys}]) v ON CONFLICT (id) DO {action}"
                    )
                }
            }
            2..=4 => format!(
                "UPDATE todos t SET {} WHERE id IN ({})",
                sets(dice),
                self.keys(dice)
            ),
            5 | 6 => format!("DELETE FROM todos WHERE id IN ({})", self.keys(dice)),
            7 => format!(
                "UPDATE todos t SET id = {}, {} WHERE id = {key}",
                self.free(dice)?,
                sets(dice)
            ),
            8 if self.is_deferrable => {
                format!(
                    "UPDATE todos SET id = CASE id WHEN {key} THEN {other} ELSE {key} END WHERE id IN ({key}, {other})"
                )
            }
            9 if key != other => {
                let free = self
                    .free(dice)
                    .filter(|free| ![key, other].contains(free))?;
                let changes = sets(dice);
                format!(
                    "WITH gone AS (DELETE FROM todos WHERE id = {key}), changed AS (UPDATE todos t SET {changes} WHERE id = {other}) \
                     INSERT INTO todos VALUES ({free}, 'w', 'w', 2)"
                )
            }
            _ => format!(
                "MERGE INTO todos t USING (SELECT unnest(ARRAY[{}]) v) s ON t.id = s.v WHEN MATCHED AND t.n > 2 THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET {} WHEN NOT MATCHED THEN INSERT (id, a) VALUES (s.v, 'm')",
                self.keys(dice),
                sets(dice)
            ),
        };
        Some(statement)
    }

    async fn run(&self, sql: &str) {
        self.client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn step(&mut self, dice: &mut Dice, entity: &Entity) {
        if !self.is_open {
            self.run("BEGIN").await;
            self.is_open = true;
        }
        let Some(sql) = self.statement(dice) else {
            return;
        };
        let is_taken_back = dice.chance(10);
        if is_taken_back {
            self.run("SAVEPOINT s").await;
        }
        self.run(&sql).await;
        let now = self.look().await;
        compare(&self.seen, &now, entity, &sql);
        if is_taken_back {
            self.run("ROLLBACK TO s").await;
            assert_eq!(self.look().await, self.seen, "after {sql} was taken back");
        } else {
            self.seen = now;
        }
        if dice.chance(30) {
            self.end(dice.chance(85)).await;
        }
    }

    async fn end(&mut self, commits: bool) {
        if commits {
            self.committed = self.seen.clone();
        }
        self.run(if commits { "COMMIT" } else { "ROLLBACK" }).await;
        self.seen = self.committed.clone();
        self.is_open = false;
        assert_eq!(self.look().await, self.seen);
    }
}

/// Assignments to some columns. Many leave the value as it is.
fn sets(dice: &mut Dice) -> String {
    let mut sets = vec!["top = t.top".to_owned()];
    for column in ["a", "b"] {
        if dice.chance(50) {
            sets.push(match dice.pick(0..3) {
                0 => format!("{column} = NULL"),
                value => format!("{column} = 'v{value}'"),
            });
        }
    }
    if dice.chance(30) {
        let sql = ["coalesce(t.n, 0) + 1", "t.n - 3", "7", "NULL"];
        sets.push(format!("n = {}", sql[dice.pick(0..4) as usize]));
    }
    if dice.chance(30) {
        let sql = [
            r#"t.tags || '["x", 1.50]'"#,
            "t.tags - 'x'",
            r#"'["x", "\"", true]'"#,
            "'[1.5, \"y\"]'",
        ];
        sets.push(format!("tags = {}", sql[dice.pick(0..4) as usize]));
    }
    if dice.chance(20) {
        sets[0] = "top = 9".to_owned();
    }
    sets.join(", ")
}

/// What a statement left must be what a write of its clock makes of what was there.
#[track_caller]
fn compare(before: &Seen, now: &Seen, entity: &Entity, sql: &str) {
    let Entity { rules, site } = entity;
    let keys: BTreeSet<&String> = before
        .rows
        .keys()
        .chain(now.rows.keys())
        .chain(before.entries.keys())
        .chain(now.entries.keys())
        .collect();
    for key in keys {
        let (was, is) = (before.entries.get(key), now.entries.get(key));
        let said = format!(
            "{key} after {sql}\nwas {:?} {was:?}\nis {:?} {is:?}",
            before.rows.get(key),
            now.rows.get(key)
        );
        let Some(edit) = edit(before.rows.get(key), now.rows.get(key), entity) else {
            assert_eq!(was, is, "nothing to stamp: {said}");
            continue;
        };
        let known = before.row(key, rules);
        let Some(is) = is else {
            assert!(
                matches!(edit, Edit::Create(_)) && was.is_none(),
                "no entry: {said}"
            );
            continue;
        };
        assert!(
            known.is_some(),
            "an entry of a row that was never there: {said}"
        );
        let has_clock = match &edit {
            Edit::Update(values) => values.keys().any(|name| REGISTERS.contains(&name.as_str())),
            _ => true,
        };
        match has_clock {
            true => assert_eq!(is.metadata.newest(), Some(&is.newest), "newest: {said}"),
            // What is added has none of its own.
            false => assert!(is.metadata.newest() <= Some(&is.newest), "newest: {said}"),
        }
        assert!(
            was.is_none_or(|was| was.newest < is.newest),
            "above all before: {said}"
        );
        let born = known.as_ref().and_then(Row::born).cloned();
        let write = Write {
            clock: is.newest.clone(),
            born,
            seen: None,
            edit,
        };
        let written = write.apply(known.as_ref(), rules, site).expect("a write");
        let expected = with_values(written.row, now.rows.get(key), rules);
        let found = now.row(key, rules).expect("a row");
        assert_eq!(
            found.is_alive(rules),
            now.rows.contains_key(key),
            "alive: {said}"
        );
        assert_eq!(found, expected, "{said}");
    }
}

/// The write that a statement was for a row; none if it stamps nothing.
fn edit(
    before: Option<&Map<String, Value>>,
    now: Option<&Map<String, Value>>,
    entity: &Entity,
) -> Option<Edit> {
    match (before, now) {
        (None, None) => None,
        (None, Some(now)) => Some(Edit::Create(now.clone())),
        (Some(_), None) => Some(Edit::Delete),
        (Some(before), Some(now)) => {
            let changed: Map<_, _> = now
                .iter()
                .filter(|(name, value)| before[*name] != **value)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let counts = entity.site.counts_as.is_some();
            let mut values = Map::new();
            for (name, value) in &changed {
                let value = match (before[name].as_i64(), value.as_i64()) {
                    (Some(was), Some(is)) if name == "n" => json!({ "add": is - was }),
                    _ => value.clone(),
                };
                if REGISTERS.contains(&name.as_str()) || counts && name != "top" {
                    values.insert(name.clone(), value);
                }
            }
            let revives = entity.rules.deletes == Deletes::Revive && !changed.is_empty();
            (revives || !values.is_empty()).then_some(Edit::Update(values))
        }
    }
}

/// The row with the table's values in the columns that have no clocks.
fn with_values(row: Row, values: Option<&Map<String, Value>>, rules: &Rules) -> Row {
    match values {
        Some(values) => Row::new(&row.metadata(), values, rules).expect("a row"),
        None => row,
    }
}

async fn run(
    db: &TestDatabase,
    deletes: Deletes,
    (is_deferrable, has_peers): (bool, bool),
    dice: &mut Dice,
) {
    let deferrable = if is_deferrable { " DEFERRABLE" } else { "" };
    db.execute(&format!(
        "DROP TABLE IF EXISTS todos; CREATE TABLE todos (id integer PRIMARY KEY{deferrable}, \
         a text, b text, n integer, top integer, tags jsonb NOT NULL DEFAULT '[]')"
    ))
    .await;
    let rules = rules(
        deletes,
        &[
            ("b", ColumnMerge::Text),
            ("n", ColumnMerge::Counter),
            ("top", ColumnMerge::Max(Comparison::Number)),
            ("tags", ColumnMerge::Set),
        ],
    );
    capture_todos(db, rules.clone()).await;
    let mut site = Site::default();
    db.execute("DELETE FROM _rhtmx_sync_peer").await;
    if has_peers {
        db.execute("INSERT INTO _rhtmx_sync_peer VALUES ('other', 'todos', '')")
            .await;
        let node = db.query_text("SELECT node FROM _rhtmx_sync_meta").await;
        site.counts_as = node[0].as_deref().and_then(|node| NodeId::new(node).ok());
        assert!(site.counts_as.is_some());
    }
    let entity = Entity { rules, site };
    let mut programs = Vec::new();
    for parity in 0..2 {
        let (client, seen) = (db.connect_postgres().await, Seen::default());
        programs.push(Program {
            client,
            parity,
            committed: seen.clone(),
            seen,
            is_open: false,
            is_deferrable,
        });
    }
    for _ in 0..STATEMENTS {
        let program = usize::from(dice.chance(50));
        programs[program].step(dice, &entity).await;
    }
    let known: usize = programs
        .iter()
        .map(|program| program.seen.entries.len())
        .sum();
    assert!(known > 10, "a test of {known} entries shows little");
    for program in &mut programs {
        if program.is_open {
            program.end(true).await;
        }
    }
}

on_postgres! {
    async fn statements_leave_what_the_merge_makes_of_them(db: TestDatabase) {
        let mut dice = Dice::new("statements_leave_what_the_merge_makes_of_them");
        for deletes in [Deletes::Win, Deletes::Revive] {
            for is_deferrable in [false, true] {
                for has_peers in [false, true] {
                    run(&db, deletes, (is_deferrable, has_peers), &mut dice).await;
                }
            }
        }
    }
}
