//! The first copy of a table into an empty one.

use merge::{Deletes, Rules};
use rhtmx_sync::{EntityConfig, Replication};
use serde_json::json;
use testkit::{Backend, TestDatabase, eventually};

use super::{Synced, replica};

/// Rows with everything that a text form could spoil, some of them merged from elsewhere and one of them gone.
const ROWS: &str = r#"INSERT INTO todos (id, title, note, likes, best, tags, code)
    SELECT g, CASE g % 7 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'a\tb\nc\\d\re' WHEN 3 THEN '\N' WHEN 4 THEN '\.'
    ELSE '日本 "x" ''' || g END, repeat('n', (g % 50)::int), g, CASE WHEN g % 3 > 0 THEN -g END,
    CASE g % 4 WHEN 0 THEN NULL WHEN 1 THEN '[]' ELSE '["b", "a\\\n"]'::jsonb END, 'c' || g
    FROM generate_series(1, 3000) g"#;

async fn source() -> Synced {
    let source = Synced::new(Backend::Postgres, Deletes::Win).await;
    source.db.execute(ROWS).await;
    let record = |id: u32, deleted: u8| {
        let hlc = format!("2024-01-01T00:00:0{deleted}.000Z-0000-phone");
        json!({"id": id, "title": "edited", "is_deleted": deleted, "hlc": hlc})
    };
    for records in [
        vec![record(5, 0), record(9, 0), record(5000, 0)],
        vec![record(9, 1)],
    ] {
        let (changed, parked) = source.merge(&json!({ "todos": records }).to_string()).await;
        assert_eq!((changed, parked), (records.len() as u64, 0));
    }
    source
}

async fn one_text(db: &TestDatabase, sql: &str) -> String {
    let texts = db.query_text(sql).await;
    texts.into_iter().flatten().next().expect("a text")
}

