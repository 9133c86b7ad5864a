//! A client's number stands for one mutation: a store that was rolled back or copied finds out.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::{ClientOptions, SyncClient, TestDatabase, both_backends};
use uuid::Uuid;

use crate::tables::{NOTES, count};
use crate::writes::{note, update};

/// How many of a client's last numbers the server compares.
const KEPT: u64 = 64;

const NOBODY: [u8; 16] = [0; 16];

async fn server_of(db: &TestDatabase) -> TestServer {
    db.execute(NOTES).await;
    TestServer::start(db, ["notes"]).await
}

/// A connection of one of several programs that use this id.
async fn connect_as(server: &TestServer, client_id: Uuid) -> SyncClient {
    let options = ClientOptions {
        client_id,
        client_id_shared: true,
        ..ClientOptions::default()
    };
    SyncClient::connect(&server.ws_url(), options).await
}

/// The chain after these writes, by the documentation.
fn chain(before: [u8; 16], writes: &Value) -> [u8; 16] {
    let writes = Sha256::digest(writes.to_string());
    let hash = Sha256::new()
        .chain_update(before)
        .chain_update(writes)
        .finalize();
    hash[..16].try_into().expect("16 bytes")
}

fn hex(chain: [u8; 16]) -> String {
    chain.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn code(client: &mut SyncClient, mutation: u64, writes: Value) -> String {
    client.push(mutation, writes).await.rejected().code.clone()
}

/// Posts a mutation; returns the status, and the frame's type or the reject's code.
async fn post(server: &TestServer, body: Value) -> (u16, String) {
    let reply = server.http().post("/api/sync/notes", &body).await;
    let frame = reply.json();
    let word = frame["code"].as_str().or(frame["type"].as_str());
    (reply.status, word.unwrap_or_default().to_owned())
}

both_backends! {
    async fn a_used_number_with_other_writes_is_never_acked(db: TestDatabase) {
        let server = server_of(&db).await;
        let id = Uuid::new_v4();
        let mut first = connect_as(&server, id).await;
        for number in 1..=3 {
            first.push(number, json!([note(number, "first")])).await.acked();
        }
        let mut second = connect_as(&server, id).await;
        for number in 1..=3 {
            let others = json!([note(number + 10, "second")]);
            assert_eq!(code(&mut second, number, others).await, "forked", "{number}");
            second.push(number, json!([note(number, "first")])).await.acked();
        }
        // The same over HTTP, and with a number that another program used meanwhile.
        let body = |writes: Value| json!({ "client_id": id, "mutation": 4, "writes": writes });
        assert_eq!(post(&server, body(json!([note(4, "posted")]))).await, (200, "ack".to_owned()));
        assert_eq!(post(&server, body(json!([note(4, "other")]))).await, (409, "forked".to_owned()));
        assert_eq!(code(&mut first, 4, json!([note(5, "first")])).await, "forked");
        assert_eq!(post(&server, body(json!([note(4, "posted")]))).await, (200, "ack".to_owned()));
        first.push(5, json!([note(5, "first")])).await.acked();
        assert_eq!(count(&db, "notes").await, 5);
    }

    async fn a_rejected_number_is_compared_too(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = connect_as(&server, Uuid::new_v4()).await;
        let absent = |body: &str| json!([update("notes", 9, json!({ "body": body }))]);
        assert_eq!(code(&mut client, 1, absent("a")).await, "not_found");
        assert_eq!(code(&mut client, 1, absent("b")).await, "forked");
        assert_eq!(code(&mut client, 1, absent("a")).await, "not_found");
        client.push(2, json!([note(1, "next")])).await.acked();
    }

    async fn a_chain_that_does_not_continue_is_forked(db: TestDatabase) {
        let server = server_of(&db).await;
        let id = Uuid::new_v4();
        let body = |mutation: u64, chain: [u8; 16], writes: &Value| {
            json!({ "client_id": id, "mutation": mutation, "chain": hex(chain), "writes": writes })
        };
        let writes: Vec<Value> = (1..=3).map(|id| json!([note(id, "é 😀")])).collect();
        let first = chain(NOBODY, &writes[0]);
        let forked = (409, "forked".to_owned());
        assert_eq!(post(&server, body(1, first, &writes[1])).await, forked);
        assert_eq!(post(&server, body(1, first, &writes[0])).await, (200, "ack".to_owned()));
        // Its own first mutation was another one.
        let elsewhere = chain(chain(NOBODY, &writes[2]), &writes[1]);
        assert_eq!(post(&server, body(2, elsewhere, &writes[1])).await, forked);
        let second = chain(first, &writes[1]);
        assert_eq!(post(&server, body(2, second, &writes[1])).await, (200, "ack".to_owned()));
        assert_eq!(post(&server, body(2, elsewhere, &writes[1])).await, forked);
        assert_eq!(count(&db, "notes").await, 2);

        let client = connect_as(&server, id).await;
        assert_eq!(client.welcome()["last_mutation"], 2);
        assert_eq!(client.welcome()["last_chain"], hex(second));
        let nobody = connect_as(&server, Uuid::new_v4()).await;
        assert_eq!(nobody.welcome().get("last_chain"), None);
    }

    async fn numbers_older_than_the_kept_chains_are_forgotten(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = connect_as(&server, Uuid::new_v4()).await;
        for number in 1..=KEPT + 1 {
            client.push(number, json!([note(number, "x")])).await.acked();
        }
        assert_eq!(code(&mut client, 1, json!([note(1, "x")])).await, "forgotten");
        client.push(3, json!([note(3, "x")])).await.acked();
        assert_eq!(code(&mut client, 3, json!([note(99, "x")])).await, "forked");
        assert_eq!(count(&db, "notes").await, KEPT + 1);
    }

    /// A number out of order leaves nothing behind.
    async fn an_unknown_client_is_kept_once_it_is_answered(db: TestDatabase) {
        let server = server_of(&db).await;
        let mut client = connect_as(&server, Uuid::new_v4()).await;
        assert_eq!(code(&mut client, 5, json!([note(1, "x")])).await, "out_of_order");
        assert_eq!(count(&db, "_rhtmx_sync_client").await, 0);
        client.push(1, json!([note(1, "x")])).await.acked();
        assert_eq!(count(&db, "_rhtmx_sync_client").await, 1);
    }
}
