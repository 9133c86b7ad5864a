//! Gzipped frames, both ways.

use futures_util::{SinkExt as _, StreamExt as _};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, SyncClient, both_backends, gzip};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

use crate::claims;
use crate::tables::{NOTES, count, insert_notes, notes};
use crate::writes::note;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A socket after a `hello` and a subscription.
async fn subscribed_socket(server: &TestServer, hello: Value, entity: &str) -> Socket {
    let mut request = server.ws_url().into_client_request().expect("an address");
    let protocol = "rhtmx-sync.v1".parse().expect("a header");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let (mut socket, response) = tokio_tungstenite::connect_async(request)
        .await
        .expect("a connection");
    assert_eq!(
        response.headers()["Sec-WebSocket-Protocol"],
        "rhtmx-sync.v1"
    );
    for frame in [
        hello,
        json!({ "type": "subscribe", "id": "a", "entity": entity }),
    ] {
        socket
            .send(Message::text(frame.to_string()))
            .await
            .expect("the socket is open");
    }
    socket
}

/// The sizes of the text and binary frames of a subscription's first read, as they are on the socket.
async fn frames_of_a_first_read(server: &TestServer, accept: Value) -> (Vec<usize>, Vec<usize>) {
    let hello =
        json!({ "type": "hello", "protocol": 1, "client_id": Uuid::new_v4(), "accept": accept });
    let mut socket = subscribed_socket(server, hello, "notes").await;
    let (mut texts, mut binaries) = (Vec::new(), Vec::new());
    loop {
        match socket.next().await.expect("a frame").expect("a message") {
            Message::Text(text) => {
                texts.push(text.len());
                if text.contains(r#""type":"subscribed""#) {
                    return (texts, binaries);
                }
            }
            Message::Binary(bytes) => binaries.push(bytes.len()),
            _ => {}
        }
    }
}

