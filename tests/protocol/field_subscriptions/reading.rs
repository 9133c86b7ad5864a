//! First reads, windows and plain HTTP with metadata, and what is refused.

use serde_json::json;
use testkit::both_backends;

use super::*;

both_backends! {
    async fn a_first_read_has_the_metadata_and_the_rules(db: TestDatabase) {
        let server = serve(&db).await;
        let likes = json!({ "born": clock(0), "base": clock(1), "edited": clock(2), "fields": {
            "title": clock(3), "likes": { "counter": { "sums": { "node": [2, 1] } } },
        } });
        write(&db, "UPDATE cards SET title = 'new', likes = 1 WHERE id = 1", 1, likes).await;
        let mut client = server.connect().await;
        client.subscribe_with("f", of_cards(json!({}))).await;
        let joined = client.wait_for(|frame| frame["type"] == "subscribed").await;
        let rules = json!({ "strategy": "last_write_wins", "deletes": "win", "columns": { "likes": { "merge": "counter" } } });
        assert_eq!(joined["rules"], rules);
        assert_eq!(client.subscription("f").metadata(), &metadata(&db, "TRUE").await);
        assert_eq!(client.subscription("f").metadata().len(), 1, "the others were never edited");
        assert!(client.welcome()["now"].is_u64());
        let features = client.welcome()["features"].as_array().expect("features");
        assert!(features.contains(&json!("fields")));
    }

    async fn rows_that_do_not_merge_have_no_fields(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        client.subscribe_with("f", json!({ "entity": "tasks", "mode": "fields" })).await;
        assert_eq!(client.wait_refused("f").await, "protocol");
        client.subscribe_with("g", json!({ "entity": "cards", "mode": "columns" })).await;
        assert_eq!(client.wait_refused("g").await, "protocol");
        for path in ["tasks?mode=fields", "cards?mode=columns"] {
            assert_eq!(server.http().get(&format!("/api/sync/{path}")).await.status, 400);
        }
        client.subscribe_with("r", json!({ "entity": "tasks", "mode": "rows" })).await;
        client.wait_subscribed("r").await;
    }

    async fn windows_have_fields(db: TestDatabase) {
        let server = serve(&db).await;
        write(&db, "UPDATE cards SET body = 'new' WHERE id = 1", 1, stamped(&[("body", 1)])).await;
        write(&db, "UPDATE cards SET body = 'new' WHERE id = 3", 3, stamped(&[("body", 2)])).await;
        let window = json!({ "order": [["list", "asc"], ["id", "asc"]], "limit": 2 });
        let mut client = subscribe(&server, "w", window).await;
        assert_equal(&db, &mut client, "w", "id IN (1, 2)").await;
        write(&db, "UPDATE cards SET title = 'patched' WHERE id = 1", 1, stamped(&[("title", 3)])).await;
        assert_eq!(next_changes(&mut client, "1").await[0]["op"], "patch");
        // The third card has not changed itself, and comes with its metadata.
        write(&db, "UPDATE cards SET list = 9 WHERE id = 1", 1, stamped(&[("list", 4)])).await;
        let came = next_changes(&mut client, "3").await;
        assert_eq!((&came[0]["op"], &came[0]["clocks"]), (&json!("put"), &json!({ "body": clock(2) })));
        assert_equal(&db, &mut client, "w", "id IN (2, 3)").await;
        write(&db, "UPDATE cards SET list = 0 WHERE id = 1", 1, stamped(&[("list", 5)])).await;
        assert_equal(&db, &mut client, "w", "id IN (1, 2)").await;
        db.execute("DELETE FROM cards WHERE id = 2").await;
        assert_equal(&db, &mut client, "w", "id IN (1, 3)").await;
        assert_eq!(client.frames("refetch"), 0);
    }

    async fn plain_http_reads_and_polls_fields(db: TestDatabase) {
        let server = serve(&db).await;
        write(&db, "UPDATE cards SET body = 'new' WHERE id = 1", 1, stamped(&[("body", 1)])).await;
        let page = server.http().get("/api/sync/cards?mode=fields").await.json();
        let first = page["rows"].as_array().and_then(|rows| rows.first()).expect("a row");
        assert_eq!((&first["key"], &first["clocks"]), (&json!("1"), &json!({ "body": clock(1) })));
        let cursor = page["cursor"].as_str().expect("a cursor");
        write(&db, "UPDATE cards SET title = 'polled' WHERE id = 1", 1, stamped(&[("title", 2)])).await;
        let page = server.http().get(&format!("/api/sync/cards?mode=fields&cursor={cursor}&wait_ms=20000")).await.json();
        let patch = json!({
            "op": "patch", "key": "1", "values": { "title": "polled" }, "born": clock(0), "clocks": { "title": clock(2) }
        });
        assert_eq!(page["changes"], json!([patch]));
    }
}
