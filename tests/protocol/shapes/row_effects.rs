//! Rows that enter a selection, leave it, or never match it.

use serde_json::{Value, json};
use testkit::both_backends;

use super::subscribers::{
    changes_after, ops_after, ops_of, serve, subscribe, subscriber, wait_equal,
};
use super::todos::{ALL, todos};

both_backends! {
    async fn a_row_that_enters_is_sent_whole(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 3").await;
        let row = json!({ "id": 3, "list_id": 1, "owner": "ann", "title": "three", "done": false });
        let put = json!({ "op": "put", "key": "3", "row": row });
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0]["changes"], json!([put]));
        assert_eq!(
            (frames[0]["shape"].as_str(), frames[0].get("id")),
            (client.subscription("a").shape(), None)
        );
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    async fn a_row_that_leaves_is_sent_by_its_key(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 1").await;
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0]["changes"], json!([{ "op": "leave", "key": "1" }]));
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    async fn changes_of_a_matching_row_are_sent(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        let sql = "UPDATE todos SET title = 'new' WHERE id = 1";
        assert_eq!(ops_after(&mut client, &db, sql).await, ["put 1"]);
        assert_eq!(client.row("a", "1").expect("a row")["title"], "new");
        let sql = "INSERT INTO todos VALUES (5, 1, NULL, 'five', true)";
        assert_eq!(ops_after(&mut client, &db, sql).await, ["put 5"]);
        let sql = "DELETE FROM todos WHERE id = 1";
        assert_eq!(ops_after(&mut client, &db, sql).await, ["delete 1"]);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    async fn a_row_that_never_matches_sends_nothing(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        for sql in [
            "UPDATE todos SET title = 'new' WHERE id = 3",
            "UPDATE todos SET list_id = 3 WHERE id = 3",
            "UPDATE todos SET list_id = NULL WHERE id = 3",
            "UPDATE todos SET list_id = 5 WHERE id = 3",
            "DELETE FROM todos WHERE id = 3",
            "INSERT INTO todos VALUES (3, 2, 'ann', 'again', false)",
            "DELETE FROM todos WHERE list_id IS NULL",
        ] {
            let frames = changes_after(&mut client, &db, sql).await;
            assert_eq!(frames, [] as [Value; 0], "{sql}");
        }
        // Nor was there a frame without changes.
        assert_eq!(client.frames("changes"), 0);
    }

    /// An unknown result does not match, and neither does its negation.
    async fn null_does_not_match(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        subscribe(&mut client, "b", json!({ "where": "NOT (list_id = 1)" })).await;
        subscribe(&mut client, "c", json!({ "where": "list_id IS NULL" })).await;
        subscribe(&mut client, "d", json!({ "where": "list_id IS NULL OR list_id <> 1" })).await;
        for (sql, a, b, c, d) in [
            ("UPDATE todos SET list_id = NULL WHERE id = 1", "leave 1", "", "put 1", "put 1"),
            ("UPDATE todos SET list_id = 2 WHERE id = 1", "", "put 1", "leave 1", "put 1"),
            ("UPDATE todos SET list_id = NULL WHERE id = 1", "", "leave 1", "put 1", "put 1"),
            ("UPDATE todos SET list_id = 1 WHERE id = 1", "put 1", "", "leave 1", "leave 1"),
        ] {
            let frames = changes_after(&mut client, &db, sql).await;
            for (id, expected) in [("a", a), ("b", b), ("c", c), ("d", d)] {
                assert_eq!(ops_of(&client, id, &frames).concat(), expected, "{id}: {sql}");
            }
        }
    }

    async fn one_row_may_match_several_selections_of_a_client(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        subscribe(&mut client, "done", json!({ "where": "done", "columns": ["title"] })).await;
        subscribe(&mut client, "mine", json!({ "where": "owner = $1", "params": ["ann"] })).await;
        subscribe(&mut client, "titles", json!({ "columns": ["title"] })).await;
        subscribe(&mut client, "all", json!({})).await;
        for (sql, expected) in [
            (
                "UPDATE todos SET done = true WHERE id = 1",
                ["put 1", "put 1", "put 1", "", "put 1"],
            ),
            (
                "UPDATE todos SET list_id = 2, title = 'moved' WHERE id = 1",
                ["leave 1", "put 1", "put 1", "put 1", "put 1"],
            ),
            (
                "UPDATE todos SET owner = 'bob' WHERE id = 1",
                ["", "", "leave 1", "", "put 1"],
            ),
            (
                "UPDATE todos SET list_id = 1, done = false WHERE id = 1",
                ["put 1", "leave 1", "", "", "put 1"],
            ),
            (
                "DELETE FROM todos WHERE id = 1",
                ["delete 1", "", "", "delete 1", "delete 1"],
            ),
        ] {
            let frames = changes_after(&mut client, &db, sql).await;
            let ids = ["a", "done", "mine", "titles", "all"];
            let found = ids.map(|id| ops_of(&client, id, &frames).concat());
            assert_eq!(found, expected, "{sql}");
        }
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        assert_eq!(*client.rows("done"), todos(&db, &["id", "title"], "done").await);
        assert_eq!(*client.rows("mine"), todos(&db, &ALL, "owner = 'ann'").await);
        assert_eq!(*client.rows("titles"), todos(&db, &["id", "title"], "TRUE").await);
        assert_eq!(*client.rows("all"), todos(&db, &ALL, "TRUE").await);
    }

    async fn a_selection_continues_without_another(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        subscribe(&mut client, "b", json!({ "where": "list_id = 2" })).await;
        client.unsubscribe("a").await;
        let sql = "UPDATE todos SET list_id = list_id + 1";
        assert_eq!(ops_after(&mut client, &db, sql).await, ["put 1", "put 2", "leave 3"]);
        assert_eq!(*client.rows("b"), todos(&db, &ALL, "list_id = 2").await);
        // A new subscription has the rows as the table is by now.
        subscribe(&mut client, "c", json!({ "where": "list_id = 1" })).await;
        assert_eq!(client.rows("c").len(), 0);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 1 WHERE id = 2").await;
        assert_eq!(ops_of(&client, "b", &frames), ["leave 2"]);
        assert_eq!(ops_of(&client, "c", &frames), ["put 2"]);
    }

    /// Subscribes and unsubscribes while rows enter and leave: each copy is right in the end.
    async fn selections_may_come_and_go_during_writes(db: TestDatabase) {
        const ROUNDS: u64 = 60;
        let server = serve(&db).await;
        let mut steady = subscriber(&server, "list_id = 1").await;
        let mut client = subscriber(&server, "list_id = 1 AND NOT done").await;
        let writing = async {
            for round in 0..ROUNDS {
                db.execute(&format!(
                    "UPDATE todos SET list_id = {round} % 3, done = NOT done; \
                     UPDATE todos SET list_id = 1 WHERE id = 1 + {round} % 4; \
                     INSERT INTO todos VALUES (100 + {round}, {round} % 3, NULL, 'new', false); \
                     DELETE FROM todos WHERE id = 95 + {round}"
                ))
                .await;
            }
        };
        let coming_and_going = async {
            for round in 0..ROUNDS {
                let condition = format!("list_id = {} OR owner = 'ann'", round % 4);
                let selection = json!({ "entity": "todos", "where": condition });
                client.subscribe_with(round, selection).await;
                if round % 3 == 0 {
                    client.wait_subscribed(round).await;
                }
                if round >= 4 {
                    client.unsubscribe(round - 4).await;
                }
            }
        };
        tokio::join!(writing, coming_and_going);
        for round in ROUNDS - 4..ROUNDS {
            client.wait_subscribed(round).await;
            let condition = format!("list_id = {} OR owner = 'ann'", round % 4);
            let expected = todos(&db, &ALL, &condition).await;
            client
                .wait_until(|client| *client.rows(round) == expected)
                .await;
        }
        let expected = todos(&db, &ALL, "list_id = 1 AND NOT done").await;
        client.wait_until(|client| *client.rows("a") == expected).await;
        wait_equal(&mut steady, &db, "a", "list_id = 1").await;
        assert_eq!(steady.frames("refetch"), 0);
    }
}
