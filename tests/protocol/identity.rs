//! The life of an identity on a connection: tokens that expire, are renewed, or are of somebody else.

use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends, eventually};

use crate::claims::{self, now_ms, options, token};
use crate::tables::rows;
use crate::writes::update;

/// When a token that a test waits for expires: later than one frame needs to be read.
const SOON_MS: u64 = 2000;
/// For somebody who writes in vain.
const NEVER: Duration = Duration::from_secs(60);

async fn server(db: &TestDatabase, grace_ms: u64) -> TestServer {
    claims::tables(db).await;
    let mut config = claims::config(db).await;
    config.auth.expiry_grace_ms = grace_ms;
    TestServer::with_config(config).await
}

fn expiring(teams: &[&str], in_ms: u64) -> Value {
    json!({ "sub": "ann", "teams": teams, "exp_ms": now_ms() + in_ms })
}

/// Gives the client's connection a token that expires soon. Returns when, in milliseconds since 1970.
async fn expire_soon(client: &mut SyncClient) -> u64 {
    let claims = expiring(&["red"], SOON_MS);
    client
        .send_json(json!({ "type": "auth", "token": token(&claims) }))
        .await;
    client
        .wait_for(|frame| frame["type"] == "authenticated")
        .await;
    claims["exp_ms"].as_u64().expect("a time")
}

async fn subscribed(server: &TestServer, claims: &Value) -> SyncClient {
    let mut client = SyncClient::connect(&server.ws_url(), options(claims)).await;
    for (id, entity) in [("cards", "cards"), ("notes", "notes")] {
        client.subscribe(id, entity).await;
        client.wait_subscribed(id).await;
    }
    client
}

