//! Many rows, many changes, several servers, and a connection that is lost.

use super::*;

async fn subscriber_at(url: String, claims: Value) -> SyncClient {
    let mut client = SyncClient::connect(&url, options(&claims)).await;
    for (id, entity) in [("t", "todos"), ("f", "fences")] {
        client.subscribe(id, entity).await;
        client.wait_subscribed(id).await;
    }
    client
}

#[tokio::test]
async fn thousands_of_rows_that_a_membership_moves_arrive_and_leave() {
    let mut live = Live::with(
        "INSERT INTO todos (id, list_id) SELECT n, 9 FROM generate_series(100, 3099) n; \
         CREATE TABLE notes (id integer PRIMARY KEY, todo_id integer); GRANT SELECT ON notes TO authenticated",
    )
    .await;
    let mut ann = live.subscriber(&user(ANN)).await;
    let mut ben = live.subscriber(&user(BEN)).await;
    live.fence(&mut ben).await;
    let refetched = ben.frames("refetch");
    let join = format!("INSERT INTO members VALUES (9, '{ANN}')");
    live.db.execute(&join).await;
    ann.wait_until(|ann| ann.rows("t").len() == 3004).await;
    live.fence(&mut ann).await;
    live.db
        .execute("UPDATE todos SET title = 'new' WHERE id = 3000")
        .await;
    ann.wait_until(|ann| {
        ann.row("t", "3000")
            .is_some_and(|row| row["title"] == "new")
    })
    .await;
    live.db
        .execute("DELETE FROM members WHERE list_id = 9")
        .await;
    live.fence(&mut ann).await;
    wait_keys(&mut ann, &["1", "2", "4", "5"]).await;
    live.fence(&mut ben).await;
    assert_eq!(keys(&ben), these(["3", "5"]));
    assert_eq!(ben.frames("refetch"), refetched);
    // More rows than a batch may move: Ann's session has read them from the log.
    assert_eq!((ann.frames("refetch"), ann.frames("snapshot")), (0, 2));
}

/// A client that joins between two drains has seen what the sets were then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_join_while_memberships_come_and_go_end_with_what_they_may_see() {
    let mut live = Live::start().await;
    let url = live.server.ws_url();
    let mut joining = Vec::new();
    for turn in 0..30 {
        if turn % 2 == 0 {
            joining.push(tokio::spawn(subscriber_at(url.clone(), user(BEN))));
        }
        let join = format!("INSERT INTO members VALUES (1, '{BEN}')");
        let leave = format!("DELETE FROM members WHERE list_id = 1 AND user_id = '{BEN}'");
        let rename = format!(
            "UPDATE todos SET title = '{turn}' WHERE id = {}",
            turn % 3 + 1
        );
        for sql in [join, rename, leave] {
            live.db.execute(&sql).await;
        }
    }
    for client in joining {
        let mut client = client.await.expect("a client");
        live.fence(&mut client).await;
        assert_eq!(keys(&client), these(["3", "5"]), "{}", client.transcript());
    }
}

#[tokio::test]
async fn two_servers_move_the_same_rows_and_both_notice_an_altered_policy() {
    let live = Live::start().await;
    let other = TestServer::with_config(config(&live.db).await).await;
    let mut here = live.subscriber(&user(BEN)).await;
    let mut there = subscriber_at(other.ws_url(), user(BEN)).await;
    let join = format!("INSERT INTO members VALUES (1, '{BEN}')");
    live.db.execute(&join).await;
    for client in [&mut here, &mut there] {
        wait_keys(client, &["1", "2", "3", "5"]).await;
    }
    live.db.execute("DROP POLICY members ON todos").await;
    for client in [&mut here, &mut there] {
        wait_keys(client, &["5"]).await;
    }
}

#[tokio::test]
async fn when_the_connections_of_the_server_are_killed_nobody_sees_more() {
    let mut live = Live::start().await;
    let mut ann = live.subscriber(&user(ANN)).await;
    for turn in 0..3 {
        live.db
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        let leave = format!("DELETE FROM members WHERE user_id = '{ANN}'");
        live.db.execute(&leave).await;
        live.fence(&mut ann).await;
        assert_eq!(keys(&ann), these(["4", "5"]), "{turn}");
        let join = format!("INSERT INTO members VALUES (1, '{ANN}')");
        live.db.execute(&join).await;
        live.fence(&mut ann).await;
        assert_eq!(keys(&ann), these(["1", "2", "4", "5"]), "{turn}");
    }
}
