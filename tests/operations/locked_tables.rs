//! Tables under an exclusive lock, as `ALTER TABLE` and `VACUUM FULL` take it.

use rhtmx_sync_tests::TestServer;
use testkit::{SyncClient, TestDatabase};
use tokio_postgres::Client;

use crate::engines::exists;
use crate::writers::{NOTES, TASKS};

/// A client that is subscribed to both tables.
async fn subscriber(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    for entity in ["notes", "tasks"] {
        client.subscribe(entity, entity).await;
        client.wait_subscribed(entity).await;
    }
    client
}

/// Writes tasks and waits for each.
async fn tasks_arrive(db: &TestDatabase, client: &mut SyncClient, ids: std::ops::Range<u32>) {
    for id in ids {
        db.execute(&format!("INSERT INTO tasks VALUES ({id}, 'task')"))
            .await;
        client
            .wait_until(|client| client.row("tasks", &id.to_string()).is_some())
            .await;
    }
}

async fn begin(db: &TestDatabase, statement: &str) -> Client {
    let conn = db.connect_postgres().await;
    conn.batch_execute(&format!("BEGIN; {statement}"))
        .await
        .expect("a transaction");
    conn
}

async fn commit(conn: &Client) {
    conn.batch_execute("COMMIT").await.expect("a commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_holds_up_no_other() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {TASKS}")).await;
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let mut client = subscriber(&server).await;

    let locked = begin(
        &db,
        "LOCK TABLE notes; INSERT INTO notes VALUES (1, 'note')",
    )
    .await;
    tasks_arrive(&db, &mut client, 0..10).await;
    assert!(client.rows("notes").is_empty());
    commit(&locked).await;
    client
        .wait_until(|client| client.row("notes", "1").is_some())
        .await;
    assert_eq!(client.frames("refetch"), 0);
    tasks_arrive(&db, &mut client, 10..20).await;
}

/// The lock is taken just as a writer commits, so there are changes that cannot be read. Clients of
/// other tables continue, those of this one refetch when the lock is released.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_with_changes_holds_up_no_other() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {TASKS}")).await;
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let mut client = subscriber(&server).await;

    let writer = begin(&db, "INSERT INTO notes VALUES (1, 'note')").await;
    let locker = db.connect_postgres().await;
    let locking = async {
        let lock = "BEGIN; LOCK TABLE notes; DELETE FROM notes; INSERT INTO notes VALUES (2, '')";
        locker.batch_execute(lock).await.expect("the lock");
    };
    let committing = async {
        let waits = "FROM pg_locks WHERE relation = 'notes'::regclass AND NOT granted";
        exists(&db, "a connection waits for the lock", waits).await;
        commit(&writer).await;
    };
    tokio::join!(locking, committing);
    tasks_arrive(&db, &mut client, 0..10).await;
    commit(&locker).await;
    client
        .wait_until(|client| {
            client.row("notes", "2").is_some() && client.row("notes", "1").is_none()
        })
        .await;
    tasks_arrive(&db, &mut client, 10..20).await;
}

/// Rebuilding an index locks the index, not the table; rows are found through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_index_holds_up_no_other_table() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {TASKS}")).await;
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let mut client = subscriber(&server).await;
    let rebuilding = begin(&db, "REINDEX INDEX notes_pkey").await;
    tasks_arrive(&db, &mut client, 0..10).await;
    commit(&rebuilding).await;
    db.execute("INSERT INTO notes VALUES (1, 'note')").await;
    client
        .wait_until(|client| client.row("notes", "1").is_some())
        .await;
}

