//! A database with a server on it, and the replica by which it comes together with others.

use std::collections::BTreeMap;

use merge::{
    Clock, ColumnMerge, ColumnRule, Comparison, Deletes, FieldMergeStrategy, Metadata, Row, Rules,
};
use rhtmx_sync::{EntityConfig, Replica};
use rhtmx_sync_tests::TestServer;
use serde_json::{Map, Value};
use testkit::{Backend, TestDatabase};

use super::FIXED;

/// The columns that are no key's.
pub(super) const COLUMNS: [&str; 10] = [
    "title", "body", "motto", "state", "owner", "likes", "points", "best", "least", "tags",
];

pub(super) struct Site {
    /// Its place among the sites.
    pub(super) number: usize,
    pub(super) name: &'static str,
    pub(super) db: TestDatabase,
    pub(super) replica: Replica,
    pub(super) server: TestServer,
    rules: Rules,
}

/// A row as a database holds it, with what is known beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Held {
    pub(super) row: Value,
    pub(super) metadata: Value,
    /// What is not older than any clock in it, and the values of a row that is gone and may come back.
    pub(super) newest: Value,
    pub(super) image: Value,
}

fn rules(deletes: Deletes) -> Rules {
    let of_merge = |merge| ColumnRule {
        merge,
        strategy: None,
    };
    let of_strategy = |strategy| ColumnRule {
        strategy: Some(strategy),
        ..ColumnRule::default()
    };
    let columns = [
        ("body", of_strategy(FieldMergeStrategy::KeepBoth)),
        ("state", of_strategy(FieldMergeStrategy::ServerWins)),
        ("owner", of_strategy(FieldMergeStrategy::ClientWins)),
        ("likes", of_merge(ColumnMerge::Counter)),
        ("points", of_merge(ColumnMerge::Counter)),
        ("best", of_merge(ColumnMerge::Max(Comparison::Number))),
        ("least", of_merge(ColumnMerge::Min(Comparison::Number))),
        ("tags", of_merge(ColumnMerge::Set)),
    ];
    let columns = columns.map(|(name, rule)| (name.to_owned(), rule));
    Rules {
        deletes,
        columns: columns.into(),
        ..Rules::default()
    }
}

impl Site {
    /// The two PostgreSQL databases and the SQLite file.
    pub(super) async fn all(deletes: Deletes) -> Vec<Self> {
        let sites = [
            ("the first PostgreSQL", Backend::Postgres),
            ("the second PostgreSQL", Backend::Postgres),
            ("SQLite", Backend::Sqlite),
        ];
        let sites = sites.into_iter().enumerate();
        let sites =
            sites.map(|(number, (name, backend))| Self::start(number, name, backend, deletes));
        futures_util::future::join_all(sites).await
    }

    async fn start(number: usize, name: &'static str, backend: Backend, deletes: Deletes) -> Self {
        let db = TestDatabase::new(backend).await;
        let json = match backend {
            Backend::Postgres => "jsonb",
            Backend::Sqlite => "JSON",
        };
        db.execute(&format!(
            "CREATE TABLE notes (id BIGINT PRIMARY KEY, title TEXT, body TEXT, motto TEXT, state TEXT, owner TEXT, \
             likes INTEGER NOT NULL DEFAULT 0, points INTEGER NOT NULL DEFAULT 0, best INTEGER, least INTEGER, tags {json})"
        ))
        .await;
        for id in 1..=FIXED {
            db.execute(&format!("INSERT INTO notes (id, tags) VALUES ({id}, '[]')"))
                .await;
        }
        let rules = rules(deletes);
        let notes = EntityConfig::new("notes").fields(rules.clone());
        let replica = crate::replica(&db, std::slice::from_ref(&notes)).await;
        let server = TestServer::start(&db, [notes]).await;
        Self {
            number,
            name,
            db,
            replica,
            server,
            rules,
        }
    }

    /// Everything that is here, by key, with the metadata in its one form: triggers write less than merging does of a row
    /// that is gone. What is not older than any of its clocks is each database's own, and rises with each change of the row.
    pub(super) async fn held_in_one_form(&self) -> BTreeMap<String, Held> {
        let mut held = self.held().await;
        for held in held.values_mut().filter(|held| !held.metadata.is_null()) {
            let metadata: Metadata =
                serde_json::from_value(held.metadata.take()).expect("metadata");
            let newest = held.newest.take();
            let newest = Clock::read(newest.as_str().expect("a clock")).expect("a clock");
            let is_above = metadata.newest().is_none_or(|clock| *clock <= newest);
            assert!(is_above, "{} is older than {metadata:?}", newest.as_str());
            let values = if held.row.is_null() {
                &held.image
            } else {
                &held.row
            };
            let mut values: Map<String, Value> = values.as_object().cloned().unwrap_or_default();
            values.remove("id");
            let row = Row::new(&metadata, &values, &self.rules).expect("a row");
            held.metadata = serde_json::to_value(row.metadata()).expect("JSON");
        }
        held
    }

    /// Everything that is here, by key.
    pub(super) async fn held(&self) -> BTreeMap<String, Held> {
        let (row, metadata) = match self.db.backend() {
            Backend::Postgres => (
                "SELECT to_jsonb(n)::text FROM notes n".to_owned(),
                "SELECT json_build_array(entity_id, newest, metadata, image)::text FROM _rhtmx_sync_field",
            ),
            Backend::Sqlite => {
                let columns = COLUMNS.map(|column| match column {
                    "tags" => "'tags', json(tags)".to_owned(),
                    column => format!("'{column}', {column}"),
                });
                (
                    format!(
                        "SELECT json_object('id', id, {}) FROM notes",
                        columns.join(", ")
                    ),
                    "SELECT json_array(entity_id, newest, json(metadata), json(image)) FROM _rhtmx_sync_field",
                )
            }
        };
        let mut held: BTreeMap<String, Held> = BTreeMap::new();
        for row in self.db.query_json(&row).await {
            let key = row["id"].to_string();
            held.entry(key).or_default().row = in_order(row);
        }
        for mut entry in self.db.query_json(metadata).await {
            let key = entry[0].as_str().expect("a key").to_owned();
            let held = held.entry(key).or_default();
            (held.newest, held.metadata) = (entry[1].take(), entry[2].take());
            held.image = in_order(entry[3].take());
        }
        held
    }
}

/// A set has no order: programs write one, merging another.
pub(super) fn in_order(mut row: Value) -> Value {
    if let Some(tags) = row.get_mut("tags").and_then(Value::as_array_mut) {
        tags.sort_by_key(Value::to_string);
        tags.dedup();
    }
    row
}
