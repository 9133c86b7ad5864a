//! Who a token lets in, on every way in, while the issuer of its keys behaves and misbehaves.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rhtmx_sync::{JwtAuthenticator, JwtConfig, OperatorToken};
use rhtmx_sync_tests::{Answer, Issuer, SigningKey, TestServer, now, sign_with_secret};
use serde_json::{Value, json};
use testkit::{ClientOptions, ConnectError, SyncClient, TestDatabase, both_backends, eventually};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::claims::OPERATOR;
use crate::tables::NOTES;

const SECRET: &str = "a secret of the tests, longer than 32 bytes";

async fn server(db: &TestDatabase, jwt: JwtConfig) -> TestServer {
    db.execute(NOTES).await;
    server_of_notes(db, jwt).await
}

/// A server of the table that is there already.
async fn server_of_notes(db: &TestDatabase, jwt: JwtConfig) -> TestServer {
    let mut config = TestServer::config(db, ["notes"]).await;
    let authenticator = JwtAuthenticator::new(jwt)
        .await
        .expect("tokens can be verified");
    config.auth.authenticator = Arc::new(authenticator);
    config.auth.operator_token = Some(OperatorToken::new(OPERATOR).expect("a token"));
    TestServer::with_config(config).await
}

fn with_secret() -> JwtConfig {
    let mut jwt = JwtConfig::default();
    jwt.jwt_secret = Some(SECRET.to_owned());
    jwt
}

fn published_by(issuer: &Issuer) -> JwtConfig {
    let mut jwt = JwtConfig::default();
    jwt.jwks_url = Some(issuer.jwks_url());
    jwt
}

fn ann(key: SigningKey) -> String {
    key.sign(json!({ "sub": "ann" }))
}

/// The user whom the server welcomes over a WebSocket, or the code of its error and of its close.
async fn hello(server: &TestServer, token: Option<&str>) -> Result<Value, (Value, u16)> {
    let options = ClientOptions {
        token: token.map(str::to_owned),
        ..ClientOptions::default()
    };
    match SyncClient::try_connect(&server.ws_url(), options).await {
        Ok(client) => Ok(client.welcome()["user"].clone()),
        Err(ConnectError::Closed { closed, error }) => {
            Err((error.expect("an error frame")["code"].clone(), closed.code))
        }
        Err(error) => panic!("{error}"),
    }
}

/// The status of a read over HTTP, and the code of its error.
async fn read(server: &TestServer, token: Option<&str>) -> (u16, Value) {
    let http = match token {
        Some(token) => server.http().with_token(token),
        None => server.http(),
    };
    let answer = http.get("/api/sync/notes").await;
    (answer.status, answer.json()["code"].clone())
}

/// What an operator reads.
async fn status(server: &TestServer) -> Value {
    let operator = server.http().with_token(OPERATOR);
    operator.get("/api/sync/status").await.json()
}

async fn auth_status(server: &TestServer) -> Value {
    status(server).await["auth"].clone()
}

#[track_caller]
fn unauthenticated<T>() -> Result<T, (Value, u16)> {
    Err((json!("unauthenticated"), 4401))
}

