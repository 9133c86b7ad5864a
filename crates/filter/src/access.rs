//! What an index of filters can find them by.
//!
//! A access is a set of keys (a column with a value) of which every row that matches holds at least
//! one. A change then meets only the filters whose keys it holds.

use std::collections::BTreeSet;

use super::condition::Condition;
use super::scalar::Scalar;
use super::syntax::CompareOp;

/// A column, by position, and a value in it.
pub type AccessKey = (usize, Scalar);

/// By what a filter's matching rows can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Every row that matches holds one of these; none of them: no row matches.
    Keys(BTreeSet<AccessKey>),
    /// Only by looking at each row.
    None,
}

/// How good a access is; less is better.
type Cost = (usize, usize, usize);

/// The best access of a canonical condition. `load` says how many filters a key has already: of two
/// columns that a filter asks for, the one that tells it from the others is better.
pub(super) fn access(condition: &Condition, load: &impl Fn(&AccessKey) -> usize) -> Access {
    keys(condition, load).map_or(Access::None, Access::Keys)
}

fn keys(condition: &Condition, load: &impl Fn(&AccessKey) -> usize) -> Option<BTreeSet<AccessKey>> {
    match condition {
        Condition::Constant(Some(true)) => None,
        Condition::Constant(_) => Some(BTreeSet::new()),
        Condition::Compare {
            column,
            op: CompareOp::Eq,
            value,
        } => Some(BTreeSet::from([(*column, value.clone())])),
        Condition::In {
            column,
            values,
            negated: false,
            ..
        } => Some(
            values
                .iter()
                .map(|value| (*column, value.clone()))
                .collect(),
        ),
        // With null in the list it is false or unknown.
        Condition::In {
            null: true,
            negated: true,
            ..
        } => Some(BTreeSet::new()),
        Condition::And(parts) => parts
            .iter()
            .filter_map(|part| keys(part, load))
            .min_by_key(|keys| cost(keys, load)),
        Condition::Or(parts) => parts.iter().try_fold(BTreeSet::new(), |mut all, part| {
            all.append(&mut keys(part, load)?);
            Some(all)
        }),
        Condition::Compare { .. }
        | Condition::In { .. }
        | Condition::IsNull { .. }
        | Condition::Like { .. }
        | Condition::Not(_) => None,
    }
}

fn cost(keys: &BTreeSet<AccessKey>, load: &impl Fn(&AccessKey) -> usize) -> Cost {
    let shared = keys.iter().map(load).sum();
    // A flag or a label has few values, so many rows hold each.
    let coarse = |(_, value): &&AccessKey| matches!(value, Scalar::Bool(_) | Scalar::Label { .. });
    (shared, keys.iter().filter(coarse).count(), keys.len())
}
