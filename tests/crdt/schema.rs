//! The tables get to the schema's version once, or stay as they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rhtmx_sync::crdt::{Crdt, CrdtError, Query, Schema};
use serde_json::json;
use testkit::{TestDatabase, both_backends};

use super::{pool, schema, values};

/// Counts how often tables are made and upgraded.
#[derive(Clone, Default)]
struct Counts {
    creations: Arc<AtomicU32>,
    upgrades: Arc<AtomicU32>,
}

impl Counts {
    fn of(&self) -> (u32, u32) {
        let read = |count: &AtomicU32| count.load(Ordering::SeqCst);
        (read(&self.creations), read(&self.upgrades))
    }

    /// A schema whose functions count their runs. Neither could run twice.
    fn schema(&self, version: u32) -> Schema {
        let (created, upgraded) = (self.creations.clone(), self.upgrades.clone());
        Schema::new(version)
            .entity("notes")
            .on_create(move |tx| {
                created.fetch_add(1, Ordering::SeqCst);
                async move {
                    let columns = if version == 1 {
                        ", old TEXT"
                    } else {
                        ", size INTEGER"
                    };
                    let sql =
                        format!("CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT{columns})");
                    Ok(tx.execute(&sql).await?)
                }
            })
            .on_upgrade(move |tx, from, to| {
                upgraded.fetch_add(1, Ordering::SeqCst);
                async move {
                    assert_eq!((from, to), (1, version));
                    tx.execute("ALTER TABLE notes ADD COLUMN size INTEGER")
                        .await?;
                    tx.execute("UPDATE notes SET size = length(text)").await?;
                    Ok(tx.execute("ALTER TABLE notes DROP COLUMN old").await?)
                }
            })
    }
}

async fn open(db: &TestDatabase, schema: Schema) -> Result<Crdt, CrdtError> {
    Crdt::open(pool(db).await, schema).await
}

both_backends! {
    async fn tables_are_made_and_upgraded_once(db: TestDatabase) {
        let counts = Counts::default();
        let crdt = open(&db, counts.schema(1)).await.expect("it opens");
        assert_eq!(crdt.schema_version().await.expect("a version"), 1);
        crdt.insert("notes", json!({"id": "a", "text": "milk"})).await.expect("inserted");
        drop(crdt);
        let crdt = open(&db, counts.schema(1)).await.expect("it opens");
        assert_eq!(counts.of(), (1, 0));
        crdt.close().await;
        let crdt = open(&db, counts.schema(2)).await.expect("it opens");
        assert_eq!(crdt.schema_version().await.expect("a version"), 2);
        assert_eq!(counts.of(), (1, 1));
        // What the upgrade has written merges like anything else that is written with SQL.
        let note = values(crdt.get("notes", "a").await.expect("read"));
        assert_eq!(json!(note), json!({"id": "a", "text": "milk", "size": 4}));
        crdt.update("notes", "a", json!({"size": 5})).await.expect("updated");
        assert!(crdt.query_deleted(Query::new("notes")).await.expect("read").is_empty());
    }

    async fn two_programs_that_open_at_the_same_time_upgrade_once(db: TestDatabase) {
        let counts = Counts::default();
        let both = tokio::join!(open(&db, counts.schema(1)), open(&db, counts.schema(1)));
        let (one, two) = (both.0.expect("it opens"), both.1.expect("it opens"));
        assert_eq!(counts.of(), (1, 0));
        one.insert("notes", json!({"id": "a", "text": "milk"})).await.expect("inserted");
        assert!(two.get("notes", "a").await.expect("read").is_some());
        drop((one, two));
        let both = tokio::join!(open(&db, counts.schema(2)), open(&db, counts.schema(2)));
        let (one, two) = (both.0.expect("it opens"), both.1.expect("it opens"));
        assert_eq!(counts.of(), (1, 1));
        for crdt in [one, two] {
            assert_eq!(crdt.schema_version().await.expect("a version"), 2);
        }
    }

    async fn a_failed_upgrade_leaves_the_old_version(db: TestDatabase) {
        let counts = Counts::default();
        drop(open(&db, counts.schema(1)).await.expect("it opens"));
        let failing = Schema::new(2).entity("notes").on_upgrade(async |tx, _, _| {
            tx.execute("ALTER TABLE notes ADD COLUMN size INTEGER").await?;
            Ok(tx.execute("UPDATE notes SET no_such_column = 1").await?)
        });
        let failed = open(&db, failing).await;
        assert!(matches!(failed, Err(CrdtError::Upgrade { from: 1, to: 2, .. })), "{failed:?}");
        assert!(db.try_execute("SELECT size FROM notes").await.is_err());
        let crdt = open(&db, counts.schema(1)).await.expect("it opens");
        assert_eq!(crdt.schema_version().await.expect("a version"), 1);
        drop(crdt);
        open(&db, counts.schema(2)).await.expect("the upgrade can be tried again");
    }

    async fn tables_of_a_newer_version_are_left_alone(db: TestDatabase) {
        let counts = Counts::default();
        drop(open(&db, counts.schema(3)).await.expect("it opens"));
        let older = open(&db, counts.schema(2)).await;
        let is_told = matches!(older, Err(CrdtError::NewerVersion { stored: 3, version: 2 }));
        assert!(is_told, "{older:?}");
        assert!(matches!(open(&db, Schema::new(0)).await, Err(CrdtError::NoVersion)));
    }

    async fn a_table_that_is_missing_is_told(db: TestDatabase) {
        let missing = open(&db, Schema::new(1).entity("notes")).await;
        assert!(matches!(missing, Err(CrdtError::Engine(_))), "{missing:?}");
        open(&db, schema()).await.expect_err("these tables have a version and were never made");
    }
}

/// PostgreSQL would make a commit after it a rollback, and say nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_an_upgrade_passes_over_is_told() {
    let db = TestDatabase::postgres().await;
    let careless = Schema::new(1).on_create(async |tx| {
        tx.execute("CREATE TABLE kept (id TEXT PRIMARY KEY)")
            .await?;
        let _ = tx.execute("no statement").await;
        Ok(())
    });
    let failed = open(&db, careless).await;
    assert!(
        matches!(failed, Err(CrdtError::Upgrade { .. })),
        "{failed:?}"
    );
}
