//! What reads may cost: pages, waiting requests, resumes, and what one connection may send.

use rhtmx_sync::EntityConfig;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, both_backends, eventually};

use crate::tables::{NOTES, insert_notes, notes};

const PATH: &str = "/api/sync/notes";

both_backends! {
    async fn a_page_without_a_limit_is_bounded_in_rows_and_bytes(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 25).await;
        for (rows_max, bytes_max) in [(10, 1_000_000), (1_000, 100), (1_000, 1)] {
            let mut config = TestServer::config(&db, ["notes"]).await;
            config.reads.page_rows_max = rows_max;
            config.reads.page_bytes_max = bytes_max;
            let server = TestServer::with_config(config).await;
            let http = server.http();
            let (mut path, mut seen, mut pages) = (PATH.to_owned(), 0, 0);
            loop {
                let page = http.get(&path).await.json();
                let rows = page["rows"].as_array().expect("rows");
                assert!(rows.len() <= rows_max && !rows.is_empty());
                assert!(rows.len() == 1 || json!(rows).to_string().len() < bytes_max + 1_000);
                seen += rows.len();
                pages += 1;
                if page["more"] == false {
                    break;
                }
                path = format!("{PATH}?cursor={}", page["cursor"].as_str().expect("a cursor"));
            }
            assert_eq!(seen, 25);
            assert!(pages > 2, "{pages}");
            server.shutdown().await;
        }
    }

    /// In pieces, a small page would wait for the client's acknowledgement of the first piece.
    async fn a_small_page_is_sent_whole_and_a_large_one_in_pieces(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        insert_notes(&db, 1, 25).await;
        let small = http.get(PATH).await;
        assert_eq!(small.header("content-length"), Some(small.text.len().to_string().as_str()));
        insert_notes(&db, 26, 5_000).await;
        let large = http.get(PATH).await;
        assert_eq!(large.header("content-length"), None);
        assert_eq!(large.json()["rows"].as_array().expect("rows").len(), 5_000);
    }

    async fn pages_of_changes_are_bounded_and_end_with_the_present(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.reads.page_rows_max = 10;
        let server = TestServer::with_config(config).await;
        let http = server.http();
        let mut page = http.get(PATH).await.json();
        insert_notes(&db, 1, 35).await;
        let (mut keys, mut pages) = (std::collections::BTreeSet::new(), 0);
        loop {
            let cursor = page["cursor"].as_str().expect("a cursor").to_owned();
            page = http.get(&format!("{PATH}?cursor={cursor}")).await.json();
            let changes = page["changes"].as_array().expect("changes");
            assert!(changes.len() <= 10);
            for change in changes {
                let key = change["key"].as_str().expect("a key").to_owned();
                match change["op"].as_str() {
                    Some("put") => keys.insert(key),
                    _ => keys.remove(&key),
                };
            }
            pages += 1;
            if pages == 1 {
                // A page that is asked for again, because its answer was lost, is read again.
                let again = http.get(&format!("{PATH}?cursor={cursor}")).await.json();
                assert_eq!(again["changes"], page["changes"]);
                db.execute("DELETE FROM notes WHERE id IN (1, 35)").await;
                db.execute("INSERT INTO notes VALUES (36, 'late')").await;
            }
            if page["more"] == false {
                break;
            }
        }
        let expected: std::collections::BTreeSet<String> = notes(&db).await.into_keys().collect();
        assert_eq!(keys, expected);
    }

    async fn an_unknown_parameter_is_an_error_and_no_other_filter(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 3).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        for query in ["WHERE=id%3D1", "filter=x", "limit=1&limit=2", "where=id%3D1&_=5"] {
            let reply = http.get(&format!("{PATH}?{query}")).await;
            assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("protocol")), "{query}");
            let reply = http.get(&format!("/api/sync/events?entity=notes&{query}")).await;
            assert_eq!(reply.status, 400, "{query}");
        }
    }

    async fn more_long_polls_than_may_wait_are_refused(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.reads.long_polls_max = 1;
        let server = TestServer::with_config(config).await;
        let http = server.http();
        let cursor = http.get(PATH).await.json()["cursor"].as_str().expect("a cursor").to_owned();
        let path = format!("{PATH}?wait_ms=30000&cursor={cursor}");
        let (waiting, first) = (http.clone(), path.clone());
        let poll = tokio::spawn(async move { waiting.get(&first).await });
        let waits = async || {
            let status = http.get("/api/sync/status").await.json();
            (status["sessions"] == 1).then_some(())
        };
        eventually("the poll waits", waits).await;
        let refused = http.get(&path).await;
        let answer = refused.json();
        assert_eq!((refused.status, &answer["code"]), (429, &json!("rate_limited")));
        assert_eq!((&answer["retry_after_ms"], refused.header("retry-after")), (&json!(5000), Some("5")));
        db.execute("INSERT INTO notes VALUES (1, 'new')").await;
        let page = poll.await.expect("no panic").json();
        assert_eq!(page["changes"][0]["key"], "1");
    }

    async fn a_connection_that_sends_without_end_is_slowed_and_then_closed(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.frames_per_second = 20;
        config.limits.stalled_timeout_ms = 200;
        let server = TestServer::with_config(config).await;
        let mut honest = server.connect().await;
        honest.subscribe("a", "notes").await;
        honest.wait_subscribed("a").await;
        let mut flood = server.connect().await;
        for _ in 0..200 {
            flood.send_text(r#"{"type":"ping"}"#).await;
        }
        let error = flood.wait_for(|frame| frame["type"] == "error").await;
        assert_eq!((&error["code"], &error["fatal"]), (&json!("rate_limited"), &json!(true)));
        assert_eq!(flood.close_code().await, 4429);
        db.execute("INSERT INTO notes VALUES (1, 'new')").await;
        honest.wait_until(|client| client.row("a", "1").is_some()).await;
    }

    async fn a_resume_over_more_entries_than_rows_is_a_refetch(db: TestDatabase) {
        // SQLite has no cheap estimate of a table's size, so there only the bound counts.
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        if db.backend() == Backend::Sqlite {
            config.reads.resume_entries_max = 10_000;
        }
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        let cursor = client.subscription("a").cursor().expect("a cursor").to_owned();
        drop(client);
        for round in 0..1_200 {
            db.execute(&format!("UPDATE notes SET body = 'round {round}'")).await;
        }
        let mut client = server.connect().await;
        client.resume("a", "notes", &cursor).await;
        client.wait_subscribed("a").await;
        assert_eq!((client.frames("refetch"), client.frames("changes")), (1, 0));
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    async fn only_names_of_this_server_are_answered(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 1).await;
        let client = reqwest::Client::new();
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.auth.allowed_hosts = vec!["app.example".to_owned()];
        config.auth.allowed_origins = vec!["https://pages.example".to_owned()];
        let server = TestServer::with_config(config).await;
        let url = server.http().url(PATH);
        let get = async |headers: &[(&str, &str)]| {
            let request = headers.iter().fold(client.get(&url), |request, (name, value)| {
                request.header(*name, *value)
            });
            request.send().await.expect("an answer")
        };
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example"] {
            assert_eq!(get(&[("host", host)]).await.status(), 403, "{host}");
            let origin = format!("http://{host}");
            let rebound = get(&[("host", host), ("origin", &origin)]).await;
            assert_eq!(rebound.status(), 403, "{host}");
        }
        for host in ["app.example", "localhost:1", "127.0.0.1", "[::1]:80", "pages.example"] {
            assert_eq!(get(&[("host", host)]).await.status(), 200, "{host}");
        }
        // Browsers that came over HTTPS cannot have been deceived about the name.
        let secure = [("host", "other.example"), ("origin", "https://other.example")];
        assert_eq!(get(&secure).await.status(), 200);

        let allowed = get(&[("origin", "https://pages.example")]).await;
        let origin = allowed.headers().get("access-control-allow-origin");
        assert_eq!(origin.expect("CORS"), "https://pages.example");
        let preflight = client
            .request(reqwest::Method::OPTIONS, &url)
            .header("origin", "https://pages.example")
            .header("access-control-request-method", "POST");
        let preflight = preflight.send().await.expect("an answer");
        assert_eq!(preflight.status(), 204);
        // Cookies are never sent on behalf of another page, and an origin that is not allowed is told nothing.
        let other = get(&[("origin", "https://evil.example")]).await;
        for answer in [&allowed, &preflight, &other] {
            assert!(!answer.headers().contains_key("access-control-allow-credentials"));
        }
        assert!(!other.headers().contains_key("access-control-allow-origin"));
        assert!(preflight.headers().contains_key("access-control-allow-methods"));
    }

    async fn origins_that_no_browser_sends_are_refused_at_the_start(db: TestDatabase) {
        db.execute(NOTES).await;
        for origin in ["*", "https://*.example", "https://app.example/", "app.example"] {
            let mut config = TestServer::config(&db, ["notes"]).await;
            config.auth.allowed_origins = vec![origin.to_owned()];
            let error = TestServer::try_with_config(config).await.expect_err(origin).to_string();
            assert!(error.contains("allowed_origins"), "{error}");
        }
    }
}

