//! Test databases, on both backends.

use diesel::connection::SimpleConnection;
use rhtmx_sync_testkit::{Backend, TestDatabase, both_backends, eventually};
use serde_json::{Value, json};

const NOTES: &str = "CREATE TABLE notes (id integer PRIMARY KEY, body text UNIQUE)";

both_backends! {
    /// Rows are returned as text and as JSON.
    async fn a_database_is_written_and_read(db: TestDatabase) {
        db.execute(&format!("{NOTES}; INSERT INTO notes VALUES (1, 'one'), (2, NULL)")).await;
        let bodies = db.query_text("SELECT body FROM notes ORDER BY id").await;
        assert_eq!(bodies, [Some("one".to_owned()), None]);
        assert_eq!(db.query_text("SELECT count(*) FROM notes").await, [Some("2".to_owned())]);
        let json = match db.backend() {
            Backend::Postgres => "to_jsonb(notes)",
            Backend::Sqlite => "json_object('id', id, 'body', body)",
        };
        let query = format!("SELECT {json} FROM notes ORDER BY id LIMIT 1");
        assert_eq!(db.query_json(&query).await, [json!({ "id": 1, "body": "one" })]);
        assert_eq!(db.query_json("SELECT NULL").await, [Value::Null]);
    }

    async fn a_failed_statement_returns_the_message(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        let error = db.try_execute("INSERT INTO notes VALUES (2, 'one')").await.unwrap_err();
        assert!(error.to_lowercase().contains("unique"), "{error}");
    }

    async fn an_open_transaction_is_rolled_back(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("BEGIN; INSERT INTO notes VALUES (1, 'one')").await;
        let fails = "BEGIN; INSERT INTO notes VALUES (2, 'two'); SELECT no_such_column";
        db.try_execute(fails).await.unwrap_err();
        assert!(db.query_text("SELECT id FROM notes").await.is_empty());
        db.execute("INSERT INTO notes VALUES (3, 'three')").await;
    }
}

#[tokio::test]
async fn a_dropped_database_is_removed_with_its_roles() {
    let witness = TestDatabase::postgres().await;
    let doomed = TestDatabase::postgres().await;
    let role = doomed.create_role("writer").await;
    let name = doomed
        .query_text("SELECT current_database()")
        .await
        .remove(0)
        .unwrap();
    let held = doomed.connect_postgres().await;
    held.batch_execute("CREATE TABLE t (id int); BEGIN; LOCK TABLE t")
        .await
        .unwrap();
    drop(doomed);

    let databases = format!("SELECT datname FROM pg_database WHERE datname = '{name}'");
    assert!(witness.query_text(&databases).await.is_empty());
    let roles = format!(
        "SELECT rolname FROM pg_roles WHERE rolname = '{}'",
        role.name
    );
    assert!(witness.query_text(&roles).await.is_empty());
}

#[tokio::test]
async fn a_role_has_only_its_own_rights() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let role = db.create_role("reader").await;
    let (client, connection) = tokio_postgres::connect(&role.url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
        .simple_query("SELECT * FROM notes")
        .await
        .unwrap_err();
    db.execute(&format!("GRANT SELECT ON notes TO {}", role.name))
        .await;
    client.simple_query("SELECT * FROM notes").await.unwrap();
}

#[tokio::test]
async fn a_terminated_connection_is_replaced() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let other = db.connect_postgres().await;
    other.simple_query(others).await.unwrap();
    eventually("the statement runs", || async {
        db.try_execute("SELECT 1").await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_sqlite_database_is_a_file_with_several_connections() {
    let db = TestDatabase::sqlite().await;
    db.connect_sqlite().batch_execute(NOTES).unwrap();
    db.execute("INSERT INTO notes VALUES (1, 'one')").await;
    let file = db.url().strip_prefix("sqlite://").unwrap().to_owned();
    assert!(file.starts_with('/') && std::fs::exists(&file).unwrap());
    drop(db);
    assert!(!std::fs::exists(&file).unwrap());
}
