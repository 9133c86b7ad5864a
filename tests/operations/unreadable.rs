//! Rows and tables that cannot be read: they cost themselves only, everyone is told, and they heal.

use rhtmx_sync::{DbPool, SyncConfig};
use rhtmx_sync_tests::{TestServer, base_type};
use serde_json::{Value, json};
use testkit::{
    Backend, ClientOptions, Http, ServerProcess, SyncClient, TestDatabase, both_backends,
    eventually,
};

use crate::writers::TASKS;

/// A table of values of the base type `part`, whose JSON raises as long as a flag is set.
const ODD: &str = "
    CREATE TABLE raising (raises boolean); INSERT INTO raising VALUES (true);
    CREATE FUNCTION part_json(part) RETURNS json LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF $1::text = 'empty' AND (SELECT raises FROM public.raising) THEN RAISE 'no'; END IF;
        RETURN pg_catalog.to_json($1::text);
    END $$;
    CREATE CAST (part AS json) WITH FUNCTION part_json(part);
    CREATE TABLE odd (id integer PRIMARY KEY, n part)";

async fn tables(db: &TestDatabase) {
    let part = base_type("part", "text", "text");
    db.execute(&format!("{part}; {ODD}; {TASKS}")).await;
}

async fn subscriber(server: &TestServer, entities: &[&str]) -> SyncClient {
    let mut client = server.connect().await;
    for entity in entities {
        client.subscribe(*entity, entity).await;
        client.wait_subscribed(*entity).await;
    }
    client
}

/// Writes a task and waits for it.
async fn task_arrives(db: &TestDatabase, client: &mut SyncClient, id: u32) {
    db.execute(&format!("INSERT INTO tasks VALUES ({id}, 'task')"))
        .await;
    client
        .wait_until(|client| client.row("tasks", &id.to_string()).is_some())
        .await;
}

async fn all_is_readable(server: &TestServer) {
    eventually("nothing is unreadable", async || {
        (unreadable(&server.http()).await == json!([])).then_some(())
    })
    .await;
}

async fn unreadable(http: &Http) -> Value {
    http.get("/api/sync/status").await.json()["unreadable"].clone()
}

both_backends! {
    /// A row whose JSON is too large is not there for clients until it is smaller.
    async fn a_row_that_is_too_large_costs_itself_only(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        db.execute(TASKS).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut client = subscriber(&server, &["notes", "tasks"]).await;
        let text = |length: usize| match db.backend() {
            Backend::Postgres => format!("repeat('x', {length})"),
            Backend::Sqlite => format!("replace(hex(zeroblob({length} / 2)), '00', 'xx')"),
        };
        let too_long = text(17 * 1024 * 1024);
        db.execute(&format!("INSERT INTO notes VALUES (1, {too_long}), (2, 'short')")).await;
        client.wait_until(|client| client.row("notes", "2").is_some()).await;
        assert!(client.row("notes", "1").is_none());
        task_arrives(&db, &mut client, 1).await;
        let mut newcomer = subscriber(&server, &["notes"]).await;
        assert_eq!(newcomer.rows("notes").len(), 1);
        // The characters alone would fit, their JSON does not.
        let controls = text(4 * 1024 * 1024);
        let escaped = match db.backend() {
            Backend::Postgres => format!("replace({controls}, 'x', chr(1))"),
            Backend::Sqlite => format!("replace({controls}, 'x', char(1))"),
        };
        db.execute(&format!("UPDATE notes SET body = {escaped} WHERE id = 2")).await;
        client.wait_until(|client| client.rows("notes").is_empty()).await;
        assert_eq!(unreadable(&server.http()).await, json!([{ "entity": "notes", "rows": 2 }]));
        db.execute("UPDATE notes SET body = 'short'").await;
        for client in [&mut client, &mut newcomer] {
            client.wait_until(|client| client.rows("notes").len() == 2).await;
        }
        all_is_readable(&server).await;
    }
}

