//! What fails shows nothing, and only to the group that it fails for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use db::{Asked, DatabaseConfig, DbPool, Failure, PolicyReader};
use rls::{Answers, Claims, Group, Plan};
use serde_json::json;
use testkit::TestDatabase;

use super::examined::{Decides, Examined};

/// A table whose policies do what a session's setting says.
const TABLES: &str = "\
CREATE TABLE todos (id int PRIMARY KEY, owner text); INSERT INTO todos VALUES (1, 'a'), (2, 'b'); \
ALTER TABLE todos ENABLE ROW LEVEL SECURITY; \
CREATE FUNCTION owner_of_session() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN \
CASE current_setting('app.does', true) WHEN 'sleep' THEN PERFORM pg_sleep(600); \
WHEN 'raise' THEN RAISE EXCEPTION 'on purpose'; ELSE NULL; END CASE; \
RETURN current_setting('request.jwt.claims', true)::json ->> 'sub'; END $$; \
CREATE POLICY own ON todos USING (owner = owner_of_session())";

struct Setup {
    db: TestDatabase,
    reader: PolicyReader,
    todos: Examined,
    role: String,
    plan: Plan,
}

async fn setup() -> Setup {
    let db = TestDatabase::postgres().await;
    let role = db.create_role("reader").await.name;
    db.execute(TABLES).await;
    db.execute(&format!("GRANT SELECT ON todos TO {role}"))
        .await;
    let config = DatabaseConfig::default();
    let pool = DbPool::with_config(&db.url(), &config)
        .await
        .expect("a database");
    pool.migrate(&config)
        .await
        .expect("the engine's own tables");
    let reader = pool
        .policy_reader()
        .await
        .expect("a connection")
        .expect("PostgreSQL");
    let todos = Examined::new(&reader, "todos", std::slice::from_ref(&role)).await;
    let Decides::Plan(plan) = todos.decides(&reader, &role).await else {
        panic!("its policies decide");
    };
    assert!(!plan.is_per_row());
    Setup {
        db,
        reader,
        todos,
        role,
        plan: *plan,
    }
}

impl Setup {
    fn group(&self, sub: &str, does: &str) -> Group {
        let claims = json!({ "sub": sub });
        let uses = rls::Uses {
            claims: Claims::All,
            any_setting: true,
            ..rls::Sources::default().uses([])
        };
        let settings = BTreeMap::from([("app.does".to_owned(), does.to_owned())]);
        Group::new(&self.role, claims.as_object(), &settings, &uses)
    }

    async fn ask(&self, groups: &[Group]) -> Vec<Asked> {
        let known = BTreeSet::from(["app.does".to_owned()]);
        let asked = self
            .reader
            .ask(&self.todos.entity, &self.plan, groups, &known)
            .await;
        asked.expect("the connection works")
    }
}

fn is_answered(asked: &Asked) -> bool {
    matches!(asked.answers, Answers::Each(_)) && asked.failures.is_empty()
}

#[tokio::test]
async fn a_policy_that_raises_shows_nothing_to_its_group_and_the_others_are_answered() {
    let setup = setup().await;
    let groups = [
        setup.group("a", ""),
        setup.group("b", "raise"),
        setup.group("b", ""),
    ];
    let asked = setup.ask(&groups).await;
    assert!(
        is_answered(&asked[0]) && is_answered(&asked[2]),
        "{asked:?}"
    );
    assert_ne!(asked[0].answers, asked[2].answers);
    assert_eq!(asked[1].answers, Answers::Denied);
    let failed = [
        Failure::Visible("P0001".to_owned()),
        Failure::Question(0, "P0001".to_owned()),
    ];
    assert_eq!(asked[1].failures, failed);
}

#[tokio::test]
async fn a_policy_that_takes_too_long_shows_nothing_to_its_group_and_the_others_are_answered() {
    let setup = setup().await;
    let setup = Setup {
        reader: setup.reader.with_timeout(Duration::from_millis(500)),
        ..setup
    };
    let groups = [
        setup.group("a", ""),
        setup.group("b", "sleep"),
        setup.group("b", ""),
    ];
    let asked = setup.ask(&groups).await;
    assert!(
        is_answered(&asked[0]) && is_answered(&asked[2]),
        "{asked:?}"
    );
    assert_eq!(asked[1].answers, Answers::Denied);
    assert_eq!(asked[1].failures, [Failure::Everything("57014".to_owned())]);
}

#[tokio::test]
async fn after_many_groups_that_take_too_long_the_others_are_not_asked() {
    let setup = setup().await;
    let setup = Setup {
        reader: setup.reader.with_timeout(Duration::from_millis(300)),
        ..setup
    };
    let groups: Vec<Group> = (0..30)
        .map(|number| setup.group(&number.to_string(), "sleep"))
        .collect();
    let asked = setup.ask(&groups).await;
    assert!(asked.iter().all(|asked| asked.answers == Answers::Denied));
    let failed = |failure: Failure| {
        let of_groups = asked
            .iter()
            .filter(|asked| asked.failures == [failure.clone()]);
        of_groups.count()
    };
    assert_eq!(failed(Failure::Everything("57014".to_owned())), 10);
    assert_eq!(failed(Failure::NotAsked), 20);
}

#[tokio::test]
async fn a_role_that_may_not_read_the_table_any_more_or_is_gone_sees_nothing() {
    let setup = setup().await;
    let group = setup.group("a", "");
    assert!(is_answered(
        &setup.ask(std::slice::from_ref(&group)).await[0]
    ));
    setup
        .db
        .execute("REVOKE EXECUTE ON FUNCTION owner_of_session FROM PUBLIC")
        .await;
    let asked = setup.ask(std::slice::from_ref(&group)).await;
    assert_eq!(asked[0].answers, Answers::Denied, "{asked:?}");
    // For `SET ROLE`, "none" is the role that has connected.
    for role in ["no such \"role\"; --", "none"] {
        let nobody = Group {
            role: role.to_owned(),
            ..group.clone()
        };
        let asked = setup.ask(&[nobody]).await;
        assert_eq!(asked[0].answers, Answers::Denied);
        assert_eq!(asked[0].failures, [Failure::Everything("22023".to_owned())]);
    }
}

#[tokio::test]
async fn a_connection_that_is_killed_answers_nobody() {
    let setup = setup().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let groups = [setup.group("a", "sleep"), setup.group("b", "")];
    let known = BTreeSet::from(["app.does".to_owned()]);
    let asking = setup
        .reader
        .ask(&setup.todos.entity, &setup.plan, &groups, &known);
    let killing = async {
        let asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        while setup.db.query_text(asleep).await.is_empty() {
            tokio::task::yield_now().await;
        }
        setup.db.query_text(kill).await;
    };
    let (asked, ()) = tokio::join!(asking, killing);
    assert!(asked.is_err(), "{asked:?}");
}
