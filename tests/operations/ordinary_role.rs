//! An engine whose role owns nothing but the schema of its own tables, and has settings that are meant for others.

use rhtmx_sync::{DbPool, EntityConfig, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{TestDatabase, TestRole};

use crate::engines::role as has_role;

/// The time-outs are shorter than what the tests do takes.
async fn role(db: &TestDatabase) -> TestRole {
    let role = db.create_role("engine").await;
    db.execute(&format!(
        "CREATE SCHEMA app; CREATE TABLE app.notes (id serial PRIMARY KEY, owner text NOT NULL, body text); \
         CREATE SCHEMA own AUTHORIZATION {0}; GRANT USAGE ON SCHEMA app TO {0}; \
         GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON app.notes TO {0}; \
         GRANT USAGE ON SEQUENCE app.notes_id_seq TO {0}; \
         ALTER ROLE {0} SET search_path = own, app; ALTER ROLE {0} SET statement_timeout = '300ms'; \
         ALTER ROLE {0} SET idle_in_transaction_session_timeout = '100ms'; ALTER ROLE {0} SET lock_timeout = '50ms'; \
         ALTER ROLE {0} SET default_transaction_isolation = 'serializable'",
        role.name
    ))
    .await;
    role
}

async fn serve(role: &TestRole) -> TestServer {
    let pool = DbPool::from_url(&role.url)
        .await
        .expect("the role may connect");
    let notes = EntityConfig::on_table("notes", "app.notes");
    let server = TestServer::with_config(SyncConfig::new(pool, vec![notes])).await;
    has_role(&server.http(), "leader").await;
    server
}

fn note(id: u32, owner: &str) -> Value {
    json!([{ "entity": "notes", "op": "upsert", "key": id.to_string(), "values": { "owner": owner, "body": "pushed" } }])
}

/// Reads, drains and mutations that take longer than the role's own settings allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_of_the_role_do_not_end_the_engines_work() {
    let db = TestDatabase::postgres().await;
    let role = role(&db).await;
    // Each row takes a hundredth of a second to read and to write.
    db.execute(&format!(
        "CREATE FUNCTION app.slow() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN true; END $$; \
         INSERT INTO app.notes SELECT n, 'all' FROM generate_series(1, 60) n; ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY slow ON app.notes TO {0} USING (app.slow()) WITH CHECK (true); GRANT EXECUTE ON FUNCTION app.slow() TO {0}",
        role.name
    ))
    .await;
    let server = serve(&role).await;
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    assert_eq!(client.rows("notes").len(), 60);

    db.execute("UPDATE app.notes SET body = 'changed'").await;
    client
        .wait_until(|client| {
            client
                .rows("notes")
                .values()
                .all(|row| row["body"] == "changed")
        })
        .await;

    // A lock lasts longer than the role's statements may wait.
    let holder = db.connect_postgres().await;
    holder
        .batch_execute("BEGIN; UPDATE app.notes SET body = 'held' WHERE id = 1")
        .await
        .expect("a lock");
    let released = async {
        testkit::eventually("the mutation waits for the row", async || {
            let waiting = "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                AND datname = current_database()";
            (!db.query_text(waiting).await.is_empty()).then_some(())
        })
        .await;
        // Once more: the first attempt, which others share, gives up soon.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        holder.batch_execute("COMMIT").await.expect("a commit");
    };
    let (answer, ()) = tokio::join!(client.push_next(note(1, "all")), released);
    answer.acked();
    client
        .wait_until(|client| {
            client
                .row("notes", "1")
                .is_some_and(|row| row["body"] == "pushed")
        })
        .await;
}

/// Row-level security of the role hides rows, and forbids writes; both have an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_level_security_of_the_role_hides_rows_and_rejects_writes() {
    let db = TestDatabase::postgres().await;
    let role = role(&db).await;
    db.execute(&format!(
        "INSERT INTO app.notes VALUES (1, 'all'), (2, 'ann'); ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY; \
         ALTER TABLE app.notes FORCE ROW LEVEL SECURITY; \
         CREATE POLICY shared ON app.notes TO {} USING (owner = 'all')",
        role.name
    ))
    .await;
    let server = serve(&role).await;
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    let keys =
        |client: &testkit::SyncClient| client.rows("notes").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&client), ["1"]);
    db.execute("UPDATE app.notes SET owner = 'all' WHERE id = 2; UPDATE app.notes SET owner = 'ann' WHERE id = 1")
        .await;
    client
        .wait_until(|client| client.rows("notes").keys().eq(["2"]))
        .await;

    client.push_next(note(3, "all")).await.acked();
    let refused = client.push_next(note(4, "ann")).await;
    assert_eq!(refused.rejected().code, "forbidden");
    let hidden =
        json!([{ "entity": "notes", "op": "update", "key": "1", "values": { "body": "seen" } }]);
    assert_eq!(client.push_next(hidden).await.rejected().code, "not_found");
    // What follows is not held up.
    client.push_next(note(5, "all")).await.acked();
    client
        .wait_until(|client| client.rows("notes").keys().eq(["2", "3", "5"]))
        .await;
}
