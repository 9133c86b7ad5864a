//! What the output of the server, and what its operators read, does not contain.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rhtmx_sync_tests::sign_with_secret;
use serde_json::json;
use tempfile::TempDir;
use testkit::{ClientOptions, Http, ServerProcess, SyncClient, TestDatabase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ANY_PORT: [&str; 2] = ["--bind", "127.0.0.1:0"];

/// Whatever the output's level: tokens, tickets and secrets are in none of it, nor in what operators read.
/// CVE-2023-28443: tokens in a log. CVE-2021-41109: tokens in what others read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_ticket_or_secret_is_in_the_output() {
    let (secret, operator) = (
        "a secret of the tests, longer than 32 bytes",
        "what-only-operators-of-the-tests-know",
    );
    let db = TestDatabase::sqlite().await;
    db.execute("CREATE TABLE todos (id integer PRIMARY KEY)")
        .await;
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("rhtmx-sync.toml");
    fs::write(&file, "[entities.todos]\nread = 'TRUE'\n").expect("a file");
    let settings = [
        ("DATABASE_URL", db.url()),
        ("RHTMX_SYNC_CONFIG", file.display().to_string()),
        ("RHTMX_SYNC_AUTH_JWT_SECRET", secret.to_owned()),
        ("RHTMX_SYNC_AUTH_OPERATOR_TOKEN", operator.to_owned()),
        ("RUST_LOG", "trace".to_owned()),
    ];
    let server = ServerProcess::spawn(ANY_PORT, settings).await;
    let good = sign_with_secret(secret, json!({ "sub": "ann-confidential" }));
    let forged = sign_with_secret(
        "another secret of the tests, longer than 32 bytes",
        json!({ "sub": "ann-confidential" }),
    );
    for (token, welcome) in [(&good, true), (&forged, false)] {
        let options = ClientOptions {
            token: Some(token.clone()),
            ..ClientOptions::default()
        };
        let connected = SyncClient::try_connect(&server.ws_url(), options).await;
        assert_eq!(connected.is_ok(), welcome);
        let read = Http::new(server.base_url()).with_token(token.as_str());
        let status = read.get("/api/sync/todos").await.status;
        assert_eq!(status == 200, welcome, "{status}");
    }
    let http = Http::new(server.base_url()).with_token(good.as_str());
    let reply = http.post("/api/sync/ticket", &json!({})).await;
    let ticket = reply.json()["ticket"]
        .as_str()
        .expect("a ticket")
        .to_owned();
    for expected in ["200", "401"] {
        let mut socket = TcpStream::connect(server.address())
            .await
            .expect("a connection");
        let request = format!(
            "GET /api/sync/events?entity=todos&ticket={ticket} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        );
        socket
            .write_all(request.as_bytes())
            .await
            .expect("the request is sent");
        let mut status = [0; 12];
        socket.read_exact(&mut status).await.expect("a status line");
        assert_eq!(&status[9..], expected.as_bytes());
    }
    // A fresh token, a wrong one on a living connection, and one where no token belongs.
    let options = ClientOptions {
        token: Some(good.clone()),
        headers: vec![("x-token", forged.clone())],
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&server.ws_url(), options).await;
    for token in [&good, &forged] {
        client
            .send_json(json!({ "type": "auth", "token": token }))
            .await;
    }
    assert_eq!(client.close_code().await, 4401);
    let operators = Http::new(server.base_url()).with_token(operator);
    let status = operators.get("/api/sync/status").await.text;
    let metrics = operators.get("/metrics").await.text;
    assert!(status.contains("refused") && metrics.contains("rhtmx_sync_"));
    let output = server.output();
    assert!(output.contains("TRACE"), "{output}");
    let signature = good.rsplit_once('.').expect("a token").1;
    let confidential = [good.as_str(), &forged, signature, &ticket, secret, operator];
    for text in [&output, &status, &metrics] {
        for shown in confidential {
            assert!(!text.contains(shown), "{shown}");
        }
    }
    for text in [&status, &metrics] {
        assert!(!text.contains("ann-confidential"), "{text}");
    }
}

/// Whatever comes from outside: none of it begins a line of the output, or changes how a terminal shows one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_forges_no_line_of_the_output() {
    let secret = "a secret of the tests, longer than 32 bytes";
    let db = TestDatabase::sqlite().await;
    db.execute("CREATE TABLE todos (id integer PRIMARY KEY)")
        .await;
    let settings = [
        ("DATABASE_URL", db.url()),
        ("RHTMX_SYNC_ENTITY", "todos".to_owned()),
        ("RHTMX_SYNC_AUTH_JWT_SECRET", secret.to_owned()),
        ("RHTMX_SYNC_AUTH_TRUSTED_PROXIES", "127.0.0.0/8".to_owned()),
        ("RUST_LOG", "trace".to_owned()),
    ];
    let server = ServerProcess::spawn(ANY_PORT, settings).await;
    let forged = "x\nFORGED \u{1b}[31m ERROR\rFORGED";
    let token = sign_with_secret(
        secret,
        json!({ "sub": "ann", "role": "reader", "note": forged }),
    );
    let options = ClientOptions {
        token: Some(token.clone()),
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&server.ws_url(), options).await;
    for frame in [
        json!({ "type": "subscribe", "id": forged, "entity": forged }),
        json!({ "type": "subscribe", "id": "t", "entity": "todos", "where": forged }),
        json!({ "type": "push", "mutation": 1, "writes": [{ "entity": forged, "op": forged, "key": forged }] }),
        json!({ "type": "push", "mutation": 1, "writes": [{ "entity": "todos", "op": "create", "key": forged, "values": { (forged): 1 } }] }),
        json!({ "type": forged }),
    ] {
        client.send_json(frame).await;
        client
            .wait_for(|frame| frame["type"] == "error" || frame["type"] == "reject")
            .await;
    }
    client.send_text(forged).await;
    client.wait_for(|frame| frame["type"] == "error").await;
    // A `kid` and a `sub` that end a line, in tokens that are wrong; and the same in headers and addresses.
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "kid": forged }).to_string());
    let claims = URL_SAFE_NO_PAD.encode(json!({ "sub": forged, "iss": forged }).to_string());
    for token in [format!("{header}.{claims}.AAAA"), forged.to_owned()] {
        let options = ClientOptions {
            token: Some(token),
            ..ClientOptions::default()
        };
        assert!(
            SyncClient::try_connect(&server.ws_url(), options)
                .await
                .is_err()
        );
    }
    for request in [
        "GET /api/sync/x%0AFORGED%1B%5B31m HTTP/1.1\r\nhost: 127.0.0.1\r\nx-forwarded-for: 1.2.3.4%0AFORGED, \u{9b}31mFORGED\r\norigin: http://x%0AFORGED\r\n\r\n",
        "GET /api/sync/todos?cursor=x%0AFORGED&where=x%0AFORGED HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer x%0AFORGED\r\nx-forwarded-for: FORGED\r\n\r\n",
        "GET /\u{1b}[31mFORGED HTTP/1.1\r\nhost: \u{1b}[31mFORGED\r\norigin: \u{1b}[31mFORGED\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(server.address())
            .await
            .expect("a connection");
        socket
            .write_all(request.as_bytes())
            .await
            .expect("the request is sent");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.expect("a status line");
        assert!(answer[9] == b'4', "{answer:?}");
    }
    let output = server.output();
    assert!(output.contains("TRACE"), "{output}");
    for line in output.lines() {
        assert!(!line.trim_start().starts_with("FORGED"), "{line}");
        assert!(!line.contains("\u{1b}[31m"), "{line}");
    }
}

/// What an operator would else find out from an app that never gets a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_nodes_do_not_get_is_named() {
    let db = TestDatabase::sqlite().await;
    db.execute("CREATE TABLE plain (id integer PRIMARY KEY); CREATE TABLE counted (id integer PRIMARY KEY, likes integer)")
        .await;
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("rhtmx-sync.toml");
    let settings = "[sync]\nfields = 'last_write_wins'\ncrdt = true\n[entities.plain]\nread = 'TRUE'\n\
                    [entities.counted]\nread = 'TRUE'\n[entities.counted.columns.likes]\nmerge = 'counter'\n";
    fs::write(&file, settings).expect("a file");
    let settings = [
        ("DATABASE_URL", db.url()),
        ("RHTMX_SYNC_CONFIG", file.display().to_string()),
    ];
    let server = ServerProcess::spawn(ANY_PORT, settings).await;
    let output = server.output();
    assert!(output.contains("do not sync \"counted\""), "{output}");
    assert!(!output.contains("do not sync \"plain\""), "{output}");
}
