//! Mutations that run as a role: what they are answered, and that neither the code of a table nor the name of a role gives
//! them more rights.

use std::collections::BTreeMap;
use std::sync::Arc;

use db::write::RunAs;
use protocol::RejectCode;
use serde_json::{Value, json};
use testkit::{TestDatabase, TestRole};

use super::pushing::Pushing;

/// A table with policies, whose trigger does what a title says, and one without.
const TABLES: &str = "\
CREATE SCHEMA app; \
CREATE FUNCTION app.me() RETURNS text LANGUAGE sql STABLE AS \
    $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub' $$; \
CREATE TABLE app.todos (id int PRIMARY KEY, owner text NOT NULL, title text, secret text, \
    tenant text DEFAULT current_setting('app.tenant', true)); \
INSERT INTO app.todos VALUES (1, 'a', 'mine'), (2, 'b', 'hidden'), (3, 'all', 'shown'); \
ALTER TABLE app.todos ENABLE ROW LEVEL SECURITY; \
CREATE POLICY own ON app.todos USING (owner = app.me()) WITH CHECK (owner = app.me()); \
CREATE POLICY shown ON app.todos FOR SELECT USING (owner = 'all'); \
CREATE TABLE app.notes (id int PRIMARY KEY, seen text); \
CREATE TABLE app.told (what text); \
CREATE FUNCTION app.does() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    CASE NEW.title \
    WHEN 'leave' THEN PERFORM set_config('role', 'none', true); \
    WHEN 'leave for good' THEN PERFORM set_config('role', 'none', false); \
    WHEN 'stay for good' THEN PERFORM set_config('role', current_user, false); \
    WHEN 'other path' THEN PERFORM set_config('search_path', 'nowhere', false); \
    WHEN 'tell' THEN INSERT INTO app.told VALUES (current_user); \
    ELSE NULL; END CASE; RETURN NEW; END $$; \
CREATE TRIGGER does BEFORE INSERT OR UPDATE ON app.todos FOR EACH ROW EXECUTE FUNCTION app.does(); \
CREATE FUNCTION app.sees() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    NEW.seen := concat_ws('|', current_user, current_setting('search_path'), \
        current_setting('request.jwt.claims', true), current_setting('app.tenant', true)); RETURN NEW; END $$; \
CREATE TRIGGER sees BEFORE INSERT ON app.notes FOR EACH ROW EXECUTE FUNCTION app.sees()";

struct Scene {
    db: TestDatabase,
    engine: TestRole,
    writer: String,
    pushing: Pushing,
}

/// An engine whose role owns nothing but its own tables, and may become the writer.
async fn scene() -> Scene {
    let db = TestDatabase::postgres().await;
    let engine = db.create_role("engine").await;
    let writer = db.create_role("writer").await.name;
    db.execute(TABLES).await;
    db.execute(&format!(
        "CREATE SCHEMA own AUTHORIZATION {0}; ALTER ROLE {0} SET search_path = own; \
         GRANT {writer} TO {0}; GRANT USAGE ON SCHEMA app TO {0}, {writer}; \
         GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON app.todos, app.notes TO {0}; \
         GRANT SELECT (id, owner, title, tenant), INSERT (id, owner, title), UPDATE (owner, title), DELETE \
         ON app.todos TO {writer}; GRANT INSERT ON app.told TO {writer}",
        engine.name
    ))
    .await;
    let pushing = Pushing::new(&db, &engine.url, &["app.todos", "app.notes"]).await;
    Scene {
        db,
        engine,
        writer,
        pushing,
    }
}

impl Scene {
    fn run_as(&self, role: &str, tenant: &str) -> Arc<RunAs> {
        let setting = |name: &str, value: String| (name.to_owned(), value);
        Arc::new(RunAs {
            role: role.to_owned(),
            settings: BTreeMap::from([
                setting("request.jwt.claims", json!({ "sub": "a" }).to_string()),
                setting("app.tenant", tenant.to_owned()),
            ]),
        })
    }

    /// Pushes writes to `app.todos` as the writer. Returns the reject's code and column.
    async fn push(&self, writes: Value) -> Option<(RejectCode, Option<String>)> {
        let run_as = self.run_as(&self.writer, "");
        self.push_as(&run_as, writes).await
    }

    async fn push_as(
        &self,
        run_as: &Arc<RunAs>,
        writes: Value,
    ) -> Option<(RejectCode, Option<String>)> {
        let Value::Array(writes) = writes else {
            panic!("an array")
        };
        let pushed = self.pushing.push(run_as, &["app.todos"], &writes).await;
        pushed.err().map(|reject| (reject.code, reject.column))
    }

    async fn text(&self, sql: &str) -> String {
        let mut found = self.db.query_text(sql).await;
        found.pop().flatten().unwrap_or_default()
    }

    async fn todos(&self) -> String {
        self.text(
            "SELECT string_agg(concat(id, owner, ' ', title), ', ' ORDER BY id) FROM app.todos",
        )
        .await
    }

