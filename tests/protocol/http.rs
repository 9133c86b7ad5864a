//! Plain HTTP: mutations, rejects, status.

use rhtmx_sync::EntityConfig;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, both_backends};
use uuid::Uuid;

use crate::tables::{NOTES, TASKS, count, notes};
use crate::writes::{create, delete, note, update};

const PATH: &str = "/api/sync/notes";

/// The body of a `POST`.
pub(crate) fn push(client_id: Uuid, mutation: u64, writes: &Value) -> Value {
    json!({ "client_id": client_id, "mutation": mutation, "writes": writes })
}

both_backends! {
    async fn mutations_are_answered_with_a_status(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        let me = Uuid::new_v4();
        let reply = http
            .post(PATH, &push(me, 1, &json!([note(1, "one")])))
            .await;
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!({ "type": "ack", "mutation": 1 }))
        );
        assert_eq!(reply.header("content-type"), Some("application/json"));

        for (mutation, writes, status, code) in [
            (2, json!([note(1, "again")]), 409, "exists"),
            (
                3,
                json!([update("notes", 9, json!({ "body": "x" }))]),
                409,
                "not_found",
            ),
            (
                4,
                json!([update("notes", 1, json!({ "body": null }))]),
                409,
                "constraint",
            ),
            (
                5,
                json!([update("notes", 1, json!({ "body": 1 }))]),
                422,
                "invalid",
            ),
            (
                6,
                json!([update("notes", 1, json!({ "colour": 1 }))]),
                422,
                "unknown_column",
            ),
            (7, json!([delete("nowhere", 1)]), 422, "unknown_entity"),
            (8, json!([]), 422, "invalid"),
            (77, json!([note(2, "x")]), 409, "out_of_order"),
        ] {
            let reply = http.post(PATH, &push(me, mutation, &writes)).await;
            let body = reply.json();
            assert_eq!((reply.status, body["code"].as_str()), (status, Some(code)));
            assert_eq!(
                (&body["type"], &body["mutation"]),
                (&json!("reject"), &json!(mutation))
            );
            assert_eq!(reply.header("content-type"), Some("application/json"));
            if code == "out_of_order" {
                assert_eq!(body["expected"], 9);
            }
            let again = http.post(PATH, &push(me, mutation, &writes)).await;
            assert_eq!((again.status, again.json()), (status, body));
        }
        let values = json!({ "id": 1, "body": "one" });
        assert_eq!(notes(&db).await.into_values().collect::<Vec<_>>(), [values]);
    }

    async fn a_mutation_of_an_entity_without_a_table_is_forbidden(db: TestDatabase) {
        db.execute(NOTES).await;
        let entities = vec![
            EntityConfig::new("notes"),
            EntityConfig::without_table("presence"),
        ];
        let server = TestServer::start(&db, entities).await;
        let body = push(Uuid::new_v4(), 1, &json!([create("presence", json!({}))]));
        let reply = server.http().post("/api/sync/presence", &body).await;
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (403, &json!("forbidden"))
        );
    }

    async fn bodies_that_are_not_mutations_are_errors(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.frame_bytes_max = 10_000;
        let server = TestServer::with_config(config).await;
        let url = server.http().url(PATH);
        let client = reqwest::Client::new();
        let id = Uuid::new_v4();
        let large = push(id, 1, &json!([note(1, &"x".repeat(10_000))])).to_string();
        for (body, status, code) in [
            (String::new(), 400, "protocol"),
            ("[]".to_owned(), 400, "protocol"),
            ("{\"client_id\":\"x\"".to_owned(), 400, "protocol"),
            (
                json!({ "client_id": "me", "mutation": 1, "writes": [] }).to_string(),
                400,
                "protocol",
            ),
            (
                json!({ "client_id": id, "mutation": -1, "writes": [] }).to_string(),
                400,
                "protocol",
            ),
            (
                json!({ "client_id": id, "mutation": 1 }).to_string(),
                400,
                "protocol",
            ),
            (
                json!({ "client_id": id, "mutation": 1, "writes": [{}] }).to_string(),
                400,
                "protocol",
            ),
            (large, 413, "too_large"),
        ] {
            let response = client
                .post(&url)
                .body(body.clone())
                .send()
                .await
                .expect("an answer");
            assert_eq!(response.status().as_u16(), status, "{body}");
            let answer: Value = response.json().await.expect("JSON");
            assert_eq!(answer["code"], code, "{body}");
        }
        let response = client
            .post(&url)
            .body(vec![0xff; 100])
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status().as_u16(), 400);
        assert_eq!(count(&db, "notes").await, 0);
        let good = push(id, 1, &json!([note(1, "x")]));
        assert_eq!(server.http().post(PATH, &good).await.status, 200);
    }

    async fn unknown_names_are_not_found(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let http = server.http();
        for name in [
            "tasks",
            "Notes",
            "pg_class",
            "_rhtmx_sync_log",
            "notes%22%3B%20DROP%20TABLE%20notes",
            "%00",
        ] {
            let reply = http.get(&format!("/api/sync/{name}")).await;
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (404, &json!("unknown_entity")),
                "{name}"
            );
            let body = push(Uuid::new_v4(), 1, &json!([note(1, "x")]));
            let reply = http.post(&format!("/api/sync/{name}"), &body).await;
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (404, &json!("unknown_entity")),
                "{name}"
            );
        }
        for query in [
            "where=nothing%3D1",
            "where=",
            "params=%5B1%5D",
            "params=1",
            "columns=nothing",
        ] {
            let reply = http.get(&format!("{PATH}?{query}")).await;
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (400, &json!("bad_filter")),
                "{query}"
            );
        }
        assert_eq!(count(&db, "notes").await, 0);
    }

    async fn pages_of_other_origins_are_forbidden(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config
            .auth
            .allowed_origins
            .push("https://app.example".to_owned());
        let server = TestServer::with_config(config).await;
        let client = reqwest::Client::new();
        let own = server.base_url();
        let body = push(Uuid::new_v4(), 1, &json!([note(1, "x")])).to_string();
        for (origin, status) in [
            ("https://evil.example", 403),
            ("null", 403),
            ("https://app.example", 200),
            (own.as_str(), 200),
        ] {
            let requests = [
                client.get(server.http().url(PATH)),
                client.post(server.http().url(PATH)).body(body.clone()),
            ];
            for request in requests {
                let response = request
                    .header("Origin", origin)
                    .send()
                    .await
                    .expect("an answer");
                assert_eq!(response.status().as_u16(), status, "{origin}");
                let answer: Value = response.json().await.expect("JSON");
                assert_eq!(answer["code"] == "forbidden", status == 403);
            }
        }
    }

    async fn status_shows_entities_shapes_and_sessions(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut clients = Vec::new();
        for entities in [["notes", "notes"], ["notes", "tasks"]] {
            let mut client = server.connect().await;
            for (id, entity) in entities.into_iter().enumerate() {
                client.subscribe(id as u64, entity).await;
                client.wait_subscribed(id as u64).await;
            }
            clients.push(client);
        }
        let reply = server.http().get("/api/sync/status").await;
        assert_eq!(reply.status, 200);
        let status = reply.json();
        let (database, wake_up) = match db.backend() {
            Backend::Postgres => ("postgresql", "notify"),
            Backend::Sqlite => ("sqlite", "data_version"),
        };
        assert_eq!(
            (&status["database"], &status["wake_up"]),
            (&json!(database), &json!(wake_up))
        );
        assert_eq!(
            (&status["role"], &status["sessions"]),
            (&json!("leader"), &json!(2))
        );
        assert_eq!(
            (&status["entities"], &status["entities_missing"]),
            (&json!(["notes", "tasks"]), &json!([]))
        );
        let shapes = status["shapes"].as_array().expect("a list").iter();
        let shapes: Vec<_> = shapes
            .map(|shape| (&shape["entity"], &shape["sessions"]))
            .collect();
        assert_eq!(
            shapes,
            [(&json!("notes"), &json!(2)), (&json!("tasks"), &json!(1))]
        );
        assert!(
            status["version"].is_string() && status["log"]["bytes"].is_u64(),
            "{status}"
        );
        assert!(
            status["cursor"].is_string() && status["log"]["floor"].is_string(),
            "{status}"
        );
        let text = reply.text.to_lowercase();
        assert!(
            !text.contains("://") && !text.contains("password"),
            "{text}"
        );
    }
}
