//! Random policies on tables that read each other, random writes, and the same comparison as for the corpus.

use std::collections::{BTreeMap, BTreeSet};

use db::{DatabaseConfig, DbPool, PolicyReader};
use rhtmx_sync_tests::Dice;
use rls::{Group, Sources};
use serde_json::{Map, Value, json};
use testkit::TestDatabase;

use super::examined::{Decides, Examined, Known, compare_together};
use super::{corpus, truth};

pub(crate) const TABLES: &str = include_str!("random.sql");

/// How many sets of policies are tried, and how many writes beside each.
const ROUNDS: usize = 40;
const WRITES: usize = 4;

const USERS: [&str; 3] = [
    "a11ce000-0000-4000-8000-000000000001",
    "b0b00000-0000-4000-8000-000000000002",
    "ca401000-0000-4000-8000-000000000003",
];

/// Conditions on the row alone.
const ROW: [&str; 9] = [
    "state = 'a'",
    "state <> 'b'",
    "state IN ('a', 'c')",
    "state NOT IN ('a', 'c')",
    "open",
    "open IS NOT FALSE",
    "level > 2",
    "level IS NULL",
    "state LIKE 'a%'",
];
/// Conditions on the session alone.
const SESSION: [&str; 6] = [
    "auth.uid() IS NOT NULL",
    "r.is_admin()",
    "(SELECT r.is_admin())",
    "auth.jwt() ->> 'plan' = 'pro'",
    "current_setting('app.mode', true) = 'on'",
    "EXISTS (SELECT 1 FROM r.members WHERE who = auth.uid() AND role = 'owner')",
];
/// Conditions that columns are in a set of the session's.
const KEY: [&str; 15] = [
    "owner = auth.uid()",
    "owner <> auth.uid()",
    "owner IS NOT DISTINCT FROM auth.uid()",
    "owner IS DISTINCT FROM auth.uid()",
    "team IN (SELECT team FROM r.members WHERE who = auth.uid())",
    "team NOT IN (SELECT team FROM r.hidden)",
    "NOT EXISTS (SELECT 1 FROM r.hidden h WHERE h.team = docs.team)",
    "EXISTS (SELECT 1 FROM r.members m WHERE m.team = docs.team AND m.who = auth.uid())",
    "EXISTS (SELECT 1 FROM r.members m JOIN r.hidden h USING (team) WHERE m.team = docs.team AND m.role = docs.state)",
    "EXISTS (SELECT 1 FROM r.members WHERE who = auth.uid() AND team = members.team)",
    "auth.uid() IN (SELECT who FROM r.members WHERE members.team = docs.team)",
    "team = r.my_team()",
    "team = ANY (r.my_teams())",
    "team IN (SELECT r.team_set())",
    "(team, state) IN (SELECT team, role FROM r.members)",
];
/// Conditions that are per row.
const PER_ROW: [&str; 4] = [
    "r.is_member(team)",
    "level >= coalesce((auth.jwt() ->> 'level')::int, 0)",
    "lower(state) = 'a'",
    "(10 / level) > 1",
];
/// Policies of the table that others read.
const OF_MEMBERS: [&str; 4] = [
    "true",
    "who = auth.uid()",
    "role <> 'owner' OR who = auth.uid()",
    "team IN (SELECT team FROM r.hidden)",
];

#[tokio::test]
async fn what_is_visible_by_random_plans_is_what_postgresql_shows_the_role() {
    let mut dice = Dice::new("random policies");
    let db = TestDatabase::postgres().await;
    corpus::load_prelude(&db, &corpus::cases().0).await;
    db.execute(TABLES).await;
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
    let client = db.connect_postgres().await;
    let roles = [
        "anon",
        "authenticated",
        "corpus_auditor",
        "corpus_auditor_login",
    ];
    let roles: Vec<String> = roles.map(str::to_owned).to_vec();
    let mut docs = Examined::new(&reader, "r.docs", &roles).await;
    let mut decided_here = 0;
    for _ in 0..ROUNDS {
        let policies = policies(&mut dice);
        db.execute(&policies).await;
        fill(&db, &mut dice).await;
        docs.read_again(&reader, &roles).await;
        let mut round = Round::begin(&docs, &reader, &mut dice).await;
        decided_here += round.decided_here();
        round.compare(&db, &client, &policies).await;
        for _ in 0..WRITES {
            let (sql, table) = write(&mut dice);
            db.execute(&sql).await;
            let changed = oid(&db, table).await;
            round.ask_again(&reader, changed).await;
            round
                .compare(&db, &client, &format!("{policies}\n{sql}"))
                .await;
        }
    }
    assert!(
        decided_here > ROUNDS / 4,
        "nearly everything was per row: {decided_here}"
    );
}

