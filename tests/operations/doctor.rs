//! `rhtmx-sync doctor`: each thing is broken on purpose, and mended by the statement that it names.

use std::sync::Arc;

use rhtmx_sync::{
    Check, DbPool, EntityConfig, EntityPolicy, Finding, Level, Policies, Remedy, SyncConfig,
    SyncEngine,
};
use rhtmx_sync_tests::{Pooler, TestServer};
use serde_json::Value;
use testkit::{Exited, ServerProcess, TestDatabase};

use crate::writers::NOTES;

async fn config(url: &str, entities: &[(&str, &str)]) -> SyncConfig {
    let pool = DbPool::from_url(url).await.expect("a pool");
    let entities = entities.iter();
    let entities = entities.map(|(name, table)| EntityConfig::on_table(*name, *table));
    SyncConfig::new(pool, entities.collect::<Vec<_>>())
}

/// What is not as it should be.
async fn wrong(config: &SyncConfig) -> Vec<Finding> {
    let mut found = SyncEngine::examine(config).await.expect("an examination");
    // The tests' own user, and what its neighbours on the server do.
    found.retain(|finding| {
        finding.level != Level::Ok
            && !finding.text.contains("is a superuser")
            && finding.check != Check::Transactions
    });
    found
}

fn kinds(found: &[Finding]) -> Vec<(Check, Level)> {
    found
        .iter()
        .map(|finding| (finding.check, finding.level))
        .collect()
}

/// Runs the statements of these findings as somebody who may.
async fn mend(db: &TestDatabase, found: &[Finding]) {
    for finding in found {
        if let Some(Remedy::Sql { run, .. }) = &finding.remedy {
            db.execute(run).await;
        }
    }
}

/// Breaks one thing, which is found and mended.
async fn is_found_and_mended(
    db: &TestDatabase,
    config: &SyncConfig,
    broken_by: &str,
    (check, level): (Check, Level),
) {
    assert_eq!(wrong(config).await, [], "before: {broken_by}");
    db.execute(broken_by).await;
    let found = wrong(config).await;
    assert_eq!(kinds(&found), [(check, level)], "{broken_by}: {found:?}");
    assert!(
        matches!(found[0].remedy, Some(Remedy::Sql { .. })),
        "{broken_by}: {found:?}"
    );
    mend(db, &found).await;
    assert_eq!(wrong(config).await, [], "after: {broken_by}");
}

/// From a role with no rights at all to a server that works, by the statements of the doctor alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_gets_all_that_it_needs() {
    let db = TestDatabase::postgres().await;
    let role = db.create_role("engine").await;
    db.execute(
        "REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE SCHEMA \"the app\"; \
         CREATE TABLE \"the app\".notes (id serial, body text); CREATE TABLE \"the app\".old () INHERITS (\"the app\".notes); \
         CREATE TABLE \"the app\".parts (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE \"the app\".part PARTITION OF \"the app\".parts FOR VALUES FROM (0) TO (9); \
         ALTER TABLE \"the app\".notes ENABLE ROW LEVEL SECURITY",
    )
    .await;
    let entities = [("notes", "the app.notes"), ("parts", "the app.parts")];
    let config = async || self::config(&role.url, &entities).await;
    let mut rounds = Vec::new();
    loop {
        let found = wrong(&config().await).await;
        let (to_mend, left): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|finding| matches!(finding.remedy, Some(Remedy::Sql { .. })));
        if to_mend.is_empty() {
            // All rows can be read now, which the configuration has to restrict.
            assert_eq!(
                kinds(&left),
                [(Check::RowSecurity, Level::Warning)],
                "{left:?}"
            );
            break;
        }
        mend(&db, &to_mend).await;
        rounds.push(kinds(&to_mend));
        assert!(rounds.len() < 5, "{rounds:?}");
    }
    let found: Vec<Check> = rounds
        .concat()
        .into_iter()
        .map(|(check, _)| check)
        .collect();
    for check in [
        Check::Schema,
        Check::Table,
        Check::Rights,
        Check::RowSecurity,
    ] {
        assert!(found.contains(&check), "{check:?} in {found:?}");
    }
    let server = TestServer::with_config(config().await).await;
    let mut client = server.connect().await;
    for entity in ["notes", "parts"] {
        client.subscribe(entity, entity).await;
        client.wait_subscribed(entity).await;
    }
    let writes = serde_json::json!([
        { "entity": "notes", "op": "create", "values": { "body": "a" } },
        { "entity": "parts", "op": "create", "values": { "id": 1 } },
    ]);
    client.push_next(writes).await.acked();
    client
        .wait_until(|client| client.rows("notes").len() + client.rows("parts").len() == 2)
        .await;
}

