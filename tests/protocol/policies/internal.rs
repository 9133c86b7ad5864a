//! Internal entities: policies read them, and for clients they do not exist.

use rhtmx_sync::{EntityConfig, EntityPolicy, Policies, SyncConfig, SyncError};
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{TestDatabase, both_backends};

use super::closed::assert_does_not_exist;
use super::{http, sign_in, tables, user};
use crate::claims::ClaimsAreTokens;
use crate::writes::{create, update};

/// Everybody reads todos, and those who are their members write them.
fn of_todos() -> EntityPolicy {
    EntityPolicy {
        read: Some("TRUE".to_owned()),
        create: Some("auth.sub IN (SELECT user_id FROM members)".to_owned()),
        update: Some("id IN (SELECT todo_id FROM members WHERE user_id = auth.sub)".into()),
        ..EntityPolicy::default()
    }
}

async fn config(db: &TestDatabase) -> SyncConfig {
    tables(db).await;
    for statement in [
        "CREATE TABLE members (id integer PRIMARY KEY, todo_id integer, user_id text, body text)",
        "INSERT INTO members VALUES (1, 1, 'ann', 'nobody may read this')",
    ] {
        db.execute(statement).await;
    }
    let mut config = TestServer::config(db, ["todos", "notes"]).await;
    config
        .entities
        .push(EntityConfig::new("members").internal());
    config.auth.authenticator = std::sync::Arc::new(ClaimsAreTokens);
    config
}

fn guard(config: &mut SyncConfig, entity: &str, policy: EntityPolicy) {
    let policies = Policies::new([(entity.to_owned(), policy)]).expect("policies");
    config.auth.authorizer = std::sync::Arc::new(policies);
}

both_backends! {
    async fn an_internal_entity_is_answered_as_one_that_does_not_exist(db: TestDatabase) {
        let mut config = config(&db).await;
        guard(&mut config, "todos", of_todos());
        let server = TestServer::with_config(config).await;
        assert_does_not_exist(&server, "members").await;
    }

    async fn an_internal_entity_does_not_exist_where_everybody_may_do_everything(db: TestDatabase) {
        let server = TestServer::with_config(config(&db).await).await;
        assert_does_not_exist(&server, "members").await;
        // Nor does it in a subquery of a client's.
        let mut ann = sign_in(&server, &user("ann")).await;
        for (id, entity) in [("hidden", "members"), ("unknown", "nothing")] {
            let filter = format!("id IN (SELECT todo_id FROM {entity} WHERE user_id = 'ann')");
            ann.subscribe_with(id, json!({ "entity": "todos", "where": filter })).await;
            assert_eq!(ann.wait_refused(id).await, "bad_filter");
        }
        let messages: Vec<&str> = ann.errors().iter().filter_map(|error| error["message"].as_str()).collect();
        assert_eq!(messages[0].replace("members", "nothing"), messages[1]);
        assert!(messages[1].contains("there is no entity \"nothing\""), "{}", messages[1]);
        let http = http(&server, &user("ann"));
        let of = |entity: &str| format!("/api/sync/todos?where=id%20IN%20(SELECT%20id%20FROM%20{entity})");
        let answers = [http.get(&of("members")).await, http.get(&of("nothing")).await];
        assert_eq!(answers[0].status, answers[1].status);
        assert_eq!(answers[0].text.replace("members", "nothing"), answers[1].text);
    }

    async fn a_policy_reads_an_internal_entity_as_it_is_in_the_mutation(db: TestDatabase) {
        let mut config = config(&db).await;
        guard(&mut config, "todos", of_todos());
        let server = TestServer::with_config(config).await;
        let todo = |id: i64| create("todos", json!({ "id": id, "owner_id": "x" }));
        let rename = |id: i64| update("todos", id, json!({ "title": "new" }));
        let mut ann = sign_in(&server, &user("ann")).await;
        let mut ben = sign_in(&server, &user("ben")).await;
        ann.push_next(json!([todo(10), rename(1)])).await.acked();
        assert_eq!(ann.push_next(json!([rename(2)])).await.rejected().code, "forbidden");
        for write in [todo(11), rename(1)] {
            assert_eq!(ben.push_next(json!([write])).await.rejected().code, "forbidden");
        }
        db.execute("UPDATE members SET user_id = 'ben', todo_id = 2").await;
        ben.push_next(json!([todo(12), rename(2)])).await.acked();
        assert_eq!(ann.push_next(json!([todo(13)])).await.rejected().code, "forbidden");
    }

    async fn an_internal_entity_has_no_policies_of_its_own(db: TestDatabase) {
        let mut config = config(&db).await;
        guard(&mut config, "members", of_todos());
        match TestServer::try_with_config(config).await {
            Err(SyncError::Config(message)) => assert!(message.contains("\"members\", which is internal"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}
