//! What an authorizer lets a principal see and write, on every way in.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rhtmx_sync::{
    AuthError, Authenticator, Authorizer, Op, Principal, ReadScope, SelectionRequest, SyncConfig,
    WriteScope,
};
use rhtmx_sync_tests::TestServer;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use testkit::{ClientOptions, Http, SyncClient, TestDatabase, both_backends};

use crate::tables::{NOTES, rows};
use crate::writes::{create, delete, note, update, upsert};

const CARDS: &str = "CREATE TABLE cards (id integer PRIMARY KEY, owner text NOT NULL, \
                     body text NOT NULL, secret text NOT NULL DEFAULT 'hidden')";

/// Takes the user's name for a token; `away` is the name for which nobody can say whether it is right.
#[derive(Debug)]
struct NamesAreTokens;

impl Authenticator for NamesAreTokens {
    fn verify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Principal, AuthError>> {
        async move {
            match token {
                None => Err(AuthError::Unauthenticated("sign in".to_owned())),
                Some("away") => Err(AuthError::Unavailable("try again later".to_owned())),
                Some(user) => Ok(Principal::of_user(user)),
            }
        }
        .boxed()
    }
}

/// Everybody sees and writes the cards that are their own, and nobody sees `secret`.
#[derive(Debug)]
struct OwnCards;

fn own(principal: &Principal) -> SelectionRequest {
    let user = principal.user_id.as_deref().unwrap_or_default();
    SelectionRequest {
        filter: Some("owner = $1".to_owned()),
        params: Some(vec![to_raw_value(user).expect("a string is JSON")]),
        columns: None,
    }
}

impl Authorizer for OwnCards {
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope {
        match entity {
            "cards" => ReadScope::Restricted(SelectionRequest {
                columns: Some(vec!["owner".to_owned(), "body".to_owned()]),
                ..own(principal)
            }),
            _ => ReadScope::Everything,
        }
    }

    fn write(&self, principal: &Principal, entity: &str, _op: Op) -> WriteScope {
        match entity {
            "cards" => WriteScope {
                using: Some(own(principal)),
                check: Some(own(principal)),
            },
            _ => WriteScope::everything(),
        }
    }
}

async fn guarded_config(db: &TestDatabase) -> SyncConfig {
    let mut config = TestServer::config(db, ["cards", "notes"]).await;
    config.auth.authenticator = Arc::new(NamesAreTokens);
    config.auth.authorizer = Arc::new(OwnCards);
    config
}

async fn guarded(db: &TestDatabase) -> TestServer {
    for statement in [
        CARDS,
        NOTES,
        "INSERT INTO cards (id, owner, body) VALUES (1, 'ann', 'one'), (2, 'ben', 'two')",
    ] {
        db.execute(statement).await;
    }
    TestServer::with_config(guarded_config(db).await).await
}

async fn sign_in(server: &TestServer, user: &str) -> SyncClient {
    SyncClient::connect(&server.ws_url(), options(Some(user))).await
}

fn options(user: Option<&str>) -> ClientOptions {
    ClientOptions {
        token: user.map(str::to_owned),
        ..ClientOptions::default()
    }
}

fn http(server: &TestServer, user: &str) -> Http {
    server.http().with_token(user)
}

fn card(id: u32, owner: &str, body: &str) -> Value {
    json!({ "id": id, "owner": owner, "body": body })
}

async fn cards(db: &TestDatabase) -> Vec<Value> {
    let rows = rows(db, "cards", &["id", "owner", "body"]).await;
    rows.into_values().collect()
}

#[track_caller]
fn assert_reject(client: &SyncClient, mutation: u64, code: &str, write: u64) {
    let outcome = client.outcome(mutation).expect("an answer").clone();
    let rejection = outcome.rejected().clone();
    assert_eq!(
        (rejection.code.as_str(), rejection.write),
        (code, Some(write))
    );
}

