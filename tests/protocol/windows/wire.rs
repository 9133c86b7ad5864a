//! What a change of a window sends, and what it costs.

use serde_json::json;
use testkit::both_backends;

use super::{changes_until_note, connect, keys, questions, serve, settle, subscribe};

both_backends! {
    async fn a_row_enters_because_another_left_at_one_cursor(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO posts (id, at) VALUES (1, 10), (2, 20), (3, 30), (4, 40), (5, 50)").await;
        let mut client = connect(&server).await;
        subscribe(&mut client, "w", json!({ "order": [["at", "desc"]], "limit": 3 })).await;
        settle(&db, &mut client).await;
        assert_eq!(keys(&client, "w"), ["3", "4", "5"]);
        for (number, (statements, changes)) in [
            ("DELETE FROM posts WHERE id = 4", &["w delete 4", "w put 2"][..]),
            ("INSERT INTO posts (id, at) VALUES (6, 60)", &["w leave 2", "w put 6"]),
            ("UPDATE posts SET at = 5 WHERE id = 5", &["w leave 5", "w put 2"]),
            ("UPDATE posts SET at = 65 WHERE id = 3", &["w put 3"]),
            // A tie is broken by the key, in the direction of the last column.
            ("INSERT INTO posts (id, at) VALUES (7, 20)", &["w leave 2", "w put 7"]),
            ("UPDATE posts SET at = NULL WHERE id = 1", &["w leave 7", "w put 1"]),
            ("UPDATE posts SET title = 'seen' WHERE id = 1", &["w put 1"]),
            ("UPDATE posts SET id = 8 WHERE id = 1", &["w delete 1", "w put 8"]),
            ("DELETE FROM posts WHERE id IN (3, 6, 8)", &["w delete 3", "w delete 6", "w delete 8", "w put 2", "w put 5", "w put 7"]),
        ].into_iter().enumerate() {
            let note = number as u32 + 1;
            db.execute(&format!("BEGIN; {statements}; INSERT INTO notes VALUES ({note}, ''); COMMIT")).await;
            assert_eq!(changes_until_note(&mut client, note).await, changes, "{statements}");
        }
        assert_eq!(keys(&client, "w"), ["2", "5", "7"]);
        assert_eq!(client.frames("refetch"), 0);
    }

    async fn a_change_outside_costs_nothing_on_the_wire_and_no_question(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO posts (id, at, title, author) VALUES (1, 10, 'a', 'ann'), (2, 20, 'b', 'ben'), (3, 30, 'c', 'ann'), \
            (4, 40, 'd', 'ben'), (5, 50, 'e', 'ann'), (6, 60, 'f', 'ben'), (7, 70, 'g', 'ann')").await;
        let mut client = connect(&server).await;
        for (id, window) in [
            ("newest", json!({ "order": [["at", "desc"]], "limit": 2 })),
            ("ann", json!({ "where": "author = 'ann'", "order": [["at", "desc"]], "limit": 2 })),
            ("by title", json!({ "where": "at >= 10", "order": [["title", "desc"]], "limit": 2 })),
            ("second", json!({ "order": [["at", "desc"]], "limit": 2, "after": [60, 6] })),
        ] {
            subscribe(&mut client, id, window).await;
        }
        settle(&db, &mut client).await;
        let before = questions(&server).await;
        for (number, statements) in [
            "INSERT INTO posts (id, at, author) VALUES (20, 1, 'ben')",
            "UPDATE posts SET at = 2 WHERE id = 20",
            "UPDATE posts SET code = 'x' WHERE id < 3",
            "DELETE FROM posts WHERE id = 20",
            "INSERT INTO posts (id, at, author) VALUES (20, 1, 'ann'); DELETE FROM posts WHERE id = 20",
            "UPDATE posts SET at = 15 WHERE id = 1",
            "UPDATE posts SET at = 11 WHERE id = 2",
        ].into_iter().enumerate() {
            let note = number as u32 + 1;
            db.execute(&format!("BEGIN; {statements}; INSERT INTO notes VALUES ({note}, ''); COMMIT")).await;
            assert_eq!(changes_until_note(&mut client, note).await, [""; 0], "{statements}");
        }
        assert_eq!(questions(&server).await, before);
        // It can be counted.
        db.execute("BEGIN; DELETE FROM posts WHERE id = 7; INSERT INTO notes VALUES (100, ''); COMMIT").await;
        assert!(!changes_until_note(&mut client, 100).await.is_empty());
        assert!(questions(&server).await > before);
    }

    /// A change that concerns two windows of a table comes to both, and to no other.
    async fn two_windows_of_one_table_change_at_one_cursor(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO posts (id, at) VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)").await;
        let mut client = connect(&server).await;
        subscribe(&mut client, "first", json!({ "order": [["at", "asc"]], "limit": 2 })).await;
        subscribe(&mut client, "last", json!({ "order": [["at", "desc"]], "limit": 2 })).await;
        subscribe(&mut client, "next", json!({ "order": [["at", "asc"]], "limit": 2, "after": [2, 2] })).await;
        settle(&db, &mut client).await;
        for (note, (statement, changes)) in [
            ("UPDATE posts SET at = 9 WHERE id = 1", &["first leave 1", "first put 3", "last leave 4", "last put 1"][..]),
            ("DELETE FROM posts WHERE id = 3", &["first delete 3", "first put 4", "next delete 3", "next put 5"]),
        ].into_iter().enumerate() {
            let note = note as u32 + 1;
            db.execute(&format!("BEGIN; {statement}; INSERT INTO notes VALUES ({note}, ''); COMMIT")).await;
            let arrived = changes_until_note(&mut client, note).await;
            assert_eq!(arrived, changes, "{statement}");
        }
    }
}
