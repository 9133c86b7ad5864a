//! Rows whose key changes: in a shape one row is deleted and another is put.

use serde_json::json;
use testkit::both_backends;

use super::subscribers::{changes_after, ops_of, pending_changes, serve, subscribe, subscriber};
use super::todos::{ALL, todos};

/// Sorted, as the order of two rows within one batch has no meaning.
fn sorted(mut ops: Vec<String>) -> Vec<String> {
    ops.sort();
    ops
}

both_backends! {
    async fn a_changed_key_is_a_delete_and_a_put(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        for (sql, expected) in [
            ("UPDATE todos SET id = 21 WHERE id = 1", vec!["delete 1", "put 21"]),
            ("UPDATE todos SET id = 31, list_id = 2 WHERE id = 21", vec!["delete 21"]),
            ("UPDATE todos SET id = 41 WHERE id = 31", vec![]),
            ("UPDATE todos SET id = 51, list_id = 1 WHERE id = 41", vec!["put 51"]),
            ("UPDATE todos SET id = id + 100", vec!["delete 2", "delete 51", "put 102", "put 151"]),
        ] {
            let frames = changes_after(&mut client, &db, sql).await;
            assert_eq!(sorted(ops_of(&client, "a", &frames)), expected, "{sql}");
        }
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    async fn a_changed_key_may_enter_and_leave_a_filter_on_the_key(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "id < 100").await;
        subscribe(&mut client, "b", json!({ "where": "id IN (3, 103)", "columns": ["title"] })).await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET id = 103 WHERE id = 3").await;
        assert_eq!(ops_of(&client, "a", &frames), ["delete 3"]);
        assert_eq!(sorted(ops_of(&client, "b", &frames)), ["delete 3", "put 103"]);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET id = 203 WHERE id = 103").await;
        assert_eq!(ops_of(&client, "a", &frames), [""; 0]);
        assert_eq!(ops_of(&client, "b", &frames), ["delete 103"]);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET id = 3 WHERE id = 203").await;
        assert_eq!(ops_of(&client, "a", &frames), ["put 3"]);
        assert_eq!(ops_of(&client, "b", &frames), ["put 3"]);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "id < 100").await);
    }

    /// Two rows swap their keys in one transaction, one of them matches.
    async fn swapped_keys_keep_the_copy_right(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        pending_changes(&mut client).await;
        let sql = "BEGIN; UPDATE todos SET id = 99 WHERE id = 1; \
                   UPDATE todos SET id = 1 WHERE id = 3; UPDATE todos SET id = 3 WHERE id = 99; COMMIT";
        let frames = changes_after(&mut client, &db, sql).await;
        let found = sorted(ops_of(&client, "a", &frames));
        assert_eq!(found, ["leave 1", "put 3"]);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }
}
