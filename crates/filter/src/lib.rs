//! Filters: the small part of SQL in which a client says which rows it wants.
//!
//! A filter is parsed once ([`Filter::new`]), checked against its table, and brought into one form, so that
//! filters that say the same are one ([`Filter::text`]). The database evaluates it in first reads, as SQL made
//! from its [`Condition`]; this crate evaluates it for each change ([`Filter::matches`]). Both give the same
//! answer: a filter whose answer in the database cannot be repeated here is an error.
//!
//! A [`Policy`] is a filter of the server's own, in which `auth.…` stands for what is known of the principal.
//!
//! From text to answer: `token` and `parse` read what was written (`syntax`), `check` resolves it against a
//! [`Table`] with the rules for types in `class` and `literal`, `canonical` brings the [`Condition`] into its
//! one form, `eval` evaluates it for a `row`, `access` finds the keys under which an index files it. A subquery
//! becomes a [`Set`], whose values an evaluation looks up.

mod access;
mod canonical;
mod check;
mod claim;
mod class;
mod condition;
mod error;
mod eval;
mod like;
mod literal;
mod params;
mod parse;
mod policy;
mod print;
mod reader;
mod row;
mod scalar;
mod syntax;
mod token;
mod touched;
mod window;

#[cfg(test)]
mod against_sqlparser;
#[cfg(test)]
mod properties;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use value::schema::Schema;

pub use access::{Access, AccessKey, SetKey};
pub use claim::{Claim, ClaimPath};
pub use class::compares;
pub use condition::{
    AskedSet, AskedSource, Backend, Condition, Direction, FILTER_BYTES_MAX, Filter, InnerTable,
    Lookup, Membership, NoSets, OrderColumn, Rank, SUBQUERIES_MAX, SUBQUERIES_NESTED_MAX, Set,
    SetRows, Sets, SetsAtBoth, Table, Tables, Window, Work,
};
pub use error::{FilterError, FilterErrorKind};
pub use like::{Pattern, Piece};
pub use params::PARAMS_BYTES_MAX;
pub use parse::{NESTING_MAX, OPERANDS_MAX};
pub use policy::{BoundPolicy, Policy};
pub use reader::{RowError, RowReader, project};
pub use row::RowValues;
pub use scalar::{Cell, Scalar};
pub use syntax::CompareOp;
pub use token::TEXT_BYTES_MAX;
pub use touched::SetChange;
pub use window::{ORDER_COLUMNS_MAX, WindowRequest};

impl Filter {
    /// Reads a filter on a table. `params` are its `$1`, `$2`, ….
    ///
    /// # Errors
    /// When the text is not a filter, does not fit the table or its parameters, uses something
    /// unsupported, or is too large.
    pub fn new(
        text: &str,
        params: &[Box<RawValue>],
        table: Table<'_>,
    ) -> Result<Self, FilterError> {
        let none = BTreeMap::new();
        Self::of_checked(check::check(&parse::parse(text)?, params, &none, table)?)
    }

    fn of_checked(checked: Condition) -> Result<Self, FilterError> {
        let filter = Self::of(canonical::canonical(checked));
        if filter.bytes > FILTER_BYTES_MAX {
            return Err(FilterError::too_large_throughout(format!(
                "a filter takes at most {FILTER_BYTES_MAX} bytes"
            )));
        }
        Ok(filter)
    }

    /// The filter that every row matches.
    pub fn everything() -> Self {
        Self::of(Condition::Constant(Some(true)))
    }

    /// The filter that no row matches.
    pub fn nothing() -> Self {
        Self::of(Condition::Constant(Some(false)))
    }

    /// The filter of the rows for which a condition is true. Its columns must exist, and be comparable with its values.
    pub fn of_condition(condition: Condition) -> Self {
        Self::of(canonical::canonical(condition))
    }

