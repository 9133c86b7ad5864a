//! Counters: concurrent increments add up.
//!
//! A counter is a number that somebody set, and what each *database* has added to it and taken from it since: two sums
//! that only grow, so the greater is the newer, however often it is told. Increments belong to the number that they were
//! added to: who sets it later sets them aside. On one database there is no need of sums: see [`Counter::settle`].

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::amount::{Amount, AmountError};
use crate::clock::{Clock, NodeId};

/// How many databases may count together. Devices do not count by themselves, their database does.
pub const COUNTING_DATABASES_MAX: usize = 16;

/// What one database has added and taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    added: Amount,
    taken: Amount,
}

/// The state of a counter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counter {
    /// When the number was set; none since the row's birth.
    set: Option<Clock>,
    /// None is null, and what is not known where increments arrived before the row's creation.
    start: Option<Amount>,
    sums: BTreeMap<NodeId, Sums>,
}

impl Counter {
    /// The counter that somebody set to a value: a number or null.
    ///
    /// # Errors
    /// When it is another value.
    pub(crate) fn set(value: &Value, set: Option<Clock>) -> Result<Self, AmountError> {
        let start = match value {
            Value::Null => None,
            number => Some(Amount::of(number)?),
        };
        let sums = BTreeMap::new();
        Ok(Self { set, start, sums })
    }

    /// The counter that shows a value, of which databases have added so much since it was set.
    ///
    /// # Errors
    /// When the value is no number.
    pub(crate) fn shown(
        value: &Value,
        set: Option<Clock>,
        sums: BTreeMap<NodeId, Sums>,
        has_start: bool,
    ) -> Result<Self, AmountError> {
        let number = match value {
            Value::Null => Amount::ZERO,
            number if sums.is_empty() => Amount::of(number)?,
            number => Amount::of_number(number)?,
        };
        let start = has_start.then(|| number.saturating_plus(total(&sums).negated()));
        Ok(Self { set, start, sums })
    }

    /// The same number, which nobody has set or added to since the row's birth.
    pub(crate) fn untracked(self) -> Self {
        let is_known = self.start.is_some() || !self.sums.is_empty();
        let number = self.start.unwrap_or_default();
        Self {
            set: None,
            start: is_known.then(|| number.saturating_plus(total(&self.sums))),
            sums: BTreeMap::new(),
        }
    }

    /// Adds, in the name of a database.
    ///
    /// # Errors
    /// When a sum grows too large, or too many databases count: it is as it was then.
    pub(crate) fn add(&mut self, amount: Amount, database: &NodeId) -> Result<(), AmountError> {
        if self.sums.len() >= COUNTING_DATABASES_MAX && !self.sums.contains_key(database) {
            return Err(AmountError::Overflow);
        }
        let sums = self.sums.get(database).cloned();
        let mut sums = sums.unwrap_or(Sums {
            added: Amount::ZERO,
            taken: Amount::ZERO,
        });
        if amount.is_negative() {
            sums.taken = sums.taken.plus(amount.negated())?;
        } else {
            sums.added = sums.added.plus(amount)?;
        }
        self.sums.insert(database.clone(), sums);
        Ok(())
    }

    /// Adds to the number itself, which no merge takes back. Right where one database alone counts, and leaves nothing to keep but the number.
    ///
    /// # Errors
    /// When the number grows too large: it is as it was then.
    pub(crate) fn settle(&mut self, amount: Amount) -> Result<(), AmountError> {
        self.start = Some(self.start.unwrap_or_default().plus(amount)?);
        Ok(())
    }

    /// A later setting wins with all that was added to it; of the same one, every part is a maximum.
    pub(crate) fn join(&mut self, other: &Self) {
        match self.set.cmp(&other.set) {
            Ordering::Less => *self = other.clone(),
            Ordering::Greater => {}
            Ordering::Equal => {
                self.start = self.start.max(other.start);
                for (database, theirs) in &other.sums {
                    let ours = self.sums.entry(database.clone()).or_insert(theirs.clone());
                    ours.added = ours.added.max(theirs.added);
                    ours.taken = ours.taken.max(theirs.taken);
                }
            }
        }
    }

    /// The number.
    pub fn value(&self) -> Value {
        match self.start {
            None if self.sums.is_empty() => Value::Null,
            start => start
                .unwrap_or_default()
                .saturating_plus(total(&self.sums))
                .to_value(),
        }
    }

    /// When it was set; none since the row's birth.
    pub fn set_at(&self) -> Option<&Clock> {
        self.set.as_ref()
    }

    pub(crate) fn has_start(&self) -> bool {
        self.start.is_some()
    }

    pub(crate) fn sums(&self) -> &BTreeMap<NodeId, Sums> {
        &self.sums
    }
}

fn total(sums: &BTreeMap<NodeId, Sums>) -> Amount {
    sums.values().fold(Amount::ZERO, |total, sums| {
        total
            .saturating_plus(sums.added)
            .saturating_plus(sums.taken.negated())
    })
}
