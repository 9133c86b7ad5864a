//! The hub's numbers for `status`.

use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sync_core::shape::Shape;
use tokio::time::Instant;

use super::audience::ShapeStats;

/// The list of shapes is good for so many times as long as it took to collect it, so that no more than a small part
/// of the time is spent on it, however many ask for it. The totals cost nothing and are never old.
const LIFETIME_FACTOR: u32 = 20;
/// The longest time for which it is good.
const LIFETIME_MAX: Duration = Duration::from_secs(1);
/// The shapes that are looked at under one lock of the hub.
const SHAPES_AT_ONCE: usize = 500;

/// Numbers for `status`.
#[derive(Debug, Clone)]
pub(crate) struct HubStats {
    pub(crate) sessions: usize,
    pub(crate) shapes_total: usize,
    /// The most expensive shapes, at most as many as were asked for.
    pub(crate) shapes: Vec<(Shape, ShapeStats)>,
    pub(crate) counters: HubCounters,
}

/// What the hub has done since the engine started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HubCounters {
    /// Changed rows received from the log.
    pub(crate) changes: u64,
    /// Evaluations of a filter for one of them.
    pub(crate) evaluations: u64,
    /// Batches queued for a session, each of which wakes it.
    pub(crate) deliveries: u64,
    /// Questions that reads of the log asked the database, because the log does not say what they mean for sets.
    pub(crate) questions: u64,
}

#[derive(Debug)]
struct Cached {
    good_until: Instant,
    shapes: Vec<(Shape, ShapeStats)>,
}

/// The shapes that were collected last.
#[derive(Debug, Default)]
pub(super) struct DearestShapes(Mutex<Option<Cached>>);

impl DearestShapes {
    /// The most expensive shapes, collected again when they are too old, from `some_shapes`, which returns so many
    /// shapes that follow another.
    pub(super) fn get(
        &self,
        now: impl Fn() -> Instant,
        shapes_max: usize,
        mut some_shapes: impl FnMut(Option<&Shape>, usize) -> Vec<(Shape, ShapeStats)>,
    ) -> Vec<(Shape, ShapeStats)> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = now();
        if let Some(cached) = &*cached
            && began < cached.good_until
        {
            return cached.shapes.clone();
        }
        let mut shapes = Vec::new();
        let mut last: Option<Shape> = None;
        loop {
            let some = some_shapes(last.as_ref(), SHAPES_AT_ONCE);
            let Some((shape, _)) = some.last() else {
                break;
            };
            last = Some(shape.clone());
            shapes.extend(some);
            keep_dearest(&mut shapes, shapes_max);
        }
        shapes.sort_by_key(|(_, costs)| cost(costs));
        let ended = now();
        let lifetime = (ended - began) * LIFETIME_FACTOR;
        *cached = Some(Cached {
            good_until: ended + lifetime.min(LIFETIME_MAX),
            shapes: shapes.clone(),
        });
        shapes
    }
}

fn cost(costs: &ShapeStats) -> impl Ord + use<> {
    Reverse((costs.evaluations, costs.bytes, costs.sessions))
}

fn keep_dearest(shapes: &mut Vec<(Shape, ShapeStats)>, count: usize) {
    if count < shapes.len() {
        shapes.select_nth_unstable_by_key(count, |(_, costs)| cost(costs));
        shapes.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn numbered(number: u64) -> (Shape, ShapeStats) {
        let costs = ShapeStats {
            evaluations: number,
            ..ShapeStats::default()
        };
        (Shape::whole(&format!("{number:05}")), costs)
    }

    #[test]
    fn the_dearest_shapes_are_collected_as_seldom_as_it_takes_long() {
        for (took, lifetime) in [
            (Duration::from_millis(3), Duration::from_millis(60)),
            (Duration::from_secs(9), LIFETIME_MAX),
        ] {
            let cache = DearestShapes::default();
            let now = Cell::new(Instant::now());
            let total = 2 * SHAPES_AT_ONCE as u64 + 1;
            let mut asked = 0;
            for round in 1..=2 {
                for _ in 0..3 {
                    let shapes = cache.get(
                        || now.get(),
                        3,
                        |after, count| {
                            asked += 1;
                            if after.is_none() {
                                now.set(now.get() + took);
                            }
                            let next = |shape: &Shape| shape.as_str().parse::<u64>().map(|n| n + 1);
                            let first = after.map_or(0, |shape| next(shape).expect("a number"));
                            (first..total).take(count).map(numbered).collect()
                        },
                    );
                    let dearest = shapes.iter().map(|(_, costs)| costs.evaluations);
                    assert_eq!(
                        dearest.collect::<Vec<_>>(),
                        [total - 1, total - 2, total - 3]
                    );
                }
                assert_eq!(asked, 4 * round);
                now.set(now.get() + lifetime);
            }
        }
    }
}