    /// Creates a note with the engine's own rights, and returns what its trigger sees.
    async fn seen_in_a_note(&self, id: u32) -> String {
        let note = json!([{ "entity": "app.notes", "op": "create", "values": { "id": id } }]);
        assert_eq!(self.push(note).await, None);
        self.text(&format!("SELECT seen FROM app.notes WHERE id = {id}"))
            .await
    }
}

fn todo(op: &str, key: u32, values: &Value) -> Value {
    let mut values = values.clone();
    match op {
        "create" => {
            values["id"] = key.into();
            json!([{ "entity": "app.todos", "op": op, "values": values }])
        }
        "delete" => json!([{ "entity": "app.todos", "op": op, "key": key }]),
        _ => json!([{ "entity": "app.todos", "op": op, "key": key, "values": values }]),
    }
}

const FORBIDDEN: Option<(RejectCode, Option<String>)> = Some((RejectCode::Forbidden, None));
const NOT_FOUND: Option<(RejectCode, Option<String>)> = Some((RejectCode::NotFound, None));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_answered_as_far_as_the_role_may_know() {
    let scene = scene().await;
    let own = json!({ "owner": "a", "title": "new" });
    let of_other = json!({ "owner": "b" });
    for (op, key, values, answer) in [
        ("update", 1, &json!({ "title": "changed" }), None),
        // A row that is not there, one that is not there for the role, and one that is only shown.
        ("update", 9, &json!({ "title": "x" }), NOT_FOUND),
        ("update", 2, &json!({ "title": "x" }), NOT_FOUND),
        ("update", 3, &json!({ "title": "x" }), FORBIDDEN),
        ("delete", 2, &Value::Null, NOT_FOUND),
        ("delete", 3, &Value::Null, FORBIDDEN),
        // What a policy refuses, and what a grant does.
        ("update", 1, &of_other, FORBIDDEN),
        ("create", 4, &of_other, FORBIDDEN),
        ("update", 1, &json!({ "secret": "x" }), FORBIDDEN),
        (
            "create",
            4,
            &json!({ "owner": "a", "secret": "x" }),
            FORBIDDEN,
        ),
        // A key that is taken.
        ("create", 1, &own, Some((RejectCode::Exists, None))),
        ("create", 2, &own, FORBIDDEN),
        ("create", 3, &own, Some((RejectCode::Exists, None))),
        // An upsert, whether it would end as one or the other.
        ("upsert", 1, &own, None),
        ("upsert", 2, &own, FORBIDDEN),
        ("upsert", 2, &json!({}), FORBIDDEN),
        ("upsert", 2, &json!({ "title": "x" }), FORBIDDEN),
        ("upsert", 3, &own, FORBIDDEN),
        ("upsert", 4, &of_other, FORBIDDEN),
        ("upsert", 5, &own, None),
        ("upsert", 5, &json!({ "title": "part" }), None),
        ("delete", 1, &Value::Null, None),
    ] {
        let pushed = scene.push(todo(op, key, values)).await;
        assert_eq!(pushed, answer, "{op} {key} {values}");
    }
    assert_eq!(scene.todos().await, "2b hidden, 3all shown, 5a part");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_needs_both_rights_whether_its_row_exists_or_not() {
    let scene = scene().await;
    scene
        .db
        .execute("DROP POLICY own ON app.todos; CREATE POLICY own ON app.todos FOR UPDATE USING (owner = app.me()); \
                  CREATE POLICY mine ON app.todos FOR SELECT USING (owner = app.me())")
        .await;
    let own = json!({ "owner": "a", "title": "new" });
    for key in [1, 4] {
        assert_eq!(scene.push(todo("upsert", key, &own)).await, FORBIDDEN);
    }
    assert_eq!(scene.push(todo("update", 1, &own)).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_nobody_may_be_writes_nothing() {
    let scene = scene().await;
    let stranger = scene.db.create_role("stranger").await.name;
    scene
        .db
        .execute(&format!("GRANT ALL ON app.todos TO {stranger}"))
        .await;
    let superuser = scene.text("SELECT current_user::text").await;
    let of_engine = scene.engine.name.clone();
    let names = [
        "none",
        "",
        "nobody \"; --",
        "NONE",
        "public",
        &superuser,
        &of_engine,
        &stranger,
    ];
    for role in names {
        let run_as = scene.run_as(role, "");
        for (op, key) in [("create", 7), ("update", 1), ("delete", 1)] {
            let write = todo(op, key, &json!({ "owner": "a" }));
            assert_eq!(
                scene.push_as(&run_as, write).await,
                FORBIDDEN,
                "{role} {op}"
            );
        }
    }
    assert_eq!(scene.todos().await, "1a mine, 2b hidden, 3all shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_of_a_table_neither_leaves_its_role_nor_leaves_anything_behind() {
    let scene = scene().await;
    let fresh = scene.seen_in_a_note(1).await;
    assert!(
        fresh.starts_with(&format!("{}|own", scene.engine.name)),
        "{fresh}"
    );
    let write =
        |key: u32, title: &str| todo("create", key, &json!({ "owner": "a", "title": title }));
    for (key, title, answer) in [
        (4, "leave", FORBIDDEN),
        (5, "leave for good", FORBIDDEN),
        (6, "stay for good", None),
        (7, "other path", None),
    ] {
        assert_eq!(scene.push(write(key, title)).await, answer, "{title}");
        let seen = scene.seen_in_a_note(key).await;
        assert!(
            seen.starts_with(&format!("{}|own|", scene.engine.name)),
            "{title}: {seen}"
        );
    }
    assert_eq!(
        scene.todos().await,
        "1a mine, 2b hidden, 3all shown, 6a stay for good, 7a other path"
    );
    // What has no rights of its own has none because somebody else's write calls it.
    assert_eq!(scene.push(write(8, "tell")).await, None);
    assert_eq!(scene.text("SELECT what FROM app.told").await, scene.writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_those_of_the_mutation_alone() {
    let scene = scene().await;
    let write = |key: u32| todo("create", key, &json!({ "owner": "a" }));
    let tenants = [(4, "acme"), (5, ""), (6, "other")];
    for (key, tenant) in tenants {
        let run_as = scene.run_as(&scene.writer, tenant);
        assert_eq!(scene.push_as(&run_as, write(key)).await, None);
        let kept = format!("SELECT tenant FROM app.todos WHERE id = {key}");
        assert_eq!(scene.text(&kept).await, tenant);
        let seen = scene.seen_in_a_note(key).await;
        assert_eq!(seen, format!("{}|own||", scene.engine.name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_of_both_kinds_of_tables_is_one() {
    let scene = scene().await;
    let note = json!({ "entity": "app.notes", "op": "create", "values": { "id": 1 } });
    let both = |key: u32, owner: &str| {
        let todo = todo("create", key, &json!({ "owner": owner }));
        json!([note, todo[0]])
    };
    // The writer has no rights on the notes.
    assert_eq!(scene.push(both(4, "b")).await, FORBIDDEN);
    let entries = "SELECT count(*)::text FROM own._rhtmx_sync_log WHERE mutation IS NOT NULL";
    assert_eq!(scene.text(entries).await, "0");
    assert_eq!(scene.push(both(4, "a")).await, None);
    // The log says whose the changes are, though the writer may not write it.
    let whose = "SELECT string_agg(concat(entity, mutation), ' ' ORDER BY entity) FROM own._rhtmx_sync_log \
                 WHERE client_id IS NOT NULL";
    assert_eq!(scene.text(whose).await, "app.notes1 app.todos1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deferred_runs_as_the_role() {
    let scene = scene().await;
    scene
        .db
        .execute(
            "CREATE FUNCTION app.tell() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO app.told VALUES (current_user); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER later AFTER INSERT ON app.todos DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION app.tell()",
        )
        .await;
    assert_eq!(
        scene
            .push(todo("create", 4, &json!({ "owner": "a" })))
            .await,
        None
    );
    assert_eq!(scene.text("SELECT what FROM app.told").await, scene.writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_cannot_answer_refuses() {
    let scene = scene().await;
    for using in [
        // It cannot read a value, it reads its own table, it raises.
        "title::int > 0",
        "EXISTS (SELECT 1 FROM app.todos t WHERE t.owner = todos.owner)",
        "app.raises()",
    ] {
        scene
            .db
            .execute(&format!(
                "DROP POLICY own ON app.todos; CREATE OR REPLACE FUNCTION app.raises() RETURNS boolean LANGUAGE plpgsql \
                 AS $$ BEGIN RAISE EXCEPTION 'the secret is b'; END $$; CREATE POLICY own ON app.todos USING ({using})"
            ))
            .await;
        let run_as = scene.run_as(&scene.writer, "");
        let write = todo("create", 4, &json!({ "owner": "a", "title": "x" }));
        let Value::Array(writes) = write else {
            panic!()
        };
        let pushed = scene.pushing.push(&run_as, &["app.todos"], &writes).await;
        let reject = pushed.expect_err("a reject");
        assert!(!reject.message.contains("secret"), "{reject:?}");
        assert!(
            matches!(reject.code, RejectCode::Forbidden | RejectCode::Constraint),
            "{using}: {reject:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_bound_by_policies_where_they_are_forced() {
    let scene = scene().await;
    let owner = scene.db.create_role("owner").await.name;
    scene
        .db
        .execute(&format!(
            "GRANT {owner} TO {}; GRANT USAGE ON SCHEMA app TO {owner}; ALTER TABLE app.todos OWNER TO {owner}",
            scene.engine.name
        ))
        .await;
    let run_as = scene.run_as(&owner, "");
    let write = todo("create", 4, &json!({ "owner": "b" }));
    assert_eq!(scene.push_as(&run_as, write.clone()).await, None);
    scene
        .db
        .execute("ALTER TABLE app.todos FORCE ROW LEVEL SECURITY")
        .await;
    let write = todo("create", 5, &json!({ "owner": "b" }));
    assert_eq!(scene.push_as(&run_as, write).await, FORBIDDEN);
}