both_backends! {
    async fn a_connection_whose_token_expires_is_closed_and_hears_of_no_later_commit(db: TestDatabase) {
        let server = server(&db, 100).await;
        let mut ann = subscribed(&server, &json!({ "sub": "ann", "teams": ["red"] })).await;
        let ends = expire_soon(&mut ann).await + 100;
        // Somebody writes all the time, and says when.
        let writes = async {
            for id in 100.. {
                db.execute(&format!("INSERT INTO cards (id, team, body) VALUES ({id}, 'red', '{}')", now_ms())).await;
            }
        };
        let closed = tokio::select! {
            code = ann.close_code() => code,
            _ = tokio::time::timeout(NEVER, writes) => panic!("it is never closed"),
        };
        assert_eq!(closed, 4401);
        assert_eq!(ann.errors().last().expect("an error")["code"], "unauthenticated");
        assert!(now_ms() >= ends);
        let written = |row: &Value| row["body"].as_str().and_then(|body| body.parse::<u64>().ok());
        let heard: Vec<u64> = ann.rows("cards").values().filter_map(written).collect();
        assert!(!heard.is_empty());
        // The last ones are written after the end, and committed later still.
        assert!(heard.iter().all(|written| *written < ends), "{ends}: {heard:?}");
    }

    async fn a_fresh_token_in_time_keeps_the_connection(db: TestDatabase) {
        let server = server(&db, 100).await;
        let claims = json!({ "sub": "ann", "teams": ["red"] });
        let mut other = subscribed(&server, &claims).await;
        let mut ann = subscribed(&server, &claims).await;
        expire_soon(&mut ann).await;
        let fresh = token(&json!({ "sub": "ann", "teams": ["red"] }));
        ann.send_json(json!({ "type": "auth", "token": fresh })).await;
        let answer = ann.wait_for(|frame| frame["type"] == "authenticated").await;
        assert_eq!(answer["user"], "ann");
        // Its first token expires before the other's.
        expire_soon(&mut other).await;
        assert_eq!(other.close_code().await, 4401);
        // It outlives the other, and heard nothing of the renewal.
        db.execute("INSERT INTO cards (id, team, body) VALUES (7, 'red', 'x')").await;
        ann.wait_until(|ann| ann.row("cards", "7").is_some()).await;
        assert!(!ann.transcript().contains("refetch"));
    }

    async fn an_expired_token_is_refused_on_every_way_in(db: TestDatabase) {
        let server = server(&db, 60_000).await;
        let old = json!({ "sub": "ann", "teams": ["red"], "exp_ms": now_ms() - 1 });
        let refused = SyncClient::try_connect(&server.ws_url(), options(&old)).await;
        assert!(refused.expect_err("no welcome").to_string().contains("4401"));
        let http = server.http().with_token(token(&old));
        let push = json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": [] });
        for answer in [
            http.get("/api/sync/cards").await,
            http.get("/api/sync/events?entity=cards").await,
            http.post("/api/sync/cards", &push).await,
        ] {
            assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("unauthenticated")));
        }
    }

    async fn a_long_poll_and_a_stream_end_with_their_token(db: TestDatabase) {
        let server = server(&db, 0).await;
        let first = server.http().with_token(token(&json!({ "sub": "ann", "teams": ["red"] })));
        let cursor = first.get("/api/sync/cards").await.json()["cursor"].as_str().expect("a cursor").to_owned();
        let http = server.http().with_token(token(&expiring(&["red"], SOON_MS)));
        let path = format!("/api/sync/cards?cursor={cursor}&wait_ms=60000");
        let (page, events) = tokio::join!(http.get(&path), http.get("/api/sync/events?entity=cards"));
        assert_eq!(page.json()["changes"], json!([]), "{}", page.text);
        // The answer is whole because the stream has ended.
        assert!(events.text.contains("subscribed") && events.text.contains("unauthenticated"), "{}", events.text);
        assert_eq!(http.get(&path).await.status, 401);
    }

    async fn changed_claims_refetch_what_they_change_and_nothing_else(db: TestDatabase) {
        let server = server(&db, 0).await;
        let mut ann = subscribed(&server, &json!({ "sub": "ann", "teams": ["red"] })).await;
        assert!(ann.row("cards", "1").is_some() && ann.row("cards", "2").is_none());
        let fresh = token(&json!({ "sub": "ann", "teams": ["blue"] }));
        ann.send_json(json!({ "type": "auth", "token": fresh })).await;
        ann.wait_for(|frame| frame["type"] == "authenticated").await;
        let refetch = ann.wait_for(|frame| frame["type"] == "refetch").await;
        assert_eq!((&refetch["id"], &refetch["reason"]), (&json!("cards"), &json!("permission")));
        ann.wait_subscribed("cards").await;
        assert!(ann.row("cards", "1").is_none() && ann.row("cards", "2").is_some());
        // Changes follow the new rights, on both sides of the border.
        db.execute("UPDATE cards SET body = body || '!'").await;
        db.execute("INSERT INTO notes (id, body) VALUES (1, 'for all')").await;
        ann.wait_until(|ann| ann.row("notes", "1").is_some() && ann.row("cards", "2").is_some_and(|row| row["body"] == "two!")).await;
        assert_eq!(ann.transcript().matches("refetch").count(), 1);
        assert!(!ann.transcript().contains("one!"));
        // Writes have the new rights too.
        let outcome = ann.push_next(json!([update("cards", 1, json!({ "body": "mine" }))])).await;
        assert_eq!(outcome.rejected().code, "not_found");
    }

    /// CVE-2026-126539 and CVE-2024-54151: a failed `auth` that leaves nobody, who is taken for an administrator.
    async fn a_failed_auth_ends_the_connection_and_another_user_changes_nothing(db: TestDatabase) {
        let server = server(&db, 0).await;
        let mut ann = subscribed(&server, &json!({ "sub": "ann", "teams": ["red"] })).await;
        let ben = token(&json!({ "sub": "ben", "teams": ["blue"] }));
        ann.send_json(json!({ "type": "auth", "token": ben })).await;
        assert_eq!(ann.wait_error().await, "forbidden");
        db.execute("UPDATE cards SET body = body || '!'").await;
        ann.wait_until(|ann| ann.row("cards", "1").is_some_and(|row| row["body"] == "one!")).await;
        assert!(!ann.transcript().contains("two"));
        let old = token(&json!({ "sub": "ann", "teams": ["red", "blue"], "exp_ms": 1 }));
        ann.send_json(json!({ "type": "auth", "token": old })).await;
        assert_eq!(ann.close_code().await, 4401);
        assert!(!ann.transcript().contains("two"));
    }
}

/// The row is locked until the token has expired, so that its mutation is under way then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutations_that_came_in_time_are_answered_before_the_close() {
    let db = TestDatabase::postgres().await;
    let server = server(&db, 0).await;
    let mut ann = subscribed(&server, &json!({ "sub": "ann", "teams": ["red"] })).await;
    let holder = db.connect_postgres().await;
    holder
        .batch_execute("BEGIN; UPDATE cards SET body = 'held' WHERE id = 1")
        .await
        .expect("the holder locks the row");
    let expires = expire_soon(&mut ann).await;
    for (mutation, card) in [(1, 1), (2, 99), (3, 1)] {
        let body = json!({ "body": format!("mutation {mutation}") });
        ann.send_push(mutation, json!([update("cards", card, body)]))
            .await;
    }
    eventually("the token expires", || async {
        (now_ms() > expires).then_some(())
    })
    .await;
    holder
        .batch_execute("COMMIT")
        .await
        .expect("the holder commits");
    assert_eq!(ann.close_code().await, 4401);
    let codes = [1, 2, 3].map(|mutation| ann.outcome(mutation).expect("an answer").clone());
    codes[0].acked();
    assert_eq!(codes[1].rejected().code, "not_found");
    codes[2].acked();
    assert_eq!(
        rows(&db, "cards", &["id", "body"]).await["1"]["body"],
        "mutation 3"
    );
    // The rows come with the next connection.
    assert_eq!(ann.frames("changes"), 0);
}
