//! What one connection does next: events in, commands out.
//!
//! The engine owns the transport, the mailbox and the database. It reports events to the session and
//! executes, in order, the commands that the session returns. So the rules that keep a client's copy
//! exact can be tested without any of those.
//!
//! A subscription is *joining* until its first read (all rows of its shape, or the changes since the
//! client's cursor) is complete, and *live* from then on. It is attached to the hub before its read
//! begins, so every batch after the read's position passes through here.
//!
//! Invariants:
//! 1. A live shape receives every batch that its position does not cover, in order, once.
//! 2. `subscribed` is sent when the read is complete and every batch that arrived meanwhile is either
//!    covered by the read or kept, to be sent right after it (P4).
//! 3. A `cursor` frame is sent only with a position that covers the position of every live
//!    subscription, and only after everything up to it (P3). It never goes backwards.
//! 4. Answers to mutations leave in the order of the mutations; an ack leaves just before the first
//!    `cursor` frame whose position contains the mutation (P6).
//! 5. The memory for a slow client or a long read is bounded. Beyond the bound nothing is lost: the
//!    log is read again from the position reached.

mod command;
mod limits;
mod live;
mod mutations;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use command::{
    Awaited, Command, Frame, HubCommand, ReadCommand, ReadEnd, ReadFrom, SubscribeError,
};
use limits::Cost;
pub use limits::SessionLimits;
use live::LiveShapes;
use mutations::Mutations;
use protocol::{ErrorCode, Push, RefetchReason, SelectionRequest, Subscribe, SubscriptionId};

use crate::cursor::{Cursor, Position};
use crate::limit::Limit;
use crate::mutation::Applied;
use crate::shape::Shape;

/// The most batches that are kept for one joining subscription. Beyond that it continues from the log.
pub const BACKLOG_BATCHES_MAX: usize = 256;

/// The most bytes of batches that are kept for one joining subscription.
pub const BACKLOG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the session has to know of a batch of the hub.
pub trait Batch: Clone {
    /// The position at which its changes were read.
    fn position(&self) -> &Arc<Position>;
    /// Whether this is the last batch of that position.
    fn complete(&self) -> bool;
    /// The memory that it takes, in bytes.
    fn bytes(&self) -> usize;
    /// Whether it has changes for this shape.
    fn touches(&self, shape: &Shape) -> bool;
    /// Whether the schema of this shape's table changed, so that its rows must be refetched.
    fn changes_schema_of(&self, shape: &Shape) -> bool;
    /// Whether a set of this shape is not known any more: which rows came and went from here on, no batch says.
    fn loses_sets_of(&self, shape: &Shape) -> bool {
        let _ = shape;
        false
    }
    /// Whether rows may have left this shape that the batch does not name, because nobody knows whether they
    /// were in it: to name them would tell their keys to clients that never had them.
    fn is_unclear_for(&self, shape: &Shape) -> bool;
    /// The position that the batch follows, if the sets of this shape may have changed in it, even if they changed
    /// back. A reader that has reached a position in between cannot tell from the batch which rows came and went
    /// since: no commit says so of them. It reads the log from there.
    fn moves(&self, shape: &Shape) -> Option<&Arc<Position>> {
        let _ = shape;
        None
    }
}

/// Whether a reader at `position` must read the log because a batch that moves rows of a shape contains only a part of
/// what is new to it.
pub fn is_cut_by<B: Batch>(batch: &B, shape: &Shape, position: &Position) -> bool {
    let follows = batch.moves(shape);
    follows.is_some_and(|follows| !position.covers(batch.position()) && !follows.covers(position))
}

#[derive(Debug)]
struct Subscription<B> {
    shape: Shape,
    /// The selection that the client asked for; none for everything.
    request: Option<Box<SelectionRequest>>,
    cost: Cost,
    joining: Option<Joining<B>>,
}

/// What is kept during a subscription's first read.
#[derive(Debug)]
struct Joining<B> {
    backlog: Vec<B>,
    backlog_bytes: usize,
    /// Batches were dropped: another read must follow, from where this one ends.
    missed: bool,
    /// The table's schema changed during the read.
    schema_changed: bool,
    /// The position of the last batch that was unclear for the shape.
    unclear_at: Option<Arc<Position>>,
}

