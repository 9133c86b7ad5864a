//! Subqueries in clients' filters, in every place of a condition: copies equal what the database answers.

use serde_json::{Value, json};
use testkit::{TestDatabase, both_backends};

use super::{mark, serve_everybody};

/// Filters on todos; `$1` is 1, `$2` is `'ann'`.
const FILTERS: [&str; 22] = [
    "list_id IN (SELECT list_id FROM list_members WHERE user_id = $2) OR id = $1",
    "list_id NOT IN (SELECT list_id FROM list_members WHERE user_id = $2) OR id = $1",
    "NOT (list_id IN (SELECT list_id FROM list_members) AND title <> $2) AND id <> $1",
    "list_id NOT IN (SELECT list_id FROM list_members) AND title <> $2 AND id > $1",
    "EXISTS (SELECT 1 FROM list_members m WHERE m.list_id = todos.list_id AND m.user_id = todos.title) OR id = $1 AND title = $2",
    "NOT EXISTS (SELECT 1 FROM list_members m WHERE m.list_id = todos.list_id AND m.id = todos.id AND m.user_id <> $2) AND id <> $1",
    "EXISTS (SELECT 1 FROM list_members WHERE user_id = $2 AND list_id = $1)",
    "NOT EXISTS (SELECT 1 FROM list_members WHERE user_id = $2 AND list_id = $1)",
    "$1 IN (SELECT list_id FROM list_members WHERE user_id = $2)",
    "$1 NOT IN (SELECT list_id FROM list_members WHERE user_id = $2)",
    "list_id IN (SELECT id FROM lists WHERE parent_id IN (SELECT list_id FROM list_members WHERE user_id = $2)) OR id = $1",
    "list_id IN (SELECT id FROM lists WHERE parent_id IN (SELECT id FROM lists WHERE id IN (SELECT list_id FROM list_members WHERE user_id = $2))) OR id = $1",
    "list_id NOT IN (SELECT id FROM lists WHERE parent_id NOT IN (SELECT list_id FROM list_members WHERE user_id = $2)) AND id <> $1",
    "list_id NOT IN (SELECT parent_id FROM lists WHERE NOT EXISTS (SELECT 1 FROM list_members m WHERE m.list_id = lists.id AND m.user_id = $2)) OR id = $1",
    "EXISTS (SELECT 1 FROM lists l WHERE l.id = todos.list_id AND EXISTS (SELECT 1 FROM list_members m WHERE m.list_id = l.id AND m.user_id = $2)) AND id <> $1",
    "NOT (title = $2 OR NOT (list_id IN (SELECT list_id FROM list_members) OR list_id IN (SELECT parent_id FROM lists))) AND id <> $1",
    "(list_id IN (SELECT list_id FROM list_members) OR list_id IS NULL) AND NOT (list_id IN (SELECT parent_id FROM lists) AND id = $1) AND title <> $2",
    // The table itself.
    "list_id IN (SELECT id FROM todos x WHERE x.title = $2) OR id = $1",
    "id IN (SELECT list_id FROM todos) AND title <> $2 OR id = $1",
    "NOT EXISTS (SELECT 1 FROM todos x WHERE x.list_id = todos.id AND x.title = $2) AND id <> $1",
    "list_id IN (SELECT list_id FROM list_members WHERE user_id IN ($2, 'ben') AND role <> 'x' AND id BETWEEN $1 AND 8)",
    "list_id IN (SELECT parent_id FROM lists WHERE name LIKE 't%') OR EXISTS (SELECT 1 FROM lists WHERE name = $2) OR id = $1",
];

const WRITES: [&str; 24] = [
    "INSERT INTO list_members VALUES (3, NULL, 'ann', 'reader')",
    "INSERT INTO lists VALUES (3, 1, 'three'), (4, 3, 'four')",
    "INSERT INTO todos VALUES (6, 3, 'ann'), (7, 4, 'ben'), (8, 9, 'ann')",
    "DELETE FROM list_members WHERE id = 3",
    "INSERT INTO list_members VALUES (5, 3, 'ann', 'reader'), (6, 3, 'ann', 'writer')",
    "DELETE FROM list_members WHERE id = 5",
    "UPDATE lists SET parent_id = 2 WHERE id = 3",
    "UPDATE lists SET parent_id = parent_id + 1 WHERE id > 2",
    "UPDATE todos SET title = 'ann' WHERE id = 2",
    "BEGIN; DELETE FROM list_members WHERE user_id = 'ann'; UPDATE todos SET list_id = 2 WHERE list_id = 1; COMMIT",
    "UPDATE lists SET id = 5 WHERE id = 4",
    "UPDATE lists SET name = 'ann' WHERE id = 2",
    "UPDATE todos SET id = id + 10 WHERE id < 3",
    "INSERT INTO list_members VALUES (1, 1, 'ann', 'reader')",
    "BEGIN; UPDATE list_members SET list_id = NULL WHERE user_id = 'ann'; UPDATE lists SET name = 'two' WHERE id = 2; COMMIT",
    "UPDATE todos SET list_id = 1 WHERE id IN (3, 11)",
    "BEGIN; UPDATE list_members SET list_id = 2 WHERE id = 1; UPDATE list_members SET list_id = 3 WHERE id = 1; COMMIT",
    "DELETE FROM list_members WHERE list_id IS NULL",
    "DELETE FROM lists WHERE id IN (2, 3)",
    "UPDATE todos SET list_id = 5 - list_id WHERE list_id IS NOT NULL",
    "UPDATE lists SET parent_id = NULL",
    "BEGIN; DELETE FROM todos WHERE id > 8; INSERT INTO todos VALUES (11, 5, 'ann'), (12, 1, 'ann'); COMMIT",
    "DELETE FROM list_members",
    "DELETE FROM lists",
];

