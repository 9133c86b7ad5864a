//! Who may write rows that merge by their fields.

use rhtmx_sync::{Deletes, EntityPolicy, Policies, UpdatePolicy};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{PushOutcome, TestDatabase, both_backends};

use super::{config, connect, stamped, task};
use crate::writes::{delete, update, upsert};

/// Tasks of which nobody may write, or see, those whose due is `secret`.
async fn serve(db: &TestDatabase) -> TestServer {
    let mut config = config(db, Deletes::Revive).await;
    let open = "due IS NULL OR due <> 'secret'".to_owned();
    let policy = EntityPolicy {
        read: Some(open.clone()),
        create: Some("TRUE".to_owned()),
        update: Some(UpdatePolicy {
            using: open.clone(),
            check: Some("TRUE".to_owned()),
        }),
        delete: Some(open),
        ..EntityPolicy::default()
    };
    let policies = Policies::new([("tasks".to_owned(), policy)]).expect("policies");
    config.auth.authorizer = std::sync::Arc::new(policies);
    TestServer::with_config(config).await
}

fn told(outcome: &PushOutcome) -> (&str, Option<&str>, &str) {
    let rejected = outcome.rejected();
    (
        &rejected.code,
        rejected.column.as_deref(),
        &rejected.message,
    )
}

both_backends! {
    async fn a_row_that_one_may_not_write_is_answered_as_one_that_does_not_exist(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = connect(&server, 1).await;
        ann.push_next(json!([stamped(update("tasks", 1, json!({ "title": "mine" })), 1, 9)])).await.acked();
        db.execute("UPDATE tasks SET due = 'secret', likes = 2000000000 WHERE id = 1").await;
        let late = json!("2050-01-01T00:00:00.000Z-0000-00000009");
        let writes = |key: u64| -> Vec<Value> {
            let mut born_later = stamped(update("tasks", key, json!({ "title": "x" })), 1, 10);
            born_later["born"] = late.clone();
            vec![
                // One that wins, one that loses, one that does not fit the number that the row holds.
                update("tasks", key, json!({ "title": "x" })),
                stamped(update("tasks", key, json!({ "title": "x" })), 1, 1),
                stamped(update("tasks", key, json!({ "likes": { "add": 2000000000 } })), 1, 10),
                born_later,
                stamped(delete("tasks", key), 1, 10),
            ]
        };
        for (hidden, absent) in writes(1).into_iter().zip(writes(7)) {
            let hidden = ann.push_next(json!([hidden])).await;
            let absent = ann.push_next(json!([absent])).await;
            assert_eq!(told(&hidden), told(&absent));
            assert_eq!(hidden.rejected().code, "not_found");
        }
        let hidden = ann.push_next(json!([stamped(upsert("tasks", json!({ "id": 1, "title": "x" })), 1, 10)])).await;
        assert_eq!(hidden.rejected().code, "forbidden");
        assert_eq!(task(&db, "title").await.as_deref(), Some("mine"));
    }

    async fn a_deleted_row_is_brought_back_by_nobody_where_a_policy_says_who_may_write_it(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = connect(&server, 1).await;
        db.execute("UPDATE tasks SET due = 'secret' WHERE id = 1").await;
        db.execute("DELETE FROM tasks WHERE id = 1").await;
        for write in [
            update("tasks", 1, json!({ "title": "back" })),
            update("tasks", 1, json!({ "likes": { "add": 1 } })),
            delete("tasks", 1),
        ] {
            let outcome = ann.push_next(json!([write])).await;
            assert_eq!(outcome.rejected().code, "not_found");
        }
        assert_eq!(task(&db, "id").await, None);
    }
}
