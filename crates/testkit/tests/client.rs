//! The client against a scripted server.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use rhtmx_sync_testkit::{ClientOptions, ConnectError, PushOutcome, SyncClient, gzip};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// The server's side of one connection.
struct Script(WebSocketStream<TcpStream>);

impl Script {
    /// Waits for a text frame of this type.
    async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let message = self
                .0
                .next()
                .await
                .expect("the client is gone")
                .expect("the connection broke");
            if let Message::Text(text) = message {
                let frame: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(frame["type"], kind);
                return frame;
            }
        }
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn send_gzipped(&mut self, frame: Value) {
        self.0
            .send(Message::binary(gzip(frame.to_string().as_bytes())))
            .await
            .unwrap();
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "because".into(),
        };
        self.0.close(Some(frame)).await.unwrap();
    }

    async fn welcome(&mut self, last_mutation: u64) -> Value {
        let hello = self.expect("hello").await;
        self.send(json!({
            "type": "welcome", "protocol": 1, "session_id": "x", "epoch": "e",
            "last_mutation": last_mutation, "heartbeat_ms": 1000,
            "limits": { "frame_bytes_max": 1, "subscriptions_max": 1, "writes_max": 1 },
        }))
        .await;
        hello
    }

    async fn subscribe(&mut self, rows: Value) {
        let id = self.expect("subscribe").await["id"].clone();
        self.send(json!({ "type": "snapshot", "id": id, "rows": rows, "more": false }))
            .await;
        self.send(subscribed(&id, "c1")).await;
    }
}

fn subscribed(id: &Value, cursor: &str) -> Value {
    let schema = json!({ "key": ["id"], "columns": { "id": "int4" } });
    json!({ "type": "subscribed", "id": id, "shape": "s", "cursor": cursor, "schema": schema })
}

/// Serves one connection after another with the script, and returns the URL.
async fn serve<Play>(mut script: impl FnMut(Script) -> Play + Send + 'static) -> String
where
    Play: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(socket) = accept_hdr_async(socket, choose_protocol).await {
                script(Script(socket)).await;
            }
        }
    });
    format!("ws://{address}/api/sync/ws")
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
fn choose_protocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    assert_eq!(request.headers()["Sec-WebSocket-Protocol"], "rhtmx-sync.v1");
    response.headers_mut().insert(
        "Sec-WebSocket-Protocol",
        HeaderValue::from_static("rhtmx-sync.v1"),
    );
    Ok(response)
}

/// Returns the message with which the future panics.
async fn failure<T>(future: impl Future<Output = T>) -> String {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(_) => panic!("the future did not panic"),
        Err(panic) => *panic.downcast::<String>().unwrap(),
    }
}

#[tokio::test]
async fn the_client_follows_a_subscription() {
    let url = serve(|mut server| async move {
        let hello = server.welcome(0).await;
        assert_eq!(
            (&hello["protocol"], &hello["token"]),
            (&json!(1), &json!("secret"))
        );
        server
            .subscribe(json!([{ "key": "1", "row": { "id": 1 } }]))
            .await;
        let rows: Vec<Value> = (2..200)
            .map(|id| json!({ "op": "put", "key": id.to_string(), "row": { "id": id } }))
            .collect();
        server
            .send_gzipped(json!({ "type": "changes", "shape": "s", "changes": rows }))
            .await;
        server
            .send(json!({ "type": "cursor", "cursor": "c2" }))
            .await;
        server.close(4401).await;
    })
    .await;
    let options = ClientOptions {
        gzip: true,
        token: Some("secret".to_owned()),
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&url, options).await;
    client.subscribe(1, "notes").await;
    client.wait_subscribed(1).await;
    assert_eq!(client.rows(1).len(), 1);
    assert_eq!(client.wait_cursor().await, "c2");
    assert_eq!(
        (
            client.rows(1).len(),
            client.puts(1, "77"),
            client.frames("changes")
        ),
        (199, 1, 1)
    );
    assert_eq!(client.close_code().await, 4401);
}

#[tokio::test]
async fn a_violation_fails_with_the_transcript() {
    let url = serve(|mut server| async move {
        server.welcome(0).await;
        server
            .send(json!({ "type": "changes", "shape": "s9", "changes": [] }))
            .await;
    })
    .await;
    let mut client = SyncClient::connect(&url, ClientOptions::default()).await;
    let message = failure(client.next_frame()).await;
    assert!(
        message.contains("which no live subscription has"),
        "{message}"
    );
    assert!(
        message.contains("-> {\"client_id\"") && message.contains("<- {\"changes\":[]"),
        "{message}"
    );
}