/// One set of policies, with some sessions.
struct Round<'a> {
    docs: &'a Examined,
    settings: BTreeSet<String>,
    known: Vec<(Group, Known)>,
}

impl<'a> Round<'a> {
    async fn begin(docs: &'a Examined, reader: &PolicyReader, dice: &mut Dice) -> Self {
        let sources: Sources = reader.sources().await.expect("a database");
        let uses = docs.uses(&sources);
        let mut round = Self {
            docs,
            settings: uses.settings.clone(),
            known: Vec::new(),
        };
        for (user, role) in [
            (Some(0), "authenticated"),
            (Some(1), "authenticated"),
            (None, "anon"),
            (Some(2), "corpus_auditor_login"),
        ] {
            let claims = claims(user, role, dice);
            let mode = if dice.chance(50) { "on" } else { "off" };
            let settings = BTreeMap::from([("app.mode".to_owned(), mode.to_owned())]);
            let group = Group::new(role, Some(&claims), &settings, &uses);
            let decides = docs.decides(reader, role).await;
            let asked = docs.ask(reader, &decides, &group, &round.settings).await;
            let known = Known {
                decides,
                asked,
                uses: uses.clone(),
            };
            round.known.push((group, known));
        }
        let known: Vec<(Group, &Known)> = round
            .known
            .iter()
            .map(|(group, known)| (group.clone(), known))
            .collect();
        compare_together(reader, docs, &known, &round.settings).await;
        round
    }

    fn decided_here(&self) -> usize {
        let is_here =
            |known: &Known| matches!(&known.decides, Decides::Plan(plan) if !plan.is_per_row());
        self.known
            .iter()
            .filter(|(_, known)| is_here(known))
            .count()
    }

    async fn ask_again(&mut self, reader: &PolicyReader, changed: u32) {
        for (group, known) in &mut self.known {
            if known.may_change(&BTreeSet::from([changed])) {
                known.asked = self
                    .docs
                    .ask(reader, &known.decides, group, &self.settings)
                    .await;
            }
        }
    }

    async fn compare(&self, db: &TestDatabase, client: &tokio_postgres::Client, what: &str) {
        let rows = self.docs.rows(db).await;
        let (key, from) = self.docs.sql();
        for (group, known) in &self.known {
            let seen = self.docs.visible(known, &rows);
            let shown = truth::visible(client, group, &self.settings, key, from).await;
            let expected = shown.clone().unwrap_or_default();
            assert_eq!(seen, expected, "{what}\n{group:?}\n{shown:?}\n{known:#?}");
        }
    }
}

pub(crate) fn claims(user: Option<usize>, role: &str, dice: &mut Dice) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("role".to_owned(), role.into());
    claims.insert("exp".to_owned(), json!(dice.number() % 1000));
    if let Some(user) = user {
        claims.insert("sub".to_owned(), USERS[user].into());
    }
    if dice.chance(50) {
        claims.insert("plan".to_owned(), "pro".into());
    }
    claims
}

fn one_of<'a>(choices: &[&'a str], dice: &mut Dice) -> &'a str {
    let at = dice.pick(0..choices.len() as u64);
    choices[usize::try_from(at).expect("a position")]
}

/// The statements that replace the policies.
pub(crate) fn policies(dice: &mut Dice) -> String {
    let mut sql = "DO $$ DECLARE p record; BEGIN FOR p IN SELECT * FROM pg_policies WHERE schemaname = 'r' LOOP \
                   EXECUTE format('DROP POLICY %I ON r.%I', p.policyname, p.tablename); END LOOP; END $$;\n"
        .to_owned();
    let mut add = |table: &str, kind: &str, using: &str, dice: &mut Dice| {
        let roles = [
            "public",
            "public",
            "public",
            "authenticated",
            "anon, authenticated",
            "corpus_auditor",
        ];
        let (roles, command) = (
            one_of(&roles, dice),
            one_of(&["ALL", "SELECT", "SELECT", "UPDATE"], dice),
        );
        let number = sql.len();
        sql += &format!(
            "CREATE POLICY p{number} ON r.{table} AS {kind} FOR {command} TO {roles} USING ({using});\n"
        );
    };
    for _ in 0..dice.pick(1..4) {
        let using = expression(dice, 2);
        add("docs", "PERMISSIVE", &using, dice);
    }
    for _ in 0..dice.pick(0..3) {
        let using = expression(dice, 1);
        add("docs", "RESTRICTIVE", &using, dice);
    }
    for _ in 0..dice.pick(1..3) {
        add("members", "PERMISSIVE", one_of(&OF_MEMBERS, dice), dice);
    }
    add(
        "hidden",
        "PERMISSIVE",
        one_of(&["true", "team > 1", "auth.uid() IS NOT NULL"], dice),
        dice,
    );
    sql
}

