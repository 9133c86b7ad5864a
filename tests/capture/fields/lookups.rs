//! What a write costs does not grow with what is known of other rows.

use merge::Deletes;
use testkit::TestDatabase;
use tokio_postgres::Client;

use super::*;

/// What clients and programs do to one row.
const WRITES: [&str; 5] = [
    "UPDATE todos SET title = title || 'x', likes = likes + 1, tags = tags || 'x'::text WHERE id = 1",
    "DELETE FROM todos WHERE id = 1",
    "INSERT INTO todos (id, title) VALUES (1, 'again')",
    "INSERT INTO todos (id, title) VALUES (4, 'new'); DELETE FROM _rhtmx_sync_field WHERE entity_id = '4'",
    "SET rhtmx_sync.stamped = '{\"entity\": \"todos\", \"id\": \"4\", \"columns\": null}'; DELETE FROM todos WHERE id = 4; \
     RESET rhtmx_sync.stamped",
];

/// How many blocks of the entries' index this session has read.
async fn blocks(session: &Client) -> i64 {
    let flush = session.batch_execute("SELECT pg_stat_force_next_flush()");
    flush.await.expect("flushed");
    let sql = "SELECT (sum(idx_blks_hit) + sum(idx_blks_read))::bigint FROM pg_statio_user_indexes \
               WHERE relname = '_rhtmx_sync_field'";
    session.query_one(sql, &[]).await.expect("counted").get(0)
}

on_postgres! {
    async fn an_entry_is_found_by_its_key_also_with_plans_for_few(db: TestDatabase) {
        for deletes in [Deletes::Win, Deletes::Revive] {
            db.execute("DROP TABLE IF EXISTS todos").await;
            todos(&db, deletes).await;
            db.execute("DELETE FROM _rhtmx_sync_field").await;
            // The session's plans are made while there is next to nothing.
            let session = db.connect_postgres().await;
            for _ in 0..10 {
                for sql in WRITES {
                    session.batch_execute(sql).await.expect("written");
                }
            }
            // Analyzing the table would have other plans made.
            let many = "ALTER TABLE _rhtmx_sync_field SET (autovacuum_enabled = off); \
                        INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) \
                        SELECT 'todos', rpad('x' || g, 200, 'x'), '2026-01-01T00:00:00.000Z-0000-a', '{}' FROM generate_series(1, 20000) g";
            db.execute(many).await;
            for sql in WRITES {
                let before = blocks(&session).await;
                session.batch_execute(sql).await.expect("written");
                let read = blocks(&session).await - before;
                assert!(read < 60, "{read} blocks of an index with hundreds: {sql}");
            }
        }
    }
}
