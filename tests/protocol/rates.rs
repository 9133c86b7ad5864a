//! What a user, and an address, may do in a time: wrong tokens, connections, pushes. One that is over is told when to come
//! back, and nobody else is concerned.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use futures_util::future::join_all;
use rhtmx_sync::{JwtAuthenticator, JwtConfig, OperatorToken, SyncConfig};
use rhtmx_sync_tests::{TestServer, sign_with_secret};
use serde_json::{Value, json};
use testkit::{
    ClientOptions, ConnectError, Phase, SyncClient, TestDatabase, both_backends, eventually,
};
use uuid::Uuid;

use crate::claims::{self, OPERATOR};
use crate::tables::count;
use crate::writes::note;

const SECRET: &str = "a secret of the tests, longer than 32 bytes";
/// The header by which a test says from which address a request comes.
const PEER: &str = "x-peer";
/// Addresses of which none is a proxy.
const ANN: &str = "192.0.2.1";
const BEN: &str = "192.0.2.2";
const PROXY: &str = "10.0.0.1";

async fn peer(mut request: Request, next: Next) -> axum::response::Response {
    let peer = request
        .headers()
        .get(PEER)
        .and_then(|peer| peer.to_str().ok());
    let peer: Option<IpAddr> = peer.and_then(|peer| peer.parse().ok());
    if let Some(peer) = peer {
        request
            .extensions_mut()
            .insert(ConnectInfo(SocketAddr::from((peer, 4711))));
    }
    next.run(request).await
}

async fn server(db: &TestDatabase, change: impl FnOnce(&mut SyncConfig)) -> TestServer {
    server_for(db, false, change).await
}

/// A server that lets clients without a token in, or not.
async fn server_for(
    db: &TestDatabase,
    anonymous: bool,
    change: impl FnOnce(&mut SyncConfig),
) -> TestServer {
    claims::tables(db).await;
    let mut config = claims::config(db).await;
    let mut jwt = JwtConfig::default();
    jwt.jwt_secret = Some(SECRET.to_owned());
    jwt.anonymous = anonymous;
    config.auth.authenticator = Arc::new(
        JwtAuthenticator::new(jwt)
            .await
            .expect("tokens can be verified"),
    );
    config
        .auth
        .trusted_proxies
        .push("10.0.0.0/8".parse().expect("a range"));
    config.auth.operator_token = Some(OperatorToken::new(OPERATOR).expect("a token"));
    change(&mut config);
    TestServer::within(config, |routes: Router| routes.layer(from_fn(peer))).await
}

fn token(name: &str) -> String {
    sign_with_secret(SECRET, json!({ "sub": name }))
}

