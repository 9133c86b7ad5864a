//! Reads at the snapshots of drains, while a writer commits without a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rhtmx_sync_db::read::{ChangesQuery, RowsQuery};
use sync_core::shape::Shape;
use testkit::both_backends;

use crate::listening::Listening;

both_backends! {
    async fn a_read_that_waits_for_a_drain_ends_where_it_ends(db: TestDatabase) {
        db.execute("CREATE TABLE m (id INTEGER PRIMARY KEY, x INTEGER); INSERT INTO m VALUES (1, 1)").await;
        let db = Arc::new(db);
        let mut listening = Listening::start(&db, &["m"], &["m"]).await;
        listening.ask(|_| Vec::new()).await;
        let done = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (db, done) = (db.clone(), done.clone());
            async move {
                while !done.load(Ordering::Relaxed) {
                    db.execute("UPDATE m SET x = x + 1").await;
                }
            }
        });
        let mut from = listening.cursor.position.clone();
        for _ in 0..10 {
            let at_drain = Some(listening.drain_snapshots.clone());
            let mut changes = listening.db.read_changes(listening.entities.all(), ChangesQuery {
                from,
                old_value_columns: BTreeMap::new(),
                metadata: BTreeSet::new(),
                checked: true,
                entries_max: None,
                entities: None,
                inquiry: None,
                at_drain: at_drain.clone(),
            });
            from = changes.start().await.expect("a start").position;
            while changes.next().await.expect("changes").is_some() {}
            let query = RowsQuery { at_drain, ..RowsQuery::all(Shape::whole("m"), listening.entities.all()) };
            let mut rows = listening.db.read_rows(listening.entity("m"), query);
            let position = rows.start().await.expect("a start").position;
            while rows.next().await.expect("rows").is_some() {}
            assert!(listening.drained_to(&from).await, "{from}");
            assert!(position == from || listening.drained_to(&position).await, "{position}");
            from = position;
        }
        done.store(true, Ordering::Relaxed);
        writer.await.expect("the writer");
    }
}
