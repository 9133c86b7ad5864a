//! Selections over plain HTTP: rows, changes, and long polls that only matching changes end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Http, HttpReply, both_backends, eventually};

use super::subscribers::{ops, serve};
use super::todos::{ALL, todos};

/// A path with these query parameters.
pub(super) fn path(at: &str, parameters: &[(&str, &str)]) -> String {
    let url = reqwest::Url::parse_with_params("http://localhost", parameters).expect("an address");
    format!("/api/sync/{at}?{}", url.query().unwrap_or_default())
}

/// A copy of a selection, kept by `GET` alone.
struct Copy {
    http: Http,
    selection: Vec<(&'static str, String)>,
    rows: BTreeMap<String, Value>,
    cursor: Option<String>,
}

impl Copy {
    fn new(http: Http, selection: &[(&'static str, &str)]) -> Self {
        let selection = selection
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        Self {
            http,
            selection: selection.collect(),
            rows: BTreeMap::new(),
            cursor: None,
        }
    }

    fn path(&self, more: &[(&str, &str)]) -> String {
        let selection = self
            .selection
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let cursor = self.cursor.as_deref().map(|cursor| ("cursor", cursor));
        let all: Vec<_> = selection
            .chain(cursor)
            .chain(more.iter().copied())
            .collect();
        path("todos", &all)
    }

    /// Gets one page and applies it.
    async fn get(&mut self, more: &[(&str, &str)]) -> Value {
        let reply = self.http.get(&self.path(more)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let page = reply.json();
        self.take(&page);
        page
    }

    fn take(&mut self, page: &Value) {
        let rows = page["rows"].as_array().into_iter().flatten();
        let changes = page["changes"].as_array().into_iter().flatten();
        for entry in rows.chain(changes) {
            let key = entry["key"].as_str().map(str::to_owned);
            match (entry["op"].as_str().unwrap_or("put"), key) {
                ("put", Some(key)) => drop(self.rows.insert(key, entry["row"].clone())),
                ("delete" | "leave", Some(key)) => drop(self.rows.remove(&key)),
                ("truncate", None) => self.rows.clear(),
                _ => panic!("{entry}"),
            }
        }
        self.cursor = page["cursor"].as_str().map(str::to_owned);
    }

    /// Gets pages until no more follow; returns their number.
    async fn get_all(&mut self, more: &[(&str, &str)]) -> u32 {
        let mut pages = 1;
        while self.get(more).await["more"] == true {
            pages += 1;
        }
        pages
    }
}

const LIST_1: &[(&str, &str)] = &[("where", "list_id = $1"), ("params", "[1]")];

both_backends! {
    async fn a_copy_is_kept_by_rows_and_then_changes(db: TestDatabase) {
        let server = serve(&db).await;
        let mut copy = Copy::new(server.http(), LIST_1);
        let page = copy.get(&[]).await;
        assert_eq!((page["rows"].as_array().map(Vec::len), &page["more"]), (Some(2), &json!(false)));
        assert_eq!(copy.rows, todos(&db, &ALL, "list_id = 1").await);
        assert_eq!(copy.get(&[]).await["changes"], json!([]));
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        db.execute("UPDATE todos SET title = 'unseen' WHERE list_id IS NULL").await;
        db.execute("DELETE FROM todos WHERE id = 2").await;
        let mut received = ops(&[copy.get(&[]).await]);
        received.sort();
        assert_eq!(received, ["delete 2", "leave 1", "put 3"]);
        assert_eq!(copy.rows, todos(&db, &ALL, "list_id = 1").await);
    }

    async fn columns_may_be_names_or_json(db: TestDatabase) {
        let server = serve(&db).await;
        let expected = todos(&db, &["id", "title", "owner"], "list_id = 1").await;
        for columns in ["title,owner", r#"["owner","title"]"#] {
            let selection = [("where", "list_id = 1"), ("columns", columns)];
            let mut copy = Copy::new(server.http(), &selection);
            copy.get(&[]).await;
            assert_eq!(copy.rows, expected);
            db.execute("UPDATE todos SET done = NOT done").await;
            assert_eq!(copy.get(&[]).await["changes"], json!([]));
        }
    }

    /// Pages of rows, and rows that enter and leave between them.
    async fn writes_between_pages_end_in_the_right_copy(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 99) \
             INSERT INTO todos SELECT i, i % 3, NULL, 'todo', false FROM n",
        )
        .await;
        let mut copy = Copy::new(server.http(), LIST_1);
        let mut round = 0;
        while copy.get(&[("limit", "5")]).await["more"] == true {
            round += 1;
            for statement in [
                format!("UPDATE todos SET list_id = 1 WHERE id = {}", 9 + 3 * round),
                format!("UPDATE todos SET list_id = 2 WHERE id = {}", 10 + 3 * round),
                format!("UPDATE todos SET list_id = 2 WHERE id = {}", 97 - 3 * round),
                format!("INSERT INTO todos VALUES ({}, 1, NULL, 'x', true)", 500 + round),
                format!("UPDATE todos SET list_id = 3 WHERE id = {}", 499 + round),
                format!("DELETE FROM todos WHERE id = {}", 70 - 3 * round),
            ] {
                db.execute(&statement).await;
            }
        }
        assert!(round > 4, "{round}");
        copy.get_all(&[("limit", "5")]).await;
        assert_eq!(copy.rows, todos(&db, &ALL, "list_id = 1").await);

        db.execute("UPDATE todos SET list_id = (list_id + 1) % 3").await;
        assert!(copy.get_all(&[("limit", "5")]).await > 5);
        assert_eq!(copy.rows, todos(&db, &ALL, "list_id = 1").await);
    }

    async fn a_poll_is_woken_only_by_a_matching_change(db: TestDatabase) {
        let server = serve(&db).await;
        let http = server.http();
        let mut copy = Copy::new(http.clone(), LIST_1);
        copy.get(&[]).await;
        let path = copy.path(&[("wait_ms", "15000")]);
        let waiting = http.clone();
        let poll = tokio::spawn(async move { waiting.get(&path).await });
        let deliveries = async || {
            let status = http.get("/api/sync/status").await.json();
            (status["sessions"] == 1).then(|| status["hub"]["deliveries"].as_u64())
        };
        let before = eventually("the poll waits", deliveries).await.expect("a number");
        // Changes that do not match wake no poll.
        for statement in [
            "UPDATE todos SET title = 'unseen' WHERE list_id = 2",
            "INSERT INTO todos VALUES (9, 2, NULL, 'x', true)",
            "INSERT INTO todos VALUES (10, NULL, NULL, 'x', true)",
            "DELETE FROM todos WHERE id = 4",
        ] {
            db.execute(statement).await;
        }
        let changes = async || {
            let status = http.get("/api/sync/status").await.json();
            (status["hub"]["changes"].as_u64() >= Some(4)).then_some(())
        };
        eventually("the hub has the changes", changes).await;
        assert!(!poll.is_finished());
        assert_eq!(deliveries().await.flatten(), Some(before));

        db.execute("UPDATE todos SET list_id = 2 WHERE id = 1").await;
        let reply: HttpReply = poll.await.expect("the poll ends");
        let page = reply.json();
        assert_eq!(ops(std::slice::from_ref(&page)), ["leave 1"]);
        copy.take(&page);
        assert_eq!(copy.rows, todos(&db, &ALL, "list_id = 1").await);
        assert_eq!(deliveries().await, None, "the poll's mailbox still exists");
    }

    /// The poll returns a cursor to continue from.
    async fn a_poll_without_a_match_returns_a_cursor(db: TestDatabase) {
        let server = serve(&db).await;
        let mut copy = Copy::new(server.http(), LIST_1);
        copy.get(&[]).await;
        db.execute("UPDATE todos SET list_id = 5 WHERE id = 3").await;
        let page = copy.get(&[("wait_ms", "50")]).await;
        assert_eq!((&page["changes"], &page["more"]), (&json!([]), &json!(false)));
        db.execute("UPDATE todos SET list_id = 1 WHERE id = 3").await;
        assert_eq!(ops(&[copy.get(&[("wait_ms", "15000")]).await]), ["put 3"]);
    }

    async fn an_expired_cursor_must_refetch(db: TestDatabase) {
        let server = serve(&db).await;
        let mut copy = Copy::new(server.http(), LIST_1);
        copy.get(&[]).await;
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let tracker = server.engine().change_tracker();
        tracker.cleanup_older_than(Duration::ZERO).await.expect("the log is cleaned up");
        let reply = server.http().get(&copy.path(&[])).await;
        assert_eq!(
            (reply.status, reply.json()),
            (409, json!({ "code": "refetch", "reason": "expired" }))
        );
    }

    /// After a schema change the selection is refetched, or is not valid any more.
    async fn a_schema_change_is_answered_with_refetch(db: TestDatabase) {
        let server = serve(&db).await;
        let mut copy = Copy::new(server.http(), LIST_1);
        copy.get(&[]).await;
        db.execute("ALTER TABLE todos DROP COLUMN done").await;
        db.execute("UPDATE todos SET title = 'new' WHERE id = 1").await;
        let refetch = async || {
            let reply = server.http().get(&copy.path(&[])).await;
            (reply.status == 409).then(|| reply.json())
        };
        let refetch = eventually("the selection must be refetched", refetch).await;
        assert_eq!(refetch, json!({ "code": "refetch", "reason": "schema" }));
        copy = Copy::new(server.http(), LIST_1);
        let refetched = async || {
            let reply = server.http().get(&copy.path(&[])).await;
            (reply.status == 200).then(|| reply.json())
        };
        let page = eventually("the selection can be refetched", refetched).await;
        assert_eq!(page["rows"].as_array().map(Vec::len), Some(2));
        db.execute("ALTER TABLE todos RENAME COLUMN list_id TO list").await;
        let invalid = async || {
            let reply = server.http().get(&copy.path(&[])).await;
            (reply.status == 400).then(|| reply.json())
        };
        assert_eq!(eventually("the filter is not valid any more", invalid).await["code"], "bad_filter");
    }
}