/// A row that fails on reading is not there for clients; other rows of its table and other tables go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_costs_itself_only() {
    let db = TestDatabase::postgres().await;
    tables(&db).await;
    let server = TestServer::start(&db, ["odd", "tasks"]).await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    db.execute("INSERT INTO odd VALUES (1, 'empty'), (2, '[1,2)')")
        .await;
    client
        .wait_until(|client| client.row("odd", "2").is_some())
        .await;
    assert!(client.row("odd", "1").is_none());
    task_arrives(&db, &mut client, 1).await;
    assert_eq!(
        unreadable(&server.http()).await,
        json!([{ "entity": "odd", "rows": 1 }])
    );

    // A first read, which finds it by itself, one of some columns, and a resume leave it out, too.
    let later = TestServer::start(&db, ["odd", "tasks"]).await;
    let mut newcomer = later.connect().await;
    newcomer.subscribe("odd", "odd").await;
    newcomer.wait_subscribed("odd").await;
    newcomer
        .subscribe_with("ids", json!({ "entity": "odd", "columns": ["id"] }))
        .await;
    newcomer.wait_subscribed("ids").await;
    for id in ["odd", "ids"] {
        assert_eq!(newcomer.rows(id).keys().collect::<Vec<_>>(), ["2"], "{id}");
    }
    let cursor = newcomer
        .subscription("odd")
        .cursor()
        .expect("a cursor")
        .to_owned();
    db.execute("INSERT INTO odd VALUES (3, 'empty'), (4, '[1,2)')")
        .await;
    let mut returning = later.connect().await;
    returning.resume("odd", "odd", &cursor).await;
    returning.wait_subscribed("odd").await;
    returning
        .wait_until(|client| client.row("odd", "4").is_some())
        .await;
    assert!(returning.row("odd", "3").is_none());

    // A write mends it.
    db.execute("UPDATE odd SET n = '[1,2)'").await;
    client
        .wait_until(|client| client.rows("odd").len() == 4)
        .await;
    newcomer
        .wait_until(|client| client.rows("ids").len() == 4)
        .await;
    all_is_readable(&server).await;
}

/// The same on SQLite, where a captured row is computed in full when it is written, so only a column that was
/// added later makes a row unreadable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_computed_costs_itself_only() {
    let db = TestDatabase::sqlite().await;
    db.execute("CREATE TABLE odd (id INTEGER PRIMARY KEY, n INTEGER)")
        .await;
    db.execute("INSERT INTO odd VALUES (1, -9223372036854775808), (2, 7)")
        .await;
    db.execute(TASKS).await;
    let server = TestServer::start(&db, ["odd", "tasks"]).await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    assert_eq!(client.rows("odd").len(), 2);
    db.execute("ALTER TABLE odd ADD COLUMN size INTEGER AS (abs(n)) VIRTUAL")
        .await;
    client
        .wait_until(|client| client.rows("odd").keys().eq(["2"]))
        .await;
    task_arrives(&db, &mut client, 1).await;
    assert_eq!(
        unreadable(&server.http()).await,
        json!([{ "entity": "odd", "rows": 1 }])
    );
    db.execute("INSERT INTO odd (id, n) VALUES (3, 3)").await;
    client
        .wait_until(|client| client.row("odd", "3").is_some())
        .await;
    db.execute("ALTER TABLE odd DROP COLUMN size").await;
    client
        .wait_until(|client| client.rows("odd").len() == 3)
        .await;
    task_arrives(&db, &mut client, 2).await;
    all_is_readable(&server).await;
}

/// Nothing writes to the row, but what made it unreadable is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_heals_without_a_write() {
    let db = TestDatabase::postgres().await;
    tables(&db).await;
    let server = TestServer::start(&db, ["odd", "tasks"]).await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    db.execute("INSERT INTO odd VALUES (1, 'empty'), (2, '[1,2)')")
        .await;
    client
        .wait_until(|client| client.row("odd", "2").is_some())
        .await;
    assert!(client.row("odd", "1").is_none());
    db.execute("UPDATE raising SET raises = false").await;
    client
        .wait_until(|client| client.row("odd", "1").is_some())
        .await;
    task_arrives(&db, &mut client, 1).await;
    all_is_readable(&server).await;
}