/// What somebody does to a database that is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_later_is_found_and_mended() {
    let db = TestDatabase::postgres().await;
    let role = db.create_role("engine").await;
    let name = &role.name;
    db.execute(&format!(
        "CREATE SCHEMA own AUTHORIZATION {name}; ALTER ROLE {name} SET search_path = own, public; \
         GRANT USAGE ON SCHEMA public TO {name}; {NOTES}; GRANT ALL ON notes TO {name}"
    ))
    .await;
    let config = config(&role.url, &[("notes", "notes")]).await;
    let mut serving = config.clone();
    serving.retention.interval_ms = 200;
    let server = TestServer::with_config(serving.clone()).await;
    server.engine().ready().await;
    testkit::eventually("a checkpoint", async || {
        let made = db
            .query_text("SELECT id::text FROM own._rhtmx_sync_checkpoint")
            .await;
        (!made.is_empty()).then_some(())
    })
    .await;
    server.shutdown().await;
    let trigger = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'notes'::regclass LIMIT 1";
    let trigger = db.query_text(trigger).await.remove(0).expect("a trigger");
    let function = "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE '\\_rhtmx\\_sync\\_capture%' LIMIT 1";
    let function = db.query_text(function).await.remove(0).expect("a function");
    let error = |check| (check, Level::Error);
    let cases = [
        (
            format!("ALTER TABLE notes DISABLE TRIGGER \"{trigger}\""),
            error(Check::Triggers),
        ),
        (
            format!("ALTER TABLE notes ENABLE REPLICA TRIGGER \"{trigger}\""),
            error(Check::Triggers),
        ),
        (
            format!("REVOKE TRIGGER ON notes FROM {name}"),
            error(Check::Rights),
        ),
        (
            format!("REVOKE SELECT ON notes FROM {name}"),
            error(Check::Rights),
        ),
        (
            format!(
                "REVOKE USAGE ON SCHEMA public FROM {name}, PUBLIC; ALTER ROLE {name} SET search_path = own, public"
            ),
            error(Check::Rights),
        ),
        (
            format!("REVOKE INSERT, DELETE ON notes FROM {name}"),
            (Check::Rights, Level::Warning),
        ),
        (
            "ALTER TABLE own._rhtmx_sync_log SET (autovacuum_enabled = off)".to_owned(),
            error(Check::Log),
        ),
        (
            format!("ALTER FUNCTION {function} OWNER TO CURRENT_USER"),
            error(Check::Schema),
        ),
        (
            format!("REVOKE CREATE ON SCHEMA own FROM {name}"),
            error(Check::Schema),
        ),
        (
            format!("ALTER ROLE {name} CONNECTION LIMIT 9"),
            error(Check::Connections),
        ),
        (
            format!(
                "ALTER DATABASE {} CONNECTION LIMIT 9",
                db.query_text("SELECT current_database()")
                    .await
                    .remove(0)
                    .expect("a name")
            ),
            error(Check::Connections),
        ),
        (
            format!("ALTER ROLE {name} SET default_transaction_read_only = on"),
            error(Check::Primary),
        ),
    ];
    for (broken_by, expected) in cases {
        // The table's name is not on the search path when its schema cannot be used.
        let config = if broken_by.starts_with("REVOKE USAGE") {
            self::config(&role.url, &[("notes", "public.notes")]).await
        } else {
            config.clone()
        };
        is_found_and_mended(&db, &config, &broken_by, expected).await;
    }

    // What no statement mends, the start of a server does.
    for broken_by in [
        format!("DROP TRIGGER \"{trigger}\" ON notes"),
        "UPDATE own._rhtmx_sync_checkpoint SET made_at = made_at - interval '1 day'".to_owned(),
    ] {
        db.execute(&broken_by).await;
        let found = wrong(&config).await;
        let [finding] = found.as_slice() else {
            panic!("{broken_by}: {found:?}");
        };
        assert!(
            matches!(finding.remedy, Some(Remedy::Advice(_))),
            "{found:?}"
        );
        let server = TestServer::with_config(serving.clone()).await;
        testkit::eventually("it is mended", async || {
            wrong(&config).await.is_empty().then_some(())
        })
        .await;
        server.shutdown().await;
    }
    SyncEngine::uncapture(&config.db_pool, None)
        .await
        .expect("removed");
    assert_eq!(
        kinds(&wrong(&config).await),
        [(Check::Triggers, Level::Warning)]
    );
}

