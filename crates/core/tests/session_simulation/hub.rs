//! A hub: reads the new changes, in batches of one or several parts, and queues them for each session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::session::{Awaited, Batch};
use rhtmx_sync_core::shape::Shape;

use crate::database::{Database, Item};
use crate::random::Random;
use crate::shapes::{Resolved, Shapes};

/// One part of a batch, shared by all sessions that receive it.
#[derive(Debug, Clone)]
pub(crate) struct SharedBatch(Rc<Part>);

#[derive(Debug)]
struct Part {
    position: Arc<Position>,
    complete: bool,
    /// Some of it may have been delivered before.
    repeated: bool,
    items: Vec<Item>,
    /// The shapes for which it was read: those that were attached at the time.
    shapes: BTreeMap<Shape, Resolved>,
    /// Shapes for which it could not be read, because the table had changed unnoticed.
    outdated: BTreeSet<Shape>,
}

impl SharedBatch {
    fn new(
        position: &Arc<Position>,
        complete: bool,
        items: Vec<Item>,
        shapes: BTreeMap<Shape, Resolved>,
        outdated: BTreeSet<Shape>,
    ) -> Self {
        Self(Rc::new(Part {
            position: position.clone(),
            complete,
            repeated: false,
            items,
            shapes,
            outdated,
        }))
    }

    /// The same batch; `repeated` when an earlier read of it ended after some parts.
    fn repeated(self, repeated: bool) -> Self {
        let mut part = Rc::into_inner(self.0).expect("not yet shared");
        part.repeated = repeated;
        Self(Rc::new(part))
    }

    /// Whether some of it may have been delivered before.
    pub(crate) fn may_repeat(&self) -> bool {
        self.0.repeated
    }

    fn empty(position: &Arc<Position>) -> Self {
        let (shapes, outdated) = (BTreeMap::new(), BTreeSet::new());
        Self::new(position, true, Vec::new(), shapes, outdated)
    }

    /// The changes of a shape's entity; none when the batch was not, or could not be, read for the shape.
    pub(crate) fn items(&self, shape: &Shape) -> Option<(Resolved, impl Iterator<Item = &Item>)> {
        if self.0.outdated.contains(shape) {
            return None;
        }
        let resolved = *self.0.shapes.get(shape)?;
        Some((resolved, self.items_of(shape.entity().to_owned())))
    }

    fn items_of(&self, entity: String) -> impl Iterator<Item = &Item> {
        let items = self.0.items.iter();
        items.filter(move |item| item.entity == entity)
    }
}

impl Batch for SharedBatch {
    fn position(&self) -> &Arc<Position> {
        &self.0.position
    }

    fn complete(&self) -> bool {
        self.0.complete
    }

    fn bytes(&self) -> usize {
        self.0.items.len()
    }

    fn touches(&self, shape: &Shape) -> bool {
        self.items(shape).is_some_and(|(resolved, mut items)| {
            items.any(|item| matches!(item.effect_on(resolved), Effect::Change { .. }))
        })
    }

    fn is_unclear_for(&self, _shape: &Shape) -> bool {
        // What a row was is always known here.
        false
    }

    fn changes_schema_of(&self, shape: &Shape) -> bool {
        let mut items = self.items_of(shape.entity().to_owned());
        self.0.outdated.contains(shape)
            || items.any(|item| matches!(item.effect, Effect::SchemaChanged))
    }
}

/// What the hub keeps for one session.
#[derive(Debug)]
pub(crate) struct Mailbox {
    attached: BTreeSet<Shape>,
    queue: VecDeque<SharedBatch>,
    batches_max: usize,
    overflowed: bool,
    awaited: Vec<Awaited>,
    /// A part of a batch has been queued, so the last part must be too.
    in_batch: bool,
}

/// What a session finds in its mailbox.
pub(crate) enum Queued {
    Batch(SharedBatch),
    Overflow,
}

impl Mailbox {
    fn push(&mut self, batch: SharedBatch) {
        if self.overflowed {
            return;
        }
        if self.queue.len() >= self.batches_max {
            self.overflowed = true;
        } else {
            self.queue.push_back(batch);
        }
    }

