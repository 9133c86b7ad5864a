//! Policies, end to end: who gets which rows and columns, who may write what, and what nobody finds out.

mod checking;
mod closed;
mod columns;
mod costs;
mod internal;
mod privacy;
mod reading;
mod resuming;
mod subqueries;
mod writing;

use std::sync::Arc;

use rhtmx_sync::{ColumnPolicy, EntityPolicy, Policies, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Http, SyncClient, TestDatabase};

use crate::claims::{ClaimsAreTokens, options, token};
use crate::tables::{NOTES, rows};

/// Todos of Ann and Ben, one of each private and one public.
const TODOS: &str = "CREATE TABLE todos (id integer PRIMARY KEY, owner_id text NOT NULL, visibility text NOT NULL \
    DEFAULT 'private', locked boolean NOT NULL DEFAULT false, title text NOT NULL DEFAULT '', code text UNIQUE, secret_note text)";
const ROWS: &str = "INSERT INTO todos (id, owner_id, visibility, title, code, secret_note) VALUES \
    (1, 'ann', 'private', 'ann one', 'a1', 'secret of ann'), (2, 'ann', 'public', 'ann two', NULL, 'secret of ann'), \
    (3, 'ben', 'private', 'ben one', 'b1', 'secret of ben'), (4, 'ben', 'public', 'ben two', NULL, 'secret of ben')";

/// The policies of the documentation's first page.
fn of_todos() -> EntityPolicy {
    let own = "owner_id = auth.sub";
    EntityPolicy {
        read: Some(
            "owner_id = auth.sub OR visibility = 'public' OR auth.role = 'admin'".to_owned(),
        ),
        create: Some(own.to_owned()),
        update: Some(own.into()),
        delete: Some("owner_id = auth.sub AND NOT locked".to_owned()),
        columns: [
            (
                "secret_note",
                ColumnPolicy {
                    readable: Some(own.into()),
                    ..ColumnPolicy::default()
                },
            ),
            (
                "locked",
                ColumnPolicy {
                    writable: Some("auth.role = 'admin'".into()),
                    ..ColumnPolicy::default()
                },
            ),
            (
                "owner_id",
                ColumnPolicy {
                    default: Some("auth.sub".to_owned()),
                    ..ColumnPolicy::default()
                },
            ),
        ]
        .map(|(name, policy)| (name.to_owned(), policy))
        .into(),
    }
}

async fn config(db: &TestDatabase, todos: EntityPolicy) -> SyncConfig {
    let mut config = TestServer::config(db, ["todos", "notes", "diary"]).await;
    let everybody = EntityPolicy {
        read: Some("TRUE".to_owned()),
        ..EntityPolicy::default()
    };
    let policies = [("todos", todos), ("notes", everybody)];
    let policies = policies.map(|(name, policy)| (name.to_owned(), policy));
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config.auth.authorizer = Arc::new(Policies::new(policies).expect("policies"));
    config
}

async fn tables(db: &TestDatabase) {
    for statement in [
        TODOS,
        NOTES,
        "CREATE TABLE diary (id integer PRIMARY KEY, body text NOT NULL)",
        ROWS,
        "INSERT INTO notes VALUES (1, 'for all')",
        "INSERT INTO diary VALUES (1, 'nobody may read this')",
    ] {
        db.execute(statement).await;
    }
}

async fn serve(db: &TestDatabase) -> TestServer {
    tables(db).await;
    TestServer::with_config(config(db, of_todos()).await).await
}

fn user(name: &str) -> Value {
    json!({ "sub": name })
}

async fn sign_in(server: &TestServer, claims: &Value) -> SyncClient {
    SyncClient::connect(&server.ws_url(), options(claims)).await
}

/// A client that is subscribed to all todos that it may see.
async fn subscriber(server: &TestServer, claims: &Value) -> SyncClient {
    let mut client = sign_in(server, claims).await;
    client.subscribe("t", "todos").await;
    client.wait_subscribed("t").await;
    client
}

fn http(server: &TestServer, claims: &Value) -> Http {
    server.http().with_token(token(claims))
}

fn keys(client: &SyncClient) -> Vec<&str> {
    client.rows("t").keys().map(String::as_str).collect()
}

async fn titles(db: &TestDatabase) -> Vec<Value> {
    let rows = rows(db, "todos", &["id", "owner_id", "title"]).await;
    rows.into_values().collect()
}