fn expression(dice: &mut Dice, depth: usize) -> String {
    if depth > 0 && dice.chance(60) {
        let (left, right) = (expression(dice, depth - 1), expression(dice, depth - 1));
        return match dice.pick(0..5) {
            0 => format!("NOT ({left})"),
            1 | 2 => format!("({left}) AND ({right})"),
            _ => format!("({left}) OR ({right})"),
        };
    }
    let choices: &[&str] = match dice.pick(0..20) {
        0 => &PER_ROW,
        1..=5 => &ROW,
        6..=9 => &SESSION,
        _ => &KEY,
    };
    one_of(choices, dice).to_owned()
}

/// Replaces what the tables hold.
pub(crate) async fn fill(db: &TestDatabase, dice: &mut Dice) {
    let mut sql =
        "DELETE FROM r.docs; DELETE FROM r.members; DELETE FROM r.hidden; DELETE FROM r.admins;"
            .to_owned();
    for id in 0..12 {
        sql += &format!("INSERT INTO r.docs VALUES ({id}, {});", doc(dice));
    }
    for _ in 0..6 {
        sql += &member(dice);
    }
    for id in 0..dice.pick(0..3) {
        sql += &format!("INSERT INTO r.hidden VALUES ({id}, {});", team(dice));
    }
    if dice.chance(50) {
        sql += &format!("INSERT INTO r.admins VALUES ('{}');", one_of(&USERS, dice));
    }
    db.execute(&sql).await;
}

fn team(dice: &mut Dice) -> &'static str {
    one_of(&["1", "2", "3", "4", "NULL"], dice)
}

/// The values of a row of `docs`, but its key.
fn doc(dice: &mut Dice) -> String {
    let owner = match dice.chance(20) {
        true => "NULL".to_owned(),
        false => format!("'{}'", one_of(&USERS, dice)),
    };
    let state = one_of(&["'a'", "'b'", "'ab'", "'owner'", "NULL"], dice);
    let open = one_of(&["true", "false", "NULL"], dice);
    let level = one_of(&["1", "3", "5", "NULL"], dice);
    format!("{owner}, {}, {state}, {open}, {level}", team(dice))
}

fn member(dice: &mut Dice) -> String {
    let (team, who) = (dice.pick(1..5), one_of(&USERS, dice));
    let role = one_of(&["owner", "a"], dice);
    format!("INSERT INTO r.members VALUES ({team}, '{who}', '{role}') ON CONFLICT DO NOTHING;")
}

/// A write, and the table that it changes.
pub(crate) fn write(dice: &mut Dice) -> (String, &'static str) {
    let id = dice.pick(0..12);
    match dice.pick(0..7) {
        0 => (
            format!("DELETE FROM r.members WHERE team = {}", dice.pick(1..5)),
            "members",
        ),
        1 => (member(dice), "members"),
        2 => (
            format!("DELETE FROM r.hidden WHERE id = {}", id % 3),
            "hidden",
        ),
        3 => (
            format!(
                "INSERT INTO r.hidden VALUES ({id}, {}) ON CONFLICT DO NOTHING",
                team(dice)
            ),
            "hidden",
        ),
        4 => (
            format!(
                "INSERT INTO r.admins VALUES ('{}') ON CONFLICT DO NOTHING",
                one_of(&USERS, dice)
            ),
            "admins",
        ),
        5 => ("DELETE FROM r.admins".to_owned(), "admins"),
        _ => {
            let values = doc(dice);
            (
                format!(
                    "DELETE FROM r.docs WHERE id = {id}; INSERT INTO r.docs VALUES ({id}, {values})"
                ),
                "docs",
            )
        }
    }
}

/// A write to the memberships.
pub(crate) fn membership(dice: &mut Dice) -> String {
    let (team, who, other) = (dice.pick(1..5), one_of(&USERS, dice), one_of(&USERS, dice));
    match dice.pick(0..4) {
        0 => format!("DELETE FROM r.members WHERE who = '{who}'"),
        // Unless the other is a member already.
        1 | 2 => format!(
            "UPDATE r.members m SET who = '{other}' WHERE who = '{who}' AND NOT EXISTS \
             (SELECT FROM r.members o WHERE o.team = m.team AND o.who = '{other}')"
        ),
        _ => {
            let role = one_of(&["owner", "a"], dice);
            format!(
                "INSERT INTO r.members VALUES ({team}, '{who}', '{role}') ON CONFLICT DO NOTHING"
            )
        }
    }
}

async fn oid(db: &TestDatabase, table: &str) -> u32 {
    let oid = db
        .query_text(&format!("SELECT 'r.{table}'::regclass::oid"))
        .await
        .remove(0);
    oid.expect("an oid").parse().expect("a number")
}
