//! What filters may cost, and that a costly one holds up nobody else.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends};

use super::subscribers::{ENTITIES, serve, subscribe, wait_equal};
use super::todos::{ALL, make_todos, todos};
use crate::writes::{update, upsert};

/// Longer than the largest share of an evaluation allows, for a filter with many searches.
const LONG_TITLE_BYTES: usize = 100_000;

/// A filter that compares so often and that no index finds.
fn comparisons(column: &str, count: usize) -> Value {
    let parts: Vec<String> = (0..count).map(|n| format!("{column} > {n}")).collect();
    json!({ "entity": "todos", "where": parts.join(" OR ") })
}

async fn refused(client: &mut SyncClient, id: &str, selection: Value) {
    client.subscribe_with(id, selection).await;
    assert_eq!(client.wait_refused(id).await, "too_large");
}

async fn accepted(client: &mut SyncClient, id: &str, selection: Value) {
    client.subscribe_with(id, selection).await;
    client.wait_subscribed(id).await;
}

async fn serve_with_budgets(db: &TestDatabase) -> TestServer {
    make_todos(db).await;
    let mut config = TestServer::config(db, ENTITIES).await;
    config.limits.filter_work_max = 10;
    config.limits.entity_filter_work_max = 15;
    config.limits.filter_bytes_max = 4000;
    TestServer::with_config(config).await
}

both_backends! {
    async fn the_filters_of_a_connection_have_a_budget(db: TestDatabase) {
        let server = serve_with_budgets(&db).await;
        let mut client = server.connect().await;
        refused(&mut client, "a", comparisons("id", 11)).await;
        accepted(&mut client, "b", comparisons("id", 6)).await;
        refused(&mut client, "c", comparisons("list_id", 6)).await;
        client.unsubscribe("b").await;
        accepted(&mut client, "d", comparisons("list_id", 6)).await;
        let long = json!({ "entity": "todos", "where": format!("title = '{}'", "x".repeat(4000)) });
        refused(&mut client, "e", long).await;
    }

    async fn the_filters_on_an_entity_that_no_index_finds_have_a_budget(db: TestDatabase) {
        let server = serve_with_budgets(&db).await;
        let mut one = server.connect().await;
        accepted(&mut one, "a", comparisons("id", 10)).await;
        let mut two = server.connect().await;
        refused(&mut two, "a", comparisons("list_id", 6)).await;
        // What is evaluated already costs nothing more, nor does what an index finds.
        accepted(&mut two, "b", comparisons("id", 10)).await;
        two.unsubscribe("b").await;
        accepted(&mut two, "c", json!({ "entity": "todos", "where": "list_id IN (1, 2)" })).await;
        one.unsubscribe("a").await;
        one.ping().await;
        accepted(&mut two, "d", comparisons("list_id", 6)).await;
    }

    async fn a_parameter_that_is_named_often_is_too_large(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let parts: Vec<String> = (0..300).map(|n| format!("title IN ($1, '{n}')")).collect();
        let params = json!(["x".repeat(60_000)]);
        let often = json!({ "entity": "todos", "where": parts.join(" AND "), "params": params });
        refused(&mut client, "a", often).await;
        let once = json!({ "entity": "todos", "where": "title <> $1", "params": params });
        accepted(&mut client, "b", once).await;
        assert_eq!(*client.rows("b"), todos(&db, &ALL, "true").await);
    }

    async fn a_filter_over_its_share_reads_the_log_and_holds_up_nobody(db: TestDatabase) {
        let server = serve(&db).await;
        let searches: Vec<String> = (0..40).map(|n| format!("title LIKE '%a_{n}%'")).collect();
        let dear = json!({ "where": format!("{} OR id < 3", searches.join(" OR ")) });
        let mut client = server.connect().await;
        subscribe(&mut client, "a", dear).await;
        let mut other = server.connect().await;
        other.subscribe("f", "fence").await;
        other.wait_subscribed("f").await;
        for number in 0..3 {
            let title = format!("{number} {}", "x".repeat(LONG_TITLE_BYTES));
            for id in 1..=3 {
                let write = update("todos", id, json!({ "title": title }));
                other.push_next(json!([write])).await.acked();
            }
            let fence = upsert("fence", json!({ "id": number }));
            other.push_next(json!([fence])).await.acked();
            other.wait_until(|other| other.row("f", &number.to_string()).is_some()).await;
        }
        db.execute("UPDATE todos SET id = 9 WHERE id = 2").await;
        wait_equal(&mut client, &db, "a", "id < 3").await;
        assert_eq!((client.frames("refetch"), client.frames("snapshot")), (0, 1));
    }
}
