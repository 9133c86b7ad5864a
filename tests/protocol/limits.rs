//! Malformed frames, frames that are too large, and more than a client may have.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, Phase, SyncClient, both_backends};
use uuid::Uuid;

use crate::tables::{NOTES, count, insert_notes, notes};
use crate::writes::note;

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// A frame of exactly this many bytes.
fn ping_of(bytes: usize) -> String {
    let start = r#"{"type":"ping","padding":""#;
    format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2))
}

both_backends! {
    async fn malformed_frames_are_errors_and_the_session_continues(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        let texts = [
            "",
            " ",
            "hello",
            "null",
            "1",
            r#""ping""#,
            "[]",
            r#"["ping"]"#,
            "{}",
            "{",
            "}",
            r#"{"type"}"#,
            r#"{"type":}"#,
            r#"{"type":null}"#,
            r#"{"type":1}"#,
            r#"{"type":["ping"]}"#,
            r#"{"type":""}"#,
            r#"{"type":"dance"}"#,
            r#"{"type":"welcome"}"#,
            r#"{"type":"PING"}"#,
            r#"{"Type":"ping"}"#,
            r#"{"type":"ping""#,
            r#"{"type":"ping"}}"#,
            r#"{"type":"ping"}{"type":"ping"}"#,
            r#"{"type":"ping","type":"pong"}"#,
            r#"{type:"ping"}"#,
            "{'type':'ping'}",
            r#"{"type":"ping",}"#,
            "\u{feff}{\"type\":\"ping\"}",
            "{\"type\":\"ping\",\"at\":\"\u{1}\"}",
            r#"{"type":"ping","at":"\ud800"}"#,
            r#"{"type":"ping","at":NaN}"#,
            r#"{"type":"pi\u0000ng"}"#,
            r#"{"type":"auth"}"#,
            r#"{"type":"auth","token":1}"#,
            r#"{"type":"unsubscribe"}"#,
            r#"{"type":"push"}"#,
            r#"{"type":"push","mutation":1}"#,
            r#"{"type":"push","mutation":1,"writes":{}}"#,
            r#"{"type":"push","mutation":1,"writes":[1]}"#,
            r#"{"type":"push","mutation":1,"writes":[{}]}"#,
            r#"{"type":"push","mutation":1,"writes":[{"entity":"notes"}]}"#,
            r#"{"type":"push","mutation":1,"writes":[{"entity":"notes","op":"drop"}]}"#,
            r#"{"type":"push","mutation":1,"writes":[{"entity":1,"op":"create"}]}"#,
            r#"{"type":"push","mutation":1,"writes":[{"entity":"t","op":"create","values":[]}]}"#,
            r#"{"type":"push","mutation":1,"writes":[{"entity":"t","op":"create","values":{1}}]}"#,
        ];
        for text in texts {
            client.send_text(text).await;
            let error = client.next_frame().await;
            let found = (&error["type"], &error["code"], &error["fatal"]);
            assert_eq!(
                found,
                (&json!("error"), &json!("protocol"), &json!(false)),
                "{text}"
            );
            let message = error["message"].as_str().expect("a message");
            assert!(
                !message.is_empty() && message.len() < 300,
                "{text}: {message}"
            );
        }
        client.ping().await;
        client.push_next(json!([note(1, "one")])).await.acked();
        client
            .wait_until(|client| client.row("a", "1").is_some())
            .await;
        assert_eq!(client.errors().len(), texts.len());
    }

    /// An error does not repeat the client's text at full length.
    async fn long_texts_are_not_repeated_in_errors(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        let long = "x".repeat(200_000);
        let writes = json!([{ "entity": "notes", "op": long }]);
        for frame in [
            json!({ "type": long }),
            json!({ "type": "ping", "type ": long, "at": 1, "id": long, "later": long }),
            json!({ "type": "push", "mutation": long, "writes": [] }),
            json!({ "type": "push", "mutation": 1, "writes": writes }),
            json!({ "type": "subscribe", "id": long, "entity": "notes" }),
            json!({ "type": "subscribe", "id": "a", "entity": long }),
            json!({ "type": "subscribe", "id": "a", "entity": "notes", "mode": long }),
            json!({ "type": "unsubscribe", "id": [long] }),
        ] {
            client.send_text(&frame.to_string()).await;
            let answer = client.next_frame().await;
            assert!(
                answer.to_string().len() < 1000,
                "{}",
                answer.to_string().len()
            );
        }
        let names = json!([
            { "entity": long, "op": "create" },
            { "entity": "notes", "op": "create", "values": { long.as_str(): 1 } },
            { "entity": "notes", "op": "create", "values": { "id": long, "body": "x" } },
            { "entity": "notes", "op": "create", "values": { "id": 1, "body": [long] } },
            { "entity": "notes", "op": "delete", "key": long },
        ]);
        for write in names.as_array().expect("an array") {
            client.push_next(json!([write])).await.rejected();
        }
        for mutation in 1..client.next_mutation() {
            let rejection = client.outcome(mutation).expect("an answer").rejected();
            assert!(format!("{rejection:?}").len() < 1000);
        }
        let http = server.http();
        let body = json!({ "client_id": uuid::Uuid::nil(), "mutation": 1, "writes": writes });
        let reply = http.post("/api/sync/notes", &body).await;
        assert!(
            reply.status == 400 && reply.text.len() < 1000,
            "{}",
            reply.text.len()
        );
    }

    async fn deep_nesting_is_an_error(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        for levels in [200, 100_000] {
            let deep = nested(levels);
            for frame in [
                format!(r#"{{"type":"ping","at":{deep}}}"#),
                format!(r#"{{"type":"subscribe","id":{deep},"entity":"notes"}}"#),
                format!(r#"{{"type":"subscribe","id":"b","entity":"notes","params":{deep}}}"#),
                format!(r#"{{"type":"push","mutation":1,"writes":{deep}}}"#),
                format!(
                    r#"{{"type":"push","mutation":1,"writes":[{{"entity":"t","key":{deep}}}]}}"#
                ),
                deep.clone(),
            ] {
                // Parameters are parsed with the filter, to keep every digit.
                let code = if frame.contains("params") {
                    "bad_filter"
                } else {
                    "protocol"
                };
                client.send_text(&frame).await;
                let error = client.wait_for(|frame| frame["type"] == "error").await;
                assert_eq!(
                    (&error["code"], &error["fatal"]),
                    (&json!(code), &json!(false))
                );
            }
            // Unknown fields are ignored, whatever they contain.
            client
                .send_text(&format!(r#"{{"type":"ping","at":1,"later":{deep}}}"#))
                .await;
            assert_eq!(
                client.next_frame().await,
                json!({ "type": "pong", "at": 1 })
            );
        }
        // The check of its column judges a value.
        for levels in [1, 200, 100_000] {
            let write = format!(
                r#"{{"entity":"notes","op":"create","values":{{"id":1,"body":{}}}}}"#,
                nested(levels)
            );
            let body = format!(
                r#"{{"client_id":"{}","mutation":1,"writes":[{write}]}}"#,
                Uuid::new_v4()
            );
            let request = reqwest::Client::new()
                .post(server.http().url("/api/sync/notes"))
                .body(body);
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status().as_u16(), 422);
            let reject: Value = response.json().await.expect("JSON");
            let found = (&reject["code"], &reject["write"], &reject["column"]);
            assert_eq!(found, (&json!("invalid"), &json!(0), &json!("body")));
        }
        assert_eq!(count(&db, "notes").await, 0);
    }

    async fn a_frame_that_is_too_large_ends_the_session(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut bystander = server.connect().await;
        bystander.subscribe("a", "notes").await;
        bystander.wait_subscribed("a").await;
        let limit = 1024 * 1024;
        for bytes in [limit + 1, 2 * limit, 3 * limit] {
            let mut client = server.connect().await;
            client.send_text(&ping_of(limit)).await;
            assert_eq!(client.next_frame().await, json!({ "type": "pong" }));
            client.send_text(&ping_of(bytes)).await;
            let error = client.next_frame().await;
            let found = (&error["type"], &error["code"], &error["fatal"]);
            assert_eq!(
                found,
                (&json!("error"), &json!("too_large"), &json!(true)),
                "{bytes}"
            );
            assert_eq!(client.close_code().await, 4413, "{bytes}");
        }
        bystander.push_next(json!([note(1, "one")])).await.acked();
        bystander
            .wait_until(|client| client.row("a", "1").is_some())
            .await;
    }

    /// The frame is so large that the server does not read it to its end: only this connection is
    /// closed.
    async fn a_huge_frame_is_cut_off(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.send_text(&ping_of(20 * 1024 * 1024)).await;
        client
            .try_wait_for(|frame| frame["type"] == "pong")
            .await
            .expect_err("the connection is closed");
        let mut client = server.connect().await;
        client.push_next(json!([note(1, "one")])).await.acked();
    }

    async fn the_frame_limit_is_configurable(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.frame_bytes_max = 500;
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        client.send_text(&ping_of(500)).await;
        client.wait_for(|frame| frame["type"] == "pong").await;
        client.send_text(&ping_of(501)).await;
        assert_eq!(client.wait_error().await, "too_large");
        assert_eq!(client.close_code().await, 4413);
    }

    async fn subscriptions_beyond_the_limit_are_errors(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.subscriptions_max = 3;
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        for id in 0..5_u64 {
            client.subscribe(id, "notes").await;
        }
        for id in 0..3_u64 {
            client.wait_subscribed(id).await;
        }
        for id in 3..5_u64 {
            assert_eq!(client.wait_refused(id).await, "too_many_subscriptions");
        }
        // Rejected subscriptions do not count, and an ended one makes room.
        client.unsubscribe(1).await;
        client.subscribe("more", "notes").await;
        client.wait_subscribed("more").await;
        client.subscribe("too many", "notes").await;
        assert_eq!(
            client.wait_refused("too many").await,
            "too_many_subscriptions"
        );
        client.push_next(json!([note(1, "one")])).await.acked();
        for id in ["more", "0", "2"] {
            let of_number = id.parse::<u64>().ok();
            client
                .wait_until(|client| match of_number {
                    Some(number) => client.rows(number).len() == 1,
                    None => client.rows(id).len() == 1,
                })
                .await;
        }
    }

    async fn a_first_read_of_too_many_rows_ends_its_subscription(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 3).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.reads.rows_max = 2;
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        client.subscribe("all", "notes").await;
        client.subscribe_with("two", json!({ "entity": "notes", "where": "id < 3" })).await;
        assert_eq!(client.wait_refused("all").await, "too_large");
        client.wait_subscribed("two").await;
        // Rows that come later end no subscription.
        db.execute("INSERT INTO notes VALUES (0, 'late')").await;
        client.wait_until(|client| client.rows("two").len() == 3).await;
    }

    async fn a_client_may_have_a_thousand_subscriptions(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        for id in 0..1000_u64 {
            client.subscribe(id, "notes").await;
        }
        for id in 0..1000_u64 {
            client
                .wait_until(|client| *client.subscription(id).phase() != Phase::Joining)
                .await;
        }
        let live = client
            .subscriptions()
            .values()
            .filter(|subscription| subscription.is_live());
        assert_eq!(live.count(), 100);
        assert_eq!(client.errors().len(), 900);
        assert!(
            client.errors().iter().all(|error| {
                error["code"] == "too_many_subscriptions" && error["fatal"] == false
            })
        );
        db.execute("INSERT INTO notes VALUES (2, 'two')").await;
        let expected = notes(&db).await;
        client
            .wait_until(|client| *client.rows(99) == expected)
            .await;
        assert_eq!(*client.rows(0), expected);
    }

    /// A row may be larger than any frame that a client may send.
    async fn a_row_of_five_megabytes_arrives(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let options = ClientOptions {
            gzip: true,
            ..ClientOptions::default()
        };
        let mut zipped = SyncClient::connect(&server.ws_url(), options).await;
        let mut plain = server.connect().await;
        for client in [&mut zipped, &mut plain] {
            client.subscribe("a", "notes").await;
            client.wait_subscribed("a").await;
        }
        db.execute(&format!(
            "INSERT INTO notes VALUES (1, '{}')",
            "große ".repeat(800_000)
        ))
        .await;
        let expected = notes(&db).await;
        for client in [&mut zipped, &mut plain] {
            client
                .wait_until(|client| client.row("a", "1").is_some())
                .await;
            // Too large to print.
            assert!(*client.rows("a") == expected);
        }
        let mut late = server.connect().await;
        late.subscribe("a", "notes").await;
        late.wait_subscribed("a").await;
        assert!(*late.rows("a") == expected);
        let page = server.http().get("/api/sync/notes").await.json();
        assert!(page["rows"][0]["row"] == expected["1"]);
    }

    async fn a_mutation_as_large_as_the_limits_is_applied(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        let body = "x".repeat(900);
        let writes: Vec<Value> = (1..=1000).map(|id| note(id, &body)).collect();
        client.push_next(Value::from(writes)).await.acked();
        client
            .wait_until(|client| client.rows("a").len() == 1000)
            .await;
        assert_eq!(*client.rows("a"), notes(&db).await);
    }
}
