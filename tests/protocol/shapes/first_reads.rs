//! First reads of a selection: these rows, these columns, and no others.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, TestDatabase, both_backends, eventually};

use super::subscribers::{ops_after, serve, subscribe, subscriber, wait_equal};
use super::todos::{ALL, todos};

both_backends! {
    async fn a_first_read_has_the_rows_of_the_filter(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        for (id, condition) in [
            "list_id = 1",
            "list_id <> 1",
            "NOT (list_id = 1)",
            "list_id IS NULL",
            "owner = 'ann' AND NOT done",
            "done OR owner IS NULL",
            "list_id IN (2, 3, NULL)",
            "list_id NOT IN (2, NULL)",
            "id BETWEEN 2 AND 3",
            "title LIKE 't%'",
            "title LIKE '%r%'",
            "\"list_id\" = -1",
            "TRUE",
            "FALSE",
            "NULL",
            "owner = NULL",
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("{id}");
            subscribe(&mut client, &id, json!({ "where": condition })).await;
            assert_eq!(
                *client.rows(id.as_str()),
                todos(&db, &ALL, condition).await,
                "{condition}"
            );
        }
    }

    async fn params_replace_values(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        for (id, condition, params, same) in [
            ("a", "list_id = $1", json!([1]), "list_id = 1"),
            ("b", "owner = $2 AND list_id = $1", json!([2, "ann"]), "owner = 'ann' AND list_id = 2"),
            ("c", "id = $1 OR list_id = $1", json!([2]), "id = 2 OR list_id = 2"),
            ("d", "done = $1", json!([true]), "done"),
            ("e", "list_id = $1", json!([null]), "NULL"),
            ("f", "title LIKE $1", json!(["t%"]), "title LIKE 't%'"),
            ("g", "title = $1", json!(["'; DROP TABLE todos; --"]), "FALSE"),
            ("h", "id IN ($1, $2)", json!([1, "3"]), "id IN (1, 3)"),
        ] {
            subscribe(&mut client, id, json!({ "where": condition, "params": params })).await;
            assert_eq!(*client.rows(id), todos(&db, &ALL, same).await, "{condition}");
        }
        assert_eq!(ops_after(&mut client, &db, "DELETE FROM todos WHERE id = 4").await, [""; 0]);
    }

    async fn a_first_read_has_the_projected_columns(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        subscribe(&mut client, "a", json!({ "columns": ["title"] })).await;
        let expected = todos(&db, &["id", "title"], "TRUE").await;
        assert_eq!(*client.rows("a"), expected);
        let schema = client.subscription("a").schema().expect("a schema");
        let columns = schema["columns"].as_object().expect("columns");
        let names: Vec<&str> = columns.keys().map(String::as_str).collect();
        assert_eq!((names, &schema["key"]), (vec!["id", "title"], &json!(["id"])));

        let selection = json!({ "where": "list_id = 1", "columns": ["done", "owner", "done"] });
        subscribe(&mut client, "b", selection).await;
        let expected = todos(&db, &["id", "owner", "done"], "list_id = 1").await;
        assert_eq!(*client.rows("b"), expected);

        subscribe(&mut client, "c", json!({ "columns": [] })).await;
        assert_eq!(*client.rows("c"), todos(&db, &["id"], "TRUE").await);
    }

    async fn a_selection_without_rows_is_one_empty_page(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let selection = json!({ "entity": "todos", "where": "list_id = 77" });
        client.subscribe_with("a", selection).await;
        let page = client.next_frame().await;
        assert_eq!(
            page,
            json!({ "type": "snapshot", "id": "a", "rows": [], "more": false })
        );
        client.wait_subscribed("a").await;
        let received = ops_after(&mut client, &db, "UPDATE todos SET list_id = 77 WHERE id = 4").await;
        assert_eq!(received, ["put 4"]);
    }

    async fn a_large_selection_comes_in_pages(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 6000) \
             INSERT INTO todos SELECT i, i % 2, 'ann', 'todo', false FROM n",
        )
        .await;
        let client = subscriber(&server, "list_id = 1 AND id >= 10").await;
        assert!(client.frames("snapshot") >= 2);
        assert_eq!(client.rows("a").len(), 2995);
        let expected = todos(&db, &ALL, "list_id = 1 AND id >= 10").await;
        assert_eq!(*client.rows("a"), expected);
    }

    /// Names are quoted in the statement, and no name is looked up twice.
    async fn a_filter_may_use_names_that_need_quotes(db: TestDatabase) {
        db.execute(
            "CREATE TABLE odd (id integer PRIMARY KEY, \"select\" integer, \"It's \"\"x\"\"\" text)",
        )
        .await;
        db.execute("INSERT INTO odd VALUES (1, 1, 'a'), (2, 2, 'b')").await;
        let server = TestServer::start(&db, ["odd"]).await;
        let mut client = server.connect().await;
        let columns = json!(["It's \"x\""]);
        for (id, condition) in [("a", "\"select\" = 1"), ("b", "\"It's \"\"x\"\"\" = 'a'")] {
            let selection = json!({ "entity": "odd", "where": condition, "columns": columns });
            client.subscribe_with(id, selection).await;
            client.wait_subscribed(id).await;
            let row: Option<&Value> = client.row(id, "1");
            assert_eq!(row, Some(&json!({ "id": 1, "It's \"x\"": "a" })));
            assert_eq!(client.rows(id).len(), 1);
        }
        db.execute("UPDATE odd SET \"It's \"\"x\"\"\" = 'c' WHERE id = 1").await;
        client
            .wait_until(|client| client.rows("b").is_empty() && client.row("a", "1").is_some())
            .await;
    }

    async fn a_selection_may_have_a_composite_key(db: TestDatabase) {
        db.execute("CREATE TABLE pairs (a integer, b integer, n integer, t text, PRIMARY KEY (a, b))")
            .await;
        db.execute("INSERT INTO pairs VALUES (1, 1, 5, 'x'), (1, 2, 6, 'y'), (2, 1, 5, 'z')").await;
        let server = TestServer::start(&db, ["pairs"]).await;
        let mut client = server.connect().await;
        let selection = json!({ "entity": "pairs", "where": "n = 5 AND a = 1", "columns": ["t"] });
        client.subscribe_with("a", selection).await;
        client.wait_subscribed("a").await;
        let rows: Vec<&Value> = client.rows("a").values().collect();
        assert_eq!(rows, [&json!({ "a": 1, "b": 1, "t": "x" })]);
        db.execute("UPDATE pairs SET n = 5 WHERE b = 2").await;
        client.wait_until(|client| client.rows("a").len() == 2).await;
        db.execute("UPDATE pairs SET a = 3 WHERE a = 1 AND b = 1").await;
        client.wait_until(|client| client.rows("a").len() == 1).await;
        let rows: Vec<&Value> = client.rows("a").values().collect();
        assert_eq!(rows, [&json!({ "a": 1, "b": 2, "t": "y" })]);
    }

    /// Clients arrive together with the same selection, and writes happen while they read.
    async fn clients_that_arrive_together_receive_the_same_rows(db: TestDatabase) {
        let server = serve(&db).await;
        let mut clients = Vec::new();
        for number in 0..20 {
            let mut client = server.connect().await;
            let condition = if number % 2 == 0 { "list_id = 1" } else { "list_id = $1" };
            let mut selection = json!({ "entity": "todos", "where": condition });
            if number % 2 == 1 {
                selection["params"] = json!([1]);
            }
            client.subscribe_with("a", selection).await;
            let id = 100 + number;
            db.execute(&format!(
                "INSERT INTO todos VALUES ({id}, 1, NULL, 'new', false); \
                 UPDATE todos SET list_id = 2 WHERE id = {id} - 1"
            ))
            .await;
            clients.push(client);
        }
        for client in &mut clients {
            client.wait_subscribed("a").await;
            wait_equal(client, &db, "a", "list_id = 1").await;
        }
    }
}

/// A filter becomes SQL that indexes support: the table is not read whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_read_uses_an_index_of_the_table() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serve(&db).await;
    db.execute(
        "INSERT INTO todos SELECT i, i, 'ann', 'todo', false FROM generate_series(100, 20000) i; \
         CREATE INDEX todos_list ON todos (list_id)",
    )
    .await;
    db.execute("ANALYZE todos").await;
    let client = subscriber(&server, "list_id = 777").await;
    assert_eq!(client.rows("a").len(), 1);
    let scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'todos_list'";
    eventually("the statistics show the use of the index", async || {
        let found = db.query_text(scans).await;
        (found[0].as_deref() != Some("0")).then_some(())
    })
    .await;
}
