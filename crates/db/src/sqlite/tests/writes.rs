//! Mutations: applied exactly once, or rejected with a code.

use std::sync::Arc;

use diesel_async::SimpleAsyncConnection as _;
use protocol::{Reject, RejectCode, Write};
use serde_json::{Value, json};
use sync_core::cursor::CommitId;
use sync_core::mutation::chain::{Place, WritesDigest};
use sync_core::mutation::{self, Applied};
use sync_core::policy::WriteColumns;
use uuid::Uuid;

use super::Synced;
use crate::error::DbResult;
use crate::sqlite::mutation::{apply_all, client_state};
use crate::write::{Mutation, TableScope, TableWrite};

const CLIENT: Uuid = Uuid::from_u128(7);

fn mutation(number: u64, text: &str, writes: Result<Vec<TableWrite>, Reject>) -> Mutation {
    Mutation {
        client_id: CLIENT,
        user_id: None,
        place: Place {
            number,
            claimed: None,
            digest: WritesDigest::of(text),
        },
        writes,
        merged: None,
    }
}

impl Synced {
    /// Applies these writes as the mutation with this number.
    async fn push(&mut self, number: u64, writes: Value) -> Applied {
        let text = writes.to_string();
        let writes: Vec<Write> = serde_json::from_value(writes).expect("writes");
        let checked = writes.iter().enumerate().map(|(index, write)| {
            let table = &self.entities[&write.entity];
            let schema = Some(table.schema.clone());
            let checked = mutation::check(write, schema, WriteColumns::ALL);
            let checked = checked.map_err(|reject| reject.of_write(index))?;
            let write = TableWrite::new(
                checked,
                table.clone(),
                TableScope::default(),
                Arc::default(),
            );
            Ok(write.expect("a table"))
        });
        let writes = checked.collect();
        self.apply(mutation(number, &text, writes))
            .await
            .expect("an answer")
    }

    async fn apply(&mut self, mutation: Mutation) -> DbResult<Applied> {
        let mut answers = apply_all(&mut self.conn, vec![mutation.into()], &Arc::default()).await;
        answers.remove(0)
    }

    /// Applies a mutation that must commit, and follows.
    async fn committed(&mut self, number: u64, writes: Value) {
        match self.push(number, writes).await {
            Applied::Committed {
                commit_id: Some(CommitId::LogId(id)),
                ..
            } => assert_eq!(id, self.newest_id()),
            other => panic!("{other:?}"),
        }
        self.follow().await;
    }

