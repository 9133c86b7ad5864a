//! What the hub publishes: one log batch, with each shape's changes written once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use db::read::OldValueColumns;
use protocol::{Change, MutationId, json};
use serde_json::value::RawValue;
use sync_core::cursor::{CommitId, Position};
use sync_core::log::{NetChange, Subject};
use sync_core::shape::{RowEffect, RowOp, Selection, Shape};
use uuid::Uuid;

use super::index::{Found, ShapeIndex};
use crate::shared_frame::SharedFrame;

/// A batch. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Batch(Arc<Contents>);

#[derive(Debug)]
struct Contents {
    position: Arc<Position>,
    complete: bool,
    shapes: BTreeMap<Shape, ShapeChanges>,
    schema_changed: HashSet<String>,
    /// Shapes that no longer fit their table, although the log has no entry of its schema change.
    outdated: HashSet<Shape>,
    /// The newest mutation of each client that made a change in the batch.
    mutations: HashMap<Uuid, u64>,
}

/// The changes of one shape, as text.
#[derive(Debug, Default)]
pub(crate) struct ShapeChanges {
    /// The texts of all changes, concatenated.
    text: String,
    changes: Vec<Written>,
    /// The frame without the transient changes, written for the first session that needs it.
    frame: OnceLock<Option<SharedFrame>>,
}

#[derive(Debug)]
struct Written {
    commit_id: CommitId,
    transient: bool,
    end: usize,
}

/// Writes a batch, each change once for all shapes that need the same text.
#[derive(Debug)]
pub(super) struct Writer {
    batch: Contents,
    pub(super) evaluations: u64,
}

impl Writer {
    pub(super) fn new(position: Arc<Position>, complete: bool) -> Self {
        let batch = Contents {
            complete,
            ..Contents::empty(position)
        };
        Self {
            batch,
            evaluations: 0,
        }
    }

    pub(super) fn finish(self) -> Batch {
        Batch(Arc::new(self.batch))
    }

    /// Writes what an entry means for the shapes of its entity.
    pub(super) fn write(
        &mut self,
        entry: NetChange,
        shapes: &mut ShapeIndex,
        old_value_columns: &OldValueColumns,
    ) {
        if let Some(mutation_id) = entry.mutation_id {
            let newest = self
                .batch
                .mutations
                .entry(mutation_id.client_id)
                .or_default();
            *newest = mutation_id.mutation.max(*newest);
        }
        match entry.subject() {
            Subject::Nothing => {}
            Subject::SchemaChange => {
                self.batch.schema_changed.insert(entry.entity);
            }
            Subject::Truncate => {
                let text = json::text(&Change::Truncate);
                for (shape, _) in shapes.shapes_of(&entry.entity) {
                    self.push(shape, entry.commit_id, false, &text);
                }
            }
            Subject::Row(_) => {
                let whole = shapes
                    .has_whole(&entry.entity)
                    .then(|| Shape::whole(&entry.entity));
                let found = shapes.find(&entry, old_value_columns);
                self.evaluations += found.evaluations;
                self.write_row(entry, whole, found);
            }
        }
    }

    fn write_row(&mut self, mut entry: NetChange, whole: Option<Shape>, found: Found) {
        self.batch.outdated.extend(found.outdated);
        let commit_id = entry.commit_id;
        let transient = entry.is_transient();
        let mut texts = Texts::of(&mut entry);
        if let Some(shape) = whole {
            let op = match &texts.row {
                Some(_) => RowOp::Put,
                None => RowOp::Delete,
            };
            self.push(shape, commit_id, transient, texts.text(op));
        }
        for (shape, RowEffect { op, transient }) in found.effects {
            let projection = shape
                .selection()
                .and_then(|selection| Some((selection, selection.columns()?)));
            match projection {
                Some((selection, columns)) if op == RowOp::Put => {
                    match texts.projected(selection, columns) {
                        Some(text) => self.push(shape.clone(), commit_id, transient, text),
                        None => drop(self.batch.outdated.insert(shape.clone())),
                    }
                }
                _ => self.push(shape, commit_id, transient, texts.text(op)),
            }
        }
    }

    fn push(&mut self, shape: Shape, commit_id: CommitId, transient: bool, text: &str) {
        let changes = self.batch.shapes.entry(shape).or_default();
        changes.push(commit_id, transient, text);
    }
}

/// The texts of one row's change, each written when it is first needed.
#[derive(Debug)]
struct Texts {
    key: String,
    mutation_id: Option<MutationId>,
    row: Option<Box<RawValue>>,
    put: Option<String>,
    leave: Option<String>,
    delete: Option<String>,
    /// Puts of some columns, by the table's fingerprint and the columns.
    projected: HashMap<(String, BTreeSet<usize>), Option<String>>,
}

impl Texts {
    fn of(entry: &mut NetChange) -> Self {
        Self {
            key: entry.key.take().unwrap_or_default(),
            mutation_id: entry.mutation_id,
            row: entry.row.take(),
            put: None,
            leave: None,
            delete: None,
            projected: HashMap::new(),
        }
    }

