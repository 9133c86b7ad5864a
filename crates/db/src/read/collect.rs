//! Collects the lines of a read into the parts of its stream.

use std::sync::Arc;

use protocol::{MutationId, RowImage, RowMetadata};
use serde_json::value::RawValue;
use sync_core::cursor::CommitId;
use sync_core::log::{ChangeKind, NetChange, UndoRecord};
use sync_core::metadata;
use sync_core::shape::Shape;

#[cfg(feature = "sqlite")]
use super::ALONE;
use super::{
    Fingerprints, Part, ReadStart, fingerprints, position, raw, reason_in_place_of_row, unreadable,
};
use crate::entity::Entity;
use crate::error::DbResult;
use crate::health::{Health, Unreadable};

/// The maximum number of items in a chunk; a balance between memory and wake-ups.
pub(crate) const ITEMS_PER_CHUNK: usize = 512;
/// A chunk that has reached this size is sent early.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// One line of [`super::sql::changes_sql`]: the first three columns are the same in every line; the others
/// are null when there is no entry.
#[derive(Debug)]
pub(crate) struct ChangeRow {
    position: Option<String>,
    floor: Option<String>,
    fingerprints: Option<String>,
    id: Option<i64>,
    commit_id: Option<i64>,
    entity: Option<String>,
    key: Option<String>,
    action: Option<String>,
    created: Option<i64>,
    deleted: Option<i64>,
    truncated_at: Option<i64>,
    client_id: Option<String>,
    mutation: Option<i64>,
    row: Option<String>,
    undo: Option<String>,
    metadata: Option<String>,
}

impl ChangeRow {
    /// Reads a line through functions that return its texts and numbers by position and name.
    pub(crate) fn read<E>(
        text: impl Fn(usize, &str) -> Result<Option<String>, E>,
        number: impl Fn(usize, &str) -> Result<Option<i64>, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            position: text(0, "position")?,
            floor: text(1, "floor")?,
            fingerprints: text(2, "fingerprints")?,
            id: number(3, "id")?,
            commit_id: number(4, "commit_id")?,
            entity: text(5, "entity")?,
            key: text(6, "key")?,
            action: text(7, "action")?,
            created: number(8, "created")?,
            deleted: number(9, "deleted")?,
            truncated_at: number(10, "truncated_at")?,
            client_id: text(11, "client_id")?,
            mutation: number(12, "mutation")?,
            row: text(13, "row")?,
            undo: text(14, "undo")?,
            metadata: text(15, "metadata")?,
        })
    }
}

impl ChangeRow {
    /// Whether the database has no floor, because somebody emptied the engine's tables.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_without_floor(&self) -> bool {
        self.floor.is_none()
    }

    /// Reads the row by itself, by entity and key, if the statement left that to be done.
    #[cfg(feature = "sqlite")]
    pub(crate) fn read_alone<E>(
        &mut self,
        read: impl FnOnce(&str, &str) -> Result<Option<String>, E>,
    ) -> Result<(), E> {
        if let (Some(ALONE), Some(entity), Some(key)) =
            (self.row.as_deref(), &self.entity, &self.key)
        {
            self.row = read(entity, key)?;
        }
        Ok(())
    }
}

/// The first entity whose fingerprint is not the expected one.
fn outdated(expected: &Fingerprints, found: Option<&str>) -> DbResult<Option<String>> {
    let found: Fingerprints = match found {
        Some(found) => serde_json::from_str(found).map_err(|error| unreadable(&error))?,
        None => Fingerprints::new(),
    };
    let changed = expected
        .iter()
        .find(|(entity, fingerprint)| found.get(*entity) != Some(fingerprint));
    Ok(changed.map(|(entity, _)| entity.clone()))
}

/// Collects the lines of a read of changes into parts.
pub(crate) struct ChangesCollector {
    commit_id: fn(i64) -> CommitId,
    expected: Fingerprints,
    health: Arc<Health>,
    started: bool,
    entries: Vec<NetChange>,
    bytes: usize,
}

