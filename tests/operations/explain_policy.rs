//! `rhtmx-sync explain-policy`, and what the doctor and a start say of an entity with `rls = true`.

use rhtmx_sync::{Check, EntityConfig, Finding, Level, SyncEngine};
use rhtmx_sync_tests::TestServer;
use testkit::{Exited, ServerProcess, TestDatabase};

/// A table whose policies are of every class, and a role that the engine's may become.
async fn database() -> (TestDatabase, String) {
    let db = TestDatabase::postgres().await;
    let role = db.create_role("reader").await.name;
    db.execute(&format!(
        "CREATE TABLE members (team int, who text, PRIMARY KEY (team, who)); \
         CREATE TABLE todos (id int PRIMARY KEY, team int, owner text, open boolean, title text); \
         CREATE TABLE notes (id int PRIMARY KEY, title text); \
         GRANT SELECT ON members, todos, notes TO {role}; \
         ALTER TABLE todos ENABLE ROW LEVEL SECURITY; \
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY open ON todos FOR SELECT USING (open); \
         CREATE POLICY own ON todos USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub'); \
         CREATE POLICY team ON todos FOR SELECT USING (EXISTS (SELECT 1 FROM members m WHERE m.team = todos.team \
         AND m.who = current_setting('app.user', true))); \
         CREATE POLICY short ON notes FOR SELECT USING (length(title) < 10)"
    ))
    .await;
    (db, role)
}

async fn explain(args: &[&str], url: &str) -> Exited {
    let args = [&["explain-policy"], args].concat();
    let ended = ServerProcess::try_spawn(args, [("DATABASE_URL", url)]).await;
    ended.expect_err("the command ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explained_policy_has_its_class_its_question_and_its_dependencies() {
    let (db, role) = database().await;
    let before = db
        .query_text("SELECT relname FROM pg_class ORDER BY 1")
        .await;
    let explained = explain(&["todos", "--role", &role], &db.url()).await;
    assert_eq!(explained.status.code(), Some(0), "{}", explained.output);
    for words in [
        "todos: table public.todos",
        "row: \"open\" = TRUE",
        "key(owner) in: SELECT (((current_setting(",
        "key(team) in: SELECT DISTINCT (m.team) AS k0 FROM public.members m WHERE",
        "2 questions, once for all sessions with the same sub, app.user",
        "asked again when these change: public.members",
        "a changed row: no question",
    ] {
        assert!(
            explained.output.contains(words),
            "{words}: {}",
            explained.output
        );
    }
    let explained = explain(&["notes", "--role", &role], &db.url()).await;
    for words in [
        "per row",
        "length(title) < 10",
        "one question for each group of sessions, about that row",
    ] {
        assert!(
            explained.output.contains(words),
            "{words}: {}",
            explained.output
        );
    }
    for (args, words) in [
        (
            &["todos", "--role", "nobody_at_all"][..],
            "there is no role",
        ),
        (&["nothing"], "there is no table"),
    ] {
        let refused = explain(args, &db.url()).await;
        assert_eq!(refused.status.code(), Some(1), "{}", refused.output);
        assert!(refused.output.contains(words), "{}", refused.output);
    }
    let after = db
        .query_text("SELECT relname FROM pg_class ORDER BY 1")
        .await;
    assert_eq!(before, after, "explaining has changed something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_with_row_level_security_is_examined() {
    let (db, role) = database().await;
    let entities = ["todos", "notes"].map(|name| EntityConfig::new(name).rls());
    let config = TestServer::config(&db, entities).await;
    let found = SyncEngine::examine(&config).await.expect("an examination");
    let of = |entity: &str| {
        let found = found.iter().find(|finding| {
            let is_of_role = finding.text.starts_with(&role);
            finding.check == Check::RowSecurity
                && finding.entity.as_deref() == Some(entity)
                && is_of_role
        });
        found.unwrap_or_else(|| panic!("{entity}: {found:?}"))
    };
    assert_eq!(of("todos").level, Level::Ok, "{:?}", of("todos"));
    assert_eq!(of("notes").level, Level::Warning, "{:?}", of("notes"));
    // Its policies decide, and nothing in the configuration has to.
    let is_advice = |finding: &&Finding| {
        let remedy = format!("{:?}", finding.remedy);
        finding.level != Level::Ok && remedy.contains("read =")
    };
    assert_eq!(found.iter().find(is_advice), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_is_no_applications_own_or_made_from_no_claim_ends_the_start() {
    let db = TestDatabase::postgres().await;
    db.execute("CREATE TABLE todos (id int PRIMARY KEY)").await;
    for (name, claim, words) in [
        ("search_path", "auth.path", "\"search_path\""),
        ("app.tenant", "tenant", "\"tenant\""),
        ("app.tenant", "auth.tenant = 'x'", "no claim"),
    ] {
        let mut config = TestServer::config(&db, ["todos"]).await;
        config
            .auth
            .settings
            .insert(name.to_owned(), claim.to_owned());
        let Err(refused) = TestServer::try_with_config(config).await else {
            panic!("{name} = {claim} is taken");
        };
        assert!(refused.to_string().contains(words), "{refused}");
    }
}
