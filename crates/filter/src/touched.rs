//! Which rows may match or cease to match because sets have changed, though the rows have not.

use std::collections::BTreeSet;

use super::canonical::canonical;
use super::condition::{Condition, Filter, Membership, Set};
use super::scalar::Scalar;
use super::syntax::CompareOp;

/// How a set has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetChange {
    /// The values that are in it now and were not, or were and are not, each with one for each of its columns.
    pub values: BTreeSet<Box<[Scalar]>>,
    /// Whether it was empty and is not, or the reverse.
    pub emptiness: bool,
    /// Whether a null has come into it, or the last has gone.
    pub null: bool,
}

impl SetChange {
    /// Whether nothing has changed that a condition could tell.
    pub fn is_nothing(&self) -> bool {
        self.values.is_empty() && !self.emptiness && !self.null
    }
}

impl Filter {
    /// A filter without sets that all rows match for which this filter's answer may have changed with the sets;
    /// `change` says how each has, if it has. None when no row can be concerned.
    pub fn touched<'a>(&self, change: &impl Fn(&Set) -> Option<&'a SetChange>) -> Option<Self> {
        match touched(&self.condition, change)? {
            // One set may move all rows of thousands of filters.
            Condition::Constant(Some(true)) => Some(Self::everything()),
            touched => Some(Self::of(canonical(touched))).filter(|touched| !touched.is_nothing()),
        }
    }
}

fn touched<'a>(
    condition: &Condition,
    change: &impl Fn(&Set) -> Option<&'a SetChange>,
) -> Option<Condition> {
    match condition {
        Condition::Member {
            columns,
            set,
            membership,
            negated,
        } => member(columns, *membership, *negated, change(set)?),
        Condition::Or(parts) => any(parts, change),
        // Where another part is not true before and after, the whole is not.
        Condition::And(parts) => {
            let mut all = vec![any(parts, change)?];
            all.extend(parts.iter().filter(|part| !names_a_set(part)).cloned());
            Some(Condition::And(all))
        }
        Condition::Not(inner) => touched(inner, change),
        Condition::Constant(_)
        | Condition::Compare { .. }
        | Condition::In { .. }
        | Condition::IsNull { .. }
        | Condition::Like { .. } => None,
    }
}

fn any<'a>(
    parts: &[Condition],
    change: &impl Fn(&Set) -> Option<&'a SetChange>,
) -> Option<Condition> {
    let mut found = Vec::new();
    for part in parts.iter().filter_map(|part| touched(part, change)) {
        if part == Condition::Constant(Some(true)) {
            return Some(part);
        }
        found.push(part);
    }
    (!found.is_empty()).then_some(Condition::Or(found))
}

fn member(
    columns: &[usize],
    membership: Membership,
    negated: bool,
    change: &SetChange,
) -> Option<Condition> {
    // A condition has no NOT above this, so that false and unknown are the same unless it is negated itself.
    let concerns_all = match (membership, columns.is_empty()) {
        (_, true) => change.emptiness,
        (Membership::Exists, false) => false,
        (Membership::In, false) => negated && (change.emptiness || change.null),
    };
    if concerns_all {
        return Some(Condition::Constant(Some(true)));
    }
    if change.values.is_empty() || columns.is_empty() {
        return None;
    }
    if let [column] = columns {
        let values = change.values.iter().flatten().cloned();
        return Some(Condition::In {
            column: *column,
            values: values.collect(),
            null: false,
            negated: false,
        });
    }
    let equal = |(column, value): (&usize, &Scalar)| Condition::Compare {
        column: *column,
        op: CompareOp::Eq,
        value: value.clone(),
    };
    let together =
        |values: &[Scalar]| Condition::And(columns.iter().zip(values).map(equal).collect());
    Some(Condition::Or(
        change
            .values
            .iter()
            .map(|values| together(values))
            .collect(),
    ))
}

fn names_a_set(condition: &Condition) -> bool {
    let mut sets = BTreeSet::new();
    condition.collect_sets(&mut sets);
    !sets.is_empty()
}
