//! The hub: receives each log batch once, writes each change once, and hands the same bytes to every session
//! that has the shape.
//!
//! Filters are evaluated, and changes written, under the lock of the index alone; what sessions need takes the
//! lock of the state, which nobody holds for long. So a session that attaches while a batch is evaluated waits
//! for nothing: the index takes its shape before the next batch. The session needs no more, because the batch
//! under way was read before its own read begins.
//!
//! Invariants:
//! 1. Batches are queued for a session in order. When its mailbox overflows, nothing more is queued until the
//!    session rejoins. The hub never waits for a session.
//! 2. A session that attaches a shape receives every batch whose position is not covered by a read that
//!    begins after the attach.
//! 3. A session belongs to one epoch: at a reset its mailbox closes, with all that is queued.
//! 4. The lock of the index is never taken by one who holds that of the state.

mod backfill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use db::feed::LogBatch;
use db::read::OldValueColumns;
use filter::Set;
use sync_core::cursor::{Cursor, Epoch, Position};
use sync_core::limit::Limit;
use sync_core::log::NetChange;
use sync_core::membership::{Answer, Denials, Lately, Question};
use sync_core::session::{Awaited, Batch as _, SubscribeError};
use sync_core::shape::{Selection, Shape};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::audience::{Audiences, ShapeCounters, ShapeStats, unkeyed_work};
use super::batch::Batch;
use super::blocking;
use super::cursor_frame::{CursorFrame, CursorFrameCache};
use super::index::ShapeIndex;
use super::sets::{SetContext, ShapeSets, names_sets};
use super::stats::{DearestShapes, HubCounters, HubStats};
use super::user_shapes::UserShapes;
use super::writer::{self, Evaluated};
use crate::auth::Counted;
use crate::mailbox::{self, Backpressure, Capacity, Mailbox, MailboxSender, Sent, SessionId};

/// What all sessions together may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HubLimits {
    /// Comparisons that each change of an entity may cost, whatever the row.
    pub(crate) entity_work_max: usize,
    /// Memory of all filters, in bytes.
    pub(crate) filter_bytes_max: usize,
    /// Values of all sets together, when another is added.
    pub(crate) set_values_max: usize,
    /// The time that the database may take for the values of one set.
    pub(crate) subquery_timeout: Duration,
    /// Memory of all batches that somebody holds, in bytes.
    pub(crate) queue_bytes_max: usize,
    /// Distinct shapes of one user; 0 for no such limit.
    pub(crate) shapes_of_user_max: usize,
}

/// Owns all subscriptions and the position of the last published batch.
#[derive(Debug)]
pub(crate) struct Hub {
    limits: HubLimits,
    state: Mutex<State>,
    index: Mutex<Index>,
    /// Makes the listener read the log at once.
    wake: Arc<Notify>,
    backpressure: Arc<Backpressure>,
    cursor_frames: CursorFrameCache,
    dearest_shapes: DearestShapes,
    /// The memory of all batches that somebody holds, in bytes.
    held: Arc<AtomicUsize>,
    /// The memory of all sessions' filters, in bytes.
    filter_bytes: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<Epoch>,
    position: Option<Arc<Position>>,
    sessions: HashMap<SessionId, Subscriber>,
    audiences: Audiences,
    user_shapes: UserShapes,
    /// What the index has to take in before the next batch.
    pending: Vec<IndexChange>,
    /// Shapes that were over their share in the batches of the drain that is being published.
    over: HashSet<Shape>,
    waiting: HashMap<SessionId, Vec<Awaited>>,
    counters: HubCounters,
}

/// What a batch is evaluated with.
#[derive(Debug)]
struct Index {
    shapes: ShapeIndex,
    sets: ShapeSets,
}

#[derive(Debug)]
struct Subscriber {
    mailbox: MailboxSender<Batch>,
    /// None when its shapes are not counted.
    user: Option<Counted>,
    shapes: HashSet<Shape>,
}

/// What became of a batch that was sent to some sessions.
#[derive(Debug, Default)]
struct SentCount {
    queued: u64,
    overflowed: u64,
}

