//! What decides which rows of a table a role sees, and what has to be asked for that.

use filter::{Backend, Filter, Membership, Table};
use value::schema::Schema;

use crate::catalog::{Policy, RoleFacts, TableFacts};
use crate::classify::{self, Leaf, Terms};
use crate::family::Family;
use crate::key::Key;
use crate::names::Names;

/// What a role sees of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Every row.
    Everything(&'static str),
    /// No row.
    Nothing(&'static str),
    /// What the policies allow.
    Policies {
        /// One of them must allow a row.
        permissive: Vec<&'a Policy>,
        /// All of them must.
        restrictive: Vec<&'a Policy>,
    },
}

impl<'a> Scope<'a> {
    /// What a role sees of a table whose key has these columns.
    pub fn of(facts: &'a TableFacts, role: &RoleFacts, key: &[&str]) -> Self {
        if !role.may_be_set {
            return Self::Nothing("the engine's role may not become this role");
        }
        if !role.enters_schema {
            return Self::Nothing("the role may not use the table's schema");
        }
        if !key.iter().all(|column| role.readable.contains(*column)) {
            return Self::Nothing("the role may not read the table's key");
        }
        if !facts.enabled {
            return Self::Everything("row level security is not enabled");
        }
        if role.bypasses {
            return Self::Everything("the role bypasses row level security");
        }
        if role.owns && !facts.forced {
            return Self::Everything(
                "the role owns the table, and row level security is not forced",
            );
        }
        let policies = facts.policies.iter();
        let (permissive, restrictive): (Vec<&Policy>, Vec<&Policy>) = policies
            .filter(|policy| policy.is_for_reading_by(role))
            .partition(|policy| policy.permissive);
        if permissive.is_empty() {
            return Self::Nothing("no permissive policy is for reading by this role");
        }
        Self::Policies {
            permissive,
            restrictive,
        }
    }
}

/// One condition of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// On the row alone.
    Row(Filter),
    /// On the session alone: the answer to the question at this position.
    Session(usize),
    /// Columns of the row are in the set that answers a question, or are not.
    Key {
        /// The columns, by position in the schema.
        columns: Vec<usize>,
        /// The position of the question.
        question: usize,
        /// Which rows are in the set.
        membership: Membership,
        /// Whether the row must not be in it.
        negated: bool,
    },
    /// Anything else, with the reason.
    PerRow(String),
}

/// What PostgreSQL is asked, as a role with its claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether an expression is true.
    Bit(String),
    /// The different rows of a query.
    Keys {
        /// The query, with the columns `k0`, `k1`, ….
        query: String,
        /// The columns of the table that they are compared with, by position in the schema.
        columns: Vec<usize>,
    },
}

impl Question {
    /// The most keys of one set. With more the question fails.
    pub const KEYS_MAX: usize = 1_000_000;

    /// The statement that answers it with one text.
    pub fn sql(&self) -> String {
        match self {
            Self::Bit(expr) => format!("SELECT CASE WHEN ({expr}) THEN 't' ELSE 'f' END"),
            Self::Keys { query, columns } => {
                let value = |at| {
                    format!("CASE WHEN k.k{at} IS NOT NULL THEN pg_catalog.concat(k.k{at}) END")
                };
                let values: Vec<String> = (0..columns.len()).map(value).collect();
                format!(
                    "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array({})), '[]'::pg_catalog.json)::pg_catalog.text \
                     FROM (SELECT * FROM ({query}) q LIMIT {}) k",
                    values.join(", "),
                    Self::KEYS_MAX + 1
                )
            }
        }
    }
}

/// A policy, as an OR of ANDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPolicy {
    /// Its name.
    pub name: String,
    /// Whether it grants.
    pub permissive: bool,
    /// Its text.
    pub text: String,
    /// The alternatives, each with the conditions that must all be true.
    pub terms: Vec<Vec<Condition>>,
}

/// What decides for a role whose rows policies decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The policies, the permissive ones first.
    pub policies: Vec<PlannedPolicy>,
    /// What is asked, once for each group.
    pub questions: Vec<Question>,
}

impl Plan {
    /// Whether some condition is per row: then the keys of the rows that the role may see decide alone.
    pub fn is_per_row(&self) -> bool {
        self.reasons().next().is_some()
    }

    /// Why conditions are per row.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.conditions().filter_map(|condition| match condition {
            Condition::PerRow(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// All conditions.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.policies
            .iter()
            .flat_map(|policy| policy.terms.iter().flatten())
    }
}

