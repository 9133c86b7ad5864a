//! Entities without policies, and policies that cannot be evaluated.

use rhtmx_sync::{EntityPolicy, Policies, SyncError};
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::both_backends;

use super::{config, http, of_todos, serve, sign_in, subscriber, tables, user};
use crate::writes::{create, delete, update};

/// Looks at an entity from every side that a client has: each answer is the one about `gone`, which is no entity.
pub(super) async fn assert_does_not_exist(server: &TestServer, entity: &str) {
    let mut ann = sign_in(server, &json!({ "sub": "ann", "role": "admin" })).await;
    for (id, name) in [("hidden", entity), ("unknown", "gone")] {
        ann.subscribe_with(id, json!({ "entity": name, "where": "nothing = 1" }))
            .await;
        assert_eq!(ann.wait_refused(id).await, "unknown_entity");
    }
    let messages: Vec<&str> = ann
        .errors()
        .iter()
        .filter_map(|error| error["message"].as_str())
        .collect();
    assert_eq!(messages[0], messages[1]);
    let mut rejections = Vec::new();
    for name in [entity, "gone"] {
        for write in [
            create(name, json!({ "id": 2, "body": "x" })),
            update(name, 1, json!({ "body": "x" })),
            delete(name, 1),
        ] {
            let rejection = ann.push_next(json!([write])).await.rejected().clone();
            let message = rejection.message.replace(entity, "gone");
            rejections.push((rejection.code, message, rejection.write, rejection.column));
        }
    }
    assert_eq!(rejections[..3], rejections[3..]);
    assert_eq!(rejections[0].0, "unknown_entity");
    let http = http(server, &user("ann"));
    for path in [
        "/api/sync/ENTITY",
        "/api/sync/events?entity=ENTITY",
        "/api/sync/ENTITY?cursor=x",
        "/api/sync/ENTITY?where=id=1",
        "/api/field-sync/ENTITY",
        "/api/field-sync/ENTITY/1",
        "/api/field-sync/ENTITY/1/latest",
    ] {
        let answers = [
            http.get(&path.replace("ENTITY", entity)).await,
            http.get(&path.replace("ENTITY", "gone")).await,
        ];
        assert_eq!(answers[0].status, answers[1].status);
        assert_eq!(answers[0].text.replace(entity, "gone"), answers[1].text);
    }
    let push = |name: &str| {
        let writes = [create(name, json!({ "id": 2, "body": "x" }))];
        json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": writes })
    };
    for prefix in ["/api/sync", "/api/field-sync"] {
        let answers = [
            http.post(&format!("{prefix}/{entity}"), &push(entity))
                .await,
            http.post(&format!("{prefix}/gone"), &push("gone")).await,
        ];
        assert_eq!(answers[0].status, answers[1].status);
        assert_eq!(answers[0].text.replace(entity, "gone"), answers[1].text);
    }
}

both_backends! {
    /// CVE-2025-64749: other answers for what exists.
    async fn an_entity_without_policies_is_answered_as_one_that_does_not_exist(db: TestDatabase) {
        let server = serve(&db).await;
        assert_does_not_exist(&server, "diary").await;
        let http = http(&server, &user("ann"));
        let push = json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": [create("notes", json!({ "id": 2, "body": "x" }))] });
        let answer = http.post("/api/sync/notes", &push).await;
        assert_eq!(answer.json()["code"], "forbidden", "readable is not writable: {}", answer.text);
    }

    async fn a_policy_that_cannot_be_evaluated_exactly_ends_the_start_with_its_place(db: TestDatabase) {
        tables(&db).await;
        for (change, place, words) in [
            (
                (|policy: &mut EntityPolicy| policy.read = Some("owner = auth.sub".to_owned())) as fn(&mut EntityPolicy),
                "`read`",
                "at character 1: there is no column \"owner\"",
            ),
            (|policy| policy.create = Some("locked AND title LIKE auth.sub".to_owned()), "`create`", "at character 23"),
            (|policy| policy.update = Some("title = auth.sub AND id = 'one'".into()), "`update`", "whole number"),
            (|policy| policy.delete = Some("auth.sub = $1".to_owned()), "`delete`", "$1"),
            (|policy| { policy.columns.insert("gone".to_owned(), Default::default()); }, "`columns.gone`", "no such column"),
            (|policy| policy.columns.get_mut("secret_note").expect("one").readable = Some("gone = 1".into()), "`columns.secret_note.readable`", "gone"),
        ] {
            let mut policy = of_todos();
            change(&mut policy);
            let error = match TestServer::try_with_config(config(&db, policy).await).await {
                Err(error @ SyncError::Policy(_)) => error.to_string(),
                other => panic!("{place}: {other:?}"),
            };
            for words in ["\"todos\"", place, words] {
                assert!(error.contains(words), "{error}");
            }
        }
        let mut other = config(&db, of_todos()).await;
        let policies = Policies::new([("elsewhere".to_owned(), of_todos())]).expect("policies");
        other.auth.authorizer = std::sync::Arc::new(policies);
        let error = TestServer::try_with_config(other).await.expect_err("no such entity");
        assert!(error.to_string().contains("elsewhere"), "{error}");
    }

    async fn a_policy_whose_column_is_dropped_lets_nobody_in_and_says_nothing(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = subscriber(&server, &user("ann")).await;
        db.execute("ALTER TABLE todos RENAME COLUMN visibility TO seen_by").await;
        ann.wait_for(|frame| frame["type"] == "error" && frame["id"] == "t").await;
        let error = ann.errors().last().expect("an error");
        assert_eq!(error["code"], "forbidden");
        let text = error.to_string();
        assert!(!text.contains("seen_by") && !text.contains("visibility"), "{text}");
        let outcome = ann.push_next(json!([create("todos", json!({ "id": 9, "title": "x", "seen_by": "public" }))])).await;
        assert_eq!(outcome.rejected().code, "forbidden");
    }
}
