//! Evaluates a log batch and writes it, each change once for all shapes that need the same text.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use db::feed::LogBatch;
use db::read::OldValueColumns;
use protocol::{Change, MutationId, RowMetadata, json};
use serde_json::value::RawValue;
use sync_core::cursor::CommitId;
use sync_core::log::{ChangeKind, NetChange, Subject, UndoRecord};
use sync_core::shape::{RowEffect, RowOp, Selection, Shape};

use super::batch::{Batch, Contents, TextsWriter};
use super::budget::Budget;
use super::index::{Found, ShapeIndex};
use super::sets::SetContext;

/// Writes one batch.
#[derive(Debug)]
struct Writer<'a> {
    shapes: &'a ShapeIndex,
    old_value_columns: &'a OldValueColumns,
    sets: &'a SetContext<'a>,
    batch: Contents,
    texts: TextsWriter,
    budget: Budget,
    evaluations: u64,
}

/// A batch, and how many evaluations of filters it took.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) batch: Batch,
    pub(super) evaluations: u64,
}

/// Evaluates and writes a log batch, whose memory is counted in `held`. Shapes that are `over` their share are
/// left out.
pub(super) fn evaluate(
    log_batch: LogBatch,
    shapes: &ShapeIndex,
    sets: &SetContext<'_>,
    over: HashSet<Shape>,
    held: &Arc<AtomicUsize>,
    prepare: impl FnOnce(&mut Contents),
) -> Evaluated {
    let mut writer = Writer {
        shapes,
        old_value_columns: &log_batch.old_value_columns,
        sets,
        batch: Contents::new(log_batch.position, log_batch.complete),
        texts: TextsWriter::default(),
        budget: Budget::new(over),
        evaluations: 0,
    };
    prepare(&mut writer.batch);
    let mut entity = String::new();
    let mut entries = log_batch.entries;
    let is_moved = |entry: &NetChange| entry.kind == ChangeKind::Touched;
    let first_moved = entries.iter().position(is_moved);
    let moved = entries.split_off(first_moved.unwrap_or(entries.len()));
    for entry in entries {
        entity.clone_from(&entry.entity);
        // A row that makes this code panic costs its own table a refetch, which evaluates nothing here.
        if catch_unwind(AssertUnwindSafe(|| writer.write(entry))).is_err() {
            tracing::error!(
                entity,
                "a change could not be evaluated; its clients refetch"
            );
            metrics::counter!("rhtmx_sync_panics_total").increment(1);
            writer.batch.schema_changed.insert(entity.clone());
        }
    }
    for moved in moved.chunk_by(|one, next| one.entity == next.entity) {
        if catch_unwind(AssertUnwindSafe(|| writer.write_moved(moved))).is_err() {
            let entity = &moved[0].entity;
            tracing::error!(
                entity,
                "moved rows could not be evaluated; their clients refetch"
            );
            metrics::counter!("rhtmx_sync_panics_total").increment(1);
            writer.batch.schema_changed.insert(entity.clone());
        }
    }
    let Writer {
        mut batch,
        texts,
        budget,
        evaluations,
        ..
    } = writer;
    for (shape, changes) in &mut batch.shapes {
        if let Some(order) = sets.order(shape) {
            changes.set_order(&order);
        }
    }
    batch.unevaluated = budget.into_over();
    Evaluated {
        batch: batch.finish(texts, held),
        evaluations,
    }
}

