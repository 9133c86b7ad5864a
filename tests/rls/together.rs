//! Many groups asked in one call: each is answered as if it were alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use db::{Asked, DatabaseConfig, DbPool, PolicyReader};
use rls::{Group, Sources, Uses};
use serde_json::json;
use testkit::TestDatabase;

use super::examined::{Decides, Examined};

/// More than are asked in one statement.
const GROUPS: usize = 600;

struct Setup {
    db: TestDatabase,
    reader: PolicyReader,
    docs: Examined,
    uses: Uses,
    role: String,
    decides: Decides,
}

/// A table of 600 rows, of which each user owns one, with this policy.
async fn setup(statements: &str, policy: &str) -> Setup {
    let db = TestDatabase::postgres().await;
    let role = db.create_role("reader").await.name;
    db.execute(&format!(
        "CREATE TABLE docs (id int PRIMARY KEY, owner text, zone text); \
         INSERT INTO docs SELECT n, 'u' || n, 'Asia/Tokyo' FROM generate_series(0, {GROUPS} - 1) n; \
         ALTER TABLE docs ENABLE ROW LEVEL SECURITY; \
         CREATE FUNCTION sub() RETURNS text LANGUAGE sql STABLE AS \
         $$ SELECT current_setting('request.jwt.claims', true)::json ->> 'sub' $$; \
         {statements}; CREATE POLICY p ON docs USING ({policy}); \
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ))
    .await;
    let config = DatabaseConfig::default();
    let pool = DbPool::with_config(&db.url(), &config).await;
    let pool = pool.expect("a database");
    pool.migrate(&config)
        .await
        .expect("the engine's own tables");
    let reader = pool.policy_reader().await.expect("a connection");
    let reader = reader.expect("PostgreSQL");
    let docs = Examined::new(&reader, "docs", std::slice::from_ref(&role)).await;
    let sources: Sources = reader.sources().await.expect("a database");
    let uses = docs.uses(&sources);
    let decides = docs.decides(&reader, &role).await;
    Setup {
        db,
        reader,
        docs,
        uses,
        role,
        decides,
    }
}

impl Setup {
    fn group(&self, sub: &str, settings: &[(&str, &str)]) -> Group {
        let claims = json!({ "sub": sub });
        let settings = settings.iter().map(|(name, value)| (*name, *value));
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings: BTreeMap<String, String> = settings.collect();
        Group::new(&self.role, claims.as_object(), &settings, &self.uses)
    }

    async fn ask(&self, groups: &[Group]) -> Vec<Asked> {
        let known: BTreeSet<String> = self.uses.settings.clone();
        let asked = self
            .docs
            .ask_all(&self.reader, &self.decides, groups, &known);
        asked.await.expect("a plan")
    }

    /// Asks together, and each alone, which must be the same.
    async fn compare(&self, groups: &[Group]) -> Vec<Asked> {
        let together = self.ask(groups).await;
        for (group, together) in groups.iter().zip(&together) {
            let alone = self.ask(std::slice::from_ref(group)).await.remove(0);
            assert_eq!(together.answers, alone.answers, "{group:?}");
            assert_eq!(together.failures, alone.failures, "{group:?}");
        }
        together
    }
}

#[tokio::test]
async fn groups_of_several_statements_are_each_answered_for_their_own_claims() {
    let members = "CREATE TABLE members (who text PRIMARY KEY, doc int NOT NULL); \
                   INSERT INTO members SELECT owner, id FROM docs";
    let setup = setup(members, "id IN (SELECT doc FROM members WHERE who = sub())").await;
    let groups: Vec<Group> = (0..GROUPS)
        .map(|user| setup.group(&format!("u{user}"), &[]))
        .collect();
    let asked = setup.compare(&groups).await;
    let different: BTreeSet<String> = asked
        .iter()
        .map(|asked| format!("{:?}", asked.answers))
        .collect();
    assert_eq!(different.len(), GROUPS);
    assert!(asked.iter().all(|asked| !asked.read.is_empty()));
}

#[tokio::test]
async fn a_group_that_fails_is_taken_back_alone() {
    let boss = "CREATE FUNCTION level() RETURNS int LANGUAGE plpgsql STABLE AS \
                $$ BEGIN RETURN current_setting('app.level', true)::int; END $$";
    let setup = setup(boss, "owner = sub() AND level() > 1").await;
    let groups: Vec<Group> = (0..60)
        .map(|user| {
            let level = if user % 7 == 0 { "high" } else { "2" };
            // Some have the setting, some not: nobody may have that of the one before.
            let settings = [("app.level", level)];
            let settings = if user % 5 == 0 {
                &settings[..0]
            } else {
                &settings
            };
            setup.group(&format!("u{user}"), settings)
        })
        .collect();
    let asked = setup.compare(&groups).await;
    let failed = asked.iter().filter(|asked| !asked.failures.is_empty());
    assert_eq!(failed.count(), 19);
}

#[tokio::test]
async fn a_setting_that_a_function_changes_is_not_left_for_the_next_group() {
    let zones = "CREATE FUNCTION zone() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN \
                 IF sub() = 'u1' THEN PERFORM set_config('TimeZone', 'Asia/Tokyo', true); END IF; \
                 RETURN current_setting('TimeZone'); END $$";
    let setup = setup(zones, "zone = zone()").await;
    let groups = [setup.group("u1", &[]), setup.group("u2", &[])];
    let asked = setup.compare(&groups).await;
    assert_ne!(asked[0].answers, asked[1].answers);
}

#[tokio::test]
async fn a_function_that_pretends_to_be_immutable_is_called_for_each_group() {
    let frozen = "CREATE FUNCTION tenant() RETURNS text LANGUAGE sql IMMUTABLE AS \
                  $$ SELECT current_setting('app.tenant', true) $$";
    let setup = setup(frozen, "owner = tenant()").await;
    let groups = [
        setup.group("a", &[("app.tenant", "u1")]),
        setup.group("a", &[("app.tenant", "u2")]),
    ];
    let asked = setup.compare(&groups).await;
    assert_ne!(asked[0].answers, asked[1].answers);
}

#[tokio::test]
async fn groups_that_are_slow_but_in_time_are_all_answered() {
    let slow = "CREATE FUNCTION slow() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN \
                PERFORM pg_sleep(CASE sub() WHEN 'u0' THEN 600 WHEN 'u5' THEN 0 ELSE 0.2 END); RETURN sub(); END $$";
    let setup = setup(slow, "owner = slow()").await;
    let reader = setup.reader.with_timeout(Duration::from_millis(1_500));
    let setup = Setup { reader, ..setup };
    let groups: Vec<Group> = (1..=5)
        .chain([0])
        .chain([6])
        .map(|user| setup.group(&format!("u{user}"), &[]))
        .collect();
    let asked = setup.compare(&groups).await;
    for (group, asked) in groups.iter().zip(&asked) {
        let is_dear = group.claims.as_deref() == Some(r#"{"sub":"u0"}"#);
        assert_eq!(asked.failures.is_empty(), !is_dear, "{group:?} {asked:?}");
    }
}

#[tokio::test]
async fn groups_of_several_roles_are_each_asked_as_their_own() {
    let slow = "CREATE FUNCTION me() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN \
                PERFORM pg_sleep(0.1); RETURN current_user; END $$";
    let setup = setup(slow, "owner = me()").await;
    let reader = setup.reader.with_timeout(Duration::from_millis(1_500));
    let setup = Setup { reader, ..setup };
    let other = setup.db.create_role("other").await.name;
    let (role, first) = (&setup.role, setup.group("a", &[]));
    setup
        .db
        .execute(&format!(
            "GRANT SELECT ON docs TO {other}; \
             INSERT INTO docs VALUES (-1, '{role}'), (-2, '{other}')"
        ))
        .await;
    // More than are begun in one statement, so that some of each role are asked later.
    let groups = (0..12).map(|number| Group {
        role: if number % 2 == 0 {
            role.clone()
        } else {
            other.clone()
        },
        ..first.clone()
    });
    let groups: Vec<Group> = groups.collect();
    let asked = setup.ask(&groups).await;
    assert_ne!(asked[0].answers, asked[1].answers);
    for (number, asked_of_one) in asked.iter().enumerate() {
        assert_eq!(asked_of_one.failures, [], "{number}");
        assert_eq!(asked_of_one.answers, asked[number % 2].answers, "{number}");
    }
}
