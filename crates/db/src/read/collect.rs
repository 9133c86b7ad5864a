//! Collects the lines of a read into the parts of its stream.

use std::sync::Arc;

use protocol::{MutationId, RowImage};
use serde_json::value::RawValue;
use sync_core::cursor::CommitId;
use sync_core::log::{ChangeKind, NetChange, UndoRecord};

use super::{Fingerprints, Part, ReadStart, fingerprints, position, raw, unreadable};
use crate::entity::Entity;
use crate::error::DbResult;

/// The maximum number of items in a chunk; a balance between memory and wake-ups.
const ITEMS_PER_CHUNK: usize = 512;
/// A chunk that has reached this size is sent early.
const CHUNK_BYTES: usize = 256 * 1024;

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
    started: bool,
    entries: Vec<NetChange>,
    bytes: usize,
}

impl ChangesCollector {
    /// `expected` are the fingerprints for which the statement was generated; empty when they are not
    /// checked.
    pub(crate) fn new(commit_id: fn(i64) -> CommitId, expected: Fingerprints) -> Self {
        Self {
            commit_id,
            expected,
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
        if let Some(entry) = entry(line, self.commit_id)? {
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
    expected: Fingerprints,
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
    /// A collector for a statement that was generated for this entity.
    pub(crate) fn new(entity: &Arc<Entity>) -> Self {
        Self {
            expected: fingerprints([entity]),
            rows: Vec::new(),
            bytes: 0,
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
                self.bytes += row.len();
                self.rows.push(RowImage {
                    key,
                    row: raw(row)?,
                });
                let full = self.rows.len() >= ITEMS_PER_CHUNK || self.bytes >= CHUNK_BYTES;
                Ok(if full { self.finish() } else { None })
            }
            // A table in SQLite may contain a row whose key is null; nothing identifies it, so it is not
            // sent.
            _ => Ok(None),
        }
    }

    /// The last chunk, unless it is empty.
    pub(crate) fn finish(&mut self) -> Option<Part<RowImage>> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        (!rows.is_empty()).then_some(Part::Items(rows))
    }
}

fn entry(line: ChangeRow, commit_id: fn(i64) -> CommitId) -> DbResult<Option<NetChange>> {
    let (Some(id), Some(commit), Some(entity), Some(action)) =
        (line.id, line.commit_id, line.entity, line.action)
    else {
        return Ok(None);
    };
    // Any writer can change the setting that carries the mutation id, so nonsense counts as no mutation.
    let mutation_id = line
        .client_id
        .and_then(|client| client.parse().ok())
        .zip(line.mutation.and_then(|m| u64::try_from(m).ok()));
    Ok(Some(NetChange {
        id,
        commit_id: commit_id(commit),
        entity,
        key: line.key,
        kind: kind(&action)?,
        created: line.created.unwrap_or_default(),
        deleted: line.deleted.unwrap_or_default(),
        truncated_at: line.truncated_at,
        mutation_id: mutation_id.map(|(client_id, mutation)| MutationId {
            client_id,
            mutation,
        }),
        row: line.row.map(raw).transpose()?,
        undo: line
            .undo
            .map(|records| undo_records(&records, line.truncated_at))
            .transpose()?,
    }))
}

/// Parses a row's undo records and keeps those after the newest truncate.
fn undo_records(records: &str, truncated_at: Option<i64>) -> DbResult<Vec<UndoRecord>> {
    /// A record as the statement writes it: id, transaction, action, old.
    type Written = (i64, Option<u64>, String, Option<Box<RawValue>>);
    let records: Vec<Written> =
        serde_json::from_str(records).map_err(|error| unreadable(&error))?;
    let since = truncated_at.unwrap_or_default();
    let records = records.into_iter().filter(|(id, ..)| *id > since);
    records
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
