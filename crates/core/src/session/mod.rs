//! What one connection does next: events in, commands out.
//!
//! The engine owns the socket, the hub's queue and the database; it tells the session what happened
//! and carries out, in order, what the session answers. So the rules that keep a client's copy
//! exact can be tested without any of those.
//!
//! A subscription is *joining* until its first read (a snapshot of the table, or the changes since
//! the client's cursor) is complete, and *live* from then on. It is attached to the hub before its
//! read begins, so every batch after the read's position passes through here.
//!
//! Invariants:
//! 1. A live shape gets every batch that its position does not cover, in order, once.
//! 2. `subscribed` is sent when the read is complete and every batch that came meanwhile is either
//!    covered by the read or kept to be sent right behind it (P4).
//! 3. A `cursor` frame is sent only with a position that covers the position of every live
//!    subscription, and with everything up to it sent (P3). It never goes backwards.
//! 4. Answers to mutations leave in the order of the mutations; an ack leaves just before the first
//!    `cursor` frame whose position contains the mutation (P6).
//! 5. What is kept for a slow client or a long read is bounded. Beyond the bound nothing is lost:
//!    the log is read again from the position reached.

mod command;
mod live;
mod mutations;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use command::{
    Awaited, Command, Frame, HubCommand, ReadCommand, ReadEnd, ReadFrom, SubscribeError,
};
use live::LiveShapes;
use mutations::Mutations;
use protocol::{ErrorCode, Push, RefetchReason, SelectionRequest, Subscribe, SubscriptionId};

use crate::cursor::{Cursor, Position};
use crate::mutation::Applied;
use crate::shape::Shape;

/// Batches kept for one joining subscription; more, and its read goes on from the log.
pub const BACKLOG_BATCHES_MAX: usize = 256;

/// What the session has to know of one delivery of the hub.
pub trait Batch: Clone {
    /// The position that the database had when it was read.
    fn position(&self) -> &Arc<Position>;
    /// Whether this is the last delivery for that position.
    fn complete(&self) -> bool;
    /// Whether it changes rows of this shape.
    fn touches(&self, shape: &Shape) -> bool;
    /// Whether the table behind this shape changed, so that its rows must be taken anew.
    fn changes_schema_of(&self, shape: &Shape) -> bool;
}

#[derive(Debug)]
struct Subscription<B> {
    shape: Shape,
    /// What it asks for; none for everything.
    request: Option<Box<SelectionRequest>>,
    joining: Option<Joining<B>>,
}

/// What is kept while a subscription's read goes on.
#[derive(Debug)]
struct Joining<B> {
    backlog: Vec<B>,
    /// Batches were let go: the read must go on from where it ends.
    missed: bool,
    /// The table changed its shape under the read.
    schema_changed: bool,
}

impl<B> Subscription<B> {
    /// What it has been sent does not hold: it is read anew, in its table as that is now.
    fn restart(&mut self, id: &SubscriptionId, reason: RefetchReason) -> Vec<Command<B>> {
        self.joining = Some(Joining::new());
        let id = id.clone();
        let refetch = Command::Send(Frame::Refetch {
            id: id.clone(),
            reason,
        });
        vec![refetch, Command::Resolve(id)]
    }

    /// Its read goes on from where it has come to.
    fn resume_read(&mut self, id: &SubscriptionId, position: Arc<Position>) -> Command<B> {
        self.joining = Some(Joining::new());
        Command::Read(ReadCommand::Start {
            id: id.clone(),
            shape: self.shape.clone(),
            from: Some(ReadFrom::Position(position)),
        })
    }
}

impl<B> Joining<B> {
    fn new() -> Self {
        Self {
            backlog: Vec::new(),
            missed: false,
            schema_changed: false,
        }
    }
}

/// The state of one connection after its `hello`.
#[derive(Debug)]
pub struct Session<B> {
    subscriptions_max: usize,
    subscriptions: BTreeMap<SubscriptionId, Subscription<B>>,
    live: LiveShapes,
    /// The position of the last complete batch.
    stream: Option<Arc<Position>>,
    /// The position of a batch that has come in part: no `cursor` before the rest.
    in_batch: Option<Arc<Position>>,
    mutations: Mutations,
}

impl<B: Batch> Session<B> {
    /// A session without subscriptions.
    pub fn new(subscriptions_max: usize) -> Self {
        Self {
            subscriptions_max,
            subscriptions: BTreeMap::new(),
            live: LiveShapes::default(),
            stream: None,
            in_batch: None,
            mutations: Mutations::default(),
        }
    }

    /// How many mutations wait for their turn; the engine stops reading a client that has many.
    pub fn pushes_waiting(&self) -> usize {
        self.mutations.waiting()
    }

