//! The hub: takes the log's news once, writes each change once per shape, and hands the same bytes
//! to every session that has the shape.
//!
//! Invariants:
//! 1. What is published is queued for a session in order, or its queue is marked as overflowed and
//!    nothing after that is queued until the session has joined again. It never waits for a session.
//! 2. A session that attaches a shape gets every batch whose position is not covered by a read that
//!    begins after the attach.

mod batch;
mod crowd;
mod index;
mod told;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use rhtmx_sync_core::cursor::{Cursor, Epoch, Position};
use rhtmx_sync_core::session::Awaited;
use rhtmx_sync_core::shape::Shape;
use tokio::sync::mpsc;
use tokio::time::Instant;

use batch::Writer;
pub(crate) use batch::{Batch, Delivery};
use crowd::{Crowd, Ear};
pub(crate) use index::ShapeFigures;
use index::ShapeIndex;
use told::LastTold;
pub(crate) use told::ToldCursor;

use crate::db::feed::Drained;
use crate::db::read::HistoryColumns;

/// Names a session within the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionKey(u64);

/// What a session holds: its name, its queue, and whether the queue could not take everything.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) key: SessionKey,
    queue: mpsc::Receiver<Arc<Batch>>,
    ear: Arc<Ear>,
}

impl Seat {
    /// What comes next; none when the hub has been reset. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Arc<Batch>> {
        let batch = self.queue.recv().await;
        self.ear.hear();
        batch
    }

    /// Whether everything that was queued has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether everything that was queued has been taken and something was not queued.
    pub(crate) fn must_pull(&self) -> bool {
        self.ear.overflowed.load(Ordering::Acquire) && self.is_empty()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Closed first, so that whatever is queued from here on is taken back by the hub itself.
        self.queue.close();
        self.ear.hear();
    }
}

/// One owner for who wants what and how far the news have come.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    crowd: Arc<Crowd>,
    told: LastTold,
}

#[derive(Debug, Default)]
struct State {
    next_key: u64,
    epoch: Option<Epoch>,
    position: Option<Arc<Position>>,
    sessions: HashMap<SessionKey, Attached>,
    shapes: ShapeIndex,
    waiting: HashMap<SessionKey, Vec<Awaited>>,
    totals: HubTotals,
}

#[derive(Debug)]
struct Attached {
    queue: mpsc::Sender<Arc<Batch>>,
    ear: Arc<Ear>,
    shapes: HashSet<Shape>,
}

/// Figures for `status`.
#[derive(Debug, Clone)]
pub(crate) struct HubFigures {
    pub(crate) sessions: usize,
    /// All of them.
    pub(crate) shapes_total: usize,
    /// The shapes that have cost most, at most as many as were asked for.
    pub(crate) shapes: Vec<ShapeStatus>,
    pub(crate) totals: HubTotals,
}

/// One shape in `status`.
#[derive(Debug, Clone)]
pub(crate) struct ShapeStatus {
    pub(crate) shape: Shape,
    pub(crate) sessions: usize,
    pub(crate) figures: ShapeFigures,
}

