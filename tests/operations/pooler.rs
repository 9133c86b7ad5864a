//! Engines behind a pooler that gives a database session to each transaction.

use diesel::sql_query;
use rhtmx_sync::{DatabaseConfig, DbPool, Refusal, SyncConfig, SyncEngine};
use rhtmx_sync_tests::{Pooler, TestServer};
use serde_json::json;
use testkit::{ClientOptions, Http, ServerProcess, SyncClient, TestDatabase, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::engines::status;
use crate::writers::{NOTES, insert};

/// Few sessions, so that everybody gets one that somebody else has just had.
const IN_TRANSACTIONS: [&str; 2] = ["pool_mode = transaction", "default_pool_size = 3"];

/// What somebody else left behind in a session, as far as a stranger could notice.
const LEFT_BEHIND: &str = "\
SELECT 'prepared: ' || statement FROM pg_prepared_statements WHERE name NOT LIKE 'PGBOUNCER\\_%' \
UNION ALL SELECT 'setting: ' || name || ' = ' || setting FROM pg_settings WHERE source = 'session' \
    AND name NOT IN ('application_name', 'client_encoding') AND name NOT LIKE 'transaction\\_%' \
UNION ALL SELECT 'listens: ' || pg_listening_channels() \
UNION ALL SELECT 'table: ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() \
UNION ALL SELECT 'lock: ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";

/// The pooler with each manner of treating prepared statements that the installed one has.
async fn poolers(db: &TestDatabase, settings: &[&str]) -> Vec<Pooler> {
    let start = async |more: &[&str]| Pooler::start(&db.url(), &[settings, more].concat()).await;
    let first = match start(&[]).await {
        Ok(first) if first.follows_statements() => start(&["max_prepared_statements = 0"]).await,
        first => first,
    };
    let first = match first {
        Ok(first) => first,
        Err(why) => {
            println!("NOT TESTED, no pooler: {why}");
            return Vec::new();
        }
    };
    if !first.follows_statements() {
        println!("NOT TESTED, a pooler that follows prepared statements: it is too old");
        return vec![first];
    }
    let second = start(&["max_prepared_statements = 200"]).await;
    vec![first, second.expect("the same pooler")]
}

/// An application's connection through the pooler.
async fn stranger(pooler: &Pooler) -> Client {
    let connected = tokio_postgres::connect(pooler.url(), NoTls).await;
    let (client, connection) = connected.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn nothing_is_left_behind(pooler: &Pooler) {
    let strangers = [
        stranger(pooler).await,
        stranger(pooler).await,
        stranger(pooler).await,
    ];
    // In transactions at the same time, so that they have all the sessions.
    for stranger in &strangers {
        stranger.batch_execute("BEGIN").await.expect("a session");
    }
    for stranger in &strangers {
        let left = stranger.simple_query(LEFT_BEHIND).await.expect("rows");
        let left: Vec<&str> = left
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        assert_eq!(left, Vec::<&str>::new());
    }
}

async fn serve(db: &TestDatabase, pooler: &Pooler) -> ServerProcess {
    let settings = [
        ("DATABASE_URL", pooler.url().to_owned()),
        ("RHTMX_SYNC_DATABASE_LISTEN_URL", db.url()),
    ];
    ServerProcess::spawn(["--bind", "127.0.0.1:0", "--entity", "notes"], settings).await
}

/// Reads, resumes, writes, rejects and status of one server, and of another beside it whose statements have the same
/// names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_work_behind_a_pooler_in_transaction_mode() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    db.execute(&insert(0..100)).await;
    for pooler in poolers(&db, &IN_TRANSACTIONS).await {
        db.execute("DELETE FROM notes WHERE id >= 100").await;
        let servers = [serve(&db, &pooler).await, serve(&db, &pooler).await];
        for server in &servers {
            let status = status(&Http::new(server.base_url())).await;
            assert_eq!(
                (&status["pooling"], &status["wake_up"]),
                (&json!("transaction"), &json!("notify"))
            );
        }
        let serving = servers.iter().enumerate().map(async |(at, server)| {
            for round in 0..10_u32 {
                let id = 100 + 20 * round + 2 * u32::try_from(at).expect("a few");
                let mut client =
                    SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
                client.subscribe("notes", "notes").await;
                client.wait_subscribed("notes").await;
                let note = |id: u32, body| json!([{ "entity": "notes", "op": "create", "values": { "id": id, "body": body } }]);
                client.push_next(note(id, json!("a"))).await.acked();
                let refused = client.push_next(note(id + 1, json!(null))).await;
                assert_eq!(refused.rejected().column.as_deref(), Some("body"));
                let refused = client.push_next(note(id, json!("again"))).await;
                assert_eq!(refused.rejected().code, "exists");
                let state = client.into_state();
                db.execute(&format!("UPDATE notes SET body = 'b' WHERE id = {id}"))
                    .await;
                let mut client =
                    SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
                client.wait_subscribed("notes").await;
                client
                    .wait_until(|client| {
                        client.row("notes", &id.to_string())
                            == Some(&json!({ "id": id, "body": "b" }))
                    })
                    .await;
                let page = Http::new(server.base_url())
                    .get("/api/sync/notes?limit=7")
                    .await;
                assert_eq!(page.status, 200, "{}", page.text);
            }
        });
        futures_util::future::join_all(serving).await;
        nothing_is_left_behind(&pooler).await;
        for server in servers {
            let output = server.terminate().await.output;
            let failed = output.lines().filter(|line| {
                (line.contains("WARN") || line.contains("ERROR")) && !line.contains("superuser")
            });
            assert_eq!(failed.count(), 0, "{output}");
        }
    }
}

/// Without a direct address the engine polls, and everything else is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_with_nothing_but_a_pooler_polls() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    for pooler in poolers(&db, &IN_TRANSACTIONS).await {
        db.execute("TRUNCATE notes").await;
        let pool = DbPool::from_url(pooler.url()).await.expect("a pool");
        let server = TestServer::with_config(SyncConfig::new(pool.clone(), vec!["notes"])).await;
        let mut client = server.connect().await;
        client.subscribe("notes", "notes").await;
        client.wait_subscribed("notes").await;
        let status = status(&server.http()).await;
        assert_eq!(
            (&status["pooling"], &status["wake_up"]),
            (&json!("transaction"), &json!("polling"))
        );
        db.execute("INSERT INTO notes VALUES (1, 'a')").await;
        client
            .wait_until(|client| client.row("notes", "1").is_some())
            .await;
        db.execute("ALTER TABLE notes ADD COLUMN more text").await;
        eventually("the new column is seen", async || {
            let page = server.http().get("/api/sync/notes").await.json();
            page["rows"][0]["row"].get("more").is_some().then_some(())
        })
        .await;
        db.execute("ALTER TABLE notes DROP COLUMN more").await;
        drop(client);
        nothing_is_left_behind(&pooler).await;
        server.shutdown().await;
        let removed = SyncEngine::uncapture(&pool, None).await.expect("removed");
        assert_eq!(removed, ["notes"]);
        nothing_is_left_behind(&pooler).await;
    }
}