/// A request for notes from an address; returns the status and the body.
async fn read(server: &TestServer, headers: &[(&str, &str)], token: &str) -> (u16, Value) {
    let request = reqwest::Client::new()
        .get(server.http().url("/api/sync/notes"))
        .bearer_auth(token);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// Shows wrong tokens from there until none is looked at any more.
async fn use_up(server: &TestServer, headers: &[(&str, &str)]) {
    for _ in 0..1000 {
        let (status, body) = read(server, headers, "wrong").await;
        if status == 429 {
            assert_eq!(body["code"], "rate_limited");
            assert!(
                body["retry_after_ms"]
                    .as_u64()
                    .is_some_and(|pause| pause > 0),
                "{body}"
            );
            return;
        }
        assert_eq!((status, &body["code"]), (401, &json!("unauthenticated")));
    }
    panic!("every token is looked at");
}

fn from(address: &'static str) -> ClientOptions {
    ClientOptions {
        headers: vec![(PEER, address.to_owned())],
        ..ClientOptions::default()
    }
}

/// The error frame and the close code of a connection that is not welcomed.
async fn refused(server: &TestServer, options: ClientOptions) -> (Value, u16) {
    match SyncClient::try_connect(&server.ws_url(), options).await {
        Err(ConnectError::Closed { closed, error }) => {
            (error.expect("an error frame"), closed.code)
        }
        other => panic!("{other:?}"),
    }
}

both_backends! {
    async fn an_address_with_wrong_tokens_waits_and_others_do_not(db: TestDatabase) {
        let server = server(&db, |config| config.limits.wrong_tokens_per_second = 2).await;
        use_up(&server, &[(PEER, ANN)]).await;
        // Also a good token waits, and also over a WebSocket.
        assert_eq!(read(&server, &[(PEER, ANN)], &token("ann")).await.0, 429);
        let (error, code) = refused(&server, ClientOptions { token: Some(token("ann")), ..from(ANN) }).await;
        assert_eq!((&error["code"], code), (&json!("rate_limited"), 4429));
        assert!(error["retry_after_ms"].as_u64().is_some_and(|pause| pause > 0), "{error}");
        assert_eq!(read(&server, &[(PEER, BEN)], &token("ben")).await.0, 200);
        eventually("the address may show tokens again", async || {
            (read(&server, &[(PEER, ANN)], &token("ann")).await.0 == 200).then_some(())
        }).await;
    }

    async fn a_fresh_token_on_a_connection_counts_for_its_address(db: TestDatabase) {
        let server = server(&db, |config| config.limits.wrong_tokens_per_second = 1).await;
        let ann = || ClientOptions { token: Some(token("ann")), ..from(ANN) };
        let mut waiting = SyncClient::connect(&server.ws_url(), ann()).await;
        let mut tried = 0;
        // Each wrong one ends its connection, until no token from there is looked at any more.
        let (error, code) = loop {
            match SyncClient::try_connect(&server.ws_url(), ann()).await {
                Ok(mut client) => {
                    client.send_json(json!({ "type": "auth", "token": "wrong" })).await;
                    assert_eq!(client.close_code().await, 4401);
                }
                Err(ConnectError::Closed { closed, error }) => break (error.expect("an error frame"), closed.code),
                Err(error) => panic!("{error}"),
            }
            tried += 1;
            assert!(tried < 1000, "every token is looked at");
        };
        assert_eq!((&error["code"], code), (&json!("rate_limited"), 4429));
        // A connection of the same address waits too, and goes on.
        waiting.send_json(json!({ "type": "auth", "token": token("ann") })).await;
        let error = waiting.wait_for(|frame| frame["type"] == "error").await;
        assert_eq!((&error["code"], &error["fatal"]), (&json!("rate_limited"), &json!(false)));
        assert!(error["retry_after_ms"].as_u64().is_some_and(|pause| pause > 0), "{error}");
        waiting.push_next(json!([note(1, "x")])).await.acked();
    }

    async fn ten_thousand_wrong_tokens_do_not_keep_the_honest_out(db: TestDatabase) {
        let server = server(&db, |_| {}).await;
        let client = reqwest::Client::new();
        let show = async |token: &str, peer: &str| {
            let request = client.get(server.http().url("/api/sync/notes")).bearer_auth(token).header(PEER, peer);
            request.send().await.expect("an answer").status().as_u16()
        };
        let forged = sign_with_secret("another secret of the tests, longer than 32 bytes", json!({ "sub": "ann" }));
        let wrong = async {
            let mut answers = Vec::new();
            for _ in 0..100 {
                answers.extend(join_all((0..100).map(|_| show(&forged, ANN))).await);
            }
            answers
        };
        let good = token("ben");
        let honest = async {
            let mut answers = Vec::new();
            for _ in 0..50 {
                answers.push(show(&good, BEN).await);
            }
            answers
        };
        let (wrong, honest) = tokio::join!(wrong, honest);
        assert!(honest.iter().all(|status| *status == 200), "{honest:?}");
        assert!(wrong.iter().all(|status| matches!(status, 401 | 429)));
        // Most were not looked at.
        let operator = server.http().with_token(OPERATOR);
        let status = operator.get("/api/sync/status").await.json();
        let looked_at = status["auth"]["refused"]["signature"].as_u64().expect("a number");
        assert_eq!(looked_at, wrong.iter().filter(|status| **status == 401).count() as u64);
        assert!(looked_at < 5000, "{looked_at}");
    }

    async fn only_a_proxy_of_ours_says_whose_address_it_is(db: TestDatabase) {
        let server = server(&db, |config| config.limits.wrong_tokens_per_second = 1).await;
        let good = token("ann");
        let forwarded = "x-forwarded-for";
        // Whatever somebody claims, the own address counts.
        use_up(&server, &[(PEER, ANN), (forwarded, "203.0.113.9")]).await;
        assert_eq!(read(&server, &[(PEER, ANN), (forwarded, "198.51.100.1")], &good).await.0, 429);
        assert_eq!(read(&server, &[(PEER, PROXY), (forwarded, "203.0.113.9")], &good).await.0, 200);
        // Behind the proxy, what it has appended counts.
        use_up(&server, &[(PEER, PROXY), (forwarded, "198.51.100.7, 203.0.113.1")]).await;
        assert_eq!(read(&server, &[(PEER, PROXY), (forwarded, "198.51.100.8, 203.0.113.1")], &good).await.0, 429);
        assert_eq!(read(&server, &[(PEER, PROXY), (forwarded, "203.0.113.1, 198.51.100.7")], &good).await.0, 200);
    }

    async fn an_address_has_so_many_connections(db: TestDatabase) {
        let server = server(&db, |config| config.limits.connections_of_address_max = 1).await;
        let options = |name: &str, address| ClientOptions { token: Some(token(name)), ..from(address) };
        let first = SyncClient::connect(&server.ws_url(), options("ann", ANN)).await;
        let (error, code) = refused(&server, options("ben", ANN)).await;
        assert_eq!((&error["code"], code), (&json!("rate_limited"), 4429));
        assert_eq!(error["retry_after_ms"], 5000);
        SyncClient::connect(&server.ws_url(), options("ben", BEN)).await;
        drop(first);
        eventually("the place is free", async || {
            SyncClient::try_connect(&server.ws_url(), options("ben", ANN)).await.ok()
        }).await;
    }

    async fn a_user_who_posts_too_much_is_told_when_to_come_back(db: TestDatabase) {
        let server = server(&db, |config| config.limits.pushes_per_second_of_user = 5).await;
        let (ids, mut refused) = ([Uuid::new_v4(), Uuid::new_v4()], 0);
        let post = async |name: &str, id: Uuid, mutation: u64, row: u64| {
            let body = json!({ "client_id": id, "mutation": mutation, "writes": [note(row, "x")] });
            server.http().with_token(token(name)).post("/api/sync/notes", &body).await
        };
        for mutation in 1..=8 {
            // Of two clients, because the limit is the user's.
            for (client, id) in ids.iter().enumerate() {
                let row = mutation * 10 + client as u64;
                while post("ann", *id, mutation, row).await.status == 429 {
                    let again = post("ann", *id, mutation, row).await;
                    if again.status == 200 {
                        break;
                    }
                    refused += 1;
                    let answer = again.json();
                    assert_eq!(answer["code"], "rate_limited");
                    let pause_ms = answer["retry_after_ms"].as_u64().expect("a time");
                    // Nobody else is concerned.
                    if refused == 1 {
                        assert_eq!(post("ben", Uuid::new_v4(), 1, 1).await.status, 200);
                    }
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            }
        }
        assert!(refused > 0);
        assert_eq!(count(&db, "notes").await, 17);
    }

    async fn clients_without_a_user_push_as_one_for_each_address(db: TestDatabase) {
        let server = server_for(&db, true, |config| config.limits.pushes_per_second_of_user = 1).await;
        let client = reqwest::Client::new();
        let url = server.http().url("/api/sync/notes");
        let post = async |address: &str, row: u64| {
            let body = json!({ "client_id": Uuid::new_v4(), "mutation": 1, "writes": [note(row, "x")] });
            let answer = client.post(&url).header(PEER, address).json(&body).send().await.expect("an answer");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
        };
        let mut row = 0;
        let refused = loop {
            row += 1;
            let (status, body) = post(ANN, row).await;
            if status == 429 {
                break body;
            }
            assert_eq!(status, 200, "{body}");
            assert!(row < 1000, "every push is taken");
        };
        assert_eq!(refused["code"], "rate_limited");
        assert!(refused["retry_after_ms"].as_u64().is_some_and(|pause| pause > 0), "{refused}");
        // Neither another address nor a user at this one is concerned.
        assert_eq!(post(BEN, 2000).await.0, 200);
        let body = json!({ "client_id": Uuid::new_v4(), "mutation": 1, "writes": [note(3000, "x")] });
        let of_ann = client.post(&url).header(PEER, ANN).bearer_auth(token("ann")).json(&body).send().await;
        assert_eq!(of_ann.expect("an answer").status().as_u16(), 200);
    }

    async fn a_user_has_so_many_distinct_shapes_over_all_connections(db: TestDatabase) {
        let server = server(&db, |config| config.limits.shapes_of_user_max = 2).await;
        let connect = async |name: &str| {
            let options = ClientOptions { token: Some(token(name)), ..ClientOptions::default() };
            SyncClient::connect(&server.ws_url(), options).await
        };
        let notes = |filter: &str| json!({ "entity": "notes", "where": filter });
        let (mut one, mut other, mut ben) = (connect("ann").await, connect("ann").await, connect("ben").await);
        // The same on both connections is one.
        for client in [&mut one, &mut other] {
            client.subscribe_with("a", notes("id = 1")).await;
            client.wait_subscribed("a").await;
        }
        one.subscribe_with("b", notes("id = 2")).await;
        one.wait_subscribed("b").await;
        for client in [&mut one, &mut other] {
            client.subscribe_with("c", notes("id = 3")).await;
            assert_eq!(client.wait_refused("c").await, "too_many_subscriptions");
        }
        other.subscribe_with("d", notes("2 = id")).await;
        other.wait_subscribed("d").await;
        let http = server.http().with_token(token("ann"));
        let events = http.get("/api/sync/events?entity=notes&where=id%3D3").await;
        assert_eq!((events.status, &events.json()["code"]), (429, &json!("too_many_subscriptions")));
        // A page is no subscription, but waiting for changes is one.
        let page = http.get("/api/sync/notes?where=id%3D3").await.json();
        let cursor = page["cursor"].as_str().expect("a cursor");
        let poll = http.get(&format!("/api/sync/notes?where=id%3D3&wait_ms=1&cursor={cursor}")).await;
        assert_eq!((poll.status, &poll.json()["code"]), (429, &json!("too_many_subscriptions")));
        ben.subscribe_with("c", notes("id = 3")).await;
        ben.wait_subscribed("c").await;
        // As long as one connection has a shape, it counts.
        one.unsubscribe("a").await;
        one.ping().await;
        one.subscribe_with("c2", notes("id = 3")).await;
        assert_eq!(one.wait_refused("c2").await, "too_many_subscriptions");
        other.unsubscribe("a").await;
        other.ping().await;
        one.subscribe_with("c3", notes("id = 3")).await;
        one.wait_subscribed("c3").await;
        // So does a connection that ends.
        drop(other);
        one.unsubscribe("b").await;
        eventually("there is room", async || {
            let mut again = connect("ann").await;
            again.subscribe_with("e", notes("id = 4")).await;
            again.wait_until(|client| *client.subscription("e").phase() != Phase::Joining).await;
            again.subscription("e").is_live().then_some(())
        }).await;
    }

    async fn a_user_with_all_shapes_keeps_them_when_the_claims_change(db: TestDatabase) {
        let server = server(&db, |config| config.limits.shapes_of_user_max = 1).await;
        let of_teams = |teams: &[&str]| {
            let claims = json!({ "sub": "ann", "teams": teams });
            sign_with_secret(SECRET, claims)
        };
        let options = ClientOptions { token: Some(of_teams(&["red"])), ..ClientOptions::default() };
        let mut ann = SyncClient::connect(&server.ws_url(), options).await;
        ann.subscribe("a", "cards").await;
        ann.wait_subscribed("a").await;
        ann.send_json(json!({ "type": "auth", "token": of_teams(&["red", "blue"]) })).await;
        ann.wait_for(|frame| frame["type"] == "refetch" && frame["reason"] == "permission").await;
        ann.wait_for(|frame| frame["type"] == "subscribed").await;
        assert!(ann.errors().is_empty(), "{:?}", ann.errors());
    }

    async fn a_user_who_pushes_too_much_is_read_later(db: TestDatabase) {
        let server = server(&db, |config| config.limits.writes_per_second_of_user = 20).await;
        let began = Instant::now();
        let options = ClientOptions { token: Some(token("ann")), ..ClientOptions::default() };
        let mut ann = SyncClient::connect(&server.ws_url(), options).await;
        // Six times ten writes: forty at once, and twenty more that are paid for.
        for mutation in 1..=6 {
            let writes: Vec<Value> = (0..10).map(|row| note(mutation * 100 + row, "x")).collect();
            ann.send_push(mutation, json!(writes)).await;
        }
        ann.wait_until(|ann| ann.outcome(6).is_some()).await;
        for mutation in 1..=6 {
            ann.outcome(mutation).expect("an answer").acked();
        }
        // The sixth was read once the first fifty were paid for but for what may come at once.
        assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
        assert_eq!(count(&db, "notes").await, 60);
    }
}
