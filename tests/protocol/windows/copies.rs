//! At each cursor the copy of a window is what the database answers to `ORDER BY … LIMIT`.

use serde_json::{Value, json};
use testkit::{Backend, TestDatabase, both_backends};

use super::{connect, keys, mark, of_posts, serve, settle};

/// Windows, and what of a query is the same: the condition, and the order with the limit.
fn windows() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (
            json!({ "order": [["at", "desc"]], "limit": 3 }),
            "TRUE",
            "at DESC NULLS FIRST, id DESC LIMIT 3",
        ),
        (
            json!({ "order": [["at", "asc"]], "limit": 3 }),
            "TRUE",
            "at NULLS LAST, id LIMIT 3",
        ),
        (
            json!({ "order": [["title", "asc"]], "limit": 4 }),
            "TRUE",
            "title NULLS LAST, id LIMIT 4",
        ),
        (
            json!({ "order": [["title", "desc"], ["at", "asc"]], "limit": 3 }),
            "TRUE",
            "title DESC NULLS FIRST, at NULLS LAST, id LIMIT 3",
        ),
        (
            json!({ "order": [["code", "desc"]], "limit": 2 }),
            "TRUE",
            "code DESC NULLS FIRST, id DESC LIMIT 2",
        ),
        (
            json!({ "order": [["author", "asc"], ["at", "desc"], ["id", "asc"]], "limit": 5 }),
            "TRUE",
            "author, at DESC NULLS FIRST, id LIMIT 5",
        ),
        (json!({ "limit": 4 }), "TRUE", "id LIMIT 4"),
        (
            json!({ "order": [["id", "desc"]], "limit": 1 }),
            "TRUE",
            "id DESC LIMIT 1",
        ),
        (
            json!({ "limit": 1000, "order": [["at", "asc"]] }),
            "TRUE",
            "at NULLS LAST, id LIMIT 1000",
        ),
        (
            json!({ "where": "author = $1", "params": ["ann"], "order": [["at", "desc"]], "limit": 2 }),
            "author = 'ann'",
            "at DESC NULLS FIRST, id DESC LIMIT 2",
        ),
        (
            json!({ "where": "at > 3 OR title IS NULL", "order": [["title", "asc"]], "limit": 3, "columns": ["id", "title"] }),
            "at > 3 OR title IS NULL",
            "title NULLS LAST, id LIMIT 3",
        ),
        (
            json!({ "where": "author IN (SELECT author FROM members WHERE reader = $1)", "params": ["me"],
                "order": [["at", "desc"]], "limit": 3 }),
            "author IN (SELECT author FROM members WHERE reader = 'me')",
            "at DESC NULLS FIRST, id DESC LIMIT 3",
        ),
        (
            json!({ "where": "NOT EXISTS (SELECT 1 FROM members WHERE author = posts.author AND id = posts.at)",
                "order": [["title", "desc"]], "limit": 2 }),
            "NOT EXISTS (SELECT 1 FROM members WHERE author = posts.author AND id = posts.at)",
            "title DESC NULLS FIRST, id DESC LIMIT 2",
        ),
        // The rows behind others.
        (
            json!({ "order": [["at", "desc"]], "limit": 2, "after": [5, 6] }),
            "at < 5 OR at = 5 AND id < 6",
            "at DESC NULLS FIRST, id DESC LIMIT 2",
        ),
        (
            json!({ "order": [["at", "desc"]], "limit": 3, "after": [null, 4] }),
            "at IS NOT NULL OR id < 4",
            "at DESC NULLS FIRST, id DESC LIMIT 3",
        ),
        (
            json!({ "order": [["at", "asc"]], "limit": 3, "after": [2, 3] }),
            "at > 2 OR at IS NULL OR at = 2 AND id > 3",
            "at NULLS LAST, id LIMIT 3",
        ),
        (
            json!({ "order": [["at", "asc"]], "limit": 3, "after": [null, 2] }),
            "at IS NULL AND id > 2",
            "at NULLS LAST, id LIMIT 3",
        ),
        (
            json!({ "order": [["title", "asc"]], "limit": 3, "after": ["b", 3] }),
            "title > 'b' OR title IS NULL OR title = 'b' AND id > 3",
            "title NULLS LAST, id LIMIT 3",
        ),
        (
            json!({ "order": [["code", "desc"], ["at", "asc"]], "limit": 3, "after": ["b", 3, 4] }),
            "code < 'b' OR code = 'b' AND (at > 3 OR at IS NULL OR at = 3 AND id > 4)",
            "code DESC NULLS FIRST, at NULLS LAST, id LIMIT 3",
        ),
    ]
}

