//! Writes within policies, and what a reject tells of rows that one may not read.

use rhtmx_sync::EntityPolicy;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, SyncClient, TestDatabase, both_backends};

use super::{config, http, serve, sign_in, tables, titles, user};
use crate::tables::rows;
use crate::writes::{create, delete, update, upsert};

/// Everything that a reject tells.
async fn told(
    client: &mut SyncClient,
    write: &Value,
) -> (String, String, Option<u64>, Option<String>) {
    let rejection = client.push_next(json!([write])).await.rejected().clone();
    (
        rejection.code,
        rejection.message,
        rejection.write,
        rejection.column,
    )
}

both_backends! {
    async fn a_write_to_a_row_that_one_may_not_read_is_answered_as_one_to_a_row_that_does_not_exist(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        let before = titles(&db).await;
        let values = |title: &str| json!({ "title": title });
        for write in [
            (|key| update("todos", key, json!({ "title": "x" }))) as fn(u32) -> Value,
            |key| update("todos", key, json!({ "code": "a1" })),
            |key| update("todos", key, json!({ "code": "b1", "secret_note": null })),
            |key| update("todos", key, json!({ "owner_id": "ann" })),
            |key| delete("todos", key),
        ] {
            let (hidden, absent) = (told(&mut ann, &write(3)).await, told(&mut ann, &write(99)).await);
            assert_eq!(hidden, absent, "{}", write(3));
            assert_eq!(hidden.0, "not_found");
        }
        // A row that one may read and not write is no secret.
        for write in [update("todos", 4, values("x")), delete("todos", 4)] {
            assert_eq!(told(&mut ann, &write).await.0, "forbidden", "{write}");
        }
        // A key that is taken by a row that one may not read is one that one may not write.
        for write in [create("todos", json!({ "id": 3, "title": "x" })), upsert("todos", json!({ "id": 3, "title": "x" })), upsert("todos", json!({ "id": 3 }))] {
            assert_eq!(told(&mut ann, &write).await.0, "forbidden", "{write}");
        }
        assert_eq!(told(&mut ann, &create("todos", json!({ "id": 1, "title": "x" }))).await.0, "exists");
        assert_eq!(titles(&db).await, before);
    }

    async fn values_that_one_may_not_write_find_out_nothing_about_others(db: TestDatabase) {
        tables(&db).await;
        let policy = EntityPolicy {
            read: Some("owner_id = auth.sub".to_owned()),
            create: Some("owner_id = auth.sub AND visibility = 'private'".to_owned()),
            update: Some("owner_id = auth.sub AND visibility = 'private'".into()),
            ..EntityPolicy::default()
        };
        let server = TestServer::with_config(config(&db, policy).await).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        let before = titles(&db).await;
        // The values do not pass the check, so whether a key or a code is taken is not told.
        for (taken, free) in [
            (create("todos", json!({ "id": 3, "owner_id": "ben", "title": "x" })), create("todos", json!({ "id": 90, "owner_id": "ben", "title": "x" }))),
            (create("todos", json!({ "id": 90, "owner_id": "ann", "visibility": "public", "title": "x", "code": "b1" })), create("todos", json!({ "id": 90, "owner_id": "ann", "visibility": "public", "title": "x", "code": "zz" }))),
            (update("todos", 1, json!({ "owner_id": "ben", "code": "b1" })), update("todos", 1, json!({ "owner_id": "ben", "code": "zz" }))),
            (upsert("todos", json!({ "id": 1, "owner_id": "ben", "title": "x", "code": "b1" })), upsert("todos", json!({ "id": 1, "owner_id": "ben", "title": "x", "code": "zz" }))),
        ] {
            assert_eq!(told(&mut ann, &taken).await, told(&mut ann, &free).await, "{taken}");
        }
        // One that does is told of the column, and of no value.
        let mine = json!({ "id": 90, "owner_id": "ann", "visibility": "private", "title": "x", "code": "b1" });
        let found = told(&mut ann, &create("todos", mine)).await;
        assert_eq!((found.0.as_str(), found.3.as_deref()), ("constraint", Some("code")));
        assert!(!found.1.contains("b1") && !found.1.contains("ben"), "{}", found.1);
        let found = told(&mut ann, &update("todos", 1, json!({ "code": "b1" }))).await;
        assert_eq!((found.0.as_str(), found.3.as_deref()), ("constraint", Some("code")));
        assert_eq!(titles(&db).await, before);
    }

    /// The way of many rows is no other than that of one, as it was in CVE-2022-46792 and CVE-2026-82746.
    async fn each_write_of_a_mutation_is_checked_on_every_way_in(db: TestDatabase) {
        let server = serve(&db).await;
        let before = titles(&db).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        let http = http(&server, &user("ann"));
        let fine = create("todos", json!({ "id": 40, "title": "fine" }));
        for (bad, code) in [
            (update("todos", 3, json!({ "title": "x" })), "not_found"),
            (update("todos", 4, json!({ "title": "x" })), "forbidden"),
            (update("todos", 1, json!({ "owner_id": "ben" })), "forbidden"),
            (delete("todos", 3), "not_found"),
            (create("todos", json!({ "id": 41, "owner_id": "ben", "title": "x" })), "forbidden"),
            (upsert("todos", json!({ "id": 3, "title": "x" })), "forbidden"),
            (upsert("todos", json!({ "id": 41, "owner_id": "ben", "title": "x" })), "forbidden"),
        ] {
            let writes = json!([fine, bad, fine]);
            let told = ann.push_next(writes.clone()).await.rejected().clone();
            assert_eq!((told.code.as_str(), told.write), (code, Some(1)), "{bad}");
            let body = json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": writes });
            let answer = http.post("/api/sync/todos", &body).await.json();
            assert_eq!((&answer["code"], &answer["write"], &answer["message"]), (&json!(code), &json!(1), &json!(told.message)), "{bad}");
        }
        assert_eq!(titles(&db).await, before);
    }

    /// CVE-2026-129239: a check of the row before it was merged.
    async fn the_check_sees_the_row_as_the_tables_own_triggers_leave_it(db: TestDatabase) {
        let server = serve(&db).await;
        // Titles that begin with `gift` are given away.
        for statement in match db.backend() {
            Backend::Postgres => vec![
                "CREATE FUNCTION give() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.title LIKE 'gift%' THEN new.owner_id := 'ben'; END IF; RETURN new; END $$",
                "CREATE TRIGGER give BEFORE INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION give()",
                "CREATE FUNCTION give_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.title = 'later' AND new.owner_id <> 'ben' THEN UPDATE todos SET owner_id = 'ben' WHERE id = new.id; END IF; RETURN NULL; END $$",
                "CREATE TRIGGER give_later AFTER INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION give_later()",
            ],
            Backend::Sqlite => vec![
                "CREATE TRIGGER give AFTER INSERT ON todos WHEN new.title IN ('gift', 'later') BEGIN UPDATE todos SET owner_id = 'ben' WHERE id = new.id; END",
                "CREATE TRIGGER give_later AFTER UPDATE OF title ON todos WHEN new.title IN ('gift', 'later') BEGIN UPDATE todos SET owner_id = 'ben' WHERE id = new.id; END",
            ],
        } {
            db.execute(statement).await;
        }
        let mut ann = sign_in(&server, &user("ann")).await;
        let before = titles(&db).await;
        for title in ["gift", "later"] {
            for write in [
                create("todos", json!({ "id": 10, "title": title })),
                upsert("todos", json!({ "id": 10, "title": title })),
                upsert("todos", json!({ "id": 1, "title": title })),
                update("todos", 1, json!({ "title": title })),
            ] {
                let outcome = ann.push_next(json!([create("todos", json!({ "id": 30, "title": "with it" })), write])).await;
                assert_eq!((outcome.rejected().code.as_str(), outcome.rejected().write), ("forbidden", Some(1)), "{write}");
            }
        }
        assert_eq!(titles(&db).await, before);
    }

    async fn writes_within_the_policies_are_applied(db: TestDatabase) {
        let server = serve(&db).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        for writes in [
            json!([create("todos", json!({ "id": 10, "title": "new" })), update("todos", 10, json!({ "title": "newer", "secret_note": "é \"😀\" \\" }))]),
            json!([upsert("todos", json!({ "id": 11, "title": "up" })), upsert("todos", json!({ "id": 11, "title": "up again", "visibility": "public" }))]),
            json!([upsert("todos", json!({ "id": 1 })), update("todos", 1, json!({ "title": "changed" }))]),
            json!([delete("todos", 2)]),
        ] {
            ann.push_next(writes).await.acked();
        }
        let rows = rows(&db, "todos", &["id", "owner_id", "title", "secret_note", "visibility"]).await;
        let keys: Vec<&str> = rows.keys().map(String::as_str).collect();
        assert_eq!(keys, ["1", "10", "11", "3", "4"]);
        assert_eq!((&rows["10"]["title"], &rows["10"]["secret_note"]), (&json!("newer"), &json!("é \"😀\" \\")));
        assert_eq!((&rows["11"]["title"], &rows["11"]["owner_id"]), (&json!("up again"), &json!("ann")));
        assert_eq!((&rows["1"]["title"], &rows["1"]["secret_note"]), (&json!("changed"), &json!("secret of ann")));
    }
}