impl Writer<'_> {
    /// Writes what an entry means for the shapes of its entity.
    fn write(&mut self, entry: NetChange) {
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
                let text = self.texts.add(entry.commit_id, None, &text);
                for shape in self.shapes.shapes_of(&entry.entity) {
                    self.push(shape, text, false);
                }
            }
            Subject::Row(_) => {
                let has_whole = self.shapes.has_whole(&entry.entity);
                let whole = has_whole.then(|| Shape::whole(&entry.entity));
                let shapes = self.shapes;
                let found =
                    shapes.find(&entry, self.old_value_columns, self.sets, &mut self.budget);
                self.evaluations += found.evaluations;
                self.write_row(&entry, whole, found);
            }
        }
    }

    /// Writes what rows of one entity mean that sets have moved.
    fn write_moved(&mut self, rows: &[NetChange]) {
        let shapes = self.shapes;
        let (old_value_columns, sets) = (self.old_value_columns, self.sets);
        let found = shapes.find_moved(rows, old_value_columns, sets, &mut self.budget);
        self.evaluations += found.evaluations;
        self.batch.outdated.extend(found.outdated);
        self.batch.unclear.extend(found.unclear);
        self.batch.shapes.reserve(found.effects.len());
        let mut texts: Vec<RowTexts<'_>> = rows.iter().map(RowTexts::of).collect();
        for (shape, effects) in found.effects {
            let mut listed = Vec::with_capacity(effects.len());
            for (place, effect) in effects {
                if !texts[place].suffices(&shape, effect.op) {
                    self.budget.leave_out(shape.clone());
                    continue;
                }
                match texts[place].of_effect(&shape, effect.op, &mut self.texts) {
                    Some(text) => listed.push((text, effect.transient)),
                    None => {
                        self.batch.outdated.insert(shape.clone());
                    }
                }
            }
            if listed.is_empty() {
                continue;
            }
            let changes = self.batch.shapes.entry(shape).or_default();
            changes.reserve(listed.len());
            for (text, transient) in listed {
                changes.push(text, transient, self.texts.bytes_of(text));
            }
        }
        if sets.few_changed().is_some() {
            return;
        }
        for (row, texts) in rows.iter().zip(&mut texts) {
            let found = shapes.find(row, old_value_columns, sets, &mut self.budget);
            self.evaluations += found.evaluations;
            self.write_found(texts, found);
        }
    }

    fn write_row(&mut self, entry: &NetChange, whole: Option<Shape>, found: Found) {
        let transient = entry.is_transient();
        let mut row = RowTexts::of(entry);
        if let Some(shape) = whole {
            let op = match &row.row {
                Some(_) => RowOp::Put,
                None => RowOp::Delete,
            };
            let text = row.text(op, &mut self.texts);
            self.push(shape, text, transient);
        }
        self.write_found(&mut row, found);
    }

    fn write_found(&mut self, row: &mut RowTexts<'_>, found: Found) {
        self.batch.outdated.extend(found.outdated);
        self.batch.unclear.extend(found.unclear);
        for (shape, RowEffect { op, transient }) in found.effects {
            if !row.suffices(&shape, op) {
                self.budget.leave_out(shape);
                continue;
            }
            let Some(text) = row.of_effect(&shape, op, &mut self.texts) else {
                self.batch.outdated.insert(shape);
                continue;
            };
            self.push(shape, text, transient);
        }
    }

    fn push(&mut self, shape: Shape, text: u32, transient: bool) {
        let bytes = self.texts.bytes_of(text);
        let changes = self.batch.shapes.entry(shape).or_default();
        changes.push(text, transient, bytes);
    }
}

/// What a text with metadata depends on: the operation, the table's fingerprint and the columns, none for all.
type OfColumns = (RowOp, String, Option<BTreeSet<usize>>);

/// The texts of one row's change, each written when it is first needed. They do not name the mutation, which
/// is told to its author alone.
#[derive(Debug)]
struct RowTexts<'a> {
    commit_id: CommitId,
    mutation_id: Option<MutationId>,
    key: &'a str,
    row: Option<&'a RawValue>,
    metadata: Option<&'a RowMetadata>,
    undo: Option<&'a [UndoRecord]>,
    /// By the number of the operation.
    written: [Option<u32>; 4],
    /// Puts of some columns, by the table's fingerprint and the columns.
    projected: HashMap<(String, BTreeSet<usize>), Option<u32>>,
    /// Puts and patches with metadata.
    with_metadata: HashMap<OfColumns, Option<u32>>,
    /// The deletion with its clock.
    deletion: Option<u32>,
}

impl<'a> RowTexts<'a> {
    fn of(entry: &'a NetChange) -> Self {
        Self {
            commit_id: entry.commit_id,
            mutation_id: entry.mutation_id,
            key: entry.key.as_deref().unwrap_or_default(),
            row: entry.row.as_deref(),
            metadata: entry.metadata.as_deref(),
            undo: entry.undo.as_deref(),
            written: [None; 4],
            projected: HashMap::new(),
            with_metadata: HashMap::new(),
            deletion: None,
        }
    }

