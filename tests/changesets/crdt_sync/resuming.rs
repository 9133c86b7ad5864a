//! Connections that end, and what the next one begins with.

use serde_json::{Value, json};
use testkit::{TestDatabase, both_backends};

use super::node::{Connection, Hlc, Node};
use super::{node, rows, serve, url, wait_for, wait_for_count};

/// Goes online until the node has a new title of the first todo, which it gets behind everything else.
async fn see(db: &TestDatabase, connection: &mut Connection, node: &mut Node, title: &str) {
    db.execute(&format!("UPDATE todos SET title = '{title}' WHERE id = 0"))
        .await;
    connection
        .until(node, |node| {
            node.shown("todos")
                .get("0")
                .is_some_and(|row| row["title"] == title)
        })
        .await;
}

/// Stays online until the server knows that the node has all rows: what follows its question arrives behind the answer.
async fn catch_up(db: &TestDatabase, connection: &mut Connection, node: &mut Node, round: usize) {
    see(db, connection, node, &format!("one {round}")).await;
    connection.until_asked(node).await;
    see(db, connection, node, &format!("two {round}")).await;
}

async fn fill(db: &TestDatabase) {
    db.execute("INSERT INTO todos (id, title) VALUES (0, 'zero')")
        .await;
    for id in 1..50 {
        db.execute(&format!(
            "INSERT INTO todos (id, title) VALUES ({id}, 'todo')"
        ))
        .await;
    }
}

