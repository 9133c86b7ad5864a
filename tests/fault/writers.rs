//! Programs that know nothing of the servers and write at random.

use std::sync::Arc;
use std::time::Duration;

use rhtmx_sync_tests::Dice;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::database::Database;
use crate::filters::{LISTS, MEMBERS};
use crate::scene::{Phase, Scene};

/// Rows that writers compete for.
const ITEMS: u64 = 400;
const ACCOUNTS: u64 = 16;
const MEMBERSHIPS: u64 = 30;

/// Errors that writers cause each other, and that faults cause: unique and check violations, deadlocks,
/// lock time-outs, the end of the server, columns that have just been dropped. Any other error would be
/// the engine's fault.
const EXPECTED: [&str; 10] = [
    "23505", "23514", "40001", "40P01", "55P03", "57P01", "57P02", "57P03", "42703", "0A000",
];

/// Writes until the run stops; returns the number of commits.
pub(crate) async fn write(db: Arc<Database>, scene: Arc<Scene>, mut dice: Dice) -> u64 {
    let mut commits = 0;
    let mut client = None;
    loop {
        let pause = Duration::from_millis(dice.pick(5..60));
        sleep(pause).await;
        let _writing = scene.writing.read().await;
        match *scene.phase.borrow() {
            Phase::Stop => return commits,
            Phase::Load => {}
            Phase::Settle | Phase::Quiet(_) => continue,
        }
        let connected = match client.take() {
            Some(connected) => connected,
            None => match prepared(&db).await {
                Some(connected) => connected,
                None => continue,
            },
        };
        let (sql, commit) = transaction(&mut dice);
        match connected.batch_execute(&sql).await {
            Ok(()) => {
                commits += u64::from(commit);
                client = Some(connected);
            }
            Err(error) => {
                let Some(refused) = error.as_db_error() else {
                    continue;
                };
                if !EXPECTED.contains(&refused.code().code()) {
                    scene
                        .trace
                        .fail(&format!("a write failed: {refused:?}\nin: {sql}"));
                }
                if connected.batch_execute("ROLLBACK").await.is_ok() {
                    client = Some(connected);
                }
            }
        }
    }
}

async fn prepared(db: &Database) -> Option<Client> {
    let client = db.try_connect().await?;
    client.batch_execute("SET lock_timeout = '5s'").await.ok()?;
    Some(client)
}

/// A transaction of random statements, and whether it commits.
fn transaction(dice: &mut Dice) -> (String, bool) {
    let mut sql = vec!["BEGIN".to_owned()];
    if dice.chance(60) {
        sql.push(transfer(dice));
    }
    for _ in 0..dice.pick(0..4) {
        let write = if dice.chance(15) {
            membership
        } else {
            statement
        };
        sql.push(write(dice));
    }
    // Most end at once, some take some time, few take long.
    let seconds = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.03, 0.1, 0.5][dice.pick(0..10) as usize];
    if seconds > 0.0 {
        sql.push(format!("SELECT pg_sleep({seconds})"));
    }
    let commit = dice.chance(85);
    sql.push(if commit { "COMMIT" } else { "ROLLBACK" }.to_owned());
    (sql.join("; "), commit)
}

/// Both sides in one transaction, at times in two statements.
fn transfer(dice: &mut Dice) -> String {
    let from = dice.pick(0..ACCOUNTS - 1);
    let to = dice.pick(from + 1..ACCOUNTS);
    let amount = dice.pick(1..50);
    if dice.chance(50) {
        format!(
            "UPDATE accounts SET amount = amount + CASE id WHEN {from} THEN -{amount} ELSE {amount} END, \
             moves = moves + 1 WHERE id IN ({from}, {to})"
        )
    } else {
        format!(
            "UPDATE accounts SET amount = amount - {amount}, moves = moves + 1 WHERE id = {from}; \
             UPDATE accounts SET amount = amount + {amount}, moves = moves + 1 WHERE id = {to}"
        )
    }
}

/// Somebody joins a list, leaves one, or is moved; by several ways at once, for the table has no unique pair.
fn membership(dice: &mut Dice) -> String {
    let (id, who, list) = (
        dice.pick(0..MEMBERSHIPS),
        dice.pick(0..MEMBERS),
        dice.pick(0..LISTS),
    );
    match dice.pick(0..20) {
        0..9 => format!(
            "INSERT INTO members VALUES ({id}, {list}, {who}) \
             ON CONFLICT (id) DO UPDATE SET list = excluded.list, who = excluded.who"
        ),
        9..14 => format!("DELETE FROM members WHERE id = {id}"),
        14..16 => format!("UPDATE members SET list = {list} WHERE who = {who}"),
        16 => format!("DELETE FROM members WHERE who = {who}"),
        17 | 18 => format!(
            "DELETE FROM members WHERE id = {id}; INSERT INTO members VALUES ({id}, {list}, {who})"
        ),
        _ => "TRUNCATE members".to_owned(),
    }
}

fn statement(dice: &mut Dice) -> String {
    let (id, n, list) = (dice.pick(1..ITEMS), dice.pick(0..1000), dice.pick(0..LISTS));
    match dice.pick(0..200) {
        0..50 => format!(
            "INSERT INTO items (id, list, n, title) VALUES ({id}, {list}, {n}, 't{}'), ({}, {list}, NULL, NULL) \
             ON CONFLICT (id) DO UPDATE SET n = excluded.n, list = excluded.list",
            n % 5,
            id + ITEMS
        ),
        50..80 => format!(
            "UPDATE items SET n = n + 1, list = {list} WHERE id % 37 = {}",
            id % 37
        ),
        80..100 => format!("UPDATE items SET done = NOT done WHERE id = {id}"),
        100..115 => format!(
            "UPDATE items SET title = NULLIF(title, 't{}') WHERE list = {list}",
            n % 5
        ),
        115..135 => format!("DELETE FROM items WHERE id IN ({id}, {})", id + ITEMS),
        135..150 => format!(
            "UPDATE items SET id = id + {ITEMS} WHERE id = {id} \
             AND NOT EXISTS (SELECT 1 FROM items WHERE id = {})",
            id + ITEMS
        ),
        150..165 => format!(
            "SAVEPOINT s; UPDATE items SET n = {n} WHERE id = {id}; \
             DELETE FROM items WHERE id = {}; ROLLBACK TO SAVEPOINT s",
            id + 1
        ),
        165..175 => format!(
            "UPDATE items SET body = repeat('{n} ', {}) WHERE id = {id}",
            n * 3
        ),
        175..197 => format!(
            "UPDATE bulk SET n = n + 1 WHERE id BETWEEN {id} AND {}",
            id + 20
        ),
        197 => format!("DELETE FROM items WHERE id >= {ITEMS}"),
        198 => format!(
            "DELETE FROM items WHERE id = {id}; INSERT INTO items (id, list) VALUES ({id}, {list})"
        ),
        _ => "TRUNCATE items".to_owned(),
    }
}