/// An `ALTER TABLE` that waits for a reader makes every later statement wait behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_a_waiting_lock_holds_up_no_other() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {TASKS}")).await;
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let mut client = subscriber(&server).await;
    let reader = begin(&db, "SELECT FROM notes").await;
    let altering = async {
        db.execute("ALTER TABLE notes ADD COLUMN done boolean")
            .await
    };
    let meanwhile = async {
        let waits = "FROM pg_locks WHERE relation = 'notes'::regclass AND NOT granted";
        exists(&db, "a connection waits for the lock", waits).await;
        tasks_arrive(&db, &mut client, 0..10).await;
        commit(&reader).await;
    };
    tokio::join!(altering, meanwhile);
    db.execute("INSERT INTO notes VALUES (1, 'note', true)")
        .await;
    client
        .wait_until(|client| {
            client
                .row("notes", "1")
                .is_some_and(|row| row["done"] == true)
        })
        .await;
    tasks_arrive(&db, &mut client, 10..20).await;
}

/// An engine starts beside a locked table on which it must create its triggers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_is_not_ready_until_it_has_captured_a_locked_table() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let locked = begin(&db, "LOCK TABLE notes").await;
    let server = TestServer::start(&db, ["notes"]).await;
    assert_ne!(server.engine().readiness(), rhtmx_sync::Readiness::Ready);
    commit(&locked).await;
    server.engine().ready().await;
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
}

/// In a database where transactions are serializable by default, the engine's reads take no part in the checks
/// for conflicts, so no writer fails because of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_take_no_part_in_serializable_conflicts() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!(
        "{NOTES}; {TASKS}; INSERT INTO notes VALUES (1, 'note')"
    ))
    .await;
    db.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', \
         current_database()); END $$",
    )
    .await;
    // Predicate locks are kept while a serializable transaction is open that began before their end.
    let open = begin(&db, "SELECT * FROM tasks").await;
    open.batch_execute("COMMIT; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM tasks")
        .await
        .expect("a serializable transaction");
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let mut client = subscriber(&server).await;
    tasks_arrive(&db, &mut client, 0..3).await;
    db.execute("UPDATE notes SET body = 'changed'").await;
    client
        .wait_until(|client| {
            client
                .row("notes", "1")
                .is_some_and(|row| row["body"] == "changed")
        })
        .await;
    // The writers of this test are serializable; the pages that they locked of `notes` are the update's own.
    let readers = db
        .query_text(
            "SELECT a.query FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
             WHERE l.mode = 'SIReadLock' AND l.relation = 'notes'::regclass AND a.application_name = 'rhtmx-sync'",
        )
        .await;
    assert_eq!(readers, Vec::<Option<String>>::new());
    commit(&open).await;
}

/// Partitions are locked on their own, and the catalog is read without waiting for them: while the table of
/// another entity changes, when the listener reconnects, and when an engine starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_partition_holds_up_no_other_table() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!(
        "{TASKS}; CREATE TABLE notes (id integer, k integer, PRIMARY KEY (id, k)) PARTITION BY LIST (k); \
         CREATE TABLE notes_1 PARTITION OF notes FOR VALUES IN (1)"
    ))
    .await;
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let mut client = subscriber(&server).await;
    let locked = begin(&db, "LOCK TABLE notes_1").await;
    tasks_arrive(&db, &mut client, 0..2).await;
    db.execute("ALTER TABLE tasks RENAME COLUMN body TO text")
        .await;
    tasks_arrive(&db, &mut client, 2..4).await;
    client
        .wait_until(|client| {
            client
                .row("tasks", "3")
                .is_some_and(|row| row["text"] == "task")
        })
        .await;
    crate::engines::terminate_leader(&db).await;
    tasks_arrive(&db, &mut client, 4..6).await;
    let later = TestServer::start(&db, ["notes", "tasks"]).await;
    let mut newcomer = later.connect().await;
    newcomer.subscribe("tasks", "tasks").await;
    newcomer.wait_subscribed("tasks").await;
    tasks_arrive(&db, &mut newcomer, 6..8).await;
    commit(&locked).await;
    db.execute("INSERT INTO notes VALUES (1, 1)").await;
    client
        .wait_until(|client| client.row("notes", "[1,1]").is_some())
        .await;
}
