//! The corpus: cases as people write them, in SQL with a line of JSON before each, and what PostgreSQL answered.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use testkit::TestDatabase;

const SQL: &str = include_str!("corpus.sql");
const ANSWERS: &str = include_str!("corpus.json");

/// The line before a case.
const CASE: &str = "-- @case ";

/// A case: a schema of its own, with some users.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) entities: Vec<CaseEntity>,
    pub(crate) users: Vec<User>,
    pub(crate) moves: Vec<String>,
    pub(crate) writes: Vec<Write>,
    pub(crate) flags: Vec<String>,
    /// Its statements.
    #[serde(skip)]
    pub(crate) sql: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CaseEntity {
    pub(crate) table: String,
    pub(crate) key: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) claims: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Write {
    pub(crate) user: String,
    pub(crate) sql: String,
}

/// What PostgreSQL answered in a case.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Expected {
    /// By user and table.
    pub(crate) initial: BTreeMap<String, BTreeMap<String, Keys>>,
    pub(crate) moves: Vec<Move>,
    pub(crate) writes: Vec<Written>,
    #[serde(default)]
    pub(crate) on_a_reused_connection: BTreeMap<String, BTreeMap<String, Keys>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Move {
    pub(crate) changed: BTreeMap<String, BTreeMap<String, Keys>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Written {
    pub(crate) result: String,
}

/// The visible keys, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Keys {
    /// Each a text, or one text for each column.
    Rows(Vec<Value>),
    Error(String),
}

impl Case {
    pub(crate) fn is_flagged(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    pub(crate) fn user(&self, name: &str) -> &User {
        let user = self.users.iter().find(|user| user.name == name);
        user.expect("a user of the case")
    }
}

/// What comes before the cases, and the cases.
pub(crate) fn cases() -> (String, Vec<Case>) {
    let begins = format!("\n{CASE}");
    let mut parts = SQL.split(&begins);
    let prelude = parts.next().expect("a prelude").to_owned();
    let case = |part: &str| {
        let (json, sql) = part.split_once('\n').expect("statements after the line");
        let case: Case = serde_json::from_str(json).expect("a case");
        Case {
            sql: sql.to_owned(),
            ..case
        }
    };
    (prelude, parts.map(case).collect())
}

/// What PostgreSQL answered, by case.
pub(crate) fn expected() -> BTreeMap<String, Expected> {
    #[derive(Deserialize)]
    struct Answers {
        cases: BTreeMap<String, Expected>,
    }
    let answers: Answers = serde_json::from_str(ANSWERS).expect("answers");
    answers.cases
}

/// Makes the roles of the corpus, which all databases of a server share, though several tests do so at once.
pub(crate) async fn make_roles(db: &TestDatabase) {
    for role in [
        "anon nologin noinherit",
        "authenticated nologin noinherit",
        "service_role nologin noinherit bypassrls",
        "corpus_auditor nologin",
        "corpus_auditor_login nologin in role corpus_auditor",
    ] {
        db.execute(&format!(
            "DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ))
        .await;
    }
}

/// Loads what comes before the cases. Returns whether the server has `ltree`, which one of them needs.
pub(crate) async fn load_prelude(db: &TestDatabase, prelude: &str) -> bool {
    make_roles(db).await;
    let available = "SELECT 1 FROM pg_available_extensions WHERE name = 'ltree'";
    let has_ltree = !db.query_text(available).await.is_empty();
    let prelude = match has_ltree {
        true => prelude.to_owned(),
        false => prelude.replace(
            "create extension if not exists ltree with schema public;",
            "",
        ),
    };
    db.execute(&prelude).await;
    has_ltree
}