    /// Whether a mutation is being applied.
    pub fn is_applying(&self) -> bool {
        self.mutations.is_applying()
    }

    /// The client asks for an entity or for a part of it. `resolve` finds the shape that it means.
    pub fn subscribe(
        &mut self,
        subscribe: Subscribe,
        resolve: impl FnOnce(&Subscribe) -> Result<Shape, SubscribeError>,
    ) -> Vec<Command<B>> {
        let id = subscribe.id.clone();
        let resolved = self
            .check_subscribe(&subscribe)
            .and_then(|()| resolve(&subscribe));
        let shape = match resolved {
            Ok(shape) => shape,
            Err(refusal) => return vec![refused(id, refusal)],
        };
        // A text that is no cursor is treated as one of another history: the client gets `refetch`.
        let (from, refused) = match subscribe.cursor.as_deref().map(str::parse::<Cursor>) {
            None => (None, false),
            Some(Ok(cursor)) => (Some(ReadFrom::Cursor(cursor)), false),
            Some(Err(_)) => (None, true),
        };
        let mut commands = Vec::new();
        if !self.is_attached(&shape) {
            commands.push(Command::Hub(HubCommand::Attach(shape.clone())));
        }
        if refused {
            commands.push(Command::Send(Frame::Refetch {
                id: id.clone(),
                reason: RefetchReason::Epoch,
            }));
        }
        commands.push(Command::Read(ReadCommand::Start {
            id: id.clone(),
            shape: shape.clone(),
            from,
        }));
        let joining = Some(Joining::new());
        let selection = subscribe.selection;
        let request = (!selection.is_everything()).then(|| Box::new(selection));
        self.subscriptions.insert(
            id,
            Subscription {
                shape,
                request,
                joining,
            },
        );
        commands
    }

    fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), SubscribeError> {
        let refuse = |code, message: &str| {
            let message = message.to_owned();
            Err(SubscribeError { code, message })
        };
        if self.subscriptions.contains_key(&subscribe.id) {
            return refuse(ErrorCode::Protocol, "this subscription id is in use");
        }
        if self.subscriptions.len() >= self.subscriptions_max {
            return refuse(
                ErrorCode::TooManySubscriptions,
                "this connection has as many as it may",
            );
        }
        match subscribe.mode.as_deref() {
            None | Some("rows") => Ok(()),
            Some("fields") => refuse(ErrorCode::Protocol, "mode `fields` is not built yet"),
            Some(_) => refuse(ErrorCode::Protocol, "mode is `rows` or `fields`"),
        }
    }

    /// The entity that a subscription is about, and what it asks for of it.
    pub fn request(&self, id: &SubscriptionId) -> Option<(String, SelectionRequest)> {
        let subscription = self.subscriptions.get(id)?;
        let selection = subscription.request.as_deref().cloned();
        let entity = subscription.shape.entity().to_owned();
        Some((entity, selection.unwrap_or_default()))
    }

    /// The shape that a subscription asks for has been found, or can no longer be.
    pub fn resolved(
        &mut self,
        id: &SubscriptionId,
        resolved: Result<Shape, SubscribeError>,
    ) -> Vec<Command<B>> {
        let mut commands = Vec::new();
        let shape = match resolved {
            Ok(shape) => shape,
            Err(refusal) => {
                if let Some(subscription) = self.subscriptions.remove(id) {
                    self.release(subscription.shape, &mut commands);
                    commands.push(refused(id.clone(), refusal));
                }
                return commands;
            }
        };
        let is_attached = self.is_attached(&shape);
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return commands;
        };
        let before = std::mem::replace(&mut subscription.shape, shape.clone());
        if !is_attached {
            commands.push(Command::Hub(HubCommand::Attach(shape.clone())));
        }
        self.release(before, &mut commands);
        commands.push(Command::Read(ReadCommand::Start {
            id: id.clone(),
            shape,
            from: None,
        }));
        commands
    }

    /// The client no longer wants a subscription.
    pub fn unsubscribe(&mut self, id: &SubscriptionId) -> Vec<Command<B>> {
        let Some(subscription) = self.subscriptions.remove(id) else {
            let message = "no subscription of this id".to_owned();
            let code = ErrorCode::Protocol;
            return vec![refused(id.clone(), SubscribeError { code, message })];
        };
        let mut commands = Vec::new();
        if subscription.joining.is_some() {
            commands.push(Command::Read(ReadCommand::Stop(id.clone())));
        }
        self.release(subscription.shape, &mut commands);
        commands
    }

    /// A subscription no longer has this shape.
    fn release(&mut self, shape: Shape, commands: &mut Vec<Command<B>>) {
        if !self.is_live(&shape) {
            self.live.remove(&shape);
        }
        if !self.is_attached(&shape) {
            commands.push(Command::Hub(HubCommand::Detach(shape)));
        }
    }

    /// The client pushes a mutation: it is applied when those before it have been.
    pub fn push(&mut self, push: Push) -> Vec<Command<B>> {
        self.mutations.push(push)
    }

    /// The mutation that was being applied has ended.
    pub fn applied(&mut self, mutation: u64, applied: Applied) -> Vec<Command<B>> {
        self.mutations.applied(mutation, applied)
    }

    /// The hub delivers.
    pub fn batch(&mut self, batch: B) -> Vec<Command<B>> {
        let mut commands = Vec::new();
        self.restart_outdated(&batch, &mut commands);
        self.keep_for_joining(&batch);
        self.deliver(&batch, &mut commands);
        commands
    }

    /// Live subscriptions of an entity that changed its shape begin anew; joining ones will, when
    /// their read ends.
    fn restart_outdated(&mut self, batch: &B, commands: &mut Vec<Command<B>>) {
        for (id, subscription) in &mut self.subscriptions {
            if !batch.changes_schema_of(&subscription.shape) {
                continue;
            }
            if let Some(joining) = &mut subscription.joining {
                joining.schema_changed = true;
                continue;
            }
            if self.live.covers(&subscription.shape, batch.position()) {
                continue;
            }
            commands.extend(subscription.restart(id, RefetchReason::Schema));
        }
        let live = &mut self.live;
        live.retain(|shape| {
            self.subscriptions
                .values()
                .any(|s| s.shape == *shape && s.joining.is_none())
        });
    }

    fn keep_for_joining(&mut self, batch: &B) {
        for subscription in self.subscriptions.values_mut() {
            let Some(joining) = &mut subscription.joining else {
                continue;
            };
            if joining.missed || !batch.touches(&subscription.shape) {
                continue;
            }
            if joining.backlog.len() == BACKLOG_BATCHES_MAX {
                joining.missed = true;
                joining.backlog = Vec::new();
            } else {
                joining.backlog.push(batch.clone());
            }
        }
    }

    /// Sends what a batch has for the live shapes, and with it the cursor where that may be.
    fn deliver(&mut self, batch: &B, commands: &mut Vec<Command<B>>) {
        if let Some(begun) = self
            .in_batch
            .clone()
            .filter(|begun| begun != batch.position())
        {
            // A batch broke off after some of its parts and is read again, to a later position. What
            // came in those parts may have gone since, and would not be told of any more.
            self.live.know_part_of(&begun);
        }
        for (shape, new) in self.live.take(batch) {
            commands.extend(new.frame(batch.clone(), shape));
        }
        let position = batch.position();
        if !batch.complete() {
            self.in_batch = Some(position.clone());
        } else if self
            .in_batch
            .as_ref()
            .is_none_or(|in_batch| position.covers(in_batch))
        {
            self.in_batch = None;
            self.stream = Some(position.clone());
            self.reach(position, commands);
        }
        // Else it is an empty one, from before the batch that has come in part.
    }

    /// Everything up to `position` has been sent for every live shape that it is news to.
    fn reach(&mut self, position: &Arc<Position>, commands: &mut Vec<Command<B>>) {
        match self.live.reach(position) {
            live::Reached::Behind(wanted) => {
                // A subscription joined further on. The cursor waits until the hub is there too.
                if self.live.has_uncommitted() || self.mutations.has_answer_at(position) {
                    commands.push(Command::Hub(HubCommand::Await(Awaited::Position(wanted))));
                }
            }
            live::Reached::Here { is_new } => {
                let answers_before = commands.len();
                self.mutations.answer_up_to(position, commands);
                if is_new || commands.len() > answers_before {
                    self.live.cursor_sent(position);
                    commands.push(Command::Send(Frame::Cursor(position.clone())));
                }
            }
        }
    }

    /// A joining subscription's read has ended.
    pub fn read(&mut self, id: &SubscriptionId, end: ReadEnd) -> Vec<Command<B>> {
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return Vec::new();
        };
        let Some(joining) = subscription.joining.take() else {
            return Vec::new();
        };
        let shape = subscription.shape.clone();
        let position = match end {
            ReadEnd::Refused(reason) => return subscription.restart(id, reason),
            ReadEnd::Complete(_) if joining.schema_changed => {
                return subscription.restart(id, RefetchReason::Schema);
            }
            ReadEnd::Complete(position) if joining.missed => {
                return vec![subscription.resume_read(id, position)];
            }
            ReadEnd::Complete(position) => position,
        };
        if self.live.has(&shape) {
            return self.join_live(id, shape, position, joining.backlog);
        }
        let mut commands = vec![Command::Send(Frame::Subscribed {
            id: id.clone(),
            shape: shape.clone(),
            position: position.clone(),
        })];
        self.live.join(shape.clone(), position);
        for batch in joining.backlog {
            let new = self.live.take_shape(&shape, &batch);
            commands.extend(new.frame(batch, shape.clone()));
        }
        let between = self.in_batch.is_none() && self.live.has_uncommitted();
        if let Some(stream) = self.stream.clone().filter(|_| between) {
            self.reach(&stream, &mut commands);
        }
        commands
    }

    /// A second subscription joins a shape that is live: what has been sent under the shape's name
    /// meanwhile was not meant for it, so it gets that under its own id first.
    fn join_live(
        &mut self,
        id: &SubscriptionId,
        shape: Shape,
        mut position: Arc<Position>,
        backlog: Vec<B>,
    ) -> Vec<Command<B>> {
        let read_to = position.clone();
        let missed = backlog
            .into_iter()
            .filter(|batch| !read_to.covers(batch.position()));
        let missed: Vec<B> = missed.collect();
        if let Some(last) = missed.last() {
            position = last.position().clone();
        }
        // Half a batch must not be committed by `subscribed`.
        let whole = missed.last().is_none_or(Batch::complete);
        if !whole || !self.live.join_live(&shape, &position) {
            let subscription = self.subscriptions.get_mut(id);
            return subscription
                .map(|found| found.resume_read(id, read_to))
                .into_iter()
                .collect();
        }
        let mut commands = Vec::new();
        for batch in missed {
            let (shape, id, since) = (shape.clone(), Some(id.clone()), Some(read_to.clone()));
            commands.push(Command::Send(Frame::Changes {
                batch,
                shape,
                id,
                since,
            }));
        }
        commands.push(Command::Send(Frame::Subscribed {
            id: id.clone(),
            shape,
            position,
        }));
        commands
    }

    /// The hub could not queue everything for this session: what it did queue has been delivered.
    pub fn overflowed(&mut self) -> Vec<Command<B>> {
        for subscription in self.subscriptions.values_mut() {
            if let Some(joining) = &mut subscription.joining {
                joining.missed = true;
                joining.backlog = Vec::new();
            }
        }
        // Nothing live leaves nothing to read; the answers that are owed need a position all the same.
        vec![Command::CatchUp(self.live.positions())]
    }

    /// What the hub could not queue has been read and sent, up to `position`.
    pub fn caught_up(&mut self, position: Arc<Position>) -> Vec<Command<B>> {
        let mut commands = Vec::new();
        self.in_batch = None;
        self.live.caught_up(&position);
        self.reach(&position, &mut commands);
        // The hub forgot what this session had asked it to wait for, with its queue.
        commands.extend(self.mutations.await_again());
        commands
    }

    /// A pull found the log shorter than it needs, or tables in another shape: these subscriptions
    /// begin anew, and the rest is caught_up again.
    pub fn catch_up_refused(
        &mut self,
        reason: RefetchReason,
        entity: Option<&str>,
    ) -> Vec<Command<B>> {
        let mut anew = Vec::new();
        let mut commands = Vec::new();
        for (id, subscription) in &self.subscriptions {
            let meant = entity.is_none_or(|entity| entity == subscription.shape.entity());
            if meant && subscription.joining.is_none() {
                self.live.remove(&subscription.shape);
                anew.push(id.clone());
            }
        }
        // The pull comes before the reads, which need the hub's queue from their beginning.
        let pull = self.overflowed();
        for id in anew {
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                commands.extend(subscription.restart(&id, reason));
            }
        }
        let (refetches, reads): (Vec<_>, Vec<_>) = commands
            .into_iter()
            .partition(|command| matches!(command, Command::Send(Frame::Refetch { .. })));
        refetches.into_iter().chain(pull).chain(reads).collect()
    }

    fn is_attached(&self, shape: &Shape) -> bool {
        self.subscriptions
            .values()
            .any(|subscription| subscription.shape == *shape)
    }

    fn is_live(&self, shape: &Shape) -> bool {
        self.subscriptions
            .values()
            .any(|s| s.shape == *shape && s.joining.is_none())
    }
}

fn refused<B>(id: SubscriptionId, refusal: SubscribeError) -> Command<B> {
    Command::Send(Frame::Error {
        code: refusal.code,
        message: refusal.message,
        id: Some(id),
    })
}