#[tokio::test]
async fn gzip_without_accept_or_benefit_is_a_violation() {
    let url = serve(|mut server| async move {
        server.welcome(0).await;
        server.send_gzipped(json!({ "type": "pong" })).await;
    })
    .await;
    let mut client = SyncClient::connect(&url, ClientOptions::default()).await;
    assert!(
        failure(client.next_frame())
            .await
            .contains("accepts no gzip")
    );
    let options = ClientOptions {
        gzip: true,
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&url, options).await;
    assert!(
        failure(client.next_frame())
            .await
            .contains("that get smaller")
    );
}

#[tokio::test]
async fn a_server_that_hangs_fails_the_test() {
    let url = serve(|mut server| async move {
        server.welcome(0).await;
        std::future::pending::<()>().await;
    })
    .await;
    let options = ClientOptions {
        patience: Duration::from_millis(50),
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&url, options).await;
    assert!(failure(client.next_frame()).await.contains("hangs"));
}

#[tokio::test]
async fn a_refused_hello_returns_the_error_and_the_close_code() {
    let url = serve(|mut server| async move {
        server.expect("hello").await;
        let code = "unauthenticated";
        server
            .send(json!({ "type": "error", "code": code, "message": "no", "fatal": true }))
            .await;
        server.close(4401).await;
    })
    .await;
    match SyncClient::try_connect(&url, ClientOptions::default()).await {
        Err(ConnectError::Closed {
            closed,
            error: Some(error),
        }) => {
            assert_eq!(
                (closed.code, &error["code"]),
                (4401, &json!("unauthenticated"))
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn push_returns_the_answer() {
    let url = serve(|mut server| async move {
        server.welcome(4).await;
        assert_eq!(server.expect("push").await["mutation"], 5);
        server
            .send(json!({ "type": "ack", "mutation": 5, "stamps": [{ "write": 0, "hlc": "h" }] }))
            .await;
        server.expect("push").await;
        server
            .send(json!({
                "type": "reject", "mutation": 6, "code": "constraint", "message": "taken",
                "write": 0, "column": "body",
            }))
            .await;
        server.expect("push").await;
        server
            .send(json!({ "type": "ack", "mutation": 5, "stamps": [{ "write": 0, "hlc": "h" }] }))
            .await;
        server.expect("ping").await;
        server.send(json!({ "type": "pong", "at": 0 })).await;
    })
    .await;
    let mut client = SyncClient::connect(&url, ClientOptions::default()).await;
    let acked = client.push_next(json!([])).await;
    assert_eq!(
        acked,
        PushOutcome::Acked {
            stamps: vec![json!({ "write": 0, "hlc": "h" })]
        }
    );
    let outcome = client.push_next(json!([])).await;
    let rejection = outcome.rejected();
    assert_eq!(
        (
            rejection.code.as_str(),
            rejection.write,
            rejection.column.as_deref()
        ),
        ("constraint", Some(0), Some("body"))
    );
    client.push(5, json!([])).await.acked();
    client.ping().await;
    assert_eq!(client.next_mutation(), 7);
}

#[tokio::test]
async fn a_reconnect_resumes_and_pushes_again() {
    let mut connections = 0;
    let url = serve(move |mut server| {
        connections += 1;
        let first = connections == 1;
        async move {
            if first {
                server.welcome(0).await;
                server
                    .subscribe(json!([{ "key": "1", "row": { "id": 1 } }]))
                    .await;
                server.expect("push").await;
                server.expect("push").await;
                return;
            }
            server.welcome(1).await;
            let subscribe = server.expect("subscribe").await;
            assert_eq!(
                (&subscribe["cursor"], &subscribe["where"]),
                (&json!("c1.s"), &json!("id < 9"))
            );
            assert_eq!(server.expect("push").await["mutation"], 2);
            let put = json!({ "op": "put", "key": "2", "row": { "id": 2 } });
            server
                .send(json!({ "type": "changes", "id": "a", "changes": [put] }))
                .await;
            server.send(subscribed(&json!("a"), "c2")).await;
            server.send(json!({ "type": "ack", "mutation": 2 })).await;
        }
    })
    .await;
    let mut client = SyncClient::connect(&url, ClientOptions::default()).await;
    client
        .subscribe_with("a", json!({ "entity": "notes", "where": "id < 9" }))
        .await;
    client.wait_subscribed("a").await;
    client.send_push(1, json!([])).await;
    client.send_push(2, json!([])).await;
    client.try_next_frame().await.unwrap_err();

    let mut client =
        SyncClient::reconnect(&url, ClientOptions::default(), &client.into_state()).await;
    client.wait_subscribed("a").await;
    client.wait_answered().await;
    assert_eq!(
        (
            client.rows("a").len(),
            client.puts("a", "1"),
            client.cursor()
        ),
        (2, 0, Some("c2"))
    );
}
