//! Windows of the rows that one may read.

use std::sync::Arc;

use rhtmx_sync::{ColumnPolicy, EntityPolicy, Policies};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends};

use super::{changes_until_note, keys, of_posts, settle, subscribe, tables};
use crate::claims::{ClaimsAreTokens, options};

fn read(policy: &str) -> EntityPolicy {
    EntityPolicy {
        read: Some(policy.to_owned()),
        ..EntityPolicy::default()
    }
}

/// Everybody reads the posts of those whose reader they are; the codes of their own alone, and nobody any author's.
async fn serve(db: &TestDatabase) -> TestServer {
    tables(db).await;
    let mut posts = read("author IN (SELECT author FROM members WHERE reader = auth.sub)");
    for (name, readable) in [
        ("code", "author = auth.sub"),
        ("title", "auth.role = 'editor'"),
    ] {
        let column = ColumnPolicy {
            readable: Some(readable.into()),
            ..ColumnPolicy::default()
        };
        posts.columns.insert(name.to_owned(), column);
    }
    let policies = [
        ("posts", posts),
        ("members", read("reader = auth.sub")),
        ("notes", read("TRUE")),
    ];
    let policies = policies.map(|(name, policy)| (name.to_owned(), policy));
    let mut config = TestServer::config(db, ["posts", "members", "notes"]).await;
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config.auth.authorizer = Arc::new(Policies::new(policies).expect("policies"));
    TestServer::with_config(config).await
}

async fn sign_in(server: &TestServer, claims: &Value) -> SyncClient {
    let mut client = SyncClient::connect(&server.ws_url(), options(claims)).await;
    client.subscribe("n", "notes").await;
    client.wait_subscribed("n").await;
    client
}

both_backends! {
    async fn a_window_has_the_first_of_the_rows_that_one_may_read(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO members VALUES (1, 'ann', 'ann'), (2, 'ben', 'ben')").await;
        db.execute("INSERT INTO posts (id, at, author) VALUES (1, 1, 'ann'), (2, 2, 'ben'), (3, 3, 'ann'), (4, 4, 'ben'), (5, 5, 'ann')").await;
        let mut ann = sign_in(&server, &json!({ "sub": "ann" })).await;
        subscribe(&mut ann, "w", json!({ "order": [["at", "desc"]], "limit": 2 })).await;
        subscribe(&mut ann, "some", json!({ "where": "at < 5", "order": [["at", "desc"]], "limit": 2 })).await;
        settle(&db, &mut ann).await;
        assert_eq!((keys(&ann, "w"), keys(&ann, "some")), (vec!["3".into(), "5".into()], vec!["1".into(), "3".into()]));
        for (number, (statement, changes)) in [
            ("INSERT INTO members VALUES (3, 'ben', 'ann')", &["some leave 1", "some put 4", "w leave 3", "w put 4"][..]),
            ("INSERT INTO posts (id, at, author) VALUES (6, 6, 'cleo')", &[]),
            ("UPDATE posts SET author = 'cleo' WHERE id = 5", &["w leave 5", "w put 3"]),
            ("DELETE FROM members WHERE id = 3", &["some leave 4", "some put 1", "w leave 4", "w put 1"]),
            ("DELETE FROM members", &["some leave 1", "some leave 3", "w leave 1", "w leave 3"]),
        ].into_iter().enumerate() {
            let note = number as u32 + 1;
            db.execute(&format!("BEGIN; {statement}; INSERT INTO notes VALUES ({note}, ''); COMMIT")).await;
            assert_eq!(changes_until_note(&mut ann, note).await, changes, "{statement}");
        }
        for hidden in ["2", "6"] {
            assert_eq!(ann.puts("w", hidden) + ann.puts("some", hidden), 0);
        }
        assert!(!ann.transcript().contains("cleo"), "{}", ann.transcript());
        assert_eq!(ann.frames("refetch"), 0);
    }

    async fn rows_are_not_ordered_by_what_one_may_not_read(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = sign_in(&server, &json!({ "sub": "ann" })).await;
        for (id, column, words) in [
            ("a", "title", "there is no such column"),
            ("b", "missing", "there is no such column"),
            ("c", "code", "may be read in some rows only"),
        ] {
            ann.subscribe_with(id, of_posts(json!({ "order": [[column, "asc"]], "limit": 2 }))).await;
            assert_eq!(ann.wait_refused(id).await, "bad_filter");
            let message = ann.errors().last().expect("an error")["message"].to_string();
            assert!(message.contains(words), "{message}");
        }
        let mut editor = sign_in(&server, &json!({ "sub": "ann", "role": "editor" })).await;
        subscribe(&mut editor, "a", json!({ "order": [["title", "asc"]], "limit": 2 })).await;
    }
}
