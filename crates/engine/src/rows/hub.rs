//! The hub: receives each log batch once, writes each change once per shape, and hands the same bytes to every
//! session that has the shape.
//!
//! Invariants:
//! 1. Batches are queued for a session in order. When its mailbox overflows, nothing more is queued until the
//!    session rejoins. The hub never waits for a session.
//! 2. A session that attaches a shape receives every batch whose position is not covered by a read that
//!    begins after the attach.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use db::feed::LogBatch;
use db::read::OldValueColumns;
use sync_core::cursor::{Cursor, Epoch, Position};
use sync_core::session::Awaited;
use sync_core::shape::Shape;
use tokio::time::Instant;

use super::batch::{Batch, Writer};
use super::cursor_frame::{CursorFrame, CursorFrameCache};
use super::index::{ShapeIndex, ShapeStats};
use crate::mailbox::{Backpressure, Mailbox, MailboxSender, Sent, SessionId, mailbox};

/// Owns all subscriptions and the position of the last published batch.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    backpressure: Arc<Backpressure>,
    cursor_frames: CursorFrameCache,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<Epoch>,
    position: Option<Arc<Position>>,
    sessions: HashMap<SessionId, Subscriber>,
    shapes: ShapeIndex,
    waiting: HashMap<SessionId, Vec<Awaited>>,
    counters: HubCounters,
}

#[derive(Debug)]
struct Subscriber {
    mailbox: MailboxSender<Batch>,
    shapes: HashSet<Shape>,
}

/// Numbers for `status`.
#[derive(Debug, Clone)]
pub(crate) struct HubStats {
    pub(crate) sessions: usize,
    pub(crate) shapes_total: usize,
    /// The most expensive shapes, at most as many as were asked for.
    pub(crate) shapes: Vec<ShapeStatus>,
    pub(crate) counters: HubCounters,
}

/// One shape in `status`.
#[derive(Debug, Clone)]
pub(crate) struct ShapeStatus {
    pub(crate) shape: Shape,
    pub(crate) sessions: usize,
    pub(crate) stats: ShapeStats,
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
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// Adds a session with a mailbox of this capacity.
    pub(crate) fn join(&self, queue_batches_max: usize) -> Mailbox<Batch> {
        let session = SessionId::next();
        let (sender, mailbox) = mailbox(session, queue_batches_max, &self.backpressure);
        let subscriber = Subscriber {
            mailbox: sender,
            shapes: HashSet::new(),
        };
        let mut state = self.state();
        state.sessions.insert(session, subscriber);
        metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
        mailbox
    }

    /// Removes a session and detaches its shapes.
    pub(crate) fn leave(&self, session: SessionId) {
        let mut state = self.state();
        let shapes = state
            .sessions
            .remove(&session)
            .map(|subscriber| subscriber.shapes)
            .unwrap_or_default();
        for shape in shapes {
            state.shapes.detach(&shape, session);
            state.publish_shapes(shape.entity());
        }
        state.waiting.remove(&session);
        metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
    }

    /// Publishes changes of `shape` to the session from here on.
    pub(crate) fn attach(&self, session: SessionId, shape: &Shape) {
        let mut state = self.state();
        let Some(subscriber) = state.sessions.get_mut(&session) else {
            return;
        };
        subscriber.shapes.insert(shape.clone());
        state.shapes.attach(shape, session);
        state.publish_shapes(shape.entity());
    }

    /// Stops publishing changes of `shape` to the session.
    pub(crate) fn detach(&self, session: SessionId, shape: &Shape) {
        let mut state = self.state();
        if let Some(subscriber) = state.sessions.get_mut(&session) {
            subscriber.shapes.remove(shape);
        }
        state.shapes.detach(shape, session);
        state.publish_shapes(shape.entity());
    }

    /// The columns whose previous values the shapes' filters look at.
    pub(crate) fn old_value_columns(&self) -> Arc<OldValueColumns> {
        self.state().shapes.old_value_columns()
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
        state.waiting.entry(session).or_default().push(awaited);
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

    /// The `cursor` frame for a position; none while there is no epoch.
    pub(crate) fn cursor_frame(&self, position: &Arc<Position>) -> Option<Arc<CursorFrame>> {
        self.cursor_frames.of(position, || self.epoch())
    }

    /// The epoch that positions belong to; none until the listener has connected.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.state().epoch.clone()
    }

