//! Validation hooks: what an application says of plain writes.

use std::sync::Arc;

use rhtmx_sync::{Op, Refusal, SyncError};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends};

use super::{add, call, config, tables};
use crate::claims::{ClaimsAreTokens, options};
use crate::tables::count;
use crate::writes::{create, delete, note, update, upsert};

async fn serve(db: &TestDatabase) -> TestServer {
    tables(db).await;
    let mut config = config(db).await;
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config.validate("notes", |principal, write| {
        let is_admin = principal.role.as_deref() == Some("admin");
        if write.op == Op::Delete && !is_admin {
            return Err(Refusal::new(
                "not_deleted",
                format!("{:?} stays", write.key),
            ));
        }
        let body = write.values.get("body").and_then(Value::as_str);
        assert_ne!(body, Some("panic"), "a panic of the application's");
        match body {
            Some(body) if body.len() > 5 => Err(Refusal::new("too_long", "five letters at most")),
            _ => Ok(()),
        }
    });
    TestServer::with_config(config).await
}

both_backends! {
    async fn a_hook_refuses_plain_writes_and_sees_no_others(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = SyncClient::connect(&server.ws_url(), options(&json!({ "sub": "ann" }))).await;
        client.push_next(json!([note(1, "short")])).await.acked();
        let long = json!({ "id": 2, "body": "longer" });
        for write in [note(2, "longer"), upsert("notes", long.clone()), update("notes", 1, json!({ "body": "longer" }))] {
            let outcome = client.push_next(json!([create("ledger", json!({ "body": "longer" })), write])).await;
            let reject = outcome.rejected();
            assert_eq!((reject.code.as_str(), reject.reason.as_deref(), reject.write), ("refused", Some("too_long"), Some(1)));
            assert_eq!(reject.message, "five letters at most");
        }
        assert_eq!(count(&db, "ledger").await, 0);
        let outcome = client.push_next(json!([delete("notes", 1)])).await;
        assert_eq!(outcome.rejected().message, "Some(Number(1)) stays");
        // A fault of the write itself comes first.
        let outcome = client.push_next(json!([update("notes", 1, json!({ "body": "longer", "ghost": 1 }))])).await;
        assert_eq!(outcome.rejected().code, "unknown_column");
        let outcome = client.push_next(json!([note(3, "panic")])).await;
        assert_eq!((outcome.rejected().code.as_str(), &outcome.rejected().reason), ("refused", &None));
        // What a mutator writes is its own; a plain write beside its call is not.
        client.push_next(json!([call("add_note", long)])).await.acked();
        let outcome = client.push_next(json!([add(4), note(5, "longer")])).await;
        assert_eq!(outcome.rejected().reason.as_deref(), Some("too_long"));
        let mut admin = SyncClient::connect(&server.ws_url(), options(&json!({ "sub": "root", "role": "admin" }))).await;
        admin.push_next(json!([delete("notes", 1)])).await.acked();
    }

    async fn a_registration_that_cannot_be_ends_the_start(db: TestDatabase) {
        tables(&db).await;
        let mut twice = config(&db).await;
        twice.mutator("append", async |_, ()| Ok(()));
        let mut misnamed = config(&db).await;
        misnamed.mutator("completeTodo", async |_, ()| Ok(()));
        let mut ghost = config(&db).await;
        ghost.validate("ghosts", |_, _| Ok(()));
        for (config, name) in [(twice, "append"), (misnamed, "completeTodo"), (ghost, "ghosts")] {
            match TestServer::try_with_config(config).await {
                Err(SyncError::Config(text)) => assert!(text.contains(name), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