    fn publish(&mut self, part: &SharedBatch) {
        let concerns = |shape| part.touches(shape) || part.changes_schema_of(shape);
        let touched = self.attached.iter().any(concerns);
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
    parts: VecDeque<SharedBatch>,
    parts_max: usize,
    batches_max: usize,
    outdated_percent: usize,
    /// How often the rest of a batch cannot be read. The batch is then read again, from the same position
    /// to a later one.
    breaks_percent: usize,
    broken: bool,
    mailboxes: Vec<Option<Mailbox>>,
}

impl Hub {
    pub(crate) fn new(position: Arc<Position>, sessions: usize, random: &mut Random) -> Self {
        let mut mailboxes = Vec::new();
        mailboxes.resize_with(sessions, || None);
        Self {
            position,
            parts: VecDeque::new(),
            parts_max: random.pick(&[1, 2, 4, 8]),
            batches_max: random.pick(&[1, 3, 8, 1000, 1000]),
            outdated_percent: random.pick(&[0, 0, 1, 5]),
            breaks_percent: random.pick(&[0, 0, 30, 80]),
            broken: false,
            mailboxes,
        }
    }

    pub(crate) fn position(&self) -> &Arc<Position> {
        &self.position
    }

    /// Publishes the next part of a batch, or reads another batch. Returns whether there was anything.
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
                .mailboxes
                .iter()
                .flatten()
                .flat_map(|mailbox| &mailbox.attached);
            let attached = attached.map(|shape| (shape.clone(), shapes.resolved(shape)));
            let attached = attached.collect();
            self.split(&position, items, &attached, random);
        }
        let Some(part) = self.parts.pop_front() else {
            return false;
        };
        for mailbox in self.mailboxes.iter_mut().flatten() {
            mailbox.publish(&part);
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
        shapes: &BTreeMap<Shape, Resolved>,
        random: &mut Random,
    ) {
        let part = |complete, items: Vec<Item>, random: &mut Random| {
            let read = |shape: &Shape| items.iter().any(|item| item.entity == shape.entity());
            let selected = shapes
                .keys()
                .filter(|shape| shape.selection().is_some() && read(shape));
            let outdated = selected.filter(|_| random.percent(self.outdated_percent));
            let outdated = outdated.cloned().collect();
            SharedBatch::new(position, complete, items, shapes.clone(), outdated)
                .repeated(self.broken)
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
        self.mailboxes[session] = Some(Mailbox {
            attached: BTreeSet::new(),
            queue: VecDeque::new(),
            batches_max: self.batches_max,
            overflowed: false,
            awaited: Vec::new(),
            in_batch: false,
        });
    }

    pub(crate) fn disconnect(&mut self, session: usize) {
        self.mailboxes[session] = None;
    }

    fn mailbox(&mut self, session: usize) -> &mut Mailbox {
        self.mailboxes[session]
            .as_mut()
            .expect("the session is connected")
    }

    pub(crate) fn attach(&mut self, session: usize, shape: Shape) {
        assert!(
            self.mailbox(session).attached.insert(shape),
            "attached twice"
        );
    }

    /// The shapes of a session.
    pub(crate) fn attached(&mut self, session: usize) -> &BTreeSet<Shape> {
        &self.mailbox(session).attached
    }

    /// Attaches a shape as a faulty engine does: after the read has ended.
    pub(crate) fn attach_late(&mut self, session: usize, shape: Shape) {
        self.mailbox(session).attached.insert(shape);
    }

    pub(crate) fn detach(&mut self, session: usize, shape: &Shape) {
        assert!(
            self.mailbox(session).attached.remove(shape),
            "detached a shape that was not attached"
        );
    }

    pub(crate) fn await_position(&mut self, session: usize, awaited: Awaited) {
        let empty = SharedBatch::empty(&self.position);
        let mailbox = self.mailbox(session);
        if awaited.is_reached_by(empty.position()) {
            mailbox.push(empty);
        } else {
            mailbox.awaited.push(awaited);
        }
    }

    /// Queues an empty batch for every session.
    pub(crate) fn heartbeat(&mut self) {
        let empty = SharedBatch::empty(&self.position);
        for mailbox in self.mailboxes.iter_mut().flatten() {
            mailbox.push(empty.clone());
        }
    }

    pub(crate) fn take(&mut self, session: usize) -> Option<Queued> {
        let mailbox = self.mailbox(session);
        let batch = mailbox.queue.pop_front().map(Queued::Batch);
        batch.or_else(|| mailbox.overflowed.then_some(Queued::Overflow))
    }

    /// Queues batches again for a session that is about to catch up. What it awaited is dropped.
    pub(crate) fn rejoin(&mut self, session: usize) {
        let mailbox = self.mailbox(session);
        mailbox.overflowed = false;
        mailbox.in_batch = false;
        mailbox.awaited.clear();
    }
}
