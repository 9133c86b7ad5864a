//! Roles: every role that may write a table is captured, and the capture gives it no other rights.

use serde_json::json;
use tokio_postgres::{Client, NoTls};

use super::watch::{Table, Watch};
use super::*;

/// A connection as the role.
async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("the role may connect");
    tokio::spawn(connection);
    client
}

/// The SQLSTATE with which a statement fails.
async fn sqlstate(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error
        .code()
        .map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";

on_postgres! {
    /// The role's writes are captured though it can neither read nor forge the log.
    async fn a_writer_needs_no_rights_on_the_log(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let role = db.create_role("writer").await;
        db.execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON notes TO {}", role.name)).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let writer = connect(&role.url).await;
        for sql in [
            "INSERT INTO notes VALUES (1, 'a'), (2, 'b')",
            "UPDATE notes SET body = 'c' WHERE id = 1",
            "UPDATE notes SET id = 3 WHERE id = 2",
            "DELETE FROM notes WHERE id = 3",
        ] {
            writer.batch_execute(sql).await.expect(sql);
            watch.settle().await;
            watch.compare().await;
        }
        assert_eq!(watch.row("notes", "1"), &json!({ "id": 1, "body": "c" }));
        assert_eq!(watch.entries().len(), 1);
        writer.batch_execute("TRUNCATE notes").await.expect("the role may truncate");
        watch.settle().await;
        assert!(watch.rows("notes").is_empty());

        let function = watch
            .db
            .query_text("SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE '\\_rhtmx\\_sync\\_capture\\_%' LIMIT 1")
            .await
            .remove(0)
            .expect("the capture has a function");
        let call = format!("SELECT {function}");
        for sql in [
            "SELECT * FROM _rhtmx_sync_log",
            "INSERT INTO _rhtmx_sync_log (entity, entity_id, action) VALUES ('notes', '1', 'delete')",
            "UPDATE _rhtmx_sync_log SET action = 'delete'",
            "DELETE FROM _rhtmx_sync_log",
            "TRUNCATE _rhtmx_sync_log",
            "SELECT nextval('_rhtmx_sync_log_id_seq')",
            "SELECT * FROM _rhtmx_sync_meta",
            "UPDATE _rhtmx_sync_meta SET epoch = 'forged'",
            "SELECT * FROM _rhtmx_sync_entity",
            "SELECT * FROM _rhtmx_sync_client",
            "SELECT * FROM _rhtmx_sync_reject",
            "SELECT * FROM _rhtmx_sync_merged",
            "SELECT * FROM _rhtmx_field_conflict",
            "SELECT * FROM _rhtmx_sync_alive",
            "SELECT * FROM _rhtmx_sync_checkpoint",
            "SELECT _rhtmx_sync_write('SELECT 1', '{}', '{}')",
            call.as_str(),
        ] {
            assert_eq!(sqlstate(&writer, sql).await, INSUFFICIENT_PRIVILEGE, "{sql}");
        }
    }

    /// A trigger of the role's on its own table does not give it the function's rights.
    async fn the_capture_function_cannot_be_borrowed(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let role = db.create_role("borrower").await;
        db.execute(&format!("CREATE SCHEMA theirs AUTHORIZATION {}", role.name)).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a')").await;
        let function = watch
            .db
            .query_text("SELECT DISTINCT tgfoid::regproc::text FROM pg_trigger WHERE tgrelid = 'notes'::regclass")
            .await
            .remove(0)
            .expect("the table has a trigger");
        let borrower = connect(&role.url).await;
        borrower.batch_execute("CREATE TABLE theirs.notes (id integer, body text)").await.expect("the role may create a table");
        let forge = format!(
            "CREATE TRIGGER forge AFTER INSERT ON theirs.notes REFERENCING NEW TABLE AS _rhtmx_new \
             FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        );
        assert_eq!(sqlstate(&borrower, &forge).await, INSUFFICIENT_PRIVILEGE);
    }

    /// Operators and functions that a role puts in the way are not used by the capture.
    async fn nothing_of_the_writers_runs_as_the_owner(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let role = db.create_role("trickster").await;
        db.execute(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO {0}; CREATE SCHEMA tricks AUTHORIZATION {0}",
            role.name
        ))
        .await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let writer = connect(&role.url).await;
        writer
            .batch_execute(
                "CREATE TABLE tricks.ran (who text); \
                 CREATE FUNCTION tricks.differ(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
                   INSERT INTO tricks.ran VALUES (current_user); RETURN false; END $$; \
                 CREATE OPERATOR tricks.= (FUNCTION = tricks.differ, LEFTARG = text, RIGHTARG = text); \
                 CREATE FUNCTION tricks.to_json(text) RETURNS json LANGUAGE sql AS $$ SELECT '\"tricked\"'::json $$; \
                 SET search_path = tricks, public, pg_catalog; \
                 INSERT INTO notes VALUES (1, 'a'); UPDATE notes SET body = 'b'; DELETE FROM notes",
            )
            .await
            .expect("the role may write");
        watch.settle().await;
        let said: Vec<_> = watch.entries().iter().map(|entry| entry.says()).collect();
        assert_eq!(said[1], ("update", Some("1"), &json!({ "body": "a" })));
        assert_eq!(said[2], ("delete", Some("1"), &json!({ "id": 1, "body": "b" })));
        let ran = watch.db.query_text("SELECT who FROM tricks.ran").await;
        assert_eq!(ran, Vec::<Option<String>>::new());
    }

    /// A role that may create functions in `public` cannot have its own called in place of PostgreSQL's, though
    /// they fit the arguments better: not by a first read, a drain, or a resume.
    async fn nothing_of_a_stranger_runs_as_the_engine(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text, done boolean)").await;
        db.execute("INSERT INTO notes VALUES (1, 'a', false), (2, 'b', true)").await;
        let role = db.create_role("stranger").await;
        db.execute(&format!("GRANT CREATE ON SCHEMA public TO {}", role.name)).await;
        let stranger = connect(&role.url).await;
        let trick = |function: &str, returns: &str, value: &str| {
            format!(
                "CREATE FUNCTION public.{function} RETURNS {returns} LANGUAGE plpgsql AS \
                 $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN {value}; END $$; "
            )
        };
        let tricks: String = [
            trick("to_json(text)", "json", "'\"tricked\"'"),
            trick("to_json(integer)", "json", "'7'"),
            trick("to_json(boolean)", "json", "'true'"),
            trick("to_json(bigint)", "json", "'7'"),
            trick("json_build_array(bigint, bigint, text, jsonb)", "json", "'[]'"),
            trick("json_build_object(text, integer)", "json", "'{}'"),
            trick("concat(text, text, text)", "text", "'public'"),
        ]
        .concat();
        stranger
            .batch_execute(&format!("CREATE TABLE public.ran (who text); GRANT ALL ON public.ran TO PUBLIC; {tricks}"))
            .await
            .expect("the role may create functions");
        assert_eq!(db.query_text("SELECT to_json('a'::text)").await, [Some("\"tricked\"".to_owned())]);
        db.execute("DELETE FROM public.ran").await;

        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("UPDATE notes SET body = 'c' WHERE id = 1").await;
        let url = watch.server.ws_url();
        let mut other = watch.server.connect().await;
        let selection = json!({ "entity": "notes", "where": "done OR body = 'c'", "columns": ["body"] });
        other.subscribe_with("some", selection).await;
        other.wait_subscribed("some").await;
        assert_eq!(other.row("some", "1"), Some(&json!({ "id": 1, "body": "c" })));
        let state = other.into_state();
        watch.step("UPDATE notes SET body = 'd', done = true WHERE id = 1").await;
        let mut other = testkit::SyncClient::reconnect(&url, testkit::ClientOptions::default(), &state).await;
        other.wait_until(|other| other.row("some", "1") == Some(&json!({ "id": 1, "body": "d" }))).await;
        assert_eq!(watch.db.query_text("SELECT who FROM public.ran").await, Vec::<Option<String>>::new());
    }

    /// Casts that the owner of a type made are not called, wherever its values are: in keys, rows, arrays,
    /// composites, filters, previous values and writes.
    async fn no_cast_of_a_types_owner_runs_as_the_engine(db: TestDatabase) {
        let casts = |sql_type: &str, name: &str| {
            format!(
                "CREATE FUNCTION {name}_json({sql_type}) RETURNS json LANGUAGE plpgsql AS \
                 $$ BEGIN INSERT INTO public.ran VALUES ('{name} to json'); RETURN '\"tricked\"'; END $$; \
                 CREATE CAST ({sql_type} AS json) WITH FUNCTION {name}_json({sql_type}); \
                 CREATE FUNCTION {name}_text({sql_type}) RETURNS text LANGUAGE plpgsql AS \
                 $$ BEGIN INSERT INTO public.ran VALUES ('{name} to text'); RETURN 'tricked'; END $$; \
                 CREATE CAST ({sql_type} AS text) WITH FUNCTION {name}_text({sql_type}); \
                 CREATE FUNCTION {name}_of(text) RETURNS {sql_type} LANGUAGE plpgsql AS \
                 $$ BEGIN INSERT INTO public.ran VALUES ('{name} of text'); RETURN NULL; END $$; \
                 CREATE CAST (text AS {sql_type}) WITH FUNCTION {name}_of(text); "
            )
        };
        let (mood, span, pair) = (casts("mood", "mood"), casts("span", "span"), casts("pair", "pair"));
        db.execute(&format!(
            "CREATE TABLE ran (what text); CREATE TYPE mood AS ENUM ('sad', 'ok'); \
             CREATE TYPE span AS RANGE (subtype = integer); CREATE TYPE pair AS (m mood, s span); \
             CREATE DOMAIN temper AS mood; {mood} {span} {pair} \
             CREATE TABLE moods (m mood, s span, n integer, t temper, all_m mood[], all_s span[], p pair, \
                 PRIMARY KEY (m, s)); \
             CREATE TABLE spans (s span PRIMARY KEY, n integer); \
             CREATE TABLE tempers (t temper PRIMARY KEY, n integer)"
        ))
        .await;
        assert_eq!(db.query_text("SELECT 'ok'::mood::text").await, [Some("tricked".to_owned())]);
        db.execute("DELETE FROM ran").await;
        let server = rhtmx_sync_tests::TestServer::start(&db, ["moods", "spans", "tempers"]).await;
        let mut live = server.connect().await;
        for entity in ["moods", "spans", "tempers"] {
            live.subscribe(entity, entity).await;
            live.wait_subscribed(entity).await;
        }
        db.execute(
            "INSERT INTO moods VALUES ('ok', '[1,3)', 1, 'sad', '{ok,sad}', '{\"[1,2)\",empty}', '(ok,\"[4,5)\")'), \
                 ('sad', 'empty', 2, NULL, '{{ok},{sad}}', NULL, NULL); \
             INSERT INTO spans VALUES ('[1,2)', 1); INSERT INTO tempers VALUES ('sad', 1)",
        )
        .await;
        let (ok, sad) = (r#"["ok","[1,3)"]"#, r#"["sad","empty"]"#);
        live.wait_until(|live| live.row("tempers", "sad").is_some()).await;
        assert_eq!(live.row("moods", sad).expect("a row")["all_m"], json!([["ok"], ["sad"]]));
        db.execute(
            "UPDATE moods SET n = 3, t = 'ok', all_m = '{ok}' WHERE n = 1; UPDATE spans SET n = 2; \
             DELETE FROM moods WHERE n = 2; UPDATE tempers SET n = 2",
        )
        .await;
        let row = json!({
            "m": "ok", "s": "[1,3)", "n": 3, "t": "ok", "all_m": ["ok"], "all_s": ["[1,2)", "empty"],
            "p": { "m": "ok", "s": "[4,5)" }
        });
        live.wait_until(|live| live.row("tempers", "sad") == Some(&json!({ "t": "sad", "n": 2 }))).await;
        assert_eq!((live.row("moods", ok), live.row("moods", sad)), (Some(&row), None));
        assert_eq!(live.row("spans", "[1,2)"), Some(&json!({ "s": "[1,2)", "n": 2 })));
        let chosen = json!({
            "entity": "moods", "where": "m IN ('ok', 'sad') AND t = 'ok' AND NOT m = $1", "params": ["sad"]
        });
        live.subscribe_with("some", chosen).await;
        live.wait_subscribed("some").await;
        assert_eq!(live.row("some", ok), Some(&row));
        let writes = json!([
            { "op": "update", "entity": "moods", "key": ok, "values": { "t": "sad" } },
            { "op": "update", "entity": "spans", "key": "[1,2)", "values": { "n": 4 } },
            { "op": "update", "entity": "tempers", "key": "sad", "values": { "n": 4 } },
            { "op": "create", "entity": "tempers", "values": { "t": "ok", "n": 4 } },
        ]);
        let answer = live.push(1, writes).await;
        assert!(matches!(answer, testkit::PushOutcome::Acked { .. }), "{answer:?}");
        live.wait_until(|live| live.row("some", ok).is_none()).await;
        assert_eq!(db.query_text("SELECT what FROM ran").await, Vec::<Option<String>>::new());
    }

    /// Two `varchar`s are compared by the operator for `text`, unless somebody makes a closer one.
    async fn nothing_of_a_stranger_runs_in_a_mutation(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id varchar(9) PRIMARY KEY, body text)").await;
        db.execute("INSERT INTO notes VALUES ('a', 'a')").await;
        let role = db.create_role("stranger").await;
        db.execute(&format!("GRANT CREATE ON SCHEMA public TO {}", role.name)).await;
        let stranger = connect(&role.url).await;
        stranger
            .batch_execute(
                "CREATE TABLE public.ran (who text); GRANT ALL ON public.ran TO PUBLIC;
                 CREATE FUNCTION public.same(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN $1::text = $2::text; END $$;
                 CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.same);
                 CREATE FUNCTION public.cardinality(text[]) RETURNS integer LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN 1; END $$",
            )
            .await
            .expect("the role may create functions");
        db.execute("SELECT 'a'::varchar = 'b'::varchar, cardinality('{a}'::text[])").await;
        assert_eq!(db.query_text("SELECT who FROM public.ran").await.len(), 2);
        db.execute("DELETE FROM public.ran").await;

        let watch = Watch::start(db, ["notes"]).await;
        let mut client = watch.server.connect().await;
        for (op, key) in [("update", "a"), ("upsert", "a"), ("upsert", "b"), ("create", "c"), ("delete", "a")] {
            let mut write = json!({ "entity": "notes", "op": op, "key": key });
            if op != "delete" {
                write["values"] = json!({ "body": op });
            }
            client.push_next(json!([write])).await.acked();
        }
        assert_eq!(watch.db.query_text("SELECT who FROM public.ran").await, Vec::<Option<String>>::new());
    }

    /// Whose mutation a change is, is believed of the engine's role alone, and nonsense costs nothing.
    async fn a_writer_cannot_forge_whose_mutation_a_change_is(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        db.execute("INSERT INTO notes VALUES (1, 'a')").await;
        let role = db.create_role("forger").await;
        db.execute(&format!("GRANT SELECT, UPDATE ON notes TO {}", role.name)).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let writer = connect(&role.url).await;
        let author = "00000000-0000-0000-0000-000000000007";
        for mutation in ["7", "x", "", "-1", "1.5", "99999999999999999999"] {
            writer
                .batch_execute(&format!(
                    "SET rhtmx_sync.client_id = '{author}'; SET rhtmx_sync.mutation = '{mutation}'; \
                     UPDATE notes SET body = body || '!'"
                ))
                .await
                .expect("the role may write");
            watch.settle().await;
            watch.compare().await;
        }
        // The engine's own role may still say nonsense.
        watch
            .step(&format!(
                "BEGIN; SET LOCAL rhtmx_sync.client_id = '{author}'; SET LOCAL rhtmx_sync.mutation = 'x'; \
                 UPDATE notes SET body = 'b'; COMMIT"
            ))
            .await;
        let logged = "SELECT action || ' ' || coalesce(client_id, 'nobody') || ' ' || coalesce(mutation::text, 'none') \
                      FROM _rhtmx_sync_log WHERE entity = 'notes' AND action <> 'create' ORDER BY id OFFSET 1";
        let logged = watch.db.query_text(logged).await;
        assert_eq!(logged, vec![Some("update nobody none".to_owned()); 7]);
        assert_eq!(watch.client.frames("refetch"), 0);
    }

    /// Default privileges give new functions to roles by name, as Supabase's do; the capture's are taken back.
    async fn default_privileges_do_not_lend_the_capture_function(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let role = db.create_role("named").await;
        db.execute(&format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO {}", role.name)).await;
        let watch = Watch::start(db, ["notes"]).await;
        let may = format!(
            "SELECT has_function_privilege('{}', oid, 'EXECUTE')::text FROM pg_proc \
             WHERE proname LIKE '\\_rhtmx\\_sync\\_capture\\_%'",
            role.name
        );
        let may = watch.db.query_text(&may).await;
        assert!(!may.is_empty());
        assert!(may.iter().all(|may| may.as_deref() == Some("false")), "{may:?}");
    }

    async fn row_security_does_not_hide_rows_from_the_capture(db: TestDatabase) {
        db.execute("CREATE SCHEMA app; CREATE TABLE app.notes (id integer PRIMARY KEY, owner text, body text)").await;
        let role = db.create_role("owner").await;
        db.execute(&format!(
            "GRANT USAGE ON SCHEMA app TO {0}; GRANT SELECT, INSERT, UPDATE, DELETE ON app.notes TO {0}; \
             ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY own ON app.notes USING (owner = current_user)",
            role.name
        ))
        .await;
        let notes = Table::new(rhtmx_sync::EntityConfig::on_table("notes", "app.notes"), "app.notes");
        let mut watch = Watch::start(db, [notes]).await;
        watch.step("INSERT INTO app.notes VALUES (1, 'somebody', 'a')").await;
        let writer = connect(&role.url).await;
        for sql in [
            "INSERT INTO app.notes VALUES (2, current_user, 'b')",
            "UPDATE app.notes SET body = 'c'",
            "DELETE FROM app.notes",
        ] {
            writer.batch_execute(sql).await.expect(sql);
            watch.settle().await;
            watch.compare().await;
        }
        assert_eq!(watch.keys("notes"), ["1"]);
        assert_eq!(watch.row("notes", "1")["body"], "a");
    }

    /// A role that may not create triggers cannot capture, and the error says so.
    async fn a_role_that_may_not_create_triggers_cannot_capture(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY)").await;
        let role = db.create_role("reader").await;
        db.execute(&format!("GRANT SELECT ON notes TO {0}; GRANT CREATE ON SCHEMA public TO {0}", role.name)).await;
        let pool = rhtmx_sync::DbPool::from_url(&role.url).await.expect("the role may connect");
        let config = rhtmx_sync::SyncConfig::new(pool, vec!["notes"]);
        let error = rhtmx_sync::SyncEngine::new(config).await.expect_err("the role may not create triggers").to_string();
        assert!(error.contains("notes") && error.contains("permission denied"), "{error}");
    }

    /// No session setting is needed: an ordinary role runs the whole engine on tables of its own.
    async fn an_ordinary_role_runs_the_engine(db: TestDatabase) {
        let role = db.create_role("engine").await;
        db.execute(&format!("CREATE SCHEMA mine AUTHORIZATION {0}; ALTER ROLE {0} SET search_path = mine", role.name)).await;
        let owner = connect(&role.url).await;
        owner.batch_execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await.expect("the role may create a table");
        let pool = rhtmx_sync::DbPool::from_url(&role.url).await.expect("the role may connect");
        let config = rhtmx_sync::SyncConfig::new(pool, vec!["notes"]);
        let server = rhtmx_sync_tests::TestServer::with_config(config).await;
        let mut client = server.connect().await;
        client.subscribe("all", "notes").await;
        client.wait_subscribed("all").await;
        db.execute("INSERT INTO mine.notes VALUES (1, 'by a superuser')").await;
        owner.batch_execute("INSERT INTO notes VALUES (2, 'by itself')").await.expect("the owner may write");
        client.wait_until(|client| client.rows("all").len() == 2).await;
    }
}