    fn text(&mut self, op: RowOp) -> &str {
        let (key, mutation_id) = (&self.key, self.mutation_id);
        match (op, &self.row) {
            (RowOp::Put, Some(row)) => self
                .put
                .get_or_insert_with(|| put(key.clone(), row.clone(), mutation_id)),
            (RowOp::Leave, _) => self.leave.get_or_insert_with(|| {
                let key = key.clone();
                json::text(&Change::Leave { key, mutation_id })
            }),
            (RowOp::Put | RowOp::Delete, _) => self.delete.get_or_insert_with(|| {
                let key = key.clone();
                json::text(&Change::Delete { key, mutation_id })
            }),
        }
    }

    /// Returns a put of these columns; none when the row cannot be read as one of the selection's table.
    fn projected(&mut self, selection: &Selection, columns: &BTreeSet<usize>) -> Option<&str> {
        let (key, mutation_id, row) = (&self.key, self.mutation_id, &self.row);
        let projection = (selection.fingerprint().to_owned(), columns.clone());
        let text = self.projected.entry(projection).or_insert_with(|| {
            let row = selection.project(row.as_deref()?).ok()??;
            Some(put(key.clone(), row, mutation_id))
        });
        text.as_deref()
    }
}

fn put(key: String, row: Box<RawValue>, mutation_id: Option<MutationId>) -> String {
    json::text(&Change::Put {
        key,
        row,
        mutation_id,
    })
}

impl Contents {
    fn empty(position: Arc<Position>) -> Self {
        Self {
            position,
            complete: true,
            shapes: BTreeMap::new(),
            schema_changed: HashSet::new(),
            outdated: HashSet::new(),
            mutations: HashMap::new(),
        }
    }
}

impl Batch {
    /// A batch that carries only a position.
    pub(super) fn empty(position: Arc<Position>) -> Self {
        Self(Arc::new(Contents::empty(position)))
    }

    /// The shapes that the batch changes.
    pub(super) fn shapes(&self) -> impl Iterator<Item = (&Shape, &ShapeChanges)> {
        self.0.shapes.iter()
    }

    /// The entities whose schema changed.
    pub(super) fn schema_changed_entities(&self) -> impl Iterator<Item = &str> {
        self.0.schema_changed.iter().map(String::as_str)
    }

    /// The shapes that must be refetched besides those of such entities.
    pub(super) fn outdated_shapes(&self) -> impl Iterator<Item = &Shape> {
        self.0.outdated.iter()
    }

    /// The changes of one shape.
    pub(crate) fn changes(&self, shape: &Shape) -> Option<&ShapeChanges> {
        self.0.shapes.get(shape)
    }

    /// Whether a change in the batch was made by this mutation or a later one of the same client.
    pub(crate) fn is_by(&self, mutation: MutationId) -> bool {
        self.0
            .mutations
            .get(&mutation.client_id)
            .is_some_and(|newest| *newest >= mutation.mutation)
    }
}

impl sync_core::session::Batch for Batch {
    fn position(&self) -> &Arc<Position> {
        &self.0.position
    }

    fn complete(&self) -> bool {
        self.0.complete
    }

    fn touches(&self, shape: &Shape) -> bool {
        self.0.shapes.contains_key(shape)
    }

    fn changes_schema_of(&self, shape: &Shape) -> bool {
        self.0.schema_changed.contains(shape.entity()) || self.0.outdated.contains(shape)
    }
}

impl ShapeChanges {
    /// The number of changes.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Their size as JSON.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    fn push(&mut self, commit_id: CommitId, transient: bool, text: &str) {
        self.text.push_str(text);
        self.changes.push(Written {
            commit_id,
            transient,
            end: self.text.len(),
        });
    }

    /// Returns the JSON array of the changes that `since` does not contain; none when it would be empty.
    ///
    /// With `since` it includes transient changes: a reader that joined in between may hold a row that was
    /// created and deleted within the batch.
    pub(crate) fn array(&self, since: Option<&Position>) -> Option<String> {
        let mut array = String::with_capacity(self.text.len() + self.changes.len() + 2);
        let mut start = 0;
        for change in &self.changes {
            let text = &self.text[start..change.end];
            start = change.end;
            let leave_out = match since {
                None => change.transient,
                Some(since) => since.contains(change.commit_id),
            };
            if !leave_out {
                array.push(if array.is_empty() { '[' } else { ',' });
                array.push_str(text);
            }
        }
        array.push(']');
        array.starts_with('[').then_some(array)
    }

    /// The frame for every session that has received all earlier changes of the shape.
    pub(crate) fn shared_frame(&self, shape: &Shape) -> Option<&SharedFrame> {
        self.frame
            .get_or_init(|| {
                let array = self.array(None)?;
                Some(SharedFrame::new(json::changes_of_shape(
                    shape.as_str(),
                    &array,
                )))
            })
            .as_ref()
    }
}
