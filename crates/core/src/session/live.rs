//! The live shapes of a session, and whether a `cursor` frame may be sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Command, Frame};
use super::{Batch, is_cut_by};
use crate::cursor::Position;
use crate::shape::Shape;

/// Each live shape with the position up to which it has been sent.
#[derive(Debug, Default)]
pub(super) struct LiveShapes {
    shapes: BTreeMap<Shape, LiveShape>,
    /// The latest position that was sent to the client, or to which a read or a catch-up has brought some
    /// shape. No `cursor` frame is sent before the stream covers it.
    ahead: Option<Arc<Position>>,
    /// Changes have been sent since the last `cursor` frame.
    uncommitted: bool,
    /// Subscriptions have joined at different positions since the last `cursor` frame.
    staggered: bool,
}

#[derive(Debug)]
struct LiveShape {
    /// Everything up to here has been sent.
    at: Arc<Position>,
    /// A read or a catch-up has brought some subscription here, ahead of the stream. Until the stream is
    /// here too, a batch may hold changes that were sent already, and transient changes matter.
    ahead: Option<Arc<Position>>,
}

/// Which changes of a batch are new to a shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum New {
    /// None.
    Nothing,
    /// All but the transient ones.
    All,
    /// Those that this does not contain.
    Since(Arc<Position>),
}

impl New {
    /// The frame that sends it, under the shape's name.
    pub(super) fn frame<B>(self, batch: B, shape: Shape) -> Option<Command<B>> {
        let since = match self {
            Self::Nothing => return None,
            Self::All => None,
            Self::Since(position) => Some(position),
        };
        Some(Command::Send(Frame::Changes {
            batch,
            shape,
            id: None,
            since,
        }))
    }
}

/// Whether a `cursor` frame may be sent at the stream's position.
pub(super) enum Reached {
    /// Not before the stream covers this position.
    Behind(Arc<Position>),
    /// Yes.
    Here {
        /// Whether the frame would be new to the client.
        is_new: bool,
    },
}

impl LiveShapes {
    /// Adds a shape that a read has brought to `position`.
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

    /// Notes that a read has brought one more subscription of the live `shape` to `position`. False when that
    /// is not far enough: the changes in between will not be sent under the shape's name again.
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

    /// Notes that some subscription has reached `position`.
    fn raise(&mut self, position: &Arc<Position>) {
        self.staggered |= self.ahead.as_ref().is_some_and(|ahead| ahead != position);
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

    /// Whether everything up to `position` has been sent for `shape`.
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

    /// Takes a batch: the shapes that it has changes for, with those that are new.
    pub(super) fn take<B: Batch>(&mut self, batch: &B) -> Vec<(Shape, New)> {
        let shapes = self.shapes.iter_mut();
        let new = shapes.map(|(shape, live)| (shape.clone(), live.take(shape, batch)));
        let new: Vec<_> = new.filter(|(_, new)| *new != New::Nothing).collect();
        self.uncommitted |= !new.is_empty();
        new
    }

    /// Whether a batch moves rows of a shape that is somewhere within it.
    pub(super) fn is_cut_by<B: Batch>(&self, batch: &B) -> bool {
        self.shapes
            .iter()
            .any(|(shape, live)| is_cut_by(batch, shape, &live.at))
    }

    /// Takes a batch for one shape.
    pub(super) fn take_shape<B: Batch>(&mut self, shape: &Shape, batch: &B) -> New {
        let live = self.shapes.get_mut(shape);
        let new = live.map_or(New::Nothing, |live| live.take(shape, batch));
        self.uncommitted |= new != New::Nothing;
        new
    }

    /// Notes that some changes up to this position have been sent, of a batch that will never be complete.
    pub(super) fn sent_some_up_to(&mut self, begun: &Arc<Position>) {
        for live in self.shapes.values_mut() {
            let ahead = live.ahead.as_ref().unwrap_or(&live.at);
            if !ahead.covers(begun) {
                live.ahead = Some(begun.clone());
            }
        }
    }

    /// Notes that the stream has reached `position`.
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
        let moved = moved || self.staggered;
        Reached::Here {
            is_new: self.uncommitted || (moved && !self.shapes.is_empty()),
        }
    }

    /// Notes that a `cursor` frame with this position is sent.
    pub(super) fn cursor_sent(&mut self, position: &Arc<Position>) {
        self.uncommitted = false;
        self.staggered = false;
        self.ahead = Some(position.clone());
    }

    /// Notes that a catch-up has brought every live shape to `position`.
    pub(super) fn caught_up(&mut self, position: &Arc<Position>) {
        self.uncommitted = true;
        for live in self.shapes.values_mut() {
            *live = LiveShape {
                at: position.clone(),
                ahead: Some(position.clone()),
            };
        }
    }

    /// Notes that a catch-up has brought live shapes to these positions. Returns the furthest.
    pub(super) fn caught_up_apart(
        &mut self,
        reached: &[(Shape, Arc<Position>)],
    ) -> Option<Arc<Position>> {
        self.uncommitted = true;
        for (shape, position) in reached {
            self.raise(position);
            if let Some(live) = self.shapes.get_mut(shape) {
                *live = LiveShape {
                    at: position.clone(),
                    ahead: Some(position.clone()),
                };
            }
        }
        self.ahead.clone()
    }

    /// Whether changes have been sent since the last `cursor` frame.
    pub(super) fn has_uncommitted(&self) -> bool {
        self.uncommitted
    }
}

impl LiveShape {
    fn take<B: Batch>(&mut self, shape: &Shape, batch: &B) -> New {
        if !batch.touches(shape) || self.at.covers(batch.position()) {
            return New::Nothing;
        }
        let new = match &self.ahead {
            Some(_) => New::Since(self.at.clone()),
            None => New::All,
        };
        // The position of a batch in several parts is reached with the last of them.
        if batch.complete() {
            self.reach(batch.position());
        }
        new
    }

    /// Notes that the stream has brought the shape to `position`.
    fn reach(&mut self, position: &Arc<Position>) {
        self.at = position.clone();
        self.ahead = self.ahead.take().filter(|ahead| !position.covers(ahead));
    }
}
