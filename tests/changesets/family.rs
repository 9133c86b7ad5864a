//! The form of the CRDT-over-SQL family: records without metadata, also without some columns.

use merge::Deletes;
use serde_json::json;
use testkit::Backend;

use super::Synced;

fn at(second: u8) -> String {
    format!("2026-01-01T00:00:{second:02}.000Z-0000-phone")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_others_are_taken_and_handed_on() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let one = Synced::new(backend, Deletes::Win).await;
        let record = |id: u8, title: &str, second: u8| json!({"id": id, "title": title, "is_deleted": 0, "hlc": at(second), "node_id": "phone", "modified": at(second)});
        let page = json!({"todos": [record(1, "a", 1), record(2, "b", 1)]}).to_string();
        assert_eq!(one.merge(&page).await, (2, 0));
        // Twice is once.
        assert_eq!(one.merge(&page).await.1, 0);
        // A later one without some columns leaves those; an earlier one changes nothing.
        one.db
            .execute("UPDATE todos SET note = 'kept' WHERE id = 1")
            .await;
        one.merge(&json!({"todos": [record(1, "older", 0)]}).to_string())
            .await;
        one.merge(&json!({"todos": [record(2, "newer", 9)]}).to_string())
            .await;
        let gone = json!({"id": 1, "is_deleted": 1, "hlc": "2999-01-01T00:00:00.000Z-0000-phone"});
        let parked = one.merge(&json!({"todos": [gone]}).to_string()).await;
        assert_eq!(parked, (0, 1), "a clock of the far future waits");
        let rows = one.rows().await;
        assert_eq!(
            (&rows["1"]["title"], &rows["1"]["note"]),
            (&json!("a"), &json!("kept"))
        );
        assert_eq!(rows["2"]["title"], "newer");
        let gone = json!({"id": 2, "is_deleted": 1, "hlc": at(10)});
        one.merge(&json!({"todos": [gone]}).to_string()).await;
        assert_eq!(one.rows().await.len(), 1);
        let two = Synced::new(backend, Deletes::Win).await;
        for page in one.pages(None).await {
            two.merge(&page).await;
        }
        assert_eq!(one.rows().await, two.rows().await);
        assert!(one.is_same(&two).await);
    }
}
