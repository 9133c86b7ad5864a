//! Rights: a mutator has the server's, the writes beside its call have the client's, and nothing is told that the client may
//! not know.

use std::sync::Arc;

use rhtmx_sync::{ColumnPolicy, EntityPolicy, Policies, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends};

use super::{call, execute};
use crate::claims::{ClaimsAreTokens, options};
use crate::tables::rows;
use crate::writes::update;

const TODOS: &str = "CREATE TABLE todos (id integer PRIMARY KEY, owner_id text NOT NULL, title text NOT NULL, code text UNIQUE); \
    CREATE TABLE vault (id integer PRIMARY KEY, code text NOT NULL)";

/// Everybody reads and writes their own todos, and nobody reads a code; the vault is closed.
async fn config(db: &TestDatabase) -> SyncConfig {
    let own = "owner_id = auth.sub";
    let hidden = ColumnPolicy {
        readable: Some(false.into()),
        writable: Some(false.into()),
        ..ColumnPolicy::default()
    };
    let todos = EntityPolicy {
        read: Some(own.to_owned()),
        create: Some(own.to_owned()),
        update: Some(own.into()),
        delete: Some(own.to_owned()),
        columns: [("code".to_owned(), hidden)].into(),
    };
    db.execute(TODOS).await;
    db.execute("INSERT INTO todos VALUES (1, 'ann', 'one', 'a'), (2, 'ben', 'two', 'b')")
        .await;
    let mut config = TestServer::config(db, ["todos", "vault"]).await;
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    let policies = Policies::new([("todos".to_owned(), todos)]).expect("policies");
    config.auth.authorizer = Arc::new(policies);
    config.mutator("set", async |tx, (id, values): (i64, Value)| {
        tx.update("todos", id, values).await
    });
    config.mutator("sign", async |tx, id: i64| {
        let team = tx.principal().claims.get("team").cloned();
        let user = tx.principal().user_id.clone();
        let title = format!(
            "{} of {}",
            user.unwrap_or_default(),
            team.unwrap_or_default()
        );
        tx.update("todos", id, json!({ "title": title })).await
    });
    config.mutator("keep", async |tx, code: Option<String>| {
        tx.create("vault", json!({ "id": 1, "code": code })).await
    });
    config.mutator("run", async |tx, sql: String| execute(&tx, &sql).await);
    config
}

async fn titles(db: &TestDatabase) -> Vec<Value> {
    let rows = rows(db, "todos", &["id", "title"]).await;
    rows.into_values().map(|row| row["title"].clone()).collect()
}

async fn sign_in(server: &TestServer, claims: &Value) -> SyncClient {
    SyncClient::connect(&server.ws_url(), options(claims)).await
}

both_backends! {
    async fn a_mutator_sees_for_whom_it_acts_and_may_do_what_its_client_may_not(db: TestDatabase) {
        let server = TestServer::with_config(config(&db).await).await;
        let mut ann = sign_in(&server, &json!({ "sub": "ann", "team": "red" })).await;
        let not_hers = json!([update("todos", 2, json!({ "title": "hers" }))]);
        assert_eq!(ann.push_next(not_hers).await.rejected().code, "not_found");
        ann.push_next(json!([call("sign", json!(2))])).await.acked();
        assert_eq!(titles(&db).await, ["one", "ann of \"red\""]);
        ann.push_next(json!([call("keep", json!("1234"))])).await.acked();
    }

    async fn a_call_with_the_client_id_of_another_user_does_nothing(db: TestDatabase) {
        let server = TestServer::with_config(config(&db).await).await;
        let client_id = uuid::Uuid::new_v4();
        let post = async |user: &str, mutation: u64| {
            let http = server.http().with_token(json!({ "sub": user }).to_string());
            let writes = json!([call("sign", json!(1))]);
            let body = json!({ "client_id": client_id, "mutation": mutation, "writes": writes });
            http.post("/api/sync/mutators", &body).await.status
        };
        assert_eq!(post("ann", 1).await, 200);
        for mutation in [1, 2] {
            assert_eq!(post("ben", mutation).await, 403);
        }
        assert_eq!(titles(&db).await, ["ann of null", "two"]);
        assert_eq!(post("ann", 2).await, 200);
    }

    async fn policies_hold_for_the_writes_beside_a_call(db: TestDatabase) {
        let server = TestServer::with_config(config(&db).await).await;
        let mut ann = sign_in(&server, &json!({ "sub": "ann" })).await;
        let title = |title: &str| json!({ "title": title });
        for (write, code) in [
            (update("todos", 2, title("hers")), "not_found"),
            (update("todos", 1, json!({ "owner_id": "ben" })), "forbidden"),
            (update("todos", 1, json!({ "code": "x" })), "unknown_column"),
        ] {
            let outcome = ann.push_next(json!([call("set", json!([1, title("x")])), write])).await;
            assert_eq!((outcome.rejected().code.as_str(), outcome.rejected().write), (code, Some(1)));
            assert_eq!(titles(&db).await, ["one", "two"]);
        }
        // What a call has changed counts for the writes after it.
        let given = call("set", json!([2, { "owner_id": "ann" }]));
        ann.push_next(json!([given, update("todos", 2, title("hers"))])).await.acked();
        assert_eq!(titles(&db).await, ["one", "hers"]);
    }

    async fn a_reject_names_no_column_that_its_client_may_not_read(db: TestDatabase) {
        let server = TestServer::with_config(config(&db).await).await;
        let mut ann = sign_in(&server, &json!({ "sub": "ann" })).await;
        let taken = "UPDATE todos SET code = 'b' WHERE id = 1";
        for (call, code) in [
            (call("set", json!([1, { "code": "b" }])), "constraint"),
            (call("set", json!([1, { "code": 7 }])), "invalid"),
            (call("keep", Value::Null), "constraint"),
            (call("run", json!(taken)), "constraint"),
        ] {
            let outcome = ann.push_next(json!([call])).await;
            let reject = outcome.rejected();
            assert_eq!((reject.code.as_str(), &reject.column, reject.write), (code, &None, Some(0)), "{reject:?}");
            assert!(!reject.message.contains("code"), "{reject:?}");
        }
        // One that she may read is named.
        let outcome = ann.push_next(json!([call("set", json!([1, { "title": null }]))])).await;
        assert_eq!(outcome.rejected().column.as_deref(), Some("title"));
    }
}
