//! Every case of the corpus: what is visible by the plan and its answers, at first and after each change, asking again only
//! where something was read that has changed.

use std::collections::{BTreeMap, BTreeSet};

use db::{DatabaseConfig, DbPool, PolicyReader};
use rls::{Group, Sources, Uses};
use serde_json::Value;
use testkit::TestDatabase;
use tokio_postgres::Client;

use super::corpus::{self, Case, Expected, Keys, User};
use super::examined::{Decides, Examined, Known, compare_together};
use super::truth;

/// The corpus in a database.
pub(crate) struct Loaded {
    pub(crate) db: TestDatabase,
    pub(crate) pool: DbPool,
    pub(crate) reader: PolicyReader,
    pub(crate) sources: Sources,
    pub(crate) cases: Vec<Case>,
}

/// Loads the cases that are wanted, but not the one that needs an extension when the server lacks it.
pub(crate) async fn load(wanted: impl Fn(usize, &Case) -> bool) -> Loaded {
    let db = TestDatabase::postgres().await;
    let (prelude, cases) = corpus::cases();
    let cases = cases
        .into_iter()
        .enumerate()
        .filter(|(number, case)| wanted(*number, case));
    let mut cases: Vec<Case> = cases.map(|(_, case)| case).collect();
    if !corpus::load_prelude(&db, &prelude).await {
        eprintln!("SKIPPED: the case with ltree, because this server does not have that extension");
        cases.retain(|case| !case.sql.contains("ltree"));
    }
    for case in &cases {
        db.execute(&case.sql).await;
    }
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
    let sources = reader.sources().await.expect("a database");
    Loaded {
        db,
        pool,
        reader,
        sources,
        cases,
    }
}

/// Which cases are per row for a user, and why.
#[derive(Default)]
struct Classes {
    per_row: BTreeMap<String, BTreeSet<String>>,
}

/// The corpus is split, so that its parts run beside each other.
const PARTS: usize = 4;
/// How many cases of each part are per row at most. A plan that is always per row would be right, too.
const PER_ROW_MAX: [usize; PARTS] = [6, 7, 5, 10];

#[tokio::test]
async fn the_first_quarter_of_the_corpus_is_visible_by_its_plans_as_postgresql_shows_it() {
    compare_part(0).await;
}

#[tokio::test]
async fn the_second_quarter_of_the_corpus_is_visible_by_its_plans_as_postgresql_shows_it() {
    compare_part(1).await;
}

#[tokio::test]
async fn the_third_quarter_of_the_corpus_is_visible_by_its_plans_as_postgresql_shows_it() {
    compare_part(2).await;
}

#[tokio::test]
async fn the_fourth_quarter_of_the_corpus_is_visible_by_its_plans_as_postgresql_shows_it() {
    compare_part(3).await;
}

async fn compare_part(part: usize) {
    let loaded = load(|number, _| number % PARTS == part).await;
    let expected = corpus::expected();
    let client = loaded.db.connect_postgres().await;
    let mut classes = Classes::default();
    let mut wrong = Vec::new();
    for case in &loaded.cases {
        let mut run = Run::begin(&loaded, case, &expected[&case.id], &client, &mut classes).await;
        run.compare("at first").await;
        for (number, sql) in case.moves.iter().enumerate() {
            run.make_move(number, sql).await;
        }
        wrong.append(&mut run.wrong);
    }
    let per_row = classes.per_row.len();
    println!("{} cases, {per_row} of them per row", loaded.cases.len());
    for (case, reasons) in &classes.per_row {
        println!("{case}: {reasons:?}");
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        per_row <= PER_ROW_MAX[part],
        "more cases are per row than were: {:?}",
        classes.per_row
    );
}

struct Run<'a> {
    loaded: &'a Loaded,
    case: &'a Case,
    expected: &'a Expected,
    client: &'a Client,
    entities: BTreeMap<String, Examined>,
    settings: BTreeSet<String>,
    /// By user and table.
    known: BTreeMap<(String, String), Known>,
    /// What the corpus says is visible now.
    visible: BTreeMap<String, BTreeMap<String, Keys>>,
    wrong: Vec<String>,
}

impl<'a> Run<'a> {
    async fn begin(
        loaded: &'a Loaded,
        case: &'a Case,
        expected: &'a Expected,
        client: &'a Client,
        classes: &mut Classes,
    ) -> Self {
        let roles: Vec<String> = case.users.iter().map(|user| user.role.clone()).collect();
        let mut entities = BTreeMap::new();
        let mut settings = BTreeSet::new();
        for entity in &case.entities {
            let table = format!("{}.{}", case.id, entity.table);
            let examined = Examined::new(&loaded.reader, &table, &roles).await;
            settings.extend(examined.uses(&loaded.sources).settings);
            entities.insert(entity.table.clone(), examined);
        }
        let mut visible = expected.initial.clone();
        for (user, tables) in &expected.on_a_reused_connection {
            visible
                .entry(user.clone())
                .or_default()
                .extend(tables.clone());
        }
        let mut run = Self {
            loaded,
            case,
            expected,
            client,
            entities,
            settings,
            known: BTreeMap::new(),
            visible,
            wrong: Vec::new(),
        };
        for user in &case.users {
            for (table, examined) in &run.entities {
                let decides = examined.decides(&loaded.reader, &user.role).await;
                if let Decides::Plan(plan) = &decides
                    && plan.is_per_row()
                {
                    let reasons = classes.per_row.entry(case.id.clone()).or_default();
                    reasons.extend(plan.reasons().map(str::to_owned));
                }
                let uses = examined.uses(&loaded.sources);
                let group = run.group(&user.name, &uses);
                let asked = examined
                    .ask(&loaded.reader, &decides, &group, &run.settings)
                    .await;
                let known = Known {
                    decides,
                    asked,
                    uses,
                };
                run.known.insert((user.name.clone(), table.clone()), known);
            }
        }
        run.ask_fresh_connections().await;
        run.ask_together().await;
        run
    }

