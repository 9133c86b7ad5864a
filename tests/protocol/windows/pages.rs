//! Pages: a window begins behind the last row of the one before.

use serde_json::{Value, json};
use testkit::both_backends;

use super::{connect, keys, of_posts, serve, subscribe};

both_backends! {
    async fn pages_behind_each_other_are_all_rows_once(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
            INSERT INTO posts SELECT i, CASE WHEN i % 5 > 0 THEN i % 5 END, CASE WHEN i % 7 > 0 THEN 't' || (i % 7) END, 'c' || (i % 3), 'ann' FROM n").await;
        let mut client = connect(&server).await;
        for (name, order) in [
            ("at", json!([["at", "desc"]])),
            ("title", json!([["title", "asc"]])),
            ("several", json!([["code", "desc"], ["at", "asc"], ["id", "desc"]])),
            ("key", json!([])),
        ] {
            let columns: Vec<String> = order.as_array().expect("an order").iter()
                .map(|pair| pair[0].as_str().expect("a column").to_owned()).collect();
            let ascending = order[columns.len().saturating_sub(1)][1] != "desc";
            let mut columns_and_key = columns.clone();
            if !columns.contains(&"id".to_owned()) {
                columns_and_key.push("id".to_owned());
            }
            let mut seen: Vec<String> = Vec::new();
            let mut after: Option<Value> = None;
            for page in 0..5 {
                let id = format!("{name} {page}");
                let mut window = json!({ "order": order, "limit": 9 });
                if let Some(after) = &after {
                    window["after"] = after.clone();
                }
                subscribe(&mut client, &id, window).await;
                let sql = |column: &str, direction: &str| match direction {
                    "asc" => format!("{column} ASC NULLS LAST"),
                    _ => format!("{column} DESC NULLS FIRST"),
                };
                let pairs = order.as_array().expect("an order").iter();
                let mut by: Vec<String> = pairs.map(|pair| sql(pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default())).collect();
                by.push(sql("id", if ascending { "asc" } else { "desc" }));
                let query = format!("SELECT CAST(id AS text) AS key FROM posts ORDER BY {} LIMIT 9 OFFSET {}", by.join(", "), seen.len());
                let in_order: Vec<String> = db.query_text(&query).await.into_iter().flatten().collect();
                let mut sorted = in_order.clone();
                sorted.sort();
                assert_eq!(keys(&client, &id), sorted, "{id}");
                let Some(last) = in_order.last() else { break };
                let row = client.row(&*id, last).expect("a row");
                after = Some(columns_and_key.iter().map(|column| row[column].clone()).collect());
                seen.extend(in_order);
            }
            assert_eq!(seen.len(), 40);
        }
    }

    /// The first rows come in their order.
    async fn the_first_rows_are_sent_in_their_order(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO posts (id, at, title) VALUES (1, 5, 'b'), (2, NULL, 'C'), (3, 7, NULL), (4, 5, 'a'), (5, 6, 'B')").await;
        let mut client = connect(&server).await;
        for (id, order, expected) in [
            ("at", json!([["at", "desc"]]), ["2", "3", "5", "4"]),
            ("title", json!([["title", "asc"], ["at", "desc"]]), match db.backend() {
                testkit::Backend::Postgres => ["4", "1", "5", "2"],
                testkit::Backend::Sqlite => ["4", "5", "1", "2"],
            }),
        ] {
            client.subscribe_with(id, of_posts(json!({ "order": order, "limit": 4 }))).await;
            let mut sent = Vec::new();
            while !client.subscription(id).is_live() {
                let frame = client.next_frame().await;
                let rows = frame["rows"].as_array().into_iter().flatten();
                sent.extend(rows.map(|row| row["key"].as_str().expect("a key").to_owned()));
            }
            assert_eq!(sent, expected, "{id}");
        }
    }
}