    /// The filter of the rows that match both filters, which are on one table.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = Condition::And(vec![self.condition, other.condition]);
        Self::of(canonical::canonical(both))
    }

    /// The filter of the rows that match at least one of two filters, which are on one table.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let either = Condition::Or(vec![self.condition, other.condition]);
        Self::of(canonical::canonical(either))
    }

    /// The same filter for somebody who may read some columns only in the rows that match a filter. In other rows no
    /// comparison with such a column is true, so that nothing can be inferred from the answer.
    ///
    /// # Errors
    /// When it is too large then.
    pub fn concealing(self, readable: &BTreeMap<usize, Self>) -> Result<Self, FilterError> {
        if !readable.keys().any(|column| self.columns.contains(column)) {
            return Ok(self);
        }
        let readable = |column| readable.get(&column).map(Self::condition);
        Self::of_checked(self.condition.concealing(&readable))
    }

    fn of(condition: Condition) -> Self {
        let mut columns = BTreeSet::new();
        condition.collect_columns(&mut columns);
        let mut sets = BTreeSet::new();
        condition.collect_sets(&mut sets);
        Self {
            sets,
            work: Work::of(&condition),
            bytes: condition::bytes(&condition),
            columns,
            condition,
        }
    }

    /// Whether every row matches.
    pub fn is_everything(&self) -> bool {
        self.condition == Condition::Constant(Some(true))
    }

    /// Whether no row matches, whatever it holds.
    pub fn is_nothing(&self) -> bool {
        matches!(self.condition, Condition::Constant(None | Some(false)))
    }

    /// Whether a row matches, with these sets; none is SQL's unknown, which is not a match. The row must have been
    /// read with [`Filter::columns`].
    pub fn matches(&self, row: &RowValues, sets: &dyn Sets) -> Option<bool> {
        eval::truth(&self.condition, row, sets)
    }

    /// Whether the filter may match a row of which each column holds one of these values.
    pub fn may_match(&self, values: &[RowValues]) -> bool {
        eval::is_possible(&self.condition, values)
    }

    /// The positions of the columns that the filter names, ascending.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.columns.iter().copied()
    }

    /// The sets that it names, without those inside them.
    pub fn sets(&self) -> impl ExactSizeIterator<Item = &Set> {
        self.sets.iter()
    }

    /// The tables that its subqueries read, however deep: each as its entity and fingerprint, ascending.
    pub fn inner_tables(&self) -> BTreeSet<(&str, &str)> {
        let mut tables = BTreeSet::new();
        for set in self.sets() {
            let rows = set.rows();
            tables.insert((set.entity(), &*rows.fingerprint));
            tables.append(&mut rows.filter.inner_tables());
        }
        tables
    }

    /// The text of the filter's one form, with its parameters in place, itself a filter. Equal texts are
    /// equal filters on the same table.
    pub fn text(&self, table: Table<'_>) -> String {
        print::text(&self.condition, table)
    }

    /// The text of the one form with `?` for values and lists, which may be confidential.
    pub fn outline(&self, table: Table<'_>) -> String {
        print::outline(&self.condition, table)
    }

    /// What an evaluation costs.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// The memory that the filter takes, in bytes. A value counts as often as it is named.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The filter's one form.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// How an index finds the filter. `load` says how many filters a key has already.
    pub fn access(&self, load: impl Fn(&AccessKey) -> usize) -> Access {
        access::access(&self.condition, &load)
    }
}

impl BoundPolicy {
    /// The policy as a filter on its table.
    ///
    /// # Errors
    /// When the policy does not pass [`Policy::check`] on this table, or when its claims are too large.
    pub fn filter(&self, table: Table<'_>) -> Result<Filter, FilterError> {
        Filter::of_checked(self.condition(table)?)
    }

    /// Whether a policy that names no column is true.
    ///
    /// # Errors
    /// When it names one, or its claims are too large.
    pub fn holds(&self) -> Result<bool, FilterError> {
        let no_columns = Schema {
            entity: String::new(),
            columns: Vec::new(),
            key: Vec::new(),
        };
        // Without columns, the databases do not differ.
        let filter = self.filter(Table::new(&no_columns, Backend::Postgres))?;
        Ok(filter.is_everything())
    }
}