impl ChangesCollector {
    /// `expected` are the fingerprints for which the statement was generated; empty when they are not
    /// checked.
    pub(crate) fn new(
        commit_id: fn(i64) -> CommitId,
        expected: Fingerprints,
        health: Arc<Health>,
    ) -> Self {
        Self {
            commit_id,
            expected,
            health,
            started: false,
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes one line and returns the parts that it completes.
    pub(crate) fn take(&mut self, line: ChangeRow) -> DbResult<Vec<Part<NetChange>>> {
        let mut parts = Vec::new();
        if !self.started {
            self.started = true;
            if let Some(entity) = outdated(&self.expected, line.fingerprints.as_deref())? {
                return Ok(vec![Part::Outdated(entity)]);
            }
            parts.push(start(line.position.as_deref(), line.floor.as_deref())?);
        }
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let other_bytes = length(&line.undo) + length(&line.metadata);
        if let Some(entry) = entry(line, self.commit_id, &self.health)? {
            self.bytes += entry.row.as_ref().map_or(0, |row| row.get().len()) + other_bytes;
            self.entries.push(entry);
        }
        if self.entries.len() >= ITEMS_PER_CHUNK || self.bytes >= CHUNK_BYTES {
            parts.extend(self.finish());
        }
        Ok(parts)
    }

    /// The last chunk, unless it is empty.
    pub(crate) fn finish(&mut self) -> Option<Part<NetChange>> {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        (!entries.is_empty()).then_some(Part::Items(entries))
    }
}

/// Collects the lines of a read of rows into parts. The first line contains the position and the floor.
pub(crate) struct RowsCollector {
    entity: Arc<Entity>,
    shape: Shape,
    /// Whether the projection is still to be made, of rows that were read by themselves.
    projects: bool,
    expected: Fingerprints,
    health: Arc<Health>,
    rows: Vec<RowImage>,
    bytes: usize,
}

/// One line of a read of rows: either the start's columns are set, or the row's.
#[derive(Debug)]
pub(crate) struct RowLine {
    position: Option<String>,
    floor: Option<String>,
    fingerprints: Option<String>,
    key: Option<String>,
    row: Option<String>,
    metadata: Option<String>,
}

impl RowLine {
    /// The line with its row, which was read by itself.
    #[cfg(feature = "sqlite")]
    pub(crate) fn alone(self, row: Option<String>) -> Self {
        Self { row, ..self }
    }

    /// The key, if the row must be read by itself.
    #[cfg(feature = "sqlite")]
    pub(crate) fn key_alone(&self) -> Option<&str> {
        let is_alone = self.row.as_deref() == Some(ALONE);
        self.key.as_deref().filter(|_| is_alone)
    }

    /// Reads a line through a function that returns its texts by name.
    pub(crate) fn read<E>(text: impl Fn(&str) -> Result<Option<String>, E>) -> Result<Self, E> {
        Ok(Self {
            position: text("position")?,
            floor: text("floor")?,
            fingerprints: text("fingerprints")?,
            key: text("key")?,
            row: text("row")?,
            metadata: text("metadata")?,
        })
    }
}

/// The first part of a read.
fn start<T>(position: Option<&str>, floor: Option<&str>) -> DbResult<Part<T>> {
    let read = |text: Option<&str>| self::position(text.unwrap_or_default());
    Ok(Part::Start(ReadStart {
        position: read(position)?,
        floor: read(floor)?,
    }))
}

impl RowsCollector {
    /// A collector for a statement that was generated for this entity and shape, and relies on the tables of some.
    pub(crate) fn new(
        (entity, shape): (&Arc<Entity>, &Shape),
        relies_on: &[Arc<Entity>],
        health: Arc<Health>,
    ) -> Self {
        Self {
            entity: entity.clone(),
            shape: shape.clone(),
            projects: false,
            expected: fingerprints(relies_on),
            health,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// The same for a statement whose rows have all columns.
    pub(crate) fn projecting(self) -> Self {
        Self {
            projects: true,
            ..self
        }
    }

    /// Takes one line and returns the part that it completes.
    pub(crate) fn take(&mut self, line: RowLine) -> DbResult<Option<Part<RowImage>>> {
        match line {
            RowLine {
                position: Some(position),
                floor: Some(floor),
                fingerprints,
                ..
            } => Ok(Some(
                match outdated(&self.expected, fingerprints.as_deref())? {
                    Some(entity) => Part::Outdated(entity),
                    None => start(Some(&position), Some(&floor))?,
                },
            )),
            RowLine {
                key: Some(key),
                row: Some(row),
                metadata,
                ..
            } => {
                let metadata = metadata.as_deref();
                let bytes = metadata.map_or(0, str::len);
                let read = readable(row).and_then(|row| self.project(row, metadata));
                let (row, metadata) = match read {
                    Ok(row) => {
                        self.health.row_readable(&self.entity.schema.entity, &key);
                        row
                    }
                    Err(reason) => {
                        self.health
                            .row_unreadable(&self.entity.schema.entity, &key, reason);
                        return Ok(None);
                    }
                };
                self.bytes += row.get().len() + bytes;
                self.rows.push(RowImage { key, row, metadata });
                let full = self.rows.len() >= ITEMS_PER_CHUNK || self.bytes >= CHUNK_BYTES;
                Ok(if full { self.finish() } else { None })
            }
            // A table in SQLite may contain a row whose key is null; nothing identifies it, so it is not
            // sent.
            _ => Ok(None),
        }
    }

    /// What is sent of a row and of its metadata.
    fn project(
        &self,
        row: Box<RawValue>,
        kept: Option<&str>,
    ) -> Result<(Box<RawValue>, RowMetadata), Unreadable> {
        let selection = self.shape.selection();
        let Some(selection) = selection.filter(|_| self.projects || kept.is_some()) else {
            return Ok((row, RowMetadata::default()));
        };
        let columns = selection.columns_of(&row);
        let columns = columns.map_err(|_| Unreadable::Failing)?;
        let columns = columns.as_deref();
        let metadata = kept.map(|kept| {
            let kept = read_metadata(kept, &self.entity.schema.entity);
            selection.metadata_of(&kept, columns)
        });
        let row = match columns.filter(|_| self.projects) {
            Some(columns) => {
                let projected = selection.project_to(&row, columns);
                projected.map_err(|_| Unreadable::Failing)?
            }
            None => row,
        };
        Ok((row, metadata.unwrap_or_default()))
    }

    /// The last chunk, unless it is empty.
    pub(crate) fn finish(&mut self) -> Option<Part<RowImage>> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        (!rows.is_empty()).then_some(Part::Items(rows))
    }
}

fn entry(
    mut line: ChangeRow,
    commit_id: fn(i64) -> CommitId,
    health: &Health,
) -> DbResult<Option<NetChange>> {
    let (Some(id), Some(commit), Some(entity), Some(action)) =
        (line.id, line.commit_id, line.entity, line.action)
    else {
        return Ok(None);
    };
    let mut kind = kind(&action)?;
    let mut row = None;
    if kind == ChangeKind::SchemaChange {
        health.check_soon(&entity);
    }
    if let Some(key) = &line.key {
        match line.row.take().map(readable).transpose() {
            Ok(found) => {
                row = found;
                if row.is_some() {
                    health.row_readable(&entity, key);
                } else {
                    health.row_gone(&entity, key);
                }
            }
            // Where too many rows cannot be read, nobody can be told which.
            Err(reason) if health.row_unreadable(&entity, key, reason) => {
                (line.key, kind) = (None, ChangeKind::Unread);
            }
            Err(_) => {}
        }
    }
    // Any writer can change the setting that carries the mutation id, so nonsense counts as no mutation.
    let mutation_id = line
        .client_id
        .and_then(|client| client.parse().ok())
        .zip(line.mutation.and_then(|m| u64::try_from(m).ok()));
    let row_exists = row.is_some();
    let metadata = line
        .metadata
        .map(|kept| Box::new(read_metadata(&kept, &entity)));
    Ok(Some(NetChange {
        id,
        commit_id: commit_id(commit),
        entity,
        key: line.key,
        kind,
        created: line.created.unwrap_or_default(),
        deleted: line.deleted.unwrap_or_default(),
        truncated_at: line.truncated_at,
        mutation_id: mutation_id.map(|(client_id, mutation)| MutationId {
            client_id,
            mutation,
        }),
        row,
        metadata,
        undo: line
            .undo
            .map(|records| undo_records(&records, line.truncated_at, row_exists))
            .transpose()?,
    }))
}

/// What is kept of a row beside its values. Where somebody has written what is no metadata there, the row has none.
pub(super) fn read_metadata(kept: &str, entity: &str) -> RowMetadata {
    metadata::read(kept).unwrap_or_else(|_| {
        // The message may contain what is kept.
        tracing::error!(entity, "a row's metadata cannot be read");
        RowMetadata::default()
    })
}

/// The row's JSON, or why it cannot be read.
fn readable(text: String) -> Result<Box<RawValue>, Unreadable> {
    match reason_in_place_of_row(&text) {
        Some(reason) => Err(reason),
        None => raw(text).map_err(|_| Unreadable::Failing),
    }
}

/// Parses a row's undo records and keeps those after the newest truncate. If none is left, but the row exists, it was
/// created after the truncate and logged before it.
fn undo_records(
    records: &str,
    truncated_at: Option<i64>,
    row_exists: bool,
) -> DbResult<Vec<UndoRecord>> {
    /// A record as the statement writes it: id, transaction, action, old.
    type Written = (i64, Option<u64>, String, Option<Box<RawValue>>);
    let mut records: Vec<Written> =
        serde_json::from_str(records).map_err(|error| unreadable(&error))?;
    let since = truncated_at.unwrap_or_default();
    if let Some((id, transaction, ..)) = records.first()
        && *id < since
        && row_exists
    {
        return Ok(vec![UndoRecord {
            id: *id,
            transaction: *transaction,
            kind: ChangeKind::Create,
            old: None,
        }]);
    }
    records.retain(|(id, ..)| *id > since);
    records
        .into_iter()
        .map(|(id, transaction, word, old)| {
            Ok(UndoRecord {
                id,
                transaction,
                kind: kind(&word)?,
                old,
            })
        })
        .collect()
}

fn kind(word: &str) -> DbResult<ChangeKind> {
    word.parse()
        .map_err(|error: sync_core::log::ChangeKindError| unreadable(&error))
}
