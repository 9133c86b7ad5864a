//! What one connection does next: events in, actions out.
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

mod live;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use live::LiveShapes;

use crate::cursor::{Cursor, Mark, Position};
use crate::filter::FilterError;
use crate::protocol::{ErrorCode, Push, RefetchReason, Reject, Subscribe, SubscriptionId};
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
    fn reshapes(&self, shape: &Shape) -> bool;
}

/// What the engine has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<B> {
    /// Have the hub deliver what touches this shape.
    Attach(Shape),
    /// And no longer.
    Detach(Shape),
    /// Read for a joining subscription: the whole shape, or the changes since `from`. Report
    /// [`Session::read`] at the end. A read of changes that fails half-way and is done again must
    /// tell of rows that came and went, too.
    Read {
        /// The subscription.
        id: SubscriptionId,
        /// Its shape.
        shape: Shape,
        /// Where to begin; none for a snapshot.
        from: Option<ReadFrom>,
    },
    /// Find the shape that a subscription asks for ([`Session::request`]) in its table as that is
    /// now. Report [`Session::resolved`] before anything else.
    Resolve(SubscriptionId),
    /// Stop reading for it.
    StopReading(SubscriptionId),
    /// Send this shape's changes in `batch`, without those that `since` has already. Of rows that
    /// came and went within the batch nobody needs to hear, unless there is a `since`.
    Deliver {
        /// The delivery.
        batch: B,
        /// The shape.
        shape: Shape,
        /// Send it to this joining subscription alone, not under the shape's name.
        id: Option<SubscriptionId>,
        /// Leave out what this contains.
        since: Option<Arc<Position>>,
    },
    /// Have the hub send a delivery, empty if need be, as soon as it has reached this.
    Await(Awaited),
    /// Have the hub queue again, then read what it could not: all changes of these shapes since
    /// their positions, also of rows that came and went. Report [`Session::pulled`] at the end, or
    /// [`Session::pull_refused`]; until then nothing else but [`Session::applied`].
    Pull(Vec<(Shape, Arc<Position>)>),
    /// Apply a mutation. Report [`Session::applied`] at the end.
    Apply(Box<PushAction>),
    /// Send `subscribed`.
    Subscribed {
        /// The subscription.
        id: SubscriptionId,
        /// Its shape.
        shape: Shape,
        /// Its resume point.
        position: Arc<Position>,
    },
    /// Send `refetch`.
    Refetch {
        /// The subscription.
        id: SubscriptionId,
        /// Why.
        reason: RefetchReason,
    },
    /// Send `cursor`.
    Cursor(Arc<Position>),
    /// Send `ack`.
    Ack {
        /// The mutation.
        mutation: u64,
    },
    /// Send `reject`.
    Reject {
        /// The mutation.
        mutation: u64,
        /// Why.
        reject: Reject,
    },
    /// Send an `error` that does not end the session.
    Error {
        /// The kind.
        code: ErrorCode,
        /// In words.
        message: String,
        /// The subscription that it is about.
        id: Option<SubscriptionId>,
    },
}

/// A push, comparable so that actions are.
#[derive(Debug, Clone)]
pub struct PushAction(pub Push);

impl PartialEq for PushAction {
    fn eq(&self, other: &Self) -> bool {
        self.0.mutation == other.0.mutation
    }
}

impl Eq for PushAction {}

/// Where a read of changes begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFrom {
    /// A cursor that a client brought, to be checked.
    Cursor(Cursor),
    /// A position that this session reached itself.
    Position(Arc<Position>),
}

/// What the hub must have reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// A position that contains this.
    Mark(Mark),
    /// A position that covers this.
    Position(Arc<Position>),
}

impl Awaited {
    /// Whether `position` is enough.
    pub fn is_reached_by(&self, position: &Position) -> bool {
        match self {
            Self::Mark(mark) => position.contains(*mark),
            Self::Position(wanted) => position.covers(wanted),
        }
    }
}

/// How a read for a joining subscription ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadEnd {
    /// Everything up to this position has been sent.
    Complete(Arc<Position>),
    /// The cursor cannot be resumed from; nothing has been sent.
    Refused(RefetchReason),
}

/// How a mutation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Committed, by what this mark stands for; none when it is older than the log remembers.
    Committed(Option<Mark>),
    /// Not applied.
    Rejected(Reject),
}

/// Why a subscription cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
}

impl From<FilterError> for Refusal {
    fn from(error: FilterError) -> Self {
        Self {
            code: error.code,
            message: error.message,
        }
    }
}

#[derive(Debug)]
struct Subscription<B> {
    shape: Shape,
    /// What it asks for, where that depends on what its table looks like.
    request: Option<Box<Subscribe>>,
    joining: Option<Joining<B>>,
}

