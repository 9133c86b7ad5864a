//! A client that does not read while the database changes loses nothing and slows nobody.

use std::collections::BTreeMap;

use rhtmx_sync::SyncConfig;
use rhtmx_sync_tests::{TestServer, base_type};
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends, eventually};

use crate::tables::rows;
use crate::writes::update;

/// The accounts of each table. The sum of all balances of both tables is always 0.
const ACCOUNTS: u64 = 10;
/// Makes a row much larger than its key, so that sockets fill up.
const PADDING_BYTES: usize = 16 * 1024;
/// More than the buffers of a socket and the mailbox hold.
const TRANSFERS: u64 = 600;

async fn make_accounts(db: &TestDatabase) {
    for table in ["accounts", "vault"] {
        db.execute(&format!(
            "CREATE TABLE {table} \
             (id integer PRIMARY KEY, balance integer NOT NULL, padding text); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS}) \
             INSERT INTO {table} SELECT i, 0, '' FROM n"
        ))
        .await;
    }
}

/// Moves 1 from an account to the vault.
async fn transfer(db: &TestDatabase, id: u64) {
    let padding = "x".repeat(PADDING_BYTES);
    db.execute(&format!(
        "BEGIN; UPDATE accounts SET balance = balance - 1, padding = '{padding}' WHERE id = {id}; \
         UPDATE vault SET balance = balance + 1, padding = '{padding}' WHERE id = {id}; COMMIT"
    ))
    .await;
}

async fn config(db: &TestDatabase) -> SyncConfig {
    let mut config = TestServer::config(db, ["accounts", "vault"]).await;
    config.limits.queue_batches_max = 4;
    config
}

async fn subscriber(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    for entity in ["accounts", "vault"] {
        client.subscribe(entity, entity).await;
    }
    for entity in ["accounts", "vault"] {
        client.wait_subscribed(entity).await;
    }
    client
}

fn balances(client: &SyncClient, entity: &str) -> BTreeMap<String, i64> {
    let balance = |row: &Value| row["balance"].as_i64().expect("a number");
    client
        .rows(entity)
        .iter()
        .map(|(key, row)| (key.clone(), balance(row)))
        .collect()
}

async fn balances_in(db: &TestDatabase, table: &str) -> BTreeMap<String, i64> {
    let rows = rows(db, table, &["id", "balance"]).await;
    rows.into_iter()
        .map(|(key, row)| (key, row["balance"].as_i64().expect("a number")))
        .collect()
}

/// Makes transfers one by one; the fast client sees each before the next.
async fn transfer_before(db: &TestDatabase, fast: &mut SyncClient, transfers: u64) {
    for number in 0..transfers {
        let id = 1 + number % ACCOUNTS;
        let key = id.to_string();
        let expected = balances(fast, "vault")[&key] + 1;
        transfer(db, id).await;
        fast.wait_until(|client| balances(client, "vault")[&key] == expected)
            .await;
        assert_eq!(balances(fast, "accounts")[&key], -expected);
    }
}

/// Reads until the copy equals the tables, and checks it at each cursor.
async fn catch_up(db: &TestDatabase, slow: &mut SyncClient) {
    let expected = balances_in(db, "vault").await;
    while balances(slow, "vault") != expected {
        let frame = slow.next_frame().await;
        if frame["type"] == "cursor" && slow.subscriptions().values().all(|one| one.is_live()) {
            let sum = |entity| balances(slow, entity).values().sum::<i64>();
            assert_eq!(
                sum("accounts") + sum("vault"),
                0,
                "a cursor within a transfer"
            );
        }
    }
    let accounts = balances_in(db, "accounts").await;
    slow.wait_until(|client| balances(client, "accounts") == accounts)
        .await;
}

fn puts(client: &SyncClient, entity: &str) -> u64 {
    client.subscription(entity).puts().values().sum()
}

