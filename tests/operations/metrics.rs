//! The server's metrics of shapes: how many and how much, with a fixed list of series whatever clients
//! ask for.

use std::collections::BTreeSet;

use serde_json::json;
use testkit::{ClientOptions, Http, ServerProcess, SyncClient, both_backends, eventually};

use crate::writers::NOTES;

/// The engine's series, without their values.
async fn series(http: &Http) -> BTreeSet<String> {
    let metrics = http.get("/metrics").await.text;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("rhtmx_sync_"));
    let names = lines.filter_map(|line| line.rsplit_once(' '));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// The value of one series.
async fn value(http: &Http, name: &str) -> Option<f64> {
    let metrics = http.get("/metrics").await.text;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|value| value.parse().ok())
}

both_backends! {
    async fn metrics_count_shapes_without_naming_them(db: TestDatabase) {
        db.execute(NOTES).await;
        let args = ["--bind", "127.0.0.1:0", "--entity", "notes"];
        let env = [("DATABASE_URL", db.url()), ("RHTMX_SYNC_LIMITS_SUBSCRIPTIONS_MAX", "52".to_owned())];
        let server = ServerProcess::spawn(args, env).await;
        let http = Http::new(server.base_url());
        let mut client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
        let selection = json!({ "entity": "notes", "where": "body = 'confidential'" });
        client.subscribe_with("a", selection).await;
        client.wait_subscribed("a").await;
        db.execute("INSERT INTO notes VALUES (1, 'confidential')").await;
        client.wait_until(|client| client.rows("a").len() == 1).await;
        assert_eq!(value(&http, "rhtmx_sync_shapes{entity=\"notes\"}").await, Some(1.0));
        let before = series(&http).await;
        for name in [
            "rhtmx_sync_sessions",
            "rhtmx_sync_changes_total",
            "rhtmx_sync_deliveries_total",
            "rhtmx_sync_filter_evaluations_total",
            "rhtmx_sync_snapshot_reads_total",
        ] {
            assert!(before.contains(name), "{name} is missing in {before:?}");
        }

        // Fifty more shapes, with values that are private, add no series.
        for id in 0..50_u64 {
            let secret = format!("confidential {id}");
            let selection = json!({ "entity": "notes", "where": "body = $1 OR id > $2", "params": [secret, id],
                "columns": ["body"] });
            client.subscribe_with(id, selection).await;
        }
        for id in 0..50_u64 {
            client.wait_subscribed(id).await;
        }
        db.execute("INSERT INTO notes VALUES (2, 'confidential 7')").await;
        client.wait_until(|client| client.rows(7).len() == 1).await;
        client.subscribe_with("bad", json!({ "entity": "notes", "where": "nothing = 1" })).await;
        assert_eq!(client.wait_refused("bad").await, "bad_filter");
        assert_eq!(value(&http, "rhtmx_sync_shapes{entity=\"notes\"}").await, Some(51.0));
        assert!(value(&http, "rhtmx_sync_filter_evaluations_total").await >= Some(51.0));
        assert_eq!(series(&http).await, before);
        client.subscribe("last", "notes").await;
        client.subscribe("one more", "notes").await;
        assert_eq!(client.wait_refused("one more").await, "too_many_subscriptions");
        let reached = "rhtmx_sync_limits_reached_total{limit=\"limits.subscriptions_max\"}";
        assert_eq!(value(&http, reached).await, Some(1.0));
        let text = http.get("/metrics").await.text;
        let shape = client.subscription(7).shape().expect("a shape");
        for word in ["confidential", shape, "where", "body", "notes."] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        client.close().await;
        eventually("the shapes end", async || {
            let shapes = value(&http, "rhtmx_sync_shapes{entity=\"notes\"}").await;
            (shapes == Some(0.0)).then_some(())
        })
        .await;
    }
}