/// What is kept while a subscription's read goes on.
#[derive(Debug)]
struct Joining<B> {
    backlog: Vec<B>,
    /// Batches were let go: the read must go on from where it ends.
    missed: bool,
    /// The table changed its shape under the read.
    reshaped: bool,
}

impl<B> Subscription<B> {
    /// What it has been sent does not hold: it is read anew, in its table as that is now.
    fn begin_anew(&mut self, id: &SubscriptionId, reason: RefetchReason) -> Vec<Action<B>> {
        self.joining = Some(Joining::new());
        let id = id.clone();
        let refetch = Action::Refetch {
            id: id.clone(),
            reason,
        };
        let next = match &self.request {
            Some(_) => Action::Resolve(id),
            None => Action::Read {
                id,
                shape: self.shape.clone(),
                from: None,
            },
        };
        vec![refetch, next]
    }

    /// Its read goes on from where it has come to.
    fn go_on(&mut self, id: &SubscriptionId, position: Arc<Position>) -> Action<B> {
        self.joining = Some(Joining::new());
        Action::Read {
            id: id.clone(),
            shape: self.shape.clone(),
            from: Some(ReadFrom::Position(position)),
        }
    }
}

impl<B> Joining<B> {
    fn new() -> Self {
        Self {
            backlog: Vec::new(),
            missed: false,
            reshaped: false,
        }
    }
}

