//! The clock under which the database stamps is above every clock that it overwrites, whatever that is.

use merge::{Clock, Deletes, MILLIS_MAX, NodeId};
use serde_json::json;
use testkit::TestDatabase;

use super::*;

/// Replaces what is known of row 1.
async fn know(db: &TestDatabase, newest: &str) {
    let metadata = json!({ "fields": { "title": newest } });
    db.execute(&format!(
        "INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) VALUES ('todos', '1', '{newest}', '{metadata}') \
         ON CONFLICT (entity, entity_id) DO UPDATE SET newest = EXCLUDED.newest, metadata = EXCLUDED.metadata"
    ))
    .await;
}

on_postgres! {
    async fn a_clock_is_above_every_other_of_its_row(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        let node = db.query_text("SELECT node FROM _rhtmx_sync_meta").await.remove(0).expect("a node");
        let node = NodeId::new(&node).expect("a node id");
        for (below, expected) in [
            ("2999-01-01T00:00:00.000Z-0000-zzz", "2999-01-01T00:00:00.000Z-0001"),
            ("2999-01-01T00:00:00.000Z-00FF-a-b-c", "2999-01-01T00:00:00.000Z-0100"),
            ("2999-12-31T23:59:59.999Z-FFFF-zzz", "3000-01-01T00:00:00.000Z-0000"),
            ("2999-02-28T23:59:59.999Z-ffff-zzz", "2999-03-01T00:00:00.000Z-0000"),
            // As others of the family write them.
            ("2999-01-01T00:00:00.000123Z-0007-zzz", "2999-01-01T00:00:00.000Z-0008"),
            ("2999-01-01T00:00:00.000Z-00fe-zzz", "2999-01-01T00:00:00.001Z-0000"),
            ("2999-01-01T00:00:00.000Z-fffe-zzz", "2999-01-01T00:00:00.001Z-0000"),
            ("9999-12-31T23:59:59.999Z-FFFE-zzz", "9999-12-31T23:59:59.999Z-FFFF"),
        ] {
            for (sql, part) in [
                ("UPDATE todos SET due = coalesce(due, '2026-01-01') + 1 WHERE id = 1", "due"),
                ("DELETE FROM todos WHERE id = 1", "died"),
                ("INSERT INTO todos (id, title) VALUES (1, 'again')", "born"),
            ] {
                know(&db, below).await;
                db.execute(sql).await;
                let known = entry(&db, "1").await;
                let clock = if part == "due" { known.field(part) } else { known.clock(part) };
                assert_eq!(clock.as_str(), format!("{expected}-{node}"), "{sql} above {below}");
                assert_eq!(known.newest, clock);
                let below = Clock::read_foreign(below).expect("a clock");
                assert_eq!(Some(&clock), Clock::after(Some(&below), 0, &node).ok().as_ref());
                assert!(clock > below, "{clock} above {below}");
            }
        }
    }

    /// There is no clock above the last one; nothing fails.
    async fn the_last_clock_stays(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        let last = Clock::new(MILLIS_MAX, u16::MAX, &NodeId::new("zzz").expect("a node id"));
        know(&db, last.as_str()).await;
        db.execute("UPDATE todos SET title = 'x' WHERE id = 1").await;
        assert_eq!(entry(&db, "1").await.newest, last);
    }

    /// Statements of one transaction, and of one millisecond.
    async fn later_statements_have_later_clocks(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute(
            "DO $$ BEGIN FOR i IN 1..300 LOOP UPDATE todos SET title = i::text WHERE id = 1; \
             INSERT INTO seen SELECT i, newest FROM _rhtmx_sync_field WHERE entity_id = '1'; END LOOP; END $$"
                .replacen("DO", "CREATE TABLE seen (i integer, newest text COLLATE \"C\"); DO", 1)
                .as_str(),
        )
        .await;
        let disorder = "SELECT count(*)::text FROM seen a JOIN seen b ON b.i = a.i + 1 WHERE a.newest >= b.newest";
        assert_eq!(db.query_text(disorder).await, [Some("0".to_owned())]);
    }
}
