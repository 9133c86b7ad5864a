//! Values of many types and sizes: rows leave by their old values.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::polling::path;
use super::subscribers::{ENTITIES, changes_after, ops_of, pending_changes, serve, subscribe};
use super::todos::{ALL, FENCE, todos};
use crate::subscribers::reconnect;

/// A server over todos with these columns, and a client that is subscribed to the selections.
async fn serve_and_subscribe(
    db: &TestDatabase,
    columns: &str,
    selections: &[(&str, &str)],
) -> (TestServer, SyncClient) {
    db.execute(&format!(
        "{FENCE}; CREATE TABLE todos (id integer PRIMARY KEY, {columns})"
    ))
    .await;
    let server = TestServer::start(db, ENTITIES).await;
    let mut client = server.connect().await;
    for (id, condition) in selections {
        subscribe(&mut client, id, json!({ "where": condition })).await;
    }
    (server, client)
}

both_backends! {
    async fn equal_uuids_match_however_they_are_written(db: TestDatabase) {
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let upper = id.to_uppercase();
        let selections = [
            ("a", format!("who = '{id}'")),
            ("b", format!("who = '{upper}'")),
            ("c", format!("who IN ('{}', '{{{upper}}}')", id.replace('a', "b"))),
        ];
        let selections: Vec<(&str, &str)> = selections.iter().map(|(id, text)| (*id, text.as_str())).collect();
        let (_server, mut client) = serve_and_subscribe(&db, "who uuid", &selections).await;
        assert_eq!(client.subscription("a").shape(), client.subscription("b").shape());
        let frames = changes_after(&mut client, &db, &format!("INSERT INTO todos VALUES (1, '{id}')")).await;
        assert_eq!(frames.len(), 2);
        assert_eq!(client.row("c", "1"), Some(&json!({ "id": 1, "who": id })));
        let frames = changes_after(&mut client, &db, "UPDATE todos SET who = NULL").await;
        assert_eq!(ops_of(&client, "a", &frames), ["leave 1"]);
        assert_eq!(ops_of(&client, "c", &frames), ["leave 1"]);
    }

    async fn large_and_fractional_numbers_match_exactly(db: TestDatabase) {
        let big = "9007199254740993";
        let selections = [
            ("big", "n = 9007199254740993"),
            ("text", "n = '9007199254740993'"),
            ("range", "n > 9007199254740992"),
            ("half", "x = 0.5"),
        ];
        let (_server, mut client) = serve_and_subscribe(&db, "n bigint, x double precision", &selections).await;
        assert_eq!(client.subscription("big").shape(), client.subscription("text").shape());
        let frames = changes_after(&mut client, &db, &format!("INSERT INTO todos VALUES (1, {big}, 0.5)")).await;
        assert_eq!(frames.len(), 3);
        assert_eq!(client.row("big", "1").expect("a row")["n"], big);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET n = n - 1, x = 0.25").await;
        for selection in ["big", "range", "half"] {
            assert_eq!(ops_of(&client, selection, &frames), ["leave 1"], "{selection}");
        }
    }

    async fn texts_of_any_script_match_exactly(db: TestDatabase) {
        let selections = [
            ("a", "owner = 'Zoë 🦀'"),
            ("b", "owner LIKE '_oë%'"),
            ("c", "owner = ''"),
            ("d", "owner LIKE '100\\%'"),
            ("e", "owner = 'it''s'"),
        ];
        let (_server, mut client) = serve_and_subscribe(&db, "owner text", &selections).await;
        for (owner, matching) in [
            ("Zoë 🦀", vec!["a", "b"]),
            ("zoë 🦀", vec!["b"]),
            ("Zoe\u{308} 🦀", vec![]),
            ("", vec!["c"]),
            ("100%", vec!["d"]),
            ("1000", vec![]),
            ("it''s", vec!["e"]),
        ] {
            changes_after(&mut client, &db, "DELETE FROM todos").await;
            let sql = format!("INSERT INTO todos VALUES (1, '{owner}')");
            changes_after(&mut client, &db, &sql).await;
            for (selection, _) in selections {
                let here = client.row(selection, "1").is_some();
                assert_eq!(here, matching.contains(&selection), "{selection}: {owner}");
            }
        }
    }

    /// Five megabytes beside the column that the filter uses, changed with it and without it.
    async fn large_values_beside_a_filter_are_not_sent(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let selection = json!({ "where": "list_id = 1", "columns": ["done"] });
        subscribe(&mut client, "a", selection.clone()).await;
        let (first, second) = ("x".repeat(5_000_000), "y".repeat(5_000_000));
        db.execute(&format!("UPDATE todos SET title = '{first}' WHERE id IN (1, 3)")).await;
        assert_eq!(pending_changes(&mut client).await, [] as [Value; 0]);
        let sql = format!("UPDATE todos SET title = '{second}', list_id = 3 - list_id WHERE id IN (1, 3)");
        let frames = changes_after(&mut client, &db, &sql).await;
        let mut received = ops_of(&client, "a", &frames);
        received.sort();
        assert_eq!(received, ["leave 1", "put 3"]);
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

    /// The column of the filter is itself too large for the undo records: more may be sent, and the
    /// copies are right.
    async fn old_values_beyond_their_limit_keep_the_copies_right(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        subscribe(&mut client, "a", json!({ "where": "title LIKE 'in%'", "columns": ["done"] })).await;
        subscribe(&mut client, "b", json!({ "where": "list_id = 1 AND NOT title LIKE 'in%'" })).await;
        subscribe(&mut client, "c", json!({ "where": "owner = 'bob'" })).await;
        let large = "x".repeat(400_000);
        let mut away: Option<SyncClient> = None;
        for (round, word) in ["in", "out", "in", "out", "out"].into_iter().enumerate() {
            db.execute(&format!(
                "BEGIN; UPDATE todos SET title = '{word} {large}', done = NOT done WHERE id < 3; \
                 UPDATE todos SET title = 'between {large}' WHERE id < 3; \
                 UPDATE todos SET title = '{word} {round} {large}' WHERE id < 3; COMMIT"
            ))
            .await;
            pending_changes(&mut client).await;
            assert_eq!(*client.rows("a"), todos(&db, &["id", "done"], "title LIKE 'in%'").await);
            let expected = todos(&db, &ALL, "list_id = 1 AND NOT title LIKE 'in%'").await;
            assert_eq!(*client.rows("b"), expected);
            assert_eq!(*client.rows("c"), todos(&db, &ALL, "owner = 'bob'").await);
            if round == 1 {
                let mut other = server.connect().await;
                subscribe(&mut other, "a", json!({ "where": "title LIKE 'out 1%'", "columns": [] })).await;
                assert_eq!(other.rows("a").len(), 2);
                away = Some(other);
            }
        }
        let mut back = reconnect(&server, away.expect("a client")).await;
        back.wait_subscribed("a").await;
        // Nobody knows whether the rows were in its selection, so they are not named.
        assert_eq!((back.rows("a").len(), back.frames("refetch")), (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enum_values_compare_in_the_order_of_their_labels() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'Happy ''n'' gay')")
        .await;
    let selections = [
        ("a", "mood = 'ok'"),
        ("b", "mood > 'sad'"),
        ("c", "mood = 'Happy ''n'' gay'"),
    ];
    let (server, mut client) = serve_and_subscribe(&db, "mood mood", &selections).await;
    for (mood, a, b, c) in [
        ("'sad'", "", "", ""),
        ("'ok'", "put 1", "put 1", ""),
        ("'Happy ''n'' gay'", "leave 1", "put 1", "put 1"),
        ("NULL", "", "leave 1", "leave 1"),
    ] {
        let sql = format!(
            "INSERT INTO todos VALUES (1, {mood}) ON CONFLICT (id) DO UPDATE SET mood = {mood}"
        );
        let frames = changes_after(&mut client, &db, &sql).await;
        for (selection, expected) in [("a", a), ("b", b), ("c", c)] {
            assert_eq!(
                ops_of(&client, selection, &frames).concat(),
                expected,
                "{selection}: {mood}"
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

/// Numbers are equal however many zeroes they have, and infinity is a number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decimals_nan_and_infinity_match_as_in_postgres() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let selections = [
        ("a", "n = 1.10"),
        ("b", "x = 'NaN'"),
        ("c", "x > 1e300"),
        ("d", "f = 0.1"),
    ];
    let (_server, mut client) =
        serve_and_subscribe(&db, "n numeric, x double precision, f real", &selections).await;
    for (values, matching) in [
        ("1.1, 'NaN', 0.1", vec!["a", "b", "c"]),
        ("1.1000, 'Infinity', 0.5", vec!["a", "c"]),
        ("'NaN', 0, NULL", vec![]),
    ] {
        changes_after(&mut client, &db, "DELETE FROM todos").await;
        changes_after(
            &mut client,
            &db,
            &format!("INSERT INTO todos VALUES (1, {values})"),
        )
        .await;
        for (selection, condition) in selections {
            let agrees = db
                .query_text(&format!("SELECT id::text FROM todos WHERE {condition}"))
                .await;
            let here = client.row(selection, "1").is_some();
            assert_eq!(
                (here, here),
                (matching.contains(&selection), agrees.len() == 1),
                "{selection}: {values}"
            );
        }
    }
}