/// Reads that nobody waits for any more are cancelled, each on a connection that the pooler closes, not the engine: some
/// versions end when the client goes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_waits_for_the_pooler() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let fill = "INSERT INTO notes SELECT n, repeat('a', 2000) FROM generate_series(1, 9000) n";
    db.execute(fill).await;
    for pooler in poolers(&db, &IN_TRANSACTIONS).await {
        let pool = DbPool::from_url(pooler.url()).await.expect("a pool");
        let server = TestServer::with_config(SyncConfig::new(pool, vec!["notes"])).await;
        let url = server.http().url("/api/sync/notes?limit=9000");
        let address = url.strip_prefix("http://").expect("a URL").to_owned();
        let (host, path) = address.split_once('/').expect("a path");
        for cancelled in 1..=5 {
            let mut given_up = TcpStream::connect(host).await.expect("the server");
            let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let sent = given_up.write_all(request.as_bytes()).await;
            sent.expect("a request");
            given_up
                .read_u8()
                .await
                .expect("the beginning of an answer");
            drop(given_up);
            // Whether the statement still runs by then or not.
            eventually("the statement is cancelled", async || {
                let log = pooler.log();
                let ended = log
                    .lines()
                    .filter(|line| line.contains("(nouser)") && line.contains("closing because"));
                (ended.count() >= cancelled).then_some(())
            })
            .await;
        }
        let log = pooler.log();
        let gone_first = log
            .lines()
            .filter(|line| line.contains("(nouser)") && line.contains("client unexpected eof"));
        assert_eq!(gone_first.count(), 0, "{log}");
        server.shutdown().await;
    }
}

