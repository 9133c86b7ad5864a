//! Programs that write while the engine runs, and what a subscriber must receive of it.

use std::collections::BTreeSet;
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use rhtmx_sync_tests::Dice;
use testkit::{Backend, SyncClient, TestDatabase};
use tokio_postgres::Client;

pub(crate) const NOTES: &str = "CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL)";
pub(crate) const TASKS: &str = "CREATE TABLE tasks (id integer PRIMARY KEY, body text NOT NULL)";

/// An `INSERT` of these rows, each with its own key.
pub(crate) fn insert(ids: impl IntoIterator<Item = u64>) -> String {
    let rows: Vec<String> = ids
        .into_iter()
        .map(|id| format!("({id}, 'note {id}')"))
        .collect();
    format!("INSERT INTO notes VALUES {}", rows.join(", "))
}

/// One transaction: what it inserts, how long it stays open, and how it ends.
pub(crate) struct Transaction {
    first_id: u64,
    open_for: Duration,
    commits: bool,
}

impl Transaction {
    /// Rows that a transaction may insert at most, so that no two share a key.
    pub(crate) const IDS: u64 = 4;

    /// The transactions of one writer; a few of them are slow.
    pub(crate) fn plan(dice: &mut Dice, first_id: u64, count: u64, slowest_ms: u64) -> Vec<Self> {
        let plan = (0..count).map(|number| Self {
            first_id: first_id + number * Self::IDS,
            open_for: Duration::from_millis(match dice.pick(0..20) {
                0..12 => 0,
                12..18 => dice.pick(1..20),
                _ => dice.pick(20..slowest_ms),
            }),
            commits: dice.chance(80),
        });
        plan.collect()
    }

    /// The statements before the pause, and those after it.
    fn statements(&self) -> (String, String) {
        let id = self.first_id;
        let begin = insert([id, id + 1]);
        let savepoint = format!("SAVEPOINT s; {}; ROLLBACK TO s", insert([id + 3]));
        let end = if self.commits { "COMMIT" } else { "ROLLBACK" };
        (begin, format!("{}; {savepoint}; {end}", insert([id + 2])))
    }

    /// The rows that it leaves.
    fn leaves(&self) -> impl Iterator<Item = u64> {
        let count = if self.commits { 3 } else { 0 };
        self.first_id..self.first_id + count
    }
}

/// Runs the transactions one after another; returns the keys of the rows that they leave.
pub(crate) async fn run(db: &TestDatabase, plan: Vec<Transaction>) -> BTreeSet<u64> {
    let left = plan.iter().flat_map(Transaction::leaves).collect();
    match db.backend() {
        Backend::Postgres => on_postgres(db.connect_postgres().await, plan).await,
        Backend::Sqlite => {
            let conn = db.connect_sqlite();
            let wrote = tokio::task::spawn_blocking(|| on_sqlite(conn, plan)).await;
            wrote.expect("the writer does not fail");
        }
    }
    left
}

async fn on_postgres(conn: Client, plan: Vec<Transaction>) {
    for transaction in plan {
        let (first, rest) = transaction.statements();
        conn.batch_execute(&format!("BEGIN; {first}"))
            .await
            .expect("a write");
        tokio::time::sleep(transaction.open_for).await;
        conn.batch_execute(&rest).await.expect("a write");
    }
}

fn on_sqlite(mut conn: SqliteConnection, plan: Vec<Transaction>) {
    for transaction in plan {
        let (first, rest) = transaction.statements();
        conn.batch_execute(&format!("BEGIN IMMEDIATE; {first}"))
            .expect("a write");
        std::thread::sleep(transaction.open_for);
        conn.batch_execute(&rest).expect("a write");
    }
}

/// The key of the row that a test writes last: a client that has it has everything.
pub(crate) const LAST: u64 = 9_999_999;

/// Writes the last row.
pub(crate) async fn write_last(db: &TestDatabase) {
    db.execute(&insert([LAST])).await;
}

/// Waits for the last row and then expects these rows and no others, each sent once.
pub(crate) async fn has_each_once(client: &mut SyncClient, id: &str, left: &BTreeSet<u64>) {
    client
        .wait_until(|client| client.row(id, &LAST.to_string()).is_some())
        .await;
    let expected: BTreeSet<String> = left.iter().chain([&LAST]).map(u64::to_string).collect();
    let keys = |map: Vec<&String>| map.into_iter().cloned().collect::<BTreeSet<String>>();
    assert_eq!(keys(client.rows(id).keys().collect()), expected, "the copy");
    let puts = client.subscription(id).puts();
    assert_eq!(keys(puts.keys().collect()), expected, "what was sent");
    let repeated: Vec<_> = puts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(repeated.is_empty(), "sent again: {repeated:?}");
    assert_eq!(client.frames("refetch"), 0);
}
