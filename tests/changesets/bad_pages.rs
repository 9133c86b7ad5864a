//! A page that is wrong is told with its place, and nothing of it is merged.

use merge::Deletes;
use serde_json::json;
use testkit::Backend;

use super::Synced;

const NODE: &str = "2026-01-01T00:00:00.000Z-0000-other";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_page_that_is_wrong_is_merged() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let one = Synced::new(backend, Deletes::Win).await;
        let good = json!({"id": 1, "title": "good", "hlc": NODE});
        let with = |other: serde_json::Value| json!({"todos": [good, other]}).to_string();
        let dead = json!({"metadata": {"died": NODE}});
        for (page, words) in [
            (
                json!({"todos": [good], "pg_authid": [{"rolname": "x", "hlc": NODE}]}).to_string(),
                "table \"pg_authid\": no such table",
            ),
            (with(good.clone()), "record 1: the row is there twice"),
            (
                with(json!({"id": 2, "rolpassword": "x", "hlc": NODE})),
                "record 1, column \"rolpassword\"",
            ),
            (
                with(json!({"title": "x", "hlc": NODE})),
                "record 1, column \"id\": the key is missing",
            ),
            (
                with(json!({"id": 2, "hlc": "soon"})),
                "record 1, column \"hlc\": it is no clock",
            ),
            (
                with(json!({"id": "two", "hlc": NODE})),
                "record 1: \"invalid\"",
            ),
            (
                with(json!({"id": 2, "likes": "many", "hlc": NODE})),
                "record 1: \"invalid\"",
            ),
            (
                with(json!({"id": 2, "title": "a\u{0}b", "hlc": NODE})),
                "a null byte",
            ),
            (
                with(
                    json!({"id": 2, "title": "x", "is_deleted": 0, "hlc": NODE, "_rhtmx_sync": dead}),
                ),
                "record 1: \"invalid\": `is_deleted` and the metadata contradict",
            ),
            (with(json!(7)), "record 1: it has another form"),
            (with(json!({}))[..20].to_owned(), "was cut off"),
        ] {
            let merged = match one.replica.read(&page) {
                Ok(read) => one.replica.merge(read).await.map(|_| ()),
                Err(error) => Err(error),
            };
            let error = merged.expect_err(&page).to_string();
            assert!(error.contains(words), "{words}: {error}");
            assert!(one.rows().await.is_empty(), "{words}");
        }
        one.merge(&json!({"todos": [good]}).to_string()).await;
        assert_eq!(one.rows().await["1"]["title"], "good");
    }
}
