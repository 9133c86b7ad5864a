//! The guide to Supabase, run as it is written, on a database with what its statements name.

use std::fs;

use rhtmx_sync_tests::{Pooler, sign_with_secret};
use serde_json::json;
use testkit::{ClientOptions, ServerProcess, SyncClient, TestDatabase};

const GUIDE: &str = include_str!("../../docs/supabase-integration.md");
const SECRET: &str = "a secret of this test that is long enough";
const ID: &str = "6f1c9d1e-0000-4000-8000-000000000009";

/// The blocks of the guide in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begins = format!("```{language}\n");
    GUIDE
        .split(&begins)
        .skip(1)
        .map(|block| block.split("```").next().expect("a block"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supabase_guide_works_as_it_is_written() {
    let db = TestDatabase::postgres().await;
    // Roles belong to the whole server, so each has a name of its own.
    let role = db.create_role("rhtmx_sync").await;
    let users = db.create_role("authenticated").await;
    db.execute(
        "CREATE SCHEMA auth; CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS \
         $$ SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$",
    )
    .await;
    let [table, engine] = blocks("sql")[..] else {
        panic!("the guide has two blocks of SQL")
    };
    db.execute(&table.replace("to authenticated", &format!("to {}", users.name)))
        .await;
    let created = "create role rhtmx_sync login password 'a long random text';";
    assert!(engine.contains(created));
    let engine = engine
        .replace(created, "")
        .replace("to rhtmx_sync", &format!("to {}", role.name))
        .replace(
            "alter role rhtmx_sync",
            &format!("alter role {}", role.name),
        );
    db.execute(&engine).await;

    let folder = tempfile::tempdir().expect("a folder");
    let [toml] = blocks("toml")[..] else {
        panic!("the guide has one configuration")
    };
    let keys = toml.lines().find(|line| line.starts_with("jwks_url"));
    let toml = toml
        .replace(
            keys.expect("the keys"),
            &format!("jwt_secret = \"{SECRET}\""),
        )
        .replace("0.0.0.0:8080", "127.0.0.1:0");
    fs::write(folder.path().join("rhtmx-sync.toml"), toml).expect("a file");
    let pooler = Pooler::start(
        &role.url,
        &["pool_mode = transaction", "default_pool_size = 5"],
    )
    .await;
    let url = match &pooler {
        Ok(pooler) => pooler.url(),
        Err(why) => {
            println!("NOT TESTED, no pooler: {why}");
            &role.url
        }
    };
    let settings = [
        ("DATABASE_URL", url),
        ("RHTMX_SYNC_DATABASE_LISTEN_URL", role.url.as_str()),
    ];
    let examined = ServerProcess::try_spawn_in(folder.path(), ["doctor"], settings).await;
    let examined = examined.expect_err("the command ends");
    assert_eq!(examined.status.code(), Some(0), "{}", examined.output);

    let serving = ServerProcess::try_spawn_in(folder.path(), ["serve"], settings).await;
    let server = serving.unwrap_or_else(|exited| panic!("{}", exited.output));
    let connect = async |user: &str| {
        let claims = json!({
            "iss": "https://PROJECT.supabase.co/auth/v1", "aud": "authenticated", "sub": user, "role": "authenticated",
            "app_metadata": { "provider": "email" }, "aal": "aal1", "is_anonymous": false,
        });
        let options = ClientOptions {
            token: Some(sign_with_secret(SECRET, claims)),
            ..ClientOptions::default()
        };
        let mut client = SyncClient::connect(&server.ws_url(), options).await;
        client.subscribe("todos", "todos").await;
        client.wait_subscribed("todos").await;
        client
    };
    let (ann, ben) = (
        "6f1c9d1e-0000-4000-8000-000000000001",
        "6f1c9d1e-0000-4000-8000-000000000002",
    );
    let mut at_ann = connect(ann).await;
    let mut at_ben = connect(ben).await;
    let todo = json!([{ "entity": "todos", "op": "create", "values": { "id": ID, "title": "Buy milk", "done": false } }]);
    at_ann.push_next(todo).await.acked();
    at_ann
        .wait_until(|client| {
            client
                .rows("todos")
                .values()
                .any(|row| row["owner_id"] == ann)
        })
        .await;
    // Any program's write arrives, at its owner alone.
    db.execute(&format!(
        "INSERT INTO todos (owner_id, title) VALUES ('{ann}', 'from elsewhere'), ('{ben}', 'of another')"
    ))
    .await;
    at_ann
        .wait_until(|client| client.rows("todos").len() == 2)
        .await;
    at_ben
        .wait_until(|client| client.rows("todos").len() == 1)
        .await;
    let forged =
        json!([{ "entity": "todos", "op": "create", "values": { "title": "x", "owner_id": ann } }]);
    at_ben.push_next(forged).await.rejected();
}
