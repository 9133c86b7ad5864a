//! A database that starts late, goes away and comes back, and addresses that lead nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rhtmx_sync::{DatabaseConfig, DbError, DbPool, Readiness};
use rhtmx_sync_tests::{Dice, TcpProxy, TestServer};
use serde_json::json;
use testkit::{
    ClientOptions, ConnectError, Http, ServerProcess, SyncClient, TestDatabase, eventually,
};

use crate::writers::{self, LAST, NOTES, Transaction, has_each_once, insert, write_last};

const SERVE_NOTES: [&str; 4] = ["--bind", "127.0.0.1:0", "--entity", "notes"];

/// Waits for this status of readiness; returns the text.
async fn readiness(http: &Http, expected: u16) -> String {
    eventually("the expected readiness", async || {
        let reply = http.get("/readyz").await;
        (reply.status == expected).then_some(reply.text)
    })
    .await
}

async fn subscriber(url: &str) -> SyncClient {
    let mut client = SyncClient::connect(url, ClientOptions::default()).await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_may_come_up_later() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let (mut proxy, through) = TcpProxy::closed_of_database(&db.url()).await;
    let server = ServerProcess::spawn(SERVE_NOTES, [("DATABASE_URL", through)]).await;
    let http = Http::new(server.base_url());
    assert_eq!(http.get("/healthz").await.status, 200);
    let why = readiness(&http, 503).await;
    assert!(
        why.starts_with("not ready: the database is out of reach"),
        "{why}"
    );
    let refused = SyncClient::try_connect(&server.ws_url(), ClientOptions::default()).await;
    let Err(ConnectError::Closed { closed, error }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (closed.code, &error.expect("an error")["code"]),
        (1001, &json!("unavailable"))
    );

    proxy.open().await;
    assert_eq!(readiness(&http, 200).await, "ready\n");
    let mut client = subscriber(&server.ws_url()).await;
    write_last(&db).await;
    has_each_once(&mut client, "notes", &BTreeSet::new()).await;
}

/// Without the time-out it would wait as long as the lock is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_of_the_pool_has_a_time_out() {
    let db = TestDatabase::postgres().await;
    let mut config = DatabaseConfig::default();
    config.statement_timeout_ms = 200;
    let pool = DbPool::with_config(&db.url(), &config)
        .await
        .expect("a pool");
    pool.migrate(&config).await.expect("tables");
    let lock = db.connect_postgres().await;
    lock.batch_execute("BEGIN; LOCK TABLE _rhtmx_sync_entity")
        .await
        .expect("a lock");
    let error = pool.captured().await.expect_err("a time-out");
    assert!(error.is_retryable(), "{error}");
}

