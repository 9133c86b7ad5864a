//! A window after an absence.

use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::{connect, keys, mark, serve, subscribe};

const ORDERS: [(&str, &str); 3] = [
    ("at", "at DESC NULLS FIRST, id DESC LIMIT 3"),
    ("title", "title DESC NULLS FIRST, id DESC LIMIT 3"),
    ("members", "at DESC NULLS FIRST, id DESC LIMIT 2"),
];
const OF_MEMBERS: &str = "author IN (SELECT author FROM members WHERE reader = 'me')";

fn window(name: &str) -> Value {
    match name {
        "members" => json!({ "where": OF_MEMBERS, "order": [["at", "desc"]], "limit": 2 }),
        column => json!({ "order": [[column, "desc"]], "limit": 3 }),
    }
}

async fn assert_first(db: &TestDatabase, client: &SyncClient, after: &str) {
    for (name, order) in ORDERS {
        let condition = if name == "members" {
            OF_MEMBERS
        } else {
            "TRUE"
        };
        let query =
            format!("SELECT CAST(id AS text) AS key FROM posts WHERE {condition} ORDER BY {order}");
        let mut expected: Vec<String> = db.query_text(&query).await.into_iter().flatten().collect();
        expected.sort();
        assert_eq!(keys(client, name), expected, "{name} after {after}");
    }
}

both_backends! {
    async fn a_window_resumes_to_what_the_database_answers(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO members VALUES (1, 'ann', 'me')").await;
        db.execute("INSERT INTO posts SELECT * FROM (VALUES (1, 10, 'a', 'a', 'ann'), (2, 20, 'b', 'b', 'ben'), (3, 30, 'c', 'c', 'ann'), \
            (4, 40, 'd', 'd', 'ben'), (5, 50, 'e', 'e', 'ann'), (6, 60, 'f', 'f', 'ben')) v").await;
        let mut client = connect(&server).await;
        for (name, _) in ORDERS {
            subscribe(&mut client, name, window(name)).await;
        }
        let emptied = match db.backend() {
            Backend::Postgres => "TRUNCATE posts",
            Backend::Sqlite => "DELETE FROM posts",
        };
        for (number, absence) in [
            "DELETE FROM posts WHERE id = 6",
            "INSERT INTO posts VALUES (7, 70, 'g', 'g', 'ann')",
            "UPDATE posts SET at = 45, title = 'd' WHERE id = 7",
            "DELETE FROM posts WHERE id IN (5, 7)",
            "INSERT INTO members VALUES (2, 'ben', 'me')",
            "DELETE FROM members WHERE id = 1",
            "BEGIN; UPDATE posts SET at = NULL WHERE id = 1; UPDATE posts SET id = 9 WHERE id = 2; COMMIT",
            "INSERT INTO posts VALUES (10, 1, 'z', 'z', 'ben'); DELETE FROM posts WHERE id = 10",
            "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 1999) \
             INSERT INTO posts SELECT i, i, 'x' || i, 'x', 'ben' FROM n",
            "DELETE FROM posts WHERE id >= 100",
            emptied,
            "INSERT INTO posts VALUES (1, 1, 'one', 'one', 'ben')",
        ].into_iter().enumerate() {
            let state = client.into_state();
            for statement in if absence.starts_with("BEGIN") { vec![absence] } else { absence.split("; ").collect() } {
                db.execute(statement).await;
            }
            client = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
            for (name, _) in ORDERS {
                client.wait_subscribed(name).await;
            }
            mark(&db, &mut client, 2 * number as u32 + 1).await;
            assert_first(&db, &client, absence).await;
            // It is live.
            db.execute("INSERT INTO posts VALUES (5000, 10000, 'zz', 'zz', 'ann')").await;
            mark(&db, &mut client, 2 * number as u32 + 2).await;
            assert_first(&db, &client, absence).await;
            db.execute("DELETE FROM posts WHERE id = 5000").await;
            client.wait_until(|client| client.row("at", "5000").is_none() && client.row("title", "5000").is_none()).await;
        }
    }
}