both_backends! {
    async fn long_frames_are_gzipped_for_clients_that_accept_it(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 1000).await;
        let server = TestServer::start(&db, ["notes"]).await;
        for accept in [json!(["gzip"]), json!(["br", "gzip"])] {
            let (texts, binaries) = frames_of_a_first_read(&server, accept).await;
            assert!(texts.iter().all(|bytes| *bytes <= 1024), "{texts:?}");
            assert!(
                !binaries.is_empty() && binaries.iter().sum::<usize>() < 20_000,
                "{binaries:?}"
            );
        }
        for accept in [json!([]), json!(["br"]), json!(["GZIP"])] {
            let (texts, binaries) = frames_of_a_first_read(&server, accept).await;
            assert!(texts.iter().any(|bytes| *bytes > 10_000), "{texts:?}");
            assert_eq!(binaries, [] as [usize; 0]);
        }
    }

    async fn clients_with_and_without_gzip_receive_the_same_rows(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut clients = Vec::new();
        for gzip in [true, false, true, false] {
            let options = ClientOptions {
                gzip,
                ..ClientOptions::default()
            };
            let mut client = SyncClient::connect(&server.ws_url(), options).await;
            client.subscribe("a", "notes").await;
            client.wait_subscribed("a").await;
            clients.push(client);
        }
        insert_notes(&db, 1, 500).await;
        let expected = notes(&db).await;
        for client in &mut clients {
            client
                .wait_until(|client| *client.rows("a") == expected)
                .await;
        }
    }

    /// As CRIME and BREACH do it: somebody guesses at another's secret, and looks at how well frames are compressed. No
    /// frame is compressed together with what another user receives.
    async fn what_others_receive_does_not_change_the_size_of_a_frame(db: TestDatabase) {
        claims::tables(&db).await;
        let server = TestServer::with_config(claims::config(&db).await).await;
        let user = |name: &str, team: &str| claims::token(&json!({ "sub": name, "teams": [team] }));
        let hello = json!({ "type": "hello", "protocol": 1, "client_id": Uuid::new_v4(), "accept": ["gzip"], "token": user("ann", "red") });
        let mut ann = subscribed_socket(&server, hello, "cards").await;
        let options = ClientOptions { gzip: true, token: Some(user("ben", "blue")), ..ClientOptions::default() };
        let mut ben = SyncClient::connect(&server.ws_url(), options).await;
        ben.subscribe("b", "cards").await;
        ben.wait_subscribed("b").await;
        // Texts that compress badly, so that a guess that is right would count.
        let text = |from: u64| (0..40).map(|at| format!("{:016x}", (from + at).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect::<String>();
        let secret = text(1000);
        let mut sizes = Vec::new();
        for guess in [text(2000), secret.clone(), "x".repeat(640), String::new(), text(3000)] {
            db.execute("UPDATE cards SET body = 'short'").await;
            db.execute(&format!("UPDATE cards SET body = CASE team WHEN 'red' THEN '{secret}{secret}' ELSE '{guess}{guess}' END")).await;
            ben.wait_until(|ben| ben.row("b", "2").is_some_and(|row| row["body"] == format!("{guess}{guess}"))).await;
            let size = loop {
                if let Message::Binary(bytes) = ann.next().await.expect("a frame").expect("a message") {
                    break bytes.len();
                }
            };
            sizes.push(size);
        }
        assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    }

    async fn a_client_may_gzip_its_frames(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = SyncClient::open(&server.ws_url(), ClientOptions::default())
            .await
            .expect("a connection");
        let hello = json!({ "type": "hello", "protocol": 1, "client_id": Uuid::new_v4() });
        client.send_gzip(hello).await;
        client.wait_for(|frame| frame["type"] == "welcome").await;
        client
            .send_gzip(json!({ "type": "subscribe", "id": "a", "entity": "notes" }))
            .await;
        client.wait_subscribed("a").await;
        let writes: Vec<Value> = (1..=200)
            .map(|id| note(id, "a body that is often the same"))
            .collect();
        client
            .send_gzip(json!({ "type": "push", "mutation": 1, "writes": writes }))
            .await;
        client.wait_answered().await;
        client.outcome(1).expect("an answer").acked();
        client
            .wait_until(|client| client.rows("a").len() == 200)
            .await;
        // Exactly the size limit of a frame.
        let start = r#"{"type":"ping","at":1"#;
        let full = format!("{start}{}}}", " ".repeat(1024 * 1024 - start.len() - 1));
        client.send_binary(gzip(full.as_bytes())).await;
        client.wait_for(|frame| frame["type"] == "pong").await;
    }

    async fn a_gzip_bomb_is_too_large(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let zeros = gzip(&vec![b' '; 100 * 1024 * 1024]);
        assert!(zeros.len() < 200_000);
        let just_over = gzip(&vec![b' '; 1024 * 1024 + 1]);
        for bomb in [zeros, just_over] {
            let mut client = server.connect().await;
            client.send_binary(bomb).await;
            let error = client.next_frame().await;
            let found = (&error["type"], &error["code"], &error["fatal"]);
            assert_eq!(found, (&json!("error"), &json!("too_large"), &json!(true)));
            assert_eq!(client.close_code().await, 4413);
        }
        server
            .connect()
            .await
            .push_next(json!([note(1, "one")]))
            .await
            .acked();
    }

    async fn invalid_bytes_are_errors_and_the_session_continues(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        let frame = json!({ "type": "push", "mutation": 1, "writes": [note(9, "x")] }).to_string();
        let whole = gzip(frame.as_bytes());
        let cut = whole[..whole.len() - 12].to_vec();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        for bytes in [
            Vec::new(),
            vec![0],
            vec![0x1f, 0x8b],
            vec![0xff; 5000],
            frame.into_bytes(),
            gzip(b""),
            gzip(b"not JSON"),
            gzip(&[0xff, 0xfe, 0x80]),
            gzip(&whole),
            cut,
            damaged,
        ] {
            client.send_binary(bytes.clone()).await;
            let error = client.next_frame().await;
            let found = (&error["type"], &error["code"], &error["fatal"]);
            assert_eq!(
                found,
                (&json!("error"), &json!("protocol"), &json!(false)),
                "{bytes:?}"
            );
        }
        assert_eq!(count(&db, "notes").await, 0);
        client.push_next(json!([note(1, "one")])).await.acked();
        client
            .wait_until(|client| client.row("a", "1").is_some())
            .await;
    }
}