/// Errors are told apart by their English texts. A role that may not choose the language keeps its time-out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pools_messages_are_english_where_the_role_may_choose() {
    let db = TestDatabase::postgres().await;
    db.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lc_messages = ''C.UTF-8''', current_database()); END $$",
    )
    .await;
    let role = db.create_role("reader").await;
    let mut config = DatabaseConfig::default();
    config.statement_timeout_ms = 4321;
    for (url, language) in [(db.url(), "C"), (role.url.clone(), "C.UTF-8")] {
        let pool = DbPool::with_config(&url, &config).await.expect("a pool");
        let DbPool::Postgres(pool) = pool else {
            panic!("not PostgreSQL");
        };
        let check = format!(
            "DO $$ BEGIN ASSERT current_setting('lc_messages') = '{language}', current_setting('lc_messages'); \
             ASSERT current_setting('statement_timeout') = '4321ms'; END $$"
        );
        pool.batch_execute(&check).await.expect("the settings");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_may_go_away_and_come_back() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let (mut proxy, through) = TcpProxy::of_database(&db.url()).await;
    let server = ServerProcess::spawn(SERVE_NOTES, [("DATABASE_URL", through)]).await;
    let http = Http::new(server.base_url());
    readiness(&http, 200).await;
    let mut client = subscriber(&server.ws_url()).await;
    let mut pusher = subscriber(&server.ws_url()).await;
    db.execute(&insert([1])).await;
    client
        .wait_until(|client| client.row("notes", "1").is_some())
        .await;

    proxy.close().await;
    let why = readiness(&http, 503).await;
    assert!(why.contains("out of reach"), "{why}");
    assert_eq!(http.get("/healthz").await.status, 200);
    db.execute(&insert([2])).await;
    let create = json!({ "entity": "notes", "op": "create", "values": { "id": 3, "body": "" } });
    pusher.send_push(1, json!([create])).await;

    proxy.open().await;
    readiness(&http, 200).await;
    // The sessions survived.
    pusher.wait_answered().await;
    pusher.outcome(1).expect("an answer").acked();
    write_last(&db).await;
    has_each_once(&mut client, "notes", &BTreeSet::from([1, 2, 3])).await;
    has_each_once(&mut pusher, "notes", &BTreeSet::from([1, 2, 3])).await;
}

/// The network between server and database breaks again and again, in the middle of anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_keeps_breaking_loses_nothing() {
    let mut dice = Dice::new("a_network_may_break_all_the_time");
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let (proxy, through) = TcpProxy::of_database(&db.url()).await;
    let mut config = TestServer::config(&db, ["notes"]).await;
    config.db_pool = DbPool::from_url(&through)
        .await
        .expect("the engine connects through the proxy");
    let server = TestServer::with_config(config).await;
    let mut client = subscriber(&server.ws_url()).await;
    let mut pusher = subscriber(&server.ws_url()).await;

    let plans: Vec<Vec<Transaction>> = (0..3)
        .map(|writer| Transaction::plan(&mut dice, 1 + writer * 100_000, 120, 40))
        .collect();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writing = async {
        let left = join_all(plans.into_iter().map(|plan| writers::run(&db, plan))).await;
        stop.send_replace(true);
        left
    };
    let breaking = async {
        let mut dice = dice.split();
        while !*stopped.borrow() {
            tokio::time::sleep(Duration::from_millis(dice.pick(20..300))).await;
            proxy.cut();
        }
    };
    let pushing = async {
        let mut pushed = BTreeSet::new();
        for id in 5_000_000.. {
            if *stopped.borrow() {
                break;
            }
            let values = json!({ "id": id, "body": "" });
            let create = json!({ "entity": "notes", "op": "create", "values": values });
            pusher.push_next(json!([create])).await.acked();
            pushed.insert(id);
        }
        pushed
    };
    let (left, (), pushed) = tokio::join!(writing, breaking, pushing);
    write_last(&db).await;
    let left: BTreeSet<u64> = left.into_iter().flatten().chain(pushed).collect();
    has_each_once(&mut client, "notes", &left).await;
    has_each_once(&mut pusher, "notes", &left).await;
    assert!(client.row("notes", &LAST.to_string()).is_some());
}

/// The database's address with a wrong password, and whether the server checks passwords.
async fn wrong_password(db: &TestDatabase) -> (String, bool) {
    let role = db.create_role("reader").await;
    let (before, host) = role.url.split_once('@').expect("a role has a password");
    let (user, _) = before.rsplit_once(':').expect("a role has a password");
    let url = format!("{user}:hunter2-is-wrong@{host}");
    let asks = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .is_err();
    (url, asks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_an_error_and_is_never_shown() {
    let db = TestDatabase::postgres().await;
    let (url, asks) = wrong_password(&db).await;
    if !asks {
        println!("this server accepts connections without a password");
        return;
    }
    let error = DbPool::from_url(&url)
        .await
        .expect_err("the password is wrong");
    assert!(matches!(error, DbError::Refused(_)), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );

    for command in ["serve", "migrate", "tail"] {
        let args = [command, "--bind", "127.0.0.1:0", "--entity", "notes"];
        let envs = [("DATABASE_URL", url.as_str()), ("RUST_LOG", "debug")];
        let exited = ServerProcess::try_spawn(args, envs)
            .await
            .expect_err("the server does not start");
        assert!(!exited.status.success());
        assert!(
            exited.output.contains("password authentication failed"),
            "{}",
            exited.output
        );
        assert!(!exited.output.contains("hunter2"), "{}", exited.output);
    }
}

/// Neither the output nor the status of the engine contains a working password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_password_is_never_shown() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let role = db.create_role("owner").await;
    let (before, _) = role.url.split_once('@').expect("a role has a password");
    let (_, password) = before.rsplit_once(':').expect("a role has a password");
    db.execute(&format!(
        "GRANT ALL ON SCHEMA public TO {0}; ALTER TABLE notes OWNER TO {0}",
        role.name
    ))
    .await;
    let (mut proxy, through) = TcpProxy::of_database(&role.url).await;
    let envs = [("DATABASE_URL", through.as_str()), ("RUST_LOG", "trace")];
    let server = ServerProcess::spawn(SERVE_NOTES, envs).await;
    let http = Http::new(server.base_url());
    readiness(&http, 200).await;
    let mut said = http.get("/api/sync/status").await.text + &http.get("/metrics").await.text;
    proxy.close().await;
    said += &readiness(&http, 503).await;
    said += &server.terminate().await.output;
    assert!(
        said.contains("out of reach") && !said.contains(password),
        "{said}"
    );
    let pool = DbPool::from_url(&role.url)
        .await
        .expect("the engine connects");
    assert!(!format!("{pool:?}").contains(password), "{pool:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_database_is_an_error_at_the_start() {
    let db = TestDatabase::postgres().await;
    let (server, _) = db
        .url()
        .rsplit_once('/')
        .map(|(s, d)| (s.to_owned(), d.to_owned()))
        .expect("a name");
    let url = format!("{server}/no_such_database");
    let error = DbPool::from_url(&url)
        .await
        .expect_err("there is no such database");
    assert!(matches!(error, DbError::Refused(_)), "{error}");
    let exited = ServerProcess::try_spawn(SERVE_NOTES, [("DATABASE_URL", url)]).await;
    let output = exited.expect_err("the server does not start").output;
    assert!(output.contains("no_such_database"), "{output}");
}

#[tokio::test]
async fn the_error_for_an_invalid_address_names_the_valid_forms() {
    for url in [
        "",
        "mysql://root:hunter2@h/db",
        "host=localhost",
        "sqlite:",
        "sqlite://",
        "/tmp/x",
    ] {
        let error = DbPool::from_url(url).await.expect_err(url).to_string();
        for accepted in [
            "postgresql://",
            "postgres://",
            "sqlite://path",
            "sqlite::memory:",
        ] {
            assert!(error.contains(accepted), "{url}: {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }
    let exited =
        ServerProcess::try_spawn(SERVE_NOTES, [("DATABASE_URL", "mysql://u:hunter2@h/d")]).await;
    let exited = exited.expect_err("the server does not start");
    assert!(exited.output.contains("sqlite://path") && !exited.output.contains("hunter2"));
}

/// The shutdown does not wait for a missing database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_without_a_database_shuts_down() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let (mut proxy, through) = TcpProxy::of_database(&db.url()).await;
    let mut config = TestServer::config(&db, ["notes"]).await;
    config.db_pool = DbPool::from_url(&through)
        .await
        .expect("the engine connects through the proxy");
    let server = TestServer::with_config(config).await;
    let mut client = subscriber(&server.ws_url()).await;
    proxy.close().await;
    let engine = server.engine().clone();
    engine.shutdown().await;
    assert_eq!(
        engine.readiness(),
        Readiness::NotReady("shutting down".to_owned())
    );
    assert_eq!(client.close_code().await, 1001);
}

/// A firewall forgets the connections to the database: they stay open, and nothing arrives on them any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_are_noticed() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let (proxy, through) = TcpProxy::of_database(&db.url()).await;
    let mut config = TestServer::config(&db, ["notes"]).await;
    config.db_pool = DbPool::from_url(&through)
        .await
        .expect("the engine connects through the proxy");
    let server = TestServer::with_config(config).await;
    let mut client = subscriber(&server.ws_url()).await;
    db.execute(&insert([1])).await;
    client
        .wait_until(|client| client.row("notes", "1").is_some())
        .await;
    let drains = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT s.position%'";
    let before = db.query_text(drains).await;
    proxy.silence();
    db.execute(&insert([2])).await;
    // This takes as long as a heartbeat and the wait for its answer, longer than a client of the tests waits.
    while db
        .query_text(drains)
        .await
        .iter()
        .all(|pid| before.contains(pid))
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client
        .wait_until(|client| client.row("notes", "2").is_some())
        .await;
    db.execute(&insert([3])).await;
    client
        .wait_until(|client| client.row("notes", "3").is_some())
        .await;
}
