//! A condition on the columns of one table, with every name and literal resolved.

mod set;
mod table;
mod window;
mod work;

use std::collections::BTreeSet;

use super::like::Pattern;
use super::scalar::Scalar;
use super::syntax::CompareOp;

pub use set::{
    AskedSet, AskedSource, Lookup, Membership, NoSets, SUBQUERIES_MAX, SUBQUERIES_NESTED_MAX, Set,
    SetRows, Sets, SetsAtBoth,
};
pub use table::{Backend, InnerTable, Table, Tables};
pub use window::{Direction, OrderColumn, Rank, Window};
pub(super) use work::bytes;
pub use work::{FILTER_BYTES_MAX, Work};

/// A filter on one table, checked, in its one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub(super) condition: Condition,
    pub(super) columns: BTreeSet<usize>,
    pub(super) sets: BTreeSet<Set>,
    pub(super) work: Work,
    pub(super) bytes: usize,
}

/// A condition. Columns are positions in the schema. The order means nothing;
/// [`super::canonical`] needs one to sort by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// True, false, or null.
    Constant(Option<bool>),
    /// The column's value, compared with another.
    Compare {
        /// The column.
        column: usize,
        /// How they are compared.
        op: CompareOp,
        /// The other value.
        value: Scalar,
    },
    /// The column's value is one of these, or (negated) none of these.
    In {
        /// The column.
        column: usize,
        /// The values.
        values: BTreeSet<Scalar>,
        /// Whether null was among them; the answer for any other value is then unknown.
        null: bool,
        /// Whether it is `NOT IN`.
        negated: bool,
    },
    /// The column is null, or (negated) is not.
    IsNull {
        /// The column.
        column: usize,
        /// Whether it is `IS NOT NULL`.
        negated: bool,
    },
    /// The column's text matches a pattern, or (negated) does not.
    Like {
        /// The column.
        column: usize,
        /// The pattern.
        pattern: Pattern,
        /// Whether it is `NOT LIKE`.
        negated: bool,
    },
    /// The row's values are in a set that other rows make, or (negated) are not.
    Member {
        /// The row's columns, one for each of the set's.
        columns: Vec<usize>,
        /// The set.
        set: Set,
        /// What nulls mean.
        membership: Membership,
        /// Whether it is `NOT IN` or `NOT EXISTS`.
        negated: bool,
    },
    /// The opposite.
    Not(Box<Condition>),
    /// All of these.
    And(Vec<Condition>),
    /// Any of these.
    Or(Vec<Condition>),
}

impl Condition {
    /// The same condition, in which a comparison with a column for which `readable` has a condition holds only where
    /// that does too. It must be canonical: under a `NOT`, the opposite would hold elsewhere.
    pub(super) fn concealing<'a>(self, readable: &impl Fn(usize) -> Option<&'a Self>) -> Self {
        let each = |parts: Vec<Self>| {
            let parts = parts.into_iter();
            parts.map(|part| part.concealing(readable)).collect()
        };
        match self {
            Self::And(parts) => Self::And(each(parts)),
            Self::Or(parts) => Self::Or(each(parts)),
            Self::Not(_) => unreachable!("a canonical condition has no NOT"),
            comparison => {
                let mut named = BTreeSet::new();
                comparison.collect_columns(&mut named);
                let mut parts: Vec<Self> =
                    named.into_iter().filter_map(readable).cloned().collect();
                if parts.is_empty() {
                    return comparison;
                }
                parts.push(comparison);
                Self::And(parts)
            }
        }
    }

    /// Adds the positions of the columns that the condition names.
    pub(super) fn collect_columns(&self, columns: &mut BTreeSet<usize>) {
        match self {
            Self::Constant(_) => {}
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::IsNull { column, .. }
            | Self::Like { column, .. } => {
                columns.insert(*column);
            }
            Self::Member { columns: named, .. } => columns.extend(named),
            Self::Not(inner) => inner.collect_columns(columns),
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.collect_columns(columns);
                }
            }
        }
    }

    /// Adds the sets that the condition names, without those inside them.
    pub(super) fn collect_sets(&self, sets: &mut BTreeSet<Set>) {
        match self {
            Self::Member { set, .. } => {
                sets.insert(set.clone());
            }
            Self::Not(inner) => inner.collect_sets(sets),
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.collect_sets(sets);
                }
            }
            Self::Constant(_)
            | Self::Compare { .. }
            | Self::In { .. }
            | Self::IsNull { .. }
            | Self::Like { .. } => {}
        }
    }
}
