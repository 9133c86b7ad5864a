//! The state of one column of a row.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use crate::clock::Clock;
use crate::counter::Counter;
use crate::order::{Comparison, compare};
use crate::rules::ColumnMerge;
use crate::set::Set;

/// What a column holds, and what decides when it is merged.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A value, and its clock if that is above the row's base.
    Register {
        /// None is the row's base.
        clock: Option<Clock>,
        /// What was written.
        value: Value,
    },
    /// The greatest or the least value since the row's birth.
    ///
    /// Without a clock in the comparison. One that let a later write win first, or forget an earlier one, would diverge:
    /// of 10, a re-creation, and 5 by somebody who knew of it, one order gives 5 and another the default.
    Extreme {
        /// What was written.
        value: Value,
    },
    /// A number to which increments add up.
    Counter(Counter),
    /// A set.
    Set(Set),
}

impl Cell {
    /// The value to show.
    pub fn value(&self) -> Value {
        match self {
            Self::Register { value, .. } | Self::Extreme { value } => value.clone(),
            Self::Counter(counter) => counter.value(),
            Self::Set(set) => set.value(),
        }
    }

    /// The value to show, as it is kept where it is.
    pub(crate) fn shown(&self) -> Cow<'_, Value> {
        match self {
            Self::Register { value, .. } | Self::Extreme { value } => Cow::Borrowed(value),
            Self::Counter(_) | Self::Set(_) => Cow::Owned(self.value()),
        }
    }

    /// The same value without what is known of its edits.
    pub(crate) fn untracked(self) -> Self {
        match self {
            Self::Register { value, .. } => Self::Register { clock: None, value },
            Self::Extreme { value } => Self::Extreme { value },
            Self::Counter(counter) => Self::Counter(counter.untracked()),
            Self::Set(set) => Self::Set(set.untracked()),
        }
    }

    /// The clock of a register, if it is above the row's base.
    pub(crate) fn own_clock(&self) -> Option<&Clock> {
        match self {
            Self::Register { clock, .. } => clock.as_ref(),
            _ => None,
        }
    }

    /// The newest clock in it. The greatest and the least have none.
    pub(crate) fn newest(&self) -> Option<&Clock> {
        match self {
            Self::Register { clock, .. } => clock.as_ref(),
            Self::Extreme { .. } => None,
            Self::Counter(counter) => counter.set_at(),
            Self::Set(set) => set.newest(),
        }
    }

    /// Kinds differ only while replicas have different rules; even then all of them end with the same.
    fn rank(&self) -> u8 {
        match self {
            Self::Register { .. } => 0,
            Self::Extreme { .. } => 1,
            Self::Counter(_) => 2,
            Self::Set(_) => 3,
        }
    }

    /// The cell of both. Each comes with its row's base; a cell that is not there is a register that nobody has written since
    /// that base, and whose value only the table knows.
    pub(crate) fn joined(
        (one, one_base): (Option<&Self>, Option<&Clock>),
        (two, two_base): (Option<&Self>, Option<&Clock>),
        merge: ColumnMerge,
    ) -> Option<Self> {
        match (one, two) {
            (Some(one), Some(two)) if one.rank() != two.rank() => {
                Some(if one.rank() > two.rank() {
                    one.clone()
                } else {
                    two.clone()
                })
            }
            (Some(Self::Counter(one)), Some(Self::Counter(two))) => {
                let mut joined = one.clone();
                joined.join(two);
                Some(Self::Counter(joined))
            }
            (Some(Self::Set(one)), Some(Self::Set(two))) => {
                let mut joined = one.clone();
                joined.join(two);
                Some(Self::Set(joined))
            }
            (Some(Self::Extreme { value: one }), Some(Self::Extreme { value: two })) => {
                let is_ours = extreme_order(one, two, merge).is_ge();
                Some(Self::Extreme {
                    value: if is_ours { one.clone() } else { two.clone() },
                })
            }
            (Some(cell), None) | (None, Some(cell)) if cell.rank() > 0 => Some(cell.clone()),
            _ => joined_registers((one, one_base), (two, two_base)),
        }
    }
}

/// By clock, then by value: equal clocks with different values come from a node id that two nodes use.
fn joined_registers(
    (one, one_base): (Option<&Cell>, Option<&Clock>),
    (two, two_base): (Option<&Cell>, Option<&Clock>),
) -> Option<Cell> {
    let effective = |cell: Option<&Cell>, base: Option<&Clock>| {
        cell.and_then(Cell::own_clock).or(base).cloned()
    };
    let (one_clock, two_clock) = (effective(one, one_base), effective(two, two_base));
    let order = one_clock.cmp(&two_clock).then_with(|| match (one, two) {
        (Some(one), Some(two)) => compare(&one.value(), &two.value()),
        (one, two) => one.is_some().cmp(&two.is_some()),
    });
    let (winner, clock) = match order {
        Ordering::Less => (two, two_clock),
        _ => (one, one_clock),
    };
    winner.map(|cell| Cell::Register {
        clock,
        value: cell.value(),
    })
}

/// Which of two values is kept: the greater in this order. Null loses.
pub(crate) fn extreme_order(one: &Value, two: &Value, merge: ColumnMerge) -> Ordering {
    let nulls = (!one.is_null()).cmp(&!two.is_null());
    nulls.then_with(|| match merge {
        ColumnMerge::Min(comparison) => comparison.compare(two, one),
        ColumnMerge::Max(comparison) => comparison.compare(one, two),
        _ => Comparison::Json.compare(one, two),
    })
}