both_backends! {
    async fn a_valid_token_is_welcome_and_any_other_is_not(db: TestDatabase) {
        let server = server(&db, with_secret()).await;
        let user = "67E55044-10B1-426F-9247-BB680E5FE0C8";
        let good = sign_with_secret(SECRET, json!({ "sub": user, "role": "authenticated" }));
        assert_eq!(hello(&server, Some(&good)).await, Ok(json!("67e55044-10b1-426f-9247-bb680e5fe0c8")));
        assert_eq!(read(&server, Some(&good)).await.0, 200);

        let other = "another secret of the tests, longer than 32 bytes";
        let (signed, signature) = good.rsplit_once('.').expect("a token");
        let refused = [
            sign_with_secret(other, json!({ "sub": "ann" })),
            sign_with_secret(SECRET, json!({ "sub": "ann", "exp": now() - 3600 })),
            sign_with_secret(SECRET, json!({ "sub": "ann", "nbf": now() + 3600 })),
            sign_with_secret(SECRET, json!({ "sub": "ann", "exp": "2099-01-01" })),
            sign_with_secret(SECRET, json!({ "sub": "" })),
            sign_with_secret(SECRET, json!({ "sub": "ann", "role": "service_role" })),
            ann(SigningKey::First),
            format!("{signed}."),
            signed.to_owned(),
            format!("{signed}.{signature}="),
            format!("eyJhbGciOiJub25lIn0.{}.", signed.split_once('.').expect("claims").1),
            "x".to_owned(),
            "a".repeat(100_000),
        ];
        for token in &refused {
            assert_eq!(hello(&server, Some(token)).await, unauthenticated(), "{token:.60}");
        }
        for token in refused.iter().filter(|token| token.len() < 10_000) {
            assert_eq!(read(&server, Some(token)).await, (401, json!("unauthenticated")), "{token:.60}");
        }
        assert_eq!(hello(&server, None).await, unauthenticated());
        assert_eq!(read(&server, None).await, (401, json!("unauthenticated")));
        let status = auth_status(&server).await;
        assert_eq!(status["accepted"], 2);
        assert_eq!(status["refused"]["expired"], 2);
        assert_eq!(status["refused"]["too_large"], 1);
        assert_eq!(status["refused"]["missing"], 2);
        assert_eq!(status["keys"]["source"], "jwt_secret");
    }

    async fn clients_without_a_token_are_let_in_where_configured_and_bad_tokens_are_not(db: TestDatabase) {
        let mut jwt = with_secret();
        jwt.anonymous = true;
        let server = server(&db, jwt).await;
        assert_eq!(hello(&server, None).await, Ok(Value::Null));
        assert_eq!(read(&server, None).await.0, 200);
        let expired = sign_with_secret(SECRET, json!({ "sub": "ann", "exp": now() - 3600 }));
        for token in ["", "x", &expired] {
            assert_eq!(hello(&server, Some(token)).await, unauthenticated(), "{token}");
        }
        for token in ["x", &expired] {
            assert_eq!(read(&server, Some(token)).await.0, 401, "{token}");
        }
    }

    async fn a_header_that_is_no_token_is_not_taken_for_none(db: TestDatabase) {
        let mut jwt = with_secret();
        jwt.anonymous = true;
        let server = server(&db, jwt).await;
        let request = || reqwest::Client::new().get(server.http().url("/api/sync/notes"));
        assert_eq!(request().send().await.expect("an answer").status(), 200);
        let good = format!("Bearer {}", sign_with_secret(SECRET, json!({ "sub": "ann" })));
        assert_eq!(request().header("authorization", &good).send().await.expect("an answer").status(), 200);
        let twice = request().header("authorization", &good).header("authorization", &good);
        let malformed = ["Bearer", "Bearer a b", "Basic YW5uOnNlY3JldA==", "x"];
        let malformed = malformed.map(|value| request().header("authorization", value));
        for refused in malformed.into_iter().chain([twice]) {
            let answer = refused.send().await.expect("an answer");
            assert_eq!(answer.status(), 401);
            let body: Value = answer.json().await.expect("JSON");
            assert_eq!(body["code"], "unauthenticated");
        }
    }

    /// A URL is in logs, in histories, and in the `Referer` of the next page.
    async fn a_token_in_a_url_or_in_the_name_of_a_protocol_is_none(db: TestDatabase) {
        let server = server(&db, with_secret()).await;
        let good = sign_with_secret(SECRET, json!({ "sub": "ann" }));
        for path in ["notes?token=", "notes?access_token=", "events?entity=notes&token=", "events?entity=notes&ticket="] {
            let answer = server.http().get(&format!("/api/sync/{path}{good}")).await;
            assert!(matches!(answer.status, 400 | 401), "{path}: {}", answer.text);
            assert!(!answer.text.contains(&good), "{path}: {}", answer.text);
        }
        let url = format!("{}?token={good}&access_token={good}", server.ws_url());
        let refused = SyncClient::try_connect(&url, ClientOptions::default()).await;
        assert!(refused.expect_err("no welcome").to_string().contains("4401"));
        let mut request = server.ws_url().into_client_request().expect("an address");
        let protocols = format!("{good}, rhtmx-sync.v1").parse().expect("a header");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocols);
        let (mut socket, response) = tokio_tungstenite::connect_async(request).await.expect("a connection");
        // The answer does not choose the token, which would be in the answer then.
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "rhtmx-sync.v1");
        let hello = json!({ "type": "hello", "protocol": 1, "client_id": uuid::Uuid::new_v4() });
        socket.send(Message::text(hello.to_string())).await.expect("the socket is open");
        let error = socket.next().await.expect("a frame").expect("a message").to_string();
        assert!(error.contains("unauthenticated") && !error.contains(&good), "{error}");
    }

    async fn a_file_of_keys_is_read_again_when_a_token_names_a_new_key(db: TestDatabase) {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("keys.json");
        let publish = |key: SigningKey| {
            // As configuration is replaced: under another name first.
            let new = folder.path().join("new.json");
            std::fs::write(&new, json!({ "keys": [key.jwk()] }).to_string()).expect("a file");
            std::fs::rename(&new, &path).expect("the file is replaced");
        };
        publish(SigningKey::First);
        let mut jwt = JwtConfig::default();
        jwt.jwks_file = Some(path.clone());
        let server = server(&db, jwt).await;
        assert_eq!(hello(&server, Some(&ann(SigningKey::First))).await, Ok(json!("ann")));
        publish(SigningKey::Second);
        assert_eq!(hello(&server, Some(&ann(SigningKey::Second))).await, Ok(json!("ann")));
        assert_eq!(hello(&server, Some(&ann(SigningKey::First))).await, unauthenticated());
        assert_eq!(auth_status(&server).await["keys"]["source"], "jwks_file");
    }

    async fn a_refusal_repeats_nothing_of_the_token(db: TestDatabase) {
        let server = server(&db, with_secret()).await;
        let token = sign_with_secret(SECRET, json!({ "sub": "ann-confidential", "exp": now() - 3600 }));
        let answer = server.http().with_token(&*token).get("/api/sync/notes").await;
        assert_eq!(answer.status, 401);
        assert!(answer.text.contains("expired"), "{}", answer.text);
        let status = status(&server).await;
        assert_eq!(status["auth"]["refused"]["expired"], 1);
        let status = status.to_string();
        for part in token.split('.').chain(["ann-confidential", SECRET]) {
            assert!(!answer.text.contains(part) && !status.contains(part), "{part}");
        }
    }

    async fn a_new_key_is_found_when_a_token_names_it(db: TestDatabase) {
        let issuer = Issuer::start(Answer::Keys(vec![SigningKey::First])).await;
        let server = server(&db, published_by(&issuer)).await;
        assert_eq!(hello(&server, Some(&ann(SigningKey::First))).await, Ok(json!("ann")));
        assert_eq!(issuer.asked(), 1);
        issuer.answer(Answer::Keys(vec![SigningKey::Second]));
        assert_eq!(hello(&server, Some(&ann(SigningKey::Second))).await, Ok(json!("ann")));
        assert_eq!(issuer.asked(), 2);
        // The first is no longer published.
        assert_eq!(hello(&server, Some(&ann(SigningKey::First))).await, unauthenticated());
    }

    async fn a_key_that_is_withdrawn_ends_the_connections_that_it_let_in(db: TestDatabase) {
        let issuer = Issuer::start(Answer::Keys(vec![SigningKey::First])).await;
        let server = server(&db, published_by(&issuer)).await;
        let connect = async |key: SigningKey| {
            let options = ClientOptions { token: Some(ann(key)), ..ClientOptions::default() };
            let mut client = SyncClient::connect(&server.ws_url(), options).await;
            client.subscribe("n", "notes").await;
            client.wait_subscribed("n").await;
            client
        };
        // A thief of the key has signed it, for a thousand years.
        let forged = SigningKey::First.sign(json!({ "sub": "ann", "exp": now() + 31_536_000_000 }));
        let stream = server.http().with_token(&*forged);
        let stream = stream.get("/api/sync/events?entity=notes");
        let rest = async {
            let mut first = connect(SigningKey::First).await;
            eventually("the stream has begun", async || (status(&server).await["sessions"] == 2).then_some(())).await;
            issuer.answer(Answer::Keys(vec![SigningKey::Second]));
            // A token of the next key makes the server look.
            let mut second = connect(SigningKey::Second).await;
            assert_eq!(first.close_code().await, 4401);
            assert_eq!(first.errors().last().expect("an error")["code"], "unauthenticated");
            db.execute("INSERT INTO notes VALUES (1, 'later')").await;
            second.wait_until(|client| client.row("n", "1").is_some()).await;
            assert!(!first.transcript().contains("later"));
            assert_eq!(hello(&server, Some(&ann(SigningKey::First))).await, unauthenticated());
        };
        let (streamed, ()) = tokio::join!(stream, rest);
        // It is whole because it has ended.
        assert!(streamed.text.contains("unauthenticated"), "{}", streamed.text);
    }

    async fn tokens_with_unknown_keys_ask_the_issuer_once_and_honest_users_are_served(db: TestDatabase) {
        let issuer = Issuer::start(Answer::Keys(vec![SigningKey::First])).await;
        let server = server(&db, published_by(&issuer)).await;
        let begun = std::time::Instant::now();
        let unknown = ann(SigningKey::Second);
        let strangers = futures_util::future::join_all((0..200).map(|_| read(&server, Some(&unknown))));
        let good = ann(SigningKey::First);
        let honest = futures_util::future::join_all((0..20).map(|_| read(&server, Some(&good))));
        let (strangers, honest) = tokio::join!(strangers, honest);
        assert!(strangers.iter().all(|(status, _)| *status == 401));
        assert!(honest.iter().all(|(status, _)| *status == 200));
        let reads_max = 2 + usize::try_from(begun.elapsed().as_secs() / 10).expect("a short time");
        assert!(issuer.asked() <= reads_max, "{}", issuer.asked());
    }

    async fn keys_that_cannot_be_read_again_serve_and_status_says_so(db: TestDatabase) {
        let issuer = Issuer::start(Answer::Keys(vec![SigningKey::First])).await;
        let mut jwt = published_by(&issuer);
        jwt.jwks_refresh_ms = 1;
        let server = server(&db, jwt).await;
        issuer.answer(Answer::Status(500));
        eventually("a read of the keys has failed", async || {
            assert_eq!(read(&server, Some(&ann(SigningKey::First))).await.0, 200);
            let keys = auth_status(&server).await["keys"].clone();
            let failed = keys["last_error"] == "the server answered with HTTP status 500";
            (failed && keys["count"] == 1).then_some(())
        }).await;
    }

    /// CVE-2026-102267: redirects that are followed.
    async fn an_issuer_that_misbehaves_is_not_believed(db: TestDatabase) {
        let issuer = Issuer::start(Answer::Redirect).await;
        db.execute(NOTES).await;
        let good = SigningKey::First.jwk();
        for (answer, error) in [
            (Answer::Redirect, "status 302"),
            (Answer::Status(500), "status 500"),
            (Answer::Text("<!doctype html>".to_owned()), "not a JSON Web Key Set"),
            (Answer::Text(json!({ "keys": [] }).to_string()), "no key"),
            (Answer::Text(json!({ "keys": vec![good.clone(); 101] }).to_string()), "100 keys"),
            (Answer::Endless, "larger than"),
        ] {
            let asked = issuer.asked();
            issuer.answer(answer.clone());
            let server = server_of_notes(&db, published_by(&issuer)).await;
            assert_eq!(issuer.asked(), asked + 1, "{answer:?}");
            let status = auth_status(&server).await;
            let found = status["keys"]["last_error"].as_str().unwrap_or_default();
            assert!(found.contains(error), "{answer:?}: {status}");
            // Nobody can say whether the token is right.
            assert_eq!(hello(&server, Some(&ann(SigningKey::First))).await, Err((json!("unavailable"), 1001)));
            server.shutdown().await;
        }
        // One malformed key beside a good one.
        issuer.answer(Answer::Text(json!({ "keys": [{ "kty": "EC" }, 7, good] }).to_string()));
        let server = server_of_notes(&db, published_by(&issuer)).await;
        assert_eq!(hello(&server, Some(&ann(SigningKey::First))).await, Ok(json!("ann")));
        assert_eq!(auth_status(&server).await["keys"]["ignored"], 2);
    }
}

/// The request is given up in time, so the server starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_issuer_does_not_hold_up_the_start() {
    let issuer = Issuer::start(Answer::Silence).await;
    let authenticator = JwtAuthenticator::new(published_by(&issuer))
        .await
        .expect("it starts");
    let keys = rhtmx_sync::Authenticator::status(&authenticator)
        .expect("a status")
        .keys;
    let error = keys.and_then(|keys| keys.last_error).expect("an error");
    assert!(error.contains("in time"), "{error}");
}
