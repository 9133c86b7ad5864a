//! Guards: which rows of a table can change what is asked, at most.
//!
//! A question about the members of lists reads, for one user, the rows of that user alone: each time that it names the table, it
//! says `user_id = auth.uid()`. So a row that has another user, before a change and after it, cannot change the answer, and who
//! asks need not ask again. The column and the expression are the table's guard.
//!
//! A wrong guard would keep rows visible that have been taken away. So there is one only where nothing is in doubt: all that is
//! asked is understood, the table is reached by these texts alone, and values are equal here exactly when they are in PostgreSQL.

mod session;
mod walk;

use filter::{Scalar, Table};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::catalog::TableName;
use crate::family::Family;
use crate::parse;
use crate::plan::{Plan, Question};
use crate::uses::{Sources, Uses};

/// A row in which this column has another value than the expression concerns nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The column of the table, by position in its schema.
    pub column: usize,
    /// What it is compared with, which the session alone decides.
    pub expr: String,
}

/// The guards of a table: a row concerns those alone for whom one of them is true. While it is not known yet whether the types
/// fit, there may be several for one place in which the table is named.
#[derive(Debug, Clone)]
pub struct GuardDraft {
    places: Vec<Vec<Candidate>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    column: usize,
    expr: String,
    family: Family,
    /// Whether the session decides about the value, and not the text alone.
    is_of_session: bool,
}

/// The collations of an expression that leave it to the column's, or that tell all texts apart.
const COLLATIONS: [&str; 4] = ["\"default\"", "\"C\"", "\"POSIX\"", "ucs_basic"];

impl GuardDraft {
    /// The guards that a table may have for a plan that depends on `uses`. None when it has none.
    pub fn new(
        plan: &Plan,
        uses: &Uses,
        sources: &Sources,
        name: &TableName,
        table: Table<'_>,
    ) -> Option<Self> {
        if uses.is_dynamic || uses.clock.is_some() || uses.apart.is_some() {
            return None;
        }
        let texts: Vec<String> = match plan.is_per_row() {
            true => plan.policies.iter().map(|it| it.text.clone()).collect(),
            false => plan.questions.iter().map(text_of).collect(),
        };
        let mut places = Vec::new();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let expr = parse::expression(text).ok()?;
            places.extend(walk::places(&expr, text, name, sources, table)?);
        }
        Some(Self { places })
    }

    /// Expressions whose types, and of texts the collations, have to be known, as the statements that return their names. None
    /// is evaluated.
    pub fn probes(&self) -> Vec<String> {
        let probe = |candidate: &Candidate| {
            let expr = format!("CASE WHEN false THEN ({}) END", candidate.expr);
            let collation = match candidate.family {
                Family::Text => format!(
                    " OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(pg_catalog.pg_collation_for({expr}), '?')"
                ),
                _ => String::new(),
            };
            format!("SELECT pg_catalog.pg_typeof({expr})::pg_catalog.text{collation}")
        };
        self.places.iter().flatten().map(probe).collect()
    }

    /// Decides, with the answers in the order of the probes; none for a statement that PostgreSQL refuses. None when the table
    /// has no guard.
    pub fn finish(self, types: &[Option<String>]) -> Option<Vec<Guard>> {
        let mut types = types.iter().map(Option::as_deref);
        let mut guards = Vec::new();
        for place in self.places {
            let mut fitting: Vec<Candidate> = Vec::new();
            for candidate in place {
                let found = types.next().flatten();
                if found.is_some_and(|found| fits(&candidate.family, found)) {
                    fitting.push(candidate);
                }
            }
            // What is the same for everybody tells nobody apart.
            let best = fitting.iter().find(|candidate| candidate.is_of_session);
            let best = best.or(fitting.first())?;
            let guard = Guard {
                column: best.column,
                expr: best.expr.clone(),
            };
            if !guards.contains(&guard) {
                guards.push(guard);
            }
        }
        Some(guards)
    }
}

/// What is asked, as an expression.
fn text_of(question: &Question) -> String {
    match question {
        Question::Bit(expr) => expr.clone(),
        Question::Keys { query, .. } => format!("({query})"),
    }
}

/// Whether a type, with its collation if it is a text, is of a family.
fn fits(family: &Family, found: &str) -> bool {
    match family {
        Family::Text => COLLATIONS.iter().any(|collation| {
            let of_type = found
                .strip_suffix(collation)
                .and_then(|it| it.strip_suffix(' '));
            of_type.is_some_and(|it| Family::of_type(it) == Family::Text)
        }),
        family => Family::of_type(found) == *family,
    }
}

impl Guard {
    /// The statement that answers with the expression's value as one text, null when it is null.
    pub fn sql(&self) -> String {
        format!(
            "SELECT CASE WHEN q.v IS NOT NULL THEN pg_catalog.concat(q.v) END FROM (SELECT ({}) AS v) q",
            self.expr
        )
    }

    /// Reads the text that the statement returned, as a value of the column. None when it is not one.
    pub fn read(&self, text: &str, table: Table<'_>) -> Option<Scalar> {
        let name = Value::from(table.schema.columns.get(self.column)?.name.as_str());
        let row = format!("{{{name}:{}}}", Value::from(text));
        let reader = filter::RowReader::new(table, [self.column]);
        let row = reader.read(&RawValue::from_string(row).ok()?).ok()?;
        row.scalar(self.column).cloned()
    }
}
