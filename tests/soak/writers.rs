//! Programs that know nothing of the servers and write at random.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use diesel::connection::SimpleConnection as _;
use rhtmx_sync_tests::Dice;
use testkit::{Backend, TestDatabase};

use crate::Scene;

/// Rows that writers compete for.
const IDS: u64 = 200;

/// The two tables.
pub(crate) fn tables(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => {
            "CREATE TABLE items (id bigint PRIMARY KEY, owner int NOT NULL, n int NOT NULL, note text);
             CREATE TABLE marks (id serial PRIMARY KEY, token text NOT NULL);"
        }
        Backend::Sqlite => {
            "CREATE TABLE items (id INTEGER PRIMARY KEY, owner INT NOT NULL, n INT NOT NULL, note TEXT);
             CREATE TABLE marks (id INTEGER PRIMARY KEY, token TEXT NOT NULL);"
        }
    }
}

/// Inserts some items, whatever the last statements did.
pub(crate) const MORE_ITEMS: &str = "\
    WITH RECURSIVE more(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM more WHERE i < 59) \
    INSERT INTO items (id, owner, n, note) SELECT i, i % 9, i * 17 % 1000, 'of ' || (i % 8) FROM more WHERE true \
    ON CONFLICT (id) DO NOTHING";

/// Writes until the load stops; returns the number of committed transactions.
pub(crate) async fn write(db: Arc<TestDatabase>, scene: Arc<Scene>, mut dice: Dice) -> usize {
    match db.backend() {
        Backend::Postgres => {
            let client = db.connect_postgres().await;
            let mut commits = 0;
            while !scene.stop.load(Ordering::Relaxed) {
                let (sql, commit) = transaction(Backend::Postgres, &mut dice);
                // Deadlocks and keys that already exist are expected.
                match client.batch_execute(&sql).await {
                    Ok(()) => commits += usize::from(commit),
                    Err(_) => client.batch_execute("ROLLBACK").await.expect("a rollback"),
                }
            }
            commits
        }
        Backend::Sqlite => tokio::task::spawn_blocking(move || {
            let mut conn = db.connect_sqlite();
            let mut commits = 0;
            while !scene.stop.load(Ordering::Relaxed) {
                let (sql, commit) = transaction(Backend::Sqlite, &mut dice);
                match conn.batch_execute(&sql) {
                    Ok(()) => commits += usize::from(commit),
                    // After some errors SQLite has ended the transaction itself.
                    Err(_) => drop(conn.batch_execute("ROLLBACK")),
                }
                // SQLite's writers wait for each other by polling; without a pause one of them has the
                // file to itself.
                std::thread::sleep(std::time::Duration::from_millis(dice.pick(1..15)));
            }
            commits
        })
        .await
        .expect("the writer"),
    }
}

/// A transaction of random statements, and whether it commits.
fn transaction(backend: Backend, dice: &mut Dice) -> (String, bool) {
    let begin = match backend {
        Backend::Postgres => "BEGIN",
        Backend::Sqlite => "BEGIN IMMEDIATE",
    };
    let mut sql = vec![begin.to_owned()];
    for _ in 0..dice.pick(1..6) {
        sql.push(statement(backend, dice));
    }
    if backend == Backend::Postgres {
        // Most end at once, some take some time, few take long.
        let seconds =
            [0.0, 0.0, 0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.4, 1.2][dice.pick(0..10) as usize];
        sql.push(format!("SELECT pg_sleep({seconds})"));
    }
    let commit = dice.chance(80);
    sql.push(if commit { "COMMIT" } else { "ROLLBACK" }.to_owned());
    (sql.join("; "), commit)
}

fn statement(backend: Backend, dice: &mut Dice) -> String {
    let (id, n, owner) = (dice.pick(0..IDS), dice.pick(0..1000), dice.pick(0..9));
    match dice.pick(0..100) {
        0..35 => format!(
            "INSERT INTO items (id, owner, n) VALUES ({id}, {owner}, {n}), ({}, {owner}, {n}) \
             ON CONFLICT (id) DO UPDATE SET n = excluded.n",
            id + 1
        ),
        35..60 => format!(
            "UPDATE items SET n = n + 1 WHERE id % {} = {}",
            7 + owner,
            owner
        ),
        60..72 => format!("DELETE FROM items WHERE id = {id}"),
        72..84 => format!(
            "UPDATE items SET id = id + {IDS} WHERE id = {id} AND NOT EXISTS \
             (SELECT 1 FROM items WHERE id = {})",
            id + IDS
        ),
        84..97 => format!(
            "SAVEPOINT s; UPDATE items SET n = {n} WHERE id = {id}; \
             DELETE FROM items WHERE id = {}; ROLLBACK TO SAVEPOINT s",
            id + 1
        ),
        97..99 => format!("DELETE FROM items WHERE id >= {IDS}"),
        _ if backend == Backend::Postgres => "TRUNCATE items".to_owned(),
        _ => "DELETE FROM items".to_owned(),
    }
}
