//! Row level security over real sockets: what clients hold is what PostgreSQL shows their roles.

mod claims;
mod failures;
mod guards;
mod many;
mod reading;
mod resuming;
mod times;
mod under_attack;
mod watching;
mod writing;

use std::collections::BTreeSet;
use std::sync::Arc;

use rhtmx_sync::{EntityConfig, SyncConfig};
use rhtmx_sync_tests::TestServer;
use rhtmx_sync_tests::claims::{ClaimsAreTokens, options};
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase};

use crate::corpus;

const ANN: &str = "a11ce000-0000-4000-8000-000000000001";
const BEN: &str = "b0b00000-0000-4000-8000-000000000002";

/// Todos of lists with members, as Supabase's examples have them. Ann is a member of the first list, Ben of the second.
const TABLES: &str = "
CREATE TABLE members (list_id integer, user_id uuid, PRIMARY KEY (list_id, user_id));
CREATE TABLE todos (id integer PRIMARY KEY, list_id integer, owner uuid, title text NOT NULL DEFAULT '',
    visibility text NOT NULL DEFAULT 'private');
CREATE TABLE fences (id integer PRIMARY KEY);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (user_id = auth.uid());
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todos USING (owner = auth.uid());
CREATE POLICY public ON todos FOR SELECT USING (visibility = 'public');
CREATE POLICY members ON todos FOR SELECT TO authenticated
    USING (EXISTS (SELECT 1 FROM members m WHERE m.list_id = todos.list_id AND m.user_id = auth.uid()));
CREATE POLICY mfa ON todos AS RESTRICTIVE USING (auth.jwt() ->> 'aal' IS DISTINCT FROM 'aal0');
ALTER TABLE fences ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON fences USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON todos, members, fences TO anon, authenticated;
INSERT INTO members VALUES (1, 'a11ce000-0000-4000-8000-000000000001'), (2, 'b0b00000-0000-4000-8000-000000000002');
INSERT INTO todos (id, list_id, owner, visibility) VALUES (1, 1, NULL, 'private'), (2, 1, NULL, 'private'),
    (3, 2, NULL, 'private'), (4, NULL, 'a11ce000-0000-4000-8000-000000000001', 'private'), (5, NULL, NULL, 'public');";

struct Live {
    db: TestDatabase,
    server: TestServer,
    fences: i32,
}

async fn database() -> TestDatabase {
    let db = TestDatabase::postgres().await;
    let (prelude, _) = corpus::cases();
    corpus::load_prelude(&db, &prelude).await;
    db.execute(TABLES).await;
    db
}

/// Todos, with members that are never served.
async fn config(db: &TestDatabase) -> SyncConfig {
    let entities = [
        EntityConfig::new("todos").rls(),
        EntityConfig::new("fences").rls(),
        EntityConfig::new("members").internal(),
    ];
    let mut config = TestServer::config(db, entities).await;
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config
}

impl Live {
    async fn start() -> Self {
        Self::with("").await
    }

    /// After more statements.
    async fn with(sql: &str) -> Self {
        let db = database().await;
        db.execute(sql).await;
        let config = config(&db).await;
        Self::of(db, config).await
    }

    async fn of(db: TestDatabase, config: SyncConfig) -> Self {
        let server = TestServer::with_config(config).await;
        Self {
            db,
            server,
            fences: 0,
        }
    }

    async fn connect(&self, claims: &Value) -> SyncClient {
        SyncClient::connect(&self.server.ws_url(), options(claims)).await
    }

    /// A client that is subscribed to the todos as `t`, and to the fences.
    async fn subscriber(&self, claims: &Value) -> SyncClient {
        let mut client = self.connect(claims).await;
        for (id, entity) in [("t", "todos"), ("f", "fences")] {
            client.subscribe(id, entity).await;
            client.wait_subscribed(id).await;
        }
        client
    }

    /// Brings a client to a position after everything that has been written. A subscription that begins again may do so
    /// before the fence, and its changes up to there follow: then there is another fence.
    async fn fence(&mut self, client: &mut SyncClient) {
        let is_live =
            |client: &SyncClient| client.subscriptions().values().all(|one| one.is_live());
        loop {
            let (was_live, refetches) = (is_live(client), client.frames("refetch"));
            self.fences += 1;
            let fence = self.fences.to_string();
            let insert = format!("INSERT INTO fences VALUES ({fence})");
            self.db.execute(&insert).await;
            client
                .wait_until(|client| client.row("f", &fence).is_some() && is_live(client))
                .await;
            if was_live && client.frames("refetch") == refetches {
                return;
            }
        }
    }
}

fn user(id: &str) -> Value {
    json!({ "sub": id, "role": "authenticated" })
}

fn keys(client: &SyncClient) -> BTreeSet<&str> {
    client.rows("t").keys().map(String::as_str).collect()
}

fn these<'a>(keys: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    keys.into_iter().collect()
}

async fn wait_keys(client: &mut SyncClient, expected: &[&str]) {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    client.wait_until(|client| keys(client) == expected).await;
}