/// An engine with a role of its own, which may capture and read two tables.
async fn restricted(db: &TestDatabase) -> (TestServer, String) {
    db.execute(&format!(
        "CREATE TABLE odd (id integer PRIMARY KEY, n integer); {TASKS}"
    ))
    .await;
    let role = db.create_role("engine").await;
    let name = role.name.clone();
    db.execute(&format!(
        "CREATE SCHEMA engine AUTHORIZATION {name}; ALTER ROLE {name} SET search_path = engine, public; \
         GRANT SELECT, TRIGGER ON odd, tasks TO {name}"
    ))
    .await;
    let pool = DbPool::from_url(&role.url)
        .await
        .expect("the role may log in");
    let config = SyncConfig::new(pool, vec!["odd", "tasks"]);
    (TestServer::with_config(config).await, name)
}

/// Waits until the subscription was told that its rows cannot be read.
async fn told(client: &mut SyncClient, id: &str) {
    client
        .wait_until(|client| {
            let told = |error: &&Value| error["id"] == id && error["code"] == "unavailable";
            client.errors().iter().any(|error| told(&error))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_may_not_be_read_costs_itself_only() {
    let db = TestDatabase::postgres().await;
    let (server, role) = restricted(&db).await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    db.execute(&format!(
        "REVOKE SELECT ON odd FROM {role}; INSERT INTO odd VALUES (1, 1)"
    ))
    .await;
    for id in 1..5 {
        task_arrives(&db, &mut client, id).await;
    }
    told(&mut client, "odd").await;
    let report = json!([{ "entity": "odd", "reason": "denied", "rows": 0 }]);
    assert_eq!(unreadable(&server.http()).await, report);
    db.execute(&format!("GRANT SELECT ON odd TO {role}")).await;
    client
        .wait_until(|client| client.row("odd", "1").is_some())
        .await;
    db.execute("INSERT INTO odd VALUES (2, 2)").await;
    client
        .wait_until(|client| client.row("odd", "2").is_some())
        .await;
    all_is_readable(&server).await;
}

/// In a pooler's sessions the settings of writers were set before, and are empty since then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_writers_had_says_nothing_of_tables() {
    let db = TestDatabase::postgres().await;
    let name = db.query_text("SELECT current_database()::text").await;
    let name = name[0].as_deref().expect("a name");
    db.execute(&format!(
        "ALTER DATABASE \"{name}\" SET rhtmx_sync.client_id = ''"
    ))
    .await;
    let (server, role) = restricted(&db).await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    db.execute(&format!(
        "REVOKE SELECT ON odd FROM {role}; INSERT INTO odd VALUES (1, 1)"
    ))
    .await;
    told(&mut client, "odd").await;
    let report = json!([{ "entity": "odd", "reason": "denied", "rows": 0 }]);
    assert_eq!(unreadable(&server.http()).await, report);
    for id in 1..5 {
        task_arrives(&db, &mut client, id).await;
    }
}

/// A migration drops a table and makes it again, without the engine's rights on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_made_again_without_rights_costs_itself_only() {
    let db = TestDatabase::postgres().await;
    let (server, role) = restricted(&db).await;
    db.execute("INSERT INTO odd VALUES (1, 1)").await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    db.execute("DROP TABLE odd; CREATE TABLE odd (id integer PRIMARY KEY, n integer)")
        .await;
    task_arrives(&db, &mut client, 1).await;
    told(&mut client, "odd").await;
    task_arrives(&db, &mut client, 2).await;
    eventually("the status names the table", async || {
        let report = unreadable(&server.http()).await;
        (report[0]["entity"] == "odd").then_some(())
    })
    .await;
    db.execute(&format!(
        "INSERT INTO odd VALUES (2, 2); GRANT SELECT, TRIGGER ON odd TO {role}"
    ))
    .await;
    client
        .wait_until(|client| client.rows("odd").keys().eq(["2"]))
        .await;
    db.execute("INSERT INTO odd VALUES (3, 3)").await;
    client
        .wait_until(|client| client.row("odd", "3").is_some())
        .await;
}

/// A policy that raises makes every read of the table fail, also one of a single row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_raises_costs_its_table_only() {
    let db = TestDatabase::postgres().await;
    let (server, role) = restricted(&db).await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    db.execute(&format!(
        "CREATE FUNCTION public.visible(n integer) RETURNS boolean LANGUAGE plpgsql AS \
         $$ BEGIN IF n = 0 THEN RAISE 'no'; END IF; RETURN true; END $$; \
         ALTER TABLE odd ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON odd FOR SELECT TO {role} USING (public.visible(n)); \
         INSERT INTO odd VALUES (1, 0), (2, 1)"
    ))
    .await;
    client
        .wait_until(|client| client.row("odd", "2").is_some())
        .await;
    assert!(client.row("odd", "1").is_none());
    task_arrives(&db, &mut client, 1).await;
    db.execute("UPDATE odd SET n = 5 WHERE id = 1").await;
    client
        .wait_until(|client| client.row("odd", "1").is_some())
        .await;
}

