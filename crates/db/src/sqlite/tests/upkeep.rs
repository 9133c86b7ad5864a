//! Retention, the engine's own tables, connections, and the watch.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use sync_core::cursor::{LogPosition, Position};
use sync_core::log::ChangeKind;
use tokio::sync::Notify;

use super::Synced;
use crate::error::{DbError, DbResult};
use crate::retention::Pruned;
use crate::sqlite::file_events::FileEvents;
use crate::sqlite::watch::{Watch, data_version};
use crate::sqlite::{connect, install, store};

const TODOS: &str = "CREATE TABLE todos (id INTEGER PRIMARY KEY, title TEXT)";

/// A statement that inserts this many rows.
fn insert_rows(count: u32) -> String {
    format!(
        "INSERT INTO todos (title) WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM \
         n WHERE n < {count}) \
         SELECT 'todo ' || n FROM n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_prunes_by_age_in_batches() {
    let mut synced = Synced::new(TODOS, "todos").await;
    synced.run(&insert_rows(7000));
    synced.run("UPDATE _rhtmx_sync_log SET created_at = '2020-01-01T00:00:00.000Z'");
    synced.run("INSERT INTO todos (title) VALUES ('young')");
    let day = Duration::from_secs(86_400);
    let conn = &mut synced.conn;
    let size = store::log_size(conn).await.expect("a size").0;
    assert!((300_000..2_000_000).contains(&size), "{size}");
    let first = store::prune_older_than(conn, day).await.expect("pruned");
    assert_eq!(
        first,
        Pruned {
            rows: 5000,
            floor_moved: true,
            more: true
        }
    );
    let floor = store::log_size(conn).await.expect("a size").1;
    assert_eq!(floor, "7001");
    let second = store::prune_older_than(conn, day).await.expect("pruned");
    assert_eq!(
        second,
        Pruned {
            rows: 2001,
            floor_moved: false,
            more: false
        }
    );
    let third = store::prune_older_than(conn, day).await.expect("pruned");
    assert_eq!(
        third,
        Pruned {
            rows: 0,
            floor_moved: false,
            more: false
        }
    );
    assert_eq!(synced.log(0).len(), 1);
    // No entry is older than this age, and every entry is older than the next.
    let never = store::prune_older_than(&mut synced.conn, Duration::MAX)
        .await
        .expect("pruned");
    assert_eq!(never.rows, 0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let all = store::prune_older_than(&mut synced.conn, Duration::ZERO)
        .await
        .expect("pruned");
    assert_eq!(
        all,
        Pruned {
            rows: 1,
            floor_moved: true,
            more: false
        }
    );
    // The position outlives the entries.
    let head = store::head(&mut synced.conn).await.expect("a head");
    assert!(matches!(
        head.position,
        Position::Log(LogPosition {
            id: 7002,
            entry: Some(_)
        })
    ));
    synced.refetch().await;
    synced.follow().await;
    let empty = store::prune_oldest(&mut synced.conn).await.expect("pruned");
    assert_eq!(
        empty,
        Pruned {
            rows: 0,
            floor_moved: false,
            more: false
        }
    );
    assert_eq!(
        store::log_size(&mut synced.conn).await.expect("a size").0,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_prunes_by_size() {
    let mut synced = Synced::new(TODOS, "todos").await;
    synced.run(&insert_rows(999));
    let conn = &mut synced.conn;
    let mut rounds = 0;
    while is_too_large(store::log_size(conn).await.expect("a size").0) {
        assert!(store::prune_oldest(conn).await.expect("pruned").floor_moved);
        rounds += 1;
        assert!(rounds < 100);
    }
    assert!(rounds > 10);
}

fn is_too_large(bytes: u64) -> bool {
    bytes > 20_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_change_moves_the_position() {
    let mut synced = Synced::new(TODOS, "todos").await;
    let conn = &mut synced.conn;
    let recorded = store::record(
        conn,
        "pings",
        Some("a"),
        ChangeKind::Create,
        Some(r#"{"n":1}"#),
    )
    .await;
    let head = store::head(conn).await.expect("a head");
    let recorded = recorded.expect("a position");
    assert!(head.position.covers(&recorded) && recorded.covers(&head.position));
    let again = store::head(conn).await.expect("a head");
    assert_eq!(head.epoch, again.epoch);
    store::make_checkpoint(conn).await.expect("nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_removes_all_triggers() {
    let mut synced = Synced::new(TODOS, "todos").await;
    synced.install("f", "todos").await;
    let triggers = "SELECT name AS text FROM sqlite_schema WHERE type = 'trigger'";
    assert_eq!(synced.ask(triggers).len(), 14);
    let version = store::catalog_version(&mut synced.conn, &synced.entities)
        .await
        .expect("a version");
    let only = ["f".to_owned(), "unknown".to_owned()];
    assert_eq!(
        install::uninstall(&mut synced.conn, Some(&only))
            .await
            .expect("names"),
        ["f"]
    );
    assert_ne!(
        version,
        store::catalog_version(&mut synced.conn, &synced.entities)
            .await
            .expect("a version")
    );
    assert_eq!(synced.ask(triggers).len(), 7);
    assert_eq!(
        install::uninstall(&mut synced.conn, None)
            .await
            .expect("names"),
        ["e"]
    );
    assert_eq!(synced.ask(triggers).len(), 0);
    assert_eq!(
        install::uninstall(&mut synced.conn, None)
            .await
            .expect("names"),
        [""; 0]
    );
    synced.run("INSERT INTO todos (title) VALUES ('unseen')");
    let wanted = ["e".to_owned()];
    install::want(&mut synced.conn, &wanted)
        .await
        .expect("wanted");
    synced.install("e", "todos").await;
    synced.follow().await;
}

#[test]
fn a_path_that_cannot_be_opened_is_explained() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let inside = |name: &str| {
        directory
            .path()
            .join(name)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    let explanation = |path: &str| match connect::establish(path, Duration::from_millis(50)) {
        Err(DbError::Refused(text)) => text,
        Err(other) => panic!("{path}: {other}"),
        Ok(_) => panic!("{path} was opened"),
    };
    assert!(explanation(&inside("no/such/file.db")).contains("there is no directory"));
    assert!(explanation(&inside("")).contains("is a directory"));
    std::fs::write(
        inside("text.db"),
        "this is not a database, but long enough to be taken for one".repeat(20),
    )
    .expect("a file");
    assert!(explanation(&inside("text.db")).contains("is not a SQLite file"));
    connect::establish(&inside("new.db"), Duration::from_millis(50)).expect("a new file");
    connect::establish(":memory:", Duration::from_millis(50)).expect("a database in memory");
}

/// The first connection switches the journal mode; the others wait.
#[test]
fn several_connections_can_open_a_new_file_at_once() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = directory
        .path()
        .join("new.db")
        .to_str()
        .expect("UTF-8")
        .to_owned();
    let opening = (0..8).map(|_| {
        let path = path.clone();
        std::thread::spawn(move || connect::establish(&path, Duration::from_secs(20)).map(drop))
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.join().expect("no panic").expect("a connection");
    }
}

/// Every commit of another connection notifies, and the thread ends with the watch.
async fn notifies_of_commits(start: fn(&str, Arc<Notify>) -> DbResult<Watch>) {
    let mut synced = Synced::new(TODOS, "todos").await;
    let notify = Arc::new(Notify::new());
    let watch = start(&synced.path(), notify.clone()).expect("a watch");
    for _ in 0..3 {
        synced.run("INSERT INTO todos (title) VALUES ('a')");
        tokio::time::timeout(Duration::from_secs(20), notify.notified())
            .await
            .expect("a notification");
    }
    drop(watch);
    while Arc::strong_count(&notify) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_notifies_of_commits_of_others() {
    notifies_of_commits(Watch::start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_polls_where_the_file_system_does_not_tell() {
    notifies_of_commits(Watch::deaf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_system_tells_of_commits_and_of_nothing_else() {
    let mut synced = Synced::new(TODOS, "todos").await;
    let (signal, signals) = mpsc::sync_channel(1);
    let _events = FileEvents::of(&synced.path(), signal).expect("events");
    for _ in 0..3 {
        synced.run("INSERT INTO todos (title) VALUES ('a')");
        signals
            .recv_timeout(Duration::from_secs(20))
            .expect("a signal");
    }
    // What the watch itself does signals nothing, or it would never rest.
    let mut other =
        connect::establish(&synced.path(), Duration::from_secs(1)).expect("a connection");
    data_version(&mut other).expect("a version");
    while signals.try_recv().is_ok() {}
    data_version(&mut other).expect("a version");
    assert_eq!(signals.try_recv(), Err(mpsc::TryRecvError::Empty));
}
