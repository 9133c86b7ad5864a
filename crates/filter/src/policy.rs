//! Policies: filters in which `auth.…` stands for what is known of the principal.
//!
//! A policy is parsed once. It is checked against its table without any claims, and bound to a principal's claims for
//! each decision. A claim that is missing, or that does not convert exactly to what it is compared with, is SQL's null;
//! so a policy that has passed the check can be bound to whatever claims somebody has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::check::check;
use super::claim::{Claim, ClaimPath};
use super::condition::{Condition, Table};
use super::error::FilterError;
use super::params::for_each_operand;
use super::parse::parse_policy;
use super::syntax::{Expr, Operand, Term};

/// A policy as it was written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Policy(Arc<Written>);

#[derive(Debug)]
struct Written {
    expr: Expr,
    claims: BTreeSet<ClaimPath>,
    names_columns: bool,
    has_subqueries: bool,
}

/// A policy with the claims that it names.
#[derive(Debug, Clone)]
pub struct BoundPolicy {
    policy: Policy,
    claims: Arc<BTreeMap<ClaimPath, Claim>>,
}

impl Policy {
    /// Reads a policy's text.
    ///
    /// # Errors
    /// When the text is too large, or is not a policy; the error says where.
    pub fn new(text: &str) -> Result<Self, FilterError> {
        let expr = parse_policy(text)?;
        let mut claims = BTreeSet::new();
        let mut names_columns = false;
        for_each_operand(&expr, &mut |operand| match &operand.term {
            Term::Claim(path) => {
                claims.insert(path.clone());
            }
            Term::Column { .. } => names_columns = true,
            _ => {}
        });
        Ok(Self(Arc::new(Written {
            claims,
            names_columns,
            has_subqueries: has_subqueries(&expr),
            expr,
        })))
    }

    /// Checks the policy against its table: every name and every type.
    ///
    /// # Errors
    /// The first thing that cannot be evaluated exactly, with its position.
    pub fn check(&self, table: Table<'_>) -> Result<(), FilterError> {
        self.bind(|_| Claim::Null).condition(table).map(drop)
    }

    /// The claim that the whole text names, if it names one and nothing else.
    pub fn as_claim(&self) -> Option<&ClaimPath> {
        match &self.0.expr {
            Expr::Operand(Operand {
                term: Term::Claim(path),
                ..
            }) => Some(path),
            _ => None,
        }
    }

    /// The claims that it names.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        self.0.claims.iter()
    }

    /// Whether it names a column, so that its answer depends on the row.
    pub fn names_columns(&self) -> bool {
        self.0.names_columns
    }

    /// Whether it reads other tables.
    pub fn has_subqueries(&self) -> bool {
        self.0.has_subqueries
    }

    /// The policy with the claims that it names.
    pub fn bind(&self, claim: impl Fn(&ClaimPath) -> Claim) -> BoundPolicy {
        let claims = self.0.claims.iter();
        BoundPolicy {
            policy: self.clone(),
            claims: Arc::new(claims.map(|path| (path.clone(), claim(path))).collect()),
        }
    }
}

impl BoundPolicy {
    /// The policy as a condition on its table's columns.
    ///
    /// # Errors
    /// When the policy does not pass [`Policy::check`] on this table, or when its claims are too large.
    pub(super) fn condition(&self, table: Table<'_>) -> Result<Condition, FilterError> {
        check(&self.policy.0.expr, &[], &self.claims, table)
    }
}

fn has_subqueries(expr: &Expr) -> bool {
    match expr {
        Expr::InSubquery { .. } | Expr::Exists(_) => true,
        Expr::Not(inner) => has_subqueries(inner),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(has_subqueries),
        Expr::Operand(_)
        | Expr::Compare { .. }
        | Expr::In { .. }
        | Expr::InClaim { .. }
        | Expr::Between { .. }
        | Expr::IsNull { .. }
        | Expr::Like { .. } => false,
    }
}