    /// Applies a mutation that must be rejected; returns the code, the write and the column of the reject.
    async fn rejected(
        &mut self,
        number: u64,
        writes: Value,
    ) -> (RejectCode, Option<usize>, Option<String>) {
        let before = self.newest_id();
        match self.push(number, writes).await {
            Applied::Rejected(Reject {
                code,
                message,
                write,
                column,
                ..
            }) => {
                assert!(
                    !message.contains("constraint failed") && !message.contains("SQL"),
                    "{message}"
                );
                assert_eq!(self.log(before), []);
                assert_eq!(
                    self.ask("SELECT client_id AS text FROM _rhtmx_sync_mutation")
                        .len(),
                    0
                );
                (code, write, column)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_stored_in_the_type_of_their_column() {
    let mut synced = Synced::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, i INT, b BOOLEAN, r REAL, n NUMERIC, s TEXT, u \
         UUID, d DATE, \
         ts TIMESTAMP, x BLOB, j JSON, o, os, oj)",
        "t",
    )
    .await;
    synced
        .committed(
            1,
            json!([{"entity": "e", "op": "create", "values": {
                "id": 1, "i": "9007199254740993", "b": true, "r": "Infinity", "n": "12.5",
                "s": "it's \"é\"", "u": "67e55044-10b1-426f-9247-bb680e5fe0c8", "d": "2026-11-20",
                "ts": "2026-11-20T07:00:00.5+02:00",
                "x": "AAH/", "j": {"a": [1, null]}, "o": 5, "os": "5", "oj": [true]}}]),
        )
        .await;
    let types = synced.ask(
        "SELECT concat_ws(' ', typeof(i), typeof(b), typeof(r), typeof(n), typeof(s), typeof(u), \
         typeof(d), typeof(ts), \
         typeof(x), typeof(j), typeof(o), typeof(os), typeof(oj)) AS text FROM t",
    );
    assert_eq!(
        types,
        ["integer integer real real text text text text blob text integer text text"]
    );
    let (_, rows) = synced.rows().await;
    assert_eq!(
        rows["1"],
        json!({"id": 1, "i": "9007199254740993", "b": true, "r": "Infinity", "n": 12.5,
            "s": "it's \"é\"", "u": "67e55044-10b1-426f-9247-bb680e5fe0c8", "d": "2026-11-20",
            "ts": "2026-11-20T05:00:00.5+00:00",
            "x": "AAH/", "j": {"a": [1, null]}, "o": 5, "os": "5", "oj": "[true]"})
    );
    let nulls = json!({"i": null, "b": null, "r": "NaN", "n": 7, "s": null, "x": null, "j": null});
    synced
        .committed(
            2,
            json!([{"entity": "e", "op": "update", "key": 1, "values": nulls}]),
        )
        .await;
    assert_eq!(synced.copy["1"]["r"], "NaN");
    assert_eq!(synced.copy["1"]["j"], Value::Null);
}

/// Every form of a time that is accepted is stored so that SQLite can calculate with it.
#[tokio::test(flavor = "multi_thread")]
async fn times_are_stored_with_all_their_parts() {
    let mut synced = Synced::new("CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME)", "t").await;
    for (number, (sent, read)) in (1..).zip([
        ("2026-11-20T07:00", "2026-11-20T07:00:00+00:00"),
        ("2026-11-20 07:00:30.25Z", "2026-11-20T07:00:30.25+00:00"),
        ("2026-11-20T07:00+02", "2026-11-20T05:00:00+00:00"),
        ("2026-11-20T23:30:00-08", "2026-11-21T07:30:00+00:00"),
        ("2026-11-20T07:00:00.1+05:30", "2026-11-20T01:30:00.1+00:00"),
        ("-infinity", "-infinity"),
    ]) {
        let write = json!({"entity": "e", "op": "upsert", "key": 1, "values": {"at": sent}});
        synced.committed(number, json!([write])).await;
        assert_eq!(synced.only("at").await, read, "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_is_applied_once_and_its_entries_carry_its_id() {
    let mut synced = Synced::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v INT)", "t").await;
    let create = json!([{"entity": "e", "op": "create", "values": {"v": 1}}]);
    synced.committed(1, create.clone()).await;
    let first = synced.newest_id();
    let again = synced.push(1, create.clone()).await;
    assert!(
        matches!(again, Applied::Committed { commit_id: Some(CommitId::LogId(id)), .. } if id == first),
    );
    assert_eq!(synced.newest_id(), first);
    let mutation_ids = "SELECT client_id || ' ' || mutation AS text FROM _rhtmx_sync_log WHERE \
        client_id IS NOT NULL";
    assert_eq!(synced.ask(mutation_ids), [format!("{CLIENT} 1")]);
    synced.run("INSERT INTO t (v) VALUES (2)");
    assert_eq!(synced.ask(mutation_ids).len(), 1);
    let other = json!([{"entity": "e", "op": "create", "values": {"v": 2}}]);
    let forked = synced.push(1, other).await;
    assert!(
        matches!(
            forked,
            Applied::Rejected(Reject {
                code: RejectCode::Forked,
                ..
            })
        ),
        "{forked:?}"
    );
    let ahead = synced.push(9, create.clone()).await;
    assert!(
        matches!(
            ahead,
            Applied::Rejected(Reject {
                code: RejectCode::OutOfOrder,
                expected: Some(2),
                ..
            })
        ),
        "{ahead:?}"
    );
    let absent = json!([{"entity": "e", "op": "delete", "key": 99}]);
    let not_found = (RejectCode::NotFound, Some(0), None);
    assert_eq!(synced.rejected(2, absent.clone()).await, not_found);
    assert_eq!(synced.rejected(2, absent).await, not_found);
    assert_eq!(
        client_state(&mut synced.conn, &CLIENT.to_string())
            .await
            .expect("a client")
            .chains
            .last(),
        2
    );
    synced.committed(3, create).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_works_with_every_type_of_key() {
    for (table, key, created) in [
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY, v INT, w INT)",
            json!("it's"),
            json!({"k": "it's"}),
        ),
        (
            "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v INT, w INT)",
            json!("A"),
            json!({"k": "A"}),
        ),
        (
            "CREATE TABLE t (k INT PRIMARY KEY, v INT, w INT)",
            json!("9223372036854775807"),
            json!({"k": "9223372036854775807"}),
        ),
        (
            "CREATE TABLE t (k BLOB PRIMARY KEY, v INT, w INT) WITHOUT ROWID",
            json!("AAE="),
            json!({"k": "AAE="}),
        ),
        (
            "CREATE TABLE t (k BOOLEAN PRIMARY KEY, v INT, w INT)",
            json!("true"),
            json!({"k": true}),
        ),
        (
            "CREATE TABLE t (k REAL PRIMARY KEY, v INT, w INT)",
            json!("0.30000000000000004"),
            json!({"k": 0.1 + 0.2}),
        ),
        (
            "CREATE TABLE t (k PRIMARY KEY, v INT, w INT)",
            json!("5"),
            json!({"k": "5"}),
        ),
        (
            "CREATE TABLE t (k PRIMARY KEY, v INT, w INT)",
            json!("x"),
            json!({"k": "x"}),
        ),
        (
            "CREATE TABLE t (a INT, b BLOB, v INT, w INT, PRIMARY KEY (b, a))",
            json!(["AAE=", 3]),
            json!({"a": 3, "b": "AAE="}),
        ),
        (
            "CREATE TABLE t (a TEXT, v INT, b, w INT, PRIMARY KEY (a, b)) WITHOUT ROWID",
            json!("[\"x\",\"5\"]"),
            json!({"a": "x", "b": "5"}),
        ),
    ] {
        let mut synced = Synced::new(table, "t").await;
        let write =
            |op: &str, to: Value| json!([{"entity": "e", "op": op, "key": key, "values": to}]);
        synced
            .committed(
                1,
                json!([{"entity": "e", "op": "create", "values": created}]),
            )
            .await;
        assert_eq!(
            synced.rejected(2, write("create", created.clone())).await,
            (RejectCode::Exists, Some(0), None),
            "{table}"
        );
        synced
            .committed(3, write("update", json!({"v": 1, "w": 2})))
            .await;
        synced.committed(4, write("upsert", json!({"v": 5}))).await;
        synced.committed(5, write("upsert", json!({}))).await;
        let row = synced.copy.values().next().expect("a row").clone();
        assert_eq!((&row["v"], &row["w"]), (&json!(5), &json!(2)), "{table}");
        synced
            .committed(6, json!([{"entity": "e", "op": "delete", "key": key}]))
            .await;
        assert!(synced.copy.is_empty());
        synced.committed(7, write("upsert", json!({"v": 6}))).await;
        assert_eq!(synced.copy.len(), 1, "{table}");
    }
}

/// A key that is equal only under the column's collation is another row's.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_finds_its_row_byte_by_byte() {
    let mut synced = Synced::new(
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v INT)",
        "t",
    )
    .await;
    synced.run("INSERT INTO t VALUES ('a', 1)");
    let not_found = (RejectCode::NotFound, Some(0), None);
    let update = json!([{"entity": "e", "op": "update", "key": "A", "values": {"v": 2}}]);
    assert_eq!(synced.rejected(1, update).await, not_found);
    let delete = json!([{"entity": "e", "op": "delete", "key": "A"}]);
    assert_eq!(synced.rejected(2, delete).await, not_found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_names_the_write_and_the_column() {
    let mut synced = Synced::new(
        "CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b TEXT, c TEXT, n INT CHECK (n \
         BETWEEN 1 AND 9), m INT,
            list INT REFERENCES lists, r TEXT, d TEXT NOT NULL DEFAULT 'd', UNIQUE (b, c), \
            CONSTRAINT \"m fits\" CHECK (length(r) < 3 AND m > 0));
         CREATE TRIGGER rule BEFORE INSERT ON t WHEN NEW.r = '!' BEGIN SELECT RAISE(ABORT, \
         'cannot be: near the table'); END;
         INSERT INTO lists VALUES (1, 'l');
         INSERT INTO t (id, a, b, c, list) VALUES (1, 'a', 'b', 'c', 1)",
        "t",
    )
    .await;
    synced.install("l", "lists").await;
    synced.refetch().await;
    let ok = json!({"entity": "e", "op": "create", "values": {"a": "fine"}});
    let constraint =
        |column: Option<&str>| (RejectCode::Constraint, Some(1), column.map(str::to_owned));
    let mut number = 0;
    for (write, reject) in [
        (
            json!({"op": "create", "values": {"a": "a"}}),
            constraint(Some("a")),
        ),
        (
            json!({"op": "create", "values": {"b": "b", "c": "c"}}),
            constraint(Some("b")),
        ),
        (
            json!({"op": "create", "values": {"n": 10}}),
            constraint(Some("n")),
        ),
        (
            json!({"op": "create", "values": {"m": 0}}),
            constraint(Some("m")),
        ),
        (
            json!({"op": "create", "values": {"r": "long"}}),
            constraint(Some("r")),
        ),
        (
            json!({"op": "create", "values": {"r": "!"}}),
            constraint(None),
        ),
        (
            json!({"op": "create", "values": {"list": 5}}),
            constraint(Some("list")),
        ),
        (
            json!({"op": "update", "key": 1, "values": {"list": 5}}),
            constraint(Some("list")),
        ),
        (
            json!({"entity": "l", "op": "delete", "key": 1}),
            constraint(None),
        ),
        (
            json!({"op": "create", "values": {"id": 1}}),
            (RejectCode::Exists, Some(1), None),
        ),
        (
            json!({"op": "update", "key": 1, "values": {"d": null}}),
            constraint(Some("d")),
        ),
        (
            json!({"op": "update", "key": 7, "values": {"a": "x"}}),
            (RejectCode::NotFound, Some(1), None),
        ),
    ] {
        number += 1;
        let mut write = write;
        if write.get("entity").is_none() {
            write["entity"] = json!("e");
        }
        assert_eq!(
            synced.rejected(number, json!([ok, write])).await,
            reject,
            "{write}"
        );
        synced.follow().await;
        assert_eq!(synced.copy.len(), 1);
    }
    synced.committed(number + 1, json!([ok])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_strict_table_refuses_is_rejected() {
    let mut synced = Synced::new(
        "CREATE TABLE t (id TEXT PRIMARY KEY, i INT, r REAL) STRICT",
        "t",
    )
    .await;
    let nan = json!([{"entity": "e", "op": "create", "values": {"id": "k", "r": "NaN"}}]);
    assert_eq!(
        synced.rejected(1, nan).await,
        (RejectCode::Invalid, Some(0), Some("r".to_owned()))
    );
    // A trigger that fails because its table is gone is not the client's fault: the mutation stays open.
    synced.run(
        "CREATE TABLE gone (a); CREATE TRIGGER broken AFTER INSERT ON t BEGIN INSERT INTO \
        gone VALUES (1); END; \
                PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'gone'; \
                PRAGMA writable_schema = RESET",
    );
    let _ = synced.conn.batch_execute("PRAGMA user_version").await;
    let write = json!({"entity": "e", "op": "create", "values": {"id": "k"}});
    let write: Write = serde_json::from_value(write).expect("a write");
    let schema = synced.entities["e"].schema.clone();
    let checked = mutation::check(&write, Some(schema), WriteColumns::ALL).expect("it fits");
    let table = synced.entities["e"].clone();
    let write =
        TableWrite::new(checked, table, TableScope::default(), Arc::default()).expect("a table");
    let writes = Ok(vec![write]);
    synced
        .apply(mutation(2, "broken", writes))
        .await
        .expect_err("an error");
}

/// Deferred constraints are checked at the commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_whose_commit_fails_is_rejected() {
    let mut synced = Synced::new(
        "CREATE TABLE lists (id INTEGER PRIMARY KEY);
         CREATE TABLE t (id INTEGER PRIMARY KEY,
             list INT REFERENCES lists DEFERRABLE INITIALLY DEFERRED)",
        "t",
    )
    .await;
    synced.install("l", "lists").await;
    synced.refetch().await;
    let orphan = json!([{"entity": "e", "op": "create", "values": {"list": 5}}]);
    assert_eq!(
        synced.rejected(1, orphan.clone()).await.0,
        RejectCode::Constraint
    );
    assert_eq!(
        synced.rejected(1, orphan.clone()).await.0,
        RejectCode::Constraint
    );
    // With its parent the constraint holds at the commit.
    let parent = json!({"entity": "l", "op": "create", "values": {"id": 5}});
    synced.committed(2, json!([orphan[0], parent])).await;
}

/// The database ends the transaction; the mutation must still be answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_that_rolls_the_transaction_back_is_rejected() {
    let mut synced = Synced::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT UNIQUE ON CONFLICT ROLLBACK);
         CREATE TRIGGER rule BEFORE INSERT ON t WHEN NEW.v = 13
         BEGIN SELECT RAISE(ROLLBACK, 'no'); END;
         INSERT INTO t VALUES (1, 7)",
        "t",
    )
    .await;
    for (number, v) in [(1, 13), (2, 7)] {
        let create = json!([{"entity": "e", "op": "create", "values": {"v": v}}]);
        assert_eq!(
            synced.rejected(number, create).await.0,
            RejectCode::Constraint
        );
    }
    synced
        .committed(
            3,
            json!([{"entity": "e", "op": "create", "values": {"v": 8}}]),
        )
        .await;
}
