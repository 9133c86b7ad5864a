//! The server binary: what it serves, its settings, and how it ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rhtmx_sync_tests::sign_with_secret;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    Backend, ClientOptions, Exited, Http, ServerProcess, SyncClient, TestDatabase, both_backends,
    eventually,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::engines::{exists, status};
use crate::writers::{NOTES, TASKS, insert, write_last};

const ANY_PORT: [&str; 2] = ["--bind", "127.0.0.1:0"];
/// How the demo's page knows that it may sign people in.
const LOGIN: &str = "data-login=\"/demo/login/\"";
const NO_SETTINGS: [(&str, &str); 0] = [];

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(ANY_PORT).collect()
}

async fn subscriber(server: &ServerProcess, entity: &str) -> SyncClient {
    let mut client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
    client.subscribe(entity, entity).await;
    client.wait_subscribed(entity).await;
    client
}

/// Runs a command of the binary that ends by itself.
async fn command(args: &[&str], url: &str) -> Exited {
    let ended = ServerProcess::try_spawn(args, [("DATABASE_URL", url)]).await;
    ended.expect_err("the command ends")
}

async fn succeeds(args: &[&str], url: &str) -> String {
    let exited = command(args, url).await;
    assert!(exited.status.success(), "{args:?}: {}", exited.output);
    exited.output
}

/// Without settings it serves a demo in the current folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_settings_serves_a_demo() {
    let folder = TempDir::new().expect("a folder");
    let serve = async || {
        ServerProcess::try_spawn_in(folder.path(), ANY_PORT, NO_SETTINGS)
            .await
            .unwrap_or_else(|exited| panic!("{}", exited.output))
    };
    let server = serve().await;
    let page = Http::new(server.base_url()).get("/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .expect("a type")
            .starts_with("text/html")
    );
    assert!(page.text.to_lowercase().contains("<html"), "{}", page.text);

    let mut one = subscriber(&server, "todos").await;
    let mut two = subscriber(&server, "todos").await;
    let before = one.rows("todos").len();
    let todo = json!({ "id": "mine", "title": "write", "done": false });
    one.push_next(json!([{ "entity": "todos", "op": "create", "values": todo }]))
        .await
        .acked();
    two.wait_until(|client| client.rows("todos").len() == before + 1)
        .await;
    assert_eq!(
        two.row("todos", "mine").expect("the row exists")["title"],
        "write"
    );
    server.kill();

    // The file still exists.
    let server = serve().await;
    let again = subscriber(&server, "todos").await;
    assert_eq!(again.rows("todos"), two.rows("todos"));
}

