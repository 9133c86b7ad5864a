//! Row level security of PostgreSQL as a plan: which rows of a table a role may see.
//!
//! The policies of a table are read from the catalog ([`TableFacts`]). For a role, [`Scope::of`] says whether policies decide
//! at all; then a [`Draft`] writes each policy as an OR of ANDs and classes every condition in it ([`Condition`]):
//!
//! - *row*: it looks at the row alone, and is evaluated here, as a [`filter::Filter`];
//! - *session*: it names no column of the row. PostgreSQL is asked for one bit, as the role with its claims;
//! - *key*: columns of the row are in a set that the session alone decides. PostgreSQL is asked for the set, the same way;
//! - *per row*: anything else. Then PostgreSQL is asked for the keys of the rows that the role may see.
//!
//! Invariant: whatever is not understood for certain is per row, which is always right. So an answer that differs from
//! PostgreSQL's own can only come from a condition that was taken for one of the other three wrongly.
//!
//! Which rows of the tables that policies read can change an answer at all, [`Guard`]s say.
//!
//! What is asked is a [`Question`]; a [`Group`] of sessions with the same role and the same claims, as far as policies
//! read them ([`Uses`]), asks once. [`Plan::is_visible`] puts the answers together.

mod catalog;
mod classify;
mod explain;
mod family;
mod group;
mod guard;
mod key;
mod names;
mod parse;
mod plan;
mod row;
mod scan;
#[cfg(test)]
mod tests;
mod uses;
mod visible;

pub use catalog::{ColumnFacts, Command, Policy, RoleFacts, TableFacts, TableName};
pub use group::{Group, KNOWN_SETTINGS, is_custom_setting};
pub use guard::{Guard, GuardDraft};
pub use plan::{Condition, Draft, Plan, PlannedPolicy, Question, Scope};
pub use uses::{Claims, Source, SourceKind, Sources, Uses};
pub use visible::{Answer, Answers, KeySet};
