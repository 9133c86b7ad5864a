//! Random policies on tables that read each other, with random writes of their owner and of the users.

use std::collections::{BTreeMap, BTreeSet};

use db::{DatabaseConfig, DbPool};
use rhtmx_sync::EntityConfig;
use rhtmx_sync_tests::Dice;
use testkit::TestDatabase;

use super::writes::RandomWrite;
use super::{Served, Watcher, rounds};
use crate::corpus::{self, User};
use crate::examined::Examined;
use crate::random;

/// Sets of policies, and writes beside each.
const SETS: usize = 6;
const WRITES: usize = 8;

const ENTITY: &str = "r.docs";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hold_what_postgresql_shows_under_random_policies() {
    let mut dice = Dice::new("random policies, live");
    let db = TestDatabase::postgres().await;
    corpus::load_prelude(&db, &corpus::cases().0).await;
    db.execute(random::TABLES).await;
    db.execute("GRANT INSERT, UPDATE, DELETE ON r.docs TO anon, authenticated, corpus_auditor")
        .await;
    for round in 0..rounds(SETS) {
        let policies = random::policies(&mut dice);
        db.execute(&policies).await;
        random::fill(&db, &mut dice).await;
        println!("round {round}:\n{policies}");
        one_set(&db, &policies, WRITES, &mut dice, |dice| {
            random::write(dice).0
        })
        .await;
    }
}

/// Policies under which a membership concerns its user alone, so that nobody else is asked: by what is asked as keys, and by
/// the visible rows. Under the last one it may concern everybody.
const OF_MEMBERS: [&str; 3] = [
    "(team IN (SELECT m.team FROM r.members m WHERE (m.who = auth.uid())))",
    "(EXISTS (SELECT 1 FROM r.members m WHERE m.team > docs.level AND m.who = (SELECT auth.uid())))",
    "(team IN (SELECT m.team FROM r.members m WHERE ((m.who = auth.uid()) OR (m.role = 'owner'))))",
];

/// Memberships change hands, come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hold_what_postgresql_shows_while_memberships_change_hands() {
    let mut dice = Dice::new("memberships, live");
    let db = TestDatabase::postgres().await;
    corpus::load_prelude(&db, &corpus::cases().0).await;
    db.execute(random::TABLES).await;
    db.execute("GRANT INSERT, UPDATE, DELETE ON r.docs TO anon, authenticated, corpus_auditor; \
                CREATE POLICY everybody ON r.members USING (true); CREATE POLICY own ON r.docs FOR UPDATE USING (true)")
        .await;
    for using in OF_MEMBERS {
        for _ in 0..rounds(1) {
            let policies = format!("CREATE POLICY members ON r.docs FOR SELECT USING {using}");
            db.execute(&format!(
                "DROP POLICY IF EXISTS members ON r.docs; {policies}"
            ))
            .await;
            random::fill(&db, &mut dice).await;
            one_set(&db, &policies, 3 * WRITES, &mut dice, random::membership).await;
        }
    }
}

/// Serves a set of policies, with some writes of the owner and of the users.
async fn one_set(
    db: &TestDatabase,
    policies: &str,
    writes: usize,
    dice: &mut Dice,
    write: fn(&mut Dice) -> String,
) {
    let users: BTreeMap<String, User> = [
        ("ann", Some(0), "authenticated"),
        ("ben", Some(1), "authenticated"),
        ("nobody", None, "anon"),
        ("eve", Some(2), "corpus_auditor_login"),
    ]
    .into_iter()
    .map(|(name, sub, role)| {
        let mode = if dice.chance(50) { "on" } else { "off" };
        let user = User {
            name: name.to_owned(),
            role: role.to_owned(),
            claims: Some(random::claims(sub, role, dice)),
            settings: BTreeMap::from([("app.mode".to_owned(), mode.to_owned())]),
        };
        (name.to_owned(), user)
    })
    .collect();
    let internal = ["r.members", "r.hidden", "r.admins"];
    let internal = internal.map(|table| EntityConfig::on_table(table, table).internal());
    let docs = EntityConfig::on_table(ENTITY, ENTITY).rls();
    let all = internal.into_iter().chain([docs]).collect();
    let mut served = Served::start(db, all, &users).await;
    let config = DatabaseConfig::default();
    let pool = DbPool::with_config(&db.url(), &config)
        .await
        .expect("a database");
    let reader = pool.policy_reader().await.expect("a connection");
    let examined = Examined::new(&reader.expect("PostgreSQL"), ENTITY, &[]).await;
    let entities = BTreeMap::from([(ENTITY.to_owned(), examined)]);
    let settings = BTreeSet::from(["app.mode".to_owned()]);
    let mut watchers = Vec::new();
    for (name, user) in &users {
        watchers.push(Watcher::connect(&served, name, user, &entities, &settings).await);
    }
    served.compare(&mut watchers, policies).await;
    for _ in 0..writes {
        let sql = if dice.chance(50) {
            let sql = write(dice);
            db.execute(&sql).await;
            sql
        } else {
            let write = RandomWrite::new(db, ENTITY, &entities[ENTITY], dice).await;
            let Some(write) = write else { continue };
            let at = dice.pick(0..watchers.len() as u64);
            let watcher = &mut watchers[usize::try_from(at).expect("a position")];
            served.push(watcher, "r", &write).await;
            write.sql
        };
        served
            .compare(&mut watchers, &format!("{policies}\n{sql}"))
            .await;
    }
    drop(watchers);
    served.server.shutdown().await;
}