/// The demo signs in Ann and Ben, who have private lists, and share them by membership: they disappear with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_has_users_with_private_and_shared_lists() {
    let folder = TempDir::new().expect("a folder");
    // The file of a demo that had no users yet.
    let old = "CREATE TABLE lists (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, position REAL NOT NULL DEFAULT 0);
        CREATE TABLE todos (id TEXT PRIMARY KEY NOT NULL, list_id TEXT NOT NULL DEFAULT 'inbox' REFERENCES lists (id), title TEXT NOT NULL);
        INSERT INTO lists (id, name) VALUES ('inbox', 'Inbox'), ('old', 'Old')";
    let file = folder.path().join("rhtmx-sync-lists.db");
    let db = TestDatabase::sqlite().await;
    for statement in old.split(';') {
        db.execute(statement).await;
    }
    db.execute(&format!("VACUUM INTO '{}'", file.display()))
        .await;
    let server = ServerProcess::try_spawn_in(folder.path(), ANY_PORT, NO_SETTINGS)
        .await
        .unwrap_or_else(|exited| panic!("{}", exited.output));
    let http = Http::new(server.base_url());
    assert!(http.get("/").await.text.contains(LOGIN));
    assert_eq!(http.post("/demo/login/eve", &json!({})).await.status, 404);

    let sign_in = async |name: &str| {
        let token = http
            .post(&format!("/demo/login/{name}"), &json!({}))
            .await
            .text;
        assert!(!server.output().contains(&token));
        let options = ClientOptions {
            token: Some(token),
            ..ClientOptions::default()
        };
        let mut client = SyncClient::connect(&server.ws_url(), options).await;
        assert_eq!(client.welcome()["user"], name);
        for entity in ["lists", "todos", "list_members"] {
            client.subscribe(entity, entity).await;
            client.wait_subscribed(entity).await;
        }
        client
    };
    let (mut ann, mut ben) = (sign_in("ann").await, sign_in("ben").await);
    let wrong = ClientOptions {
        token: Some("wrong".to_owned()),
        ..ClientOptions::default()
    };
    assert!(
        SyncClient::try_connect(&server.ws_url(), wrong)
            .await
            .is_err()
    );
    assert!(ben.row("lists", "old").is_some());

    let write = |op: &str, entity: &str, rest: Value| {
        let mut write = json!({ "op": op, "entity": entity });
        write
            .as_object_mut()
            .expect("an object")
            .extend(rest.as_object().expect("an object").clone());
        write
    };
    ann.push_next(json!([
        write(
            "create",
            "lists",
            json!({ "values": { "id": "secret", "name": "Secret" } })
        ),
        write(
            "create",
            "todos",
            json!({ "values": { "id": "1", "list_id": "secret", "title": "hush" } })
        ),
    ]))
    .await
    .acked();
    ann.wait_until(|ann| ann.row("todos", "1").is_some()).await;
    // Ben neither writes into it nor finds it.
    for (write, code) in [
        (
            write(
                "create",
                "todos",
                json!({ "values": { "id": "2", "list_id": "secret", "title": "hello" } }),
            ),
            "forbidden",
        ),
        (
            write(
                "update",
                "todos",
                json!({ "key": "1", "values": { "list_id": "inbox" } }),
            ),
            "not_found",
        ),
        (
            write(
                "create",
                "list_members",
                json!({ "values": { "list_id": "secret", "person": "ben" } }),
            ),
            "forbidden",
        ),
    ] {
        assert_eq!(
            ben.push_next(json!([write])).await.rejected().code,
            code,
            "{write}"
        );
    }
    let share = write(
        "create",
        "list_members",
        json!({ "values": { "list_id": "secret", "person": "ben" } }),
    );
    let unshare = write(
        "delete",
        "list_members",
        json!({ "key": ["secret", "ben"] }),
    );
    ann.push_next(json!([share])).await.acked();
    ben.wait_until(|ben| ben.row("lists", "secret").is_some())
        .await;
    assert!(ben.row("todos", "1").is_some(), "at the same cursor");
    let refused = ben.push_next(json!([unshare])).await;
    assert_eq!(refused.rejected().code, "forbidden");
    ben.push_next(json!([write(
        "create",
        "todos",
        json!({ "values": { "id": "2", "list_id": "secret", "title": "hello" } })
    )]))
    .await
    .acked();
    ann.push_next(json!([unshare])).await.acked();
    ben.wait_until(|ben| ben.row("lists", "secret").is_none())
        .await;
    assert_eq!(ben.rows("todos").len(), 1, "the first one");
    assert_eq!(ann.rows("todos").len(), 3, "the first one, hers and his");
}

