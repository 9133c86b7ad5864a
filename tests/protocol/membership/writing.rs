//! Writes under policies with subqueries are decided within the mutation's own transaction.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, PushOutcome, TestDatabase, both_backends, eventually};

use super::{MINE, all, config, serve, subscriber, tables, usual};
use crate::writes::{create, delete, update};

async fn todos(db: &TestDatabase) -> Vec<String> {
    let query = "SELECT id || ' ' || coalesce(list_id, 0) || ' ' || title FROM todos ORDER BY id";
    db.query_text(query).await.into_iter().flatten().collect()
}

fn todo(id: u32, list_id: impl Into<Value>) -> Value {
    create(
        "todos",
        json!({ "id": id, "list_id": list_id.into(), "title": "new" }),
    )
}

both_backends! {
    async fn members_write_and_others_do_not(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = subscriber(&server, "ann").await;
        let to = |list_id: u32| json!({ "list_id": list_id });
        let before = todos(&db).await;
        for (write, code) in [
            (todo(9, 2), "forbidden"),
            (todo(9, Value::Null), "forbidden"),
            (todo(9, 77), "forbidden"),
            (update("todos", 1, to(2)), "forbidden"),
            (update("todos", 3, json!({ "title": "x" })), "not_found"),
            (update("todos", 3, to(1)), "not_found"),
            (update("todos", 99, to(1)), "not_found"),
            (delete("todos", 4), "not_found"),
            (delete("todos", 5), "not_found"),
        ] {
            let rejected = ann.push_next(json!([write])).await;
            assert_eq!(rejected.rejected().code, code, "{write}");
        }
        assert_eq!(todos(&db).await, before);
        ann.push_next(json!([todo(9, 1), update("todos", 1, json!({ "title": "mine" })), delete("todos", 2)])).await.acked();
        assert_eq!(todos(&db).await, ["1 1 mine", "3 2 c", "4 2 d", "5 0 e", "9 1 new"]);
        // As memberships are when the mutation is applied, and as it has left them itself.
        db.execute("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')").await;
        ann.push_next(json!([todo(10, 2), update("todos", 3, to(1))])).await.acked();
        db.execute("DELETE FROM list_members WHERE user_id = 'ann'").await;
        for write in [update("todos", 1, json!({ "title": "x" })), delete("todos", 3)] {
            assert_eq!(ann.push_next(json!([write])).await.rejected().code, "not_found", "{write}");
        }
        assert_eq!(ann.push_next(json!([todo(11, 1)])).await.rejected().code, "forbidden");
    }

    /// A mutation may make the membership that its next write needs, or take it.
    async fn a_write_sees_the_memberships_of_its_own_mutation(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = subscriber(&server, "ann").await;
        let join = |id: u32| create("list_members", json!({ "id": id, "list_id": 2, "user_id": "ann" }));
        assert_eq!(ann.push_next(json!([todo(9, 2), join(5)])).await.rejected().code, "forbidden");
        ann.push_next(json!([join(5), todo(9, 2)])).await.acked();
        let rejected = ann.push_next(json!([delete("list_members", 5), update("todos", 9, json!({ "title": "x" }))])).await;
        // PostgreSQL looks at the row as it was before the mutation, SQLite as it is within it.
        let code = match db.backend() {
            Backend::Postgres => "forbidden",
            Backend::Sqlite => "not_found",
        };
        assert_eq!((rejected.rejected().code.as_str(), rejected.rejected().write), (code, Some(1)));
        ann.push_next(json!([update("todos", 9, json!({ "title": "last" })), delete("list_members", 5)])).await.acked();
        ann.wait_until(|ann| ann.rows("t").len() == 2).await;
    }

    async fn a_row_that_one_may_read_and_not_write_is_forbidden(db: TestDatabase) {
        tables(&db).await;
        let mut policies = usual();
        policies.retain(|(name, _)| *name != "todos");
        let mut todos = all("EXISTS (SELECT 1 FROM list_members m WHERE m.list_id = todos.list_id AND m.user_id = auth.sub AND m.role = 'writer')");
        todos.read = Some(MINE.to_owned());
        policies.push(("todos", todos));
        let server = TestServer::with_config(config(&db, policies).await).await;
        let mut ann = subscriber(&server, "ann").await;
        for (write, code) in [
            (update("todos", 1, json!({ "title": "x" })), "forbidden"),
            (delete("todos", 1), "forbidden"),
            (todo(9, 1), "forbidden"),
            (update("todos", 3, json!({ "title": "x" })), "not_found"),
        ] {
            assert_eq!(ann.push_next(json!([write])).await.rejected().code, code, "{write}");
        }
        db.execute("UPDATE list_members SET role = 'writer'").await;
        ann.push_next(json!([update("todos", 1, json!({ "title": "x" })), todo(9, 1)])).await.acked();
    }
}

/// The membership goes while the mutation waits: the writes behind see that, and none of it is applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_membership_that_goes_while_a_mutation_waits_decides_what_follows() {
    let db = TestDatabase::postgres().await;
    let server = serve(&db).await;
    let mut ann = subscriber(&server, "ann").await;
    let mut other = db.connect_postgres().await;
    let transaction = other.transaction().await.expect("a transaction");
    let statements = "UPDATE todos SET title = 'theirs' WHERE id = 1; DELETE FROM list_members WHERE user_id = 'ann'";
    transaction.batch_execute(statements).await.expect("writes");
    let number = ann.next_mutation();
    let mine = |id: u32| update("todos", id, json!({ "title": "mine" }));
    ann.send_push(number, json!([mine(1), mine(2)])).await;
    eventually("the mutation waits for the row", async || {
        let query = "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        (!db.query_text(query).await.is_empty()).then_some(())
    })
    .await;
    transaction.commit().await.expect("a commit");
    ann.wait_answered().await;
    match ann.outcome(number).expect("an answer") {
        PushOutcome::Rejected(rejection) => assert_eq!(rejection.code, "not_found"),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(todos(&db).await[..2], ["1 1 theirs", "2 1 b"]);
}
