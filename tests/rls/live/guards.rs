//! Whom a change of a membership concerns: nobody else is asked.

use std::fs;

use rhtmx_sync_tests::sign_with_secret;
use tempfile::TempDir;
use testkit::{ClientOptions, Http, ServerProcess};

use super::*;

const SECRET: &str = "a secret of the tests, longer than 32 bytes";
const OPERATOR: &str = "the-token-with-which-the-tests-read-the-metrics";
const USERS: usize = 50;

fn id(number: usize) -> String {
    format!("ca11ab1e-0000-4000-8000-{number:012}")
}

/// How many groups have been asked.
async fn asked(http: &Http) -> u64 {
    let metrics = http.get("/metrics").await.text;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("rhtmx_sync_policy_questions_total "));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_users_the_one_whose_membership_changed_is_asked() {
    let db = database().await;
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("rhtmx-sync.toml");
    let config = "[entities.todos]\nrls = true\n[entities.members]\ninternal = true\n";
    fs::write(&file, config).expect("a file");
    let settings = [
        ("DATABASE_URL", db.url()),
        ("RHTMX_SYNC_CONFIG", file.display().to_string()),
        ("RHTMX_SYNC_AUTH_JWT_SECRET", SECRET.to_owned()),
        ("RHTMX_SYNC_AUTH_OPERATOR_TOKEN", OPERATOR.to_owned()),
    ];
    let server = ServerProcess::spawn(["--bind", "127.0.0.1:0"], settings).await;
    let http = Http::new(server.base_url()).with_token(OPERATOR);
    let mut clients = Vec::new();
    for number in 0..USERS {
        let options = ClientOptions {
            token: Some(sign_with_secret(SECRET, user(&id(number)))),
            ..ClientOptions::default()
        };
        let mut client = SyncClient::connect(&server.ws_url(), options).await;
        client.subscribe("t", "todos").await;
        client.wait_subscribed("t").await;
        clients.push(client);
    }
    let everybody = asked(&http).await;
    assert!(everybody >= USERS as u64, "{everybody}");
    for (sql, of_seventh, of_eighth, by) in [
        // A drain that is later than the write would be another one than that of the todo.
        (
            format!("INSERT INTO members VALUES (1, '{}')", id(7)),
            vec!["1", "2", "5"],
            vec!["5"],
            1,
        ),
        (
            format!(
                "UPDATE members SET user_id = '{}' WHERE user_id = '{}'",
                id(8),
                id(7)
            ),
            vec!["5"],
            vec!["1", "2", "5"],
            2,
        ),
        (
            format!("DELETE FROM members WHERE user_id = '{}'", id(8)),
            vec!["5"],
            vec!["5"],
            1,
        ),
        (
            format!("INSERT INTO members VALUES (1, '{}')", id(USERS)),
            vec!["5"],
            vec!["5"],
            0,
        ),
        (
            "TRUNCATE members".to_owned(),
            vec!["5"],
            vec!["5"],
            USERS as u64,
        ),
    ] {
        let before = asked(&http).await;
        db.execute(&sql).await;
        wait_keys(&mut clients[7], &of_seventh).await;
        wait_keys(&mut clients[8], &of_eighth).await;
        // What everybody receives comes after it.
        db.execute("UPDATE todos SET title = title || '.' WHERE id = 5")
            .await;
        let title = db.query_text("SELECT title FROM todos WHERE id = 5").await;
        let title = title[0].clone().expect("a title");
        clients[0]
            .wait_until(|client| client.rows("t")["5"]["title"] == *title)
            .await;
        assert_eq!(asked(&http).await - before, by, "{sql}");
    }
    for client in &clients {
        assert_eq!((client.frames("refetch"), client.rows("t").len()), (0, 1));
    }
}
