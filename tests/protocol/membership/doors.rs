//! Plain HTTP and server-sent events move rows as WebSockets do.

use std::collections::BTreeSet;

use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use testkit::{Http, both_backends, eventually};

use super::{serve, user};
use crate::claims::token;
use crate::disconnect::sessions;

pub(super) fn http(server: &TestServer, name: &str) -> Http {
    server.http().with_token(token(&user(name)))
}

/// A copy that is kept by `GET` alone.
struct Copy {
    http: Http,
    path: String,
    cursor: Option<String>,
    rows: BTreeSet<String>,
    refetches: u32,
}

impl Copy {
    fn new(http: Http, query: &str) -> Self {
        Self {
            http,
            path: format!("/api/sync/todos?{query}"),
            cursor: None,
            rows: BTreeSet::new(),
            refetches: 0,
        }
    }

    /// Gets pages until no more follow.
    async fn get(&mut self) {
        while self.get_page().await {}
    }

    async fn get_page(&mut self) -> bool {
        let cursor = self.cursor.as_ref();
        let cursor = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let reply = self.http.get(&format!("{}{cursor}", self.path)).await;
        let page = reply.json();
        if reply.status == 409 {
            assert_eq!(page["reason"], "expired", "{page}");
            self.refetches += 1;
            self.cursor = None;
            self.rows.clear();
            return true;
        }
        let key = |item: &Value| item["key"].as_str().expect("a key").to_owned();
        for row in page["rows"].as_array().into_iter().flatten() {
            self.rows.insert(key(row));
        }
        for change in page["changes"].as_array().into_iter().flatten() {
            match change["op"] == "put" {
                true => drop(self.rows.insert(key(change))),
                false => drop(self.rows.remove(&key(change))),
            }
        }
        self.cursor = page["cursor"].as_str().map(str::to_owned);
        page["more"] == true
    }
}

both_backends! {
    /// What memberships moved comes with what changed beside it.
    async fn a_poll_returns_what_memberships_have_moved(db: TestDatabase) {
        let server = serve(&db).await;
        for query in ["limit=1", "limit=3", ""] {
            let mut ann = Copy::new(http(&server, "ann"), query);
            for (statement, held) in [
                ("UPDATE todos SET title = 'changed'", &["1", "2"][..]),
                ("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')", &["1", "2", "3", "4"]),
                ("UPDATE todos SET title = 'again', list_id = 3 - list_id", &["1", "2", "3", "4"]),
                ("UPDATE todos SET list_id = NULL WHERE id = 1", &["2", "3", "4"]),
                ("BEGIN; DELETE FROM list_members WHERE user_id = 'ann'; UPDATE todos SET title = 'unseen' WHERE id = 2; COMMIT", &[]),
                ("INSERT INTO list_members VALUES (1, 1, 'ann', 'reader'); UPDATE todos SET list_id = (id + 1) / 2", &["1", "2"]),
            ] {
                db.execute(statement).await;
                ann.get().await;
                ann.get().await;
                let rows: Vec<&str> = ann.rows.iter().map(String::as_str).collect();
                assert_eq!(rows, held, "{query}: {statement}");
            }
            assert_eq!(ann.refetches, 0, "{query}");
            db.execute("UPDATE todos SET list_id = NULL WHERE id = 5").await;
        }
    }

    /// A membership that changes between two pages of one poll.
    async fn memberships_that_change_between_pages_show_in_the_end(db: TestDatabase) {
        let server = serve(&db).await;
        let (given, taken) = ("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')", "DELETE FROM list_members WHERE id = 5");
        for (before, between, held) in [
            (taken, given, &["1", "2", "3", "4"][..]),
            (given, taken, &["1", "2"]),
            (taken, "DELETE FROM list_members WHERE user_id = 'cleo'", &["1", "2"]),
        ] {
            let mut ann = Copy::new(http(&server, "ann"), "limit=1");
            db.execute(before).await;
            ann.get_page().await;
            db.execute(between).await;
            ann.get().await;
            db.execute("UPDATE todos SET title = title || '!'").await;
            ann.get_page().await;
            db.execute(before).await;
            ann.get_page().await;
            db.execute(between).await;
            ann.get().await;
            ann.get().await;
            assert_eq!(ann.rows.iter().map(String::as_str).collect::<Vec<_>>(), held, "{between}");
            db.execute(taken).await;
        }
    }

    async fn a_long_poll_ends_with_what_a_membership_moves(db: TestDatabase) {
        let server = serve(&db).await;
        let ann = http(&server, "ann");
        let page = ann.get("/api/sync/todos").await.json();
        let mut cursor = page["cursor"].as_str().expect("a cursor").to_owned();
        let path = format!("/api/sync/todos?cursor={cursor}&wait_ms=20000");
        let waiting = tokio::spawn(async move { ann.get(&path).await });
        eventually("the poll has begun", async || (sessions(&server).await == 1).then_some(())).await;
        db.execute("INSERT INTO notes VALUES (1, 'of no interest')").await;
        db.execute("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')").await;
        let reply = waiting.await.expect("an answer");
        let page = reply.json();
        let mut arrived: Vec<Value> = page["changes"].as_array().expect("changes").clone();
        let ann = http(&server, "ann");
        cursor = page["cursor"].as_str().expect("a cursor").to_owned();
        if arrived.is_empty() {
            let page = ann.get(&format!("/api/sync/todos?cursor={cursor}&wait_ms=20000")).await.json();
            arrived = page["changes"].as_array().expect("changes").clone();
        }
        assert_eq!(arrived.len(), 2, "{arrived:?}");
    }

    async fn a_stream_of_events_moves_rows_and_resumes(db: TestDatabase) {
        let server = serve(&db).await;
        let open = async |last: Option<&str>| {
            let url = server.http().url("/api/sync/events?entity=todos");
            let mut request = reqwest::Client::new().get(url).bearer_auth(token(&user("ann")));
            if let Some(last) = last {
                request = request.header("Last-Event-ID", last);
            }
            request.send().await.expect("a stream")
        };
        let read_until = async |response: &mut reqwest::Response, word: &str| {
            let mut text = String::new();
            while !text.contains(word) || !text.ends_with("\n\n") {
                let chunk = response.chunk().await.expect("events").expect("events");
                text.push_str(std::str::from_utf8(&chunk).expect("text"));
            }
            text
        };
        let mut stream = open(None).await;
        read_until(&mut stream, r#""type":"subscribed""#).await;
        db.execute("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')").await;
        let mut text = String::new();
        while !text.contains(r#""key":"4""#) {
            text = read_until(&mut stream, r#""type":"cursor""#).await;
        }
        assert!(text.contains(r#""key":"3""#), "{text}");
        let last = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id").to_owned();
        drop(stream);
        db.execute("DELETE FROM list_members WHERE list_id = 1").await;
        let again = read_until(&mut open(Some(&last)).await, r#""type":"subscribed""#).await;
        assert!(again.contains(r#"{"op":"leave","key":"1"}"#) && again.contains(r#"{"op":"leave","key":"2"}"#), "{again}");
        assert!(!again.contains("refetch") && !again.contains("snapshot") && !again.contains(r#""key":"3""#), "{again}");
    }
}