    /// The hub's numbers, with at most `shapes_max` of the most expensive shapes.
    pub(crate) fn stats(&self, shapes_max: usize) -> HubStats {
        let state = self.state();
        let all = state
            .shapes
            .entities()
            .flat_map(|name| state.shapes.shapes_of(name));
        let mut shapes: Vec<ShapeStatus> = all
            .map(|(shape, audience)| ShapeStatus {
                shape,
                sessions: audience.sessions.len(),
                stats: audience.stats,
            })
            .collect();
        let shapes_total = shapes.len();
        let cost = |status: &ShapeStatus| {
            let ShapeStats {
                evaluations, bytes, ..
            } = status.stats;
            std::cmp::Reverse((evaluations, bytes, status.sessions))
        };
        // Publishing waits meanwhile, so no more is sorted than is shown.
        if shapes_max < shapes_total {
            shapes.select_nth_unstable_by_key(shapes_max, cost);
            shapes.truncate(shapes_max);
        }
        shapes.sort_by_key(cost);
        HubStats {
            sessions: state.sessions.len(),
            shapes_total,
            shapes,
            counters: state.counters,
        }
    }

    /// Starts again at this cursor, after another epoch or a gap: every session ends, and its client
    /// reconnects with its own cursor.
    pub(crate) fn reset(&self, cursor: Cursor) {
        let mut state = self.state();
        self.cursor_frames.forget();
        state.epoch = Some(cursor.epoch);
        state.position = Some(Arc::new(cursor.position));
        // Their queues close with the senders.
        state.sessions.clear();
        let shapes = std::mem::take(&mut state.shapes);
        shapes
            .entities()
            .for_each(|entity| state.publish_shapes(entity));
        state.waiting.clear();
    }

    /// Publishes a log batch.
    pub(crate) fn publish(&self, batch: LogBatch) {
        let mut state = self.state();
        let State {
            shapes, counters, ..
        } = &mut *state;
        let LogBatch {
            position,
            entries,
            complete,
            old_value_columns,
        } = batch;
        metrics::counter!("rhtmx_sync_changes_total").increment(entries.len() as u64);
        counters.changes += entries.len() as u64;
        let mut writer = Writer::new(position.clone(), complete);
        for entry in entries {
            writer.write(entry, shapes, &old_value_columns);
        }
        counters.evaluations += writer.evaluations;
        metrics::counter!("rhtmx_sync_filter_evaluations_total").increment(writer.evaluations);
        let batch = writer.finish();
        let mut audience: HashSet<SessionId> = HashSet::new();
        for (shape, changes) in batch.shapes() {
            shapes.count(shape, changes.len(), changes.bytes());
            audience.extend(shapes.audience(shape).into_iter().flat_map(|a| &a.sessions));
        }
        for entity in batch.schema_changed_entities() {
            audience.extend(shapes.shapes_of(entity).flat_map(|(_, a)| &a.sessions));
        }
        for shape in batch.outdated_shapes() {
            audience.extend(shapes.audience(shape).into_iter().flat_map(|a| &a.sessions));
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
            let awaited = Awaited::Position(position);
            for session in &audience {
                let waiting = state.waiting.entry(*session).or_default();
                if !waiting.contains(&awaited) {
                    waiting.push(awaited.clone());
                }
            }
        }
        self.backpressure.begin_batch();
        for session in audience {
            state.queue(session, &batch);
        }
        self.backpressure.batch_queued();
    }

    /// Waits until the sessions have begun to take the last batch, except lagging ones. Returns when they had.
    pub(crate) async fn wait_taken(&self) -> Instant {
        self.backpressure.wait_taken().await
    }
}

impl State {
    /// Updates the metric of an entity's number of shapes.
    fn publish_shapes(&self, entity: &str) {
        let count = self.shapes.count_of(entity) as f64;
        metrics::gauge!("rhtmx_sync_shapes", "entity" => entity.to_owned()).set(count);
    }

    /// Queues a batch. After an overflow the session reads it from the log instead.
    fn queue(&mut self, session: SessionId, batch: &Batch) {
        let Some(subscriber) = self.sessions.get(&session) else {
            return;
        };
        match subscriber.mailbox.send(batch) {
            Sent::Queued => {
                self.counters.deliveries += 1;
                metrics::counter!("rhtmx_sync_deliveries_total").increment(1);
            }
            Sent::Overflowed => {
                metrics::counter!("rhtmx_sync_queue_overflows_total").increment(1);
            }
            Sent::Dropped | Sent::Closed => {}
        }
    }
}