/// What the hub has done since the engine started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HubTotals {
    /// Changed rows that came in.
    pub(crate) changes: u64,
    /// Times that a filter was asked about one.
    pub(crate) evaluations: u64,
    /// Batches queued for a session: so often somebody was woken.
    pub(crate) deliveries: u64,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// A seat with a queue of this length.
    pub(crate) fn join(&self, queue_batches_max: usize) -> Seat {
        let (sender, queue) = mpsc::channel(queue_batches_max.max(1));
        let ear = Arc::new(Ear::new(self.crowd.clone()));
        let mut state = self.state();
        state.next_key += 1;
        let key = SessionKey(state.next_key);
        let attached = Attached {
            queue: sender,
            ear: ear.clone(),
            shapes: HashSet::new(),
        };
        state.sessions.insert(key, attached);
        metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
        Seat { key, queue, ear }
    }

    /// The session is gone.
    pub(crate) fn leave(&self, key: SessionKey) {
        let mut state = self.state();
        let shapes = state
            .sessions
            .remove(&key)
            .map(|attached| attached.shapes)
            .unwrap_or_default();
        for shape in shapes {
            state.shapes.detach(&shape, key);
            state.tell_shapes(shape.entity());
        }
        state.waiting.remove(&key);
        metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
    }

    /// From here on the session gets what touches `shape`.
    pub(crate) fn attach(&self, key: SessionKey, shape: &Shape) {
        let mut state = self.state();
        let Some(attached) = state.sessions.get_mut(&key) else {
            return;
        };
        attached.shapes.insert(shape.clone());
        state.shapes.attach(shape, key);
        state.tell_shapes(shape.entity());
    }

    /// From here on it does not.
    pub(crate) fn detach(&self, key: SessionKey, shape: &Shape) {
        let mut state = self.state();
        if let Some(attached) = state.sessions.get_mut(&key) {
            attached.shapes.remove(shape);
        }
        state.shapes.detach(shape, key);
        state.tell_shapes(shape.entity());
    }

    /// The columns whose previous values the shapes' filters look at.
    pub(crate) fn histories(&self) -> Arc<HistoryColumns> {
        self.state().shapes.histories()
    }

    /// After an overflow: from here on the session is queued for again. What it waited for is
    /// forgotten.
    pub(crate) fn rejoin(&self, key: SessionKey) {
        let mut state = self.state();
        state.waiting.remove(&key);
        if let Some(attached) = state.sessions.get(&key) {
            attached.ear.overflowed.store(false, Ordering::Release);
        }
    }

    /// Delivers to the session, an empty batch if need be, once `awaited` is reached. True when that
    /// is not yet, so that somebody should look for news.
    pub(crate) fn wait_for(&self, key: SessionKey, awaited: Awaited) -> bool {
        let mut state = self.state();
        if let Some(position) = state
            .position
            .clone()
            .filter(|position| awaited.is_reached_by(position))
        {
            state.queue(key, &Arc::new(Batch::empty(position)));
            return false;
        }
        state.waiting.entry(key).or_default().push(awaited);
        true
    }

    /// Delivers the position to the session even if nothing has changed for it.
    pub(crate) fn tell_position(&self, key: SessionKey) {
        let mut state = self.state();
        if let Some(position) = state.position.clone() {
            state.queue(key, &Arc::new(Batch::empty(position)));
        }
    }

    /// Where the news have come to.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        let state = self.state();
        Some(Cursor {
            epoch: state.epoch.clone()?,
            position: state.position.as_deref()?.clone(),
        })
    }

    /// The `cursor` frame for a position; none while there is no history.
    pub(crate) fn told(&self, position: &Arc<Position>) -> Option<Arc<ToldCursor>> {
        self.told.of(position, || self.epoch())
    }

    /// The history that positions belong to.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.state().epoch.clone()
    }

    /// What the hub does, with the shapes that cost most.
    pub(crate) fn figures(&self, shapes_max: usize) -> HubFigures {
        let state = self.state();
        let all = state
            .shapes
            .entities()
            .flat_map(|name| state.shapes.shapes_of(name));
        let mut shapes: Vec<ShapeStatus> = all
            .map(|(shape, audience)| ShapeStatus {
                shape,
                sessions: audience.sessions.len(),
                figures: audience.figures,
            })
            .collect();
        let shapes_total = shapes.len();
        let cost = |status: &ShapeStatus| {
            let ShapeFigures {
                evaluations, bytes, ..
            } = status.figures;
            std::cmp::Reverse((evaluations, bytes, status.sessions))
        };
        // Whoever publishes waits meanwhile, so no more is sorted than is shown.
        if shapes_max < shapes_total {
            shapes.select_nth_unstable_by_key(shapes_max, cost);
            shapes.truncate(shapes_max);
        }
        shapes.sort_by_key(cost);
        HubFigures {
            sessions: state.sessions.len(),
            shapes_total,
            shapes,
            totals: state.totals,
        }
    }

    /// Another history, or a gap: every session ends and comes back with its cursor.
    pub(crate) fn reset(&self, epoch: Epoch, position: Position) {
        let mut state = self.state();
        self.told.forget();
        state.epoch = Some(epoch);
        state.position = Some(Arc::new(position));
        // Their queues close with the senders.
        state.sessions.clear();
        let shapes = std::mem::take(&mut state.shapes);
        shapes
            .entities()
            .for_each(|entity| state.tell_shapes(entity));
        state.waiting.clear();
    }

    /// Hands news on.
    pub(crate) fn publish(&self, drained: Drained) {
        let mut state = self.state();
        let State { shapes, totals, .. } = &mut *state;
        let Drained {
            position,
            entries,
            complete,
            histories,
        } = drained;
        metrics::counter!("rhtmx_sync_changes_total").increment(entries.len() as u64);
        totals.changes += entries.len() as u64;
        let mut writer = Writer::new(position.clone(), complete);
        for entry in entries {
            writer.write(entry, shapes, &histories);
        }
        totals.evaluations += writer.evaluations;
        metrics::counter!("rhtmx_sync_filter_evaluations_total").increment(writer.evaluations);
        let batch = Arc::new(writer.finish());
        let mut audience: HashSet<SessionKey> = HashSet::new();
        for (shape, changes) in batch.shapes() {
            shapes.count(shape, changes.len(), changes.bytes());
            audience.extend(shapes.audience(shape).into_iter().flat_map(|a| &a.sessions));
        }
        for entity in batch.reshaped_entities() {
            audience.extend(shapes.shapes_of(entity).flat_map(|(_, a)| &a.sessions));
        }
        for shape in batch.reshaped_shapes() {
            audience.extend(shapes.audience(shape).into_iter().flat_map(|a| &a.sessions));
        }
        if complete {
            state.position = Some(position.clone());
            state.waiting.retain(|key, waiting| {
                let waited = waiting.len();
                waiting.retain(|awaited| !awaited.is_reached_by(&position));
                if waiting.len() < waited {
                    audience.insert(*key);
                }
                !waiting.is_empty()
            });
        } else {
            // Who hears of a part must hear of the last one too, whatever it holds.
            let awaited = Awaited::Position(position);
            for key in &audience {
                let waiting = state.waiting.entry(*key).or_default();
                if !waiting.contains(&awaited) {
                    waiting.push(awaited.clone());
                }
            }
        }
        self.crowd.news();
        for key in audience {
            state.queue(key, &batch);
        }
        self.crowd.queued();
    }

    /// When the sessions had begun to take the last news; waits until they have, but not for those who
    /// were behind before.
    pub(crate) async fn heard(&self) -> Instant {
        self.crowd.heard().await
    }
}

impl State {
    /// The number of an entity's shapes has changed.
    fn tell_shapes(&self, entity: &str) {
        let count = self.shapes.count_of(entity) as f64;
        metrics::gauge!("rhtmx_sync_shapes", "entity" => entity.to_owned()).set(count);
    }

    /// Queues a batch, or marks the queue as overflowed.
    fn queue(&mut self, key: SessionKey, batch: &Arc<Batch>) {
        let Some(attached) = self.sessions.get(&key) else {
            return;
        };
        if attached.ear.overflowed.load(Ordering::Acquire) {
            return;
        }
        attached.ear.call();
        match attached.queue.try_send(batch.clone()) {
            Ok(()) => {
                self.totals.deliveries += 1;
                metrics::counter!("rhtmx_sync_deliveries_total").increment(1);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => attached.ear.hear(),
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!("rhtmx_sync_queue_overflows_total").increment(1);
                attached.ear.overflowed.store(true, Ordering::Release);
                // The session may have emptied its queue just before, and gone to sleep: this wakes it.
                let _ = attached.queue.try_send(batch.clone());
            }
        }
    }
}
