//! An application that says by itself who somebody is: what its middleware puts into the request's extensions is believed,
//! on every way in, and only its own pages may use it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::{Next, from_fn};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rhtmx_sync::{ApplicationOnly, AuthError, Authenticator, Principal};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, ConnectError, SyncClient, TestDatabase, both_backends};
use uuid::Uuid;

use crate::claims::{self, now_ms, principal, token};
use crate::writes::{note, update};

/// The value of the cookie, which a real application would sign: claims, as `claims::token` writes them.
fn cookie(claims: &Value) -> String {
    format!("session={}", token(claims))
}

fn ann() -> Value {
    json!({ "sub": "ann", "teams": ["red"] })
}

/// Puts the principal of the cookie into the extensions.
async fn name(mut request: Request, next: Next) -> axum::response::Response {
    let cookie = request.headers().get(header::COOKIE);
    let named = cookie
        .and_then(|cookie| cookie.to_str().ok())
        .and_then(|cookie| cookie.strip_prefix("session="))
        .and_then(principal);
    if let Some(named) = named {
        request.extensions_mut().insert::<Principal>(named);
    }
    next.run(request).await
}

async fn server(db: &TestDatabase, authenticator: impl Authenticator + 'static) -> TestServer {
    claims::tables(db).await;
    let mut config = claims::config(db).await;
    config.auth.authenticator = Arc::new(authenticator);
    config.auth.expiry_grace_ms = 0;
    config
        .auth
        .allowed_origins
        .push("https://app.example".to_owned());
    TestServer::within(config, |routes: Router| routes.layer(from_fn(name))).await
}