/// A mutator's transaction has a session for as long as it lasts; what it sets there is gone with it, however it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutators_work_behind_a_pooler_in_transaction_mode() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    for pooler in poolers(&db, &IN_TRANSACTIONS).await {
        db.execute("TRUNCATE notes").await;
        let pool = DbPool::from_url(pooler.url()).await.expect("a pool");
        let mut config = SyncConfig::new(pool, vec!["notes"]);
        config.database.listen_url = Some(db.url());
        config.limits.mutator_ms = 500;
        config.mutator("end", async |tx, (id, how): (i64, String)| {
            tx.create("notes", json!({ "id": id, "body": "checked" }))
                .await?;
            let raw = format!("INSERT INTO notes VALUES ({}, 'raw')", id + 1);
            let mut conn = tx.connection().await?;
            diesel_async::RunQueryDsl::execute(sql_query(raw), conn.postgres()?).await?;
            match how.as_str() {
                "panic" => panic!("a panic of the application's"),
                "wait" => std::future::pending().await,
                "refuse" => Err(Refusal::new("no", "no").into()),
                _ => Ok(()),
            }
        });
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        for round in 0..5 {
            for (at, how) in ["panic", "wait", "refuse", "commit"]
                .into_iter()
                .enumerate()
            {
                let call = json!([{ "mutator": "end", "args": [round * 10, how] }]);
                let outcome = client.push_next(call).await;
                match at {
                    3 => outcome.acked(),
                    _ => assert_eq!(outcome.rejected().code, "refused"),
                }
            }
            let again = json!([{ "mutator": "end", "args": [round * 10, "commit"] }]);
            assert_eq!(client.push_next(again).await.rejected().code, "exists");
        }
        let written = db.query_text("SELECT count(*) FROM notes").await;
        assert_eq!(written, [Some("10".to_owned())]);
        drop(client);
        nothing_is_left_behind(&pooler).await;
        server.shutdown().await;
    }
}

/// A pooler in session mode, like none at all, leaves the engine its sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_pooler_that_shares_sessions_is_one() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let mut urls = vec![db.url()];
    let pooled = Pooler::start(
        &db.url(),
        &["pool_mode = session", "default_pool_size = 40"],
    )
    .await;
    match &pooled {
        Ok(pooler) => urls.push(pooler.url().to_owned()),
        Err(why) => println!("NOT TESTED, no pooler: {why}"),
    }
    for url in urls {
        let pool = DbPool::with_config(&url, &DatabaseConfig::default()).await;
        let config = SyncConfig::new(pool.expect("a pool"), vec!["notes"]);
        let server = TestServer::with_config(config).await;
        let status = status(&server.http()).await;
        assert_eq!(
            (&status["pooling"], &status["wake_up"]),
            (&json!("session"), &json!("notify")),
            "{url}"
        );
        server.shutdown().await;
    }
}
