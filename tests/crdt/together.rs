//! Databases that come together, and a pool that somebody else uses, too.

use merge::{ChangesetFilter, Rules};
use rhtmx_sync::crdt::{Crdt, CrdtError, Query, Schema};
use rhtmx_sync::{EntityConfig, Replication, SyncConfig, SyncEngine};
use serde_json::json;
use testkit::{Backend, TestDatabase, both_backends};

use super::{TABLES, keys, open, pool, todo, values};

/// Brings all that one has to the other, as pages of text.
async fn bring(from: &Crdt, to: &Crdt) {
    let mut pages = from
        .changeset(ChangesetFilter::default(), None)
        .await
        .expect("a changeset");
    while let Some(page) = pages.next().await.expect("a page") {
        let text = page.to_value(from.replica().names()).to_string();
        let page = to.replica().read(&text).expect("a page");
        to.merge(page).await.expect("merged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_a_server_come_together() {
    let (file, server) = (
        TestDatabase::new(Backend::Sqlite).await,
        TestDatabase::new(Backend::Postgres).await,
    );
    let (laptop, office) = (open(&file).await, open(&server).await);
    assert_ne!(laptop.node_id(), office.node_id());
    laptop
        .insert("todos", todo("a", "milk"))
        .await
        .expect("inserted");
    bring(&laptop, &office).await;
    laptop
        .update("todos", "a", json!({"title": "oat milk"}))
        .await
        .expect("updated");
    let done = office
        .update("todos", "a", json!({"done": true}))
        .await
        .expect("updated");
    office
        .insert("todos", todo("b", "bread"))
        .await
        .expect("inserted");
    office.delete("todos", "b").await.expect("deleted");
    bring(&laptop, &office).await;
    bring(&office, &laptop).await;
    for crdt in [&laptop, &office] {
        let row = values(crdt.get("todos", "a").await.expect("read"));
        assert_eq!(
            (&row["title"], &row["done"]),
            (&json!("oat milk"), &json!(true))
        );
        let deleted = crdt.query_deleted(Query::new("todos")).await.expect("read");
        assert_eq!(
            (&*deleted[0].key, &deleted[0].node),
            ("b", office.node_id())
        );
    }
    let one = async |crdt: &Crdt| {
        let only_office = ChangesetFilter {
            only_node: Some(office.node_id().clone()),
            ..ChangesetFilter::default()
        };
        crdt.last_modified(&only_office).await.expect("a clock")
    };
    let newest = one(&laptop).await.expect("a clock");
    assert_eq!(Some(&newest), one(&office).await.as_ref());
    assert!(newest > done);
    let except = ChangesetFilter {
        except_node: Some(office.node_id().clone()),
        only_tables: Some(["lists".to_owned()].into()),
        ..ChangesetFilter::default()
    };
    assert_eq!(laptop.last_modified(&except).await.expect("none"), None);
    let both = Replication::new(laptop.replica(), office.replica()).expect("two databases");
    assert!(both.is_equal().await.expect("equal"));
}

both_backends! {
    async fn a_pool_is_shared_with_an_engine(db: TestDatabase) {
        db.execute(TABLES).await;
        db.execute("CREATE TABLE users (id TEXT PRIMARY KEY)").await;
        let pool = pool(&db).await;
        let todos = EntityConfig::new("todos").fields(Rules::default());
        let config = SyncConfig::new(pool.clone(), vec![todos.clone(), EntityConfig::new("users")]);
        let engine = SyncEngine::new(config).await.expect("an engine");
        let over = Crdt::over(&engine).await.expect("it opens");
        let schema = Schema::new(1).entity(todos);
        let beside = Crdt::open(pool, schema).await.expect("it opens");
        assert_eq!(over.node_id(), beside.node_id());
        let mut changes = engine.change_tracker().subscribe();
        beside.insert("todos", todo("a", "milk")).await.expect("inserted");
        over.update("todos", "a", json!({"done": true})).await.expect("updated");
        assert_eq!(values(beside.get("todos", "a").await.expect("read"))["done"], true);
        // The engine's clients hear of it.
        let heard = changes.recv().await.expect("a batch");
        assert_eq!(heard.changes[0].entity, "todos");
        let tracked = engine.field_tracker();
        let fields = tracked.latest_fields("todos", "a").await.expect("read").expect("a row");
        assert!(fields.iter().all(|field| field.clock.is_of(over.node_id())), "{fields:?}");
        // Rows that are replaced whole can be read, and that is all.
        assert!(keys(&over, "users").await.is_empty());
        let refused = over.insert("users", json!({"id": "u"})).await;
        assert!(matches!(refused, Err(CrdtError::NotFields(_))), "{refused:?}");
        // The engine goes on when what was over it is closed.
        over.close().await;
        drop((over, beside));
        db.execute("UPDATE todos SET title = 'tea'").await;
        loop {
            let heard = changes.recv().await.expect("a batch");
            let is_tea = |row: &serde_json::Value| row["title"] == "tea";
            let rows = heard.changes.iter().filter_map(|one| serde_json::to_value(&one.change).ok());
            if rows.into_iter().any(|change| is_tea(&change["row"])) {
                break;
            }
        }
        engine.shutdown().await;
    }
}