impl<B> Subscription<B> {
    /// Starts again, since what was sent is void: refetch, and resolve the shape in the table as it is now.
    fn restart(&mut self, id: &SubscriptionId, reason: RefetchReason) -> Vec<Command<B>> {
        self.joining = Some(Joining::new());
        let id = id.clone();
        let refetch = Command::Send(Frame::Refetch {
            id: id.clone(),
            reason,
        });
        vec![refetch, Command::Resolve(id)]
    }

    /// Continues the read from the position that it has reached.
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
            backlog_bytes: 0,
            missed: false,
            schema_changed: false,
            unclear_at: None,
        }
    }
}

impl<B: Batch> Joining<B> {
    /// Keeps a batch, or notes that it must be read from the log.
    fn keep(&mut self, batch: &B) {
        if self.missed {
            return;
        }
        self.backlog_bytes += batch.bytes();
        if self.backlog.len() == BACKLOG_BATCHES_MAX || self.backlog_bytes > BACKLOG_BYTES_MAX {
            self.miss();
        } else {
            self.backlog.push(batch.clone());
        }
    }

    fn miss(&mut self) {
        self.missed = true;
        self.backlog = Vec::new();
    }
}

/// The state of one connection after its `hello`.
#[derive(Debug)]
pub struct Session<B> {
    limits: SessionLimits,
    subscriptions: BTreeMap<SubscriptionId, Subscription<B>>,
    live: LiveShapes,
    /// The position of the last complete batch.
    stream: Option<Arc<Position>>,
    /// The position of a batch whose last part has not arrived: no `cursor` frame before that.
    in_batch: Option<Arc<Position>>,
    mutations: Mutations,
}

