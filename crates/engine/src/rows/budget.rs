//! How much evaluation one batch may cost, so that nobody's filters hold up everybody's changes.
//!
//! A shape that is over its share is not evaluated: its sessions read the log by themselves instead, at their
//! own expense. What counts is the cost for each of its sessions: a shape of many is evaluated once for all
//! of them, which is cheaper than as many reads of the log. A drain may be published in several batches; a
//! shape that was over its share in one of them is not evaluated in the others.

use std::collections::{HashMap, HashSet};

use sync_core::shape::Shape;

/// The comparisons that one batch may take in all, some hundredths of a second.
const BATCH_WORK_MAX: usize = 4_000_000;
/// The comparisons that one batch may take for a session of a shape.
const SHAPE_WORK_MAX: usize = 500_000;
/// An evaluation of at most so many comparisons for a session is always made: reading the log costs more.
const SMALL_WORK_MAX: usize = 64;

/// What is left for one batch.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    /// What the shapes have cost for each of their sessions.
    spent: HashMap<Shape, usize>,
    over: HashSet<Shape>,
}

impl Budget {
    /// The budget of a batch of a drain in which these shapes were over their share.
    pub(super) fn new(over: HashSet<Shape>) -> Self {
        Self {
            left: BATCH_WORK_MAX,
            spent: HashMap::new(),
            over,
        }
    }

    /// Whether an evaluation that takes `work` comparisons may be made for a shape with so many sessions. When
    /// it may not, neither may any other of the shape.
    pub(super) fn admits(&mut self, shape: &Shape, work: usize, sessions: usize) -> bool {
        if !self.over.is_empty() && self.over.contains(shape) {
            return false;
        }
        let for_each = work / sessions.max(1);
        if for_each > SMALL_WORK_MAX {
            let spent = self.spent.entry(shape.clone()).or_default();
            *spent = spent.saturating_add(for_each);
            if work > self.left || *spent > SHAPE_WORK_MAX {
                self.over.insert(shape.clone());
                return false;
            }
        }
        self.left = self.left.saturating_sub(work);
        true
    }

    /// Leaves a shape out of the drain, as if it were over its share.
    pub(super) fn leave_out(&mut self, shape: Shape) {
        self.over.insert(shape);
    }

    /// The shapes that were over their share.
    pub(super) fn into_over(self) -> HashSet<Shape> {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str) -> Shape {
        Shape::whole(name)
    }

    #[test]
    fn a_shape_over_its_share_is_not_evaluated_again() {
        let mut budget = Budget::new(HashSet::new());
        let dear = shape("dear");
        assert!(!budget.admits(&dear, SHAPE_WORK_MAX + 1, 1));
        assert!(!budget.admits(&dear, 1, 1));
        let often = shape("often");
        let times = SHAPE_WORK_MAX / 1000;
        assert!((0..times).all(|_| budget.admits(&often, 1000, 1)));
        assert!(!budget.admits(&often, 1000, 1));
        let over = budget.into_over();
        assert_eq!(over, HashSet::from([dear, often.clone()]));
        assert!(
            !Budget::new(over).admits(&often, 1, 1),
            "the next batch of the drain"
        );
    }

    #[test]
    fn a_shape_of_many_sessions_may_cost_more() {
        let mut budget = Budget::new(HashSet::new());
        assert!(!budget.admits(&shape("one"), 2 * SHAPE_WORK_MAX, 1));
        assert!(budget.admits(&shape("two"), 2 * SHAPE_WORK_MAX, 2));
    }

    #[test]
    fn small_evaluations_go_on_when_the_batch_has_cost_enough() {
        let mut budget = Budget::new(HashSet::new());
        let mut shapes = (0..).map(|number| shape(&number.to_string()));
        while budget.left >= SHAPE_WORK_MAX {
            assert!(budget.admits(&shapes.next().expect("endless"), SHAPE_WORK_MAX, 1));
        }
        assert!(!budget.admits(&shape("dear"), SHAPE_WORK_MAX, 1));
        assert!(budget.admits(&shape("cheap"), SMALL_WORK_MAX, 1));
    }
}
