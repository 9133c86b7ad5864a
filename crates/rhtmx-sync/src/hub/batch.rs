//! What the hub delivers: one part of one drain, each shape's changes written once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use rhtmx_sync_core::cursor::{Mark, Position};
use rhtmx_sync_core::log::{NewestEntry, Subject};
use rhtmx_sync_core::protocol::{Change, Origin};
use rhtmx_sync_core::shape::{Outcome, Part, Shape, Verdict};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::index::{Found, ShapeIndex};
use crate::db::read::HistoryColumns;
use crate::frame::{self, Shared};

/// One delivery.
#[derive(Debug)]
pub(crate) struct Batch {
    position: Arc<Position>,
    complete: bool,
    shapes: BTreeMap<Shape, ShapeChanges>,
    reshaped: HashSet<String>,
    /// Shapes that do not fit their table any more, though nobody has said that it changed.
    misfits: HashSet<Shape>,
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

/// Writes a batch, each change once for all shapes that get it alike.
#[derive(Debug)]
pub(super) struct Writer {
    batch: Batch,
    pub(super) evaluations: u64,
}

impl Writer {
    pub(super) fn new(position: Arc<Position>, complete: bool) -> Self {
        let batch = Batch {
            complete,
            ..Batch::empty(position)
        };
        Self {
            batch,
            evaluations: 0,
        }
    }

    pub(super) fn finish(self) -> Batch {
        self.batch
    }

    /// Writes what an entry means for the shapes of its entity.
    pub(super) fn write(
        &mut self,
        entry: NewestEntry,
        shapes: &mut ShapeIndex,
        histories: &HistoryColumns,
    ) {
        if let Some(origin) = entry.origin {
            let newest = self.batch.authors.entry(origin.client_id).or_default();
            *newest = origin.mutation.max(*newest);
        }
        match entry.subject() {
            Subject::Nothing => {}
            Subject::Reshape => {
                self.batch.reshaped.insert(entry.entity);
            }
            Subject::Truncate => {
                let text = frame::json(&Change::Truncate);
                for (shape, _) in shapes.shapes_of(&entry.entity) {
                    self.push(shape, entry.mark, false, &text);
                }
            }
            Subject::Row(_) => {
                let whole = shapes
                    .has_whole(&entry.entity)
                    .then(|| Shape::whole(&entry.entity));
                let found = shapes.find(&entry, histories);
                self.evaluations += found.evaluations;
                self.write_row(entry, whole, found);
            }
        }
    }

    fn write_row(&mut self, mut entry: NewestEntry, whole: Option<Shape>, found: Found) {
        self.batch.misfits.extend(found.misfits);
        let mark = entry.mark;
        let transient = entry.is_passing();
        let mut texts = Texts::of(&mut entry);
        if let Some(shape) = whole {
            let outcome = match &texts.row {
                Some(_) => Outcome::Put,
                None => Outcome::Delete,
            };
            self.push(shape, mark, transient, texts.text(outcome));
        }
        for (shape, Verdict { outcome, transient }) in found.told {
            let columns = shape.part().and_then(|part| Some((part, part.columns()?)));
            match columns {
                Some((part, columns)) if outcome == Outcome::Put => {
                    match texts.projected(part, columns) {
                        Some(text) => self.push(shape.clone(), mark, transient, text),
                        None => drop(self.batch.misfits.insert(shape.clone())),
                    }
                }
                _ => self.push(shape, mark, transient, texts.text(outcome)),
            }
        }
    }

    fn push(&mut self, shape: Shape, mark: Mark, transient: bool, text: &str) {
        let changes = self.batch.shapes.entry(shape).or_default();
        changes.push(mark, transient, text);
    }
}

/// The texts of one row's change, each written when it is first asked for.
#[derive(Debug)]
struct Texts {
    key: String,
    origin: Option<Origin>,
    row: Option<Box<RawValue>>,
    put: Option<String>,
    leave: Option<String>,
    delete: Option<String>,
    /// A put of some columns.
    projected: HashMap<(String, BTreeSet<usize>), Option<String>>,
}

impl Texts {
    fn of(entry: &mut NewestEntry) -> Self {
        Self {
            key: entry.key.take().unwrap_or_default(),
            origin: entry.origin,
            row: entry.row.take(),
            put: None,
            leave: None,
            delete: None,
            projected: HashMap::new(),
        }
    }

    fn text(&mut self, outcome: Outcome) -> &str {
        let (key, origin) = (&self.key, self.origin);
        match (outcome, &self.row) {
            (Outcome::Put, Some(row)) => self
                .put
                .get_or_insert_with(|| put(key.clone(), row.clone(), origin)),
            (Outcome::Leave, _) => self.leave.get_or_insert_with(|| {
                let key = key.clone();
                frame::json(&Change::Leave { key, origin })
            }),
            (Outcome::Put | Outcome::Delete, _) => self.delete.get_or_insert_with(|| {
                let key = key.clone();
                frame::json(&Change::Delete { key, origin })
            }),
        }
    }

    /// A put of these columns of a version of the table; none when the row cannot be read.
    fn projected(&mut self, part: &Part, columns: &BTreeSet<usize>) -> Option<&str> {
        let (key, origin, row) = (&self.key, self.origin, &self.row);
        let projection = (part.version().to_owned(), columns.clone());
        let text = self.projected.entry(projection).or_insert_with(|| {
            let row = part.project(row.as_deref()?).ok()??;
            Some(put(key.clone(), row, origin))
        });
        text.as_deref()
    }
}

fn put(key: String, row: Box<RawValue>, origin: Option<Origin>) -> String {
    frame::json(&Change::Put { key, row, origin })
}

impl Batch {
    /// Nothing but a position.
    pub(super) fn empty(position: Arc<Position>) -> Self {
        Self {
            position,
            complete: true,
            shapes: BTreeMap::new(),
            reshaped: HashSet::new(),
            misfits: HashSet::new(),
            authors: HashMap::new(),
        }
    }

    /// The shapes that it changes.
    pub(super) fn shapes(&self) -> impl Iterator<Item = (&Shape, &ShapeChanges)> {
        self.shapes.iter()
    }

    /// Entities that changed their shape.
    pub(super) fn reshaped_entities(&self) -> impl Iterator<Item = &str> {
        self.reshaped.iter().map(String::as_str)
    }

    /// Shapes that have to be taken anew besides those of such entities.
    pub(super) fn reshaped_shapes(&self) -> impl Iterator<Item = &Shape> {
        self.misfits.iter()
    }

    /// One shape's changes.
    pub(crate) fn changes(&self, shape: &Shape) -> Option<&ShapeChanges> {
        self.shapes.get(shape)
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

    fn touches(&self, shape: &Shape) -> bool {
        self.0.shapes.contains_key(shape)
    }

    fn reshapes(&self, shape: &Shape) -> bool {
        self.0.reshaped.contains(shape.entity()) || self.0.misfits.contains(shape)
    }
}

impl ShapeChanges {
    /// How many changes it holds.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Their size.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    fn push(&mut self, mark: Mark, transient: bool, text: &str) {
        self.text.push_str(text);
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
    pub(crate) fn shared_frame(&self, shape: &Shape) -> Option<&Shared> {
        self.frame
            .get_or_init(|| {
                let array = self.array(None)?;
                Some(Shared::new(frame::changes_of_shape(shape.as_str(), &array)))
            })
            .as_ref()
    }
}