both_backends! {
    async fn a_node_that_comes_back_gets_what_is_new_and_no_more(db: TestDatabase) {
        let server = serve(&db).await;
        fill(&db).await;
        let mut ann = node("ann");
        // What a connection has said last may not be known yet when the next one begins.
        for round in 0.. {
            assert!(round < 40, "it gets all rows each time");
            let mut connection = Connection::start(&ann, &url(&server)).await;
            ann.merged = 0;
            catch_up(&db, &mut connection, &mut ann, round).await;
            connection.end().await;
            if ann.merged < 40 {
                break;
            }
        }
        db.execute("DELETE FROM todos WHERE id = 7").await;
        db.execute("UPDATE todos SET note = 'offline' WHERE id = 8").await;
        let mut connection = Connection::start(&ann, &url(&server)).await;
        let expected = rows(&db, "todos").await;
        connection.until(&mut ann, |ann| ann.shown("todos") == expected).await;
        assert_eq!(ann.errors, Vec::<String>::new());
    }

    async fn a_row_that_was_written_long_ago_and_comes_late_reaches_who_was_here_in_between(db: TestDatabase) {
        let server = serve(&db).await;
        fill(&db).await;
        let (mut ann, mut ben) = (node("ann"), node("ben"));
        ben.ahead_micros = -3_600_000_000;
        ben.put("todos", json!({"id": 100, "list_id": null, "title": "an hour ago", "note": null, "done": 0}));
        let mut of_ann = Connection::start(&ann, &url(&server)).await;
        catch_up(&db, &mut of_ann, &mut ann, 0).await;
        of_ann.end().await;
        ben.ahead_micros = 0;
        let of_ben = Connection::start(&ben, &url(&server)).await;
        wait_for(&db, "todos", 100, "title", json!("an hour ago")).await;
        of_ben.end().await;
        // By clocks alone it would be asked for nothing that old.
        assert!(ann.last_modified() > ben.tables["todos"].rows["100"].hlc);
        let mut of_ann = Connection::start(&ann, &url(&server)).await;
        of_ann.until(&mut ann, |ann| ann.shown("todos").contains_key("100")).await;
    }

    async fn a_node_that_has_lost_its_rows_gets_them_back_with_its_own(db: TestDatabase) {
        let server = serve(&db).await;
        fill(&db).await;
        let mut ann = node("ann");
        ann.put("todos", json!({"id": 100, "list_id": null, "title": "mine", "note": null, "done": 1}));
        let mut connection = Connection::start(&ann, &url(&server)).await;
        wait_for(&db, "todos", 100, "title", json!("mine")).await;
        see(&db, &mut connection, &mut ann, "one").await;
        connection.end().await;
        let mut ann = node("ann");
        let mut connection = Connection::start(&ann, &url(&server)).await;
        let expected = rows(&db, "todos").await;
        connection.until(&mut ann, |ann| ann.shown("todos") == expected).await;
        assert_eq!(ann.errors, Vec::<String>::new());
        // It goes on from there, also with the row that was its own.
        let hlc = ann.put("todos", json!({"id": 100, "title": "mine again"}));
        connection.send_change(&ann, &hlc).await;
        wait_for(&db, "todos", 100, "title", json!("mine again")).await;
    }

    async fn what_was_written_offline_is_asked_for_until_it_has_come(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = node("ann");
        let todo = |id: u8| json!({"id": id, "list_id": null, "title": "t", "note": null, "done": 0});
        ann.put("todos", todo(1));
        let old = ann.put("todos", todo(2));
        let mut connection = Connection::open(&ann, &url(&server), Value::Null).await;
        assert_eq!(Hlc::parse(&connection.wanted_after).micros, 0);
        // A new row comes before the old ones, and then nothing.
        let new = ann.put("todos", todo(3));
        connection.send_change(&ann, &new).await;
        wait_for_count(&db, "todos", 1).await;
        connection.end().await;
        let mut connection = Connection::open(&ann, &url(&server), Value::Null).await;
        assert!(connection.wanted_after < old, "the old ones are asked for again");
        connection.send_missed(&ann).await;
        wait_for_count(&db, "todos", 3).await;
        // Behind what it has sent, so that this is taken, too.
        let last = ann.put("lists", json!({"id": 1, "name": "last"}));
        connection.send_change(&ann, &last).await;
        wait_for_count(&db, "lists", 1).await;
        // What the server knows of its answer comes before what is written now.
        db.execute("INSERT INTO lists (id, name) VALUES (2, 'later')").await;
        connection.until(&mut ann, |ann| ann.shown("lists").contains_key("2")).await;
        connection.end().await;
        // What was taken is remembered a moment after the connection has ended.
        testkit::eventually("the server asks for nothing that it has", || async {
            let connection = Connection::open(&ann, &url(&server), Value::Null).await;
            let wanted = Hlc::parse(&connection.wanted_after).micros;
            connection.end().await;
            // Nothing of its own lies between, whichever precision its clock has.
            (wanted >= Hlc::parse(&last).micros - 1).then_some(())
        })
        .await;
    }

    async fn two_devices_of_one_node_are_both_served_and_neither_is_believed(db: TestDatabase) {
        let server = serve(&db).await;
        fill(&db).await;
        let (mut one, mut two) = (node("copied"), node("copied"));
        let expected = rows(&db, "todos").await;
        let mut of_one = Connection::start(&one, &url(&server)).await;
        of_one.until(&mut one, |one| one.shown("todos") == expected).await;
        let mut of_two = Connection::start(&two, &url(&server)).await;
        // Both are heard, so they are two. The later one was taken for the same that has come back.
        let hlc = one.put("lists", json!({"id": 1, "name": "of one"}));
        of_one.send_change(&one, &hlc).await;
        wait_for_count(&db, "lists", 1).await;
        let hlc = two.put("lists", json!({"id": 2, "name": "of two"}));
        of_two.send_change(&two, &hlc).await;
        assert_eq!(of_two.closed().await, Some(1001));
        let mut of_two = Connection::open(&two, &url(&server), Value::Null).await;
        assert_eq!(Hlc::parse(&of_two.wanted_after).micros, 0);
        of_two.send_missed(&two).await;
        wait_for_count(&db, "lists", 2).await;
        of_two.until(&mut two, |two| two.shown("todos") == expected).await;
        see(&db, &mut of_one, &mut one, "seen").await;
        of_two.until(&mut two, |two| two.shown("todos")["0"]["title"] == "seen").await;
        of_one.end().await;
        of_two.end().await;
        // The next one begins again, in both directions.
        testkit::eventually("nothing is believed", || async {
            let connection = Connection::open(&one, &url(&server), Value::Null).await;
            let micros = Hlc::parse(&connection.wanted_after).micros;
            connection.end().await;
            (micros == 0).then_some(())
        })
        .await;
    }
}
