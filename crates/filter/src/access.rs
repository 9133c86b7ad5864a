//! How an index of filters finds them.
//!
//! The index files a filter under keys (a column with a value) of which every matching row holds at least
//! one. So a changed row is compared only with the filters whose keys it holds.

use std::collections::BTreeSet;

use super::condition::{Condition, Set};
use super::scalar::Scalar;
use super::syntax::CompareOp;

/// A column, by position, and a value in it.
pub type AccessKey = (usize, Scalar);

/// Columns, by position, whose values are in a set.
pub type SetKey = (Vec<usize>, Set);

/// How an index finds the filters that a row may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Every matching row holds one of these keys, or values of one of these sets. When there are none, no row matches.
    Keys {
        /// The keys.
        keys: BTreeSet<AccessKey>,
        /// The sets, with the columns whose values are in them.
        sets: BTreeSet<SetKey>,
    },
    /// Every row may match, so the filter is evaluated for each.
    None,
}

/// The cost of a set of keys; less is better.
type Cost = (usize, usize, usize);

/// The cheapest keys of a canonical condition. `load` says how many filters a key has already: of two
/// columns that a filter names, the better is the one that few other filters share.
pub(super) fn access(condition: &Condition, load: &impl Fn(&AccessKey) -> usize) -> Access {
    keys(condition, load).map_or(Access::None, |Keys { keys, sets }| Access::Keys {
        keys,
        sets,
    })
}

/// What every matching row holds one of.
#[derive(Debug, Default)]
struct Keys {
    keys: BTreeSet<AccessKey>,
    sets: BTreeSet<SetKey>,
}

impl Keys {
    fn of(keys: impl IntoIterator<Item = AccessKey>) -> Self {
        Self {
            keys: keys.into_iter().collect(),
            sets: BTreeSet::new(),
        }
    }

    fn append(&mut self, mut other: Self) {
        self.keys.append(&mut other.keys);
        self.sets.append(&mut other.sets);
    }
}

fn keys(condition: &Condition, load: &impl Fn(&AccessKey) -> usize) -> Option<Keys> {
    match condition {
        Condition::Constant(Some(true)) => None,
        Condition::Constant(_) => Some(Keys::default()),
        Condition::Compare {
            column,
            op: CompareOp::Eq,
            value,
        } => Some(Keys::of([(*column, value.clone())])),
        Condition::In {
            column,
            values,
            negated: false,
            ..
        } => Some(Keys::of(
            values.iter().map(|value| (*column, value.clone())),
        )),
        // With null in the list, `NOT IN` is false or unknown.
        Condition::In {
            null: true,
            negated: true,
            ..
        } => Some(Keys::default()),
        Condition::Member {
            columns,
            set,
            negated: false,
            ..
        } if !columns.is_empty() => Some(Keys {
            keys: BTreeSet::new(),
            sets: BTreeSet::from([(columns.clone(), set.clone())]),
        }),
        Condition::And(parts) => parts
            .iter()
            .filter_map(|part| keys(part, load))
            .min_by_key(|keys| cost(keys, load)),
        Condition::Or(parts) => parts.iter().try_fold(Keys::default(), |mut all, part| {
            all.append(keys(part, load)?);
            Some(all)
        }),
        Condition::Compare { .. }
        | Condition::In { .. }
        | Condition::IsNull { .. }
        | Condition::Like { .. }
        | Condition::Member { .. }
        | Condition::Not(_) => None,
    }
}

/// A set counts as one key that nobody else has: it is somebody's own, as a rule.
fn cost(Keys { keys, sets }: &Keys, load: &impl Fn(&AccessKey) -> usize) -> Cost {
    let shared = keys.iter().map(load).sum();
    // A flag or a label has few values, so each is held by many rows.
    let coarse = |(_, value): &&AccessKey| matches!(value, Scalar::Bool(_) | Scalar::Label { .. });
    (
        shared,
        keys.iter().filter(coarse).count(),
        keys.len() + sets.len(),
    )
}