#[derive(Debug)]
enum Answer {
    Ack { mutation: u64, mark: Option<Mark> },
    Reject { mutation: u64, reject: Reject },
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
    answers: VecDeque<Answer>,
    pushes: VecDeque<Push>,
    applying: bool,
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
            answers: VecDeque::new(),
            pushes: VecDeque::new(),
            applying: false,
        }
    }

    /// How many mutations wait for their turn; the engine stops reading a client that has many.
    pub fn pushes_waiting(&self) -> usize {
        self.pushes.len()
    }

    /// Whether a mutation is being applied.
    pub fn is_applying(&self) -> bool {
        self.applying
    }

    /// The client asks for an entity or for a part of it. `resolve` finds the shape that it means.
    pub fn subscribe(
        &mut self,
        subscribe: Subscribe,
        resolve: impl FnOnce(&Subscribe) -> Result<Shape, Refusal>,
    ) -> Vec<Action<B>> {
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
        let mut actions = Vec::new();
        if !self.is_attached(&shape) {
            actions.push(Action::Attach(shape.clone()));
        }
        if refused {
            actions.push(Action::Refetch {
                id: id.clone(),
                reason: RefetchReason::Epoch,
            });
        }
        actions.push(Action::Read {
            id: id.clone(),
            shape: shape.clone(),
            from,
        });
        let joining = Some(Joining::new());
        let request = (!subscribe.wanted().is_everything()).then(|| Box::new(subscribe));
        self.subscriptions.insert(
            id,
            Subscription {
                shape,
                request,
                joining,
            },
        );
        actions
    }

    fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), Refusal> {
        let refuse = |code, message: &str| {
            let message = message.to_owned();
            Err(Refusal { code, message })
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

    /// What a subscription asks for, where that depends on what its table looks like.
    pub fn request(&self, id: &SubscriptionId) -> Option<&Subscribe> {
        self.subscriptions.get(id)?.request.as_deref()
    }

    /// The shape that a subscription asks for has been found, or can no longer be.
    pub fn resolved(
        &mut self,
        id: &SubscriptionId,
        resolved: Result<Shape, Refusal>,
    ) -> Vec<Action<B>> {
        let mut actions = Vec::new();
        let shape = match resolved {
            Ok(shape) => shape,
            Err(refusal) => {
                if let Some(subscription) = self.subscriptions.remove(id) {
                    self.let_go(subscription.shape, &mut actions);
                    actions.push(refused(id.clone(), refusal));
                }
                return actions;
            }
        };
        let is_attached = self.is_attached(&shape);
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return actions;
        };
        let before = std::mem::replace(&mut subscription.shape, shape.clone());
        if !is_attached {
            actions.push(Action::Attach(shape.clone()));
        }
        self.let_go(before, &mut actions);
        actions.push(Action::Read {
            id: id.clone(),
            shape,
            from: None,
        });
        actions
    }

    /// The client no longer wants a subscription.
    pub fn unsubscribe(&mut self, id: &SubscriptionId) -> Vec<Action<B>> {
        let Some(subscription) = self.subscriptions.remove(id) else {
            let message = "no subscription of this id".to_owned();
            let code = ErrorCode::Protocol;
            return vec![refused(id.clone(), Refusal { code, message })];
        };
        let mut actions = Vec::new();
        if subscription.joining.is_some() {
            actions.push(Action::StopReading(id.clone()));
        }
        self.let_go(subscription.shape, &mut actions);
        actions
    }

    /// A subscription no longer has this shape.
    fn let_go(&mut self, shape: Shape, actions: &mut Vec<Action<B>>) {
        if !self.is_live(&shape) {
            self.live.remove(&shape);
        }
        if !self.is_attached(&shape) {
            actions.push(Action::Detach(shape));
        }
    }

    /// The client pushes a mutation: it is applied when those before it have been.
    pub fn push(&mut self, push: Push) -> Vec<Action<B>> {
        self.pushes.push_back(push);
        self.apply_next()
    }

    fn apply_next(&mut self) -> Vec<Action<B>> {
        if self.applying {
            return Vec::new();
        }
        let Some(push) = self.pushes.pop_front() else {
            return Vec::new();
        };
        self.applying = true;
        vec![Action::Apply(Box::new(PushAction(push)))]
    }

    /// The mutation that was being applied has ended.
    pub fn applied(&mut self, mutation: u64, applied: Applied) -> Vec<Action<B>> {
        self.applying = false;
        let mut actions = Vec::new();
        match applied {
            Applied::Committed(mark) => {
                // Without a mark it is older than the log, so every position contains it: an empty
                // delivery of the hub brings it out.
                actions.extend(mark.map(Awaited::Mark).map(Action::Await));
                self.answers.push_back(Answer::Ack { mutation, mark });
                if mark.is_none() {
                    self.answer_without_cursor(&mut actions);
                }
            }
            Applied::Rejected(reject) => {
                self.answers.push_back(Answer::Reject { mutation, reject });
                self.answer_without_cursor(&mut actions);
            }
        }
        actions.extend(self.apply_next());
        actions
    }

    /// Sends the answers at the front that wait for no position.
    fn answer_without_cursor(&mut self, actions: &mut Vec<Action<B>>) {
        while let Some(Answer::Reject { .. } | Answer::Ack { mark: None, .. }) =
            self.answers.front()
        {
            self.answer_first(actions);
        }
    }

    fn answer_first(&mut self, actions: &mut Vec<Action<B>>) {
        actions.extend(self.answers.pop_front().map(|answer| match answer {
            Answer::Ack { mutation, .. } => Action::Ack { mutation },
            Answer::Reject { mutation, reject } => Action::Reject { mutation, reject },
        }));
    }

    /// The hub delivers.
    pub fn batch(&mut self, batch: B) -> Vec<Action<B>> {
        let mut actions = Vec::new();
        self.restart_reshaped(&batch, &mut actions);
        self.keep_for_joining(&batch);
        self.deliver(&batch, &mut actions);
        actions
    }

    /// Live subscriptions of an entity that changed its shape begin anew; joining ones will, when
    /// their read ends.
    fn restart_reshaped(&mut self, batch: &B, actions: &mut Vec<Action<B>>) {
        for (id, subscription) in &mut self.subscriptions {
            if !batch.reshapes(&subscription.shape) {
                continue;
            }
            if let Some(joining) = &mut subscription.joining {
                joining.reshaped = true;
                continue;
            }
            if self.live.covers(&subscription.shape, batch.position()) {
                continue;
            }
            actions.extend(subscription.begin_anew(id, RefetchReason::Schema));
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
    fn deliver(&mut self, batch: &B, actions: &mut Vec<Action<B>>) {
        if let Some(begun) = self
            .in_batch
            .clone()
            .filter(|begun| begun != batch.position())
        {
            // A batch broke off after some of its parts and is read again, to a later position. What
            // came in those parts may have gone since, and would not be told of any more.
            self.live.know_part_of(&begun);
        }
        for (shape, since) in self.live.take(batch) {
            actions.push(Action::Deliver {
                batch: batch.clone(),
                shape,
                id: None,
                since,
            });
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
            self.reach(position, actions);
        }
        // Else it is an empty one, from before the batch that has come in part.
    }

    /// Everything up to `position` has been sent for every live shape that it is news to.
    fn reach(&mut self, position: &Arc<Position>, actions: &mut Vec<Action<B>>) {
        match self.live.reach(position) {
            live::Reached::Behind(wanted) => {
                // A subscription joined further on. The cursor waits until the hub is there too.
                if self.live.owes() || self.owes_answer(position) {
                    actions.push(Action::Await(Awaited::Position(wanted)));
                }
            }
            live::Reached::Here { news } => {
                let answers_before = actions.len();
                while self.owes_answer(position) {
                    self.answer_first(actions);
                }
                self.answer_without_cursor(actions);
                if news || actions.len() > answers_before {
                    self.live.told(position);
                    actions.push(Action::Cursor(position.clone()));
                }
            }
        }
    }

    fn owes_answer(&self, position: &Position) -> bool {
        match self.answers.front() {
            Some(Answer::Ack {
                mark: Some(mark), ..
            }) => position.contains(*mark),
            Some(Answer::Ack { mark: None, .. } | Answer::Reject { .. }) => true,
            None => false,
        }
    }

    /// A joining subscription's read has ended.
    pub fn read(&mut self, id: &SubscriptionId, end: ReadEnd) -> Vec<Action<B>> {
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return Vec::new();
        };
        let Some(joining) = subscription.joining.take() else {
            return Vec::new();
        };
        let shape = subscription.shape.clone();
        let position = match end {
            ReadEnd::Refused(reason) => return subscription.begin_anew(id, reason),
            ReadEnd::Complete(_) if joining.reshaped => {
                return subscription.begin_anew(id, RefetchReason::Schema);
            }
            ReadEnd::Complete(position) if joining.missed => {
                return vec![subscription.go_on(id, position)];
            }
            ReadEnd::Complete(position) => position,
        };
        if self.live.has(&shape) {
            return self.join_live(id, shape, position, joining.backlog);
        }
        let mut actions = vec![Action::Subscribed {
            id: id.clone(),
            shape: shape.clone(),
            position: position.clone(),
        }];
        self.live.join(shape.clone(), position);
        for batch in joining.backlog {
            if let Some(since) = self.live.take_shape(&shape, &batch) {
                actions.push(Action::Deliver {
                    batch,
                    shape: shape.clone(),
                    id: None,
                    since,
                });
            }
        }
        let between = self.in_batch.is_none() && self.live.owes();
        if let Some(stream) = self.stream.clone().filter(|_| between) {
            self.reach(&stream, &mut actions);
        }
        actions
    }

    /// A second subscription joins a shape that is live: what has been sent under the shape's name
    /// meanwhile was not meant for it, so it gets that under its own id first.
    fn join_live(
        &mut self,
        id: &SubscriptionId,
        shape: Shape,
        mut position: Arc<Position>,
        backlog: Vec<B>,
    ) -> Vec<Action<B>> {
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
                .map(|found| found.go_on(id, read_to))
                .into_iter()
                .collect();
        }
        let mut actions = Vec::new();
        for batch in missed {
            let (shape, id, since) = (shape.clone(), Some(id.clone()), Some(read_to.clone()));
            actions.push(Action::Deliver {
                batch,
                shape,
                id,
                since,
            });
        }
        actions.push(Action::Subscribed {
            id: id.clone(),
            shape,
            position,
        });
        actions
    }

    /// The hub could not queue everything for this session: what it did queue has been delivered.
    pub fn overflowed(&mut self) -> Vec<Action<B>> {
        for subscription in self.subscriptions.values_mut() {
            if let Some(joining) = &mut subscription.joining {
                joining.missed = true;
                joining.backlog = Vec::new();
            }
        }
        // Nothing live leaves nothing to read; the answers that are owed need a position all the same.
        vec![Action::Pull(self.live.positions())]
    }

    /// What the hub could not queue has been read and sent, up to `position`.
    pub fn pulled(&mut self, position: Arc<Position>) -> Vec<Action<B>> {
        let mut actions = Vec::new();
        self.in_batch = None;
        self.live.pulled(&position);
        self.reach(&position, &mut actions);
        // The hub forgot what this session had asked it to wait for, with its queue.
        for answer in &self.answers {
            if let Answer::Ack {
                mark: Some(mark), ..
            } = answer
            {
                actions.push(Action::Await(Awaited::Mark(*mark)));
            }
        }
        actions
    }

    /// A pull found the log shorter than it needs, or tables in another shape: these subscriptions
    /// begin anew, and the rest is pulled again.
    pub fn pull_refused(&mut self, reason: RefetchReason, entity: Option<&str>) -> Vec<Action<B>> {
        let mut anew = Vec::new();
        let mut actions = Vec::new();
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
                actions.extend(subscription.begin_anew(&id, reason));
            }
        }
        let (refetches, reads): (Vec<_>, Vec<_>) = actions
            .into_iter()
            .partition(|action| matches!(action, Action::Refetch { .. }));
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

fn refused<B>(id: SubscriptionId, refusal: Refusal) -> Action<B> {
    Action::Error {
        code: refusal.code,
        message: refusal.message,
        id: Some(id),
    }
}
