//! Nodes, programs and ordinary clients come to hold the same rows.

use merge::{Clock, NodeId};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{ClientOptions, SyncClient, TestDatabase, both_backends};
use uuid::Uuid;

use super::node::{Connection, Node};
use super::{node, rows, serve, url, wait_for, wait_for_count};

/// An edit of an ordinary client, made at this moment of another clock.
async fn edit(client: &mut SyncClient, id: i64, values: Value, hlc: &Clock) {
    let write = json!({"entity": "todos", "op": "update", "key": id, "values": values, "hlc": hlc.as_str()});
    client.push_next(json!([write])).await.acked();
}

fn own_node() -> NodeId {
    NodeId::of_client(&[7; 16])
}

async fn ordinary(server: &TestServer) -> SyncClient {
    let options = ClientOptions {
        client_id: Uuid::from_bytes([7; 16]),
        ..ClientOptions::default()
    };
    SyncClient::connect(&server.ws_url(), options).await
}

/// A clock of the ordinary client, so many milliseconds before a row's clock as a node has it.
fn before(node: &Node, id: &str, millis: u64) -> Clock {
    let row = &node.tables["todos"].rows[id];
    let at = Clock::read_foreign(&row.hlc).expect("a clock");
    Clock::new(at.millis() - millis, 0, &own_node())
}

async fn is_same(db: &TestDatabase, connection: &mut Connection, node: &mut Node) {
    for table in ["lists", "todos"] {
        let expected = rows(db, table).await;
        connection
            .until(node, |node| node.shown(table) == expected)
            .await;
    }
    assert_eq!(node.errors, Vec::<String>::new());
}

