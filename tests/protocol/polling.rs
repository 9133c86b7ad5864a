//! Plain HTTP: rows, changes, and long polls.

use std::collections::BTreeMap;
use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Http, HttpReply, TestDatabase, both_backends, eventually};
use uuid::Uuid;

use crate::http::push;
use crate::tables::{NOTES, TASKS, begin_another_epoch, count, insert_notes, notes};
use crate::writes::note;

const PATH: &str = "/api/sync/notes";
const PATIENCE: Duration = Duration::from_secs(20);

/// A copy that is kept by `GET` alone.
#[derive(Default)]
struct Copy {
    rows: BTreeMap<String, Value>,
    cursor: Option<String>,
    more: bool,
    /// How often each row was received.
    received: BTreeMap<String, u32>,
}

impl Copy {
    /// Gets one page and applies it.
    async fn get(&mut self, http: &Http, query: &str) -> HttpReply {
        let cursor = self
            .cursor
            .as_ref()
            .map(|cursor| format!("cursor={cursor}&"));
        let reply = http
            .get(&format!("{PATH}?{}{query}", cursor.unwrap_or_default()))
            .await;
        if reply.status == 200 {
            self.take(&reply.json());
        }
        reply
    }

    fn take(&mut self, page: &Value) {
        for row in page["rows"].as_array().into_iter().flatten() {
            self.put(row);
        }
        for change in page["changes"].as_array().into_iter().flatten() {
            match change["op"].as_str().expect("an op") {
                "put" => self.put(change),
                "delete" => {
                    let key = change["key"].as_str().expect("a key");
                    *self.received.entry(key.to_owned()).or_default() += 1;
                    self.rows.remove(key);
                }
                "truncate" => self.rows.clear(),
                other => panic!("{other}"),
            }
        }
        self.cursor = Some(page["cursor"].as_str().expect("a cursor").to_owned());
        self.more = page["more"].as_bool().expect("more");
    }

    fn put(&mut self, entry: &Value) {
        let key = entry["key"].as_str().expect("a key").to_owned();
        *self.received.entry(key.clone()).or_default() += 1;
        self.rows.insert(key, entry["row"].clone());
    }

    /// Gets pages until no more follow; returns their number.
    async fn get_all(&mut self, http: &Http, query: &str) -> u32 {
        let mut pages = 0;
        loop {
            assert_eq!(self.get(http, query).await.status, 200);
            pages += 1;
            if !self.more {
                return pages;
            }
        }
    }
}