both_backends! {
    async fn a_slow_client_catches_up_and_is_live_again(db: TestDatabase) {
        make_accounts(&db).await;
        let server = TestServer::with_config(config(&db).await).await;
        let mut slow = subscriber(&server).await;
        let mut fast = subscriber(&server).await;
        slow.reset_counters();
        transfer_before(&db, &mut fast, TRANSFERS).await;
        catch_up(&db, &mut slow).await;
        assert_eq!((slow.frames("refetch"), slow.frames("snapshot")), (0, 0));
        // Live, each change is sent by itself; in a catch-up a row is sent once, as it is by then.
        let received = puts(&slow, "vault");
        assert!(
            received < TRANSFERS,
            "{received} of {TRANSFERS}: every change was sent live"
        );

        // It reads again, so it is live again.
        let before = puts(&slow, "vault");
        for _ in 0..5 {
            transfer(&db, 1).await;
            catch_up(&db, &mut slow).await;
        }
        assert_eq!(puts(&slow, "vault"), before + 5);
    }

    /// The database is read at its own pace, not at that of clients that do not read.
    async fn slow_clients_hold_no_database_connection(db: TestDatabase) {
        make_accounts(&db).await;
        let mut config = config(&db).await;
        config.database.pool_size = 2;
        let server = TestServer::with_config(config).await;
        let mut fast = subscriber(&server).await;
        let mut slow = Vec::new();
        for _ in 0..3 {
            slow.push(subscriber(&server).await);
        }
        transfer_before(&db, &mut fast, TRANSFERS).await;
        // More than fits into a socket, so that a catch-up cannot end.
        let padding = "y".repeat(PADDING_BYTES);
        let many = 1000;
        for table in ["accounts", "vault"] {
            db.execute(&format!(
                "WITH RECURSIVE n(i) AS \
                 (SELECT 101 UNION ALL SELECT i + 1 FROM n WHERE i < 100 + {many}) \
                 INSERT INTO {table} SELECT i, 0, '{padding}' FROM n"
            ))
            .await;
        }
        for client in &mut slow {
            // The first of the new rows arrives by the catch-up.
            client
                .wait_for(|frame| {
                    let changes = frame["changes"].as_array();
                    changes
                        .is_some_and(|changes| changes.iter().any(|change| change["key"] == "101"))
                })
                .await;
        }
        let mut writer = server.connect().await;
        for _ in 0..5 {
            let writes = json!([update("accounts", 101, json!({ "padding": "new" }))]);
            writer.push_next(writes).await.acked();
        }
        fast.wait_until(|client| {
            client
                .row("accounts", "101")
                .is_some_and(|row| row["padding"] == "new")
        })
        .await;
        for client in &mut slow {
            catch_up(&db, client).await;
            assert_eq!(client.rows("vault").len() as u64, ACCOUNTS + many);
        }
    }

    async fn a_first_read_may_be_read_slowly(db: TestDatabase) {
        make_accounts(&db).await;
        let padding = "y".repeat(PADDING_BYTES);
        db.execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 101 UNION ALL SELECT i + 1 FROM n WHERE i < 1100) \
             INSERT INTO vault SELECT i, 0, '{padding}' FROM n"
        ))
        .await;
        let server = TestServer::with_config(config(&db).await).await;
        let mut fast = subscriber(&server).await;
        let mut slow = server.connect().await;
        for entity in ["vault", "accounts"] {
            slow.subscribe(entity, entity).await;
        }
        slow.wait_for(|frame| frame["type"] == "snapshot").await;
        transfer_before(&db, &mut fast, 300).await;
        db.execute("DELETE FROM vault WHERE id > 1000").await;
        slow.wait_subscribed("vault").await;
        slow.wait_subscribed("accounts").await;
        catch_up(&db, &mut slow).await;
        assert_eq!(slow.frames("refetch"), 0);
    }

    /// The log no longer has what a slow reader has not seen.
    async fn a_client_slower_than_the_retention_refetches(db: TestDatabase) {
        make_accounts(&db).await;
        let server = TestServer::with_config(config(&db).await).await;
        let mut slow = subscriber(&server).await;
        let mut fast = subscriber(&server).await;
        transfer_before(&db, &mut fast, TRANSFERS).await;
        db.execute("DELETE FROM vault WHERE id = 3; DELETE FROM accounts WHERE id = 3")
            .await;
        fast.wait_until(|client| client.row("vault", "3").is_none())
            .await;
        let tracker = server.engine().change_tracker();
        tracker
            .cleanup_older_than(std::time::Duration::ZERO)
            .await
            .expect("the log is cleaned up");
        catch_up(&db, &mut slow).await;
        assert_eq!(slow.frames("refetch"), 2);
        transfer(&db, 1).await;
        catch_up(&db, &mut slow).await;
    }

    async fn pushes_of_a_slow_client_are_answered(db: TestDatabase) {
        make_accounts(&db).await;
        let server = TestServer::with_config(config(&db).await).await;
        let mut slow = subscriber(&server).await;
        let mut fast = subscriber(&server).await;
        transfer_before(&db, &mut fast, TRANSFERS).await;
        for mutation in 1..=50 {
            let padding = format!("mutation {mutation}");
            slow.send_push(
                mutation,
                json!([update("accounts", 1, json!({ "padding": padding }))]),
            )
            .await;
        }
        slow.wait_answered().await;
        assert!((1..=50).all(|mutation| slow.outcome(mutation).is_some()));
        catch_up(&db, &mut slow).await;
        slow.wait_until(|client| {
            client
                .row("accounts", "1")
                .is_some_and(|row| row["padding"] == "mutation 50")
        })
        .await;
    }

    async fn a_client_that_never_reads_is_disconnected(db: TestDatabase) {
        make_accounts(&db).await;
        let mut config = config(&db).await;
        config.limits.stalled_timeout_ms = 100;
        let server = TestServer::with_config(config).await;
        let slow = subscriber(&server).await;
        let mut fast = subscriber(&server).await;
        transfer_before(&db, &mut fast, TRANSFERS).await;
        let http = server.http();
        eventually("the slow session ends", || async {
            (http.get("/api/sync/status").await.json()["sessions"] == 1).then_some(())
        })
        .await;
        // The client reconnects and continues from its cursor.
        let options = ClientOptions::default();
        let mut back = SyncClient::reconnect(&server.ws_url(), options, &slow.into_state()).await;
        back.wait_subscribed("vault").await;
        back.wait_subscribed("accounts").await;
        catch_up(&db, &mut back).await;
        assert_eq!((back.frames("refetch"), back.frames("snapshot")), (0, 0));
    }
}

