//! Filters: the small part of SQL by which a client says which rows it wants.
//!
//! A filter is parsed once ([`Filter::new`]), checked against its table, and brought into one form,
//! so that filters that say the same are one ([`Filter::id`]). The database answers it as SQL in
//! snapshots, made from its [`Condition`], and it is answered here for each change
//! ([`Filter::matches`]). Both give the same answer: what the database would answer in a way that
//! cannot be repeated here is refused.
//!
//! From text to answer: `token` and `parse` give what was written (`syntax`), `check` resolves it
//! against a [`Table`] with what `class` and `literal` know of types, `canonical` gives the one
//! form of the [`Condition`], `eval` answers it for a `row`, `access` says where an index finds it.

mod access;
mod canonical;
mod check;
mod class;
mod condition;
mod error;
mod eval;
mod like;
mod literal;
mod params;
mod parse;
mod print;
mod row;
mod scalar;
mod syntax;
mod table;
mod token;

#[cfg(test)]
mod against_sqlparser;
#[cfg(test)]
mod properties;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::value::RawValue;

pub use access::{Access, AccessKey};
pub use condition::Condition;
pub use error::{FilterError, FilterErrorKind};
pub use like::{Pattern, Piece};
pub use params::PARAMS_BYTES_MAX;
pub use parse::{NESTING_MAX, OPERANDS_MAX};
pub use row::{RowError, RowReader, RowValues, project};
pub use scalar::{Cell, Scalar};
pub use syntax::CompareOp;
pub use table::{Backend, Table};
pub use token::TEXT_BYTES_MAX;

/// A filter on one table, checked, in its one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    condition: Condition,
    id: String,
    outline: String,
    columns: BTreeSet<usize>,
}

impl Filter {
    /// Reads a filter on a table. `params` are its `$1`, `$2`, ….
    ///
    /// # Errors
    /// When it is no filter, does not fit the table or its parameters, asks for what is not
    /// supported, or is too large.
    pub fn new(
        text: &str,
        params: &[Box<RawValue>],
        table: Table<'_>,
    ) -> Result<Self, FilterError> {
        let checked = check::check(&parse::parse(text)?, params, table)?;
        let names: Vec<&str> = table.names().collect();
        Ok(Self::of(canonical::canonical(checked), &names))
    }

    /// The filter that every row matches.
    pub fn everything() -> Self {
        Self::of(Condition::Constant(Some(true)), &[])
    }

    /// The filter that a row matches when it matches both; both are on this table.
    #[must_use]
    pub fn and(self, other: Self, table: Table<'_>) -> Self {
        let both = Condition::And(vec![self.condition, other.condition]);
        let names: Vec<&str> = table.names().collect();
        Self::of(canonical::canonical(both), &names)
    }

    fn of(condition: Condition, names: &[&str]) -> Self {
        let mut columns = BTreeSet::new();
        condition.collect_columns(&mut columns);
        Self {
            id: print::text(&condition, names),
            outline: print::outline(&condition, names),
            columns,
            condition,
        }
    }

    /// Whether every row matches.
    pub fn is_everything(&self) -> bool {
        self.condition == Condition::Constant(Some(true))
    }

    /// Whether a row matches; none is SQL's unknown, which is not a match. The row must have been
    /// read with [`Filter::columns`].
    pub fn matches(&self, row: &RowValues) -> Option<bool> {
        eval::truth(&self.condition, row)
    }

    /// Whether it may match a row of which each column holds one of the values that are here.
    pub fn may_match(&self, values: &[RowValues]) -> bool {
        eval::is_possible(&self.condition, values)
    }

    /// The positions of the columns that it looks at, ascending.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.columns.iter().copied()
    }

    /// The text of its one form, with its parameters in place. Equal texts say the same of the
    /// same table; it is itself a filter.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same with `?` for values and lists, which may be nobody's business.
    pub fn outline(&self) -> &str {
        &self.outline
    }

    /// Its one form.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// By what an index finds it. `load` says how many filters a key has already.
    pub fn access(&self, load: impl Fn(&AccessKey) -> usize) -> Access {
        access::access(&self.condition, &load)
    }
}