    /// Whether all was read that a shape's readers are sent. What is known of a row beside its values is not, where the
    /// first shape that needs it was attached after the drain had begun.
    fn suffices(&self, shape: &Shape, op: RowOp) -> bool {
        let sends_records = || shape.selection().is_some_and(Selection::sends_records);
        let is_told = match op {
            RowOp::Put | RowOp::Patch => shape.has_metadata(),
            RowOp::Delete => sends_records(),
            RowOp::Leave => false,
        };
        self.metadata.is_some() || !is_told
    }

    /// Returns the text of what a shape's readers are sent; none when the row cannot be read as one of the shape's table.
    fn of_effect(&mut self, shape: &Shape, op: RowOp, texts: &mut TextsWriter) -> Option<u32> {
        match shape.selection() {
            Some(selection) if op.is_here() && selection.has_metadata() => {
                self.of_fields(selection, op, texts)
            }
            Some(selection) if op == RowOp::Delete && selection.sends_records() => {
                Some(self.deletion(selection, texts))
            }
            Some(selection) if op.is_here() => self.put(selection, texts),
            _ => Some(self.text(op, texts)),
        }
    }

    fn text(&mut self, op: RowOp, texts: &mut TextsWriter) -> u32 {
        if let Some(text) = self.written[op as usize] {
            return text;
        }
        let (key, mutation_id) = (self.key.to_owned(), None);
        let change = match (op, self.row) {
            (RowOp::Put | RowOp::Patch, Some(row)) => {
                put(key, row.to_owned(), RowMetadata::default())
            }
            (RowOp::Leave, _) => Change::Leave { key, mutation_id },
            (RowOp::Put | RowOp::Patch | RowOp::Delete, _) => Change::Delete {
                key,
                hlc: None,
                mutation_id,
            },
        };
        let text = texts.add(self.commit_id, self.mutation_id, &json::text(&change));
        self.written[op as usize] = Some(text);
        text
    }

    /// Returns a deletion with its clock.
    fn deletion(&mut self, selection: &Selection, texts: &mut TextsWriter) -> u32 {
        if let Some(text) = self.deletion {
            return text;
        }
        let change = selection.deletion_of(self.key.to_owned(), None, self.metadata);
        let text = texts.add(self.commit_id, self.mutation_id, &json::text(&change));
        *self.deletion.insert(text)
    }

    /// Returns a put of the selection's columns; none when the row cannot be read as one of the selection's table.
    fn put(&mut self, selection: &Selection, texts: &mut TextsWriter) -> Option<u32> {
        let columns = match self.row {
            Some(row) => selection.columns_of(row).ok()?,
            None => None,
        };
        let Some(columns) = columns else {
            return Some(self.text(RowOp::Put, texts));
        };
        let projection = (selection.fingerprint().to_owned(), columns.into_owned());
        let columns = projection.1.clone();
        *self.projected.entry(projection).or_insert_with(|| {
            let row = selection.project_to(self.row?, &columns).ok()?;
            let change = put(self.key.to_owned(), row, RowMetadata::default());
            Some(texts.add(self.commit_id, self.mutation_id, &json::text(&change)))
        })
    }

    /// Returns a put or a patch with metadata; none when the row cannot be read as one of the selection's table.
    fn of_fields(
        &mut self,
        selection: &Selection,
        op: RowOp,
        texts: &mut TextsWriter,
    ) -> Option<u32> {
        let (row, metadata) = (self.row?, self.metadata?);
        let columns = selection.columns_of(row).ok()?.map(Cow::into_owned);
        let of_columns = (op, selection.fingerprint().to_owned(), columns.clone());
        if let Some(written) = self.with_metadata.get(&of_columns) {
            return *written;
        }
        let change = selection.change_of(
            (op, self.undo),
            (self.key.to_owned(), None),
            (row, metadata),
            columns.as_ref(),
        );
        let change = change.ok();
        let text =
            change.map(|change| texts.add(self.commit_id, self.mutation_id, &json::text(&change)));
        self.with_metadata.insert(of_columns, text);
        text
    }
}

fn put(key: String, row: Box<RawValue>, metadata: RowMetadata) -> Change {
    Change::Put {
        key,
        row,
        metadata,
        mutation_id: None,
    }
}