/// A plan that does not know yet whether the types of what it would ask fit.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    policies: Vec<(&'a Policy, Terms)>,
    schema: &'a Schema,
    backend: Backend,
}

impl<'a> Draft<'a> {
    /// Classes policies of a table.
    pub fn new(
        facts: &TableFacts,
        permissive: &[&'a Policy],
        restrictive: &[&'a Policy],
        table: Table<'a>,
    ) -> Self {
        let columns: Vec<String> = facts
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let names = Names {
            table: &facts.name,
            columns: &columns,
        };
        let classed = |policy: &&'a Policy| {
            // A policy without an expression allows every row.
            let text = policy.using.as_deref().unwrap_or("true");
            (*policy, classify::terms(text, names, table))
        };
        Self {
            policies: permissive.iter().chain(restrictive).map(classed).collect(),
            schema: table.schema,
            backend: table.backend,
        }
    }

    /// Expressions whose types have to be known, as the statements that return their names. None is evaluated, so no right
    /// is needed beyond that to use the schemas named.
    pub fn probes(&self) -> Vec<String> {
        let type_of = |expr: &str| {
            format!(
                "SELECT pg_catalog.pg_typeof(CASE WHEN false THEN ({expr}) END)::pg_catalog.text"
            )
        };
        let leaves = self
            .policies
            .iter()
            .flat_map(|(_, terms)| terms.iter().flatten());
        let probes = leaves.flat_map(|leaf| match leaf {
            Leaf::Session(expr) => vec![type_of(expr)],
            Leaf::Key(key) => (0..key.columns.len())
                .map(|at| type_of(&format!("SELECT q.k{at} FROM ({}) q", key.query)))
                .collect(),
            Leaf::Row(_) | Leaf::PerRow(_) => Vec::new(),
        });
        probes.collect()
    }

    /// Decides, with the types in the order of the probes; none for a statement that PostgreSQL refuses.
    pub fn finish(self, types: &[Option<String>]) -> Plan {
        let mut types = types.iter().map(Option::as_deref);
        let mut questions = Questions::default();
        let table = Table::new(self.schema, self.backend);
        let policies = self.policies.into_iter().map(|(policy, terms)| {
            let terms = terms.into_iter().map(|term| {
                let conditions = term.into_iter().map(|leaf| match leaf {
                    Leaf::Row(filter) => Condition::Row(filter),
                    Leaf::PerRow(why) => Condition::PerRow(why),
                    Leaf::Session(expr) => match types.next().flatten() {
                        Some("boolean") => {
                            Condition::Session(questions.position(Question::Bit(expr)))
                        }
                        _ => Condition::PerRow(format!("it cannot be asked alone: {expr}")),
                    },
                    Leaf::Key(key) => {
                        let found: Vec<Option<&str>> =
                            key.columns.iter().map(|_| types.next().flatten()).collect();
                        questions.key(key, &found, table)
                    }
                });
                conditions.collect()
            });
            PlannedPolicy {
                name: policy.name.clone(),
                permissive: policy.permissive,
                text: policy.using.clone().unwrap_or_default(),
                terms: terms.collect(),
            }
        });
        let policies = policies.collect();
        Plan {
            policies,
            questions: questions.0,
        }
    }
}

#[derive(Default)]
struct Questions(Vec<Question>);

impl Questions {
    fn position(&mut self, question: Question) -> usize {
        self.0
            .iter()
            .position(|known| *known == question)
            .unwrap_or_else(|| {
                self.0.push(question);
                self.0.len() - 1
            })
    }

    fn key(&mut self, key: Key, types: &[Option<&str>], table: Table<'_>) -> Condition {
        for (column, found) in key.columns.iter().zip(types) {
            let family = Family::of_column(table, *column);
            let fits = family.is_some() && family == found.map(Family::of_type);
            if !fits || family == Some(Family::Bool) {
                let name = &table.schema.columns[*column].name;
                let found = found.unwrap_or("something that cannot be asked alone");
                return Condition::PerRow(format!("{name:?} is compared with {found}"));
            }
        }
        let question = Question::Keys {
            query: key.query,
            columns: key.columns.clone(),
        };
        Condition::Key {
            columns: key.columns,
            question: self.position(question),
            membership: key.membership,
            negated: key.negated,
        }
    }
}
