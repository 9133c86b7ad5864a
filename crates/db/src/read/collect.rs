//! Collects the lines of a read into the parts of its stream.

use std::sync::Arc;

use protocol::{MutationId, RowImage};
use serde_json::value::RawValue;
use sync_core::cursor::CommitId;
use sync_core::log::{ChangeKind, NetChange, UndoRecord};
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
        let undo_bytes = line.undo.as_ref().map_or(0, String::len);
        if let Some(entry) = entry(line, self.commit_id, &self.health)? {
            self.bytes += entry.row.as_ref().map_or(0, |row| row.get().len()) + undo_bytes;
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
    /// The projection that is still to be made, of rows that were read by themselves.
    projection: Option<Shape>,
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
}

impl RowLine {
    /// The line of a row that was read by itself.
    #[cfg(feature = "sqlite")]
    pub(crate) fn alone(key: String, row: Option<String>) -> Self {
        Self {
            position: None,
            floor: None,
            fingerprints: None,
            key: Some(key),
            row,
        }
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
    /// A collector for a statement that was generated for this entity, and relies on the tables of some.
    pub(crate) fn new(
        entity: &Arc<Entity>,
        relies_on: &[Arc<Entity>],
        health: Arc<Health>,
    ) -> Self {
        Self {
            entity: entity.clone(),
            projection: None,
            expected: fingerprints(relies_on),
            health,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// The same for a statement whose rows have all columns.
    pub(crate) fn projecting(self, shape: &Shape) -> Self {
        Self {
            projection: Some(shape.clone()),
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
                ..
            } => {
                let read = readable(row).and_then(|row| self.project(row));
                let row = match read {
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
                self.bytes += row.get().len();
                self.rows.push(RowImage { key, row });
                let full = self.rows.len() >= ITEMS_PER_CHUNK || self.bytes >= CHUNK_BYTES;
                Ok(if full { self.finish() } else { None })
            }
            // A table in SQLite may contain a row whose key is null; nothing identifies it, so it is not
            // sent.
            _ => Ok(None),
        }
    }

    fn project(&self, row: Box<RawValue>) -> Result<Box<RawValue>, Unreadable> {
        let Some(selection) = self.projection.as_ref().and_then(Shape::selection) else {
            return Ok(row);
        };
        let projected = selection.project(&row);
        projected
            .map(|projected| projected.unwrap_or(row))
            .map_err(|_| Unreadable::Failing)
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
        undo: line
            .undo
            .map(|records| undo_records(&records, line.truncated_at, row_exists))
            .transpose()?,
    }))
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
