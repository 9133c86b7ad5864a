//! A hub: reads what is new, in batches of one or several parts, and queues it for each session.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::log::Learned;
use rhtmx_sync_core::session::{Awaited, Batch, ShapeId};

use crate::database::{Database, Item};
use crate::random::Random;

/// One delivery, shared by all who get it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery(Rc<Part>);

#[derive(Debug)]
struct Part {
    position: Arc<Position>,
    complete: bool,
    items: Vec<Item>,
}

impl Delivery {
    fn new(position: &Arc<Position>, complete: bool, items: Vec<Item>) -> Self {
        Self(Rc::new(Part {
            position: position.clone(),
            complete,
            items,
        }))
    }

    pub(crate) fn items<'a>(&'a self, shape: &'a ShapeId) -> impl Iterator<Item = &'a Item> {
        self.0
            .items
            .iter()
            .filter(|item| item.entity == shape.as_str())
    }

    fn is_of(&self, entity: &str) -> bool {
        self.0.items.iter().any(|item| item.entity == entity)
    }
}

impl Batch for Delivery {
    fn position(&self) -> &Arc<Position> {
        &self.0.position
    }

    fn complete(&self) -> bool {
        self.0.complete
    }

    fn touches(&self, shape: &ShapeId) -> bool {
        self.items(shape)
            .any(|item| matches!(item.learned, Learned::Change { .. }))
    }

    fn reshapes(&self, entity: &str) -> bool {
        let mut items = self.0.items.iter().filter(|item| item.entity == entity);
        items.any(|item| matches!(item.learned, Learned::Reshaped))
    }
}

/// What the hub has for one session.
#[derive(Debug)]
pub(crate) struct Outlet {
    attached: BTreeSet<ShapeId>,
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
        let touched = self.attached.iter().any(|shape| part.is_of(shape.as_str()));
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
    outlets: Vec<Option<Outlet>>,
}

impl Hub {
    pub(crate) fn new(position: Arc<Position>, sessions: usize, random: &mut Random) -> Self {
        let mut outlets = Vec::new();
        outlets.resize_with(sessions, || None);
        Self {
            position,
            parts: VecDeque::new(),
            parts_max: random.pick(&[1, 2, 4]),
            deliveries_max: random.pick(&[1, 3, 8, 1000, 1000]),
            outlets,
        }
    }

    pub(crate) fn position(&self) -> &Arc<Position> {
        &self.position
    }

    /// Publishes what is left of a batch, or reads the next. Says whether there was anything.
    pub(crate) fn drain(&mut self, database: &mut Database, random: &mut Random) -> bool {
        if self.parts.is_empty() {
            let position = database.now();
            let items = database.changes(&self.position, &position);
            self.split(&position, items, random);
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
        }
        moved || !part.complete()
    }

    fn split(&mut self, position: &Arc<Position>, mut items: Vec<Item>, random: &mut Random) {
        for _ in 1..random.below(self.parts_max) + 1 {
            let rest = items.split_off(random.below(items.len() + 1));
            if !items.is_empty() {
                self.parts.push_back(Delivery::new(position, false, items));
            }
            items = rest;
        }
        self.parts.push_back(Delivery::new(position, true, items));
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

    pub(crate) fn attach(&mut self, session: usize, shape: ShapeId) {
        assert!(
            self.outlet(session).attached.insert(shape),
            "attached twice"
        );
    }

    /// As a wrong engine does: not before the read has ended.
    pub(crate) fn attach_late(&mut self, session: usize, shape: ShapeId) {
        self.outlet(session).attached.insert(shape);
    }

    pub(crate) fn detach(&mut self, session: usize, shape: &ShapeId) {
        assert!(
            self.outlet(session).attached.remove(shape),
            "detached what was not attached"
        );
    }

    pub(crate) fn await_position(&mut self, session: usize, awaited: Awaited) {
        let empty = Delivery::new(&self.position, true, Vec::new());
        let outlet = self.outlet(session);
        if awaited.is_reached_by(empty.position()) {
            outlet.push(empty);
        } else {
            outlet.awaited.push(awaited);
        }
    }

    /// An empty delivery for everybody.
    pub(crate) fn beat(&mut self) {
        let empty = Delivery::new(&self.position, true, Vec::new());
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