/// An earlier demo had a column for sharing, and copies of it beside each todo.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lists_of_an_earlier_demo_stay_shared_and_private() {
    let folder = TempDir::new().expect("a folder");
    let db = TestDatabase::sqlite().await;
    for statement in [
        "CREATE TABLE lists (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, position REAL NOT NULL DEFAULT 0,
            owner TEXT, shared BOOLEAN NOT NULL DEFAULT 1)",
        "CREATE TABLE todos (id TEXT PRIMARY KEY NOT NULL, list_id TEXT NOT NULL REFERENCES lists (id), title TEXT NOT NULL,
            owner TEXT, shared BOOLEAN NOT NULL DEFAULT 1)",
        "CREATE TRIGGER lists_shared AFTER UPDATE OF owner, shared ON lists BEGIN
            UPDATE todos SET owner = new.owner, shared = new.shared WHERE list_id = new.id; END",
        "INSERT INTO lists (id, name, owner, shared) VALUES
            ('inbox', 'Inbox', NULL, 1), ('ours', 'Ours', 'ann', 1), ('hers', 'Hers', 'ann', 0)",
        "INSERT INTO todos (id, list_id, title, owner, shared) VALUES ('1', 'ours', 'one', 'ann', 1), ('2', 'hers', 'two', 'ann', 0)",
    ] {
        db.execute(statement).await;
    }
    let file = folder.path().join("rhtmx-sync-lists.db");
    db.execute(&format!("VACUUM INTO '{}'", file.display()))
        .await;
    for _ in 0..2 {
        let server = ServerProcess::try_spawn_in(folder.path(), ANY_PORT, NO_SETTINGS)
            .await
            .unwrap_or_else(|exited| panic!("{}", exited.output));
        let http = Http::new(server.base_url());
        for (name, lists, todos) in [("ann", 3, 2), ("ben", 2, 1)] {
            let login = format!("/demo/login/{name}");
            let token = http.post(&login, &json!({})).await.text;
            let options = ClientOptions {
                token: Some(token),
                ..ClientOptions::default()
            };
            let mut client = SyncClient::connect(&server.ws_url(), options).await;
            for entity in ["lists", "todos"] {
                client.subscribe(entity, entity).await;
                client.wait_subscribed(entity).await;
            }
            assert_eq!(
                (client.rows("lists").len(), client.rows("todos").len()),
                (lists, todos),
                "{name}"
            );
        }
    }
}

/// Nobody but the demo gives tokens to anybody who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_the_demos_tables_and_a_database_has_no_login() {
    let db = TestDatabase::sqlite().await;
    for name in ["lists", "todos", "viewers"] {
        db.execute(&format!("CREATE TABLE {name} (id integer PRIMARY KEY)"))
            .await;
    }
    let args = [
        "--bind",
        "127.0.0.1:0",
        "--entity",
        "lists",
        "--entity",
        "todos",
        "--entity",
        "viewers",
    ];
    // The page subscribes to todos that merge by their fields; where they do not, it is not there.
    for (fields, status) in [("", 404), ("last_write_wins", 200)] {
        let settings = [
            ("DATABASE_URL", db.url()),
            ("RHTMX_SYNC_SYNC_FIELDS", fields.to_owned()),
        ];
        let server = ServerProcess::spawn(args, settings).await;
        let http = Http::new(server.base_url());
        let page = http.get("/").await;
        assert_eq!(page.status, status, "{fields}");
        assert!(!page.text.contains(LOGIN));
        assert_eq!(http.post("/demo/login/ann", &json!({})).await.status, 404);
    }
}

/// A folder with a configuration file, and three databases with one table each.
struct Choice {
    folder: TempDir,
    databases: BTreeMap<&'static str, TestDatabase>,
}