#[derive(Debug)]
enum IndexChange {
    Attach(Shape, Arc<ShapeCounters>),
    Detach(Shape),
    Clear,
}

/// The memory of one session's filters, counted with that of all.
#[derive(Debug)]
pub(crate) struct FilterBytes {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl FilterBytes {
    pub(crate) fn set(&mut self, bytes: usize) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for FilterBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Hub {
    /// A hub that rings `wake` when the log must be read.
    pub(crate) fn new(limits: HubLimits, wake: Arc<Notify>) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            index: Mutex::new(Index {
                shapes: ShapeIndex::default(),
                sets: ShapeSets::with_values_max(limits.set_values_max),
            }),
            wake,
            backpressure: Arc::default(),
            cursor_frames: CursorFrameCache::default(),
            dearest_shapes: DearestShapes::default(),
            held: Arc::default(),
            filter_bytes: Arc::default(),
        }
    }

    // A panic leaves nothing half done that the next one could not work with.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the index, with all shapes that are attached now.
    fn index(&self) -> MutexGuard<'_, Index> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_pending(&mut index);
        index
    }

    /// Takes pending shapes into the index, unless it is in use: then they are taken before the next batch.
    fn index_soon(&self) {
        if let Ok(mut index) = self.index.try_lock() {
            self.take_pending(&mut index);
        }
    }

    fn take_pending(&self, index: &mut Index) {
        let pending = std::mem::take(&mut self.state().pending);
        for change in pending {
            match change {
                IndexChange::Attach(shape, stats) => {
                    index.shapes.attach(&shape, stats);
                    index.sets.attach(&shape);
                }
                IndexChange::Detach(shape) => {
                    index.shapes.detach(&shape);
                    index.sets.detach(&shape);
                }
                IndexChange::Clear => {
                    index.shapes = ShapeIndex::default();
                    index.sets.reset();
                }
            }
        }
    }

    /// Adds a session of this epoch, and of this user if it has one. Its mailbox is closed when the hub is in another
    /// epoch.
    pub(crate) fn join(
        &self,
        session: SessionId,
        user: Option<&Counted>,
        epoch: &Epoch,
        capacity: Capacity,
    ) -> Mailbox<Batch> {
        let (sender, mailbox) = mailbox::mailbox(session, capacity, &self.backpressure);
        let subscriber = Subscriber {
            mailbox: sender,
            user: user.filter(|user| self.counts_shapes_of(user)).cloned(),
            shapes: HashSet::new(),
        };
        let mut state = self.state();
        if state.epoch.as_ref() == Some(epoch) {
            state.sessions.insert(session, subscriber);
        }
        metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
        mailbox
    }

    /// Closes the mailbox of a session, which leaves then.
    pub(crate) fn close(&self, session: SessionId) {
        if let Some(subscriber) = self.state().sessions.get(&session) {
            subscriber.mailbox.close();
        }
    }

    /// Removes a session and detaches its shapes.
    pub(crate) fn leave(&self, session: SessionId) {
        let left = {
            let mut state = self.state();
            state.waiting.remove(&session);
            let left = state.sessions.remove(&session);
            if let Some(Subscriber {
                user: Some(user),
                shapes,
                ..
            }) = &left
            {
                for shape in shapes {
                    state.user_shapes.detach(user, shape);
                }
            }
            metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
            left
        };
        for shape in left.into_iter().flat_map(|subscriber| subscriber.shapes) {
            self.detach(session, &shape);
        }
    }

    /// Without a user, clients of one address are many.
    fn counts_shapes_of(&self, user: &Counted) -> bool {
        self.limits.shapes_of_user_max > 0 && matches!(user, Counted::User(_))
    }

    /// Returns whether a session of this user may attach the shape as far as the user's other shapes allow it.
    ///
    /// Of sessions that ask at the same moment each may be let in, so there may be some more than the limit says.
    pub(crate) fn admit_to(
        &self,
        user: Option<&Counted>,
        shape: &Shape,
    ) -> Result<(), SubscribeError> {
        let max = self.limits.shapes_of_user_max;
        let user = user.filter(|user| self.counts_shapes_of(user));
        if user.is_none_or(|user| self.state().user_shapes.admits(user, shape, max)) {
            return Ok(());
        }
        let message = "the connections of this user have as many different subscriptions as they may (limits.shapes_of_user_max)";
        Err(SubscribeError::beyond(Limit::ShapesOfUser, message))
    }

    /// Returns whether a session may attach the shape; the error says why not.
    pub(crate) fn admit(&self, shape: &Shape) -> Result<(), SubscribeError> {
        let Some(filter) = shape.selection().map(Selection::filter) else {
            return Ok(());
        };
        let work = unkeyed_work(shape);
        let state = self.state();
        let attached = state.audiences.get(shape).is_some();
        let others = state.audiences.unkeyed_work_of(shape.entity());
        if !attached && work > 0 && others + work > self.limits.entity_work_max {
            let message = "the filters on this entity that no index finds are as many as the server evaluates";
            return Err(SubscribeError::beyond(Limit::EntityFilterWork, message));
        }
        let bytes = self.filter_bytes.load(Ordering::Relaxed) + filter.bytes();
        if bytes > self.limits.filter_bytes_max {
            let message = "the filters of all clients are as large as the server allows";
            return Err(SubscribeError::beyond(Limit::FilterBytesTotal, message));
        }
        Ok(())
    }

    /// Counts the memory of a session's filters.
    pub(crate) fn filter_bytes(&self) -> FilterBytes {
        FilterBytes {
            all: self.filter_bytes.clone(),
            bytes: 0,
        }
    }

    /// Publishes changes of `shape` to the session from here on.
    pub(crate) fn attach(&self, session: SessionId, shape: &Shape) {
        let work = unkeyed_work(shape);
        {
            let mut state = self.state();
            let state = &mut *state;
            let Some(subscriber) = state.sessions.get_mut(&session) else {
                return;
            };
            if subscriber.shapes.insert(shape.clone())
                && let Some(user) = &subscriber.user
            {
                state.user_shapes.attach(user, shape);
            }
            if let Some(stats) = state.audiences.attach(shape, session, work) {
                let change = IndexChange::Attach(shape.clone(), stats);
                state.pending.push(change);
            }
            state.publish_shapes(shape.entity());
        }
        self.index_soon();
        if names_sets(shape) {
            // The next drain reads them.
            self.wake.notify_one();
        }
    }

    /// Stops publishing changes of `shape` to the session.
    pub(crate) fn detach(&self, session: SessionId, shape: &Shape) {
        let work = unkeyed_work(shape);
        {
            let mut state = self.state();
            let state = &mut *state;
            if let Some(subscriber) = state.sessions.get_mut(&session)
                && subscriber.shapes.remove(shape)
                && let Some(user) = &subscriber.user
            {
                state.user_shapes.detach(user, shape);
            }
            if state.audiences.detach(shape, session, work) {
                state.pending.push(IndexChange::Detach(shape.clone()));
            }
            state.publish_shapes(shape.entity());
        }
        self.index_soon();
    }

    /// The columns whose previous values the shapes' filters look at.
    pub(crate) fn old_value_columns(&self) -> Arc<OldValueColumns> {
        let mut index = self.index();
        let of_index = index.shapes.old_value_columns();
        index.sets.old_value_columns(of_index)
    }

    /// The entities of which some shape's readers are sent what is known of rows beside their values.
    pub(crate) fn metadata_entities(&self) -> Arc<BTreeSet<String>> {
        self.index().shapes.metadata_entities()
    }

    /// Whether the next drain may have to be asked about.
    pub(crate) fn inquires(&self) -> bool {
        !self.index().sets.is_unused()
    }

    /// Has the next drain ask those again whose answers change as time passes, and if `failed` those of which something
    /// failed. Returns whether there are any.
    pub(crate) fn ask_groups_again(&self, failed: bool) -> bool {
        self.index().sets.ask_groups_again(failed)
    }

    /// How sets that the database is asked for have changed since a position.
    pub(crate) fn lately(&self, sets: &BTreeSet<Set>, position: &Position) -> HashMap<Set, Lately> {
        let index = self.index();
        let lately = |set: &Set| Some((set.clone(), index.sets.lately(set, position)?));
        sets.iter().filter_map(lately).collect()
    }

    /// The groups of a shape's readers that see nothing, because the database could not be asked for them.
    pub(crate) fn denials(&self, shape: &Shape) -> Denials {
        if !names_sets(shape) {
            return Denials::default();
        }
        self.index().sets.denials(shape)
    }

    /// The entities whose rows make sets.
    pub(crate) fn deciding(&self) -> BTreeSet<String> {
        self.index().sets.deciding()
    }

    /// Takes the entries of a drain up to `position`. Returns the first questions.
    pub(crate) fn begin_inquiry(
        &self,
        position: &Arc<Position>,
        entries: &[NetChange],
    ) -> Vec<Question> {
        let advances = self.state().position.as_ref() != Some(position);
        let questions = self.index().sets.begin(position, entries, advances);
        self.count_questions(&questions);
        questions
    }

    /// Takes the answers. Returns the next questions; none when all is known.
    pub(crate) fn answer(&self, answers: Vec<Answer>) -> Vec<Question> {
        let questions = self.index().sets.answer(answers);
        self.count_questions(&questions);
        questions
    }

    fn count_questions(&self, questions: &[Question]) {
        let count = questions.len() as u64;
        metrics::counter!("rhtmx_sync_questions_total").increment(count);
        self.state().counters.questions += count;
    }

    /// Queues for the session again after an overflow, and drops what it waited for.
    pub(crate) fn rejoin(&self, session: SessionId) {
        let mut state = self.state();
        state.waiting.remove(&session);
        if let Some(subscriber) = state.sessions.get(&session) {
            subscriber.mailbox.reopen();
        }
    }

    /// Queues a batch for the session, empty if need be, once `awaited` is reached. Returns true when it is
    /// not reached yet, so the log should be read.
    pub(crate) fn wait_for(&self, session: SessionId, awaited: Awaited) -> bool {
        let mut state = self.state();
        if let Some(position) = state
            .position
            .clone()
            .filter(|position| awaited.is_reached_by(position))
        {
            state.queue(session, &Batch::empty(position));
            return false;
        }
        state.wait(session, awaited);
        true
    }

    /// Queues the position for the session even if nothing has changed for it.
    pub(crate) fn publish_position(&self, session: SessionId) {
        let mut state = self.state();
        if let Some(position) = state.position.clone() {
            state.queue(session, &Batch::empty(position));
        }
    }

    /// The cursor of the last published batch.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        let state = self.state();
        Some(Cursor {
            epoch: state.epoch.clone()?,
            position: state.position.as_deref()?.clone(),
        })
    }

    /// The `cursor` frame for a position of this epoch.
    pub(crate) fn cursor_frame(&self, epoch: &Epoch, position: &Arc<Position>) -> Arc<CursorFrame> {
        self.cursor_frames.of(epoch, position)
    }

    /// The epoch that positions belong to; none until the listener has connected.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.state().epoch.clone()
    }

    /// The hub's numbers, with at most `shapes_max` of the most expensive shapes, whose own are at most a second old.
    pub(crate) fn stats(&self, shapes_max: usize) -> HubStats {
        let some_shapes = |after: Option<&Shape>, count: usize| {
            let some = self.state().audiences.some_after(after, count);
            some.into_iter()
                .map(|(shape, stats)| (shape, stats.stats()))
                .collect::<Vec<(Shape, ShapeStats)>>()
        };
        let shapes = self
            .dearest_shapes
            .get(Instant::now, shapes_max, some_shapes);
        let state = self.state();
        HubStats {
            sessions: state.sessions.len(),
            shapes_total: state.audiences.len(),
            shapes,
            counters: state.counters,
        }
    }

    /// Starts again at this cursor, after another epoch or a gap: every session ends, and its client
    /// reconnects with its own cursor.
    pub(crate) fn reset(&self, cursor: Cursor) {
        let ended = {
            let mut state = self.state();
            self.cursor_frames.forget();
            state.epoch = Some(cursor.epoch);
            state.position = Some(Arc::new(cursor.position));
            let audiences = std::mem::take(&mut state.audiences);
            audiences
                .entities()
                .for_each(|entity| state.publish_shapes(entity));
            state.user_shapes = UserShapes::default();
            state.waiting.clear();
            state.over.clear();
            state.pending.push(IndexChange::Clear);
            // Their queues close with the senders.
            (std::mem::take(&mut state.sessions), audiences)
        };
        drop(ended);
        self.index_soon();
    }

    /// Publishes a log batch.
    pub(crate) fn publish(&self, log_batch: LogBatch) {
        let (position, complete) = (log_batch.position.clone(), log_batch.complete);
        let changes = log_batch.entries.len() as u64;
        metrics::counter!("rhtmx_sync_changes_total").increment(changes);
        let Evaluated { batch, evaluations } = self.evaluate(log_batch);
        metrics::counter!("rhtmx_sync_filter_evaluations_total").increment(evaluations);
        let mut state = self.state();
        state.counters.changes += changes;
        state.counters.evaluations += evaluations;
        let behind = state.leave_behind(&batch);
        let mut audience = state.audience_of(&batch);
        audience.retain(|session| !behind.contains(session));
        if !complete {
            state.over = batch.unevaluated_shapes().cloned().collect();
        }
        if complete {
            state.position = Some(position.clone());
            state.waiting.retain(|session, waiting| {
                let waited = waiting.len();
                waiting.retain(|awaited| !awaited.is_reached_by(&position));
                if waiting.len() < waited {
                    audience.insert(*session);
                }
                !waiting.is_empty()
            });
        } else {
            // A session that receives one log batch of a drain must receive the last one too, even an empty one.
            for session in &audience {
                state.wait(*session, Awaited::Position(position.clone()));
            }
        }
        self.backpressure.begin_batch();
        let is_crowd = audience.len() >= mailbox::CROWD_MIN;
        let mut bells = Vec::with_capacity(if is_crowd { audience.len() } else { 0 });
        let mut sent = SentCount::default();
        for subscriber in audience.iter().filter_map(|it| state.sessions.get(it)) {
            let mailbox = &subscriber.mailbox;
            if is_crowd {
                // The session learns of it when its bell rings.
                bells.push(mailbox.bell());
                sent.add(mailbox.send_silently(&batch, batch.bytes()));
            } else {
                sent.add(mailbox.send(&batch, batch.bytes()));
            }
        }
        state.count_sent(sent);
        if self.held.load(Ordering::Relaxed) > self.limits.queue_bytes_max {
            state.relieve();
        }
        metrics::gauge!("rhtmx_sync_queue_bytes").set(self.held.load(Ordering::Relaxed) as f64);
        self.backpressure.batch_queued();
        drop(state);
        mailbox::ring_in_turns(bells);
    }

    fn evaluate(&self, mut log_batch: LogBatch) -> Evaluated {
        let mut index = self.index();
        let Index { shapes, sets } = &mut *index;
        let (position, complete) = (log_batch.position.clone(), log_batch.complete);
        let (mut over, follows) = {
            let mut state = self.state();
            (std::mem::take(&mut state.over), state.position.clone())
        };
        let mut moved = HashSet::new();
        if !sets.is_unused() {
            sets.note_changed(&log_batch.entries);
            moved = sets.moved_shapes();
            over.extend(sets.over().cloned());
            if complete {
                log_batch.entries.extend(sets.take_moved());
            }
        }
        let lost = sets.lost_shapes();
        let evaluated = match sets.context(&position) {
            Some(context) => blocking::run_if(blocking::is_large(&log_batch, shapes), || {
                writer::evaluate(log_batch, shapes, &context, over, &self.held, |batch| {
                    batch.lost.extend(lost);
                    batch.follows = follows;
                    batch.moved = moved;
                })
            }),
            // The drain began before the first shape with a set was attached. No set is known, and reads that wait for
            // them cover it.
            None => {
                let lost = sets.forget_known();
                self.wake.notify_one();
                let context = SetContext::unknown();
                writer::evaluate(log_batch, shapes, &context, over, &self.held, |batch| {
                    batch.lost.extend(lost);
                })
            }
        };
        if complete && !sets.is_unused() {
            if sets.commit() {
                self.wake.notify_one();
            }
            let (count, values) = sets.size();
            metrics::gauge!("rhtmx_sync_sets").set(count as f64);
            metrics::gauge!("rhtmx_sync_set_values").set(values as f64);
        }
        evaluated
    }

    /// Waits until the sessions have begun to take the last batch, except lagging ones. Returns when they had.
    pub(crate) async fn wait_taken(&self) -> Instant {
        self.backpressure.wait_taken().await
    }
}

