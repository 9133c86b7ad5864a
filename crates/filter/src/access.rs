//! How an index of filters finds them.
//!
//! The index files a filter under keys (a column with a value) of which every matching row holds at least
//! one. So a changed row is compared only with the filters whose keys it holds.

use std::collections::BTreeSet;

use super::condition::Condition;
use super::scalar::Scalar;
use super::syntax::CompareOp;

/// A column, by position, and a value in it.
pub type AccessKey = (usize, Scalar);

/// How an index finds the filters that a row may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Every matching row holds one of these keys. When there are none, no row matches.
    Keys(BTreeSet<AccessKey>),
    /// Every row may match, so the filter is evaluated for each.
    None,
}

/// The cost of a set of keys; less is better.
type Cost = (usize, usize, usize);

/// The cheapest keys of a canonical condition. `load` says how many filters a key has already: of two
/// columns that a filter names, the better is the one that few other filters share.
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
        // With null in the list, `NOT IN` is false or unknown.
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
    // A flag or a label has few values, so each is held by many rows.
    let coarse = |(_, value): &&AccessKey| matches!(value, Scalar::Bool(_) | Scalar::Label { .. });
    (shared, keys.iter().filter(coarse).count(), keys.len())
}
