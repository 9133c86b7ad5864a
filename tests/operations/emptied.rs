//! What developers and test suites do to databases: they drop the schema with everything in it, and empty every
//! table. The engine makes its own tables again, begins a new epoch, and goes on, at the next start too.

use rhtmx_sync_tests::TestServer;
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends, eventually};

use crate::writers::NOTES;

/// Waits until a client can subscribe and receives what is written from then on.
async fn serves(db: &TestDatabase, server: &TestServer, id: u32) {
    let live = async || {
        let options = ClientOptions::default();
        let mut client = SyncClient::try_connect(&server.ws_url(), options)
            .await
            .ok()?;
        client.subscribe("notes", "notes").await;
        let subscribed = client
            .try_wait_until(|client| client.subscription("notes").is_live())
            .await;
        subscribed.ok()?;
        Some(client)
    };
    let mut client = eventually("a client is subscribed", live).await;
    db.execute(&format!("INSERT INTO notes VALUES ({id}, 'note')"))
        .await;
    let arrived = client
        .try_wait_until(|client| client.row("notes", &id.to_string()).is_some())
        .await;
    if arrived.is_err() {
        // The engine noticed only now, and ended the connection.
        let mut client = eventually("a client is subscribed again", live).await;
        client
            .wait_until(|client| client.row("notes", &id.to_string()).is_some())
            .await;
    }
}

/// Empties every table of the database, as a test suite does between two tests.
async fn empty(db: &TestDatabase) {
    let tables = match db.backend() {
        Backend::Postgres => {
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
        }
        Backend::Sqlite => "SELECT '\"' || name || '\"' FROM sqlite_schema WHERE type = 'table'",
    };
    let tables: Vec<String> = db.query_text(tables).await.into_iter().flatten().collect();
    let statement = match db.backend() {
        Backend::Postgres => format!("TRUNCATE {} RESTART IDENTITY", tables.join(", ")),
        Backend::Sqlite => {
            let deletes = tables.iter().map(|table| format!("DELETE FROM {table};"));
            format!("BEGIN; {} COMMIT", deletes.collect::<String>())
        }
    };
    db.execute(&statement).await;
}

both_backends! {
    async fn emptied_tables_begin_a_new_epoch(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("INSERT INTO notes VALUES (1, 'before')").await;
        let server = TestServer::start(&db, ["notes"]).await;
        serves(&db, &server, 2).await;
        empty(&db).await;
        serves(&db, &server, 3).await;
        server.shutdown().await;
        // The list of migrations is empty, too.
        empty(&db).await;
        let server = TestServer::start(&db, ["notes"]).await;
        serves(&db, &server, 4).await;
        server.shutdown().await;
        let server = TestServer::start(&db, ["notes"]).await;
        serves(&db, &server, 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_schema_is_made_again() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let server = TestServer::start(&db, ["notes"]).await;
    serves(&db, &server, 1).await;
    db.execute(&format!(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; {NOTES}"
    ))
    .await;
    serves(&db, &server, 2).await;
    server.shutdown().await;
    let server = TestServer::start(&db, ["notes"]).await;
    serves(&db, &server, 3).await;
    server.shutdown().await;
    // A part of the engine's tables is as good as none.
    db.execute("DROP TABLE _rhtmx_sync_client, _rhtmx_sync_log CASCADE")
        .await;
    let server = TestServer::start(&db, ["notes"]).await;
    serves(&db, &server, 4).await;
}

/// Whatever is lost with the list of migrations alone, the clients' mutations are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_list_of_migrations_loses_nothing() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let server = TestServer::start(&db, ["notes"]).await;
    serves(&db, &server, 1).await;
    server.shutdown().await;
    let epoch = "SELECT epoch FROM _rhtmx_sync_meta";
    let before = db.query_text(epoch).await;
    let versions =
        "SELECT string_agg(version, ' ' ORDER BY version) FROM __diesel_schema_migrations";
    let listed = db.query_text(versions).await;
    db.execute("TRUNCATE __diesel_schema_migrations").await;
    let server = TestServer::start(&db, ["notes"]).await;
    serves(&db, &server, 2).await;
    assert_eq!(db.query_text(epoch).await, before);
    assert_eq!(db.query_text(versions).await, listed);
}