const WRITES: [&str; 26] = [
    "INSERT INTO posts VALUES (1, 5, 'a', 'a', 'ann'), (2, 3, 'B', 'B', 'ben'), (3, 5, 'b', 'b', 'ann'), (4, 9, 'Ä', 'Ä', 'cleo')",
    "INSERT INTO posts VALUES (5, 5, 'C', 'C', 'ann'), (6, 5, 'c', 'c', 'ben'), (7, NULL, NULL, NULL, 'ann'), (8, 1, 'z', 'z', 'ann')",
    // A row enters because another left.
    "DELETE FROM posts WHERE id = 4",
    "UPDATE posts SET at = 4 WHERE id = 1",
    "UPDATE posts SET at = 8 WHERE id = 8",
    // The order within changes.
    "UPDATE posts SET at = 7 WHERE id = 3",
    "UPDATE posts SET title = 'A' WHERE id = 1",
    "UPDATE posts SET title = 'ä', code = 'é' WHERE id = 2",
    "INSERT INTO members VALUES (1, 'ann', 'me'), (2, 'ben', 'other'), (5, 'ben', 'other')",
    "INSERT INTO members VALUES (3, 'ben', 'me')",
    "UPDATE posts SET at = NULL WHERE id IN (2, 5)",
    "DELETE FROM members WHERE author = 'ann'",
    "UPDATE posts SET author = 'ben' WHERE id < 4",
    "BEGIN; DELETE FROM posts WHERE id = 7; INSERT INTO posts VALUES (7, 6, 'm', 'm', 'dora'); UPDATE posts SET at = 6 WHERE id = 2; COMMIT",
    // Keys.
    "UPDATE posts SET id = 20 WHERE id = 1",
    "UPDATE posts SET id = id + 30 WHERE id IN (2, 3)",
    "UPDATE posts SET id = 1, at = 5, title = 'b' WHERE id = 20",
    "UPDATE members SET reader = 'me' WHERE reader = 'other'",
    // Many rows at once.
    "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 1299) \
     INSERT INTO posts SELECT i, i % 17, 'many ' || (i % 23), 'm' || (i % 19), CASE WHEN i % 2 = 0 THEN 'ann' ELSE 'ben' END FROM n",
    "UPDATE posts SET at = 16 - at, code = 'x' || code WHERE id >= 100",
    "UPDATE posts SET title = NULL WHERE id % 3 = 0",
    "BEGIN; UPDATE posts SET at = at + 1; UPDATE posts SET at = at - 1; COMMIT",
    "DELETE FROM posts WHERE id >= 110",
    "DELETE FROM posts WHERE at IS NULL",
    "DELETE FROM posts",
    "INSERT INTO posts VALUES (1, 2, 'b', 'b', 'ben'), (2, 2, 'B', 'b', 'ann'), (3, 4, 'c', 'a', 'ben')",
];

async fn expected(db: &TestDatabase, condition: &str, order: &str) -> Vec<String> {
    let query =
        format!("SELECT CAST(id AS text) AS key FROM posts WHERE {condition} ORDER BY {order}");
    let mut keys: Vec<String> = db.query_text(&query).await.into_iter().flatten().collect();
    keys.sort();
    keys
}

both_backends! {
    async fn a_window_is_what_the_database_answers_at_each_cursor(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = connect(&server).await;
        let windows = windows();
        for (number, (window, _, _)) in windows.iter().enumerate() {
            client.subscribe_with(number as u64, of_posts(window.clone())).await;
        }
        for number in 0..windows.len() {
            client.wait_subscribed(number as u64).await;
        }
        settle(&db, &mut client).await;
        let mut changed = vec![0; windows.len()];
        let mut before: Vec<Vec<String>> = vec![Vec::new(); windows.len()];
        let truncate = match db.backend() {
            Backend::Postgres => "TRUNCATE posts",
            Backend::Sqlite => "DELETE FROM posts",
        };
        let again = "INSERT INTO posts VALUES (4, 2, 'b', 'b', 'ben'), (5, 7, 'y', 'b', 'ann')";
        for (at, write) in WRITES.into_iter().chain([truncate, again]).enumerate() {
            db.execute(write).await;
            mark(&db, &mut client, at as u32 + 1).await;
            for (number, (window, condition, order)) in windows.iter().enumerate() {
                let rows = client.rows(number as u64);
                let keys: Vec<String> = rows.keys().cloned().collect();
                assert_eq!(keys, expected(&db, condition, order).await, "{window}\nafter {write}");
                changed[number] += usize::from(keys != before[number]);
                before[number] = keys;
            }
        }
        assert!(changed.iter().all(|changed| *changed > 3), "{changed:?}");
        assert_eq!(client.frames("refetch"), 0);
    }

    /// What is asked for while others write is right from the first cursor on that it shares.
    async fn a_window_that_begins_while_rows_change_is_right(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = connect(&server).await;
        for round in 0..20_u32 {
            let id = format!("w{round}");
            let window = json!({ "order": [["at", "desc"]], "limit": 2 + round % 3 });
            client.subscribe_with(&*id, of_posts(window)).await;
            for step in 0..5_u32 {
                let key = round * 5 + step;
                let gone = key.saturating_sub(3);
                let at = (key * 7) % 11;
                db.execute(&format!("BEGIN; INSERT INTO posts (id, at) VALUES ({key}, {at}); DELETE FROM posts WHERE id = {gone} AND at < 9; COMMIT")).await;
            }
            // What it begins with may be older than what else is subscribed to, up to the next cursor of all. It may be read
            // again, too.
            for mark in 0.. {
                client.wait_subscribed(&*id).await;
                self::mark(&db, &mut client, 100 * round + mark).await;
                if client.subscription(&*id).is_live() {
                    break;
                }
            }
            let order = format!("at DESC NULLS FIRST, id DESC LIMIT {}", 2 + round % 3);
            assert_eq!(keys(&client, &id), expected(&db, "TRUE", &order).await);
        }
    }
}
