//! A SQLite file that goes back to an earlier state, or makes way for another one.

use std::path::PathBuf;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::Text;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use rhtmx_sync::{DbPool, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{ClientOptions, ClientState, SyncClient};

/// A SQLite file that other programs open for a moment only.
struct Lite {
    directory: TempDir,
}

impl Lite {
    fn new() -> Self {
        let lite = Self {
            directory: TempDir::new().expect("a directory"),
        };
        lite.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, t TEXT)");
        lite
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("live.db")
    }

    fn backup(&self) -> PathBuf {
        self.directory.path().join("backup.db")
    }

    fn connect(&self) -> SqliteConnection {
        let path = self.path();
        let mut conn =
            SqliteConnection::establish(path.to_str().expect("UTF-8")).expect("a connection");
        conn.batch_execute("PRAGMA busy_timeout = 5000")
            .expect("a setting");
        conn
    }

    fn execute(&self, sql: &str) {
        if let Err(error) = self.connect().batch_execute(sql) {
            panic!("{error}\nin: {sql}");
        }
    }

    fn rows(&self) -> Vec<Value> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            row: String,
        }
        let rows = sql_query("SELECT json_object('id', id, 't', t) AS row FROM items");
        let rows: Vec<Row> = rows.load(&mut self.connect()).expect("the rows");
        rows.iter()
            .map(|row| serde_json::from_str(&row.row).expect("JSON"))
            .collect()
    }

    async fn serve(&self) -> TestServer {
        let pool = DbPool::from_url(&format!("sqlite://{}", self.path().display())).await;
        let config = SyncConfig::new(pool.expect("a pool"), vec!["items"]);
        let server = TestServer::with_config(config).await;
        server.engine().ready().await;
        server
    }

    /// Removes what a server that ran until now may have left beside the file.
    fn remove_journal(&self) {
        for suffix in ["-wal", "-shm"] {
            let mut file = self.path().into_os_string();
            file.push(suffix);
            // It is not there after an orderly end.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn insert(ids: std::ops::Range<u32>, t: &str) -> String {
    ids.map(|id| format!("INSERT INTO items VALUES ({id}, '{t}');"))
        .collect()
}

async fn subscriber(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    client.subscribe("items", "items").await;
    client.wait_subscribed("items").await;
    client
}

/// A database with a backup from a state before a client's newest cursor.
async fn backed_up(server: &TestServer, db: &Lite) -> ClientState {
    let mut client = subscriber(server).await;
    db.execute(&insert(0..8, "old"));
    client
        .wait_until(|client| client.rows("items").len() == 8)
        .await;
    db.execute(&format!("VACUUM INTO '{}'", db.backup().display()));
    db.execute(&insert(8..10, "lost"));
    client
        .wait_until(|client| client.rows("items").len() == 10)
        .await;
    client.into_state()
}

async fn has_the_tables_rows(server: &TestServer, state: &ClientState, db: &Lite) {
    let mut client = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), state).await;
    client.wait_subscribed("items").await;
    db.execute("INSERT INTO items VALUES (99, 'live')");
    client
        .wait_until(|client| client.row("items", "99").is_some())
        .await;
    let rows = db.rows();
    assert_eq!(client.rows("items").len(), rows.len());
    for row in rows {
        assert_eq!(client.row("items", &row["id"].to_string()), Some(&row));
    }
}

/// The usual ways in which an operator puts a backup back. New entries then get the ids of lost ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_noticed_by_the_entry_of_a_cursor() {
    for rename in [false, true] {
        for writes in [0, 1, 2, 5] {
            let db = Lite::new();
            let server = db.serve().await;
            let state = backed_up(&server, &db).await;
            server.shutdown().await;
            db.remove_journal();
            if rename {
                std::fs::rename(db.backup(), db.path()).expect("renamed");
            } else {
                std::fs::copy(db.backup(), db.path()).expect("copied");
            }
            let server = db.serve().await;
            db.execute(&insert(20..20 + writes, "new"));
            has_the_tables_rows(&server, &state, &db).await;
            server.shutdown().await;
        }
    }
}

/// The server runs on: what it would write into the old file would be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_takes_the_place_of_the_servers_is_opened() {
    let db = Lite::new();
    let server = db.serve().await;
    let state = backed_up(&server, &db).await;
    let mut live = subscriber(&server).await;
    db.remove_journal();
    std::fs::rename(db.backup(), db.path()).expect("renamed");
    live.close_code().await;
    let mut client =
        SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
    client.wait_subscribed("items").await;
    client
        .push_next(
            json!([{ "entity": "items", "op": "create", "values": { "id": 50, "t": "pushed" } }]),
        )
        .await
        .acked();
    assert!(
        db.rows().iter().any(|row| row["id"] == 50),
        "in the new file"
    );
    has_the_tables_rows(&server, &state, &db).await;
}

/// As `.restore` does it, in the file that the server has open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_goes_back_under_the_server_begins_a_new_epoch() {
    let db = Lite::new();
    let server = db.serve().await;
    let state = backed_up(&server, &db).await;
    let mut live = subscriber(&server).await;
    let newest = "(SELECT max(id) FROM _rhtmx_sync_log WHERE entity_id = '7')";
    db.execute(&format!(
        "BEGIN IMMEDIATE; DELETE FROM items WHERE id >= 8; \
         DELETE FROM _rhtmx_sync_log WHERE id > {newest}; \
         UPDATE sqlite_sequence SET seq = {newest} WHERE name = '_rhtmx_sync_log'; \
         INSERT INTO items VALUES (30, 'new'), (31, 'new'), (32, 'new'); COMMIT"
    ));
    live.close_code().await;
    has_the_tables_rows(&server, &state, &db).await;
}
