//! Entities whose rows merge by their fields: what programs write is stamped, so that it merges as devices' writes do.

mod clocks;
mod harmless;
mod installing;
mod lookups;
mod oracle;
mod rules;
mod stamped;

use std::collections::BTreeMap;

use merge::{Clock, ColumnMerge, ColumnRule, Comparison, Deletes, Metadata, Rules};
use rhtmx_sync::{DbPool, EntityConfig, SyncConfig, SyncEngine};
use serde_json::Value;
use testkit::TestDatabase;

/// What is known of one row.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    newest: Clock,
    /// As it is stored.
    json: Value,
    metadata: Metadata,
    image: Value,
}

impl Entry {
    /// Reads an array of the key, the newest clock, the metadata and the image.
    fn read(mut row: Value) -> Self {
        let json = row[2].take();
        let metadata = serde_json::from_value(json.clone());
        Self {
            newest: clock(&row[1]),
            metadata: metadata.unwrap_or_else(|error| panic!("{error}: {json}")),
            json,
            image: row[3].take(),
        }
    }

    /// The clock of a part: `born`, `died` or another.
    #[track_caller]
    fn clock(&self, part: &str) -> Clock {
        clock(&self.json[part])
    }

    /// The clock of a field.
    #[track_caller]
    fn field(&self, name: &str) -> Clock {
        clock(&self.json["fields"][name])
    }

    /// The names of the fields that have something of their own.
    fn fields(&self) -> Vec<&str> {
        let fields = self.json["fields"].as_object();
        fields
            .into_iter()
            .flatten()
            .map(|(name, _)| &**name)
            .collect()
    }
}

#[track_caller]
fn clock(value: &Value) -> Clock {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("no clock: {value}"));
    Clock::read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What is known of an entity's rows, by their keys.
async fn entries_of(db: &TestDatabase, entity: &str) -> BTreeMap<String, Entry> {
    let sql = format!(
        "SELECT jsonb_build_array(entity_id, newest, metadata, image)::text FROM _rhtmx_sync_field WHERE entity = '{entity}'"
    );
    let rows = db.query_json(&sql).await;
    rows.into_iter()
        .map(|row| (row[0].as_str().expect("a key").to_owned(), Entry::read(row)))
        .collect()
}

/// What is known of the rows of `todos`.
async fn entries(db: &TestDatabase) -> BTreeMap<String, Entry> {
    entries_of(db, "todos").await
}

/// What is known of one row of `todos`.
async fn entry(db: &TestDatabase, key: &str) -> Entry {
    let mut entries = entries(db).await;
    entries
        .remove(key)
        .unwrap_or_else(|| panic!("there is no entry of {key:?} in {entries:#?}"))
}

/// Captures an entity, with an engine that has stopped afterwards.
async fn capture(db: &TestDatabase, config: EntityConfig) {
    let pool = DbPool::from_url(&db.url()).await.expect("a pool");
    let engine = SyncEngine::new(SyncConfig::new(pool, vec![config]))
        .await
        .expect("an engine");
    engine.ready().await;
    engine.shutdown().await;
}

/// `todos` whose rows merge by these rules.
async fn capture_todos(db: &TestDatabase, rules: Rules) {
    capture(db, EntityConfig::new("todos").fields(rules)).await;
}

/// The rules with some columns that are no registers.
fn rules(deletes: Deletes, columns: &[(&str, ColumnMerge)]) -> Rules {
    let rule = |merge| ColumnRule {
        merge,
        strategy: None,
    };
    let columns = columns
        .iter()
        .map(|(name, merge)| ((*name).to_owned(), rule(*merge)));
    Rules {
        deletes,
        columns: columns.collect(),
        ..Rules::default()
    }
}

/// A table with columns of every kind, and rules for it.
const TODOS: &str = "CREATE TABLE todos (id integer PRIMARY KEY, title text, due date, likes integer DEFAULT 0, best integer, \
     tags text[] DEFAULT '{}', loud text GENERATED ALWAYS AS (upper(title)) STORED)";

fn todo_rules(deletes: Deletes) -> Rules {
    let columns = [
        ("likes", ColumnMerge::Counter),
        ("best", ColumnMerge::Max(Comparison::Number)),
        ("tags", ColumnMerge::Set),
        ("title", ColumnMerge::Text),
    ];
    rules(deletes, &columns)
}

/// `todos` with rows 1 to 3, captured.
async fn todos(db: &TestDatabase, deletes: Deletes) {
    db.execute(TODOS).await;
    db.execute("INSERT INTO todos (id, title) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
        .await;
    capture_todos(db, todo_rules(deletes)).await;
}