/// Runs a write while another transaction is open that touches its row and commits then.
async fn write_behind(db: &TestDatabase, others: &str, write: &Value) -> (String, Option<Value>) {
    let server = serve(db).await;
    let mut ann = sign_in(&server, &user("ann")).await;
    let other = db.connect_postgres().await;
    other
        .batch_execute(&format!("BEGIN; {others}"))
        .await
        .expect("others write");
    ann.send_push(1, json!([write])).await;
    // The mutation waits for the other transaction.
    testkit::eventually("the mutation waits", async || {
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        (db.query_text(waiting).await[0].as_deref() != Some("0")).then_some(())
    })
    .await;
    other.batch_execute("COMMIT").await.expect("others commit");
    ann.wait_answered().await;
    let outcome = ann.outcome(1).expect("an answer").rejected().code.clone();
    (
        outcome,
        rows(db, "todos", &["id", "owner_id", "title"])
            .await
            .remove("50"),
    )
}

/// A row comes in between the look for it and the write.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_row_that_comes_while_its_key_is_written_stays_as_it_is() {
    let bens = json!({ "id": 50, "owner_id": "ben", "title": "of ben" });
    for keys_only in [false, true] {
        let db = TestDatabase::postgres().await;
        let insert = "INSERT INTO todos (id, owner_id, title) VALUES (50, 'ben', 'of ben')";
        let values = match keys_only {
            true => json!({ "id": 50 }),
            false => json!({ "id": 50, "title": "of ann" }),
        };
        let found = write_behind(&db, insert, &upsert("todos", values)).await;
        assert_eq!(found, ("forbidden".to_owned(), Some(bens.clone())));
    }
}

/// A row goes out of somebody's rights in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_given_away_while_it_is_written_stays_as_it_is() {
    for write in [
        update("todos", 1, json!({ "title": "of ann" })),
        delete("todos", 1),
    ] {
        let db = TestDatabase::postgres().await;
        let give = "UPDATE todos SET owner_id = 'ben' WHERE id = 1";
        assert_eq!(write_behind(&db, give, &write).await.0, "not_found");
        let owners = db
            .query_text("SELECT owner_id || title FROM todos WHERE id = 1")
            .await;
        assert_eq!(owners, [Some("benann one".to_owned())]);
    }
}