both_backends! {
    async fn a_node_gets_all_rows_and_what_becomes_of_them(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO lists (id, name) VALUES (1, 'home')").await;
        db.execute("INSERT INTO todos (id, list_id, title) VALUES (1, 1, 'milk'), (2, 1, 'bread'), (3, 1, 'tea')").await;
        db.execute("DELETE FROM todos WHERE id = 3").await;
        db.execute("UPDATE todos SET title = 'soy milk', done = TRUE WHERE id = 1").await;
        let mut ann = node("ann-1");
        let mut of_ann = Connection::start(&ann, &url(&server)).await;
        is_same(&db, &mut of_ann, &mut ann).await;
        assert_eq!(ann.shown("todos")["1"]["done"], json!(1), "SQLite has no truth values");
        // The row that is gone was sent, too: the node may have had it.
        of_ann.until(&mut ann, |ann| ann.tables["todos"].rows.get("3").is_some_and(|row| row.is_deleted)).await;
        db.execute("UPDATE todos SET note = 'two' WHERE id = 2").await;
        db.execute("DELETE FROM todos WHERE id = 1").await;
        db.execute("INSERT INTO todos (id, list_id, title) VALUES (4, 1, 'jam'), (1, 1, 'oat milk')").await;
        is_same(&db, &mut of_ann, &mut ann).await;
    }

    async fn what_nodes_write_is_in_the_tables_and_with_other_nodes(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (node("6f1c2f0e-0000-4000-8000-000000000001"), node("ben"));
        // Written offline, the child before its parent.
        ann.put("todos", json!({"id": 1, "list_id": 9, "title": "milk", "note": null, "done": 0}));
        ann.put("lists", json!({"id": 9, "name": "home"}));
        let mut of_ann = Connection::start(&ann, &url(&server)).await;
        let mut of_ben = Connection::start(&ben, &url(&server)).await;
        wait_for(&db, "todos", 1, "title", json!("milk")).await;
        is_same(&db, &mut of_ben, &mut ben).await;
        // Live, in both directions.
        let hlc = ben.put("todos", json!({"id": 1, "done": 1}));
        of_ben.send_change(&ben, &hlc).await;
        of_ann.until(&mut ann, |ann| ann.shown("todos")["1"]["done"] == json!(1)).await;
        let hlc = ann.delete("todos", 1);
        of_ann.send_change(&ann, &hlc).await;
        of_ben.until(&mut ben, |ben| ben.shown("todos").is_empty()).await;
        wait_for_count(&db, "todos", 0).await;
        assert_eq!((&ann.errors, &ben.errors), (&Vec::new(), &Vec::new()));
        // Others have it with the text that its node has written.
        let gone = |node: &Node| node.tables["todos"].rows["1"].hlc.clone();
        assert_eq!((gone(&ann), gone(&ben)), (hlc.clone(), hlc));
    }

    async fn an_edit_that_comes_late_reaches_nodes_that_have_a_later_clock_of_the_row(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = node("ann");
        let mut ordinary = ordinary(&server).await;
        let mut of_ann = Connection::start(&ann, &url(&server)).await;
        db.execute("INSERT INTO todos (id, title) VALUES (1, 'milk')").await;
        of_ann.until(&mut ann, |ann| ann.shown("todos").len() == 1).await;
        db.execute("UPDATE todos SET title = 'soy milk' WHERE id = 1").await;
        of_ann.until(&mut ann, |ann| ann.shown("todos")["1"]["title"] == "soy milk").await;
        // Made before that, of another column: in the database both stay, and no clock of a field is later than before.
        let early = before(&ann, "1", 5000);
        edit(&mut ordinary, 1, json!({"note": "two"}), &early).await;
        of_ann.until(&mut ann, |ann| ann.shown("todos")["1"]["note"] == "two").await;
        let earlier = before(&ann, "1", 9000);
        edit(&mut ordinary, 1, json!({"done": true}), &earlier).await;
        of_ann.until(&mut ann, |ann| ann.shown("todos")["1"]["done"] == json!(1)).await;
        is_same(&db, &mut of_ann, &mut ann).await;
        // A node that comes later gets the same clocks, so that the two agree.
        let mut ben = node("ben");
        let mut of_ben = Connection::start(&ben, &url(&server)).await;
        is_same(&db, &mut of_ben, &mut ben).await;
        assert_eq!(ann.tables["todos"].rows["1"].hlc, ben.tables["todos"].rows["1"].hlc);
    }

    async fn all_who_write_come_to_the_same(db: TestDatabase) {
        let server = serve(&db).await;
        let mut dice = rhtmx_sync_tests::Dice::new("all_who_write_come_to_the_same");
        let mut nodes = [node("a"), node("b-2"), node("c")];
        // Their times differ, so that clocks of two precisions meet in one millisecond.
        (nodes[1].ahead_micros, nodes[2].ahead_micros) = (3_000_000, -2_000_000);
        let mut connections: [Option<Connection>; 3] = [None, None, None];
        let mut ordinary = ordinary(&server).await;
        for id in 0..4 {
            db.execute(&format!("INSERT INTO todos (id, title) VALUES ({id}, 'first')")).await;
        }
        for turn in 0..120 {
            let id = dice.pick(0..6) as i64;
            let title = format!("turn {turn}");
            match dice.pick(0..9) {
                who @ 0..=4 => {
                    let who = who as usize % 3;
                    let (node, connection) = (&mut nodes[who], &mut connections[who]);
                    let hlc = match dice.pick(0..5) {
                        0 => node.delete("todos", id),
                        _ => node.put("todos", json!({"id": id, "list_id": null, "title": title, "note": null, "done": 0})),
                    };
                    // A deletion of a row that it never had has no columns.
                    node.tables.get_mut("todos").expect("todos").rows.retain(|_, row| row.columns.len() > 1);
                    if let Some(connection) = connection.as_mut()
                        && node.tables["todos"].rows.values().any(|row| row.hlc == hlc)
                    {
                        connection.send_change(node, &hlc).await;
                    }
                }
                5 => db.execute(&format!("UPDATE todos SET note = '{title}' WHERE id = {id}")).await,
                6 => db.execute(&format!("DELETE FROM todos WHERE id = {id}")).await,
                7 => {
                    let write = json!({"entity": "todos", "op": "upsert", "key": id, "values": {"title": title},
                        "hlc": Clock::new(1_700_000_000_000 + turn, 0, &own_node()).as_str()});
                    ordinary.push_next(json!([write])).await;
                }
                _ => {
                    let who = dice.pick(0..3) as usize;
                    match connections[who].take() {
                        Some(connection) => connection.end().await,
                        None => connections[who] = Some(Connection::start(&nodes[who], &url(&server)).await),
                    }
                }
            }
        }
        for (node, connection) in nodes.iter().zip(&mut connections) {
            if let Some(connection) = connection.take() {
                connection.end().await;
            }
            *connection = Some(Connection::start(node, &url(&server)).await);
        }
        // What each of them writes last is behind everything that it has sent.
        for (number, (node, connection)) in nodes.iter_mut().zip(connections.iter_mut().flatten()).enumerate() {
            let hlc = node.put("lists", json!({"id": number, "name": "last"}));
            connection.send_change(node, &hlc).await;
        }
        wait_for_count(&db, "lists", 3).await;
        for (node, connection) in nodes.iter_mut().zip(connections.iter_mut().flatten()) {
            let expected = rows(&db, "todos").await;
            let id = node.id.clone();
            println!("{id} comes to {expected:?}");
            connection.until(node, |node| node.shown("todos") == expected && node.shown("lists").len() == 3).await;
            assert_eq!(node.errors, Vec::<String>::new(), "{id}");
        }
    }
}
