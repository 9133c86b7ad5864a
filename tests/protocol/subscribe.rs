//! Subscriptions: first reads, live changes, and errors.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, Phase, SyncClient, both_backends};

use crate::subscribers::{resumed_changes, serve_and_subscribe, wait_equal};
use crate::tables::{NOTES, TASKS, insert_notes, notes, rows};
use crate::writes::note;

/// The `error` that answers this frame and leaves the session open.
async fn error_of(client: &mut SyncClient, frame: Value) -> Value {
    client.send_json(frame).await;
    let error = client.wait_for(|frame| frame["type"] == "error").await;
    assert_eq!(error["fatal"], false, "{error}");
    client.ping().await;
    error
}

both_backends! {
    async fn a_subscription_sends_pages_then_subscribed_then_changes(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 3000).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        let mut pages = Vec::new();
        let subscribed = loop {
            let frame = client.next_frame().await;
            if frame["type"] == "subscribed" {
                break frame;
            }
            assert_eq!(
                (&frame["type"], &frame["id"]),
                (&json!("snapshot"), &json!("a"))
            );
            pages.push((
                frame["rows"].as_array().expect("rows").len(),
                frame["more"].clone(),
            ));
        };
        let last = pages.pop().expect("pages");
        assert_eq!(last.1, false);
        assert!(pages.len() >= 2 && pages.iter().all(|page| page.0 > 0 && page.1 == true));
        assert_eq!(
            pages.iter().map(|page| page.0).sum::<usize>() + last.0,
            3000
        );
        assert_eq!(subscribed["schema"]["key"], json!(["id"]));
        assert_eq!(subscribed["schema"]["columns"]["body"], "text");
        assert_eq!(*client.rows("a"), notes(&db).await);
        assert_eq!(
            client.row("a", "7"),
            Some(&json!({ "id": 7, "body": "note 7" }))
        );

        db.execute("INSERT INTO notes VALUES (5000, 'new')").await;
        let changes = client.next_frame().await;
        assert_eq!(changes["type"], "changes");
        assert_eq!(
            (&changes["shape"], changes.get("id")),
            (&subscribed["shape"], None)
        );
        let put = json!({ "op": "put", "key": "5000", "row": { "id": 5000, "body": "new" } });
        assert_eq!(changes["changes"], json!([put]));
        assert_eq!(client.row("a", "5000"), None, "held back until the cursor");
        let cursor = client.next_frame().await;
        assert_eq!(cursor["type"], "cursor");
        assert_eq!(client.cursor(), cursor["cursor"].as_str());
        assert_eq!(*client.rows("a"), notes(&db).await);

        db.execute("UPDATE notes SET body = 'newer' WHERE id = 5000")
            .await;
        client.wait_cursor().await;
        assert_eq!(
            client.row("a", "5000"),
            Some(&json!({ "id": 5000, "body": "newer" }))
        );
        db.execute("DELETE FROM notes WHERE id = 5000").await;
        let deleted = client.wait_for(|frame| frame["type"] == "changes").await;
        assert_eq!(
            deleted["changes"],
            json!([{ "op": "delete", "key": "5000" }])
        );
        client.wait_cursor().await;
        assert_eq!(client.row("a", "5000"), None);
    }

    async fn an_empty_table_is_one_empty_page(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        let page = client.next_frame().await;
        assert_eq!(
            page,
            json!({ "type": "snapshot", "id": "a", "rows": [], "more": false })
        );
        assert_eq!(client.next_frame().await["type"], "subscribed");
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        client.wait_cursor().await;
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    async fn two_subscriptions_of_one_entity_share_each_frame(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let (_server, mut client) = serve_and_subscribe(&db).await;
        db.execute("UPDATE notes SET body = 'before b' WHERE id = 1")
            .await;
        client.subscribe("b", "notes").await;
        client.wait_subscribed("b").await;
        db.execute("UPDATE notes SET body = 'after b' WHERE id = 2")
            .await;
        wait_equal(&mut client, &db, "a").await;
        assert_eq!(client.rows("a"), client.rows("b"));
        // One frame serves both.
        client.reset_counters();
        db.execute("DELETE FROM notes WHERE id = 3").await;
        wait_equal(&mut client, &db, "b").await;
        assert_eq!((client.frames("changes"), client.rows("a").len()), (1, 9));
        assert_eq!(client.rows("a"), client.rows("b"));

        // Each continues without the other.
        client.unsubscribe("a").await;
        client.ping().await;
        db.execute("DELETE FROM notes WHERE id = 4").await;
        wait_equal(&mut client, &db, "b").await;
    }

    async fn subscriptions_of_two_entities_share_the_cursor(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.subscribe("b", "tasks").await;
        client.wait_subscribed("a").await;
        client.wait_subscribed("b").await;
        let both = "BEGIN; INSERT INTO notes VALUES (1, 'one'); \
                    INSERT INTO tasks VALUES (1, 'one'); COMMIT";
        db.execute(both).await;
        client
            .wait_until(|client| client.row("a", "1").is_some())
            .await;
        assert_eq!(
            client.row("b", "1"),
            Some(&json!({ "id": 1, "body": "one" }))
        );
        let cursor = client.cursor().expect("one cursor of both").to_owned();

        // It is good for each of them alone.
        db.execute("INSERT INTO tasks VALUES (2, 'two')").await;
        let mut other = server.connect().await;
        other.resume("b", "tasks", &cursor).await;
        let changes = resumed_changes(&mut other, "b").await;
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0]["key"], "2");
        other.resume("a", "notes", &cursor).await;
        assert_eq!(resumed_changes(&mut other, "a").await, Vec::<Value>::new());
    }

    async fn numbers_may_be_ids(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut client = server.connect().await;
        client.subscribe(7, "notes").await;
        client.subscribe("7", "tasks").await;
        client.wait_subscribed(7).await;
        client.wait_subscribed("7").await;
        db.execute("INSERT INTO tasks VALUES (1, 'one')").await;
        client
            .wait_until(|client| client.rows("7").len() == 1)
            .await;
        assert_eq!(client.rows(7).len(), 0);
        for id in [json!(-1), json!(0), json!(9_007_199_254_740_991_u64)] {
            client
                .send_text(&json!({ "type": "unsubscribe", "id": id }).to_string())
                .await;
            let error = client.wait_for(|frame| frame["type"] == "error").await;
            assert_eq!(error["id"], id);
        }
    }

    async fn an_unsubscribed_shape_is_silent(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.subscribe("b", "tasks").await;
        client.wait_subscribed("a").await;
        client.wait_subscribed("b").await;
        client.unsubscribe("a").await;
        client.ping().await;
        client.reset_counters();
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        db.execute("INSERT INTO tasks VALUES (1, 'one')").await;
        client
            .wait_until(|client| client.rows("b").len() == 1)
            .await;
        assert_eq!(client.frames("changes"), 1);

        // The id may be used again.
        let subscribe = json!({ "type": "subscribe", "id": "a", "entity": "notes" });
        client.send_text(&subscribe.to_string()).await;
        client
            .wait_for(|frame| frame["type"] == "subscribed" && frame["id"] == "a")
            .await;
    }

    async fn a_client_may_unsubscribe_during_a_first_read(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        insert_notes(&db, 1, 3000).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut client = server.connect().await;
        for id in 0..20_u64 {
            client.subscribe(id, "notes").await;
            client.unsubscribe(id).await;
        }
        client.subscribe("b", "tasks").await;
        client.wait_subscribed("b").await;
        client.reset_counters();
        db.execute("INSERT INTO notes VALUES (5000, 'one')").await;
        db.execute("INSERT INTO tasks VALUES (1, 'one')").await;
        client
            .wait_until(|client| client.rows("b").len() == 1)
            .await;
        assert_eq!(
            (client.frames("changes"), client.frames("snapshot")),
            (1, 0)
        );
        assert_eq!(client.errors(), [] as [Value; 0]);
    }

    async fn ids_that_are_in_use_or_unknown_are_errors(db: TestDatabase) {
        db.execute(NOTES).await;
        let (_server, mut client) = serve_and_subscribe(&db).await;
        client.subscribe("b", "notes").await;
        client.wait_subscribed("b").await;
        let again = json!({ "type": "subscribe", "id": "b", "entity": "notes" });
        let error = error_of(&mut client, again).await;
        assert_eq!(
            (&error["code"], &error["id"]),
            (&json!("protocol"), &json!("b"))
        );
        let unknown = json!({ "type": "unsubscribe", "id": "nobody" });
        let error = error_of(&mut client, unknown).await;
        assert_eq!(
            (&error["code"], &error["id"]),
            (&json!("protocol"), &json!("nobody"))
        );
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        wait_equal(&mut client, &db, "a").await;
    }

    async fn unknown_entities_are_errors(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let (_server, mut client) = serve_and_subscribe(&db).await;
        let long = "n".repeat(10_000);
        let names = [
            "tasks",
            "Notes",
            "",
            " notes",
            "notes--",
            "public.notes",
            "pg_class",
            "sqlite_master",
            "_rhtmx_sync_log",
            "notes\"; DROP TABLE notes; --",
            "notes' OR '1'='1",
            "notes\0",
            "notes WHERE true",
            "ws",
            &long,
        ];
        for (id, name) in names.into_iter().enumerate() {
            let id = id as u64;
            let subscribe = json!({ "type": "subscribe", "id": id, "entity": name });
            let error = error_of(&mut client, subscribe).await;
            assert_eq!(
                (&error["code"], &error["id"]),
                (&json!("unknown_entity"), &json!(id))
            );
            assert!(
                !error["message"].as_str().expect("text").contains("DROP"),
                "{error}"
            );
        }
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        wait_equal(&mut client, &db, "a").await;
    }

    async fn unsupported_modes_are_errors(db: TestDatabase) {
        db.execute(NOTES).await;
        let (_server, mut client) = serve_and_subscribe(&db).await;
        for (fields, code) in [
            (json!({ "mode": "fields" }), "protocol"),
            (json!({ "mode": "dance" }), "protocol"),
        ] {
            let mut frame = json!({ "type": "subscribe", "id": "b", "entity": "notes" });
            let named = fields.as_object().expect("an object").clone();
            frame.as_object_mut().expect("an object").extend(named);
            let error = error_of(&mut client, frame).await;
            assert_eq!(
                (&error["code"], &error["id"]),
                (&json!(code), &json!("b")),
                "{fields}"
            );
        }
        client
            .subscribe_with("c", json!({ "entity": "notes", "mode": "rows" }))
            .await;
        client.wait_subscribed("c").await;
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        wait_equal(&mut client, &db, "a").await;
    }

    async fn subscriptions_of_wrong_types_are_errors(db: TestDatabase) {
        db.execute(NOTES).await;
        let (_server, mut client) = serve_and_subscribe(&db).await;
        for fields in [
            json!({ "entity": "notes" }),
            json!({ "id": null, "entity": "notes" }),
            json!({ "id": {}, "entity": "notes" }),
            json!({ "id": [1], "entity": "notes" }),
            json!({ "id": true, "entity": "notes" }),
            json!({ "id": 1.5, "entity": "notes" }),
            json!({ "id": 1e300, "entity": "notes" }),
            json!({ "id": "x".repeat(257), "entity": "notes" }),
            json!({ "id": "b" }),
            json!({ "id": "b", "entity": 1 }),
            json!({ "id": "b", "entity": null }),
            json!({ "id": "b", "entity": ["notes"] }),
            json!({ "id": "b", "entity": "notes", "where": 1 }),
            json!({ "id": "b", "entity": "notes", "params": {} }),
            json!({ "id": "b", "entity": "notes", "columns": "body" }),
            json!({ "id": "b", "entity": "notes", "mode": 1 }),
            json!({ "id": "b", "entity": "notes", "cursor": 1 }),
        ] {
            let mut frame = fields.clone();
            frame["type"] = json!("subscribe");
            client.send_text(&frame.to_string()).await;
            let error = client.wait_for(|frame| frame["type"] == "error").await;
            assert_eq!(
                (&error["code"], &error["fatal"]),
                (&json!("protocol"), &json!(false))
            );
            let id = if fields["id"] == "b" {
                json!("b")
            } else {
                Value::Null
            };
            assert_eq!(error["id"], id, "{fields}");
        }
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        wait_equal(&mut client, &db, "a").await;
    }

    async fn the_cursor_of_a_quiet_client_advances(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let mut config = TestServer::config(&db, ["notes", "tasks"]).await;
        config.limits.heartbeat_ms = 500;
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        client.subscribe("a", "notes").await;
        client.wait_subscribed("a").await;
        let before = client.cursor().map(str::to_owned);
        db.execute("INSERT INTO tasks VALUES (1, 'one')").await;
        let after = client.wait_cursor().await;
        assert_ne!(before, Some(after));
        assert_eq!(client.frames("changes"), 0);
    }

    async fn a_pong_returns_the_ping_as_it_was(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        for at in [
            json!(0),
            json!(1.5),
            json!("now"),
            json!([1, { "a": null }]),
            json!(false),
        ] {
            client.send_json(json!({ "type": "ping", "at": at })).await;
            assert_eq!(
                client.next_frame().await,
                json!({ "type": "pong", "at": at })
            );
        }
        client.send_json(json!({ "type": "ping" })).await;
        assert_eq!(client.next_frame().await, json!({ "type": "pong" }));
    }

    async fn any_token_is_accepted(db: TestDatabase) {
        db.execute(NOTES).await;
        let (_server, mut client) = serve_and_subscribe(&db).await;
        client
            .send_json(json!({ "type": "auth", "token": "anything" }))
            .await;
        let answer = client.next_frame().await;
        assert_eq!(answer, json!({ "type": "authenticated", "user": null }));
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        wait_equal(&mut client, &db, "a").await;
    }

    async fn clients_that_arrive_together_receive_all_rows(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 2000).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = server.connect().await;
            client.subscribe("a", "notes").await;
            clients.push(client);
        }
        db.execute("UPDATE notes SET body = 'changed' WHERE id % 2 = 0")
            .await;
        let expected = notes(&db).await;
        for client in &mut clients {
            client
                .wait_until(|client| *client.rows("a") == expected)
                .await;
            assert_eq!(*client.subscription("a").phase(), Phase::Live);
        }
    }

    /// Anyone else could count a client's mutations, or use up its numbers.
    async fn whose_mutation_a_change_was_is_told_to_its_author_alone(db: TestDatabase) {
        db.execute(NOTES).await;
        let (server, mut client) = serve_and_subscribe(&db).await;
        let mut writer = server.connect().await;
        let page = server.http().get("/api/sync/notes").await.json();
        let cursor = page["cursor"].as_str().expect("a cursor").to_owned();
        writer.push_next(json!([note(1, "one")])).await.acked();
        let origin = |frame: &Value| {
            let change = &frame["changes"][0];
            assert_eq!((&change["op"], &change["key"]), (&json!("put"), &json!("1")));
            (change["client_id"].clone(), change["mutation"].clone())
        };
        let is_change = |frame: &Value| frame["type"] == "changes";
        let nobody = (Value::Null, Value::Null);
        assert_eq!(origin(&client.wait_for(is_change).await), nobody);
        // Neither does a resume or a page tell it.
        let mut back = server.connect().await;
        back.resume("a", "notes", &cursor).await;
        assert_eq!(origin(&back.wait_for(is_change).await), nobody);
        let page = server.http().get(&format!("/api/sync/notes?cursor={cursor}")).await;
        assert_eq!(origin(&page.json()), nobody);
        let client_id = writer.into_state().client_id;
        let options = ClientOptions {
            client_id,
            client_id_shared: true,
            ..ClientOptions::default()
        };
        let mut author = SyncClient::connect(&server.ws_url(), options).await;
        author.resume("a", "notes", &cursor).await;
        let own = (json!(client_id), json!(1));
        assert_eq!(origin(&author.wait_for(is_change).await), own);
        db.execute("UPDATE notes SET body = 'by another program' WHERE id = 1").await;
        assert_eq!(origin(&author.wait_for(is_change).await), nobody);
        assert_eq!(rows(&db, "notes", &["id"]).await.len(), 1);
    }
}
