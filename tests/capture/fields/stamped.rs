//! What the engine has stamped itself is not stamped again, and what users' triggers change beside it is.

use merge::Deletes;
use serde_json::{Value, json};
use testkit::TestDatabase;

use super::*;

const AT: &str = "2999-01-01T00:00:00.000Z-0000-device";

/// A statement within a transaction that says what it has stamped, after metadata that it has written.
async fn write(db: &TestDatabase, metadata: Option<Value>, said: &Value, sql: &str) {
    let known = metadata.map(|metadata| {
        format!(
            "INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) VALUES ('todos', '1', '{AT}', '{metadata}') \
             ON CONFLICT (entity, entity_id) DO UPDATE SET newest = EXCLUDED.newest, metadata = EXCLUDED.metadata;"
        )
    });
    let known = known.unwrap_or_default();
    db.execute(&format!(
        "BEGIN; {known} SET LOCAL rhtmx_sync.stamped = '{said}'; {sql}; COMMIT"
    ))
    .await;
}

fn said(columns: &Value) -> Value {
    json!({ "entity": "todos", "id": "1", "columns": columns })
}

on_postgres! {
    async fn what_is_stamped_already_keeps_its_clock(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        let titled = json!({ "fields": { "title": AT } });
        write(&db, Some(titled.clone()), &said(&json!(["title"])), "UPDATE todos SET title = 'x' WHERE id = 1").await;
        assert_eq!(entry(&db, "1").await.json, titled);
        // The same in a statement with other rows.
        write(&db, Some(titled), &said(&json!(["title"])), "UPDATE todos SET title = 'y', due = '2026-12-01'").await;
        let all = entries(&db).await;
        assert_eq!(all["1"].field("title").as_str(), AT);
        assert_eq!(all["1"].field("due"), all["1"].newest);
        assert!(all["1"].newest.as_str() > AT);
        assert_eq!(all["2"].fields(), ["due", "title"]);

        let other = json!({ "entity": "notes", "id": "1", "columns": ["title"] });
        write(&db, None, &other, "UPDATE todos SET title = 'z' WHERE id = 1").await;
        assert!(entry(&db, "1").await.field("title").as_str() > AT);
    }

    async fn a_whole_row_is_stamped_already(db: TestDatabase) {
        for deletes in [Deletes::Win, Deletes::Revive] {
            db.execute("DROP TABLE IF EXISTS todos").await;
            todos(&db, deletes).await;
            let whole = said(&Value::Null);
            let dead = json!({ "born": Clock::ground().as_str(), "died": AT });
            write(&db, Some(dead.clone()), &whole, "DELETE FROM todos WHERE id = 1").await;
            assert_eq!(entry(&db, "1").await.json, dead);
            let born = json!({ "born": AT });
            write(&db, Some(born.clone()), &whole, "INSERT INTO todos (id, title) VALUES (1, 'x')").await;
            assert_eq!(entry(&db, "1").await.json, born);
            write(&db, Some(born.clone()), &whole, "UPDATE todos SET title = 'y' WHERE id = 1").await;
            assert_eq!(entry(&db, "1").await.json, born);
        }
        // A row that an edit brings back.
        let back = json!({ "died": "2026-01-01T00:00:00.000Z-0000-a", "fields": { "title": AT } });
        db.execute("DELETE FROM todos WHERE id = 1").await;
        write(&db, Some(back.clone()), &said(&Value::Null), "INSERT INTO todos (id, title) VALUES (1, 'x')").await;
        assert_eq!(entry(&db, "1").await.json, back);
    }

    /// The engine said what it does itself, and not that a trigger takes it back.
    async fn what_users_triggers_do_beside_is_stamped(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute(
            "CREATE FUNCTION beside() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF NEW.title = 'away' THEN DELETE FROM todos WHERE id = NEW.id; \
               ELSIF NEW.title = 'twice' THEN DELETE FROM todos WHERE id = NEW.id; INSERT INTO todos (id) VALUES (NEW.id); \
               ELSE UPDATE todos SET due = '2026-12-01' WHERE id IN (NEW.id, 2) AND due IS NULL; END IF; RETURN NULL; END $$; \
             CREATE TRIGGER beside AFTER INSERT OR UPDATE OF title ON todos FOR EACH ROW EXECUTE FUNCTION beside()",
        )
        .await;
        let titled = json!({ "fields": { "title": AT } });
        write(&db, Some(titled.clone()), &said(&json!(["title"])), "UPDATE todos SET title = 'x' WHERE id = 1").await;
        let all = entries(&db).await;
        assert_eq!((all["1"].fields(), all["2"].fields()), (vec!["due", "title"], vec!["due"]));
        assert_eq!(all["1"].field("title").as_str(), AT);
        write(&db, Some(titled), &said(&json!(["title"])), "UPDATE todos SET title = 'away' WHERE id = 1").await;
        let dead = entry(&db, "1").await;
        assert_eq!(dead.clock("died"), dead.newest);
        let create = "INSERT INTO todos (id, title) VALUES (1, 'twice')";
        write(&db, Some(json!({ "born": AT })), &said(&Value::Null), create).await;
        let born = entry(&db, "1").await;
        assert_eq!(born.json, json!({ "born": born.newest.as_str() }));
        assert!(born.newest.as_str() > AT);
    }

    async fn what_makes_no_sense_is_not_believed(db: TestDatabase) {
        todos(&db, Deletes::Revive).await;
        for (number, said) in [
            "", "{", "null", "1", "[]", "\"todos\"", "{\"entity\": \"todos\"}", "{\"entity\": \"todos\", \"id\": null}",
            "{\"entity\": \"todos\", \"id\": [1], \"columns\": {}}", "{\"entity\": \"todos\", \"id\": \"1\", \"columns\": [null, 1, []]}",
            "{\"entity\": {}, \"id\": \"1\"}", "\\u0000",
        ]
        .into_iter()
        .enumerate()
        {
            let said = said.replace('\'', "''");
            db.execute(&format!("SET rhtmx_sync.stamped = '{said}'; UPDATE todos SET title = 'x{number}'")).await;
            let all = entries(&db).await;
            assert_eq!((all.len(), all["1"].field("title")), (3, all["1"].newest.clone()), "{said}");
            db.execute(&format!("SET rhtmx_sync.stamped = '{said}'; DELETE FROM todos WHERE id = 1; INSERT INTO todos (id) VALUES (1)"))
                .await;
            let born = entry(&db, "1").await;
            assert_eq!(born.clock("born"), born.newest, "{said}");
        }
    }

    /// Everybody may set it; only a role with the engine's rights is believed.
    async fn other_roles_are_not_believed(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        let role = db.create_role("writer").await;
        db.execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON todos TO {}", role.name)).await;
        let (writer, connection) = tokio_postgres::connect(&role.url, tokio_postgres::NoTls).await.expect("the role may connect");
        tokio::spawn(connection);
        let set = format!("SET rhtmx_sync.stamped = '{}'", said(&Value::Null));
        writer.batch_execute(&set).await.expect("a setting");
        writer.batch_execute("UPDATE todos SET title = 'x' WHERE id = 1").await.expect("the role may update");
        assert_eq!(entry(&db, "1").await.fields(), ["title"]);
        writer.batch_execute("DELETE FROM todos WHERE id = 1").await.expect("the role may delete");
        let dead = entry(&db, "1").await;
        assert_eq!(dead.clock("died"), dead.newest);
        for sql in ["SELECT * FROM _rhtmx_sync_field", "SELECT _rhtmx_sync_clock_after('', '')"] {
            let error = writer.batch_execute(sql).await.expect_err(sql);
            assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{sql}");
        }
    }
}
