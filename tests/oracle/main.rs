//! Core's logic checked against the databases themselves.

mod changes;
mod cursor_query;
mod filters;
mod membership;
mod random_snapshots;
mod real_snapshots;
mod subqueries;
mod visibility;
