//! Transactions: what is rolled back is never captured.

use serde_json::json;

use super::watch::Watch;
use super::*;

const NOTES: &str = "CREATE TABLE notes (id integer PRIMARY KEY, body text)";

both_backends! {
    async fn a_rolled_back_transaction_leaves_nothing(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a')").await;
        watch
            .step(
                "BEGIN; INSERT INTO notes VALUES (2, 'b'); UPDATE notes SET body = 'c'; DELETE FROM notes; \
                 ROLLBACK",
            )
            .await;
        assert_eq!((watch.sent(), watch.entries()), (vec![], [].as_slice()));
        assert_eq!(watch.row("notes", "1")["body"], "a");

        // As above when it fails, or is left open.
        let failed = watch.db.try_execute("BEGIN; INSERT INTO notes VALUES (3, 'b'), (1, 'twice'); COMMIT").await;
        assert!(failed.is_err());
        watch.step("BEGIN; INSERT INTO notes VALUES (4, 'never committed')").await;
        assert_eq!((watch.sent(), watch.entries()), (vec![], [].as_slice()));
        assert_eq!(watch.keys("notes"), ["1"]);
    }

    /// Writes before and after the savepoint are sent, those inside it are not.
    async fn only_a_rolled_back_savepoint_is_left_out(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch
            .step(
                "BEGIN; INSERT INTO notes VALUES (1, 'before'); SAVEPOINT a; \
                 INSERT INTO notes VALUES (2, 'inside'); UPDATE notes SET body = 'inside'; \
                 ROLLBACK TO a; INSERT INTO notes VALUES (3, 'after'); \
                 SAVEPOINT b; INSERT INTO notes VALUES (4, 'kept'); RELEASE b; COMMIT",
            )
            .await;
        let mut sent = watch.sent();
        sent.sort_unstable();
        assert_eq!(sent, [("put", "1"), ("put", "3"), ("put", "4")]);
        assert_eq!(watch.entries().len(), 3);
        assert_eq!(watch.row("notes", "1")["body"], "before");

        watch
            .step("BEGIN; SAVEPOINT a; DELETE FROM notes; ROLLBACK TO a; RELEASE a; COMMIT")
            .await;
        assert_eq!((watch.sent(), watch.entries()), (vec![], [].as_slice()));
    }

    /// The tables of one transaction change at one cursor.
    async fn a_transaction_is_seen_whole(db: TestDatabase) {
        db.execute("CREATE TABLE accounts (id integer PRIMARY KEY, amount integer NOT NULL)").await;
        db.execute("CREATE TABLE vaults (id integer PRIMARY KEY, amount integer NOT NULL)").await;
        db.execute("INSERT INTO accounts VALUES (1, 1000); INSERT INTO vaults VALUES (1, 0)").await;
        let mut watch = Watch::start(db, ["accounts", "vaults"]).await;
        for _ in 0..50 {
            let transfer = "BEGIN; UPDATE accounts SET amount = amount - 1; UPDATE vaults SET amount = amount + 1; COMMIT";
            watch.db.execute(transfer).await;
        }
        let amount = |client: &testkit::SyncClient, entity: &str| {
            client.row(entity, "1").map_or(0, |row| row["amount"].as_i64().unwrap_or_default())
        };
        watch
            .client
            .wait_until(|client| {
                assert_eq!(amount(client, "accounts") + amount(client, "vaults"), 1000);
                amount(client, "vaults") == 50
            })
            .await;
        watch.settle().await;
        watch.compare().await;
    }

    /// A change that a client pushed names its mutation; other writers' changes name none, nor do later
    /// ones on the same connection.
    async fn changes_name_their_mutation(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let push = json!([{ "entity": "notes", "op": "create", "values": { "id": 1, "body": "mine" } }]);
        watch.client.push_next(push).await.acked();
        watch.step("INSERT INTO notes VALUES (2, 'theirs')").await;
        let log = "FROM _rhtmx_sync_log WHERE entity = 'notes' AND entity_id IS NOT NULL ORDER BY id";
        let mutations = watch.db.query_text(&format!("SELECT mutation {log}")).await;
        assert_eq!(mutations, [Some("1".to_owned()), None]);
        let clients = watch.db.query_text(&format!("SELECT client_id {log}")).await;
        assert_eq!(clients[1], None);
        assert_eq!(clients[0].as_deref(), watch.db.query_text("SELECT client_id FROM _rhtmx_sync_client").await[0].as_deref());
    }
}

on_postgres! {
    /// A PL/pgSQL block that catches an error is a savepoint too.
    async fn writes_before_a_caught_error_are_left_out(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch
            .step(
                "DO $$ BEGIN INSERT INTO notes VALUES (1, 'kept'); \
                 BEGIN INSERT INTO notes VALUES (2, 'gone'); RAISE EXCEPTION 'no'; \
                 EXCEPTION WHEN OTHERS THEN INSERT INTO notes VALUES (3, 'instead'); END; END $$",
            )
            .await;
        assert_eq!(watch.keys("notes"), ["1", "3"]);
        assert_eq!(watch.entries().len(), 2);
    }

    /// Constraints deferred to the commit, and the strictest isolation.
    async fn deferred_constraints_and_isolation_are_respected(db: TestDatabase) {
        db.execute("CREATE TABLE pairs (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, n integer)").await;
        let mut watch = Watch::start(db, ["pairs"]).await;
        watch.step("INSERT INTO pairs VALUES (1, 1), (2, 2)").await;
        // For a moment two rows have one key, so the entries cannot be undone one by one.
        watch
            .write("BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE pairs SET id = 2 WHERE n = 1; UPDATE pairs SET id = 1 WHERE n = 2; COMMIT")
            .await;
        watch.compare().await;
        assert_eq!(watch.row("pairs", "1")["n"], 2);
        let failed = watch.db.try_execute("BEGIN; UPDATE pairs SET id = 1; COMMIT").await;
        assert!(failed.is_err());
        watch.settle().await;
        watch.compare().await;
        assert_eq!(watch.entries(), []);
    }

    /// Transactions that commit in another order than they began, one of them late.
    async fn transactions_may_commit_out_of_order(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let (early, late) = (watch.db.connect_postgres().await, watch.db.connect_postgres().await);
        early.batch_execute("BEGIN; INSERT INTO notes VALUES (1, 'began first')").await.expect("the early transaction begins");
        late.batch_execute("BEGIN; INSERT INTO notes VALUES (2, 'began second'); COMMIT").await.expect("the late transaction commits");
        watch.settle().await;
        assert_eq!(watch.keys("notes"), ["2"]);
        watch.step("UPDATE notes SET body = 'x' WHERE id = 2").await;
        early.batch_execute("COMMIT").await.expect("the early transaction commits");
        watch.settle().await;
        watch.compare().await;
        assert_eq!(watch.sent(), [("put", "1")]);
    }
}
