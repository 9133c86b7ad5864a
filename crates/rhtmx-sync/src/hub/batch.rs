//! What the hub delivers: one part of one drain, each shape's changes written once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use rhtmx_sync_core::cursor::{Mark, Position};
use rhtmx_sync_core::log::{Learned, NewestEntry};
use rhtmx_sync_core::protocol::Origin;
use rhtmx_sync_core::session::ShapeId;
use uuid::Uuid;

use crate::frame::{self, Shared};

/// One delivery.
#[derive(Debug)]
pub(crate) struct Batch {
    position: Arc<Position>,
    complete: bool,
    shapes: BTreeMap<ShapeId, ShapeChanges>,
    reshaped: HashSet<String>,
    /// The newest mutation of each client that made some change in it.
    authors: HashMap<Uuid, u64>,
}

/// The changes of one shape, as text.
#[derive(Debug, Default)]
pub(crate) struct ShapeChanges {
    /// All changes' texts, one behind the other.
    text: String,
    changes: Vec<Written>,
    /// The whole frame without the transient changes; written by the first who needs it.
    frame: OnceLock<Option<Shared>>,
}

#[derive(Debug)]
struct Written {
    mark: Mark,
    transient: bool,
    end: usize,
}

impl Batch {
    /// Writes what `entries` mean for the shapes that `wanted` names for each entity.
    pub(super) fn new(
        position: Arc<Position>,
        complete: bool,
        entries: Vec<NewestEntry>,
        wanted: impl Fn(&str) -> Vec<ShapeId>,
    ) -> Self {
        let mut batch = Self {
            complete,
            ..Self::empty(position)
        };
        let mut shapes_of: BTreeMap<String, Vec<ShapeId>> = BTreeMap::new();
        for entry in entries {
            if let Some(origin) = entry.origin {
                let newest = batch.authors.entry(origin.client_id).or_default();
                *newest = origin.mutation.max(*newest);
            }
            let shapes = shapes_of
                .entry(entry.entity.clone())
                .or_insert_with_key(|entity| wanted(entity));
            let (mark, entity) = (entry.mark, entry.entity.clone());
            match entry.learn() {
                Learned::Nothing => {}
                Learned::Reshaped => {
                    batch.reshaped.insert(entity);
                }
                Learned::Change { change, transient } => {
                    for shape in shapes.iter() {
                        batch
                            .shapes
                            .entry(shape.clone())
                            .or_default()
                            .push(mark, transient, &change);
                    }
                }
            }
        }
        batch
    }

    /// Nothing but a position.
    pub(super) fn empty(position: Arc<Position>) -> Self {
        Self {
            position,
            complete: true,
            shapes: BTreeMap::new(),
            reshaped: HashSet::new(),
            authors: HashMap::new(),
        }
    }

    /// The shapes that it changes.
    pub(super) fn shapes(&self) -> impl Iterator<Item = &ShapeId> {
        self.shapes.keys()
    }

    /// One shape's changes.
    pub(crate) fn changes(&self, shape: &ShapeId) -> Option<&ShapeChanges> {
        self.shapes.get(shape)
    }

    pub(crate) fn is_reshaped(&self, entity: &str) -> bool {
        self.reshaped.contains(entity)
    }

    /// Whether some change in it was made by this mutation, or a later one of the same client.
    pub(crate) fn is_by(&self, mutation: Origin) -> bool {
        self.authors
            .get(&mutation.client_id)
            .is_some_and(|newest| *newest >= mutation.mutation)
    }
}

/// A delivery as the session's rules see it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery(pub(crate) Arc<Batch>);

impl rhtmx_sync_core::session::Batch for Delivery {
    fn position(&self) -> &Arc<Position> {
        &self.0.position
    }

    fn complete(&self) -> bool {
        self.0.complete
    }

    fn touches(&self, shape: &ShapeId) -> bool {
        self.0.shapes.contains_key(shape)
    }

    fn reshapes(&self, entity: &str) -> bool {
        self.0.is_reshaped(entity)
    }
}

impl ShapeChanges {
    fn push(&mut self, mark: Mark, transient: bool, change: &rhtmx_sync_core::protocol::Change) {
        write!(self.text, "{}", frame::json(change)).expect("writing to a string");
        self.changes.push(Written {
            mark,
            transient,
            end: self.text.len(),
        });
    }

    /// The JSON array of the changes that `since` does not contain; none when it would be empty.
    ///
    /// Who joined in between may know a row that came and went within the batch, so he is told even
    /// of those.
    pub(crate) fn array(&self, since: Option<&Position>) -> Option<String> {
        let mut array = String::with_capacity(self.text.len() + self.changes.len() + 2);
        let mut start = 0;
        for change in &self.changes {
            let text = &self.text[start..change.end];
            start = change.end;
            let leave_out = match since {
                None => change.transient,
                Some(since) => since.contains(change.mark),
            };
            if !leave_out {
                array.push(if array.is_empty() { '[' } else { ',' });
                array.push_str(text);
            }
        }
        array.push(']');
        array.starts_with('[').then_some(array)
    }

    /// The frame that everybody gets who has followed the shape so far.
    pub(crate) fn shared_frame(&self, shape: &ShapeId) -> Option<&Shared> {
        self.frame
            .get_or_init(|| {
                let array = self.array(None)?;
                Some(Shared::new(frame::changes_of_shape(shape.as_str(), &array)))
            })
            .as_ref()
    }
}