impl State {
    /// Updates the metric of an entity's number of shapes.
    fn publish_shapes(&self, entity: &str) {
        let count = self.audiences.count_of(entity) as f64;
        metrics::gauge!("rhtmx_sync_shapes", "entity" => entity.to_owned()).set(count);
    }

    /// Notes what a session waits for, once.
    fn wait(&mut self, session: SessionId, awaited: Awaited) {
        let waiting = self.waiting.entry(session).or_default();
        if !waiting.contains(&awaited) {
            waiting.push(awaited);
        }
    }

    /// The sessions that a batch concerns.
    fn audience_of(&self, batch: &Batch) -> HashSet<SessionId> {
        let mut audience: HashSet<SessionId> = HashSet::new();
        for (shape, changes) in batch.shapes() {
            if let Some(of_shape) = self.audiences.get(shape) {
                of_shape.stats.received(changes.len(), changes.bytes());
                audience.extend(&of_shape.sessions);
            }
        }
        for entity in batch.schema_changed_entities() {
            let shapes = self.audiences.of_entity(entity);
            audience.extend(shapes.flat_map(|(_, of_shape)| &of_shape.sessions));
        }
        for shape in batch.refetched_shapes().chain(batch.moved_shapes()) {
            let of_shape = self.audiences.get(shape).into_iter();
            audience.extend(of_shape.flat_map(|of_shape| &of_shape.sessions));
        }
        audience
    }