async fn expected(db: &TestDatabase, filter: &str) -> Vec<String> {
    let filter = filter.replace("$1", "1").replace("$2", "'ann'");
    let query = format!("SELECT CAST(id AS text) FROM todos WHERE {filter}");
    let mut keys: Vec<String> = db.query_text(&query).await.into_iter().flatten().collect();
    keys.sort();
    keys
}

both_backends! {
    async fn a_copy_is_what_the_database_answers_to_a_filter_with_subqueries(db: TestDatabase) {
        let server = serve_everybody(&db).await;
        let mut client = server.connect().await;
        client.subscribe("n", "notes").await;
        let params = |filter: &str| -> Vec<Value> {
            let all = [("$1", json!(1)), ("$2", json!("ann"))];
            all.into_iter().filter(|(name, _)| filter.contains(name)).map(|(_, value)| value).collect()
        };
        for (number, filter) in FILTERS.iter().enumerate() {
            let frame = json!({ "entity": "todos", "where": filter, "params": params(filter) });
            client.subscribe_with(number as u64, frame).await;
        }
        let mut changed = vec![0; FILTERS.len()];
        let mut before: Vec<Vec<String>> = vec![Vec::new(); FILTERS.len()];
        for (at, write) in std::iter::once("INSERT INTO todos VALUES (9, 2, 'ann')").chain(WRITES).enumerate() {
            db.execute(write).await;
            for number in 0..FILTERS.len() {
                client.wait_subscribed(number as u64).await;
            }
            mark(&db, &mut [&mut client], at as u32 + 1).await;
            for (number, filter) in FILTERS.iter().enumerate() {
                let keys: Vec<String> = client.rows(number as u64).keys().cloned().collect();
                assert_eq!(keys, expected(&db, filter).await, "{filter}\nafter {write}");
                changed[number] += usize::from(keys != before[number]);
                before[number] = keys;
            }
        }
        assert_eq!(client.frames("refetch"), 0);
        assert!(changed.iter().all(|changed| *changed > 2), "{changed:?}");
        // The same on plain HTTP.
        for filter in FILTERS {
            let params = serde_json::to_string(&params(filter)).expect("JSON");
            let query = reqwest::Url::parse_with_params("http://x/", [("where", filter), ("params", &params)]);
            let path = format!("/api/sync/todos?{}", query.expect("a query").query().unwrap_or_default());
            let page = server.http().get(&path).await;
            assert_eq!(page.status, 200, "{}", page.text);
            let mut keys: Vec<String> = page.json()["rows"].as_array().expect("rows").iter()
                .map(|row| row["key"].as_str().expect("a key").to_owned()).collect();
            keys.sort();
            assert_eq!(keys, expected(&db, filter).await, "{filter}");
        }
    }

    async fn no_set_is_shown_by_an_error_or_a_shape(db: TestDatabase) {
        let server = serve_everybody(&db).await;
        let mut client = server.connect().await;
        for (id, filter) in [
            ("a", "list_id IN (SELECT missing FROM list_members)"),
            ("b", "list_id IN (SELECT list_id FROM nothing)"),
            ("c", "list_id IN (SELECT list_id FROM _rhtmx_sync_log)"),
            ("d", "list_id IN (SELECT user_id FROM list_members)"),
            ("e", "list_id IN (SELECT list_id, id FROM list_members)"),
        ] {
            client.subscribe_with(id, json!({ "entity": "todos", "where": filter })).await;
            assert_eq!(client.wait_refused(id).await, "bad_filter", "{filter}");
        }
        client.subscribe_with("s", json!({ "entity": "todos", "where": "list_id IN (SELECT list_id FROM list_members WHERE user_id = 'hushed')" })).await;
        client.wait_subscribed("s").await;
        assert!(!client.subscription("s").shape().expect("a shape").contains("hushed"));
        let status = server.http().get("/api/sync/status").await;
        assert!(!status.text.contains("hushed"), "{}", status.text);
    }
}
