//! Who is added to a list receives its rows, and who is removed loses them, at the cursor of the membership itself.

use rhtmx_sync::EntityPolicy;
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{SyncClient, both_backends};

use super::{
    ROWS, TABLES, all, config, keys, mark, next_changes, serve, subscriber, tables, user, usual,
    wait_keys, with_internal_members,
};
use crate::claims::options;

both_backends! {
    async fn rows_come_and_go_at_the_cursor_of_the_membership(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (subscriber(&server, "ann").await, subscriber(&server, "ben").await);
        assert_eq!((keys(&ann), keys(&ben)), (vec!["1", "2"], vec!["3", "4"]));
        for (statement, changes) in [
            ("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')", &["m put 5", "t put 3", "t put 4"][..]),
            ("DELETE FROM list_members WHERE id = 5", &["m delete 5", "t leave 3", "t leave 4"]),
            // To another list, and to another user.
            ("UPDATE list_members SET list_id = 2 WHERE id = 1", &["m put 1", "t leave 1", "t leave 2", "t put 3", "t put 4"]),
            ("UPDATE list_members SET user_id = 'cleo' WHERE id = 1", &["m leave 1", "t leave 3", "t leave 4"]),
            ("UPDATE list_members SET user_id = 'ann', list_id = 1 WHERE id = 1", &["m put 1", "t put 1", "t put 2"]),
            // A row moves.
            ("UPDATE todos SET list_id = 1 WHERE id = 3", &["t put 3"]),
            ("UPDATE todos SET list_id = 2 WHERE id = 3", &["t leave 3"]),
            ("UPDATE todos SET list_id = NULL WHERE id = 2", &["t leave 2"]),
            ("UPDATE todos SET list_id = 1 WHERE id = 2", &["t put 2"]),
            // The rows change in the transaction that moves them.
            ("BEGIN; INSERT INTO list_members VALUES (5, 2, 'ann', 'reader'); UPDATE todos SET title = 'x' WHERE id = 3; \
              DELETE FROM todos WHERE id = 4; INSERT INTO todos VALUES (6, 2, 'f'); COMMIT", &["m put 5", "t put 3", "t put 6"]),
            ("BEGIN; UPDATE todos SET list_id = 1 WHERE id = 3; DELETE FROM list_members WHERE id = 5; COMMIT", &["m delete 5", "t leave 6"]),
            // The list goes, with its members.
            ("DELETE FROM lists WHERE id = 1", &["m delete 1", "t leave 1", "t leave 2", "t leave 3"]),
        ] {
            db.execute(statement).await;
            let mut arrived = next_changes(&mut ann).await;
            // A row that only changed its list may be sent, or not.
            arrived.retain(|change| !(statement.contains("list_id = 1 WHERE id = 3; DELETE") && change == "t put 3"));
            assert_eq!(arrived, changes, "{statement}");
        }
        mark(&db, &mut [&mut ann, &mut ben], 1).await;
        assert_eq!((keys(&ann), keys(&ben)), (vec![], vec!["6"]));
        assert_eq!(ann.frames("refetch"), 0);
        assert!(!ben.transcript().contains("leave\",\"key\":\"1\""), "{}", ben.transcript());
    }

    async fn a_membership_that_is_taken_and_given_again_sends_nothing(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = subscriber(&server, "ann").await;
        for (number, statements) in [
            "DELETE FROM list_members WHERE id = 1; INSERT INTO list_members VALUES (8, 1, 'ann', 'reader')",
            "UPDATE list_members SET id = 1 WHERE id = 8",
            "UPDATE list_members SET user_id = 'ben' WHERE id = 1; UPDATE list_members SET user_id = 'ann' WHERE id = 1",
            "INSERT INTO list_members VALUES (9, 2, 'ann', 'reader'); DELETE FROM list_members WHERE id = 9",
            "UPDATE list_members SET list_id = 2 WHERE id = 1; UPDATE list_members SET list_id = 1 WHERE id = 1",
            // A second one, and then one of the two.
            "INSERT INTO list_members VALUES (8, 1, 'ann', 'writer')",
            "DELETE FROM list_members WHERE id = 1",
            "UPDATE list_members SET role = 'reader'",
        ].into_iter().enumerate() {
            let number = number + 1;
            db.execute(&format!("BEGIN; {statements}; INSERT INTO notes VALUES ({number}, ''); COMMIT")).await;
            let mut changes = next_changes(&mut ann).await;
            changes.retain(|change| !change.starts_with('m'));
            assert_eq!(changes, [format!("n put {number}")], "{statements}");
        }
        assert_eq!(keys(&ann), ["1", "2"]);
    }

    async fn a_member_in_two_ways_loses_nothing_with_one(db: TestDatabase) {
        tables(&db).await;
        let mut policies = usual();
        policies.retain(|(name, _)| *name != "todos");
        let either = "list_id IN (SELECT list_id FROM list_members WHERE user_id = auth.sub) \
            OR list_id IN (SELECT id FROM lists WHERE name = auth.sub) OR title = auth.sub";
        policies.push(("todos", all(either)));
        let server = TestServer::with_config(config(&db, policies).await).await;
        let mut ann = subscriber(&server, "ann").await;
        for (number, (statement, changes)) in [
            ("UPDATE lists SET name = 'ann' WHERE id = 1", &[][..]),
            ("DELETE FROM list_members WHERE user_id = 'ann'", &["m delete 1"]),
            ("UPDATE lists SET name = 'ben' WHERE id = 1", &["t leave 1", "t leave 2"]),
            ("UPDATE lists SET name = 'ann' WHERE id = 1", &["t put 1", "t put 2"]),
            ("INSERT INTO list_members VALUES (1, 1, 'ann', 'reader')", &["m put 1"]),
            ("UPDATE lists SET name = ''", &[]),
            ("BEGIN; UPDATE lists SET name = 'ann' WHERE id = 1; DELETE FROM list_members WHERE user_id = 'ann'; COMMIT", &["m delete 1"]),
            ("UPDATE todos SET title = 'ann' WHERE id = 1", &["t put 1"]),
            ("UPDATE lists SET name = '' WHERE id = 1", &["t leave 2"]),
        ].into_iter().enumerate() {
            let number = number + 1;
            let statement = statement.trim_start_matches("BEGIN; ").trim_end_matches("; COMMIT");
            db.execute(&format!("BEGIN; {statement}; INSERT INTO notes VALUES ({number}, ''); COMMIT")).await;
            let mut expected: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            expected.push(format!("n put {number}"));
            expected.sort();
            assert_eq!(next_changes(&mut ann).await, expected, "{statement}");
        }
    }

    /// Policies may name what is never served.
    async fn an_internal_entity_decides_and_is_never_served(db: TestDatabase) {
        tables(&db).await;
        let server = TestServer::with_config(with_internal_members(&db).await).await;
        let mut ann = SyncClient::connect(&server.ws_url(), options(&user("ann"))).await;
        for (id, entity) in [("t", "todos"), ("n", "notes")] {
            ann.subscribe(id, entity).await;
            ann.wait_subscribed(id).await;
        }
        db.execute("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')").await;
        assert_eq!(next_changes(&mut ann).await, ["t put 3", "t put 4"]);
        ann.subscribe("internal", "list_members").await;
        assert_eq!(ann.wait_refused("internal").await, "unknown_entity");
        ann.subscribe("missing", "no_such_entity").await;
        assert_eq!(ann.wait_refused("missing").await, "unknown_entity");
        for (id, entity) in [("by", "list_members"), ("by nothing", "no_such_entity")] {
            let filter = format!("list_id IN (SELECT list_id FROM {entity})");
            ann.subscribe_with(id, json!({ "entity": "todos", "where": filter })).await;
            assert_eq!(ann.wait_refused(id).await, "bad_filter");
        }
        let said: Vec<String> = ann.errors().iter().map(|error| {
            error["message"].as_str().expect("a text").replace("list_members", "X").replace("no_such_entity", "X")
        }).collect();
        assert_eq!((&said[0], &said[2]), (&said[1], &said[3]));
        let http = crate::membership::doors::http(&server, "ann");
        let answers = [http.get("/api/sync/list_members").await, http.get("/api/sync/no_such_entity").await];
        assert_eq!(answers[0].status, answers[1].status);
        let write = json!([{ "entity": "list_members", "op": "create", "values": { "id": 9, "list_id": 2, "user_id": "ann" } }]);
        assert_eq!(ann.push_next(write).await.rejected().code, "unknown_entity");
        db.execute("DELETE FROM list_members").await;
        wait_keys(&mut ann, &[]).await;
        assert!(!ann.transcript().contains("reader"), "{}", ann.transcript());
    }

    /// A policy reads its inner tables whole; a client's own filter reads them as its user may.
    async fn a_filters_subquery_reads_what_its_user_may(db: TestDatabase) {
        for statement in TABLES.into_iter().chain(ROWS) {
            db.execute(statement).await;
        }
        db.execute("INSERT INTO list_members VALUES (3, 1, 'ben', 'reader'), (4, NULL, 'ben', 'reader')").await;
        let everything = |read: &str| EntityPolicy { read: Some(read.to_owned()), ..EntityPolicy::default() };
        let policies = vec![
            // The policy sees Ben's memberships, too: those of lists that Ann shares with him.
            ("todos", everything("list_id NOT IN (SELECT id FROM lists WHERE name = 'secret') OR list_id IS NULL")),
            ("list_members", everything("user_id = auth.sub")),
            ("lists", everything("id IN (SELECT list_id FROM list_members WHERE user_id = auth.sub)")),
            ("notes", everything("TRUE")),
        ];
        let server = TestServer::with_config(config(&db, policies).await).await;
        let mut ann = SyncClient::connect(&server.ws_url(), options(&user("ann"))).await;
        for (id, filter) in [
            ("t", "list_id IN (SELECT list_id FROM list_members)"),
            // A null of Ben's does not count.
            ("not", "list_id NOT IN (SELECT list_id FROM list_members)"),
            ("of ben", "list_id IN (SELECT list_id FROM list_members WHERE user_id = 'ben')"),
            ("any", "EXISTS (SELECT 1 FROM list_members WHERE user_id = 'ben')"),
            ("lists", "list_id IN (SELECT id FROM lists)"),
        ] {
            ann.subscribe_with(id, json!({ "entity": "todos", "where": filter })).await;
            ann.wait_subscribed(id).await;
        }
        ann.subscribe("n", "notes").await;
        let held = |ann: &SyncClient| ["t", "not", "of ben", "any", "lists"].map(|id| {
            ann.rows(id).keys().cloned().collect::<Vec<_>>().join("")
        });
        assert_eq!(held(&ann), ["12", "34", "", "", "12"]);
        db.execute("INSERT INTO list_members VALUES (5, 2, 'ben', 'writer')").await;
        mark(&db, &mut [&mut ann], 1).await;
        assert_eq!(held(&ann), ["12", "34", "", "", "12"]);
        db.execute("INSERT INTO list_members VALUES (6, 2, 'ann', 'writer')").await;
        mark(&db, &mut [&mut ann], 2).await;
        assert_eq!(held(&ann), ["1234", "", "", "", "1234"]);
        db.execute("UPDATE lists SET name = 'secret' WHERE id = 1").await;
        mark(&db, &mut [&mut ann], 3).await;
        assert_eq!(held(&ann), ["34", "", "", "", "34"]);
        assert_eq!(ann.frames("refetch"), 0);
    }
}
