//! A strict client, as docs/protocol.md demands, which compares its copy with the database.
//!
//! Changes of a shape belong to the subscriptions that are live when the frame arrives, and are held
//! back until the next `cursor`; those of one subscription until its `subscribed`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use protocol::{Change, ErrorCode, SubscriptionId};
use rhtmx_sync_core::cursor::{CommitId, Cursor, Epoch, Position};
use rhtmx_sync_core::shape::Shape;

use crate::database::{Database, Table};
use crate::frames::{Frame, Message, Target, push, subscribe};
use crate::random::Random;
use crate::shapes::Selection;
use crate::world::{Checked, EPOCH, Failure, Fault, Rule, Shared};

#[derive(Debug)]
struct Subscription {
    entity: String,
    selection: Selection,
    /// Written in the other of two ways.
    other_spelling: bool,
    rows: Table,
    /// The position of `rows`.
    resume: Option<Arc<Position>>,
    /// It subscribed with a cursor and has received no `refetch`.
    resumes: bool,
    /// Its changes before `subscribed`.
    held: Vec<Change>,
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    shape: Shape,
    joined: Arc<Position>,
    /// The shape was live already, so its frames are not made for this subscription alone.
    shares: bool,
    received: HashSet<(Option<String>, CommitId)>,
}

#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// Subscriptions that ended on this connection: frames for them are late.
    ended: BTreeSet<SubscriptionId>,
    /// Their shapes, which the server may have live for a while.
    former_shapes: BTreeSet<Shape>,
    ids: i64,
    mutations: u64,
    unanswered: VecDeque<u64>,
    /// How many of its messages are wrong on purpose and not answered yet.
    wrong: usize,
    /// Live changes, each frame with the subscriptions that it is for.
    held: Vec<(Vec<SubscriptionId>, Vec<Change>)>,
    /// The position of the last `cursor` frame.
    cursor: Option<Arc<Position>>,
    /// Acks whose mutations the next `cursor` must contain.
    acked: Vec<CommitId>,
}

