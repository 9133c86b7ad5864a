//! A hub: reads what is new, in batches of one or several parts, and queues it for each session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::session::{Awaited, Batch};
use rhtmx_sync_core::shape::Shape;

use crate::database::{Database, Item};
use crate::random::Random;
use crate::shapes::{Ask, Generation, Shapes};

/// One delivery, shared by all who get it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery(Rc<Part>);

#[derive(Debug)]
struct Part {
    position: Arc<Position>,
    complete: bool,
    /// Some of it may have been delivered before.
    again: bool,
    items: Vec<Item>,
    /// What it was written for: the shapes that somebody had attached when it was read.
    shapes: BTreeMap<Shape, Asked>,
    /// Shapes for which it could not be read, as happens when a table changes unseen.
    outdated: BTreeSet<Shape>,
}

type Asked = (Ask, Option<Generation>);

impl Delivery {
    fn new(
        position: &Arc<Position>,
        complete: bool,
        items: Vec<Item>,
        shapes: BTreeMap<Shape, Asked>,
        outdated: BTreeSet<Shape>,
    ) -> Self {
        Self(Rc::new(Part {
            position: position.clone(),
            complete,
            again: false,
            items,
            shapes,
            outdated,
        }))
    }

    /// The same, of a batch that broke off once.
    fn again(self, again: bool) -> Self {
        let mut part = Rc::into_inner(self.0).expect("not yet shared");
        part.again = again;
        Self(Rc::new(part))
    }

    /// Whether some of it may have been delivered before.
    pub(crate) fn may_repeat(&self) -> bool {
        self.0.again
    }

    fn empty(position: &Arc<Position>) -> Self {
        let (shapes, outdated) = (BTreeMap::new(), BTreeSet::new());
        Self::new(position, true, Vec::new(), shapes, outdated)
    }

    /// What it has for a shape; none when it was not written for it, or could not be.
    pub(crate) fn items(&self, shape: &Shape) -> Option<(Asked, impl Iterator<Item = &Item>)> {
        if self.0.outdated.contains(shape) {
            return None;
        }
        let asked = *self.0.shapes.get(shape)?;
        Some((asked, self.items_of(shape.entity().to_owned())))
    }

    fn items_of(&self, entity: String) -> impl Iterator<Item = &Item> {
        let items = self.0.items.iter();
        items.filter(move |item| item.entity == entity)
    }
}

impl Batch for Delivery {
    fn position(&self) -> &Arc<Position> {
        &self.0.position
    }

    fn complete(&self) -> bool {
        self.0.complete
    }

    fn touches(&self, shape: &Shape) -> bool {
        self.items(shape).is_some_and(|(asked, mut items)| {
            items.any(|item| matches!(item.of(asked), Effect::Change { .. }))
        })
    }

    fn changes_schema_of(&self, shape: &Shape) -> bool {
        let mut items = self.items_of(shape.entity().to_owned());
        self.0.outdated.contains(shape)
            || items.any(|item| matches!(item.learned, Effect::SchemaChanged))
    }
}

/// What the hub has for one session.
#[derive(Debug)]
pub(crate) struct Outlet {
    attached: BTreeSet<Shape>,
    queue: VecDeque<Delivery>,
    deliveries_max: usize,
    overflowed: bool,
    awaited: Vec<Awaited>,
    /// Part of a batch has been queued, so the last part must be too.
    in_batch: bool,
}

/// What a session finds in its queue.
pub(crate) enum Queued {
    Delivery(Delivery),
    Overflow,
}

impl Outlet {
    fn push(&mut self, delivery: Delivery) {
        if self.overflowed {
            return;
        }
        if self.queue.len() >= self.deliveries_max {
            self.overflowed = true;
        } else {
            self.queue.push_back(delivery);
        }
    }

    fn publish(&mut self, part: &Delivery) {
        let is_news = |shape| part.touches(shape) || part.changes_schema_of(shape);
        let touched = self.attached.iter().any(is_news);
        let reached = |awaited: &Awaited| part.complete() && awaited.is_reached_by(part.position());
        let awaited = self.awaited.iter().any(reached);
        let last = part.complete() && self.in_batch;
        self.awaited.retain(|awaited| !reached(awaited));
        self.in_batch = !part.complete() && (self.in_batch || touched);
        if touched || awaited || last {
            self.push(part.clone());
        }
    }
}

#[derive(Debug)]
pub(crate) struct Hub {
    /// Everything up to here has been published.
    position: Arc<Position>,
    /// The rest of the batch that is being published.
    parts: VecDeque<Delivery>,
    parts_max: usize,
    deliveries_max: usize,
    misfits_percent: usize,
    /// How often the rest of a batch cannot be read: it is read again from where it began, to where the
    /// database is by then.
    breaks_percent: usize,
    broken: bool,
    outlets: Vec<Option<Outlet>>,
}

