//! A watched query is live, no matter which program writes.

use std::time::Duration;

use rhtmx_sync::crdt::{CrdtError, Query, Row, Watch};
use serde_json::json;
use testkit::both_backends;
use tokio::time::timeout;

use super::{open, todo};

/// The titles of the next result. The time is only there to notice a hang.
async fn titles(watch: &mut Watch) -> Vec<String> {
    let next = timeout(Duration::from_secs(20), watch.next()).await;
    let rows: Vec<Row> = next
        .expect("a result in time")
        .expect("no end")
        .expect("rows");
    let title = |row: Row| row.values["title"].as_str().unwrap_or_default().to_owned();
    rows.into_iter().map(title).collect()
}

both_backends! {
    async fn a_watch_sees_what_others_commit(db: TestDatabase) {
        let crdt = open(&db).await;
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        let mut watch = crdt.watch(Query::new("todos").filter("done = $1", [false])).expect("a watch");
        assert_eq!(titles(&mut watch).await, ["milk"]);
        // By this handle, behind its back, and by another one.
        crdt.insert("todos", todo("b", "bread")).await.expect("inserted");
        assert_eq!(titles(&mut watch).await, ["milk", "bread"]);
        db.execute("UPDATE todos SET title = 'tea' WHERE id = 'a'").await;
        assert_eq!(titles(&mut watch).await, ["tea", "bread"]);
        let other = open(&db).await;
        other.update("todos", "b", json!({"done": true})).await.expect("updated");
        assert_eq!(titles(&mut watch).await, ["tea"]);
        db.execute("DELETE FROM todos WHERE id = 'a'").await;
        assert!(titles(&mut watch).await.is_empty());
    }

    async fn a_watch_tells_no_result_twice(db: TestDatabase) {
        let crdt = open(&db).await;
        let mut watch = crdt.watch(Query::new("todos").filter("done = $1", [true])).expect("a watch");
        assert!(titles(&mut watch).await.is_empty());
        // These change nothing of it.
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        crdt.insert("lists", json!({"id": "l", "name": "food"})).await.expect("inserted");
        let done = json!({"id": "b", "title": "bread", "done": true});
        crdt.insert("todos", done).await.expect("inserted");
        assert_eq!(titles(&mut watch).await, ["bread"]);
    }

    async fn a_watch_follows_the_tables_of_its_subqueries(db: TestDatabase) {
        let crdt = open(&db).await;
        let mut all = crdt.watch(Query::new("todos")).expect("a watch");
        assert!(titles(&mut all).await.is_empty());
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        // Once this one has heard of the row, nothing else is still to come of its table.
        assert_eq!(titles(&mut all).await, ["milk"]);
        let named = Query::new("todos").filter("title IN (SELECT name FROM lists)", [0; 0]);
        let mut watch = crdt.watch(named).expect("a watch");
        assert!(titles(&mut watch).await.is_empty());
        crdt.insert("lists", json!({"id": "l", "name": "milk"})).await.expect("inserted");
        assert_eq!(titles(&mut watch).await, ["milk"]);
    }

    async fn a_watch_follows_its_table_to_another_form(db: TestDatabase) {
        let crdt = open(&db).await;
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        let mut watch = crdt.watch(Query::new("todos")).expect("a watch");
        assert_eq!(titles(&mut watch).await, ["milk"]);
        db.execute("ALTER TABLE todos ADD COLUMN note TEXT DEFAULT 'x'").await;
        let next = timeout(Duration::from_secs(20), async {
            loop {
                // An error in between says that the table has just changed.
                let next = watch.next().await.expect("no end");
                if let Ok(rows) = next {
                    return rows;
                }
            }
        });
        assert_eq!(next.await.expect("in time")[0].values["note"], "x");
    }

    async fn a_watch_ends_when_the_database_is_closed(db: TestDatabase) {
        let crdt = open(&db).await;
        let mut watch = crdt.watch(Query::new("todos")).expect("a watch");
        assert!(titles(&mut watch).await.is_empty());
        crdt.close().await;
        assert!(watch.next().await.is_none());
        let refused = crdt.query(&Query::new("todos")).await;
        assert!(matches!(refused, Err(CrdtError::Closed)), "{refused:?}");
        let refused = crdt.insert("todos", todo("a", "milk")).await;
        assert!(matches!(refused, Err(CrdtError::Closed)), "{refused:?}");
        assert!(matches!(crdt.watch(Query::new("todos")), Err(CrdtError::Closed)));
    }
}
