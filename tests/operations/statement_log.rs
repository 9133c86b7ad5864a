//! What a database that logs every statement is shown of the users, and whether it does more for a row that a user may
//! not read than for one that does not exist.

use std::fs;
use std::path::PathBuf;

use rhtmx_sync::{EntityPolicy, JwtAuthenticator, JwtConfig, Policies, SyncConfig};
use rhtmx_sync_tests::{TestServer, bin_dir, sign_with_secret};
use serde_json::{Value, json};
use std::sync::Arc;
use test_postgres::{Cluster, FOR_TESTS};
use testkit::{ClientOptions, SyncClient, eventually};

const SECRET: &str = "a secret of the tests, longer than 32 bytes";

/// A cluster that logs each statement with its parameters, and an engine on it.
struct Logged {
    /// Dropped first.
    server: TestServer,
    log: PathBuf,
    _cluster: Cluster,
}

impl Logged {
    async fn start() -> Self {
        let settings = [FOR_TESTS, &["log_statement=all"]].concat();
        let started = tokio::task::spawn_blocking(move || Cluster::start(bin_dir(), &settings));
        let cluster = started
            .await
            .expect("no panic")
            .unwrap_or_else(|error| panic!("{error:#}"));
        let (client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls)
            .await
            .expect("a connection");
        tokio::spawn(connection);
        client
            .batch_execute(
                "CREATE TABLE todos (id integer PRIMARY KEY, owner_id text NOT NULL, title text NOT NULL, code text UNIQUE); \
                 INSERT INTO todos VALUES (1, 'ann', 'mine', 'a1'), (3, 'ben', 'hidden', 'b1')",
            )
            .await
            .expect("tables");
        let pool = rhtmx_sync::DbPool::from_url(&cluster.url())
            .await
            .expect("a pool");
        let mut config = SyncConfig::new(pool, vec!["todos"]);
        let own = "owner_id = auth.sub";
        let policy = EntityPolicy {
            read: Some(own.to_owned()),
            create: Some(own.to_owned()),
            update: Some(own.into()),
            delete: Some(own.to_owned()),
            ..EntityPolicy::default()
        };
        let policies = Policies::new([("todos".to_owned(), policy)]).expect("policies");
        config.auth.authorizer = Arc::new(policies);
        let mut jwt = JwtConfig::default();
        jwt.jwt_secret = Some(SECRET.to_owned());
        let authenticator = JwtAuthenticator::new(jwt).await.expect("an authenticator");
        config.auth.authenticator = Arc::new(authenticator);
        let server = TestServer::with_config(config).await;
        server.engine().ready().await;
        Self {
            server,
            log: cluster.directory().join("postgres.log"),
            _cluster: cluster,
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).expect("the server's log")
    }

    async fn connect(&self, token: &str) -> SyncClient {
        let options = ClientOptions {
            token: Some(token.to_owned()),
            ..ClientOptions::default()
        };
        SyncClient::connect(&self.server.ws_url(), options).await
    }

    /// The answer to a write, and the statements that the database ran for it, in their order.
    async fn statements_of(&self, client: &mut SyncClient, write: &Value) -> (String, Vec<String>) {
        let before = self.text().len();
        let outcome = client.push_next(json!([write])).await;
        let code = outcome.rejected().code.clone();
        (code, statements(&self.text()[before..]))
    }
}

/// The statements of a log that concern mutations, without their numbers, ids and digests. What the listener reads of the
/// log meanwhile is none of them.
fn statements(log: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for line in log.lines() {
        // Lines of one statement after its first begin with a tab.
        match (line.split_once("] "), statements.last_mut()) {
            (_, Some(last)) if line.starts_with('\t') => last.push_str(line),
            (Some((_, statement)), _) => statements.push(statement.to_owned()),
            (None, _) => {}
        }
    }
    let concerns = |text: &String| {
        ["todos", "_rhtmx_sync_apply", " AS answer"]
            .iter()
            .any(|part| text.contains(part))
            && !text.contains(" AS position")
            && !text.contains("DETAIL:")
    };
    statements.retain(concerns);
    let plain = |text: &String| {
        let is_number = |word: &str| word.bytes().any(|byte| byte.is_ascii_digit());
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<&str> = words
            .map(|word| if is_number(word) { "#" } else { word })
            .collect();
        words.join(" ")
    };
    statements.iter().map(plain).collect()
}