/// The rows that were sent already are sent again, without those that are deleted by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_midway_begins_again() {
    let db = TestDatabase::new(Backend::Postgres).await;
    // An extension may define how its type becomes JSON; this conversion fails while a switch is on.
    db.execute(&base_type("odd", "integer", "int4")).await;
    db.execute(
        "CREATE TABLE switch (is_on boolean); INSERT INTO switch VALUES (true);
         CREATE FUNCTION to_json_or_not(odd) RETURNS json LANGUAGE plpgsql STABLE AS $$ BEGIN
             IF $1::text = '2500' AND (SELECT is_on FROM public.switch) THEN
                 RAISE EXCEPTION 'not now';
             END IF;
             RETURN to_json($1::text::integer);
         END $$;
         CREATE CAST (odd AS json) WITH FUNCTION to_json_or_not(odd);
         CREATE TABLE things (id integer PRIMARY KEY, n odd);
         INSERT INTO things SELECT i, i::text::odd FROM generate_series(1, 3000) i",
    )
    .await;
    let server = TestServer::start(&db, ["things"]).await;
    let mut client = server.connect().await;
    client.subscribe("a", "things").await;
    let error = client.wait_for(|frame| frame["type"] == "error").await;
    let found = (&error["code"], &error["id"], &error["fatal"]);
    assert_eq!(found, (&json!("unavailable"), &json!("a"), &json!(false)));
    assert!(!error["message"].as_str().expect("text").contains("not now"));
    assert!(client.frames("snapshot") > 0);
    db.execute("DELETE FROM things WHERE id = 1; UPDATE switch SET is_on = false")
        .await;
    // The testkit takes the error for the end of the subscription, so the test reads the frames itself.
    let mut received = Vec::new();
    let mut refetched = false;
    loop {
        let frame = client.next_frame().await;
        match frame["type"].as_str() {
            Some("refetch") => {
                refetched = true;
                received.clear();
            }
            Some("snapshot") => received.extend(frame["rows"].as_array().expect("rows").clone()),
            Some("subscribed") => break,
            _ => {}
        }
    }
    assert!(refetched && received.len() == 2999, "{}", received.len());
}

/// Rows that PostgreSQL takes 20 ms each to read, each larger than what it collects before it sends. Row 7 of `stuck`
/// takes an hour.
const SLOW_ROWS: &str = "
    CREATE FUNCTION slow_json(slow) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep($1::text::integer / 1000.0);
        RETURN to_json($1::text);
    END $$;
    CREATE CAST (slow AS json) WITH FUNCTION slow_json(slow);
    CREATE TABLE lasting (id integer PRIMARY KEY, ms slow, padding text);
    CREATE TABLE stuck (LIKE lasting INCLUDING ALL);
    INSERT INTO lasting SELECT i, '20', repeat('x', 10000) FROM generate_series(1, 150) i;
    INSERT INTO stuck SELECT i, CASE i WHEN 7 THEN '3600000' ELSE '0' END::slow, repeat('x', 10000)
        FROM generate_series(1, 10) i";

/// The time-out is one of progress: a read may take longer, as long as rows come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_may_take_longer_than_the_time_out() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute(&base_type("slow", "integer", "int4")).await;
    db.execute(SLOW_ROWS).await;
    let pool = rhtmx_sync::DbPool::from_url(&db.url())
        .await
        .expect("a pool");
    let mut config = SyncConfig::new(pool, vec!["lasting", "stuck"]);
    config.database.statement_timeout_ms = 1000;
    let server = TestServer::with_config(config).await;
    let mut client = server.connect().await;
    client.subscribe("a", "lasting").await;
    client.wait_subscribed("a").await;
    assert_eq!(client.frames("refetch") + client.frames("error"), 0);
    assert_eq!(client.rows("a").len(), 150);

    // A read without progress is tried a few times, and then answered.
    client.subscribe("b", "stuck").await;
    let error = client
        .wait_for(|frame| frame["type"] == "error" && frame["fatal"] == false && frame["id"] == "b")
        .await;
    assert_eq!(error["code"], "unavailable");
    db.execute("UPDATE lasting SET padding = 'new' WHERE id = 1")
        .await;
    client
        .wait_until(|client| {
            client
                .row("a", "1")
                .is_some_and(|row| row["padding"] == "new")
        })
        .await;
}