both_backends! {
    async fn a_copy_is_kept_by_rows_and_then_changes(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        let reply = copy.get(&http, "").await;
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let page = reply.json();
        assert_eq!(
            (page.get("changes"), page["rows"].as_array().map(Vec::len)),
            (None, Some(10))
        );
        assert_eq!(copy.rows, notes(&db).await);

        let page = copy.get(&http, "").await.json();
        assert_eq!(
            (page.get("rows"), &page["changes"], &page["more"]),
            (None, &json!([]), &json!(false))
        );

        copy.received.clear();
        for text in ["one", "two"] {
            db.execute(&format!("UPDATE notes SET body = '{text}' WHERE id = 1"))
                .await;
        }
        db.execute("DELETE FROM notes WHERE id = 2").await;
        db.execute("INSERT INTO notes VALUES (11, 'new'), (12, 'passes')")
            .await;
        db.execute("DELETE FROM notes WHERE id = 12").await;
        copy.get(&http, "").await;
        assert_eq!(copy.rows, notes(&db).await);
        let received: Vec<(&str, u32)> = copy
            .received
            .iter()
            .map(|(key, times)| (key.as_str(), *times))
            .collect();
        assert_eq!(received, [("1", 1), ("11", 1), ("2", 1)]);
    }

    async fn writes_between_pages_of_rows_end_in_the_right_copy(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 100).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        let mut pages = 0;
        loop {
            copy.get(&http, "limit=7").await;
            pages += 1;
            if !copy.more {
                break;
            }
            // Keys are in the order of their texts. Some of these rows have been sent, some have not;
            // some come after the current page and some before it.
            for statement in [
                format!("DELETE FROM notes WHERE id = {pages}"),
                format!(
                    "UPDATE notes SET body = 'changed' WHERE id = {}",
                    100 - pages
                ),
                format!(
                    "INSERT INTO notes VALUES ({}, 'early'), ({}, 'late')",
                    1000 + pages,
                    9000 + pages
                ),
                format!(
                    "INSERT INTO notes VALUES ({}, 'passes'), ({}, 'passes')",
                    1500 + pages,
                    9500 + pages
                ),
            ] {
                db.execute(&statement).await;
            }
        }
        db.execute("DELETE FROM notes WHERE body = 'passes'").await;
        assert!(pages >= 100 / 7);
        copy.get_all(&http, "limit=7").await;
        assert_eq!(copy.rows, notes(&db).await);
        copy.received.clear();
        copy.get_all(&http, "limit=7").await;
        assert_eq!(copy.received.len(), 0);
    }

    /// The row was on a page and is deleted before the next call.
    async fn a_row_created_and_deleted_between_pages_is_removed(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 5).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        copy.get(&http, "limit=3").await;
        db.execute("INSERT INTO notes VALUES (9, 'passes')").await;
        copy.get_all(&http, "limit=3").await;
        assert!(copy.rows.contains_key("9"));
        db.execute("DELETE FROM notes WHERE id = 9").await;
        copy.get_all(&http, "limit=3").await;
        assert_eq!(copy.rows, notes(&db).await);
    }

    async fn writes_between_pages_of_changes_end_in_the_right_copy(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 50).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        copy.get(&http, "").await;
        copy.received.clear();
        db.execute("UPDATE notes SET body = 'first' WHERE id <= 30")
            .await;
        insert_notes(&db, 101, 130).await;
        let mut pages = 0;
        loop {
            copy.get(&http, "limit=7").await;
            pages += 1;
            if !copy.more {
                break;
            }
            if pages <= 5 {
                // A row that was sent, one that was not, a new one, and one that is deleted.
                db.execute(&format!(
                    "UPDATE notes SET body = 'again' WHERE id = {pages}"
                ))
                .await;
                db.execute(&format!(
                    "UPDATE notes SET body = 'late' WHERE id = {}",
                    130 - pages
                ))
                .await;
                db.execute(&format!(
                    "INSERT INTO notes VALUES ({}, 'new')",
                    200 + pages
                ))
                .await;
                db.execute(&format!("DELETE FROM notes WHERE id = {}", 100 + pages))
                    .await;
            }
        }
        copy.get_all(&http, "limit=7").await;
        assert_eq!(copy.rows, notes(&db).await);
        // A row that did not change again was sent once.
        assert!(
            (6..=30).all(|id| copy.received[&id.to_string()] == 1),
            "{:?}",
            copy.received
        );
        assert!((31..=50).all(|id| !copy.received.contains_key(&id.to_string())));
    }

    /// A new row was on one page and is deleted before the next.
    async fn a_new_row_deleted_between_pages_of_changes_is_removed(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        copy.get(&http, "").await;
        insert_notes(&db, 1, 5).await;
        copy.get(&http, "limit=2").await;
        assert!(copy.more && copy.rows.len() == 2);
        let known = copy.rows.keys().next().expect("a row").clone();
        db.execute(&format!("DELETE FROM notes WHERE id = {known}"))
            .await;
        copy.get_all(&http, "limit=2").await;
        assert_eq!(copy.rows, notes(&db).await);
    }

    async fn the_limit_of_a_page_is_bounded(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 6).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        for (query, pages) in [
            ("limit=0", 6),
            ("limit=1", 6),
            ("limit=5", 2),
            ("limit=6", 1),
            ("limit=99999999", 1),
        ] {
            let mut copy = Copy::default();
            assert_eq!(copy.get_all(&http, query).await, pages, "{query}");
            assert_eq!(copy.rows, notes(&db).await);
        }
        for query in [
            "limit=-1",
            "limit=many",
            "limit=99999999999999999999999",
            "wait_ms=soon",
            "wait_ms=-1",
        ] {
            let reply = http.get(&format!("{PATH}?{query}")).await;
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (400, &json!("protocol")),
                "{query}"
            );
        }
    }

    async fn a_long_poll_is_woken_by_a_write(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        insert_notes(&db, 1, 3).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        copy.get(&http, "").await;
        for id in 10..15 {
            // The answer holds the write, whether it comes before the request or after it.
            let (_, ()) = tokio::join!(copy.get(&http, "wait_ms=60000"), async {
                db.execute(&format!(
                    "INSERT INTO tasks VALUES ({id}, 'of no interest')"
                ))
                .await;
                db.execute(&format!("INSERT INTO notes VALUES ({id}, 'wakes')"))
                    .await;
            });
            assert!(copy.rows.contains_key(&id.to_string()));
        }
        assert_eq!(copy.rows, notes(&db).await);
        // No session remains in the hub.
        let status = server.http().get("/api/sync/status").await.json();
        assert_eq!(
            (&status["sessions"], &status["shapes"]),
            (&json!(0), &json!([]))
        );
    }

    async fn a_long_poll_without_changes_ends(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        copy.get(&http, "wait_ms=60000").await;
        let page = copy.get(&http, "wait_ms=30").await.json();
        assert_eq!(
            (&page["changes"], &page["more"]),
            (&json!([]), &json!(false))
        );
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        copy.get(&http, "").await;
        assert_eq!(copy.rows, notes(&db).await);
    }

    async fn a_long_poll_ends_with_the_engine(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        copy.get(&http, "").await;
        let cursor = copy.cursor.clone().expect("a cursor");
        let (reply, ()) =
            tokio::join!(copy.get(&http, "wait_ms=60000"), server.engine().shutdown());
        assert!(matches!(reply.status, 200 | 503), "{reply:?}");
        assert_eq!(
            http.get(&format!("{PATH}?cursor={cursor}&wait_ms=60000"))
                .await
                .status,
            reply.status
        );
    }

    async fn invalid_cursors_must_refetch(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 20).await;
        let elsewhere = TestDatabase::new(db.backend()).await;
        elsewhere.execute(NOTES).await;
        let foreign = TestServer::start(&elsewhere, ["notes"]).await;
        let foreign = foreign.http().get(PATH).await.json()["cursor"]
            .as_str()
            .expect("text")
            .to_owned();
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let page = http.get(&format!("{PATH}?limit=3")).await.json();
        let token = page["cursor"].as_str().expect("text");
        let (since, _) = token.split_once('.').unwrap_or((token, ""));
        for cursor in [
            "",
            "garbage",
            "%00",
            "a.b.c",
            &foreign,
            &format!("{since}."),
            &format!("{since}.k!"),
            &format!("{since}.x"),
            &format!("{since}.c"),
            &format!("{since}.cAAAA"),
        ] {
            let reply = http.get(&format!("{PATH}?cursor={cursor}")).await;
            let body = reply.json();
            let found = (reply.status, &body["code"], &body["reason"]);
            assert_eq!(found, (409, &json!("refetch"), &json!("epoch")), "{cursor}");
        }
        // A key in a page token is only compared.
        let quoted = format!("{since}.k{}", "Jyk7IERST1AgVEFCTEUgbm90ZXM7IC0t");
        assert_eq!(
            http.get(&format!("{PATH}?cursor={quoted}&limit=3"))
                .await
                .status,
            200
        );
        assert_eq!(count(&db, "notes").await, 20);
    }

    async fn an_expired_cursor_must_refetch(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 3).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let mut copy = Copy::default();
        copy.get(&http, "").await;
        db.execute("DELETE FROM notes WHERE id = 1").await;
        let tracker = server.engine().change_tracker();
        tracker
            .cleanup_older_than(Duration::ZERO)
            .await
            .expect("the log is cleaned up");
        let reply = copy.get(&http, "wait_ms=60000").await;
        let body = reply.json();
        let found = (reply.status, &body["code"], &body["reason"]);
        assert_eq!(found, (409, &json!("refetch"), &json!("expired")));
        let mut copy = Copy::default();
        copy.get(&http, "").await;
        assert_eq!(copy.rows, notes(&db).await);
    }

    /// A read sees what was acked before it. Whose mutation it was is not told: a poll does not say who asks.
    async fn a_poll_after_an_ack_holds_the_write(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let me = Uuid::new_v4();
        let mut copy = Copy::default();
        copy.get(&http, "").await;
        for id in 1..=20 {
            let reply = http
                .post(PATH, &push(me, id, &json!([note(id, "mine")])))
                .await;
            assert_eq!(reply.status, 200);
            let page = copy.get(&http, "").await.json();
            let change = json!({
                "op": "put", "key": id.to_string(), "row": { "id": id, "body": "mine" },
            });
            assert_eq!(page["changes"], json!([change]));
        }
    }
}

/// The database is restored to another state during a long poll: the poll ends, and the next one must
/// refetch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_with_the_epoch() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let server = TestServer::start(&db, ["notes"]).await;
    let http = server.http();
    let mut copy = Copy::default();
    copy.get(&http, "").await;
    let (reply, ()) = tokio::join!(
        tokio::time::timeout(PATIENCE, copy.get(&http, "wait_ms=60000")),
        async {
            eventually("the poll waits", || async {
                let status = http.get("/api/sync/status").await.json();
                (status["sessions"] == 1).then_some(())
            })
            .await;
            begin_another_epoch(&db).await;
        }
    );
    // 503 when the poll's own read failed.
    let status = reply.expect("the server hangs").status;
    assert!([200, 503].contains(&status), "{status}");
    let reply = copy.get(&http, "wait_ms=60000").await;
    let body = reply.json();
    let found = (reply.status, &body["code"], &body["reason"]);
    assert_eq!(found, (409, &json!("refetch"), &json!("epoch")));
}