both_backends! {
    async fn a_client_gets_the_rows_and_columns_of_its_scope(db: TestDatabase) {
        let server = guarded(&db).await;
        let mut ann = sign_in(&server, "ann").await;
        assert_eq!(ann.welcome()["user"], "ann");
        ann.subscribe("mine", "cards").await;
        ann.wait_subscribed("mine").await;
        assert_eq!(ann.rows("mine").len(), 1);
        assert_eq!(ann.row("mine", "1"), Some(&card(1, "ann", "one")));

        // Rows come into the scope and leave it, whoever writes them.
        db.execute("UPDATE cards SET owner = 'ann' WHERE id = 2").await;
        ann.wait_until(|ann| ann.row("mine", "2").is_some()).await;
        assert_eq!(ann.row("mine", "2"), Some(&card(2, "ann", "two")));
        db.execute("UPDATE cards SET owner = 'ben' WHERE id = 1").await;
        ann.wait_until(|ann| ann.row("mine", "1").is_none()).await;
        db.execute("INSERT INTO cards (id, owner, body) VALUES (3, 'ben', 'three'), (4, 'ann', 'four')").await;
        ann.wait_until(|ann| ann.row("mine", "4").is_some()).await;
        let keys: Vec<&str> = ann.rows("mine").keys().map(String::as_str).collect();
        assert_eq!(keys, ["2", "4"]);
        assert!(!ann.transcript().contains("hidden"));

        // What has changed while it was away is within the scope as well.
        let state = ann.into_state();
        db.execute("UPDATE cards SET body = body || '!'").await;
        let mut ann = SyncClient::reconnect(&server.ws_url(), options(Some("ann")), &state).await;
        ann.wait_until(|ann| ann.row("mine", "4") == Some(&card(4, "ann", "four!"))).await;
        let keys: Vec<&str> = ann.rows("mine").keys().map(String::as_str).collect();
        assert_eq!(keys, ["2", "4"]);
        assert!(!ann.transcript().contains("hidden"));
    }

    async fn a_filter_narrows_the_scope_and_cannot_name_what_is_hidden(db: TestDatabase) {
        let server = guarded(&db).await;
        let mut ann = sign_in(&server, "ann").await;
        ann.subscribe_with("all", json!({ "entity": "cards", "where": "TRUE OR owner = 'ben'" })).await;
        ann.wait_subscribed("all").await;
        assert_eq!(ann.rows("all").len(), 1);
        for (id, asked) in [
            ("by value", json!({ "entity": "cards", "where": "secret = 'hidden'" })),
            ("by column", json!({ "entity": "cards", "columns": ["secret"] })),
            ("of no table", json!({ "entity": "cards", "where": "nothing = 'hidden'" })),
        ] {
            ann.subscribe_with(id, asked).await;
            ann.wait_refused(id).await;
        }
        // The two answers differ in nothing but the name.
        let messages: Vec<String> = ann
            .errors()
            .iter()
            .map(|error| error["message"].to_string().replace("secret", "nothing"))
            .collect();
        assert_eq!(messages[0], messages[2]);
    }

    async fn http_answers_within_the_scope(db: TestDatabase) {
        let server = guarded(&db).await;
        let page = http(&server, "ben").get("/api/sync/cards").await;
        assert_eq!(page.status, 200, "{}", page.text);
        let page = page.json();
        assert_eq!(page["rows"], json!([{ "key": "2", "row": card(2, "ben", "two") }]));
        let cursor = page["cursor"].as_str().expect("a cursor").to_owned();
        db.execute("UPDATE cards SET body = body || '!'").await;
        let path = format!("/api/sync/cards?cursor={cursor}&wait_ms=20000");
        let changes = http(&server, "ben").get(&path).await;
        assert!(changes.text.contains("two!"), "{}", changes.text);
        assert!(!changes.text.contains("one!") && !changes.text.contains("hidden"));

        for (path, expected) in [
            ("/api/sync/cards?where=secret%3D'hidden'", 400),
            ("/api/sync/events?entity=cards&where=secret%3D'hidden'", 400),
            ("/api/sync/notes", 200),
        ] {
            let answer = http(&server, "ben").get(path).await;
            assert_eq!(answer.status, expected, "{path}: {}", answer.text);
        }
    }

    async fn whoever_is_not_known_is_turned_away_on_every_way_in(db: TestDatabase) {
        let server = guarded(&db).await;
        let push = json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": [note(1, "n")] });
        for (user, code, status, close) in
            [(None, "unauthenticated", 401, 4401), (Some("away"), "unavailable", 503, 1001)]
        {
            let http = match user {
                Some(user) => http(&server, user),
                None => server.http(),
            };
            for answer in [
                http.get("/api/sync/cards").await,
                http.get("/api/sync/events?entity=cards").await,
                http.post("/api/sync/cards", &push).await,
            ] {
                let found = (answer.status, answer.json()["code"].clone());
                assert_eq!(found, (status, json!(code)), "{}", answer.text);
            }
            let refused = SyncClient::try_connect(&server.ws_url(), options(user)).await;
            let error = refused.expect_err("nobody is welcomed").to_string();
            assert!(error.contains(&close.to_string()), "{error}");
        }
        assert!(rows(&db, "notes", &["id"]).await.is_empty());
    }

    async fn writes_outside_the_scope_are_rejected_and_leave_nothing(db: TestDatabase) {
        let server = guarded(&db).await;
        let mut ann = sign_in(&server, "ann").await;
        let before = cards(&db).await;
        let mine = create("cards", card(10, "ann", "mine"));
        for (mutation, (write, code)) in (1..).zip([
            // Another's card does not exist for her.
            (update("cards", 2, json!({ "body": "stolen" })), "not_found"),
            (update("cards", 99, json!({ "body": "stolen" })), "not_found"),
            (delete("cards", 2), "not_found"),
            (upsert("cards", card(2, "ann", "stolen")), "forbidden"),
            // And she cannot give one away, or make one for somebody else.
            (update("cards", 1, json!({ "owner": "ben" })), "forbidden"),
            (upsert("cards", card(1, "ben", "given")), "forbidden"),
            (create("cards", card(11, "ben", "made")), "forbidden"),
        ]) {
            ann.push(mutation, json!([mine, write])).await;
            assert_reject(&ann, mutation, code, 1);
            assert_eq!(cards(&db).await, before, "{write}");
        }
        // The way by HTTP is the same.
        let client = uuid::Uuid::new_v4();
        let push = json!({ "client_id": client, "mutation": 1, "writes": [delete("cards", 2)] });
        let answer = http(&server, "ann").post("/api/sync/cards", &push).await;
        assert_eq!(answer.json()["code"], "not_found", "{}", answer.text);
        assert_eq!(cards(&db).await, before);
    }

    async fn writes_within_the_scope_are_applied(db: TestDatabase) {
        let server = guarded(&db).await;
        let mut ann = sign_in(&server, "ann").await;
        for writes in [
            json!([create("cards", card(10, "ann", "new"))]),
            json!([update("cards", 1, json!({ "body": "changed" }))]),
            json!([upsert("cards", card(11, "ann", "up")), upsert("cards", card(11, "ann", "up again"))]),
            json!([delete("cards", 10), note(1, "another entity is not hers alone")]),
        ] {
            ann.push_next(writes).await.acked();
        }
        let expected = [card(1, "ann", "changed"), card(11, "ann", "up again"), card(2, "ben", "two")];
        assert_eq!(cards(&db).await, expected);
    }

    async fn a_connection_keeps_its_user(db: TestDatabase) {
        let server = guarded(&db).await;
        let mut ann = sign_in(&server, "ann").await;
        ann.send_json(json!({ "type": "auth", "token": "ann" })).await;
        let answer = ann.wait_for(|frame| frame["type"] == "authenticated").await;
        assert_eq!(answer["user"], "ann");
        ann.send_json(json!({ "type": "auth", "token": "ben" })).await;
        assert_eq!(ann.wait_error().await, "forbidden");
    }
}
