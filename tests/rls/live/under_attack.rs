//! While what answers is killed, or takes too long, sessions see less and never more.

use super::*;

const KILL: &str = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_killed_show_nobody_more() {
    let live = Live::start().await;
    let mut ann = live.subscriber(&user(ANN)).await;
    for round in 0..6 {
        let (first, second) = match round % 2 {
            0 => (
                "DELETE FROM members WHERE list_id = 1",
                "UPDATE todos SET list_id = 2 WHERE id = 1",
            ),
            _ => ("UPDATE todos SET list_id = 1 WHERE id = 1", ""),
        };
        live.db.execute(first).await;
        live.db.query_text(KILL).await;
        live.db.execute(second).await;
        if round % 2 == 1 {
            live.db
                .execute(&format!("INSERT INTO members VALUES (1, '{ANN}')"))
                .await;
        }
        let expected = match round % 2 {
            0 => these(["4", "5"]),
            _ => these(["1", "2", "4", "5"]),
        };
        // A connection may have ended with what it waited for.
        ann.wait_until(|ann| {
            assert!(!keys(ann).contains("3"), "{:?}", keys(ann));
            keys(ann) == expected
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_takes_too_long_shows_less_and_the_others_go_on() {
    let db = database().await;
    db.execute(
        "CREATE TABLE slow (id integer PRIMARY KEY); GRANT SELECT ON slow TO authenticated; \
         CREATE FUNCTION is_quick() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN \
             IF auth.uid() = 'b0b00000-0000-4000-8000-000000000002' AND EXISTS (SELECT FROM slow) THEN PERFORM pg_sleep(600); END IF; \
             RETURN true; END $$; \
         CREATE POLICY quick ON todos AS RESTRICTIVE USING (is_quick())",
    )
    .await;
    let mut config = config(&db).await;
    config.entities.push(EntityConfig::new("slow").internal());
    let mut live = Live::of(db, config).await;
    let mut ann = live.subscriber(&user(ANN)).await;
    let mut ben = live.subscriber(&user(BEN)).await;
    live.db.execute("INSERT INTO slow VALUES (1)").await;
    live.fence(&mut ben).await;
    assert_eq!(keys(&ben), these([]));
    live.db
        .execute("INSERT INTO todos (id, list_id) VALUES (6, 1), (7, 2)")
        .await;
    live.fence(&mut ben).await;
    assert_eq!(keys(&ben), these([]));
    live.fence(&mut ann).await;
    assert_eq!(keys(&ann), these(["1", "2", "4", "5", "6"]));
    live.db.execute("DELETE FROM slow").await;
    wait_keys(&mut ben, &["3", "5", "7"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_taken_from_the_engine_shows_nothing_more() {
    let db = database().await;
    let engine = db.create_role("engine").await;
    let writer = db.create_role("reader").await.name;
    db.execute(&format!(
        "ALTER ROLE {0} BYPASSRLS; GRANT {writer} TO {0}; CREATE SCHEMA own AUTHORIZATION {0}; \
         ALTER ROLE {0} SET search_path = own, public; \
         GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON todos, members, fences TO {0}; \
         GRANT USAGE ON SCHEMA auth TO {0}, {writer}; GRANT SELECT, INSERT ON todos, members, fences TO {writer}",
        engine.name
    ))
    .await;
    let pool = rhtmx_sync::DbPool::from_url(&engine.url).await;
    let mut config = config(&db).await;
    config.db_pool = pool.expect("the role may connect");
    let live = Live::of(db, config).await;
    let claims = json!({ "sub": ANN, "role": writer });
    let mut ann = live.subscriber(&claims).await;
    assert_eq!(keys(&ann), these(["4", "5"]));
    live.db
        .execute(&format!("REVOKE {writer} FROM {}", engine.name))
        .await;
    live.db
        .execute(&format!(
            "INSERT INTO todos (id, owner) VALUES (8, '{ANN}')"
        ))
        .await;
    ann.wait_until(|ann| !ann.subscription("t").is_live() || keys(ann).is_empty())
        .await;
    let write = json!([{ "op": "create", "entity": "todos", "values": { "id": 9, "owner": ANN } }]);
    assert_eq!(ann.push_next(write).await.rejected().code, "forbidden");
}
