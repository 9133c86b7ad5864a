//! What a change of a card is for those who have it, and for those who have not.

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{ClientOptions, SyncClient, both_backends};

use super::*;

/// Makes a row much larger than its key, so that sockets fill up.
const PADDING_BYTES: usize = 64 * 1024;
/// More than the buffers of a socket and the mailbox hold.
const CHANGES: u32 = 160;

both_backends! {
    async fn an_update_is_a_patch_of_what_changed(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribe(&server, "f", json!({})).await;
        write(&db, "UPDATE cards SET title = 'new' WHERE id = 1", 1, stamped(&[("title", 1)])).await;
        let expected = json!({
            "op": "patch", "key": "1", "values": { "title": "new" }, "born": clock(0), "clocks": { "title": clock(1) }
        });
        assert_eq!(next_changes(&mut client, "1").await, [expected]);
        assert_equal(&db, &mut client, "f", "TRUE").await;
        // The metadata is all that is known, in place of what was.
        write(&db, "UPDATE cards SET title = 'x', body = 'y' WHERE id = 1", 1, stamped(&[("body", 2)])).await;
        let changes = next_changes(&mut client, "1").await;
        assert_eq!(changes[0]["values"], json!({ "title": "x", "body": "y" }));
        assert_equal(&db, &mut client, "f", "TRUE").await;
        assert_eq!(client.puts("f", "1"), 1, "the snapshot's");
    }

    async fn metadata_alone_is_a_patch_without_values(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribe(&server, "f", json!({ "columns": ["title"] })).await;
        write(&db, "UPDATE cards SET title = title WHERE id = 2", 2, stamped(&[("title", 3)])).await;
        let changes = next_changes(&mut client, "2").await;
        let expected = json!({
            "op": "patch", "key": "2", "values": {}, "born": clock(0), "clocks": { "title": clock(3) }
        });
        assert_eq!(changes, [expected]);
    }

    async fn cards_come_whole_and_go(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribe(&server, "f", json!({ "where": "list = 1" })).await;
        write(&db, "UPDATE cards SET list = 1 WHERE id = 3", 3, stamped(&[("list", 1)])).await;
        let changes = next_changes(&mut client, "3").await;
        assert_eq!(changes[0]["op"], "put");
        assert_eq!(changes[0]["clocks"], json!({ "list": clock(1) }));
        assert_equal(&db, &mut client, "f", "list = 1").await;
        write(&db, "UPDATE cards SET list = 2, title = 'gone' WHERE id = 1", 1, stamped(&[("list", 2)])).await;
        assert_eq!(next_changes(&mut client, "1").await, [json!({ "op": "leave", "key": "1" })]);
        assert_equal(&db, &mut client, "f", "list = 1").await;
        db.execute("DELETE FROM cards WHERE id = 2").await;
        assert_eq!(next_changes(&mut client, "2").await, [json!({ "op": "delete", "key": "2" })]);
        write(&db, "INSERT INTO cards (id, list) VALUES (2, 1)", 2, json!({ "born": clock(5) })).await;
        let changes = next_changes(&mut client, "2").await;
        assert_eq!((&changes[0]["op"], &changes[0]["born"]), (&json!("put"), &json!(clock(5))));
        assert_equal(&db, &mut client, "f", "list = 1").await;
        // Gone and back within one drain: somebody else may have joined in between.
        db.execute("BEGIN; DELETE FROM cards WHERE id = 2; INSERT INTO cards (id, list) VALUES (2, 1); COMMIT").await;
        assert_eq!(next_changes(&mut client, "2").await[0]["op"], "put");
        assert_equal(&db, &mut client, "f", "list = 1").await;
    }

    async fn subscriptions_to_rows_go_on_beside_those_to_fields(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscribe(&server, "f", json!({})).await;
        client.subscribe("r", "cards").await;
        client.wait_subscribed("r").await;
        assert_ne!(client.subscription("r").shape(), client.subscription("f").shape());
        for number in 1..20 {
            let id = 1 + number % 3;
            let sql = format!("UPDATE cards SET title = 'title {number}', likes = likes + 1 WHERE id = {id}");
            write(&db, &sql, id, stamped(&[("title", number)])).await;
            let title = format!("title {number}");
            let key = id.to_string();
            let is_new = |client: &SyncClient, name: &str| client.row(name, &key).is_some_and(|row| row["title"] == title);
            client.wait_until(|client| is_new(client, "f") || is_new(client, "r")).await;
            assert!(is_new(&client, "f") && is_new(&client, "r"), "at one cursor");
            assert_eq!(client.rows("f"), client.rows("r"));
            assert_eq!(client.subscription("f").metadata()[&key]["clocks"], json!({ "title": clock(number) }));
        }
        assert!(client.subscription("r").metadata().is_empty());
        assert_eq!((client.puts("r", "1"), client.puts("f", "1")), (7, 1));
    }

    async fn a_resume_brings_patches_and_puts(db: TestDatabase) {
        let server = serve(&db).await;
        write(&db, "UPDATE cards SET body = 'c2' WHERE id = 3", 3, stamped(&[("body", 1)])).await;
        let client = subscribe(&server, "f", json!({ "where": "list = 1" })).await;
        let state = client.into_state();
        write(&db, "UPDATE cards SET title = 'new' WHERE id = 1", 1, stamped(&[("title", 1)])).await;
        write(&db, "UPDATE cards SET body = 'new' WHERE id = 1", 1, stamped(&[("title", 1), ("body", 2)])).await;
        write(&db, "UPDATE cards SET list = 1 WHERE id = 3", 3, stamped(&[("body", 1), ("list", 2)])).await;
        let mut client = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let changes = next_changes(&mut client, "1").await;
        assert_eq!((&changes[0]["op"], &changes[0]["values"]), (&json!("patch"), &json!({ "title": "new", "body": "new" })));
        client.wait_subscribed("f").await;
        client.wait_subscribed("t").await;
        assert_eq!((client.puts("f", "1"), client.puts("f", "3")), (0, 1));
        assert_equal(&db, &mut client, "f", "list = 1").await;
        assert_eq!((client.frames("snapshot"), client.frames("refetch")), (0, 0));
    }

    async fn a_slow_client_catches_up(db: TestDatabase) {
        let mut config = config(&db).await;
        config.limits.queue_batches_max = 2;
        let server = TestServer::with_config(config).await;
        let mut slow = subscribe(&server, "f", json!({ "where": "list = 1" })).await;
        let mut fast = subscribe(&server, "f", json!({})).await;
        slow.reset_counters();
        let padding = "x".repeat(PADDING_BYTES);
        for number in 1..CHANGES {
            let id = 1 + number % 3;
            let list = 1 + u32::from(id == 3 && number % 2 == 0);
            let sql = format!("UPDATE cards SET title = '{number} {padding}', list = {list} WHERE id = {id}");
            write(&db, &sql, id, stamped(&[("title", number), ("list", number)])).await;
            let title = format!("{number} {padding}");
            let key = id.to_string();
            fast.wait_until(|client: &SyncClient| client.row("f", &key).is_some_and(|row| row["title"] == title)).await;
        }
        assert_equal(&db, &mut slow, "f", "list = 1").await;
        assert_equal(&db, &mut fast, "f", "TRUE").await;
        assert_eq!((slow.frames("refetch"), slow.frames("snapshot")), (0, 0));
        assert!(slow.frames("changes") < u64::from(CHANGES), "every change was sent live");
        write(&db, "UPDATE cards SET title = 'live' WHERE id = 1", 1, stamped(&[("title", CHANGES)])).await;
        assert_equal(&db, &mut slow, "f", "list = 1").await;
    }
}