/// The connections to PostgreSQL that read a table for a client.
async fn readers(db: &testkit::TestDatabase) -> Vec<Option<String>> {
    db.query_text(
        "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() \
         AND query LIKE '%UNION ALL SELECT NULL, NULL, NULL, key, row%' AND pid <> pg_backend_pid()",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_nobody_waits_for_ends_on_the_database() {
    let db = testkit::TestDatabase::postgres().await;
    db.execute(&format!(
        "{NOTES}; INSERT INTO notes SELECT g, repeat('x', 1000) FROM generate_series(1, 100000) g"
    ))
    .await;
    let mut config = TestServer::config(&db, vec![EntityConfig::new("notes")]).await;
    // Nothing is kept for a client that does not read, so its read waits in the middle.
    config.reads.spool_memory_bytes_max = 0;
    config.reads.spool_bytes_max = 1;
    let server = TestServer::with_config(config).await;
    let mut client = server.connect().await;
    client.subscribe("a", "notes").await;
    client.wait_for(|frame| frame["type"] == "snapshot").await;
    let reads = async || Some(readers(&db).await).filter(|pids| pids.len() == 1);
    eventually("the read runs", reads).await;
    drop(client);
    // The connection is closed: in the pool it would still show its last statement.
    let ended = async || readers(&db).await.is_empty().then_some(());
    eventually("the read has ended", ended).await;
    let mut other = server.connect().await;
    other
        .subscribe_with("b", json!({ "entity": "notes", "where": "id = 1" }))
        .await;
    other.wait_subscribed("b").await;
    assert_eq!(
        other.row("b", "1").map(|row| row["id"].clone()),
        Some(Value::from(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_locked_table_leave_turns_to_the_others() {
    let db = testkit::TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {}", crate::tables::TASKS))
        .await;
    insert_notes(&db, 1, 1).await;
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let locked = db.connect_postgres().await;
    locked
        .batch_execute("BEGIN; LOCK TABLE notes")
        .await
        .expect("the lock");
    let mut waiting = Vec::new();
    for _ in 0..12 {
        let mut client = server.connect().await;
        client.subscribe("locked", "notes").await;
        client.subscribe("free", "tasks").await;
        waiting.push(client);
    }
    // Its own clients too: one subscription does not wait for another.
    for client in &mut waiting {
        client.wait_subscribed("free").await;
    }
    let told = waiting[0].wait_for(|frame| frame["type"] == "error").await;
    assert_eq!(
        (&told["code"], &told["id"]),
        (&json!("unavailable"), &json!("locked"))
    );
    locked.batch_execute("COMMIT").await.expect("the commit");
    for client in &mut waiting {
        client.wait_subscribed("locked").await;
        assert_eq!(client.rows("locked").len(), 1);
    }
}