fn options(headers: &[(&'static str, &str)]) -> ClientOptions {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    ClientOptions {
        headers: headers.collect(),
        ..ClientOptions::default()
    }
}

async fn welcomed(server: &TestServer, options: ClientOptions) -> SyncClient {
    SyncClient::connect(&server.ws_url(), options).await
}

/// The code of the error and of the close of a connection that is not welcomed.
async fn refused(server: &TestServer, options: ClientOptions) -> (Value, u16) {
    match SyncClient::try_connect(&server.ws_url(), options).await {
        Err(ConnectError::Closed { closed, error }) => {
            (error.expect("an error frame")["code"].clone(), closed.code)
        }
        other => panic!("{other:?}"),
    }
}

/// What each way in over HTTP answers to these headers: the status, and the code of an error.
async fn over_http(server: &TestServer, headers: &[(&'static str, &str)]) -> Vec<(u16, Value)> {
    let http = reqwest::Client::new();
    let url = |path: &str| server.http().url(&format!("/api/sync/{path}"));
    let push = json!({ "client_id": Uuid::new_v4(), "mutation": 1, "writes": [update("cards", 9, json!({ "body": "x" }))] });
    let mut answers = Vec::new();
    for request in [
        http.get(url("cards")),
        http.get(url("events?entity=cards")),
        http.post(url("cards")).json(&push),
    ] {
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let code = match status {
            // A stream of events has no end.
            200 => Value::Null,
            _ => answer.json::<Value>().await.expect("JSON")["code"].clone(),
        };
        answers.push((status, code));
    }
    answers
}

/// Origins of which none is the server's own, as browsers and programs send them.
const FOREIGN: [&str; 9] = [
    "null",
    "file://",
    "tauri://localhost",
    "https://evil.example",
    "https://evil.example:443",
    "HTTPS://APP.EXAMPLE",
    "https://app.example:8443",
    "http://127.0.0.1:1",
    "http://localhost",
];

both_backends! {
    async fn the_principal_of_the_application_is_believed_on_every_way_in(db: TestDatabase) {
        let server = server(&db, ApplicationOnly).await;
        let session = cookie(&ann());
        let mut client = welcomed(&server, options(&[("Cookie", &session)])).await;
        assert_eq!(client.welcome()["user"], "ann");
        client.subscribe("cards", "cards").await;
        client.wait_subscribed("cards").await;
        assert!(client.row("cards", "1").is_some() && client.row("cards", "2").is_none());
        client.push_next(json!([update("cards", 1, json!({ "body": "mine" }))])).await.acked();
        let outcome = client.push_next(json!([update("cards", 2, json!({ "body": "mine" }))])).await;
        assert_eq!(outcome.rejected().code, "not_found");

        // The card of nobody's team does not exist for anybody.
        let answers = over_http(&server, &[("Cookie", &session)]).await;
        assert_eq!(answers, [(200, Value::Null), (200, Value::Null), (409, json!("not_found"))]);
        let page = reqwest::Client::new().get(server.http().url("/api/sync/cards")).header("cookie", &session);
        let page: Value = page.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(page["rows"].as_array().map(Vec::len), Some(1), "{page}");

        for headers in [vec![], vec![("Cookie", "session=x")]] {
            assert_eq!(refused(&server, options(&headers)).await, (json!("unauthenticated"), 4401));
            for answer in over_http(&server, &headers).await {
                assert_eq!(answer, (401, json!("unauthenticated")));
            }
        }
    }

    async fn a_principal_that_has_expired_is_refused_and_its_connections_end(db: TestDatabase) {
        let server = server(&db, ApplicationOnly).await;
        let mut old = ann();
        old["exp_ms"] = json!(now_ms() - 1);
        let session = cookie(&old);
        assert_eq!(refused(&server, options(&[("Cookie", &session)])).await, (json!("unauthenticated"), 4401));
        assert_eq!(over_http(&server, &[("Cookie", &session)]).await[0], (401, json!("unauthenticated")));
        let mut soon = ann();
        soon["exp_ms"] = json!(now_ms() + 2000);
        let mut client = welcomed(&server, options(&[("Cookie", &cookie(&soon))])).await;
        assert_eq!(client.close_code().await, 4401);
    }

    async fn a_token_does_not_change_whom_the_application_has_named(db: TestDatabase) {
        let server = server(&db, claims::ClaimsAreTokens).await;
        let ben = token(&json!({ "sub": "ben", "teams": ["blue"] }));
        let session = cookie(&ann());
        let mut client = welcomed(&server, ClientOptions { token: Some(ben.clone()), ..options(&[("Cookie", &session)]) }).await;
        assert_eq!(client.welcome()["user"], "ann");
        for claims in [json!({ "sub": "ann", "teams": ["blue"] }), json!({ "sub": "ben" })] {
            client.send_json(json!({ "type": "auth", "token": token(&claims) })).await;
            assert_eq!(client.wait_error().await, "forbidden");
        }
        client.subscribe("cards", "cards").await;
        client.wait_subscribed("cards").await;
        assert!(client.row("cards", "2").is_none());
        // Where the application names nobody, a token counts: in `hello`, or in the upgrade's header.
        let bearer = format!("Bearer {ben}");
        for options in [ClientOptions { token: Some(ben), ..ClientOptions::default() }, options(&[("Authorization", &bearer)])] {
            assert_eq!(welcomed(&server, options).await.welcome()["user"], "ben");
        }
        let malformed = options(&[("Authorization", "Basic YW5uOnNlY3JldA==")]);
        assert_eq!(refused(&server, malformed).await, (json!("unauthenticated"), 4401));
    }

    async fn a_foreign_page_may_not_use_what_the_browser_sends_by_itself(db: TestDatabase) {
        let server = server(&db, ApplicationOnly).await;
        let session = cookie(&ann());
        let own = server.base_url();
        for origin in FOREIGN.into_iter().chain(["https://app.example"]) {
            let headers = [("Cookie", session.as_str()), ("Origin", origin)];
            assert_eq!(refused(&server, options(&headers)).await, (json!("forbidden"), 4403), "{origin}");
            for answer in over_http(&server, &headers).await {
                assert_eq!(answer, (403, json!("forbidden")), "{origin}");
            }
        }
        let headers = [("Cookie", session.as_str()), ("Origin", own.as_str())];
        assert_eq!(welcomed(&server, options(&headers)).await.welcome()["user"], "ann");
        assert_eq!(over_http(&server, &headers).await[0].0, 200);
        // Nothing has been written meanwhile.
        let rows = db.query_text("SELECT body FROM cards ORDER BY id").await;
        assert_eq!(rows, [Some("one".to_owned()), Some("two".to_owned())]);
    }

    async fn a_foreign_page_is_refused_whatever_its_origin_looks_like(db: TestDatabase) {
        let server = server(&db, claims::ClaimsAreTokens).await;
        for origin in FOREIGN {
            let headers = [("Origin", origin)];
            assert_eq!(refused(&server, options(&headers)).await, (json!("forbidden"), 4403), "{origin}");
            for answer in over_http(&server, &headers).await {
                assert_eq!(answer, (403, json!("forbidden")), "{origin}");
            }
        }
        let headers = [("Origin", "https://app.example")];
        let mut client = welcomed(&server, options(&headers)).await;
        client.push_next(json!([note(1, "one")])).await.acked();
        assert_eq!(over_http(&server, &headers).await[0].0, 200);
    }
}

/// Never answers.
#[derive(Debug)]
struct Hangs;

impl Authenticator for Hangs {
    fn verify<'a>(
        &'a self,
        _token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Principal, AuthError>> {
        std::future::pending().boxed()
    }
}

both_backends! {
    async fn an_authenticator_that_hangs_is_given_up_and_clients_try_again(db: TestDatabase) {
        claims::tables(&db).await;
        let mut config = claims::config(&db).await;
        config.auth.authenticator = Arc::new(Hangs);
        config.auth.verify_timeout_ms = 50;
        let server = TestServer::with_config(config).await;
        assert_eq!(refused(&server, ClientOptions::default()).await, (json!("unavailable"), 1001));
        for answer in over_http(&server, &[]).await {
            assert_eq!(answer, (503, json!("unavailable")));
        }
    }
}
