//! The first frame and its answer.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, ConnectError, SyncClient, both_backends};
use uuid::Uuid;

use crate::tables::NOTES;
use crate::writes::note;

/// The error and the close code that this client received instead of `welcome`.
async fn fatal_error(mut client: SyncClient) -> (Value, u16) {
    let error = client.next_frame().await;
    assert_eq!(
        (&error["type"], &error["fatal"]),
        (&json!("error"), &json!(true))
    );
    (error["code"].clone(), client.close_code().await)
}

async fn silent(server: &TestServer) -> SyncClient {
    SyncClient::open(&server.ws_url(), ClientOptions::default())
        .await
        .expect("a connection")
}

both_backends! {
    async fn welcome_has_the_epoch_the_limits_and_the_last_mutation(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.frame_bytes_max = 5000;
        config.limits.subscriptions_max = 7;
        config.limits.writes_max = 9;
        config.limits.heartbeat_ms = 12_345;
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        let welcome = client.welcome().clone();
        let mut names: Vec<&str> = welcome
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        let expected = [
            "epoch",
            "features",
            "heartbeat_ms",
            "last_mutation",
            "limits",
            "now",
            "protocol",
            "session_id",
            "type",
        ];
        assert_eq!(names, expected);
        assert_eq!(welcome["protocol"], 1);
        let features = json!(["rows", "windows", "fields", "push", "chain", "websocket", "events", "ticket", "status", "client"]);
        assert_eq!(welcome["features"], features);
        assert_eq!(welcome["last_mutation"], 0);
        assert_eq!(welcome["heartbeat_ms"], 12_345);
        let limits = json!({ "frame_bytes_max": 5000, "subscriptions_max": 7, "writes_max": 9 });
        assert_eq!(welcome["limits"], limits);

        client.push_next(json!([note(1, "one")])).await.acked();
        let again = SyncClient::reconnect(
            &server.ws_url(),
            ClientOptions::default(),
            &client.into_state(),
        )
        .await;
        assert_eq!(again.welcome()["last_mutation"], 1);
        assert_eq!(again.welcome()["epoch"], welcome["epoch"]);
        assert_ne!(again.welcome()["session_id"], welcome["session_id"]);
        let other = server.connect().await;
        assert_eq!(other.welcome()["last_mutation"], 0);
    }

    async fn a_second_hello_is_an_error(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        let hello = json!({ "type": "hello", "protocol": 1, "client_id": Uuid::new_v4() });
        client.send_json(hello).await;
        assert_eq!(client.wait_error().await, "protocol");
        client.push_next(json!([note(1, "one")])).await.acked();
    }

    async fn unknown_fields_are_ignored(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = silent(&server).await;
        let hello = json!({
            "type": "hello", "protocol": 1, "client_id": Uuid::new_v4(), "token": "a token",
            "accept": ["brotli"], "later": { "nested": [1, 2] },
        });
        client.send_json(hello).await;
        client.wait_for(|frame| frame["type"] == "welcome").await;
    }

    async fn another_version_is_refused(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        for protocol in [0, 2, 99] {
            let mut client = silent(&server).await;
            let hello = json!({
                "type": "hello", "protocol": protocol, "client_id": Uuid::new_v4(),
            });
            client.send_json(hello).await;
            assert_eq!(fatal_error(client).await, (json!("protocol"), 4400));
        }
    }

    async fn a_silent_connection_is_closed(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.hello_timeout_ms = 50;
        let server = TestServer::with_config(config).await;
        assert_eq!(
            fatal_error(silent(&server).await).await,
            (json!("protocol"), 4408)
        );
    }

    /// CVE-2026-35523 and CVE-2026-61594: another protocol or first message that skips the question who it is.
    async fn another_first_frame_is_refused(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let client_id = Uuid::new_v4();
        for text in [
            json!({ "type": "ping" }).to_string(),
            json!({ "type": "subscribe", "id": "a", "entity": "notes" }).to_string(),
            json!({ "type": "push", "mutation": 1, "writes": [note(1, "x")] }).to_string(),
            json!({ "type": "hello" }).to_string(),
            json!({ "type": "hello", "protocol": 1 }).to_string(),
            json!({ "type": "hello", "protocol": 1, "client_id": "me" }).to_string(),
            json!({ "type": "hello", "protocol": "1", "client_id": client_id }).to_string(),
            json!({ "type": "hello", "protocol": -1, "client_id": client_id }).to_string(),
            json!({ "type": "hello", "protocol": 1, "client_id": client_id, "accept": 1 })
                .to_string(),
            json!(["hello", 1, client_id]).to_string(),
            "hello".to_owned(),
            String::new(),
        ] {
            let mut client = silent(&server).await;
            client.send_text(&text).await;
            assert_eq!(fatal_error(client).await, (json!("protocol"), 4400), "{text}");
        }
        let mut client = silent(&server).await;
        client.send_binary(vec![0, 159, 146, 150]).await;
        assert_eq!(fatal_error(client).await, (json!("protocol"), 4400));
        let mut client = silent(&server).await;
        client.send_text(&"x".repeat(2_000_000)).await;
        assert_eq!(fatal_error(client).await, (json!("too_large"), 4413));
        let counted = db.query_text("SELECT count(*) FROM notes").await;
        assert_eq!(counted, [Some("0".to_owned())]);
    }

    async fn pages_of_other_origins_may_not_connect(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config
            .auth
            .allowed_origins
            .push("https://app.example".to_owned());
        let server = TestServer::with_config(config).await;
        let own = server.base_url();
        for origin in ["https://evil.example", "http://127.0.0.1:1", "null"] {
            let options = ClientOptions {
                origin: Some(origin.to_owned()),
                ..ClientOptions::default()
            };
            match SyncClient::try_connect(&server.ws_url(), options).await {
                Err(ConnectError::Closed { closed, error }) => {
                    assert_eq!(closed.code, 4403, "{origin}");
                    assert_eq!(error.expect("an error")["code"], "forbidden", "{origin}");
                }
                other => panic!("{origin}: {other:?}"),
            }
        }
        for origin in ["https://app.example", &own] {
            let options = ClientOptions {
                origin: Some(origin.to_owned()),
                ..ClientOptions::default()
            };
            SyncClient::connect(&server.ws_url(), options).await;
        }
    }

    async fn an_engine_that_shuts_down_closes_with_1001(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        server.engine().shutdown().await;
        assert_eq!(client.close_code().await, 1001);
        let late = SyncClient::try_connect(&server.ws_url(), ClientOptions::default()).await;
        match late {
            Err(ConnectError::Closed { closed, error }) => {
                assert_eq!(closed.code, 1001);
                assert_eq!(error.expect("an error")["code"], "unavailable");
            }
            other => panic!("{other:?}"),
        }
    }
}
