//! Windows that are refused, and why.

use serde_json::{Value, json};
use testkit::{SyncClient, both_backends};

use super::{connect, of_posts, serve, subscribe, tables};
use rhtmx_sync_tests::TestServer;

async fn refusal(client: &mut SyncClient, id: &str, window: Value) -> (String, String) {
    client.subscribe_with(id, of_posts(window)).await;
    let code = client.wait_refused(id).await;
    let message = client.errors().last().expect("an error")["message"]
        .as_str()
        .expect("a text")
        .to_owned();
    (code, message)
}

both_backends! {
    async fn a_window_that_does_not_fit_is_refused_in_words(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = connect(&server).await;
        for (id, window, words) in [
            ("a", json!({ "limit": 0 }), "`limit` is at least 1"),
            ("b", json!({ "order": [["at", "desc"]] }), "belong to a `limit`"),
            ("c", json!({ "after": [1] }), "belong to a `limit`"),
            ("d", json!({ "limit": 2, "order": [["missing", "desc"]] }), "there is no such column"),
            ("e", json!({ "limit": 2, "order": [["at", "desc"], ["at", "asc"]] }), "named twice"),
            ("f", json!({ "limit": 2, "order": [["at", "desc"]], "after": [5] }), r#"a value for each of ["at", "id"]"#),
            ("g", json!({ "limit": 2, "order": [["at", "desc"]], "after": ["five", 1] }), "in `after`: column \"at\""),
            ("h", json!({ "limit": 2, "after": [{}] }), "in `after`: column \"id\""),
            ("i", json!({ "limit": 2, "order": (0..9).map(|_| json!(["at", "asc"])).collect::<Vec<_>>() }), "at most 8 columns"),
        ] {
            let (code, message) = refusal(&mut client, id, window).await;
            assert_eq!(code, "bad_filter", "{id}");
            assert!(message.contains(words), "{id}: {message}");
        }
        let (code, message) = refusal(&mut client, "j", json!({ "limit": 1001 })).await;
        assert_eq!(code, "too_large");
        assert!(message.contains("window_rows_max") && message.contains("1000"), "{message}");
        // What is no window at all ends the connection's frame, not the connection.
        for (id, window) in [
            ("k", json!({ "limit": -1 })),
            ("l", json!({ "limit": "all" })),
            ("m", json!({ "limit": 2, "order": [["at", "upwards"]] })),
            ("n2", json!({ "limit": 2, "order": ["at"] })),
            ("o", json!({ "limit": 2, "offset": 5 })),
        ] {
            let mut frame = of_posts(window);
            frame["type"] = "subscribe".into();
            frame["id"] = id.into();
            client.send_text(&frame.to_string()).await;
            let error = client.wait_for(|frame| frame["type"] == "error").await;
            assert_ne!(error["fatal"], true, "{id}: {error}");
        }
        subscribe(&mut client, "good", json!({ "limit": 1000 })).await;
    }

    async fn the_greatest_limit_is_configured(db: TestDatabase) {
        tables(&db).await;
        let mut config = TestServer::config(&db, ["posts", "members", "notes"]).await;
        config.limits.window_rows_max = 5;
        let server = TestServer::with_config(config).await;
        let mut client = connect(&server).await;
        let (code, message) = refusal(&mut client, "a", json!({ "limit": 6 })).await;
        assert_eq!(code, "too_large");
        assert!(message.contains("`limit` is at most 5"), "{message}");
        subscribe(&mut client, "b", json!({ "limit": 5 })).await;
    }
}
