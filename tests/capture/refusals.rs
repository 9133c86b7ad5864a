//! Tables that cannot be captured, and the removal of the capture.

use rhtmx_sync::{DbPool, EntityConfig, SyncEngine};
use rhtmx_sync_tests::TestServer;
use testkit::{ClientOptions, SyncClient};

use super::watch::Watch;
use super::*;

/// The error with which an engine on this entity fails to start.
pub(crate) async fn start_error(db: &TestDatabase, entity: EntityConfig) -> String {
    let config = TestServer::config(db, [entity.clone()]).await;
    match SyncEngine::new(config).await {
        Ok(_) => panic!("{entity:?} is captured"),
        Err(error) => error.to_string(),
    }
}

async fn pool(db: &TestDatabase) -> DbPool {
    DbPool::from_url(&db.url())
        .await
        .expect("the test's database opens")
}

/// The number of the engine's triggers and functions.
async fn count_captures(db: &TestDatabase) -> u64 {
    let sql = dialect(
        db,
        "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '\\_rhtmx%') \
         + (SELECT count(*) FROM pg_proc WHERE proname LIKE '\\_rhtmx\\_sync\\_capture%')",
        "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'",
    );
    db.query_json(sql).await[0].as_u64().expect("a count")
}

both_backends! {
    /// Each error names the entity and the table, and says what is wrong.
    async fn a_table_that_cannot_be_captured_is_named_in_the_error(db: TestDatabase) {
        db.execute("CREATE TABLE keyless (id integer, body text)").await;
        db.execute("CREATE VIEW seen AS SELECT id, body FROM keyless").await;
        db.execute("CREATE TABLE \"it's\" (id integer PRIMARY KEY)").await;
        for (table, why) in [
            ("keyless", "has no primary key"),
            ("seen", "is not a table"),
            ("missing", "there is no table"),
            ("nowhere.missing", "there is no table"),
            ("IT'S", if db.backend() == Backend::Postgres { "there is no table" } else { "" }),
            ("missing'; DROP TABLE keyless; --", "there is no table"),
            ("", "there is no table"),
        ] {
            if why.is_empty() {
                continue;
            }
            let error = start_error(&db, EntityConfig::on_table("things", table)).await;
            assert!(error.contains("\"things\"") && error.contains(&format!("{table:?}")), "{error}");
            assert!(error.contains(why), "{error}");
        }
        db.execute("INSERT INTO keyless VALUES (1, 'it is still there')").await;
    }

    async fn the_engines_own_tables_cannot_be_entities(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY)").await;
        let watch = Watch::start(db, ["notes"]).await;
        let Watch { server, db, .. } = watch;
        server.shutdown().await;
        for table in ["_rhtmx_sync_log", "_rhtmx_sync_meta", "_rhtmx_sync_client", "_rhtmx_sync_entity"] {
            let error = start_error(&db, EntityConfig::on_table("things", table)).await;
            assert!(error.contains(table), "{error}");
        }
        db.execute("INSERT INTO notes VALUES (1)").await;
    }

    /// All triggers and functions are removed, the tables stay, and a client that resumes later
    /// refetches.
    async fn uncapture_removes_everything_but_the_tables(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        db.execute("CREATE TABLE \"Odd 'name'\" (id integer PRIMARY KEY, body text)").await;
        let odd = super::watch::Table::new(EntityConfig::on_table("odd", "Odd 'name'"), "\"Odd 'name'\"");
        let mut watch = Watch::start(db, ["notes".into(), odd]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a'), (2, 'b')").await;
        watch.step("INSERT INTO \"Odd 'name'\" VALUES (1, 'a')").await;
        let Watch { client, server, db, .. } = watch;
        let state = client.into_state();
        server.shutdown().await;
        let pool = pool(&db).await;
        assert!(count_captures(&db).await > 0);

        let gone = SyncEngine::uncapture(&pool, Some(&["odd".to_owned()])).await.expect("the entity is uncaptured");
        assert_eq!(gone, ["odd"]);
        let before = log::length(&db).await;
        db.execute("UPDATE \"Odd 'name'\" SET body = 'unseen'").await;
        assert_eq!(log::length(&db).await, before);
        db.execute("UPDATE notes SET body = 'seen' WHERE id = 1").await;
        assert_eq!(log::length(&db).await, before + 1);

        let gone = SyncEngine::uncapture(&pool, None).await.expect("the rest is uncaptured");
        assert_eq!(gone, ["fence", "notes"]);
        assert_eq!(count_captures(&db).await, 0);
        let before = log::length(&db).await;
        db.execute("INSERT INTO notes VALUES (3, 'unseen'); UPDATE notes SET id = 20 WHERE id = 2").await;
        db.execute("DELETE FROM notes WHERE id = 1; ALTER TABLE notes ADD COLUMN stars integer").await;
        assert_eq!(log::length(&db).await, before);
        assert_eq!(SyncEngine::uncapture(&pool, None).await.expect("a second time succeeds"), Vec::<String>::new());

        let odd = EntityConfig::on_table("odd", "Odd 'name'");
        let server = TestServer::start(&db, [odd, "notes".into(), "fence".into()]).await;
        let mut client = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        for entity in ["notes", "odd", "fence"] {
            let refetched = client.wait_for(|frame| frame["type"] == "refetch").await;
            assert_eq!(refetched["reason"], "schema", "{entity}");
        }
        client.wait_until(|client| client.subscriptions().values().all(|one| one.is_live())).await;
        assert_eq!(client.rows("notes").keys().collect::<Vec<_>>(), ["20", "3"]);
        assert_eq!(client.row("odd", "1").expect("the row exists")["body"], "unseen");
    }

    async fn uncapture_without_a_capture_removes_nothing(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY)").await;
        let pool = pool(&db).await;
        let gone = SyncEngine::uncapture(&pool, None).await.expect("there is nothing to do");
        assert_eq!(gone, Vec::<String>::new());
    }
}

on_postgres! {
    /// Relations of other kinds, and a name that PostgreSQL would truncate.
    async fn other_relations_cannot_be_captured(db: TestDatabase) {
        db.execute(
            "CREATE TABLE notes (id integer PRIMARY KEY); CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id; \
             CREATE SEQUENCE numbers; CREATE TYPE pair AS (a integer, b integer)",
        )
        .await;
        for table in ["kept", "numbers", "notes_pkey"] {
            let error = start_error(&db, EntityConfig::new(table)).await;
            assert!(error.contains(table) && error.contains("is not a table"), "{error}");
        }
        let cut = "n".repeat(63);
        db.execute(&format!("CREATE TABLE {cut} (id integer PRIMARY KEY)")).await;
        let error = start_error(&db, EntityConfig::new(format!("{cut}n"))).await;
        assert!(error.contains("there is no table"), "{error}");
    }

    /// Partitions lose their triggers too, even one that was detached in the meantime.
    async fn uncapture_includes_partitions(db: TestDatabase) {
        db.execute(
            "CREATE TABLE t (id integer PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (100); \
             CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (100) TO (200)",
        )
        .await;
        let watch = Watch::start(db, ["t"]).await;
        let Watch { server, db, .. } = watch;
        server.shutdown().await;
        db.execute("ALTER TABLE t DETACH PARTITION t_high").await;
        SyncEngine::uncapture(&pool(&db).await, None).await.expect("the table is uncaptured");
        assert_eq!(count_captures(&db).await, 0);
        db.execute("INSERT INTO t VALUES (1); INSERT INTO t_low VALUES (2); INSERT INTO t_high VALUES (3)").await;
    }
}
