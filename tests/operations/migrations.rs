//! The migrations as plain SQL that any program can run, up and down.

use std::fs;
use std::path::Path;

use rhtmx_sync::SyncEngine;
use rhtmx_sync_tests::TestServer;
use testkit::{Backend, TestDatabase, both_backends};

use crate::writers::{NOTES, write_last};

/// The scripts of one direction, in the order in which they run.
fn scripts(backend: Backend, name: &str) -> Vec<String> {
    let folder = match backend {
        Backend::Postgres => "../migrations",
        Backend::Sqlite => "../migrations_sqlite",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).expect("the migrations");
    let mut folders: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    if name == "down.sql" {
        folders.reverse();
    }
    assert!(!folders.is_empty());
    folders
        .iter()
        .map(|folder| fs::read_to_string(folder.join(name)).expect(name))
        .collect()
}

async fn apply(db: &TestDatabase, name: &str) {
    for script in scripts(db.backend(), name) {
        db.execute(&script).await;
    }
}

/// Everything of the engine's in the catalog: tables with their columns, indexes, functions, triggers.
async fn catalog(db: &TestDatabase) -> Vec<String> {
    let query = match db.backend() {
        Backend::Postgres => {
            "SELECT 'column ' || concat_ws(' ', attrelid::regclass, attname, atttypid::regtype, attnotnull) \
             FROM pg_attribute WHERE attrelid::regclass::text LIKE '\\_rhtmx%' AND attnum > 0 \
             UNION ALL SELECT 'class ' || concat_ws(' ', relname, relkind, relacl) FROM pg_class \
             WHERE relname LIKE '\\_rhtmx%' \
             UNION ALL SELECT 'function ' || concat_ws(' ', proname, proacl) FROM pg_proc \
             WHERE proname LIKE '\\_rhtmx%' \
             UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname LIKE '\\_rhtmx%' ORDER BY 1"
        }
        Backend::Sqlite => {
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema \
             WHERE name LIKE '%\\_rhtmx%' ESCAPE '\\' ORDER BY 1"
        }
    };
    db.query_text(query).await.into_iter().flatten().collect()
}

async fn serves(db: &TestDatabase) {
    let server = TestServer::start(db, ["notes"]).await;
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    write_last(db).await;
    client
        .wait_until(|client| client.rows("notes").len() == 1)
        .await;
    db.execute("DELETE FROM notes").await;
    server.shutdown().await;
}

both_backends! {
    async fn migrations_run_up_and_down(db: TestDatabase) {
        apply(&db, "up.sql").await;
        let up = catalog(&db).await;
        assert!(up.len() > 5, "{up:?}");
        apply(&db, "down.sql").await;
        assert_eq!(catalog(&db).await, Vec::<String>::new());
        apply(&db, "up.sql").await;
        assert_eq!(catalog(&db).await, up);

        // The engine creates the same.
        apply(&db, "down.sql").await;
        let config = TestServer::config(&db, Vec::<String>::new()).await;
        config.db_pool.migrate(&config.database).await.expect("the migrations");
        assert_eq!(catalog(&db).await, up);
        config.db_pool.migrate(&config.database).await.expect("nothing is left to do");
        assert_eq!(catalog(&db).await, up);
    }

    /// The engine's tables can be removed and created again; the user's table stays as it is.
    async fn an_engine_may_be_removed_and_installed_again(db: TestDatabase) {
        db.execute(NOTES).await;
        serves(&db).await;
        let config = TestServer::config(&db, ["notes"]).await;
        let removed = SyncEngine::uncapture(&config.db_pool, None).await.expect("the capture is removed");
        assert_eq!(removed, ["notes"]);
        apply(&db, "down.sql").await;
        assert_eq!(catalog(&db).await, Vec::<String>::new());
        db.execute("INSERT INTO notes VALUES (1, 'not captured'); DELETE FROM notes").await;
        db.execute("DELETE FROM __diesel_schema_migrations").await;
        serves(&db).await;
    }
}
