//! Dates and times, whatever the time zone of the database session that writes them.

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, SyncClient, TestDatabase};

use super::subscribers::{ENTITIES, changes_after, ops_of, subscribe};
use super::todos::FENCE;

const ZONES: [&str; 4] = [
    "UTC",
    "Asia/Kolkata",
    "America/St_Johns",
    "Pacific/Kiritimati",
];

async fn subscribers(db: &TestDatabase) -> (TestServer, SyncClient) {
    db.execute(FENCE).await;
    db.execute(
        "CREATE TABLE todos (id integer PRIMARY KEY, due timestamptz, local timestamp, day date)",
    )
    .await;
    let server = TestServer::start(db, ENTITIES).await;
    let mut client = server.connect().await;
    for (id, condition) in [
        ("at", "due = '2026-03-29T01:30:00.000001Z'"),
        ("zoned", "due = '2026-03-29T07:00:00.000001+05:30'"),
        ("until", "due < $1"),
        ("day", "day = '2026-03-29'"),
        (
            "local",
            "local BETWEEN '2026-03-29T00:00:00' AND '2026-03-29T23:59:59.999999'",
        ),
    ] {
        let selection = if condition.contains("$1") {
            json!({ "where": condition, "params": ["2026-03-29T01:30:00.000001Z"] })
        } else {
            json!({ "where": condition })
        };
        subscribe(&mut client, id, selection).await;
    }
    (server, client)
}

/// Rows enter and leave by the instant, however the database session writes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_match_whatever_the_writers_time_zone() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let (_server, mut client) = subscribers(&db).await;
    assert_eq!(
        client.subscription("at").shape(),
        client.subscription("zoned").shape()
    );
    for (id, zone) in ZONES.into_iter().enumerate() {
        let session = format!("SET timezone = '{zone}'; SET datestyle = 'German, DMY';");
        let insert = format!(
            "{session} INSERT INTO todos VALUES ({id}, '2026-03-29 01:30:00.000001+00', \
             '2026-03-29 12:00', '2026-03-29')"
        );
        let frames = changes_after(&mut client, &db, &insert).await;
        for selection in ["at", "day", "local"] {
            assert_eq!(
                ops_of(&client, selection, &frames),
                [format!("put {id}")],
                "{zone}"
            );
        }
        let row = &client.row("at", &id.to_string()).expect("a row")["due"];
        assert_eq!(row, "2026-03-29T01:30:00.000001+00:00", "{zone}");
        let earlier = format!(
            "{session} UPDATE todos SET due = due - interval '1 microsecond', day = day + 1, \
             local = local + interval '12 hours' WHERE id = {id}"
        );
        let frames = changes_after(&mut client, &db, &earlier).await;
        for selection in ["at", "day", "local"] {
            assert_eq!(
                ops_of(&client, selection, &frames),
                [format!("leave {id}")],
                "{selection} in {zone}"
            );
        }
        assert_eq!(
            ops_of(&client, "until", &frames),
            [format!("put {id}")],
            "{zone}"
        );
        let frames = changes_after(&mut client, &db, &format!("{session} DELETE FROM todos")).await;
        assert_eq!(
            ops_of(&client, "until", &frames),
            [format!("delete {id}")],
            "{zone}"
        );
        assert_eq!(frames.len(), 1, "{zone}: {frames:?}");
    }
}

/// Times at the limits of what a filter can name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infinite_and_extreme_times_are_compared() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let (_server, mut client) = subscribers(&db).await;
    for (due, until) in [
        ("'-infinity'", "put 1"),
        ("'infinity'", "leave 1"),
        ("'4713-01-01 00:00:00+00 BC'", "put 1"),
        ("NULL", "leave 1"),
        ("'0001-01-01 00:00:00+00'", "put 1"),
        ("'294276-12-31 23:59:59.999999+00'", "leave 1"),
    ] {
        let sql = format!(
            "INSERT INTO todos (id, due) VALUES (1, {due}) ON CONFLICT (id) DO UPDATE SET due = {due}"
        );
        let frames = changes_after(&mut client, &db, &sql).await;
        assert_eq!(ops_of(&client, "until", &frames), [until], "{due}");
    }
}
