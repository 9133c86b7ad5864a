//! Databases that come together: changesets, and what keeps two databases equal.

mod bad_pages;
mod commands;
mod constraints;
mod convergence;
mod converging;
mod copying;
mod counters;
mod crdt_sync;
mod family;
mod forgetting;

use std::collections::BTreeMap;

use merge::{ColumnMerge, ColumnRule, Comparison, Deletes, Rules};
use rhtmx_sync::{ChangesetFilter, DbPool, EntityConfig, Replica};
use serde_json::Value;
use testkit::{Backend, TestDatabase};

/// A database with a table `todos`, and its replica.
struct Synced {
    db: TestDatabase,
    replica: Replica,
}

fn rules(deletes: Deletes) -> Rules {
    let column = |merge| ColumnRule {
        merge,
        strategy: None,
    };
    let columns = [
        ("likes", ColumnMerge::Counter),
        ("best", ColumnMerge::Max(Comparison::Json)),
        ("tags", ColumnMerge::Set),
    ];
    Rules {
        deletes,
        columns: columns
            .map(|(name, merge)| (name.to_owned(), column(merge)))
            .into(),
        ..Rules::default()
    }
}

impl Synced {
    async fn new(backend: Backend, deletes: Deletes) -> Self {
        Self::with(backend, deletes, "").await
    }

    /// With more statements beside the table's.
    async fn with(backend: Backend, deletes: Deletes, more: &str) -> Self {
        let db = TestDatabase::new(backend).await;
        let json = match backend {
            Backend::Postgres => "jsonb",
            Backend::Sqlite => "JSON",
        };
        db.execute(&format!(
            "CREATE TABLE todos (id BIGINT PRIMARY KEY, title TEXT, note TEXT, likes INTEGER NOT NULL DEFAULT 0, \
             best INTEGER, tags {json}, code TEXT UNIQUE)"
        ))
        .await;
        if !more.is_empty() {
            db.execute(more).await;
        }
        let replica = replica(&db, &[EntityConfig::new("todos").fields(rules(deletes))]).await;
        Self { db, replica }
    }

    async fn rows(&self) -> BTreeMap<String, Value> {
        let sql = match self.db.backend() {
            Backend::Postgres => "SELECT to_jsonb(t)::text FROM todos t",
            Backend::Sqlite => {
                "SELECT json_object('id', id, 'title', title, 'note', note, 'likes', likes, 'best', best, \
                 'tags', json(tags), 'code', code) FROM todos"
            }
        };
        let rows = self.db.query_json(sql).await.into_iter();
        let in_order = |mut row: Value| {
            // A set has no order: programs write one, merging another.
            if let Some(tags) = row["tags"].as_array_mut() {
                tags.sort_by_key(Value::to_string);
            }
            (row["id"].to_string(), row)
        };
        rows.map(in_order).collect()
    }

    /// All pages of a changeset, as JSON.
    async fn pages(&self, since: Option<&str>) -> Vec<String> {
        let since = since.map(|since| since.parse().expect("a cursor"));
        let mut pages = self
            .replica
            .changeset(ChangesetFilter::default(), since.as_ref())
            .await
            .expect("a changeset");
        let mut texts = Vec::new();
        while let Some(page) = pages.next().await.expect("a page") {
            texts.push(page.to_value(self.replica.names()).to_string());
        }
        texts
    }

    /// Merges a page, and returns how many records have changed something and how many are parked.
    async fn merge(&self, page: &str) -> (u64, u64) {
        let page = self.replica.read(page).expect("a page");
        let merged = self.replica.merge(page).await.expect("no error");
        (merged.changed, merged.parked)
    }

    async fn is_same(&self, other: &Self) -> bool {
        let one = self.replica.digest("todos").await.expect("a digest");
        one.is_same(&other.replica.digest("todos").await.expect("a digest"))
    }
}

async fn replica(db: &TestDatabase, entities: &[EntityConfig]) -> Replica {
    let pool = DbPool::from_url(&db.url()).await.expect("a database");
    Replica::open(pool, entities).await.expect("a replica")
}

/// The cursor with which a changeset ends.
fn cursor_of(pages: &[String]) -> String {
    let page: Value = serde_json::from_str(pages.last().expect("a page")).expect("JSON");
    let cursor = page["_rhtmx_sync"]["cursor"].as_str();
    cursor.expect("a cursor").to_owned()
}

/// How many records the pages have.
fn records_in(pages: &[String]) -> usize {
    let count = |page: &String| {
        let page: Value = serde_json::from_str(page).expect("JSON");
        page["todos"].as_array().map_or(0, Vec::len)
    };
    pages.iter().map(count).sum()
}