/// A damaged file fails with a code that other failures pass by with; here a function raises it while a read is planned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_costs_itself_only() {
    let db = TestDatabase::postgres().await;
    let (server, role) = restricted(&db).await;
    let mut client = subscriber(&server, &["odd", "tasks"]).await;
    db.execute(&format!(
        "CREATE FUNCTION public.damaged() RETURNS integer STABLE LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'could not open file' USING ERRCODE = '58P01'; END $$; \
         ALTER TABLE odd ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON odd FOR SELECT TO {role} USING (n <> public.damaged()); \
         INSERT INTO odd VALUES (1, 0)"
    ))
    .await;
    for id in 1..4 {
        task_arrives(&db, &mut client, id).await;
    }
    told(&mut client, "odd").await;
    let report = json!([{ "entity": "odd", "reason": "failing", "rows": 0 }]);
    assert_eq!(unreadable(&server.http()).await, report);
    db.execute("DROP POLICY p ON odd; CREATE POLICY p ON odd USING (true)")
        .await;
    client
        .wait_until(|client| client.row("odd", "1").is_some())
        .await;
}

/// Monitoring sees what cannot be read, and that the server serves the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_metrics_name_what_cannot_be_read() {
    let db = TestDatabase::postgres().await;
    tables(&db).await;
    let args = [
        "--bind",
        "127.0.0.1:0",
        "--entity",
        "odd",
        "--entity",
        "tasks",
    ];
    let server = ServerProcess::spawn(args, [("DATABASE_URL", db.url())]).await;
    let http = Http::new(server.base_url());
    let mut client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
    client.subscribe("tasks", "tasks").await;
    client.wait_subscribed("tasks").await;
    db.execute("INSERT INTO odd VALUES (1, 'empty')").await;
    eventually("the readiness names the entity", async || {
        let ready = http.get("/readyz").await;
        assert_eq!(ready.status, 200);
        (ready.text == "ready\n\"odd\" has 1 unreadable rows\n").then_some(())
    })
    .await;
    eventually("the metrics count the rows", async || {
        let metrics = http.get("/metrics").await.text;
        metrics
            .contains("rhtmx_sync_unreadable_rows{entity=\"odd\"} 1")
            .then_some(())
    })
    .await;
    server.wait_for_output("a row cannot be read").await;
    task_arrives(&db, &mut client, 1).await;
    assert_eq!(http.get("/healthz").await.status, 200);
}
