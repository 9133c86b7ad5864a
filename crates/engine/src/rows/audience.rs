//! Which sessions have which shape, and what each shape has cost.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use filter::Access;
use sync_core::shape::{Selection, Shape};

use crate::mailbox::SessionId;

/// The sessions of all attached shapes.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    shapes: HashMap<Shape, Audience>,
    /// The same shapes in their order, which is that of their entities.
    in_order: BTreeSet<Shape>,
    entities: HashMap<Box<str>, EntityShapes>,
}

/// The sessions that have a shape.
#[derive(Debug, Default)]
pub(super) struct Audience {
    pub(super) sessions: HashSet<SessionId>,
    pub(super) stats: Arc<ShapeCounters>,
}

/// All shapes of an entity together.
#[derive(Debug, Default)]
struct EntityShapes {
    count: usize,
    /// The comparisons that each of its changes costs, whatever the row.
    unkeyed_work: usize,
}

/// What a shape costs, counted by those who cause it.
#[derive(Debug, Default)]
pub(super) struct ShapeCounters {
    pub(super) sessions: AtomicUsize,
    pub(super) evaluations: AtomicU64,
    pub(super) changes: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// What a shape has cost so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ShapeStats {
    pub(crate) sessions: usize,
    /// Changed rows that its filter was evaluated for.
    pub(crate) evaluations: u64,
    /// Changes that its audience received.
    pub(crate) changes: u64,
    /// Their size as JSON, in bytes, written once for the whole audience.
    pub(crate) bytes: u64,
}

impl ShapeCounters {
    pub(super) fn evaluated(&self) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, changes: usize, bytes: usize) {
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> ShapeStats {
        ShapeStats {
            sessions: self.sessions.load(Ordering::Relaxed),
            evaluations: self.evaluations.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// The comparisons that a shape costs for each change of its entity, because no index finds it.
pub(super) fn unkeyed_work(shape: &Shape) -> usize {
    let Some(filter) = shape.selection().map(Selection::filter) else {
        return 0;
    };
    // A window's rows are found as those of its set are.
    let window = filter.window().map(|window| &window.rows().filter);
    if window.unwrap_or(filter).access(|_| 0) == Access::None {
        filter.work().base()
    } else {
        0
    }
}

impl Audiences {
    /// Adds a session to a shape with this [`unkeyed_work`]. Returns the stats of a shape that is new.
    pub(super) fn attach(
        &mut self,
        shape: &Shape,
        session: SessionId,
        unkeyed_work: usize,
    ) -> Option<Arc<ShapeCounters>> {
        if let Some(audience) = self.shapes.get_mut(shape) {
            audience.add(session);
            return None;
        }
        let mut audience = Audience::default();
        audience.add(session);
        let stats = audience.stats.clone();
        self.shapes.insert(shape.clone(), audience);
        self.in_order.insert(shape.clone());
        let entity = self.entities.entry(shape.entity().into()).or_default();
        entity.count += 1;
        entity.unkeyed_work += unkeyed_work;
        Some(stats)
    }

    /// Removes a session from a shape with this [`unkeyed_work`]. Returns whether nobody has the shape any more.
    pub(super) fn detach(
        &mut self,
        shape: &Shape,
        session: SessionId,
        unkeyed_work: usize,
    ) -> bool {
        let Some(audience) = self.shapes.get_mut(shape) else {
            return false;
        };
        audience.sessions.remove(&session);
        audience.count();
        if !audience.sessions.is_empty() {
            return false;
        }
        self.shapes.remove(shape);
        self.in_order.remove(shape);
        if let Some(entity) = self.entities.get_mut(shape.entity()) {
            entity.count -= 1;
            entity.unkeyed_work -= unkeyed_work;
            if entity.count == 0 {
                self.entities.remove(shape.entity());
            }
        }
        true
    }

    pub(super) fn get(&self, shape: &Shape) -> Option<&Audience> {
        self.shapes.get(shape)
    }

    /// The shapes of an entity with their audiences.
    pub(super) fn of_entity(&self, entity: &str) -> impl Iterator<Item = (&Shape, &Audience)> {
        // Shapes are in the order of their entities, and all rows come first.
        let from = self.in_order.range(Shape::whole(entity)..);
        let shapes = from.take_while(move |shape| shape.entity() == entity);
        shapes.filter_map(|shape| Some((shape, self.shapes.get(shape)?)))
    }

    /// The entities that have shapes.
    pub(super) fn entities(&self) -> impl Iterator<Item = &str> {
        self.entities.keys().map(|name| &**name)
    }

    /// How many shapes an entity has.
    pub(super) fn count_of(&self, entity: &str) -> usize {
        self.entities.get(entity).map_or(0, |found| found.count)
    }

    /// The comparisons that each change of an entity costs, whatever the row.
    pub(super) fn unkeyed_work_of(&self, entity: &str) -> usize {
        self.entities
            .get(entity)
            .map_or(0, |found| found.unkeyed_work)
    }

    /// How many shapes there are.
    pub(super) fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Some of the shapes that follow `after` in their order, with their stats.
    pub(super) fn some_after(
        &self,
        after: Option<&Shape>,
        count: usize,
    ) -> Vec<(Shape, Arc<ShapeCounters>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shapes = self.in_order.range::<Shape, _>((from, Bound::Unbounded));
        let some = shapes.take(count);
        some.filter_map(|shape| Some((shape.clone(), self.shapes.get(shape)?.stats.clone())))
            .collect()
    }
}

impl Audience {
    fn add(&mut self, session: SessionId) {
        self.sessions.insert(session);
        self.count();
    }

    fn count(&self) {
        let count = self.sessions.len();
        self.stats.sessions.store(count, Ordering::Relaxed);
    }
}
