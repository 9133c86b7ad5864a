//! The live shapes of a session and the one place that says whether a `cursor` may be sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Batch;
use crate::cursor::Position;
use crate::shape::Shape;

/// Each live shape with what has been sent of it.
#[derive(Debug, Default)]
pub(super) struct LiveShapes {
    shapes: BTreeMap<Shape, LiveShape>,
    /// The latest position that the client has been told, or that a read or a pull has brought some
    /// shape to: no `cursor` before the stream covers it.
    ahead: Option<Arc<Position>>,
    /// Changes have been sent since the last `cursor`.
    owes: bool,
    /// Subscriptions have joined at different positions since the last `cursor`.
    scattered: bool,
}

#[derive(Debug)]
struct LiveShape {
    /// Everything up to here has been sent.
    at: Arc<Position>,
    /// A read or a pull has brought some subscription here, ahead of the stream. Until the stream is
    /// here too, a batch may hold changes that are known, and rows that came and went since count.
    ahead: Option<Arc<Position>>,
}

/// Whether the stream stands where a `cursor` may be sent.
pub(super) enum Reached {
    /// Not before this position is covered.
    Behind(Arc<Position>),
    /// Yes.
    Here {
        /// Whether the client would learn something by it.
        news: bool,
    },
}

impl LiveShapes {
    /// A read has brought `shape` to `position`.
    pub(super) fn join(&mut self, shape: Shape, position: Arc<Position>) {
        self.raise(&position);
        self.shapes.insert(
            shape,
            LiveShape {
                ahead: Some(position.clone()),
                at: position,
            },
        );
    }

    /// A read has brought one more subscription of the live `shape` to `position`. False when it has
    /// not come far enough: what lies between will not be sent under the shape's name again.
    pub(super) fn join_live(&mut self, shape: &Shape, position: &Arc<Position>) -> bool {
        let Some(live) = self.shapes.get_mut(shape) else {
            return false;
        };
        if !position.covers(&live.at) && live.ahead.is_some() {
            return false;
        }
        let ahead = live.ahead.as_ref().unwrap_or(&live.at);
        if !ahead.covers(position) {
            live.ahead = Some(position.clone());
        }
        self.raise(position);
        true
    }

    /// Some subscription stands at `position`.
    fn raise(&mut self, position: &Arc<Position>) {
        self.scattered |= self.ahead.as_ref().is_some_and(|ahead| ahead != position);
        if !self
            .ahead
            .as_ref()
            .is_some_and(|ahead| ahead.covers(position))
        {
            self.ahead = Some(position.clone());
        }
    }

    pub(super) fn has(&self, shape: &Shape) -> bool {
        self.shapes.contains_key(shape)
    }

    pub(super) fn remove(&mut self, shape: &Shape) {
        self.shapes.remove(shape);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Shape) -> bool) {
        self.shapes.retain(|shape, _| keep(shape));
    }

    /// Whether `shape` has been brought to `position` already.
    pub(super) fn covers(&self, shape: &Shape, position: &Position) -> bool {
        self.shapes
            .get(shape)
            .is_some_and(|live| live.at.covers(position))
    }

    pub(super) fn positions(&self) -> Vec<(Shape, Arc<Position>)> {
        self.shapes
            .iter()
            .map(|(shape, live)| (shape.clone(), live.at.clone()))
            .collect()
    }

    /// The shapes to which `batch` is news, each with what to leave out of it.
    pub(super) fn take<B: Batch>(&mut self, batch: &B) -> Vec<(Shape, Option<Arc<Position>>)> {
        let mut news = Vec::new();
        for (shape, live) in &mut self.shapes {
            if let Some(since) = live.take(shape, batch) {
                news.push((shape.clone(), since));
            }
        }
        self.owes |= !news.is_empty();
        news
    }

    /// The same for one shape.
    #[expect(
        clippy::option_option,
        reason = "whether to send, and what to leave out"
    )]
    pub(super) fn take_shape<B: Batch>(
        &mut self,
        shape: &Shape,
        batch: &B,
    ) -> Option<Option<Arc<Position>>> {
        let since = self.shapes.get_mut(shape)?.take(shape, batch)?;
        self.owes = true;
        Some(since)
    }

    /// Part of a batch of this position has been sent that will never be complete.
    pub(super) fn know_part_of(&mut self, begun: &Arc<Position>) {
        for live in self.shapes.values_mut() {
            let ahead = live.ahead.as_ref().unwrap_or(&live.at);
            if !ahead.covers(begun) {
                live.ahead = Some(begun.clone());
            }
        }
    }

    /// The stream stands at `position`.
    pub(super) fn reach(&mut self, position: &Arc<Position>) -> Reached {
        if let Some(ahead) = self.ahead.as_ref().filter(|ahead| !position.covers(ahead)) {
            return Reached::Behind(ahead.clone());
        }
        let moved = self
            .ahead
            .as_ref()
            .is_none_or(|ahead| !ahead.covers(position));
        for live in self.shapes.values_mut() {
            if !live.at.covers(position) {
                live.reach(position);
            }
        }
        let moved = moved || self.scattered;
        Reached::Here {
            news: self.owes || (moved && !self.shapes.is_empty()),
        }
    }

    /// A `cursor` frame with this position is sent.
    pub(super) fn told(&mut self, position: &Arc<Position>) {
        self.owes = false;
        self.scattered = false;
        self.ahead = Some(position.clone());
    }

    /// A pull has brought every live shape to `position`.
    pub(super) fn pulled(&mut self, position: &Arc<Position>) {
        self.owes = true;
        for live in self.shapes.values_mut() {
            *live = LiveShape {
                at: position.clone(),
                ahead: Some(position.clone()),
            };
        }
    }

    /// Whether changes have been sent that no `cursor` has committed yet.
    pub(super) fn owes(&self) -> bool {
        self.owes
    }
}

impl LiveShape {
    #[expect(
        clippy::option_option,
        reason = "whether to send, and what to leave out"
    )]
    fn take<B: Batch>(&mut self, shape: &Shape, batch: &B) -> Option<Option<Arc<Position>>> {
        if !batch.touches(shape) || self.at.covers(batch.position()) {
            return None;
        }
        let since = self.ahead.is_some().then(|| self.at.clone());
        // The position of a batch in several deliveries is reached with the last of them.
        if batch.complete() {
            self.reach(batch.position());
        }
        Some(since)
    }

    /// The stream has brought it to `position`.
    fn reach(&mut self, position: &Arc<Position>) {
        self.at = position.clone();
        self.ahead = self.ahead.take().filter(|ahead| !position.covers(ahead));
    }
}
