//! Mutators and validation hooks: an application's own code in the mutations of clients.

mod applying;
mod failing;
mod hooks;
mod listing;
mod rights;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel_async::SimpleAsyncConnection as _;
use rhtmx_sync::{MutatorError, MutatorTx, Refusal, RejectCode, SyncConfig, schemars};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::TestDatabase;
use tokio::sync::Semaphore;

use crate::tables::{NOTES, ledger};

/// The constraint is checked when a mutation is committed.
const LISTS: &str = "CREATE TABLE lists (id integer PRIMARY KEY); CREATE TABLE items (id integer PRIMARY KEY, \
    list_id integer NOT NULL REFERENCES lists DEFERRABLE INITIALLY DEFERRED)";

/// A note, as an argument.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rhtmx_sync::schemars")]
struct Note {
    id: i64,
    body: String,
}

/// Counts its calls, and holds each until the test lets it go.
#[derive(Clone)]
struct Gate {
    calls: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self {
            calls: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    async fn pass(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.open.acquire().await.expect("a gate").forget();
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn wait_calls(&self, calls: usize) {
        let arrived = || async { (self.calls() >= calls).then_some(()) };
        testkit::eventually("a call", arrived).await;
    }

    fn let_go(&self, calls: usize) {
        self.open.add_permits(calls);
    }
}

/// Runs statements on the mutation's own connection.
async fn execute(tx: &MutatorTx, sql: &str) -> Result<(), MutatorError> {
    let mut conn = tx.connection().await?;
    if let Ok(postgres) = conn.postgres() {
        postgres.batch_execute(sql).await?;
    } else {
        conn.sqlite()?.batch_execute(sql).await?;
    }
    Ok(())
}

async fn tables(db: &TestDatabase) {
    db.execute(&format!("{NOTES}; {LISTS}; {}", ledger(db.backend())))
        .await;
}

/// A configuration with the mutators of these tests.
async fn config(db: &TestDatabase) -> SyncConfig {
    let mut config = TestServer::config(db, ["notes", "lists", "items", "ledger"]).await;
    config.mutator("add_note", async |tx, note: Note| {
        tx.create("notes", json!({ "id": note.id, "body": note.body }))
            .await
    });
    config.mutator("put_note", async |tx, note: Note| {
        let row = json!({ "id": note.id, "body": note.body });
        match tx.create("notes", &row).await {
            Err(MutatorError::Rejected(write)) if write.reject.code == RejectCode::Exists => {
                tx.update("notes", note.id, json!({ "body": note.body }))
                    .await
            }
            created => created,
        }
    });
    config.mutator("append", async |tx, body: String| {
        tx.create("ledger", json!({ "body": body })).await
    });
    config.mutator("run", async |tx, sql: String| execute(&tx, &sql).await);
    config.mutator("refuse", async |tx, ()| {
        tx.create("notes", json!({ "id": 100, "body": "refused" }))
            .await?;
        Err(Refusal::new("list_full", "a list has at most three entries").into())
    });
    config
}

async fn serve(db: &TestDatabase) -> TestServer {
    tables(db).await;
    TestServer::with_config(config(db).await).await
}

fn call(mutator: &str, args: Value) -> Value {
    json!({ "mutator": mutator, "args": args })
}

/// A call of `add_note`.
fn add(id: u64) -> Value {
    call("add_note", json!({ "id": id, "body": "added" }))
}
