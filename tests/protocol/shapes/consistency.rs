//! Several selections of one client agree with each other at every cursor, whatever several writers do.

use std::collections::BTreeSet;

use rhtmx_sync_tests::{Dice, TestServer};
use serde_json::json;
use testkit::{ClientOptions, SyncClient, TestDatabase, both_backends};

use super::subscribers::{ENTITIES, subscribe};
use super::todos::{ALL, make_todos, todos};

/// Todos that writers move between three lists; their number stays the same.
const TODOS: u64 = 30;
const WRITERS: u64 = 3;
const LISTS: [&str; 3] = ["1", "2", "3"];

async fn make_lists(db: &TestDatabase) {
    make_todos(db).await;
    db.execute(&format!(
        "DELETE FROM todos; \
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {TODOS} - 1) \
         INSERT INTO todos SELECT i, 1 + i % 3, NULL, 'todo', false FROM n"
    ))
    .await;
}

/// One transaction: rows move from list to list, through none, or are replaced.
fn transaction(dice: &mut Dice, writer: u64) -> String {
    // Each writer has its own rows, so that no writer waits for another.
    let mut row = || writer + WRITERS * dice.pick(0..TODOS / WRITERS);
    let (one, two) = (row(), row());
    let list = dice.pick(1..4);
    let statements = match dice.pick(0..6) {
        0 => format!("UPDATE todos SET list_id = {list} WHERE id = {one}"),
        1 => format!("UPDATE todos SET list_id = 1 + list_id % 3 WHERE id IN ({one}, {two})"),
        2 => format!(
            "UPDATE todos SET list_id = NULL WHERE id = {one}; \
             UPDATE todos SET list_id = {list} WHERE id = {one}"
        ),
        3 => format!(
            "DELETE FROM todos WHERE id = {one}; \
             INSERT INTO todos VALUES ({one}, {list}, NULL, 'again', true)"
        ),
        4 => format!(
            "UPDATE todos SET id = 1000 + {one}, list_id = {list} WHERE id = {one}; \
             UPDATE todos SET id = {one}, list_id = 1 + list_id % 3 WHERE id = 1000 + {one}"
        ),
        _ => format!("UPDATE todos SET title = 'new', done = NOT done WHERE id = {one}"),
    };
    let end = if dice.chance(85) {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    format!("BEGIN; {statements}; {end}")
}

/// Each todo is in exactly one list.
fn assert_consistent(client: &SyncClient) {
    let live = |id: &&str| client.subscription(*id).is_live();
    if !LISTS.iter().all(live) || client.cursor().is_none() {
        return;
    }
    let keys = LISTS.iter().flat_map(|id| client.rows(*id).keys());
    let all: Vec<&String> = keys.collect();
    let different: BTreeSet<&String> = all.iter().copied().collect();
    assert_eq!(
        (all.len() as u64, different.len() as u64),
        (TODOS, TODOS),
        "at a cursor: {all:?}"
    );
}

async fn subscribe_to_lists(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    for list in LISTS {
        subscribe(
            &mut client,
            list,
            json!({ "where": "list_id = $1", "params": [list] }),
        )
        .await;
    }
    client
}

/// Receives until the writers are done, checks each cursor, and loses its connection at times.
async fn watch(
    server: &TestServer,
    mut dice: Dice,
    mut done: tokio::sync::watch::Receiver<bool>,
) -> SyncClient {
    let mut client = subscribe_to_lists(server).await;
    loop {
        let frame = tokio::select! {
            frame = client.next_frame() => frame,
            _ = done.wait_for(|done| *done) => return client,
        };
        if frame["type"] == "cursor" {
            assert_consistent(&client);
            if dice.chance(4) {
                let state = client.into_state();
                let options = ClientOptions::default();
                client = SyncClient::reconnect(&server.ws_url(), options, &state).await;
            }
        }
    }
}

both_backends! {
    async fn each_row_is_in_one_selection_at_every_cursor(db: TestDatabase) {
        make_lists(&db).await;
        let mut config = TestServer::config(&db, ENTITIES).await;
        // Some fall behind and catch up from the log.
        config.limits.queue_batches_max = 2;
        let server = TestServer::with_config(config).await;
        let mut dice = Dice::new("selections_agree");
        let (done, watching) = tokio::sync::watch::channel(false);
        let watchers: Vec<_> = (0..3)
            .map(|_| watch(&server, dice.split(), watching.clone()))
            .collect();
        let writing = async {
            let writers = (0..WRITERS).map(|writer| {
                let (db, mut dice) = (&db, dice.split());
                async move {
                    for _ in 0..150 {
                        db.execute(&transaction(&mut dice, writer)).await;
                    }
                }
            });
            futures_util::future::join_all(writers).await;
            let _ = done.send(true);
        };
        let ((), clients) = tokio::join!(writing, futures_util::future::join_all(watchers));
        for mut client in clients {
            for list in LISTS {
                let expected = todos(&db, &ALL, &format!("list_id = {list}")).await;
                client.wait_until(|client| *client.rows(list) == expected).await;
            }
            assert_eq!(client.frames("refetch"), 0);
        }
    }
}
