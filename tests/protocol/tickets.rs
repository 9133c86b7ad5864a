//! One-time tickets for streams of events, which a browser opens without headers.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{TestDatabase, both_backends};

use crate::claims::{self, now_ms, token};
use crate::sse::Events;

async fn server(db: &TestDatabase) -> TestServer {
    claims::tables(db).await;
    let mut config = claims::config(db).await;
    config.auth.expiry_grace_ms = 0;
    config
        .auth
        .allowed_origins
        .push("https://app.example".to_owned());
    config.limits.tickets_of_user_max = 3;
    TestServer::with_config(config).await
}

fn ann() -> Value {
    json!({ "sub": "ann", "teams": ["red"] })
}

/// Asks for a ticket; returns the status and the answer.
async fn ask(server: &TestServer, claims: &Value) -> (u16, Value) {
    let http = server.http().with_token(token(claims));
    let reply = http.post("/api/sync/ticket", &json!({})).await;
    (reply.status, reply.json())
}

async fn ticket(server: &TestServer, claims: &Value) -> String {
    let (status, answer) = ask(server, claims).await;
    assert_eq!(
        (status, &answer["expires_in_ms"]),
        (200, &json!(30_000)),
        "{answer}"
    );
    answer["ticket"].as_str().expect("a ticket").to_owned()
}

fn events_of(ticket: &str) -> String {
    format!("entity=cards&ticket={ticket}")
}

async fn refused(server: &TestServer, ticket: &str) -> (u16, Value) {
    let url = server
        .http()
        .url(&format!("/api/sync/events?{}", events_of(ticket)));
    let reply = reqwest::get(url).await.expect("an answer");
    let status = reply.status().as_u16();
    assert_ne!(status, 200, "a stream, which has no end");
    let text = reply.text().await.expect("a body");
    assert!(ticket.is_empty() || !text.contains(ticket), "{text}");
    let body: Value = serde_json::from_str(&text).expect("JSON");
    (status, body["code"].clone())
}

both_backends! {
    async fn a_ticket_opens_one_stream_for_its_user(db: TestDatabase) {
        let server = server(&db).await;
        let anns = ticket(&server, &ann()).await;
        let mut events = Events::open(&server, &events_of(&anns), None).await;
        let snapshot = events.until("snapshot").await.pop().expect("an event");
        assert_eq!(snapshot.frame["rows"].as_array().map(Vec::len), Some(1), "{snapshot:?}");
        assert_eq!(snapshot.frame["rows"][0]["row"]["team"], "red");
        let unauthenticated = (401, json!("unauthenticated"));
        for wrong in [anns.as_str(), "", "x", &"0".repeat(64), "%00", "..%2F..%2Fetc%2Fpasswd"] {
            assert_eq!(refused(&server, wrong).await, unauthenticated, "{wrong}");
        }
        // A ticket is for streams alone.
        let other = ticket(&server, &ann()).await;
        let page = server.http().get(&format!("/api/sync/cards?ticket={other}")).await;
        assert_eq!((page.status, &page.json()["code"]), (400, &json!("protocol")));
    }

    async fn an_invalid_token_gets_no_ticket_and_the_answer_is_not_kept(db: TestDatabase) {
        let server = server(&db).await;
        let http = server.http();
        let reply = http.clone().with_token("x").post("/api/sync/ticket", &json!({})).await;
        assert_eq!((reply.status, &reply.json()["code"]), (401, &json!("unauthenticated")));
        let reply = http.with_token(token(&ann())).post("/api/sync/ticket", &json!({})).await;
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let foreign = reqwest::Client::new()
            .post(server.http().url("/api/sync/ticket"))
            .bearer_auth(token(&ann()))
            .header("origin", "https://evil.example");
        assert_eq!(foreign.send().await.expect("an answer").status(), 403);
    }

    async fn a_user_with_all_its_tickets_is_told_when_to_come_back(db: TestDatabase) {
        let server = server(&db).await;
        for _ in 0..3 {
            ticket(&server, &ann()).await;
        }
        let reply = server.http().with_token(token(&ann())).post("/api/sync/ticket", &json!({})).await;
        let answer = reply.json();
        assert_eq!((reply.status, &answer["code"]), (429, &json!("rate_limited")));
        let pause_ms = answer["retry_after_ms"].as_u64().expect("a time");
        assert!((1..=30_000).contains(&pause_ms), "{pause_ms}");
        let seconds: u64 = reply.header("retry-after").expect("a header").parse().expect("seconds");
        assert_eq!(seconds, pause_ms.div_ceil(1000));
        // Nobody else is concerned.
        ticket(&server, &json!({ "sub": "ben", "teams": ["blue"] })).await;
    }

    async fn a_stream_of_a_ticket_ends_with_the_token_that_it_was_given_for(db: TestDatabase) {
        let server = server(&db).await;
        let mut soon = ann();
        soon["exp_ms"] = json!(now_ms() + 2000);
        let opened = ticket(&server, &soon).await;
        let late = ticket(&server, &soon).await;
        let events = server.http().get(&format!("/api/sync/events?{}", events_of(&opened))).await;
        // The answer is whole because the stream has ended.
        assert!(events.text.contains("subscribed") && events.text.contains("unauthenticated"), "{}", events.text);
        assert_eq!(refused(&server, &late).await, (401, json!("unauthenticated")));
    }
}