/// Only what the listener needs is missing behind a pooler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_is_recognised_and_the_listener_needs_an_address() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let pooler = match Pooler::start(
        &db.url(),
        &["pool_mode = transaction", "default_pool_size = 3"],
    )
    .await
    {
        Ok(pooler) => pooler,
        Err(why) => {
            println!("NOT TESTED, no pooler: {why}");
            return;
        }
    };
    let mut config = config(pooler.url(), &[("notes", "notes")]).await;
    let found = wrong(&config).await;
    assert_eq!(
        kinds(&found),
        [(Check::Listen, Level::Warning)],
        "{found:?}"
    );
    config.database.listen_url = Some(db.url());
    assert_eq!(wrong(&config).await, []);
    let found = SyncEngine::examine(&config).await.expect("an examination");
    assert!(
        found
            .iter()
            .any(|finding| finding.text.contains("pooler in transaction mode"))
    );
}

/// Nothing stays of what is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_examination_changes_nothing() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let objects = "SELECT string_agg(o, ',' ORDER BY o) FROM (SELECT oid::text || relname AS o FROM pg_class \
        UNION ALL SELECT oid::text || proname FROM pg_proc UNION ALL SELECT oid::text || tgname FROM pg_trigger) a";
    let before = db.query_text(objects).await;
    let config = config(&db.url(), &[("notes", "notes")]).await;
    let found = SyncEngine::examine(&config).await.expect("an examination");
    assert!(
        found[0].text.starts_with("PostgreSQL; the 6 things"),
        "{found:?}"
    );
    assert_eq!(db.query_text(objects).await, before);
}

/// An entity without policies is closed; one with policies may have its table's row-level security bypassed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_stand_in_for_row_level_security() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!(
        "{NOTES}; ALTER TABLE notes ENABLE ROW LEVEL SECURITY"
    ))
    .await;
    let mut config = config(&db.url(), &[("notes", "notes")]).await;
    assert_eq!(
        kinds(&wrong(&config).await),
        [(Check::RowSecurity, Level::Warning)]
    );
    let read = |read: &str| EntityPolicy {
        read: Some(read.to_owned()),
        ..EntityPolicy::default()
    };
    let policies = Policies::new([("notes".to_owned(), read("body = auth.sub"))]);
    config.auth.authorizer = Arc::new(policies.expect("policies"));
    assert_eq!(wrong(&config).await, []);
    config.auth.authorizer = Arc::new(Policies::default());
    let found = wrong(&config).await;
    assert!(
        found.iter().any(|finding| finding.check == Check::Policies),
        "{found:?}"
    );
}

async fn doctor(args: &[&str], url: &str) -> Exited {
    let args = [&["doctor"], args].concat();
    let ended = ServerProcess::try_spawn(args, [("DATABASE_URL", url)]).await;
    ended.expect_err("the command ends")
}

/// Scripts read the status, or the JSON.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctors_status_is_for_scripts() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; CREATE TABLE nokey (a int)"))
        .await;
    let fine = doctor(&["--entity", "notes"], &db.url()).await;
    assert_eq!(fine.status.code(), Some(0), "{}", fine.output);
    let broken = doctor(&["--entity", "nokey", "--json"], &db.url()).await;
    assert_eq!(broken.status.code(), Some(1), "{}", broken.output);
    let json: Value = serde_json::from_str(&broken.output).expect("JSON and nothing else");
    let errors: Vec<&Value> = json["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter(|finding| finding["level"] == "error")
        .collect();
    assert_eq!(
        (errors.len(), &errors[0]["check"], &errors[0]["entity"]),
        (1, &Value::from("table"), &Value::from("nokey"))
    );
    let run = errors[0]["remedy"]["sql"]["run"]
        .as_str()
        .expect("a statement");
    db.execute(run).await;
    assert_eq!(
        doctor(&["--entity", "nokey"], &db.url())
            .await
            .status
            .code(),
        Some(0)
    );
    for (args, url) in [
        (
            vec!["--entity", "notes"],
            "postgresql://u:hunter2@127.0.0.1:1/db".to_owned(),
        ),
        (
            vec!["--entity", "notes"],
            db.url().replace("postgres:", "postgres:hunter2"),
        ),
        (vec!["--entity", ""], db.url()),
    ] {
        let ended = doctor(&args, &url).await;
        assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
        assert!(!ended.output.contains("hunter2"), "{}", ended.output);
    }
}
