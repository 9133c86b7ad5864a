//! Selections as server-sent events.

use serde_json::{Value, json};
use testkit::both_backends;

use super::polling::path;
use super::subscribers::{ops, serve};
use super::todos::todos;
use crate::sse::{Event, Events};

/// The query string of a stream of the titles of list 1.
fn query() -> String {
    let selection = [
        ("entity", "todos"),
        ("where", "list_id = $1"),
        ("params", "[1]"),
        ("columns", "title,done"),
    ];
    let path = path("events", &selection);
    let (_, query) = path.split_once('?').expect("a query");
    query.to_owned()
}

fn frames(events: &[Event]) -> Vec<Value> {
    events.iter().map(|event| event.frame.clone()).collect()
}

both_backends! {
    async fn a_stream_sends_a_selection_and_its_changes(db: TestDatabase) {
        let server = serve(&db).await;
        let mut events = Events::open(&server, &query(), None).await;
        let joined = events.until("subscribed").await;
        let mut rows: Vec<Value> = joined[0].frame["rows"].as_array().expect("rows").clone();
        rows.sort_by_key(|row| row["key"].to_string());
        let expected = todos(&db, &["id", "title", "done"], "list_id = 1").await;
        let expected = expected.into_iter().map(|(key, row)| json!({ "key": key, "row": row }));
        assert_eq!(rows, expected.collect::<Vec<_>>());
        let columns = &joined[1].frame["schema"]["columns"];
        assert_eq!(columns.as_object().expect("columns").len(), 3);

        db.execute("UPDATE todos SET owner = 'unseen'").await;
        db.execute("UPDATE todos SET title = 'unseen' WHERE id = 4").await;
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let live = events.until("cursor").await;
        let mut received = ops(&frames(&live));
        received.sort();
        assert_eq!(received, ["leave 1", "leave 2", "put 3"]);
        assert_eq!(live[0].frame["shape"], joined[1].frame["shape"]);
        assert!(live.last().is_some_and(|last| last.id.is_some()));
    }

    async fn a_stream_resumes_after_the_last_event_id(db: TestDatabase) {
        let server = serve(&db).await;
        let mut events = Events::open(&server, &query(), None).await;
        let joined = events.until("subscribed").await;
        let id = joined.last().and_then(|event| event.id.clone()).expect("an id");
        drop(events);
        for statement in [
            "UPDATE todos SET owner = 'unseen' WHERE id = 1",
            "UPDATE todos SET list_id = 2 WHERE id = 2",
            "UPDATE todos SET list_id = 1 WHERE id = 4",
            "UPDATE todos SET title = 'unseen' WHERE id = 3",
        ] {
            db.execute(statement).await;
        }
        let mut events = Events::open(&server, &query(), Some(&id)).await;
        let joined = events.until("subscribed").await;
        let mut received = ops(&frames(&joined));
        received.sort();
        assert_eq!(received, ["leave 2", "put 4"]);
        assert!(joined.iter().all(|event| event.frame["type"] != "snapshot"));
        db.execute("UPDATE todos SET list_id = 7 WHERE id = 4").await;
        assert_eq!(ops(&frames(&events.until("cursor").await)), ["leave 4"]);
    }

    /// A selection that is still valid continues when the table changes, one that is not ends.
    async fn a_stream_ends_with_a_selected_column(db: TestDatabase) {
        let server = serve(&db).await;
        let mut events = Events::open(&server, &query(), None).await;
        events.until("subscribed").await;
        db.execute("ALTER TABLE todos DROP COLUMN owner").await;
        db.execute("UPDATE todos SET title = 'new' WHERE id = 1").await;
        let again = events.until("subscribed").await;
        assert!(again.iter().any(|event| event.frame["type"] == "refetch"));
        db.execute("ALTER TABLE todos DROP COLUMN done").await;
        db.execute("UPDATE todos SET title = 'newer' WHERE id = 1").await;
        let end = events.until("error").await;
        let error = end.last().map(|event| event.frame["code"].clone());
        assert_eq!(error, Some(json!("bad_filter")));
    }
}