impl Hub {
    pub(crate) fn new(position: Arc<Position>, sessions: usize, random: &mut Random) -> Self {
        let mut outlets = Vec::new();
        outlets.resize_with(sessions, || None);
        Self {
            position,
            parts: VecDeque::new(),
            parts_max: random.pick(&[1, 2, 4, 8]),
            deliveries_max: random.pick(&[1, 3, 8, 1000, 1000]),
            misfits_percent: random.pick(&[0, 0, 1, 5]),
            breaks_percent: random.pick(&[0, 0, 30, 80]),
            broken: false,
            outlets,
        }
    }

    pub(crate) fn position(&self) -> &Arc<Position> {
        &self.position
    }

    /// Publishes what is left of a batch, or reads the next. Says whether there was anything.
    pub(crate) fn drain(
        &mut self,
        database: &mut Database,
        shapes: &Shapes,
        random: &mut Random,
    ) -> bool {
        if !self.parts.is_empty() && random.percent(self.breaks_percent) {
            self.parts.clear();
            self.broken = true;
        }
        if self.parts.is_empty() {
            let position = database.now();
            let items = database.changes(&self.position, &position);
            let attached = self
                .outlets
                .iter()
                .flatten()
                .flat_map(|outlet| &outlet.attached);
            let attached = attached.map(|shape| (shape.clone(), shapes.ask(shape)));
            let attached = attached.collect();
            self.split(&position, items, &attached, random);
        }
        let Some(part) = self.parts.pop_front() else {
            return false;
        };
        for outlet in self.outlets.iter_mut().flatten() {
            outlet.publish(&part);
        }
        let moved = part.complete() && self.position != *part.position();
        if part.complete() {
            self.position = part.position().clone();
            self.broken = false;
        }
        moved || !part.complete()
    }

    fn split(
        &mut self,
        position: &Arc<Position>,
        mut items: Vec<Item>,
        shapes: &BTreeMap<Shape, Asked>,
        random: &mut Random,
    ) {
        let part = |complete, items: Vec<Item>, random: &mut Random| {
            let read = |shape: &Shape| items.iter().any(|item| item.entity == shape.entity());
            let parts = shapes
                .keys()
                .filter(|shape| shape.selection().is_some() && read(shape));
            let outdated = parts.filter(|_| random.percent(self.misfits_percent));
            let outdated = outdated.cloned().collect();
            Delivery::new(position, complete, items, shapes.clone(), outdated).again(self.broken)
        };
        for _ in 1..random.below(self.parts_max) + 1 {
            let rest = items.split_off(random.below(items.len() + 1));
            if !items.is_empty() {
                self.parts.push_back(part(false, items, random));
            }
            items = rest;
        }
        self.parts.push_back(part(true, items, random));
    }

    pub(crate) fn connect(&mut self, session: usize) {
        self.outlets[session] = Some(Outlet {
            attached: BTreeSet::new(),
            queue: VecDeque::new(),
            deliveries_max: self.deliveries_max,
            overflowed: false,
            awaited: Vec::new(),
            in_batch: false,
        });
    }

    pub(crate) fn disconnect(&mut self, session: usize) {
        self.outlets[session] = None;
    }

    fn outlet(&mut self, session: usize) -> &mut Outlet {
        self.outlets[session]
            .as_mut()
            .expect("the session is connected")
    }

    pub(crate) fn attach(&mut self, session: usize, shape: Shape) {
        assert!(
            self.outlet(session).attached.insert(shape),
            "attached twice"
        );
    }

    /// What a session hears of.
    pub(crate) fn attached(&mut self, session: usize) -> &BTreeSet<Shape> {
        &self.outlet(session).attached
    }

    /// As a wrong engine does: not before the read has ended.
    pub(crate) fn attach_late(&mut self, session: usize, shape: Shape) {
        self.outlet(session).attached.insert(shape);
    }

    pub(crate) fn detach(&mut self, session: usize, shape: &Shape) {
        assert!(
            self.outlet(session).attached.remove(shape),
            "detached what was not attached"
        );
    }

    pub(crate) fn await_position(&mut self, session: usize, awaited: Awaited) {
        let empty = Delivery::empty(&self.position);
        let outlet = self.outlet(session);
        if awaited.is_reached_by(empty.position()) {
            outlet.push(empty);
        } else {
            outlet.awaited.push(awaited);
        }
    }

    /// An empty delivery for everybody.
    pub(crate) fn beat(&mut self) {
        let empty = Delivery::empty(&self.position);
        for outlet in self.outlets.iter_mut().flatten() {
            outlet.push(empty.clone());
        }
    }

    pub(crate) fn take(&mut self, session: usize) -> Option<Queued> {
        let outlet = self.outlet(session);
        let delivery = outlet.queue.pop_front().map(Queued::Delivery);
        delivery.or_else(|| outlet.overflowed.then_some(Queued::Overflow))
    }

    /// Queues again for a session that is about to read what it missed. What it waited for is
    /// forgotten.
    pub(crate) fn rejoin(&mut self, session: usize) {
        let outlet = self.outlet(session);
        outlet.overflowed = false;
        outlet.in_batch = false;
        outlet.awaited.clear();
    }
}