impl Choice {
    async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut databases = BTreeMap::new();
        for name in ["of_file", "of_env", "of_flag"] {
            let db = TestDatabase::sqlite().await;
            db.execute(&format!("CREATE TABLE {name} (id integer PRIMARY KEY)"))
                .await;
            databases.insert(name, db);
        }
        let file = format!(
            "bind = '127.0.0.1:0'\n[database]\nurl = '{}'\n[limits]\nwrites_max = 7\n\
             [entities.renamed]\ntable = 'of_file'\n",
            databases["of_file"].url()
        );
        fs::write(folder.path().join("rhtmx-sync.toml"), file).expect("a file");
        Self { folder, databases }
    }

    /// The entities that a server serves, and the most writes of a mutation.
    async fn served(&self, args: &[&str], envs: &[(&str, String)]) -> (Value, Value) {
        let server = ServerProcess::try_spawn_in(self.folder.path(), args, envs.iter().cloned());
        let server = server
            .await
            .unwrap_or_else(|exited| panic!("{}", exited.output));
        let entities = status(&Http::new(server.base_url())).await["entities"].clone();
        let client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
        (entities, client.welcome()["limits"]["writes_max"].clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_win_over_the_environment_which_wins_over_the_file() {
    let choice = Choice::new().await;
    let url = |name: &str| choice.databases[name].url();
    assert_eq!(
        choice.served(&[], &[]).await,
        (json!(["renamed"]), json!(7))
    );

    let env = [
        ("DATABASE_URL", url("of_env")),
        ("RHTMX_SYNC_ENTITY", "of_env".to_owned()),
        ("RHTMX_SYNC_LIMITS_WRITES_MAX", "8".to_owned()),
    ];
    assert_eq!(
        choice.served(&[], &env).await,
        (json!(["of_env"]), json!(8))
    );
    let of_flag = url("of_flag");
    let flags = [
        "--database-url",
        &of_flag,
        "--entity",
        "of_flag",
        "--entity",
        "again=of_flag",
    ];
    assert_eq!(
        choice.served(&flags, &env).await,
        (json!(["of_flag", "again"]), json!(8))
    );

    // A configuration file may also be named, in another place.
    let elsewhere = TempDir::new().expect("a folder");
    let file = elsewhere.path().join("other.toml");
    fs::rename(choice.folder.path().join("rhtmx-sync.toml"), &file).expect("a file");
    let named = ["--config", file.to_str().expect("a path")];
    assert_eq!(
        choice.served(&named, &[]).await,
        (json!(["renamed"]), json!(7))
    );
    let named = [("RHTMX_SYNC_CONFIG", file.display().to_string())];
    assert_eq!(
        choice.served(&[], &named).await,
        (json!(["renamed"]), json!(7))
    );
}

async fn start_error(folder: &Path, args: &[&str], envs: &[(&str, &str)]) -> String {
    let exited = ServerProcess::try_spawn_in(folder, args, envs.iter().copied()).await;
    let exited = exited.expect_err("the server does not start");
    assert!(!exited.status.success());
    assert!(!exited.output.contains("panicked"), "{}", exited.output);
    exited.output
}

#[tokio::test]
async fn invalid_settings_are_named_in_the_error() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path();
    for (file, named) in [
        ("bnd = '127.0.0.1:0'", "bnd"),
        ("[database]\nurl = 'sqlite://x.db'\npool = 3", "pool"),
        ("[entities.notes]\ndeletes = 'win'", "entities.notes"),
        (
            "[entities.notes]\nfields = 'newest_wins'",
            "last_write_wins",
        ),
        ("bind = 'here'", "bind"),
        ("[log", "rhtmx-sync.toml"),
    ] {
        fs::write(path.join("rhtmx-sync.toml"), file).expect("a file");
        let output = start_error(path, &ANY_PORT[..0], &[]).await;
        assert!(output.contains(named), "{file}: {output}");
    }
    fs::remove_file(path.join("rhtmx-sync.toml")).expect("a file");
    let output = start_error(
        path,
        &ANY_PORT,
        &[("RHTMX_SYNC_RETENTION_SIZE_MAX_MB", "much")],
    )
    .await;
    assert!(
        output.contains("RHTMX_SYNC_RETENTION_SIZE_MAX_MB"),
        "{output}"
    );
    let output = start_error(path, &with(&["--config", "missing.toml"]), &[]).await;
    assert!(output.contains("missing.toml"), "{output}");
    let output = start_error(path, &with(&["--database-url", "sqlite://x.db"]), &[]).await;
    assert!(output.contains("--entity"), "{output}");
    let wrong_table = with(&[
        "--database-url",
        "sqlite://x.db",
        "--entity",
        "no_such_table",
    ]);
    let output = start_error(path, &wrong_table, &[]).await;
    assert!(output.contains("no_such_table"), "{output}");
}

#[tokio::test]
async fn other_machines_are_served_with_tokens() {
    let folder = TempDir::new().expect("a folder");
    let everywhere = ["--bind", "0.0.0.0:0"];
    let secret = |secret: &'static str| [("RHTMX_SYNC_AUTH_JWT_SECRET", secret)];
    let server = ServerProcess::spawn(
        everywhere,
        secret("a secret of the tests, longer than 32 bytes"),
    )
    .await;
    let read = Http::new(server.base_url()).get("/api/sync/todos").await;
    assert_eq!(read.status, 401, "{}", read.text);
    assert!(
        !server
            .output()
            .contains("anyone who can reach this address")
    );
    for (refused, why) in [
        ("too short", "32 bytes"),
        (
            "super-secret-jwt-token-with-at-least-32-characters-long",
            "anybody can sign",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
            "public keys",
        ),
    ] {
        let output = start_error(folder.path(), &everywhere, &secret(refused)).await;
        assert!(
            output.contains(why) && !output.contains(refused),
            "{output}"
        );
    }
    let two = [
        (
            "RHTMX_SYNC_AUTH_JWT_SECRET",
            "a secret of the tests, longer than 32 bytes",
        ),
        ("RHTMX_SYNC_AUTH_JWKS_URL", "https://id.example/jwks"),
    ];
    let output = start_error(folder.path(), &everywhere, &two).await;
    assert!(output.contains("set one of"), "{output}");
    let plain = [("RHTMX_SYNC_AUTH_JWKS_URL", "http://id.example/jwks")];
    let output = start_error(folder.path(), &everywhere, &plain).await;
    assert!(output.contains("use https"), "{output}");
    let missing = [("RHTMX_SYNC_AUTH_JWKS_FILE", "missing.json")];
    let output = start_error(folder.path(), &everywhere, &missing).await;
    assert!(output.contains("auth.jwks_file"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_clients_have_tokens_only_operators_read_how_the_server_is_doing() {
    let db = TestDatabase::sqlite().await;
    db.execute("CREATE TABLE todos (id integer PRIMARY KEY)")
        .await;
    let (secret, operator) = (
        "a secret of the tests, longer than 32 bytes",
        "what-only-operators-of-the-tests-know",
    );
    let settings = [
        ("DATABASE_URL", db.url()),
        ("RHTMX_SYNC_ENTITY", "todos,gone".to_owned()),
        ("RHTMX_SYNC_AUTH_JWT_SECRET", secret.to_owned()),
    ];
    let client = sign_with_secret(secret, json!({ "sub": "ann" }));
    for with_operator in [false, true] {
        db.execute("CREATE TABLE gone (id integer PRIMARY KEY)")
            .await;
        let shown = ("RHTMX_SYNC_AUTH_OPERATOR_TOKEN", operator.to_owned());
        let settings = settings
            .iter()
            .cloned()
            .chain(with_operator.then_some(shown));
        let server = ServerProcess::spawn(ANY_PORT, settings).await;
        db.execute("DROP TABLE gone").await;
        if with_operator {
            let http = Http::new(server.base_url()).with_token(operator);
            eventually("the table is missed", async || {
                let ready = http.get("/readyz").await;
                ready.text.contains("gone").then_some(())
            })
            .await;
        }
        for (token, may_read) in [
            (None, false),
            (Some(client.as_str()), false),
            (Some(operator), with_operator),
        ] {
            let mut http = Http::new(server.base_url());
            if let Some(token) = token {
                http = http.with_token(token);
            }
            let status = http.get("/api/sync/status").await;
            assert_eq!(status.status, 200);
            let names: Vec<String> = match status.json() {
                Value::Object(status) => status.into_iter().map(|(name, _)| name).collect(),
                other => panic!("{other}"),
            };
            let is_public = names == ["features", "version"];
            assert_eq!(is_public, !may_read, "{names:?}");
            let ready = http.get("/readyz").await;
            assert!(ready.text.starts_with("ready\n"), "{}", ready.text);
            assert_eq!(ready.text.contains("gone"), may_read, "{}", ready.text);
            let metrics = http.get("/metrics").await;
            assert_eq!(metrics.status, if may_read { 200 } else { 401 });
            assert_eq!(metrics.text.contains("rhtmx_sync_"), may_read);
        }
    }
}

#[tokio::test]
async fn other_machines_are_served_only_with_open() {
    let folder = TempDir::new().expect("a folder");
    let output = start_error(folder.path(), &["--bind", "0.0.0.0:0"], &[]).await;
    assert!(
        output.contains("--open") && output.contains("0.0.0.0"),
        "{output}"
    );
    for (args, envs) in [
        (vec!["serve", "--open"], vec![]),
        (vec!["--open"], vec![]),
        (vec![], vec![("RHTMX_SYNC_OPEN", "true")]),
        (vec![], vec![("RHTMX_SYNC_OPEN", "1")]),
    ] {
        let server = ServerProcess::spawn(with(&args), envs).await;
        server
            .wait_for_output("anyone who can reach this address")
            .await;
        assert_eq!(status_with_host(&server, "192.168.1.5").await, 200);
        // A page may have made its own name point to this machine.
        assert_eq!(status_with_host(&server, "example.com").await, 403);
    }
    let named = [
        ("RHTMX_SYNC_OPEN", "true"),
        ("RHTMX_SYNC_AUTH_ALLOWED_HOSTS", "example.com"),
    ];
    let server = ServerProcess::spawn(ANY_PORT, named).await;
    assert_eq!(status_with_host(&server, "example.com").await, 200);
    let server = ServerProcess::spawn(ANY_PORT, [("RHTMX_SYNC_OPEN", "false")]).await;
    assert_eq!(status_with_host(&server, "example.com").await, 421);
}

/// The HTTP status of a request with this host name.
async fn status_with_host(server: &ServerProcess, host: &str) -> u16 {
    let mut socket = TcpStream::connect(server.address())
        .await
        .expect("a connection");
    let request =
        format!("GET /api/sync/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    socket
        .write_all(request.as_bytes())
        .await
        .expect("the request is sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).expect("a status line");
    status.parse().expect("a number")
}

/// A page on a host name that resolves to this machine must not read what is served here.
#[tokio::test]
async fn other_host_names_of_this_machine_are_forbidden() {
    let server = ServerProcess::spawn(ANY_PORT, NO_SETTINGS).await;
    for host in [
        "localhost",
        "localhost:8080",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]:8080",
        "[::1]",
    ] {
        assert_eq!(status_with_host(&server, host).await, 200, "{host}");
    }
    for host in [
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com:8080",
        "10.0.0.1",
    ] {
        assert_eq!(status_with_host(&server, host).await, 421, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_readiness_and_metrics_are_served() {
    let server = ServerProcess::spawn(ANY_PORT, NO_SETTINGS).await;
    let http = Http::new(server.base_url());
    let healthy = http.get("/healthz").await;
    assert_eq!((healthy.status, healthy.text.as_str()), (200, "alive\n"));
    let ready = http.get("/readyz").await;
    assert_eq!((ready.status, ready.text.as_str()), (200, "ready\n"));
    let mut client = subscriber(&server, "todos").await;
    let todo = json!({ "id": "mine", "title": "write" });
    client
        .push_next(json!([{ "entity": "todos", "op": "create", "values": todo }]))
        .await
        .acked();
    let metrics = http.get("/metrics").await.text;
    for line in [
        "rhtmx_sync_sessions 1",
        "rhtmx_sync_mutations_total{outcome=\"ack\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}: {metrics}"
        );
    }
    assert!(metrics.contains("rhtmx_sync_changes_total"), "{metrics}");
}

/// The names of the engine's triggers and functions that are left in the database.
async fn captures(db: &TestDatabase) -> Vec<Option<String>> {
    db.query_text(match db.backend() {
        Backend::Postgres => {
            "SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '\\_rhtmx%' \
             UNION ALL SELECT proname::text FROM pg_proc WHERE proname LIKE '\\_rhtmx\\_sync\\_capture%'"
        }
        Backend::Sqlite => {
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%rhtmx%'"
        }
    })
    .await
}

both_backends! {
    /// Servers and commands that start together on an empty database all succeed.
    async fn concurrent_migrations_run_once(db: TestDatabase) {
        db.execute(NOTES).await;
        let url = db.url();
        let args = with(&["--entity", "notes"]);
        let envs = [("DATABASE_URL", url.clone())];
        let (one, two, three, four) = tokio::join!(
            ServerProcess::spawn(args.clone(), envs.clone()),
            ServerProcess::spawn(args.clone(), envs.clone()),
            command(&["migrate"], &url),
            command(&["migrate"], &url),
        );
        assert!(three.status.success() && four.status.success(), "{three:?} {four:?}");
        let (mut one, mut two) = (subscriber(&one, "notes").await, subscriber(&two, "notes").await);
        write_last(&db).await;
        for client in [&mut one, &mut two] {
            client.wait_until(|client| client.rows("notes").len() == 1).await;
        }
        succeeds(&["migrate"], &url).await;
    }

    async fn uncapture_leaves_no_trigger_behind(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let url = db.url();
        succeeds(&["migrate"], &url).await;
        assert!(succeeds(&["uncapture"], &url).await.contains("nothing"));
        let args = with(&["--entity", "notes", "--entity", "tasks"]);
        let server = ServerProcess::spawn(args, [("DATABASE_URL", url.as_str())]).await;
        subscriber(&server, "notes").await.close().await;
        server.terminate().await;

        assert!(!captures(&db).await.is_empty());
        let output = succeeds(&["uncapture", "tasks"], &url).await;
        assert!(output.contains("tasks") && !output.contains("notes"), "{output}");
        assert!(!captures(&db).await.is_empty());
        assert!(succeeds(&["uncapture"], &url).await.contains("notes"));
        assert_eq!(captures(&db).await, []);
        write_last(&db).await;
    }

    async fn status_asks_the_running_server(db: TestDatabase) {
        db.execute(NOTES).await;
        let url = db.url();
        let args = with(&["--entity", "notes"]);
        let server = ServerProcess::spawn(args, [("DATABASE_URL", url.as_str())]).await;
        subscriber(&server, "notes").await.close().await;
        let address = server.address();
        let output = succeeds(&["status", "--bind", &address], &url).await;
        let status: Value = serde_json::from_str(&output).expect("JSON");
        assert_eq!(status["entities"], json!(["notes"]));
        let database = match db.backend() {
            Backend::Postgres => "postgresql",
            Backend::Sqlite => "sqlite",
        };
        assert_eq!(status["database"], database);
        assert_eq!(status["role"], "leader");
        server.kill();
        let exited = command(&["status", "--bind", &address], &url).await;
        assert!(!exited.status.success() && exited.output.contains(&address), "{}", exited.output);
    }

    /// SIGTERM: sessions are closed so that clients reconnect, and the server exits with success.
    async fn a_signal_ends_sessions_and_the_server(db: TestDatabase) {
        db.execute(NOTES).await;
        let args = with(&["--entity", "notes"]);
        let server = ServerProcess::spawn(args, [("DATABASE_URL", db.url())]).await;
        let mut client = subscriber(&server, "notes").await;
        let http = Http::new(server.base_url());
        // A kept-alive connection of HTTP, and a long poll.
        assert_eq!(http.get("/healthz").await.status, 200);
        let cursor = client.subscription("notes").cursor().expect("a cursor").to_owned();
        let path = format!("/api/sync/notes?cursor={cursor}&wait_ms=60000");
        let polling = tokio::spawn(async move { http.get(&path).await.status });
        client.ping().await;
        let (exited, code) = tokio::join!(server.terminate(), client.close_code());
        assert_eq!(code, 1001);
        assert!(exited.status.success(), "{}", exited.output);
        assert!(exited.output.contains("stopped"), "{}", exited.output);
        polling.await.expect("the poll was answered");
    }
}

/// A mutation that waits for a lock when the signal arrives is applied before the server ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_lets_mutations_finish() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {}", insert([1]))).await;
    let args = with(&["--entity", "notes"]);
    let server = ServerProcess::spawn(args, [("DATABASE_URL", db.url())]).await;
    let mut client = subscriber(&server, "notes").await;
    let holder = db.connect_postgres().await;
    holder
        .batch_execute("BEGIN; SELECT FROM notes FOR UPDATE")
        .await
        .expect("the lock");
    let write = json!({ "entity": "notes", "op": "update", "key": 1, "values": { "body": "new" } });
    client.send_push(1, json!([write])).await;
    let waits =
        "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    exists(&db, "the mutation waits", waits).await;
    let ending = server.terminate();
    let releasing = async {
        assert_eq!(client.close_code().await, 1001);
        holder
            .batch_execute("COMMIT")
            .await
            .expect("the lock is released");
    };
    let (exited, ()) = tokio::join!(ending, releasing);
    assert!(exited.status.success(), "{}", exited.output);
    assert_eq!(
        db.query_text("SELECT body FROM notes").await,
        [Some("new".to_owned())]
    );
}

/// Whether the other side has closed a connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.read(&mut byte).await, Ok(0) | Err(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_make_room_for_a_newcomer() {
    let db = TestDatabase::sqlite().await;
    db.execute(NOTES).await;
    let url = db.url();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("RHTMX_SYNC_CONNECTIONS_MAX", "4"),
        ("RHTMX_SYNC_CONNECTIONS_HEADER_TIMEOUT_MS", "600000"),
    ];
    let server = ServerProcess::spawn(with(&["--entity", "notes"]), settings).await;
    let mut silent = Vec::new();
    for number in 0..20 {
        let mut stream = TcpStream::connect(server.address())
            .await
            .expect("accepted");
        if number % 2 == 0 {
            let half = b"GET /api/sync/ws HTTP/1.1\r\nHost: 127.0.0.1\r\n";
            stream.write_all(half).await.expect("sent");
        }
        silent.push(stream);
    }
    let _live = subscriber(&server, "notes").await;
    assert!(is_closed(&mut silent[0]).await, "the oldest makes room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_never_finished_is_closed() {
    let db = TestDatabase::sqlite().await;
    db.execute(NOTES).await;
    let url = db.url();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("RHTMX_SYNC_CONNECTIONS_HEADER_TIMEOUT_MS", "100"),
    ];
    let server = ServerProcess::spawn(with(&["--entity", "notes"]), settings).await;
    let mut live = subscriber(&server, "notes").await;
    for sent in ["", "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n"] {
        let mut stream = TcpStream::connect(server.address())
            .await
            .expect("accepted");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        assert!(is_closed(&mut stream).await, "{sent:?}");
    }
    // A session has no headers to send.
    db.execute(&insert([1])).await;
    live.wait_until(|client| client.row("notes", "1").is_some())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_ends_beside_an_answer_that_nobody_reads() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!(
        "{NOTES}; INSERT INTO notes SELECT g, repeat('x', 10000) FROM generate_series(1, 2000) g"
    ))
    .await;
    let url = db.url();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("RHTMX_SYNC_READS_PAGE_BYTES_MAX", "100000000"),
    ];
    let server = ServerProcess::spawn(with(&["--entity", "notes"]), settings).await;
    let mut stream = TcpStream::connect(server.address())
        .await
        .expect("accepted");
    let request = b"GET /api/sync/notes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut first = [0; 10];
    stream.read_exact(&mut first).await.expect("an answer");
    assert!(server.terminate().await.status.success());
}