impl Client {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            subscriptions: BTreeMap::new(),
            ended: BTreeSet::new(),
            former_shapes: BTreeSet::new(),
            ids: 0,
            mutations: 0,
            unanswered: VecDeque::new(),
            wrong: 0,
            held: Vec::new(),
            cursor: None,
            acked: Vec::new(),
        }
    }

    /// The first messages of a new connection: a `subscribe` with each cursor, a `push` of each unanswered
    /// mutation.
    pub(crate) fn connect(&mut self, shared: &mut Shared) -> Result<VecDeque<Message>, Failure> {
        self.ended.clear();
        self.former_shapes.clear();
        self.held.clear();
        self.wrong = 0;
        self.cursor = None;
        self.acked.clear();
        let mut messages = VecDeque::new();
        for (id, subscription) in &mut self.subscriptions {
            subscription.held.clear();
            subscription.live = None;
            let selection = (subscription.selection, subscription.other_spelling);
            let Some(position) = &subscription.resume else {
                subscription.rows.clear();
                subscription.resumes = false;
                messages.push_back(subscribe(id, &subscription.entity, selection, None));
                continue;
            };
            let entity = &subscription.entity;
            let rows = shared
                .database
                .table(entity, subscription.selection, position);
            if subscription.rows != rows {
                let text = format!("{id} resumes from {position} with {:?}", subscription.rows);
                return Err(Failure::new(Rule::Resume, text));
            }
            let epoch = Epoch::new(if shared.random.percent(5) {
                "elsewhere"
            } else {
                EPOCH
            });
            let cursor = Cursor {
                epoch,
                position: Position::clone(position),
            }
            .to_string();
            let text = if shared.random.percent(5) {
                "garbage".to_owned()
            } else {
                cursor
            };
            subscription.resumes = true;
            messages.push_back(subscribe(id, &subscription.entity, selection, Some(text)));
        }
        messages.extend(self.unanswered.iter().map(|&mutation| push(mutation)));
        Ok(messages)
    }

    /// A message that a client may send at any time.
    pub(crate) fn act(&mut self, shared: &mut Shared) -> Message {
        let random = &mut shared.random;
        if random.percent(shared.pushes_percent) {
            self.mutations += 1;
            self.unanswered.push_back(self.mutations);
            return push(self.mutations);
        }
        match random.below(100) {
            0..40 if !self.subscriptions.is_empty() => {
                let ids: Vec<_> = self.subscriptions.keys().cloned().collect();
                let id = ids[random.below(ids.len())].clone();
                self.forget(&id);
                self.ended.insert(id.clone());
                Message::Unsubscribe(id)
            }
            40..48 => self.wrong_message(random),
            _ => {
                self.ids += 1;
                let id = SubscriptionId::Number(self.ids);
                let entities = shared.database.entities();
                let entity = if random.percent(5) {
                    "ghost"
                } else {
                    random.pick(entities)
                };
                let (selection, other_spelling) =
                    (random.pick(shared.selections), random.percent(50));
                let message = subscribe(&id, entity, (selection, other_spelling), None);
                let subscription = Subscription {
                    entity: entity.to_owned(),
                    selection,
                    other_spelling,
                    rows: Table::new(),
                    resume: None,
                    resumes: false,
                    held: Vec::new(),
                    live: None,
                };
                self.subscriptions.insert(id, subscription);
                message
            }
        }
    }

    /// Subscribes with an id that is in use, or unsubscribes one that is not.
    fn wrong_message(&mut self, random: &mut Random) -> Message {
        self.wrong += 1;
        // A subscription that the server cannot have ended.
        let stays = |taken: &Subscription| taken.live.is_some() && taken.selection.is_possible(3);
        let mut live = self.subscriptions.iter().filter(|(_, taken)| stays(taken));
        match live.next() {
            Some((id, _)) if random.percent(50) => {
                subscribe(id, "a", (Selection::Everything, false), None)
            }
            _ => Message::Unsubscribe("nobody".into()),
        }
    }

    fn forget(&mut self, id: &SubscriptionId) {
        let removed = self.subscriptions.remove(id);
        let live = removed.and_then(|removed| removed.live);
        self.former_shapes.extend(live.map(|live| live.shape));
        self.drop_held(id);
    }

    fn drop_held(&mut self, id: &SubscriptionId) {
        for (ids, _) in &mut self.held {
            ids.retain(|held| held != id);
        }
    }

    pub(crate) fn take(&mut self, frame: Frame, shared: &mut Shared) -> Checked {
        shared.note(|| format!("client {} takes {frame:?}", self.number));
        let settles = matches!(frame, Frame::Cursor(_) | Frame::Ack(_) | Frame::Reject(_));
        if !self.acked.is_empty() && !settles {
            return broken(Rule::Ack, "a frame between an ack and its cursor");
        }
        match frame {
            Frame::Snapshot { id, rows } => {
                let Some(subscription) = self.joining(&id)? else {
                    return Ok(());
                };
                if subscription.resumes {
                    return broken(Rule::Protocol, "a snapshot for a subscription that resumes");
                }
                subscription.rows.extend(rows);
            }
            Frame::Changes { target, changes } => self.take_changes(target, changes, shared)?,
            Frame::Subscribed {
                id,
                shape,
                position,
            } => {
                self.take_subscribed(&id, shape, &position, shared)?;
            }
            Frame::Refetch { id } => {
                shared.count("refetched");
                if shared.fault != Some(Fault::KeepsHeldChangesOverRefetch) {
                    self.drop_held(&id);
                }
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    subscription.rows.clear();
                    subscription.resume = None;
                    subscription.resumes = false;
                    subscription.held.clear();
                    subscription.live = None;
                }
            }
            Frame::Cursor(position) => self.take_cursor(&position, shared)?,
            Frame::Ack(mutation) => self.take_ack(mutation, shared)?,
            Frame::Reject(mutation) => {
                shared.count("rejected");
                self.answered(mutation)?;
                let answer = shared.database.answer(self.number, mutation);
                if !matches!(answer, Some(Err(_))) {
                    return broken(Rule::Ack, "a reject of a committed mutation");
                }
            }
            // The server ended the subscription while the client's `unsubscribe` was on its way.
            Frame::Error { id: Some(id), .. } if self.ended.contains(&id) => {}
            Frame::Error {
                code: ErrorCode::Protocol,
                ..
            } if self.wrong > 0 => self.wrong -= 1,
            Frame::Error { code, id } => {
                shared.count("errors");
                let about = id.as_ref().and_then(|id| self.subscriptions.get(id));
                let expected = match code {
                    ErrorCode::TooManySubscriptions => true,
                    ErrorCode::UnknownEntity => about.is_some_and(|it| it.entity == "ghost"),
                    ErrorCode::BadFilter => about.is_some_and(|it| !it.selection.is_possible(3)),
                    _ => false,
                };
                if !expected {
                    return broken(Rule::Protocol, "an error without a cause");
                }
                id.inspect(|id| self.forget(id));
            }
        }
        Ok(())
    }

    /// The joining subscription of a frame; none when the frame is late.
    fn joining(&mut self, id: &SubscriptionId) -> Result<Option<&mut Subscription>, Failure> {
        match self.subscriptions.get_mut(id) {
            Some(subscription) if subscription.live.is_none() => Ok(Some(subscription)),
            None if self.ended.contains(id) => Ok(None),
            _ => Err(Failure::new(Rule::Protocol, format!("{id} is not joining"))),
        }
    }

    fn take_changes(
        &mut self,
        target: Target,
        changes: Vec<(CommitId, Change)>,
        shared: &Shared,
    ) -> Checked {
        let (shape, caught_up) = match target {
            Target::Subscription(id) => {
                let Some(subscription) = self.joining(&id)? else {
                    return Ok(());
                };
                subscription
                    .held
                    .extend(changes.into_iter().map(|(_, change)| change));
                return Ok(());
            }
            Target::Shape(shape) => (shape, false),
            Target::CaughtUp(shape) => (shape, true),
        };
        let mut ids = Vec::new();
        for (id, subscription) in &mut self.subscriptions {
            let Some(live) = subscription
                .live
                .as_mut()
                .filter(|live| live.shape == shape)
            else {
                continue;
            };
            ids.push(id.clone());
            for (commit_id, change) in &changes {
                let new = live
                    .received
                    .insert((change.key().map(str::to_owned), *commit_id));
                let repeated = !new || (live.joined.contains(*commit_id) && !live.shares);
                if repeated && !caught_up {
                    let text = format!("{id} receives {change:?} of {commit_id:?} again");
                    return Err(Failure::new(Rule::Repeat, text));
                }
            }
        }
        let changes: Vec<Change> = changes.into_iter().map(|(_, change)| change).collect();
        if shared.fault == Some(Fault::HoldsNothingBack) {
            self.apply(&ids, &changes);
        } else {
            self.held.push((ids, changes));
        }
        Ok(())
    }

    fn take_subscribed(
        &mut self,
        id: &SubscriptionId,
        shape: Shape,
        position: &Arc<Position>,
        shared: &mut Shared,
    ) -> Checked {
        shared.count("subscribed");
        let mut others = self
            .subscriptions
            .values()
            .filter_map(|other| other.live.as_ref());
        let is_former = self.former_shapes.contains(&shape);
        let shares = is_former || others.any(|other| other.shape == shape);
        if shares {
            shared.count("shared");
        }
        if self.joining(id)?.is_none() {
            // The server has it live until the `unsubscribe` arrives.
            self.former_shapes.insert(shape);
            return Ok(());
        }
        let Some(subscription) = self.joining(id)? else {
            return Ok(());
        };
        for change in std::mem::take(&mut subscription.held) {
            apply(&change, &mut subscription.rows);
        }
        subscription.resume = Some(position.clone());
        let received = HashSet::new();
        subscription.live = Some(Live {
            shape,
            joined: position.clone(),
            shares,
            received,
        });
        subscription.check(id, position, Rule::Subscribed, &shared.database)
    }

    fn take_cursor(&mut self, position: &Arc<Position>, shared: &mut Shared) -> Checked {
        shared.count("cursors");
        if self
            .cursor
            .as_ref()
            .is_some_and(|cursor| !position.covers(cursor))
        {
            return broken(Rule::Cursor, "the cursor goes backwards");
        }
        self.cursor = Some(position.clone());
        for (ids, changes) in std::mem::take(&mut self.held) {
            self.apply(&ids, &changes);
        }
        for (id, subscription) in &mut self.subscriptions {
            if subscription.live.is_none() {
                continue;
            }
            if !subscription
                .resume
                .as_ref()
                .is_some_and(|resume| position.covers(resume))
            {
                return broken(Rule::Cursor, "the cursor is behind a subscription");
            }
            subscription.check(id, position, Rule::Cursor, &shared.database)?;
            subscription.resume = Some(position.clone());
        }
        if !std::mem::take(&mut self.acked)
            .into_iter()
            .all(|commit_id| position.contains(commit_id))
        {
            return broken(
                Rule::Ack,
                "the cursor after an ack does not contain its mutation",
            );
        }
        Ok(())
    }

    fn apply(&mut self, ids: &[SubscriptionId], changes: &[Change]) {
        for id in ids {
            let Some(subscription) = self.subscriptions.get_mut(id) else {
                continue;
            };
            changes
                .iter()
                .for_each(|change| apply(change, &mut subscription.rows));
        }
    }

    fn take_ack(&mut self, mutation: u64, shared: &mut Shared) -> Checked {
        shared.count("acked");
        self.answered(mutation)?;
        let Some(Ok(commit_id)) = shared.database.answer(self.number, mutation) else {
            return broken(Rule::Ack, "an ack of a mutation that was not committed");
        };
        let mut live = self
            .subscriptions
            .values()
            .filter(|taken| taken.live.is_some());
        let seen = live.all(|live| {
            live.resume
                .as_ref()
                .is_some_and(|at| at.contains(commit_id))
        });
        let pruned = shared.database.floor().contains(commit_id);
        // Every subscription of this connection has seen a mutation that is pruned from the log.
        if !(pruned && seen) {
            self.acked.push(commit_id);
        }
        Ok(())
    }

    fn answered(&mut self, mutation: u64) -> Checked {
        if self.unanswered.pop_front() == Some(mutation) {
            return Ok(());
        }
        broken(Rule::Ack, "an answer out of order")
    }

    /// Checks what must hold when everything has come to rest.
    pub(crate) fn check_at_rest(&self, position: &Position, database: &Database) -> Checked {
        if !self.unanswered.is_empty() || !self.acked.is_empty() {
            return broken(Rule::Stall, "an answer is missing");
        }
        if !self.held.is_empty() {
            return broken(Rule::Stall, "changes still wait for a cursor");
        }
        for (id, subscription) in &self.subscriptions {
            if subscription.live.is_none() {
                return Err(Failure::new(Rule::Stall, format!("{id} is still joining")));
            }
            subscription.check(id, position, Rule::Stall, database)?;
        }
        Ok(())
    }

    /// The shapes of its live subscriptions.
    pub(crate) fn shapes(&self) -> BTreeSet<Shape> {
        let live = self
            .subscriptions
            .values()
            .filter_map(|it| it.live.as_ref());
        live.map(|live| live.shape.clone()).collect()
    }

    /// Whether every subscription resumes from `position` or later.
    pub(crate) fn has_reached(&self, position: &Position) -> bool {
        let covers = |subscription: &Subscription| {
            subscription
                .resume
                .as_ref()
                .is_some_and(|resume| resume.covers(position))
        };
        self.subscriptions.values().all(covers)
    }
}

impl Subscription {
    fn check(
        &self,
        id: &SubscriptionId,
        position: &Position,
        rule: Rule,
        database: &Database,
    ) -> Checked {
        let rows = database.table(&self.entity, self.selection, position);
        let generation = database.generation(&self.entity, position);
        if rows == self.rows && self.selection.is_possible(generation) {
            return Ok(());
        }
        let text = format!("{id} has {:?}, at {position} there was {rows:?}", self.rows);
        Err(Failure::new(rule, text))
    }
}

fn apply(change: &Change, rows: &mut Table) {
    match change {
        Change::Put { key, row, .. } => {
            rows.insert(key.clone(), row.get().to_owned());
        }
        Change::Delete { key, .. } | Change::Leave { key, .. } => {
            rows.remove(key);
        }
        Change::Patch { .. } => panic!("{change:?}"),
        Change::Truncate => rows.clear(),
    }
}

fn broken(rule: Rule, text: &str) -> Checked {
    Err(Failure::new(rule, text.to_owned()))
}
