//! Server-sent events: the same frames, with the cursor as their id.

use std::collections::VecDeque;
use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, TestDatabase, both_backends};

use crate::tables::{NOTES, TASKS, insert_notes};

const PATIENCE: Duration = Duration::from_secs(20);

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) frame: Value,
}

/// A browser's `EventSource`, by the rules of the HTML standard, section 9.2.6.
pub(crate) struct Events {
    response: reqwest::Response,
    unread: Vec<u8>,
    ready: VecDeque<Event>,
    id: Option<String>,
    data: Vec<String>,
    /// Comment lines, by which the server detects a closed connection.
    comments: u32,
}

impl Events {
    pub(crate) async fn open(
        server: &TestServer,
        query: &str,
        last_event_id: Option<&str>,
    ) -> Self {
        let url = server.http().url(&format!("/api/sync/events?{query}"));
        let mut request = reqwest::Client::new().get(url);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let (unread, ready, data) = (Vec::new(), VecDeque::new(), Vec::new());
        Self {
            response,
            unread,
            ready,
            id: None,
            data,
            comments: 0,
        }
    }

    /// The next event; none at the end of the stream.
    async fn try_next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.read().await?;
        }
    }

    /// Reads what has arrived; none at the end of the stream.
    async fn read(&mut self) -> Option<()> {
        let chunk = tokio::time::timeout(PATIENCE, self.response.chunk());
        let chunk = chunk
            .await
            .expect("the server hangs")
            .expect("the connection broke")?;
        self.unread.extend_from_slice(&chunk);
        while let Some(end) = self
            .unread
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
        {
            let mut line: Vec<u8> = self.unread.drain(..=end).collect();
            line.pop();
            self.line(std::str::from_utf8(&line).expect("text"));
        }
        Some(())
    }

    async fn next(&mut self) -> Event {
        self.try_next().await.expect("an event")
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data).join("\n");
            let id = self.id.take();
            if !data.is_empty() {
                let frame =
                    serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
                self.ready.push_back(Event { id, frame });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "data" => self.data.push(value.to_owned()),
            "" => self.comments += 1,
            other => panic!("a field {other:?}"),
        }
    }

    /// Waits for this many heartbeats: a clock that ticks with the server.
    pub(crate) async fn heartbeats(&mut self, count: u32) {
        let enough = self.comments + count;
        while self.comments < enough {
            self.read().await.expect("the stream stays open");
        }
    }

    /// The events up to the first of this type.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let found = event.frame["type"] == kind;
            events.push(event);
            if found {
                return events;
            }
        }
    }
}

