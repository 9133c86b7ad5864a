//! Policies and filters that read other tables: which are errors, and what their answers tell.

use rhtmx_sync::{EntityPolicy, SyncError};
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::both_backends;

use super::{config, of_todos, serve, sign_in, tables, user};

both_backends! {
    async fn a_policy_on_another_table_that_cannot_be_evaluated_ends_the_start_with_its_place(db: TestDatabase) {
        tables(&db).await;
        for (read, words) in [
            ("id IN (SELECT id FROM elsewhere)", "at character 23: there is no entity \"elsewhere\""),
            ("id IN (SELECT gone FROM diary)", "at character 15: there is no column \"gone\""),
            ("id IN (SELECT body FROM diary)", "different types"),
            ("EXISTS (SELECT 1 FROM diary WHERE id = diary.id)", "\"id\" means \"diary\".\"id\""),
        ] {
            let policy = EntityPolicy { read: Some(read.to_owned()), ..of_todos() };
            let error = match TestServer::try_with_config(config(&db, policy).await).await {
                Err(error @ SyncError::Policy(_)) => error.to_string(),
                other => panic!("{read}: {other:?}"),
            };
            for words in ["\"todos\"", "`read`", words] {
                assert!(error.contains(words), "{error}");
            }
        }
        // A policy reads an entity that is closed for clients, wherever that stands in the configuration.
        let policy = EntityPolicy { create: Some("auth.sub IN (SELECT body FROM diary)".to_owned()), ..of_todos() };
        TestServer::with_config(config(&db, policy).await).await;
    }

    async fn a_subquery_that_cannot_be_answered_is_told_with_its_position(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        for (text, code, words) in [
            ("id IN (SELECT id FROM notes n JOIN todos t ON TRUE)", "bad_filter", "at character 31"),
            ("id IN (SELECT body FROM notes)", "bad_filter", "at character 15"),
            ("EXISTS (SELECT 1 FROM notes WHERE notes.id > todos.id)", "bad_filter", "at character 46"),
            // It is closed.
            ("id IN (SELECT id FROM diary)", "bad_filter", "at character 23: there is no entity \"diary\""),
            ("id IN (SELECT id FROM gone)", "bad_filter", "at character 23: there is no entity \"gone\""),
            (
                "id IN (SELECT id FROM notes WHERE id IN (SELECT id FROM notes WHERE id IN \
                 (SELECT id FROM notes WHERE id IN (SELECT id FROM notes))))",
                "too_large",
                "at most 3 subqueries",
            ),
        ] {
            ann.subscribe_with(text, json!({ "entity": "todos", "where": text })).await;
            assert_eq!(ann.wait_refused(text).await, code, "{text}");
            let message = ann.errors().last().expect("an error")["message"].to_string().replace("\\\"", "\"");
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
