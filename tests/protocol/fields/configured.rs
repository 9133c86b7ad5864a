//! How all entities of a configuration merge.

use rhtmx_sync::{ClockPolicy, Deletes, EntityConfig, FieldMergeStrategy, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{TestDatabase, both_backends};

use super::{connect, rules, stamped, task};
use crate::writes::update;

async fn config(db: &TestDatabase) -> SyncConfig {
    db.execute("CREATE TABLE tasks (id integer PRIMARY KEY, title text, likes integer DEFAULT 0, tags json)").await;
    db.execute("CREATE TABLE notes (id integer PRIMARY KEY, title text)")
        .await;
    db.execute("CREATE TABLE members (id integer PRIMARY KEY, who text)")
        .await;
    db.execute("INSERT INTO tasks (id, title) VALUES (1, 'a')")
        .await;
    let entities = [
        EntityConfig::new("tasks").fields(rules(Deletes::Win)),
        EntityConfig::new("notes"),
        EntityConfig::new("members").internal(),
        EntityConfig::without_table("presence"),
    ];
    TestServer::config(db, entities).await
}

both_backends! {
    async fn with_field_sync_all_entities_merge_that_have_fields(db: TestDatabase) {
        let config = config(&db).await.with_field_sync(FieldMergeStrategy::KeepBoth);
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        let mut strategies = Vec::new();
        for entity in ["tasks", "notes"] {
            client.subscribe_with(entity, json!({ "entity": entity, "mode": "fields" })).await;
            let frame = client.wait_for(|frame| frame["type"] == "subscribed").await;
            strategies.push(frame["rules"]["strategy"].clone());
        }
        // Rules of its own count for all of the entity.
        assert_eq!(strategies, [json!("last_write_wins"), json!("keep_both")]);
        client.subscribe_with("p", json!({ "entity": "presence", "mode": "fields" })).await;
        let refused = client.wait_for(|frame| frame["type"] == "error").await;
        assert_eq!(refused["id"], "p");
        client.subscribe("rows", "presence").await;
        client.wait_subscribed("rows").await;
        db.execute("INSERT INTO members VALUES (1, 'ann')").await;
        db.execute("UPDATE members SET who = 'ben'").await;
        let kept = db.query_text("SELECT entity FROM _rhtmx_sync_field").await;
        assert_eq!(kept, Vec::<Option<String>>::new());
    }

    async fn a_clock_far_ahead_is_refused_where_the_server_is_configured_so(db: TestDatabase) {
        let mut config = config(&db).await;
        config.clock = ClockPolicy::Reject;
        let server = TestServer::with_config(config).await;
        let mut client = connect(&server, 1).await;
        let write = |title: &str, hlc: &str| {
            let mut write = stamped(update("tasks", 1, json!({ "title": title })), 1, 1);
            write["hlc"] = Value::from(format!("{hlc}-0000-00000001"));
            json!([write])
        };
        let ahead = write("ahead", "2999-01-01T00:00:00.000Z");
        let refused = client.push_next(ahead).await;
        let reject = refused.rejected();
        assert_eq!(reject.code, "clock");
        let status = server.http().get("/api/sync/status").await.json();
        assert_eq!(status["fields"]["clocks_rejected"], 1);
        assert_eq!(task(&db, "title").await.as_deref(), Some("a"));
        client.push_next(write("now", "2026-01-01T00:00:00.000Z")).await.acked();
        assert_eq!(task(&db, "title").await.as_deref(), Some("now"));
    }

    async fn what_became_of_writes_is_counted(db: TestDatabase) {
        let server = TestServer::with_config(config(&db).await).await;
        let (mut ann, mut ben) = (connect(&server, 1).await, connect(&server, 2).await);
        let edit = |title: &str| update("tasks", 1, json!({ "title": title }));
        ann.push_next(json!([stamped(edit("later"), 1, 9)])).await.acked();
        ben.push_next(json!([stamped(edit("earlier"), 2, 5)])).await.acked();
        let mut ahead = edit("ahead");
        ahead["hlc"] = "2999-01-01T00:00:00.000Z-0000-00000002".into();
        // Of what it replaces its author had seen nothing, so that is a conflict, too.
        ben.push_next(json!([ahead])).await.acked();
        let status = server.http().get("/api/sync/status").await.json();
        let counts = json!({ "writes": 3, "conflicts": 2, "clocks_clamped": 1, "clocks_rejected": 0 });
        assert_eq!(status["fields"], counts);
    }

    async fn an_entity_that_has_no_fields_cannot_have_rules_for_them(db: TestDatabase) {
        let presence = EntityConfig::without_table("presence").fields(rules(Deletes::Win));
        let config = TestServer::config(&db, [presence]).await;
        let error = TestServer::try_with_config(config).await.expect_err("it has no table").to_string();
        assert!(error.contains("presence") && error.contains("no table"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_row_level_security_decides_about_do_not_merge() {
    let db = TestDatabase::postgres().await;
    let role = db.create_role("reader").await.name;
    db.execute(&format!(
        "CREATE TABLE notes (id int PRIMARY KEY, title text); GRANT SELECT ON notes TO {role}; \
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY"
    ))
    .await;
    let notes = || EntityConfig::new("notes").rls();
    let ruled = TestServer::config(&db, [notes().fields(rules(Deletes::Win))]).await;
    let error = TestServer::try_with_config(ruled).await;
    let error = error.expect_err("one of the two").to_string();
    assert!(
        error.contains("notes") && error.contains("replaced whole"),
        "{error}"
    );
    let config = TestServer::config(&db, [notes()]).await;
    let config = config.with_field_sync(FieldMergeStrategy::LastWriteWins);
    let server = TestServer::with_config(config).await;
    db.execute("INSERT INTO notes VALUES (1, 'a'); UPDATE notes SET title = 'b'")
        .await;
    let kept = db.query_text("SELECT entity FROM _rhtmx_sync_field").await;
    assert!(kept.is_empty());
    server.shutdown().await;
}
