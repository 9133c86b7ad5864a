//! Old clocks and tombstones go once every database has what any of them has admitted up to there, and not before.

use merge::{Clock, Deletes};
use rhtmx_sync::{DbPool, Replication};
use serde_json::{Value, json};
use testkit::Backend;

use super::{Synced, rules};

fn record(id: u8, title: &str, is_deleted: u8, day: u8) -> Value {
    let hlc = format!("2020-01-{day:02}T00:00:00.000Z-0000-phone");
    json!({"id": id, "title": title, "is_deleted": is_deleted, "hlc": hlc})
}

async fn pool(of: &Synced) -> DbPool {
    DbPool::from_url(&of.db.url()).await.expect("a pool")
}

async fn frontier(of: &Synced) -> Option<Clock> {
    let peers = pool(of).await.peers("todos").await.expect("the peers");
    peers.frontier().cloned()
}

/// Folds up to the frontier. Returns how many entries are left.
async fn fold(of: &Synced) -> usize {
    let horizon = frontier(of).await.expect("a frontier");
    let rules = rules(Deletes::Win);
    let folded = pool(of)
        .await
        .fold_fields("todos", &rules, (&horizon, false), None)
        .await;
    folded.expect("folded");
    entries(of).await
}

async fn entries(of: &Synced) -> usize {
    let sql = "SELECT entity_id FROM _rhtmx_sync_field";
    let sql = match of.db.backend() {
        Backend::Postgres => format!("SELECT to_jsonb(f)::text FROM ({sql}) f"),
        Backend::Sqlite => format!("SELECT json_object('id', entity_id) FROM ({sql})"),
    };
    of.db.query_json(&sql).await.len()
}