/// The rows of `todos` by how many transactions wrote them: few where they were copied, and as many as pages where not.
async fn transactions(db: &TestDatabase) -> u32 {
    let sql = "SELECT count(DISTINCT xmin::text)::text FROM todos";
    one_text(db, sql).await.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_copied_is_what_is_merged_elsewhere() {
    let source = source().await;
    let copied = Synced::new(Backend::Postgres, Deletes::Win).await;
    let both = Replication::new(source.replica.clone(), copied.replica.clone()).expect("two");
    let round = both.round().await.expect("a round");
    assert_eq!(
        (round.there.changed, round.there.parked),
        (3001, 0),
        "{round:?}"
    );
    assert!(round.is_equal);
    // The rows that were edited are merged.
    assert_eq!(transactions(&copied.db).await, 2);

    let merged = Synced::new(Backend::Postgres, Deletes::Win).await;
    for page in source.pages(None).await {
        merged.merge(&page).await;
    }
    assert!(transactions(&merged.db).await > 2);
    let entries = "SELECT jsonb_agg(to_jsonb(f) - 'newest' ORDER BY entity_id)::text FROM _rhtmx_sync_field f";
    for of in [&copied, &merged] {
        assert!(source.is_same(of).await);
        assert_eq!(source.rows().await, of.rows().await);
        assert_eq!(
            one_text(&of.db, entries).await,
            one_text(&source.db, entries).await
        );
    }

    // Both go on from there, and what comes next is told to subscribers as any other change.
    let log = "SELECT count(*)::text FROM _rhtmx_sync_log WHERE entity = 'todos'";
    assert_eq!(one_text(&copied.db, log).await, "3001");
    source
        .db
        .execute("UPDATE todos SET note = 'new', likes = likes + 1 WHERE id IN (1, 5)")
        .await;
    copied.db.execute("DELETE FROM todos WHERE id = 2").await;
    let round = both.round().await.expect("a round");
    assert_eq!(
        (round.there.changed, round.back.changed),
        (2, 1),
        "{round:?}"
    );
    assert!(both.is_equal().await.expect("compared"));
    assert!(source.is_same(&copied).await);

    // What no trigger has seen is seen where both are compared.
    copied
        .db
        .execute(
            "ALTER TABLE todos DISABLE TRIGGER USER; UPDATE todos SET title = 'other' WHERE id = 100",
        )
        .await;
    assert!(!both.is_equal().await.expect("compared"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_row_is_forbidden_or_one_is_known_already_all_are_merged() {
    // What one database forbids is parked there.
    let source = source().await;
    let check = "ALTER TABLE todos ADD CHECK (id <> 2999)";
    let forbids = Synced::with(Backend::Postgres, Deletes::Win, check).await;
    let both = Replication::new(source.replica.clone(), forbids.replica.clone()).expect("two");
    let round = both.round().await.expect("a round");
    assert_eq!(
        (round.there.changed, round.there.parked),
        (3000, 2),
        "tried twice: {round:?}"
    );
    assert_eq!(forbids.rows().await.len(), 2999);

    // What is gone in one database stays gone: nothing of it but its tombstone is there.
    let gone = Synced::new(Backend::Postgres, Deletes::Win).await;
    let tombstone = json!({"id": 7, "is_deleted": 1, "hlc": "2024-01-01T00:00:00.000Z-0000-phone"});
    gone.merge(&json!({ "todos": [tombstone] }).to_string())
        .await;
    let both = Replication::new(source.replica.clone(), gone.replica.clone()).expect("two");
    for _ in 0..3 {
        both.round().await.expect("a round");
    }
    assert!(source.is_same(&gone).await);
    assert!(!source.rows().await.contains_key("7"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_deleted_while_it_is_copied_stays_deleted() {
    let source = source().await;
    // The copy waits once its first statement has begun.
    let waits = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$; \
                 CREATE TRIGGER waits BEFORE INSERT ON todos EXECUTE FUNCTION waits()";
    let target = Synced::with(Backend::Postgres, Deletes::Win, waits).await;
    let holder = target.db.connect_postgres().await;
    let held = holder.batch_execute("SELECT pg_advisory_lock(42)").await;
    held.expect("the lock");
    let both = Replication::new(source.replica.clone(), target.replica.clone()).expect("two");
    let copying = tokio::spawn(async move {
        both.round().await.expect("a round");
        both
    });
    let waiting = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted";
    eventually("the copy waits", async || {
        (one_text(&target.db, waiting).await != "0").then_some(())
    })
    .await;
    let tombstone = json!({"id": 7, "is_deleted": 1, "hlc": "2024-01-01T00:00:00.000Z-0000-phone"});
    target
        .merge(&json!({ "todos": [tombstone] }).to_string())
        .await;
    let released = holder.batch_execute("SELECT pg_advisory_unlock(42)").await;
    released.expect("unlocked");
    let both = copying.await.expect("copied");
    both.round().await.expect("a round");
    assert!(both.is_equal().await.expect("compared"));
    for of in [&source, &target] {
        let rows = of.rows().await;
        assert!(!rows.contains_key("7"));
        assert_eq!(rows.len(), 2999);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_the_database_fills_in_are_no_obstacle() {
    let table = "CREATE TABLE notes (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, text TEXT NOT NULL, \
                 length INTEGER GENERATED ALWAYS AS (length(text)) STORED, at TIMESTAMPTZ, amount NUMERIC, \
                 ratio FLOAT8, data BYTEA, days DATE[])";
    let (from, to) = (
        TestDatabase::postgres().await,
        TestDatabase::postgres().await,
    );
    for db in [&from, &to] {
        db.execute(table).await;
    }
    // The settings of a database or a role do not matter.
    to.execute(&format!(
        "ALTER DATABASE \"{}\" SET datestyle = 'SQL, DMY'",
        one_text(&to, "SELECT current_database()::text").await
    ))
    .await;
    from.execute(
        "INSERT INTO notes (text, at, amount, ratio, data, days) SELECT 't' || g, '2026-03-04 05:06:07.89+02', \
         g / 7.0, g / 7.0::float8, '\\x00ff', '{2026-03-04,2026-12-11}' FROM generate_series(1, 100) g",
    )
    .await;
    let notes = [EntityConfig::new("notes").fields(Rules::default())];
    let (one, two) = (replica(&from, &notes).await, replica(&to, &notes).await);
    let both = Replication::new(one.clone(), two.clone()).expect("two");
    let round = both.round().await.expect("a round");
    assert_eq!(
        round.there.changed,
        100,
        "{round:?} {:?}",
        two.parked(1).await
    );
    let one = one.digest("notes").await.expect("a digest");
    assert!(one.is_same(&two.digest("notes").await.expect("a digest")));
    let xids = "SELECT count(DISTINCT xmin::text)::text FROM notes";
    assert_eq!(one_text(&to, xids).await, "1");
}
