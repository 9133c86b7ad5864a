//! What a program can make grow has an end.

use rhtmx_sync::crdt::{
    CrdtError, Query, RESULT_ROWS_MAX, RowWrite, TRANSACTION_WRITES_MAX, WATCHES_MAX,
};
use testkit::{Backend, both_backends};

use super::{keys, open, todo};

both_backends! {
    async fn a_result_that_is_too_large_is_told(db: TestDatabase) {
        let crdt = open(&db).await;
        let numbers = match db.backend() {
            Backend::Postgres => format!("generate_series(1, {}) n(n)", RESULT_ROWS_MAX + 1),
            Backend::Sqlite => format!(
                "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n <= {RESULT_ROWS_MAX}) SELECT n FROM n)"
            ),
        };
        db.execute(&format!("INSERT INTO todos (id, title) SELECT 'k' || n, 'x' FROM {numbers}")).await;
        let all = Query::new("todos");
        let refused = crdt.query(&all).await;
        assert!(matches!(refused, Err(CrdtError::ResultTooLarge)), "{:?}", refused.map(|rows| rows.len()));
        let mut parts = (0, String::new());
        loop {
            let part = crdt.query(&all.clone().after_key(parts.1.clone()).limit(4_000)).await.expect("a part");
            let Some(last) = part.last() else {
                break;
            };
            parts = (parts.0 + part.len(), last.key.clone());
        }
        assert_eq!(parts.0, RESULT_ROWS_MAX + 1);
        db.execute("DELETE FROM todos").await;
        let refused = crdt.query_deleted(all.clone()).await;
        assert!(matches!(refused, Err(CrdtError::ResultTooLarge)), "{:?}", refused.map(|rows| rows.len()));
        assert_eq!(crdt.query_deleted(all.limit(700)).await.expect("a part").len(), 700);
    }

    async fn so_many_queries_are_watched_at_once(db: TestDatabase) {
        let crdt = open(&db).await;
        let watch = || crdt.watch(Query::new("todos"));
        let mut watches: Vec<_> = (0..WATCHES_MAX).map(|_| watch().expect("a watch")).collect();
        assert!(matches!(watch(), Err(CrdtError::TooManyWatches)));
        watches.pop();
        watch().expect("there is room again");
    }

    async fn a_batch_has_so_many_writes(db: TestDatabase) {
        let crdt = open(&db).await;
        let write = RowWrite::put("todos", todo("a", "milk"));
        let refused = crdt.batch(vec![write; TRANSACTION_WRITES_MAX + 1]).await;
        assert!(matches!(refused, Err(CrdtError::TooManyWrites)), "{refused:?}");
        assert!(keys(&crdt, "todos").await.is_empty());
    }
}