    /// Leaves the sessions to themselves whose filters were not evaluated: they read the log.
    fn leave_behind(&mut self, batch: &Batch) -> HashSet<SessionId> {
        let mut behind: HashSet<SessionId> = HashSet::new();
        for shape in batch.unevaluated_shapes() {
            metrics::counter!("rhtmx_sync_shapes_left_behind_total").increment(1);
            let of_shape = self.audiences.get(shape).into_iter();
            behind.extend(of_shape.flat_map(|of_shape| &of_shape.sessions));
        }
        for session in &behind {
            self.overflow(*session);
        }
        behind
    }

    /// Frees memory: every session that has more than one batch to take reads the log instead.
    fn relieve(&mut self) {
        let lags = |(_, subscriber): &(&SessionId, &Subscriber)| subscriber.mailbox.len() > 1;
        let lagging = self.sessions.iter().filter(lags);
        let lagging: Vec<SessionId> = lagging.map(|(session, _)| *session).collect();
        for session in lagging {
            self.overflow(session);
        }
    }

    fn overflow(&mut self, session: SessionId) {
        if let Some(subscriber) = self.sessions.get(&session) {
            subscriber.mailbox.overflow();
            metrics::counter!("rhtmx_sync_queue_overflows_total").increment(1);
        }
    }

    /// Queues a batch. After an overflow the session reads it from the log instead.
    fn queue(&mut self, session: SessionId, batch: &Batch) {
        let Some(subscriber) = self.sessions.get(&session) else {
            return;
        };
        let mut sent = SentCount::default();
        sent.add(subscriber.mailbox.send(batch, batch.bytes()));
        self.count_sent(sent);
    }

    fn count_sent(&mut self, SentCount { queued, overflowed }: SentCount) {
        if queued > 0 {
            self.counters.deliveries += queued;
            metrics::counter!("rhtmx_sync_deliveries_total").increment(queued);
        }
        if overflowed > 0 {
            metrics::counter!("rhtmx_sync_queue_overflows_total").increment(overflowed);
        }
    }
}

impl SentCount {
    fn add(&mut self, sent: Sent) {
        match sent {
            Sent::Queued => self.queued += 1,
            Sent::Overflowed => self.overflowed += 1,
            Sent::Dropped | Sent::Closed => {}
        }
    }
}
