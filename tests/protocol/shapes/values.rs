//! Values of many types and sizes: rows leave by what they were.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::followers::{ENTITIES, follow, heard, ops_of, serving, up_to_now};
use super::polling::path;
use super::todos::{ALL, MARKS, todos};
use crate::followers::again;

/// A server over todos of these columns, and a client.
async fn following(
    db: &TestDatabase,
    columns: &str,
    parts: &[(&str, &str)],
) -> (TestServer, SyncClient) {
    db.execute(&format!(
        "{MARKS}; CREATE TABLE todos (id integer PRIMARY KEY, {columns})"
    ))
    .await;
    let server = TestServer::start(db, ENTITIES).await;
    let mut client = server.connect().await;
    for (id, condition) in parts {
        follow(&mut client, id, json!({ "where": condition })).await;
    }
    (server, client)
}

both_backends! {
    /// However a uuid is spelled it is the same.
    async fn uuids(db: TestDatabase) {
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let upper = id.to_uppercase();
        let parts = [
            ("a", format!("who = '{id}'")),
            ("b", format!("who = '{upper}'")),
            ("c", format!("who IN ('{}', '{{{upper}}}')", id.replace('a', "b"))),
        ];
        let parts: Vec<(&str, &str)> = parts.iter().map(|(id, text)| (*id, text.as_str())).collect();
        let (_server, mut client) = following(&db, "who uuid", &parts).await;
        assert_eq!(client.subscription("a").shape(), client.subscription("b").shape());
        let frames = heard(&mut client, &db, &format!("INSERT INTO todos VALUES (1, '{id}')")).await;
        assert_eq!(frames.len(), 2);
        assert_eq!(client.row("c", "1"), Some(&json!({ "id": 1, "who": id })));
        let frames = heard(&mut client, &db, "UPDATE todos SET who = NULL").await;
        assert_eq!(ops_of(&client, "a", &frames), ["leave 1"]);
        assert_eq!(ops_of(&client, "c", &frames), ["leave 1"]);
    }

    async fn numbers(db: TestDatabase) {
        let big = "9007199254740993";
        let parts = [
            ("big", "n = 9007199254740993"),
            ("text", "n = '9007199254740993'"),
            ("range", "n > 9007199254740992"),
            ("half", "x = 0.5"),
        ];
        let (_server, mut client) = following(&db, "n bigint, x double precision", &parts).await;
        assert_eq!(client.subscription("big").shape(), client.subscription("text").shape());
        let frames = heard(&mut client, &db, &format!("INSERT INTO todos VALUES (1, {big}, 0.5)")).await;
        assert_eq!(frames.len(), 3);
        assert_eq!(client.row("big", "1").expect("a row")["n"], big);
        let frames = heard(&mut client, &db, "UPDATE todos SET n = n - 1, x = 0.25").await;
        for part in ["big", "range", "half"] {
            assert_eq!(ops_of(&client, part, &frames), ["leave 1"], "{part}");
        }
    }

    async fn texts_of_any_script(db: TestDatabase) {
        let parts = [
            ("a", "owner = 'Zoë 🦀'"),
            ("b", "owner LIKE '_oë%'"),
            ("c", "owner = ''"),
            ("d", "owner LIKE '100\\%'"),
            ("e", "owner = 'it''s'"),
        ];
        let (_server, mut client) = following(&db, "owner text", &parts).await;
        for (owner, matching) in [
            ("Zoë 🦀", vec!["a", "b"]),
            ("zoë 🦀", vec!["b"]),
            ("Zoe\u{308} 🦀", vec![]),
            ("", vec!["c"]),
            ("100%", vec!["d"]),
            ("1000", vec![]),
            ("it''s", vec!["e"]),
        ] {
            heard(&mut client, &db, "DELETE FROM todos").await;
            let sql = format!("INSERT INTO todos VALUES (1, '{owner}')");
            heard(&mut client, &db, &sql).await;
            for (part, _) in parts {
                let here = client.row(part, "1").is_some();
                assert_eq!(here, matching.contains(&part), "{part}: {owner}");
            }
        }
    }

    /// Five megabytes beside the column that the filter looks at, changed with it and without.
    async fn large_values_beside_a_filter(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = server.connect().await;
        let part = json!({ "where": "list_id = 1", "columns": ["done"] });
        follow(&mut client, "a", part.clone()).await;
        let (first, second) = ("x".repeat(5_000_000), "y".repeat(5_000_000));
        db.execute(&format!("UPDATE todos SET title = '{first}' WHERE id IN (1, 3)")).await;
        assert_eq!(up_to_now(&mut client).await, [] as [Value; 0]);
        let sql = format!("UPDATE todos SET title = '{second}', list_id = 3 - list_id WHERE id IN (1, 3)");
        let frames = heard(&mut client, &db, &sql).await;
        let mut told = ops_of(&client, "a", &frames);
        told.sort();
        assert_eq!(told, ["leave 1", "put 3"]);
        let client = {
            let state = client.into_state();
            db.execute(&format!("UPDATE todos SET title = '{first}', list_id = 3 - list_id WHERE id IN (1, 3)")).await;
            db.execute("DELETE FROM todos WHERE id = 1").await;
            let options = ClientOptions::default();
            let mut client = SyncClient::reconnect(&server.ws_url(), options, &state).await;
            client.wait_subscribed("a").await;
            client
        };
        assert_eq!(client.puts("a", "3"), 0);
        assert_eq!(*client.rows("a"), todos(&db, &["id", "done"], "list_id = 1").await);
    }

    /// What the filter looks at is itself too large to be remembered: more may be told, the copies
    /// are right.
    async fn histories_beyond_their_bound(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = server.connect().await;
        follow(&mut client, "a", json!({ "where": "title LIKE 'in%'", "columns": ["done"] })).await;
        follow(&mut client, "b", json!({ "where": "list_id = 1 AND NOT title LIKE 'in%'" })).await;
        follow(&mut client, "c", json!({ "where": "owner = 'bob'" })).await;
        let large = "x".repeat(400_000);
        let mut away: Option<SyncClient> = None;
        for (round, word) in ["in", "out", "in", "out", "out"].into_iter().enumerate() {
            db.execute(&format!(
                "BEGIN; UPDATE todos SET title = '{word} {large}', done = NOT done WHERE id < 3; \
                 UPDATE todos SET title = 'between {large}' WHERE id < 3; \
                 UPDATE todos SET title = '{word} {round} {large}' WHERE id < 3; COMMIT"
            ))
            .await;
            up_to_now(&mut client).await;
            assert_eq!(*client.rows("a"), todos(&db, &["id", "done"], "title LIKE 'in%'").await);
            let expected = todos(&db, &ALL, "list_id = 1 AND NOT title LIKE 'in%'").await;
            assert_eq!(*client.rows("b"), expected);
            assert_eq!(*client.rows("c"), todos(&db, &ALL, "owner = 'bob'").await);
            if round == 1 {
                let mut other = server.connect().await;
                follow(&mut other, "a", json!({ "where": "title LIKE 'out 1%'", "columns": [] })).await;
                assert_eq!(other.rows("a").len(), 2);
                away = Some(other);
            }
        }
        let mut back = again(&server, away.expect("a client")).await;
        back.wait_subscribed("a").await;
        assert_eq!((back.rows("a").len(), back.frames("refetch")), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enums() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'Happy ''n'' gay')")
        .await;
    let parts = [
        ("a", "mood = 'ok'"),
        ("b", "mood > 'sad'"),
        ("c", "mood = 'Happy ''n'' gay'"),
    ];
    let (server, mut client) = following(&db, "mood mood", &parts).await;
    for (mood, a, b, c) in [
        ("'sad'", "", "", ""),
        ("'ok'", "put 1", "put 1", ""),
        ("'Happy ''n'' gay'", "leave 1", "put 1", "put 1"),
        ("NULL", "", "leave 1", "leave 1"),
    ] {
        let sql = format!(
            "INSERT INTO todos VALUES (1, {mood}) ON CONFLICT (id) DO UPDATE SET mood = {mood}"
        );
        let frames = heard(&mut client, &db, &sql).await;
        for (part, expected) in [("a", a), ("b", b), ("c", c)] {
            assert_eq!(
                ops_of(&client, part, &frames).concat(),
                expected,
                "{part}: {mood}"
            );
        }
    }
    let asked = path("todos", &[("where", "mood = 'angry'")]);
    let reply = server.http().get(&asked).await;
    assert_eq!(
        (reply.status, &reply.json()["code"]),
        (400, &json!("bad_filter"))
    );
}

/// Numbers that are equal are equal however many zeroes they have, and infinite ones are numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decimals_and_what_is_no_number() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let parts = [
        ("a", "n = 1.10"),
        ("b", "x = 'NaN'"),
        ("c", "x > 1e300"),
        ("d", "f = 0.1"),
    ];
    let (_server, mut client) =
        following(&db, "n numeric, x double precision, f real", &parts).await;
    for (values, matching) in [
        ("1.1, 'NaN', 0.1", vec!["a", "b", "c"]),
        ("1.1000, 'Infinity', 0.5", vec!["a", "c"]),
        ("'NaN', 0, NULL", vec![]),
    ] {
        heard(&mut client, &db, "DELETE FROM todos").await;
        heard(
            &mut client,
            &db,
            &format!("INSERT INTO todos VALUES (1, {values})"),
        )
        .await;
        for (part, condition) in parts {
            let agrees = db
                .query_text(&format!("SELECT id::text FROM todos WHERE {condition}"))
                .await;
            let here = client.row(part, "1").is_some();
            assert_eq!(
                (here, here),
                (matching.contains(&part), agrees.len() == 1),
                "{part}: {values}"
            );
        }
    }
}
