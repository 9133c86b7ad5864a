//! A client id belongs to the user who first pushed with it, on every way in, and nobody else learns anything of it.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, ConnectError, SyncClient, TestDatabase, both_backends};
use uuid::Uuid;

use crate::claims::{self, token};
use crate::tables::count;
use crate::writes::note;

fn user(name: &str) -> Value {
    json!({ "sub": name, "teams": ["red"] })
}

async fn server(db: &TestDatabase) -> TestServer {
    claims::tables(db).await;
    TestServer::with_config(claims::config(db).await).await
}

/// Options of a client with this id: of a user, or of nobody.
fn options(client_id: Uuid, name: Option<&str>) -> ClientOptions {
    ClientOptions {
        client_id,
        client_id_shared: true,
        token: name.map(|name| token(&user(name))),
        ..ClientOptions::default()
    }
}

async fn connect(server: &TestServer, client_id: Uuid, name: Option<&str>) -> SyncClient {
    SyncClient::connect(&server.ws_url(), options(client_id, name)).await
}

/// The whole error frame and the close code that this client receives instead of `welcome`.
async fn refused(server: &TestServer, client_id: Uuid, name: Option<&str>) -> (Value, u16) {
    match SyncClient::try_connect(&server.ws_url(), options(client_id, name)).await {
        Err(ConnectError::Closed { closed, error }) => {
            (error.expect("an error frame"), closed.code)
        }
        other => panic!("{other:?}"),
    }
}

/// Posts a mutation of a note; returns the status and the answer.
async fn post(
    server: &TestServer,
    client_id: Uuid,
    name: Option<&str>,
    mutation: u64,
) -> (u16, Value) {
    let http = match name {
        Some(name) => server.http().with_token(token(&user(name))),
        None => server.http(),
    };
    let writes = json!([note(mutation, "x")]);
    let body = json!({ "client_id": client_id, "mutation": mutation, "writes": writes });
    let reply = http.post("/api/sync/notes", &body).await;
    (reply.status, reply.json())
}

both_backends! {
    async fn a_client_id_belongs_to_the_user_who_first_pushed_with_it(db: TestDatabase) {
        let server = server(&db).await;
        let id = Uuid::new_v4();
        connect(&server, id, Some("ann")).await.push_next(json!([note(1, "x")])).await.acked();
        for other in [Some("ben"), None] {
            let (error, code) = refused(&server, id, other).await;
            assert_eq!((&error["code"], code), (&json!("forbidden"), 4403));
            for mutation in [1, 2, 3, 9] {
                let (status, answer) = post(&server, id, other, mutation).await;
                assert_eq!((status, &answer["code"]), (403, &json!("forbidden")));
                // The same whatever the number: nothing of the client is told.
                assert_eq!(answer["message"], error["message"]);
            }
        }
        assert_eq!(connect(&server, id, Some("ann")).await.welcome()["last_mutation"], 1);
        assert_eq!(post(&server, id, Some("ann"), 2).await.0, 200);
        assert_eq!(count(&db, "notes").await, 2);
        server.shutdown().await;

        let server = TestServer::with_config(claims::config(&db).await).await;
        assert_eq!(refused(&server, id, Some("ben")).await.1, 4403);
        assert_eq!(post(&server, id, Some("ben"), 3).await.0, 403);
        assert_eq!(connect(&server, id, Some("ann")).await.welcome()["last_mutation"], 2);
    }

    async fn a_client_id_of_nobody_becomes_that_of_the_first_user(db: TestDatabase) {
        let server = server(&db).await;
        let id = Uuid::new_v4();
        let mut nobody = connect(&server, id, None).await;
        nobody.push_next(json!([note(1, "x")])).await.acked();
        assert_eq!(post(&server, id, None, 2).await.0, 200);
        // Its user signs in and goes on.
        let mut ann = connect(&server, id, Some("ann")).await;
        assert_eq!(ann.welcome()["last_mutation"], 2);
        ann.push(3, json!([note(3, "x")])).await.acked();
        assert_eq!(refused(&server, id, Some("ben")).await.1, 4403);
        nobody.send_push(4, json!([note(4, "x")])).await;
        assert_eq!(nobody.close_code().await, 4403);
        assert_eq!(count(&db, "notes").await, 3);
    }

    async fn of_two_users_with_one_new_client_id_one_owns_it(db: TestDatabase) {
        let server = server(&db).await;
        for round in 0..10 {
            let id = Uuid::new_v4();
            let mut ann = connect(&server, id, Some("ann")).await;
            let mut ben = connect(&server, id, Some("ben")).await;
            for client in [&ann, &ben] {
                assert_eq!(client.welcome()["last_mutation"], 0);
            }
            ann.send_push(1, json!([note(100 + round, "ann")])).await;
            ben.send_push(1, json!([note(200 + round, "ben")])).await;
            let won = async |client: &mut SyncClient| {
                client.wait_until(|client| client.outcome(1).is_some() || client.errors().last().is_some()).await;
                client.outcome(1).is_some()
            };
            let (ann_won, ben_won) = (won(&mut ann).await, won(&mut ben).await);
            assert!(ann_won != ben_won, "{ann_won} {ben_won}");
            let (owner, mut other) = if ann_won { ("ann", ben) } else { ("ben", ann) };
            assert_eq!(other.errors().last().expect("an error")["code"], "forbidden");
            assert_eq!(other.close_code().await, 4403);
            let stored = db.query_text(&format!("SELECT user_id FROM _rhtmx_sync_client WHERE client_id = '{id}'")).await;
            assert_eq!(stored, [Some(owner.to_owned())]);
        }
        assert_eq!(count(&db, "notes").await, 10);
    }

    async fn a_rejected_mutation_makes_its_user_the_owner_too(db: TestDatabase) {
        let server = server(&db).await;
        let id = Uuid::new_v4();
        let mut ann = connect(&server, id, Some("ann';--")).await;
        let absent = json!([{ "entity": "notes", "op": "delete", "key": "9" }]);
        assert_eq!(ann.push(1, absent).await.rejected().code, "not_found");
        assert_eq!(refused(&server, id, Some("ben")).await.1, 4403);
        assert_eq!(post(&server, id, Some("ann';--"), 2).await.0, 200);
    }
}
