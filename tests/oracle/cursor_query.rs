//! The engine's query for new entries, checked against a plain look at every row of the log.

use std::collections::BTreeSet;

use rhtmx_sync::{Change, ChangeBatch, ChangeTracker, Cursor};
use rhtmx_sync_tests::{Dice, TestServer};
use sync_core::cursor::Position;
use testkit::TestDatabase;
use tokio_postgres::Client;

const CONNECTIONS: usize = 8;
const STEPS: usize = 160;

/// Transactions that each insert rows of their own, and end at random.
struct Writers {
    dice: Dice,
    connections: Vec<Client>,
    /// The rows that each connection has inserted but not committed.
    open: Vec<Option<BTreeSet<String>>>,
    next_id: u64,
    committed: BTreeSet<String>,
}

impl Writers {
    async fn new(db: &TestDatabase, dice: Dice) -> Self {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(db.connect_postgres().await);
        }
        let open = vec![None; CONNECTIONS];
        Self {
            dice,
            connections,
            open,
            next_id: 0,
            committed: BTreeSet::new(),
        }
    }

    async fn step(&mut self) {
        let at = self.dice.pick(0..CONNECTIONS as u64) as usize;
        let ends = self.open[at].is_some() && self.dice.chance(60);
        if !ends {
            let begin = if self.open[at].is_none() {
                "BEGIN;"
            } else {
                ""
            };
            self.next_id += 1;
            let insert = format!("{begin} INSERT INTO marks VALUES ({})", self.next_id);
            self.connections[at]
                .batch_execute(&insert)
                .await
                .expect("an insert");
            self.open[at]
                .get_or_insert_default()
                .insert(self.next_id.to_string());
            return;
        }
        let rows = self.open[at].take().unwrap_or_default();
        if self.dice.chance(20) {
            self.connections[at]
                .batch_execute("ROLLBACK")
                .await
                .expect("a rollback");
        } else {
            self.connections[at]
                .batch_execute("COMMIT")
                .await
                .expect("a commit");
            self.committed.extend(rows);
        }
    }
}

fn snapshot_text(cursor: &Cursor) -> String {
    match &cursor.position {
        Position::Snapshot(snapshot) => snapshot.to_string(),
        other => panic!("not a cursor of PostgreSQL: {other}"),
    }
}

/// The keys of the rows that a batch puts, each of which it may name once.
fn put_keys(batch: &ChangeBatch) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for tracked in &batch.changes {
        let Change::Put { key, .. } = &tracked.change else {
            panic!("not a put: {tracked:?}")
        };
        assert!(keys.insert(key.clone()), "{key} twice");
    }
    keys
}

async fn since(tracker: &ChangeTracker, cursor: &Cursor) -> (BTreeSet<String>, Cursor) {
    let batch = tracker.changes_since(cursor).await.expect("the changes");
    (put_keys(&batch), batch.cursor.expect("a cursor"))
}

/// The rows that one cursor sees and the other does not, found by looking at all of them.
async fn between(db: &TestDatabase, from: &Cursor, to: &Cursor) -> BTreeSet<String> {
    let (from, to) = (snapshot_text(from), snapshot_text(to));
    let query = format!(
        "SELECT entity_id FROM _rhtmx_sync_log WHERE entity = 'marks' AND action = 'create' \
         AND pg_visible_in_snapshot(xid, '{to}') AND NOT pg_visible_in_snapshot(xid, '{from}')"
    );
    db.query_text(&query).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_returns_what_the_cursor_does_not_see() {
    let mut dice = Dice::new("the_query_gives_what_the_cursor_does_not_see");
    let db = TestDatabase::postgres().await;
    db.execute("CREATE TABLE marks (id integer PRIMARY KEY)")
        .await;
    let server = TestServer::start(&db, ["marks"]).await;
    let tracker = server.engine().change_tracker();
    let mut writers = Writers::new(&db, dice.split()).await;

    let mut cursors = vec![tracker.latest_cursor().await.expect("a cursor")];
    let mut follower = cursors[0].clone();
    let mut followed: BTreeSet<String> = BTreeSet::new();
    for _ in 0..STEPS {
        writers.step().await;
        if dice.chance(30) {
            cursors.push(tracker.latest_cursor().await.expect("a cursor"));
        }
        if dice.chance(30) {
            let (found, next) = since(&tracker, &follower).await;
            assert_eq!(
                found,
                between(&db, &follower, &next).await,
                "{follower} to {next}"
            );
            assert!(found.is_disjoint(&followed), "{found:?} twice");
            followed.extend(found);
            follower = next;
        }
    }
    let running = |cursor: &Cursor| snapshot_text(cursor).matches(',').count();
    assert!(
        cursors.iter().any(|cursor| running(cursor) > 1),
        "nothing ran side by side"
    );

    for cursor in &cursors {
        let (found, to) = since(&tracker, cursor).await;
        assert_eq!(found, between(&db, cursor, &to).await, "{cursor} to {to}");
    }
    followed.extend(since(&tracker, &follower).await.0);
    assert_eq!(followed, writers.committed);
}
