//! The hub: takes the log's news once, writes each change once per shape, and hands the same bytes
//! to every session that has the shape.
//!
//! Invariants:
//! 1. What is published is queued for a session in order, or its queue is marked as overflowed and
//!    nothing more is queued until the session has joined again. It never waits for a session.
//! 2. A session that attaches a shape gets every batch whose position is not covered by a read that
//!    begins after the attach.

mod batch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rhtmx_sync_core::cursor::{Cursor, Epoch, Position};
use rhtmx_sync_core::session::{Awaited, ShapeId};
use tokio::sync::mpsc;

pub(crate) use batch::{Batch, Delivery};

use crate::db::feed::Drained;

/// Names a session within the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionKey(u64);

/// What a session holds: its name, its queue, and whether the queue could not take everything.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) key: SessionKey,
    pub(crate) queue: mpsc::Receiver<Arc<Batch>>,
    overflowed: Arc<AtomicBool>,
}

impl Seat {
    /// Whether everything that was queued has been taken and something was not queued.
    pub(crate) fn must_pull(&self) -> bool {
        self.overflowed.load(Ordering::Acquire) && self.queue.is_empty()
    }
}

/// One owner for who wants what and how far the news have come.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_key: u64,
    epoch: Option<Epoch>,
    position: Option<Arc<Position>>,
    sessions: HashMap<SessionKey, Attached>,
    /// Who has each shape.
    shapes: BTreeMap<ShapeId, HashSet<SessionKey>>,
    waiting: Vec<(SessionKey, Awaited)>,
}

#[derive(Debug)]
struct Attached {
    queue: mpsc::Sender<Arc<Batch>>,
    overflowed: Arc<AtomicBool>,
    shapes: HashSet<ShapeId>,
}

/// Figures for `status`.
#[derive(Debug, Clone)]
pub(crate) struct HubFigures {
    pub(crate) sessions: usize,
    /// Each shape with the sessions that have it.
    pub(crate) shapes: Vec<(String, usize)>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// A seat with a queue of this length.
    pub(crate) fn join(&self, queue_batches_max: usize) -> Seat {
        let (sender, queue) = mpsc::channel(queue_batches_max.max(1));
        let overflowed = Arc::new(AtomicBool::new(false));
        let mut state = self.state();
        state.next_key += 1;
        let key = SessionKey(state.next_key);
        let attached = Attached {
            queue: sender,
            overflowed: overflowed.clone(),
            shapes: HashSet::new(),
        };
        state.sessions.insert(key, attached);
        metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
        Seat {
            key,
            queue,
            overflowed,
        }
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
            state.forget(key, &shape);
        }
        state.waiting.retain(|(waiting, _)| *waiting != key);
        metrics::gauge!("rhtmx_sync_sessions").set(state.sessions.len() as f64);
    }

    /// From here on the session gets what touches `shape`.
    pub(crate) fn attach(&self, key: SessionKey, shape: &ShapeId) {
        let mut state = self.state();
        let Some(attached) = state.sessions.get_mut(&key) else {
            return;
        };
        attached.shapes.insert(shape.clone());
        state.shapes.entry(shape.clone()).or_default().insert(key);
    }

    /// From here on it does not.
    pub(crate) fn detach(&self, key: SessionKey, shape: &ShapeId) {
        let mut state = self.state();
        if let Some(attached) = state.sessions.get_mut(&key) {
            attached.shapes.remove(shape);
        }
        state.forget(key, shape);
    }

    /// After an overflow: from here on the session is queued for again. What it waited for is
    /// forgotten.
    pub(crate) fn rejoin(&self, key: SessionKey) {
        let mut state = self.state();
        state.waiting.retain(|(waiting, _)| *waiting != key);
        if let Some(attached) = state.sessions.get(&key) {
            attached.overflowed.store(false, Ordering::Release);
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
        state.waiting.push((key, awaited));
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

    /// The history that positions belong to.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.state().epoch.clone()
    }

    pub(crate) fn figures(&self) -> HubFigures {
        let state = self.state();
        HubFigures {
            sessions: state.sessions.len(),
            shapes: state
                .shapes
                .iter()
                .map(|(shape, audience)| (shape.as_str().to_owned(), audience.len()))
                .collect(),
        }
    }

    /// Another history, or a gap: every session ends and comes back with its cursor.
    pub(crate) fn reset(&self, epoch: Epoch, position: Position) {
        let mut state = self.state();
        state.epoch = Some(epoch);
        state.position = Some(Arc::new(position));
        // Their queues close with the senders.
        state.sessions.clear();
        state.shapes.clear();
        state.waiting.clear();
    }

    /// Hands news on.
    pub(crate) fn publish(&self, drained: Drained) {
        let mut state = self.state();
        let Drained {
            position,
            entries,
            complete,
        } = drained;
        metrics::counter!("rhtmx_sync_changes_total").increment(entries.len() as u64);
        let batch = {
            let wanted = |entity: &str| -> Vec<ShapeId> {
                state
                    .shapes
                    .keys()
                    .filter(|shape| shape.entity() == entity)
                    .cloned()
                    .collect()
            };
            Arc::new(Batch::new(position.clone(), complete, entries, wanted))
        };
        let mut audience: Vec<SessionKey> = Vec::new();
        for shape in batch.shapes() {
            audience.extend(state.shapes.get(shape).into_iter().flatten());
        }
        for (_, sessions) in state
            .shapes
            .iter()
            .filter(|(shape, _)| batch.is_reshaped(shape.entity()))
        {
            audience.extend(sessions);
        }
        if complete {
            state.position = Some(position.clone());
            state.waiting.retain(|(key, awaited)| {
                let reached = awaited.is_reached_by(&position);
                if reached {
                    audience.push(*key);
                }
                !reached
            });
        }
        audience.sort_unstable();
        audience.dedup();
        if !complete {
            // Who hears of a part must hear of the last one too, whatever it holds.
            let awaited = Awaited::Position(position);
            for key in &audience {
                if !state
                    .waiting
                    .iter()
                    .any(|(waiting, what)| waiting == key && *what == awaited)
                {
                    state.waiting.push((*key, awaited.clone()));
                }
            }
        }
        for key in audience {
            state.queue(key, &batch);
        }
    }
}

impl State {
    fn forget(&mut self, key: SessionKey, shape: &ShapeId) {
        if let Some(audience) = self.shapes.get_mut(shape) {
            audience.remove(&key);
            if audience.is_empty() {
                self.shapes.remove(shape);
            }
        }
    }

    /// Queues a batch, or marks the queue as overflowed.
    fn queue(&mut self, key: SessionKey, batch: &Arc<Batch>) {
        let Some(attached) = self.sessions.get(&key) else {
            return;
        };
        if attached.overflowed.load(Ordering::Acquire) {
            return;
        }
        match attached.queue.try_send(batch.clone()) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!("rhtmx_sync_queue_overflows_total").increment(1);
                attached.overflowed.store(true, Ordering::Release);
            }
        }
    }
}