impl<B: Batch> Session<B> {
    /// Makes a session without subscriptions.
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            subscriptions: BTreeMap::new(),
            live: LiveShapes::default(),
            stream: None,
            in_batch: None,
            mutations: Mutations::default(),
        }
    }

    /// The number of mutations that wait for their turn; the engine stops reading from a client with many.
    pub fn pushes_waiting(&self) -> usize {
        self.mutations.waiting()
    }

    /// The number of answers that wait for a position. While the hub stands still they pile up, so the engine
    /// stops reading from a client with many.
    pub fn answers_waiting(&self) -> usize {
        self.mutations.answers_waiting()
    }

    /// The memory that the subscriptions' selections take, in bytes.
    pub fn selection_bytes(&self) -> usize {
        let costs = self.subscriptions.values().map(|one| one.cost.bytes);
        costs.sum()
    }

    /// Whether a mutation is being applied.
    pub fn is_applying(&self) -> bool {
        self.mutations.is_applying()
    }

    /// Handles a `subscribe`. `resolve` finds the shape that it asks for.
    pub fn subscribe(
        &mut self,
        subscribe: Subscribe,
        resolve: impl FnOnce(&Subscribe) -> Result<Shape, SubscribeError>,
    ) -> Vec<Command<B>> {
        let id = subscribe.id.clone();
        let resolved = self
            .check_subscribe(&subscribe)
            .and_then(|()| resolve(&subscribe))
            .and_then(|shape| {
                let cost = self.admit(&id, &shape, &subscribe.selection)?;
                Ok((shape, cost))
            });
        let (shape, cost) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => return vec![error_frame(id, error)],
        };
        let (from, refused) = match subscribe.cursor.as_deref().map(|text| resume(text, &shape)) {
            None => (None, None),
            Some(Ok(cursor)) => (Some(ReadFrom::Cursor(cursor)), None),
            Some(Err(reason)) => (None, Some(reason)),
        };
        let mut commands = Vec::new();
        if !self.is_attached(&shape) {
            commands.push(Command::Hub(HubCommand::Attach(shape.clone())));
        }
        if let Some(reason) = refused {
            commands.push(Command::Send(Frame::Refetch {
                id: id.clone(),
                reason,
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
                cost,
                joining,
            },
        );
        commands
    }

    fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), SubscribeError> {
        let fail = |code, message| Err(SubscribeError::new(code, message));
        if self.subscriptions.contains_key(&subscribe.id) {
            return fail(ErrorCode::Protocol, "this subscription id is in use");
        }
        if self.subscriptions.len() >= self.limits.subscriptions_max {
            let message = "this connection has as many subscriptions as it may";
            return Err(SubscribeError::beyond(Limit::Subscriptions, message));
        }
        Ok(())
    }

    /// What a subscription to this shape would cost, if this session may have it.
    fn admit(
        &self,
        id: &SubscriptionId,
        shape: &Shape,
        request: &SelectionRequest,
    ) -> Result<Cost, SubscribeError> {
        let cost = Cost::of(shape, request);
        let others = self.subscriptions.iter().filter(|(other, _)| *other != id);
        let all = others.fold(cost, |sum, (_, other)| sum.plus(other.cost));
        self.limits.check(all)?;
        Ok(cost)
    }

    /// The entity of a subscription, and the selection that it asks for.
    pub fn request(&self, id: &SubscriptionId) -> Option<(String, SelectionRequest)> {
        let subscription = self.subscriptions.get(id)?;
        let selection = subscription.request.as_deref().cloned();
        let entity = subscription.shape.entity().to_owned();
        Some((entity, selection.unwrap_or_default()))
    }

    /// Takes the result of [`Command::Resolve`].
    pub fn resolved(
        &mut self,
        id: &SubscriptionId,
        resolved: Result<Shape, SubscribeError>,
    ) -> Vec<Command<B>> {
        let mut commands = Vec::new();
        let resolved = resolved.and_then(|shape| {
            let (_, request) = self.request(id).unwrap_or_default();
            let cost = self.admit(id, &shape, &request)?;
            Ok((shape, cost))
        });
        let (shape, cost) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => return self.end_subscription(id, error),
        };
        let is_attached = self.is_attached(&shape);
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return commands;
        };
        subscription.cost = cost;
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

    /// The principal's rights have changed. Subscriptions that resolve to another shape now are told so, before
    /// anything else, and restart; the others hear nothing.
    pub fn reauthorize(
        &mut self,
        resolve: impl Fn(&str, &SelectionRequest) -> Result<Shape, SubscribeError>,
    ) -> Vec<Command<B>> {
        let everything = SelectionRequest::default();
        let (mut refetches, mut resolves) = (Vec::new(), Vec::new());
        for (id, subscription) in &mut self.subscriptions {
            let request = subscription.request.as_deref().unwrap_or(&everything);
            let resolved = resolve(subscription.shape.entity(), request);
            if resolved.is_ok_and(|shape| shape == subscription.shape) {
                continue;
            }
            if subscription.joining.is_some() {
                refetches.push(Command::Read(ReadCommand::Stop(id.clone())));
            }
            for command in subscription.restart(id, RefetchReason::Permission) {
                match command {
                    Command::Resolve(_) => resolves.push(command),
                    refetch => refetches.push(refetch),
                }
            }
        }
        self.retain_live();
        refetches.extend(resolves);
        refetches
    }

    /// Ends a subscription that cannot be served.
    fn end_subscription(&mut self, id: &SubscriptionId, error: SubscribeError) -> Vec<Command<B>> {
        let mut commands = Vec::new();
        if let Some(subscription) = self.subscriptions.remove(id) {
            self.release(subscription.shape, &mut commands);
            commands.push(error_frame(id.clone(), error));
        }
        commands
    }

    /// Handles an `unsubscribe`.
    pub fn unsubscribe(&mut self, id: &SubscriptionId) -> Vec<Command<B>> {
        let Some(subscription) = self.subscriptions.remove(id) else {
            let error = SubscribeError::new(ErrorCode::Protocol, "no subscription of this id");
            return vec![error_frame(id.clone(), error)];
        };
        let mut commands = Vec::new();
        if subscription.joining.is_some() {
            commands.push(Command::Read(ReadCommand::Stop(id.clone())));
        }
        self.release(subscription.shape, &mut commands);
        commands
    }

    /// Detaches a shape that a subscription has left, unless another one has it.
    fn release(&mut self, shape: Shape, commands: &mut Vec<Command<B>>) {
        if !self.is_live(&shape) {
            self.live.remove(&shape);
        }
        if !self.is_attached(&shape) {
            commands.push(Command::Hub(HubCommand::Detach(shape)));
        }
    }

    /// Handles a `push`: the mutation is applied after those before it.
    pub fn push(&mut self, push: Push) -> Vec<Command<B>> {
        self.mutations.push(push)
    }

    /// Takes the result of [`Command::Apply`].
    pub fn applied(&mut self, mutation: u64, applied: Applied) -> Vec<Command<B>> {
        self.mutations.applied(mutation, applied)
    }

    /// The session ends: it sends no more rows, so answers wait for no position any more. Until all its mutations
    /// have been answered, report [`Session::applied`] only.
    pub fn end(&mut self) -> Vec<Command<B>> {
        self.mutations.end()
    }

    /// Takes a batch from the hub.
    pub fn batch(&mut self, batch: B) -> Vec<Command<B>> {
        let mut commands = Vec::new();
        self.restart_outdated(&batch, &mut commands);
        if self.live.is_cut_by(&batch) {
            commands.extend(self.overflowed());
            return commands;
        }
        self.keep_for_joining(&batch);
        self.deliver(&batch, &mut commands);
        commands
    }

    /// Restarts live subscriptions whose table's schema changed, whose sets are lost, or for which the batch is unclear;
    /// joining ones restart when their read ends, the last only if their read has not seen more.
    fn restart_outdated(&mut self, batch: &B, commands: &mut Vec<Command<B>>) {
        for (id, subscription) in &mut self.subscriptions {
            let is_lost = batch.loses_sets_of(&subscription.shape);
            let reason = if is_lost || batch.changes_schema_of(&subscription.shape) {
                RefetchReason::Schema
            } else if batch.is_unclear_for(&subscription.shape) {
                RefetchReason::Expired
            } else {
                continue;
            };
            if let Some(joining) = &mut subscription.joining {
                match reason {
                    RefetchReason::Schema => joining.schema_changed = true,
                    _ => joining.unclear_at = Some(batch.position().clone()),
                }
                continue;
            }
            // One that has read beyond a loss has not read beyond the time for which nothing is known.
            if !is_lost && self.live.covers(&subscription.shape, batch.position()) {
                continue;
            }
            commands.extend(subscription.restart(id, reason));
        }
        self.retain_live();
    }

    /// Forgets the live shapes that no live subscription has any more.
    fn retain_live(&mut self) {
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
            if batch.touches(&subscription.shape) || batch.moves(&subscription.shape).is_some() {
                joining.keep(batch);
            }
        }
    }

    /// Sends the changes that a batch has for live shapes, and the cursor if that is allowed.
    fn deliver(&mut self, batch: &B, commands: &mut Vec<Command<B>>) {
        if let Some(begun) = self
            .in_batch
            .clone()
            .filter(|begun| begun != batch.position())
        {
            // A batch ended after some of its parts and is read again, up to a later position. Rows that
            // those parts created may be deleted by now, which makes their deletes transient.
            self.live.sent_some_up_to(&begun);
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
        // Otherwise it is an empty batch from before the one that has arrived in part.
    }

    /// Sends answers and the cursor for `position`, if everything up to it has been sent for every live
    /// shape.
    fn reach(&mut self, position: &Arc<Position>, commands: &mut Vec<Command<B>>) {
        match self.live.reach(position) {
            live::Reached::Behind(wanted) => {
                // A subscription joined at a later position. The cursor waits until the hub reaches it.
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

    /// Takes the end of a joining subscription's read.
    pub fn read(&mut self, id: &SubscriptionId, end: ReadEnd) -> Vec<Command<B>> {
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return Vec::new();
        };
        let Some(joining) = subscription.joining.take() else {
            return Vec::new();
        };
        let shape = subscription.shape.clone();
        let position = match end {
            ReadEnd::Refetch(reason) => return subscription.restart(id, reason),
            ReadEnd::Failed(error) => return self.end_subscription(id, error),
            ReadEnd::Complete(_) if joining.schema_changed => {
                return subscription.restart(id, RefetchReason::Schema);
            }
            ReadEnd::Complete(position)
                if joining
                    .unclear_at
                    .is_some_and(|unclear| !position.covers(&unclear)) =>
            {
                return subscription.restart(id, RefetchReason::Expired);
            }
            ReadEnd::Complete(position)
                if joining.missed
                    || joining
                        .backlog
                        .iter()
                        .any(|batch| is_cut_by(batch, &shape, &position)) =>
            {
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

    /// Joins another subscription to a live shape. It was not yet joined when changes were sent under the
    /// shape's name during its read, so it first receives those under its own id.
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

    /// The mailbox overflowed, and everything that was in it has been delivered.
    pub fn overflowed(&mut self) -> Vec<Command<B>> {
        for subscription in self.subscriptions.values_mut() {
            if let Some(joining) = &mut subscription.joining {
                joining.miss();
            }
        }
        // Without live shapes there is nothing to read, but the answers still wait for a position.
        vec![Command::CatchUp(self.live.positions())]
    }

    /// The catch-up has ended: every change up to `position` has been sent.
    pub fn caught_up(&mut self, position: Arc<Position>) -> Vec<Command<B>> {
        let mut commands = Vec::new();
        self.in_batch = None;
        self.live.caught_up(&position);
        self.reach(&position, &mut commands);
        // With the queue, the hub dropped what it had to await for this session.
        commands.extend(self.mutations.await_again());
        commands
    }

    /// The same, where the shapes have been brought to different positions. Until the stream is as far as the furthest of
    /// them, its batches have some of what is new.
    pub fn caught_up_apart(&mut self, reached: &[(Shape, Arc<Position>)]) -> Vec<Command<B>> {
        self.in_batch = None;
        let furthest = self.live.caught_up_apart(reached);
        let mut commands = Vec::new();
        commands.extend(
            furthest.map(|position| Command::Hub(HubCommand::Await(Awaited::Position(position)))),
        );
        commands.extend(self.mutations.await_again());
        commands
    }

    /// The catch-up failed: the log is too short, or the schema of `entity` changed. The subscriptions that
    /// this concerns restart, and the others catch up again.
    pub fn catch_up_failed(
        &mut self,
        reason: RefetchReason,
        entity: Option<&str>,
    ) -> Vec<Command<B>> {
        let mut restarted = Vec::new();
        let mut commands = Vec::new();
        for (id, subscription) in &self.subscriptions {
            let meant = entity.is_none_or(|entity| entity == subscription.shape.entity());
            if meant && subscription.joining.is_none() {
                self.live.remove(&subscription.shape);
                restarted.push(id.clone());
            }
        }
        // The catch-up comes before the reads, which need the hub to queue from their beginning.
        let catch_up = self.overflowed();
        for id in restarted {
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                commands.extend(subscription.restart(&id, reason));
            }
        }
        let (refetches, reads): (Vec<_>, Vec<_>) = commands
            .into_iter()
            .partition(|command| matches!(command, Command::Send(Frame::Refetch { .. })));
        refetches.into_iter().chain(catch_up).chain(reads).collect()
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

/// Where a subscription resumes whose client sends this: a cursor, and behind a dot the name of the shape for which the
/// cursor was received. The error says why it cannot.
fn resume(text: &str, shape: &Shape) -> Result<Cursor, RefetchReason> {
    let (cursor, named) = match text.split_once('.') {
        Some((cursor, named)) => (cursor, Some(named)),
        None => (text, None),
    };
    // A text that is not a cursor is treated as one of another epoch.
    let cursor = cursor.parse().map_err(|_| RefetchReason::Epoch)?;
    match shape.resumes(named) {
        true => Ok(cursor),
        false => Err(RefetchReason::Permission),
    }
}

fn error_frame<B>(id: SubscriptionId, error: SubscribeError) -> Command<B> {
    Command::Send(Frame::Error {
        error,
        id: Some(id),
    })
}
