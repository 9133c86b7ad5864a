//! How the sets that the database is asked for have changed lately.
//!
//! What rows make can be undone from the log, and what PostgreSQL answers to a role cannot. So the differences that the
//! stream has had are kept for a while, and a reader whose position lies between them learns what such a set was there.
//!
//! Invariants:
//! 1. [`History::since`] answers only for positions at which the set was known and none of its differences was under way,
//!    and none of those after it is forgotten.
//! 2. The weight of the differences that are kept is at most [`HISTORY_VALUES_MAX`]; each weighs its values and one more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use filter::Set;

use super::contents::Difference;
use crate::cursor::Position;

/// The weight that all differences may have together. Beyond it the oldest are forgotten.
pub const HISTORY_VALUES_MAX: usize = 100_000;

/// The latest differences.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The end of the last drain.
    reached: Option<Arc<Position>>,
    sets: HashMap<Set, Past>,
    /// The sets of the differences, the oldest first. A difference whose set was forgotten stays here until it is the oldest.
    order: VecDeque<(Set, Weight)>,
    /// The weight of all of `order`.
    values: usize,
    /// The number of the last set that has been learned.
    last: u64,
}

/// How much a difference takes, and for which learning of its set.
#[derive(Debug, Clone, Copy)]
struct Weight {
    values: usize,
    number: u64,
}

/// What is known of one set.
#[derive(Debug)]
struct Past {
    /// Differs when the set was forgotten in between.
    number: u64,
    /// From here on it is known how the set has changed.
    from: Arc<Position>,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
struct Change {
    /// The drain in which it was.
    before: Arc<Position>,
    after: Arc<Position>,
    difference: Difference,
}

/// How a set has changed between a reader's position and another one, which the stream has reached.
#[derive(Debug, Clone)]
pub struct Lately {
    pub(super) until: Arc<Position>,
    pub(super) difference: Difference,
}

impl History {
    /// A drain has ended at a position, with these differences.
    pub(super) fn reach<'a>(
        &mut self,
        position: &Arc<Position>,
        differences: impl Iterator<Item = (&'a Set, &'a Difference)>,
    ) {
        let before = self.reached.replace(position.clone());
        for (set, difference) in differences {
            let (Some(past), Some(before)) = (self.sets.get_mut(set), &before) else {
                continue;
            };
            let weight = Weight {
                values: difference.counts.len() + 1,
                number: past.number,
            };
            past.changes.push_back(Change {
                before: before.clone(),
                after: position.clone(),
                difference: difference.clone(),
            });
            self.order.push_back((set.clone(), weight));
            self.values += weight.values;
        }
        while self.values > HISTORY_VALUES_MAX
            && let Some((set, weight)) = self.order.pop_front()
        {
            self.values -= weight.values;
            let past = self.sets.get_mut(&set);
            if let Some(past) = past.filter(|past| past.number == weight.number)
                && let Some(oldest) = past.changes.pop_front()
            {
                past.from = oldest.after;
            }
        }
    }

    /// A set is known from the end of the last drain on.
    pub(super) fn learn(&mut self, set: &Set) {
        self.forget(set);
        let Some(from) = self.reached.clone() else {
            return;
        };
        self.last += 1;
        let past = Past {
            number: self.last,
            from,
            changes: VecDeque::new(),
        };
        self.sets.insert(set.clone(), past);
    }

    /// A set is not known any more.
    pub(super) fn forget(&mut self, set: &Set) {
        self.sets.remove(set);
    }

    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How a set has changed since a position. None where that is not known.
    pub(super) fn since(&self, set: &Set, position: &Position) -> Option<Lately> {
        let past = self.sets.get(set)?;
        let until = self.reached.clone()?;
        if !position.covers(&past.from) || !until.covers(position) {
            return None;
        }
        let mut difference = Difference::default();
        let changes = past.changes.iter();
        for change in changes.filter(|change| !position.covers(&change.after)) {
            if !change.before.covers(position) {
                return None;
            }
            difference.add(&change.difference);
        }
        Some(Lately { until, difference })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::numbered_set;
    use super::*;

    fn at(id: i64) -> Arc<Position> {
        Arc::new(Position::log_id(id))
    }

    fn rows(rows: i64) -> Difference {
        Difference {
            rows,
            ..Difference::default()
        }
    }

    fn since(history: &History, set: &Set, id: i64) -> Option<i64> {
        let lately = history.since(set, &at(id))?;
        Some(lately.difference.rows)
    }

    #[test]
    fn what_was_is_known_between_the_differences_and_not_within_them() {
        let (set, other) = (numbered_set(1), numbered_set(2));
        let mut history = History::default();
        history.learn(&set);
        assert_eq!(since(&history, &set, 0), None);
        history.reach(&at(10), std::iter::empty());
        history.learn(&set);
        history.reach(&at(20), [(&set, &rows(1)), (&other, &rows(7))].into_iter());
        history.reach(&at(30), std::iter::empty());
        history.reach(&at(40), [(&set, &rows(2))].into_iter());
        let found = [9, 10, 15, 20, 25, 30, 35, 40, 41].map(|id| since(&history, &set, id));
        let known = [3, 2, 2, 2, 0].map(Some);
        assert_eq!(
            found,
            [
                None, known[0], None, known[1], known[2], known[3], None, known[4], None
            ]
        );
        assert_eq!(since(&history, &other, 40), None);
        history.forget(&set);
        assert_eq!(since(&history, &set, 40), None);
        history.learn(&set);
        assert_eq!(since(&history, &set, 35), None);
        assert_eq!(since(&history, &set, 40), Some(0));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (set, other) = (numbered_set(1), numbered_set(2));
        let mut history = History::default();
        history.reach(&at(0), std::iter::empty());
        history.learn(&set);
        history.learn(&other);
        history.reach(&at(1), [(&other, &rows(1))].into_iter());
        for id in 2..=i64::try_from(HISTORY_VALUES_MAX).expect("a number") + 2 {
            history.reach(&at(id), [(&set, &rows(1))].into_iter());
        }
        assert_eq!(history.values, HISTORY_VALUES_MAX);
        assert_eq!(since(&history, &other, 0), None);
        assert_eq!(since(&history, &other, 1), Some(0));
        assert_eq!(since(&history, &set, 1), None);
        let newest = i64::try_from(HISTORY_VALUES_MAX).expect("a number") + 2;
        assert_eq!(since(&history, &set, newest - 1), Some(1));
        assert!(since(&history, &set, 2).is_some());
    }
}