both_backends! {
    async fn the_cursor_is_the_id_of_an_event(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 2000).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut events = Events::open(&server, "entity=notes", None).await;
        let joined = events.until("subscribed").await;
        let (subscribed, pages) = joined.split_last().expect("events");
        assert!(pages.len() > 1);
        assert!(
            pages
                .iter()
                .all(|page| page.frame["type"] == "snapshot" && page.id.is_none())
        );
        let rows: usize = pages
            .iter()
            .map(|page| page.frame["rows"].as_array().expect("rows").len())
            .sum();
        assert_eq!(rows, 2000);
        assert_eq!(
            (&subscribed.frame["id"], subscribed.id.as_deref()),
            (&json!("notes"), subscribed.frame["cursor"].as_str())
        );

        let body = "two\nlines\rand \"more\"";
        db.execute(&format!("INSERT INTO notes VALUES (5000, '{body}')"))
            .await;
        let live = events.until("cursor").await;
        assert_eq!((live.len(), live[0].id.clone()), (2, None));
        let put = json!({ "op": "put", "key": "5000", "row": { "id": 5000, "body": body } });
        assert_eq!(
            live[0].frame,
            json!({ "type": "changes", "shape": "notes", "changes": [put] })
        );
        assert_eq!(live[1].id.as_deref(), live[1].frame["cursor"].as_str());
    }

    async fn a_stream_resumes_after_the_last_event_id(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut events = Events::open(&server, "entity=notes", None).await;
        let first = events
            .until("subscribed")
            .await
            .pop()
            .and_then(|event| event.id)
            .expect("an id");
        db.execute("UPDATE notes SET body = 'x' WHERE id = 1").await;
        let second = events
            .until("cursor")
            .await
            .pop()
            .and_then(|event| event.id)
            .expect("an id");
        drop(events);
        db.execute("UPDATE notes SET body = 'y' WHERE id = 2").await;

        // The header takes precedence: a browser reconnects with its original URL.
        let query = format!("entity=notes&cursor={first}");
        for (header, keys) in [(None, vec!["1", "2"]), (Some(second.as_str()), vec!["2"])] {
            let mut events = Events::open(&server, &query, header).await;
            let joined = events.until("subscribed").await;
            let changes: Vec<&Value> = joined
                .iter()
                .filter_map(|event| event.frame["changes"].as_array())
                .flatten()
                .collect();
            let found: Vec<&str> = changes
                .iter()
                .map(|change| change["key"].as_str().expect("a key"))
                .collect();
            assert_eq!(found, keys);
            assert!(joined.iter().all(|event| event.frame["type"] != "snapshot"));
        }
        let mut events = Events::open(&server, "entity=notes", Some("garbage")).await;
        let refetch = events.next().await;
        assert_eq!(
            (&refetch.frame["type"], &refetch.frame["reason"]),
            (&json!("refetch"), &json!("epoch"))
        );
        events.until("subscribed").await;
    }

    async fn invalid_streams_are_answered_with_a_status(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        for (query, status, code) in [
            ("", 400, "protocol"),
            ("entity=tasks", 404, "unknown_entity"),
            ("entity=notes%22%3B--", 404, "unknown_entity"),
            ("entity=notes&where=nothing%3D1", 400, "bad_filter"),
            ("entity=notes&params=%5B1%5D", 400, "bad_filter"),
            ("entity=notes&columns=nothing", 400, "bad_filter"),
        ] {
            let reply = http.get(&format!("/api/sync/events?{query}")).await;
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (status, &json!(code)),
                "{query}"
            );
        }
        let request = reqwest::Client::new().get(http.url("/api/sync/events?entity=notes"));
        let response = request
            .header("Origin", "https://evil.example")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status().as_u16(), 403);
        let status = http.get("/api/sync/status").await.json();
        assert_eq!(status["sessions"], 0);
    }

    async fn a_stream_ends_with_the_engine(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut events = Events::open(&server, "entity=notes", None).await;
        events.until("subscribed").await;
        server.engine().shutdown().await;
        assert_eq!(events.try_next().await, None);
        assert_eq!(
            server
                .http()
                .get("/api/sync/events?entity=notes")
                .await
                .status,
            503
        );
    }

    /// A stream of events cannot answer pings, so no answer is expected.
    async fn a_quiet_stream_stays_open(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.heartbeat_ms = 20;
        let server = TestServer::with_config(config).await;
        let mut events = Events::open(&server, "entity=notes", None).await;
        events.until("subscribed").await;
        events.heartbeats(10).await;
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        assert_eq!(
            events
                .until("changes")
                .await
                .pop()
                .map(|event| event.frame["changes"][0]["key"].clone()),
            Some(json!("1"))
        );
    }

    /// A slow reader receives each row as it is by then.
    async fn a_slow_stream_loses_nothing(db: TestDatabase) {
        const TIMES: u64 = 600;
        db.execute(NOTES).await;
        insert_notes(&db, 1, 2).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.queue_batches_max = 4;
        let server = TestServer::with_config(config).await;
        let mut slow = Events::open(&server, "entity=notes", None).await;
        slow.until("subscribed").await;
        let mut fast = server.connect().await;
        fast.subscribe("a", "notes").await;
        fast.wait_subscribed("a").await;
        for number in 1..=TIMES {
            let body = format!("{number} {}", "x".repeat(32 * 1024));
            db.execute(&format!("UPDATE notes SET body = '{body}' WHERE id = 1"))
                .await;
            fast.wait_until(|client| client.row("a", "1").is_some_and(|row| row["body"] == body))
                .await;
        }
        db.execute("DELETE FROM notes WHERE id = 2").await;
        let mut received = 0;
        loop {
            let event = slow.next().await;
            let changes = event.frame["changes"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            received += changes
                .iter()
                .filter(|change| change["op"] == "put")
                .count() as u64;
            if changes
                .iter()
                .any(|change| change["op"] == "delete" && change["key"] == "2")
            {
                break;
            }
        }
        slow.until("cursor").await;
        assert!(received < TIMES, "{received}");
    }

    async fn a_closed_stream_leaves_the_hub(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut events = Events::open(&server, "entity=notes", None).await;
        events.until("subscribed").await;
        let http = server.http();
        assert_eq!(http.get("/api/sync/status").await.json()["sessions"], 1);
        drop(events);
        testkit::eventually("the session ends", || async {
            (http.get("/api/sync/status").await.json()["sessions"] == 0).then_some(())
        })
        .await;
    }
}

/// A `json` column keeps its text as written, with its line breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_breaks_in_json_do_not_break_an_event() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute("CREATE TABLE docs (id integer PRIMARY KEY, doc json)")
        .await;
    let server = TestServer::start(&db, ["docs"]).await;
    let mut events = Events::open(&server, "entity=docs", None).await;
    events.until("subscribed").await;
    db.execute("INSERT INTO docs VALUES (1, E'{\"a\":\\n1,\\r\\n\\r\"b\":\\r2}')")
        .await;
    let live = events.until("cursor").await;
    let row = json!({ "id": 1, "doc": { "a": 1, "b": 2 } });
    assert_eq!(live[0].frame["changes"][0]["row"], row);
}