/// How long an answer takes is noise around what the database does for it: that is the same, statement for statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_to_a_hidden_row_runs_the_statements_of_one_to_an_absent_row() {
    let logged = Logged::start().await;
    let token = sign_with_secret(SECRET, json!({ "sub": "ann" }));
    let mut ann = logged.connect(&token).await;
    // What is done once for a client is done.
    let first = json!({ "entity": "todos", "op": "delete", "key": 8 });
    logged.statements_of(&mut ann, &first).await;
    for write in [
        |key: u32| json!({ "entity": "todos", "op": "update", "key": key, "values": { "title": "x" } }),
        |key| json!({ "entity": "todos", "op": "update", "key": key, "values": { "code": "a1" } }),
        |key| json!({ "entity": "todos", "op": "delete", "key": key }),
    ] {
        let hidden = logged.statements_of(&mut ann, &write(3)).await;
        let absent = logged.statements_of(&mut ann, &write(9)).await;
        assert_eq!(hidden, absent, "{}", write(3));
        assert_eq!(hidden.0, "not_found");
        assert!(hidden.1.len() > 1, "{hidden:?}");
    }
    // Values that fail the check tell nothing of the rows that have them.
    let create = |code: &str| json!({ "entity": "todos", "op": "create", "key": 30, "values": { "owner_id": "ben", "title": "x", "code": code } });
    let upsert = |key: u32| json!({ "entity": "todos", "op": "upsert", "key": key, "values": { "owner_id": "ben", "title": "x" } });
    for (taken, free) in [(create("b1"), create("c1")), (upsert(3), upsert(9))] {
        let taken = logged.statements_of(&mut ann, &taken).await;
        assert_eq!(taken, logged.statements_of(&mut ann, &free).await);
        assert_eq!(taken.0, "forbidden");
    }
}

/// A database that logs statements logs what policies compare, as it logs all values that are written. It is shown
/// nothing else of a user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_and_no_claim_that_no_policy_names_is_shown_to_the_database() {
    let logged = Logged::start().await;
    let claims = json!({ "sub": "ann", "email": "undisclosed@example", "app_metadata": { "team": "undisclosed" } });
    let token = sign_with_secret(SECRET, claims);
    let mut ann = logged.connect(&token).await;
    ann.subscribe("t", "todos").await;
    ann.wait_subscribed("t").await;
    let update =
        json!({ "entity": "todos", "op": "update", "key": 1, "values": { "title": "logged" } });
    ann.push_next(json!([update])).await.acked();
    ann.wait_until(|ann| {
        ann.row("t", "1")
            .is_some_and(|row| row["title"] == "logged")
    })
    .await;
    let http = logged.server.http().with_token(token.as_str());
    assert_eq!(http.get("/api/sync/todos").await.status, 200);
    let log = eventually("the statements are logged", async || {
        let log = logged.text();
        (log.contains("_rhtmx_sync_apply") && log.contains("logged")).then_some(log)
    })
    .await;
    for part in token.split('.').chain(["undisclosed", SECRET]) {
        assert!(!log.contains(part), "{part}");
    }
    // Reads bind what policies compare as parameters, so that it is in no list of running statements.
    let reads = log
        .lines()
        .filter(|line| line.contains("FROM ") && line.contains("\"todos\""));
    let with_claims: Vec<&str> = reads
        .filter(|line| {
            line.contains("'ann'")
                && !line.contains("DETAIL:")
                && !line.contains("_rhtmx_sync_apply")
        })
        .collect();
    assert!(with_claims.is_empty(), "{with_claims:?}");
}