fn both(one: &Synced, other: &Synced) -> Replication {
    Replication::new(one.replica.clone(), other.replica.clone()).expect("two databases")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tombstone_goes_when_every_database_has_it() {
    for backends in [
        [Backend::Postgres, Backend::Sqlite],
        [Backend::Sqlite, Backend::Postgres],
    ] {
        let one = Synced::new(backends[0], Deletes::Win).await;
        let two = Synced::new(backends[1], Deletes::Win).await;
        let old = json!({"todos": [record(1, "kept", 0, 1), record(2, "gone", 0, 1)]});
        one.merge(&old.to_string()).await;
        one.merge(&json!({"todos": [record(2, "gone", 1, 2)]}).to_string())
            .await;
        let pair = both(&one, &two);
        pair.round().await.expect("a round");
        assert_eq!(
            frontier(&one).await,
            None,
            "what the other has is not known yet"
        );
        pair.round().await.expect("a round");
        assert!(frontier(&one).await > Some(Clock::ground()));
        assert!(frontier(&two).await > Some(Clock::ground()));
        let before = entries(&one).await;
        assert_eq!(fold(&one).await, before - 1, "the tombstone is gone");
        assert_eq!(entries(&two).await, before, "and the other's is not");
        assert!(pair.is_equal().await.expect("compared"));
        let copied = pair.round().await.expect("a round");
        assert_eq!((copied.there.changed, copied.back.changed), (0, 0));

        // An edit of today arrives at what was folded.
        two.db
            .execute("UPDATE todos SET note = 'new' WHERE id = 1")
            .await;
        pair.round().await.expect("a round");
        assert!(pair.is_equal().await.expect("compared"));
        assert_eq!(one.rows().await["1"]["note"], "new");

        // Everything once more, as after a position was lost: the deleted row stays deleted.
        for all in [&one, &two] {
            all.db.execute("DELETE FROM _rhtmx_sync_peer").await;
        }
        pair.round().await.expect("a round");
        pair.round().await.expect("a round");
        assert!(pair.is_equal().await.expect("compared"));
        assert_eq!(one.rows().await, two.rows().await);
        assert_eq!(one.rows().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_database_holds_back_what_the_first_forgets() {
    let one = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let two = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let three = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let (left, right) = (both(&one, &two), both(&two, &three));
    let round = async |pair: &Replication| pair.round().await.expect("a round");
    for _ in 0..2 {
        round(&left).await;
    }
    assert!(frontier(&one).await.is_some());
    round(&right).await;
    round(&left).await;
    assert_eq!(
        frontier(&one).await,
        None,
        "what the third has is not known"
    );
    for _ in 0..2 {
        round(&right).await;
        round(&left).await;
    }
    assert!(frontier(&one).await.is_some());
    assert!(frontier(&three).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_parked_a_record_does_not_have_it() {
    let one = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let two = Synced::new(Backend::Sqlite, Deletes::Win).await;
    one.db
        .execute("INSERT INTO todos (id, code) VALUES (1, 'same')")
        .await;
    two.db
        .execute("INSERT INTO todos (id, code) VALUES (2, 'same')")
        .await;
    let pair = both(&one, &two);
    for _ in 0..3 {
        pair.round().await.expect("a round");
    }
    assert_eq!((frontier(&one).await, frontier(&two).await), (None, None));
    two.db
        .execute("UPDATE todos SET code = 'another' WHERE id = 2")
        .await;
    for _ in 0..3 {
        pair.round().await.expect("a round");
    }
    assert!(frontier(&one).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_what_one_has_folded_loses_everywhere() {
    for backends in [
        [Backend::Postgres, Backend::Sqlite],
        [Backend::Sqlite, Backend::Postgres],
    ] {
        let one = Synced::new(backends[0], Deletes::Win).await;
        let two = Synced::new(backends[1], Deletes::Win).await;
        one.db
            .execute("INSERT INTO todos (id, title) VALUES (1, 'first')")
            .await;
        let code = json!({"id": 1, "code": "c", "hlc": "2020-01-01T00:00:00.000Z-0000-phone"});
        one.merge(&json!({"todos": [code]}).to_string()).await;
        let pair = both(&one, &two);
        for _ in 0..2 {
            pair.round().await.expect("a round");
        }
        two.db
            .execute("UPDATE todos SET note = 'new' WHERE id = 1")
            .await;
        pair.round().await.expect("a round");
        // The clock of the code goes. That of the note is young, and with it stands that nothing older is to come.
        fold(&two).await;
        let late = json!({"todos": [record(1, "late", 0, 2)]});
        one.merge(&late.to_string()).await;
        assert_eq!(one.rows().await["1"]["title"], "late");
        for _ in 0..3 {
            pair.round().await.expect("a round");
        }
        assert_eq!(one.rows().await, two.rows().await);
        assert!(pair.is_equal().await.expect("compared"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_that_rest_are_not_written_to() {
    let one = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let two = Synced::new(Backend::Sqlite, Deletes::Win).await;
    one.db
        .execute("INSERT INTO todos (id, title) VALUES (1, 'a')")
        .await;
    let pair = both(&one, &two);
    for _ in 0..3 {
        pair.round().await.expect("a round");
    }
    for of in [&one, &two] {
        let mut sql = "CREATE TABLE writes (of_what TEXT);".to_owned();
        for table in ["peer", "horizon"] {
            for write in ["INSERT", "UPDATE"] {
                sql += &format!(
                    "CREATE TRIGGER {table}_{write} AFTER {write} ON _rhtmx_sync_{table} \
                     BEGIN INSERT INTO writes VALUES ('{table}'); END;"
                );
            }
        }
        of.db.execute(&sql).await;
    }
    // Once an hour the horizons rise; a round in which they do says nothing.
    let writes_of_a_round = async || {
        let mut writes = Vec::new();
        for of in [&one, &two] {
            of.db.execute("DELETE FROM writes").await;
        }
        pair.round().await.expect("a round");
        for of in [&one, &two] {
            writes.extend(of.db.query_text("SELECT of_what FROM writes").await);
        }
        writes
    };
    if !writes_of_a_round().await.is_empty() {
        assert_eq!(writes_of_a_round().await, []);
    }
}
