//! What clients find out of mutators, and mutations that belong to no entity.

use std::sync::Arc;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Http, both_backends};
use uuid::Uuid;

use super::{add, call, config, serve, tables};
use crate::claims::ClaimsAreTokens;
use crate::tables::count;

const PATH: &str = "/api/sync/mutators";

async fn features(server: &TestServer) -> (Value, Value) {
    let client = server.connect().await;
    let status = server.http().get("/api/sync/status").await.json();
    (
        client.welcome()["features"].clone(),
        status["features"].clone(),
    )
}

fn has_mutators(features: &Value) -> bool {
    let features = features.as_array().expect("features");
    features.contains(&json!("mutators"))
}

async fn post(http: &Http, writes: Value) -> (u16, Value) {
    let body = json!({ "client_id": Uuid::new_v4(), "mutation": 1, "writes": writes });
    let reply = http.post(PATH, &body).await;
    (reply.status, reply.json())
}

both_backends! {
    async fn mutators_are_listed_with_the_schemas_of_their_arguments(db: TestDatabase) {
        let server = serve(&db).await;
        let (welcome, status) = features(&server).await;
        assert!(has_mutators(&welcome) && has_mutators(&status));
        let listed = server.http().get(PATH).await.json();
        let mutators = listed["mutators"].as_array().expect("a list");
        let names: Vec<&Value> = mutators.iter().map(|mutator| &mutator["name"]).collect();
        assert_eq!(names, ["add_note", "append", "put_note", "refuse", "run"]);
        let add_note = &mutators[0];
        assert_eq!(add_note["description"], "A note, as an argument.");
        assert_eq!(add_note["args"]["required"], json!(["id", "body"]));
        assert_eq!(add_note["args"]["properties"]["id"]["type"], "integer");
        assert_eq!(mutators[1]["args"]["type"], "string");
    }

    async fn a_server_without_mutators_offers_none(db: TestDatabase) {
        tables(&db).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let (welcome, status) = features(&server).await;
        assert!(!has_mutators(&welcome) && !has_mutators(&status));
        assert_eq!(server.http().get(PATH).await.json(), json!({ "mutators": [] }));
        let mut client = server.connect().await;
        let outcome = client.push_next(json!([add(1)])).await;
        assert_eq!((outcome.rejected().code.as_str(), outcome.rejected().write), ("unknown_mutator", Some(0)));
    }

    async fn a_mutation_of_calls_alone_can_be_posted(db: TestDatabase) {
        let server = serve(&db).await;
        let http = server.http();
        assert_eq!(post(&http, json!([add(1)])).await.0, 200);
        assert_eq!(count(&db, "notes").await, 1);
        let (status, body) = post(&http, json!([call("refuse", Value::Null)])).await;
        assert_eq!((status, &body["type"], &body["reason"]), (409, &json!("reject"), &json!("list_full")));
        assert_eq!(post(&http, json!([call("ghost", Value::Null)])).await.0, 422);
        assert_eq!(post(&http, json!([call("append", json!(1))])).await.0, 422);
        assert_eq!(post(&http, json!([])).await.0, 422);
    }

    async fn mutators_are_told_to_those_who_may_come_in(db: TestDatabase) {
        tables(&db).await;
        let mut config = config(&db).await;
        config.auth.authenticator = Arc::new(ClaimsAreTokens);
        let server = TestServer::with_config(config).await;
        assert_eq!(server.http().with_token("no token").get(PATH).await.status, 401);
        let token = json!({ "sub": "ann" }).to_string();
        assert_eq!(server.http().with_token(token).get(PATH).await.status, 200);
        assert_eq!(post(&server.http().with_token("no token"), json!([add(1)])).await.0, 401);
    }
}
