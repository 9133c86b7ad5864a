//! Sessions that the application ends, on this server and on the others, and how many connections a user may have.

use rhtmx_sync::{PrincipalMatch, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{
    ClientOptions, ConnectError, HttpReply, SyncClient, TestDatabase, both_backends, eventually,
};

use crate::claims::{self, options, token};

fn of(name: &str, team: &str) -> Value {
    json!({ "sub": name, "teams": [team] })
}

async fn config(db: &TestDatabase) -> SyncConfig {
    claims::config(db).await
}

async fn subscribed(server: &TestServer, claims: &Value) -> SyncClient {
    let mut client = SyncClient::connect(&server.ws_url(), options(claims)).await;
    client.subscribe("cards", "cards").await;
    client.wait_subscribed("cards").await;
    client
}

async fn get(server: &TestServer, claims: &Value, path: &str) -> HttpReply {
    server.http().with_token(token(claims)).get(path).await
}

fn signed_out(client: &SyncClient) -> bool {
    client
        .errors()
        .last()
        .is_some_and(|error| error["code"] == "unauthenticated")
}

pub(crate) async fn sessions(server: &TestServer) -> u64 {
    let status = server.http().get("/api/sync/status").await.json();
    status["sessions"].as_u64().expect("a number")
}

both_backends! {
    async fn sessions_that_the_application_ends_hear_no_more_and_others_go_on(db: TestDatabase) {
        claims::tables(&db).await;
        let server = TestServer::with_config(config(&db).await).await;
        let (ann, ben) = (of("ann", "red"), of("ben", "red"));
        let mut anns = [subscribed(&server, &ann).await, subscribed(&server, &ann).await];
        let mut bens = subscribed(&server, &ben).await;
        let cursor = get(&server, &ann, "/api/sync/cards").await.json()["cursor"].as_str().expect("a cursor").to_owned();
        let poll = format!("/api/sync/cards?cursor={cursor}&wait_ms=60000");
        let stream = get(&server, &ann, "/api/sync/events?entity=cards");
        let end = async {
            eventually("the stream and the poll have begun", async || {
                (sessions(&server).await == 5).then_some(())
            }).await;
            server.engine().disconnect(|principal| principal.user_id.as_deref() == Some("ann"))
        };
        let (polled, streamed, ended) = tokio::join!(get(&server, &ann, &poll), stream, end);
        assert_eq!(ended, 4);
        // Both answers are whole because they have ended.
        assert_eq!(polled.json()["changes"], json!([]), "{}", polled.text);
        assert!(streamed.text.contains("unauthenticated"), "{}", streamed.text);
        for client in &mut anns {
            assert_eq!(client.close_code().await, 4401);
            assert!(signed_out(client));
        }
        db.execute("INSERT INTO cards (id, team, body) VALUES (7, 'red', 'later')").await;
        bens.wait_until(|client| client.row("cards", "7").is_some()).await;
        // Signed in again, ann is welcome.
        assert!(subscribed(&server, &ann).await.row("cards", "7").is_some());
        assert_eq!(server.engine().disconnect(|principal| principal.user_id.is_none()), 0);
    }

    async fn a_session_that_is_ended_during_a_first_read_ends(db: TestDatabase) {
        claims::tables(&db).await;
        let server = TestServer::with_config(config(&db).await).await;
        let mut rows = String::from("INSERT INTO cards (id, team, body) VALUES (10, 'red', 'x')");
        for id in 11..2000 {
            rows.push_str(&format!(", ({id}, 'red', '{}')", "x".repeat(500)));
        }
        db.execute(&rows).await;
        let mut ann = SyncClient::connect(&server.ws_url(), options(&of("ann", "red"))).await;
        ann.subscribe("cards", "cards").await;
        ann.wait_for(|frame| frame["type"] == "snapshot").await;
        // It may be over by now; the session ends all the same.
        assert_eq!(server.engine().disconnect(|_| true), 1);
        assert_eq!(ann.close_code().await, 4401);
    }

    async fn a_user_has_so_many_connections_of_all_kinds(db: TestDatabase) {
        claims::tables(&db).await;
        let mut config = config(&db).await;
        config.limits.connections_of_user_max = 2;
        let server = TestServer::with_config(config).await;
        let (ann, ben) = (of("ann", "red"), of("ben", "red"));
        let first = subscribed(&server, &ann).await;
        let _second = subscribed(&server, &ann).await;
        match SyncClient::try_connect(&server.ws_url(), options(&ann)).await {
            Err(ConnectError::Closed { closed, error }) => {
                assert_eq!(closed.code, 4429);
                let error = error.expect("an error");
                assert_eq!((&error["code"], &error["retry_after_ms"]), (&json!("rate_limited"), &json!(5000)));
            }
            other => panic!("{other:?}"),
        }
        let page = get(&server, &ann, "/api/sync/cards").await;
        assert_eq!(page.status, 200, "a page is no connection that stays: {}", page.text);
        let cursor = page.json()["cursor"].as_str().expect("a cursor").to_owned();
        for path in ["/api/sync/events?entity=cards".to_owned(), format!("/api/sync/cards?cursor={cursor}&wait_ms=60000")] {
            let refused = get(&server, &ann, &path).await;
            assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limited")), "{path}");
            assert_eq!(refused.header("retry-after"), Some("5"), "{path}");
        }
        // Others, and clients without a user, are not concerned.
        subscribed(&server, &ben).await;
        let mut nobodies = Vec::new();
        for _ in 0..4 {
            nobodies.push(SyncClient::connect(&server.ws_url(), ClientOptions::default()).await);
        }
        drop(first);
        eventually("the place is free", async || {
            SyncClient::try_connect(&server.ws_url(), options(&ann)).await.ok()
        }).await;
    }
}

/// By a notification, so on PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_on_every_server() {
    let db = TestDatabase::postgres().await;
    claims::tables(&db).await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(TestServer::with_config(config(&db).await).await);
    }
    let mut anns = Vec::new();
    let mut bens = Vec::new();
    for server in &servers {
        anns.push(subscribed(server, &of("ann", "red")).await);
        bens.push(subscribed(server, &of("ben", "red")).await);
    }
    let engine = servers[1].engine();
    engine
        .disconnect_everywhere(PrincipalMatch::user("ann"))
        .await
        .expect("it is sent");
    for mut client in anns {
        assert_eq!(client.close_code().await, 4401);
        assert!(signed_out(&client));
    }
    db.execute("INSERT INTO cards (id, team, body) VALUES (7, 'red', 'later')")
        .await;
    for client in &mut bens {
        client
            .wait_until(|client| client.row("cards", "7").is_some())
            .await;
    }
    let mut of_team = PrincipalMatch::default();
    of_team.claims.insert("teams".to_owned(), json!(["red"]));
    engine
        .disconnect_everywhere(of_team)
        .await
        .expect("it is sent");
    for mut client in bens {
        assert_eq!(client.close_code().await, 4401);
    }
    let mut long = PrincipalMatch::default();
    long.claims
        .insert("x".to_owned(), json!("x".repeat(10_000)));
    assert!(engine.disconnect_everywhere(long).await.is_err());
}