    /// Asks again on connections on which nobody else's settings have been made, where these differ between the users.
    async fn ask_fresh_connections(&self) {
        let has_settings = |user: &User| !user.settings.is_empty() || user.claims.is_none();
        if !self.case.users.iter().any(has_settings) {
            return;
        }
        for ((user, table), known) in &self.known {
            let reader = self.loaded.pool.policy_reader().await;
            let reader = reader.expect("a connection").expect("PostgreSQL");
            let group = self.group(user, &known.uses);
            let examined = &self.entities[table];
            let asked = examined
                .ask(&reader, &known.decides, &group, &self.settings)
                .await;
            assert_eq!(
                asked, known.asked,
                "{} {user} {table} on a new connection",
                self.case.id
            );
        }
    }

    async fn ask_together(&self) {
        for (name, examined) in &self.entities {
            let of_table = self.known.iter().filter(|((_, table), _)| table == name);
            let known = of_table.map(|((user, _), known)| (self.group(user, &known.uses), known));
            let known: Vec<(Group, &Known)> = known.collect();
            compare_together(&self.loaded.reader, examined, &known, &self.settings).await;
        }
    }

    fn group(&self, user: &str, uses: &Uses) -> Group {
        let user = self.case.user(user);
        Group::new(&user.role, user.claims.as_ref(), &user.settings, uses)
    }

    /// Makes a change as the owner, asks again where it is needed, and compares.
    async fn make_move(&mut self, number: usize, sql: &str) {
        let before = self.contents().await;
        let path = format!("SET search_path = {}, public; ", self.case.id);
        self.loaded.db.execute(&(path + sql)).await;
        let after = self.contents().await;
        let changed = after
            .iter()
            .filter(|(table, content)| before.get(*table) != Some(*content));
        let changed: BTreeSet<u32> = changed.map(|(table, _)| *table).collect();
        let mut again = Vec::new();
        for (name, known) in self
            .known
            .iter()
            .filter(|(_, known)| known.may_change(&changed))
        {
            let group = self.group(&name.0, &known.uses);
            let examined = &self.entities[&name.1];
            let asked = examined
                .ask(&self.loaded.reader, &known.decides, &group, &self.settings)
                .await;
            again.push((name.clone(), asked));
        }
        for (name, asked) in again {
            self.known.get_mut(&name).expect("it was asked").asked = asked;
        }
        let changes = self.expected.moves[number].changed.clone();
        for (user, tables) in changes {
            self.visible.entry(user).or_default().extend(tables);
        }
        self.compare(&format!("after {sql}")).await;
    }

    /// A hash of what each table holds, by oid.
    async fn contents(&self) -> BTreeMap<u32, String> {
        let tables = format!(
            "SELECT format('SELECT json_build_array(%s, md5(coalesce(string_agg(t::text, '','' ORDER BY t::text), '''')))::text FROM %s t', \
             c.oid, c.oid::regclass) FROM pg_class c WHERE c.relnamespace = '{}'::regnamespace AND c.relkind IN ('r', 'p')",
            self.case.id
        );
        let mut contents = BTreeMap::new();
        for sql in self
            .loaded
            .db
            .query_text(&tables)
            .await
            .into_iter()
            .flatten()
        {
            let hash = self.loaded.db.query_json(&sql).await.remove(0);
            let (oid, hash): (u32, String) =
                serde_json::from_value(hash).expect("an oid and a hash");
            contents.insert(oid, hash);
        }
        contents
    }

    /// Compares what is visible with PostgreSQL itself, and with what the corpus says.
    async fn compare(&mut self, when: &str) {
        for ((user, table), known) in &self.known {
            let examined = &self.entities[table];
            let rows = examined.rows(&self.loaded.db).await;
            let seen = examined.visible(known, &rows);
            let (key, from) = examined.sql();
            let group = self.group(user, &known.uses);
            let shown = truth::visible(self.client, &group, &self.settings, key, from).await;
            let what = format!("{} {user} {table} {when}", self.case.id);
            if shown.clone().unwrap_or_default() != seen {
                self.wrong.push(format!(
                    "{what}: {seen:?} here, {shown:?} in PostgreSQL\n{known:?}"
                ));
            }
            if self.case.is_flagged("clock") {
                continue;
            }
            let columns = self.entity_key(table);
            let seen: Vec<Value> = seen
                .iter()
                .map(|key| truth::as_in_corpus(key, columns))
                .collect();
            let is_expected = match &self.visible[user][table] {
                Keys::Error(_) => seen.is_empty() && shown.is_err(),
                Keys::Rows(rows) => {
                    rows.len() == seen.len() && rows.iter().all(|row| seen.contains(row))
                }
            };
            if !is_expected {
                let expected = &self.visible[user][table];
                self.wrong.push(format!(
                    "{what}: {seen:?}, but the corpus says {expected:?}"
                ));
            }
        }
    }

    fn entity_key(&self, table: &str) -> usize {
        let entity = self
            .case
            .entities
            .iter()
            .find(|entity| entity.table == table);
        entity.expect("an entity of the case").key.len()
    }
}
