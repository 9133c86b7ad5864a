//! Records of rows that merge by their fields, for other databases and from them.
//!
//! A record is a row with all that is known of it, so merging one is idempotent, from any sender and however often. What a
//! constraint forbids is *parked*: kept with the reason, tried again later, and in nobody's way.

use std::sync::Arc;

use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use merge::{NodeId, Record};
use protocol::{Reject, RejectCode};
use sync_core::cursor::{Cursor, Position};
use sync_core::mutation::CheckedWrite;
use sync_core::mutation::fields::{Known, check_record, record_of};
use value::schema::Schema;

use crate::entity::{Entity, EntityMap};
use crate::error::{DbError, DbResult};
use crate::read::{Part, ReadStream, TOO_LARGE};
use crate::write::{TableScope, TableWrite, stored_reject};
use crate::{DbPool, on_backend};

/// How many records one transaction merges at most.
pub const RECORDS_MERGED_MAX: usize = 1_000;

/// How many records may be parked for each entity. Beyond that something else is wrong, and merging stops.
pub const PARKED_MAX: i64 = 100_000;

/// How many records a chunk of a read has, and how many bytes about.
const CHUNK_RECORDS: usize = 500;
const CHUNK_BYTES: usize = 256 * 1024;

/// Records of an entity's rows, at one snapshot.
pub type RecordStream = ReadStream<(String, Known)>;

/// Another database, as a record's sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub NodeId);

/// A record that is parked.
#[derive(Debug, Clone, PartialEq)]
pub struct Parked {
    /// The row's canonical key.
    pub key: String,
    /// Whose record it is.
    pub node: String,
    /// The record, as JSON.
    pub record: String,
    /// Why it cannot be merged.
    pub reject: Reject,
}

/// What became of a record: whether it has changed anything, or why it cannot be merged.
pub type MergedRecord = Result<bool, Reject>;

impl DbPool {
    /// The name under which the database stamps.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn node(&self) -> DbResult<NodeId> {
        let node = on_backend!(self, |pool, backend| {
            backend::changeset::node(&mut *pool.get().await?).await
        })?;
        NodeId::new(&node).map_err(|error| crate::read::unreadable(&error))
    }

    /// Starts a read of what is known of an entity's rows, and of those that are gone: of all, or of those that have
    /// changed since a position.
    ///
    /// # Errors
    /// When its rows do not merge by their fields.
    pub fn read_records(
        &self,
        entity: &Arc<Entity>,
        since: Option<Position>,
    ) -> DbResult<RecordStream> {
        if entity.fields.is_none() || entity.relation.is_none() {
            return Err(no_fields(&entity.schema));
        }
        Ok(on_backend!(self, |pool, backend| {
            backend::changeset::read_records(pool, entity.clone(), since)
        }))
    }

    /// Merges checked records of different rows, at most [`RECORDS_MERGED_MAX`], in one transaction. The answers are in
    /// their order.
    ///
    /// # Errors
    /// When the database fails; nothing has been merged then, or it is unknown whether.
    pub async fn merge_records(
        &self,
        entity: &Arc<Entity>,
        records: Vec<CheckedWrite>,
    ) -> DbResult<Vec<MergedRecord>> {
        let writes = records.into_iter().map(|one| write_of(entity, one));
        let writes: Vec<TableWrite> = writes.collect::<DbResult<_>>()?;
        on_backend!(self, |pool, backend| {
            backend::changeset::merge_records(pool, writes).await
        })
    }

    /// Whether rows of another database have been merged here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_peers(&self) -> DbResult<bool> {
        on_backend!(self, |pool, backend| {
            backend::changeset::has_peers(&mut *pool.get().await?).await
        })
    }

    /// How far another database's rows of an entity have been merged; none where that has not begun.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reached(&self, peer: &Peer, entity: &str) -> DbResult<Option<Cursor>> {
        let (node, entity) = (peer.0.as_str().to_owned(), entity.to_owned());
        let reached = on_backend!(self, |pool, backend| {
            backend::changeset::reached(&mut *pool.get().await?, node, entity).await
        })?;
        // What cannot be read is as good as nothing: then all is merged again.
        Ok(reached.and_then(|text| text.parse().ok()))
    }

    /// Stores how far another database's rows of an entity have been merged.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reach(&self, peer: &Peer, entity: &str, cursor: &Cursor) -> DbResult<()> {
        let (node, entity) = (peer.0.as_str().to_owned(), entity.to_owned());
        let cursor = cursor.to_string();
        on_backend!(self, |pool, backend| {
            backend::changeset::reach(&mut *pool.get().await?, node, entity, cursor).await
        })
    }

    /// Parks records of another database, and forgets those of these rows that were parked and are merged now.
    ///
    /// # Errors
    /// When the database fails, or too many are parked.
    pub async fn park(
        &self,
        peer: &Peer,
        entity: &str,
        parked: Vec<Parked>,
        merged: Vec<String>,
    ) -> DbResult<()> {
        let (node, entity) = (peer.0.as_str().to_owned(), entity.to_owned());
        let name = entity.clone();
        let count = on_backend!(self, |pool, backend| {
            backend::changeset::park(&mut *pool.get().await?, node, name, parked, merged).await
        })?;
        check_parked(count, &entity)
    }

    /// The parked records of an entity with keys after this one, in the order of their keys, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn parked(
        &self,
        entity: &str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> DbResult<Vec<Parked>> {
        let entity = entity.to_owned();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        on_backend!(self, |pool, backend| {
            backend::changeset::parked(&mut *pool.get().await?, entity, after, limit).await
        })
    }
}

/// The record of a row that was read; none where nothing is known of it.
pub fn record(entity: &Entity, key: &str, known: &Known) -> Option<Record> {
    record_of(&entity.schema, entity.fields.as_deref()?, key, known)
}

/// Checks a record against the table.
///
/// # Errors
/// When a value does not fit its column.
pub fn checked(entity: &Entity, record: Record) -> Result<CheckedWrite, Reject> {
    let rules = entity.fields.clone().unwrap_or_default();
    check_record(record, &entity.schema, &rules)
}

/// The write that merges a record.
pub(crate) fn write_of(entity: &Arc<Entity>, checked: CheckedWrite) -> DbResult<TableWrite> {
    let write = TableWrite::new(
        checked,
        entity.clone(),
        TableScope::default(),
        EntityMap::default(),
    );
    write.ok_or_else(|| no_fields(&entity.schema))
}

/// The error for an entity whose rows have no records.
pub(crate) fn no_fields(schema: &Schema) -> DbError {
    DbError::Unsupported(format!(
        "the rows of {:?} do not merge by their fields, so they have no records",
        schema.entity
    ))
}

/// The reject of a record that the table forbids, nobody knows more.
pub(crate) fn forbidden() -> Reject {
    let message = "the table or a rule of it forbids the row";
    Reject::new(RejectCode::Constraint, message)
}

/// A line of a read of records.
#[derive(QueryableByName)]
pub(crate) struct Line {
    /// The row's canonical key; none for a row without one, which is nobody's.
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    found: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    metadata: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    image: Option<String>,
}

/// Where a read of records begins.
#[derive(QueryableByName)]
pub(crate) struct Start {
    #[diesel(sql_type = Text)]
    pub(crate) position: String,
    #[diesel(sql_type = Text)]
    pub(crate) floor: String,
    /// That of the table for which the capture was made.
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) fingerprint: Option<String>,
}

/// A parked record as it is stored: the key, the sender, the record and the reject.
pub(crate) fn parked_of(
    (key, node, record, reject): (String, String, String, String),
) -> DbResult<Parked> {
    let reject = stored_reject(&reject)?;
    Ok(Parked {
        key,
        node,
        record,
        reject,
    })
}

/// Collects what a read finds into parts.
#[derive(Default)]
pub(crate) struct Chunk {
    rows: Vec<(String, Known)>,
    bytes: usize,
}

impl Chunk {
    /// Takes a row, and returns the part that it completes.
    pub(crate) fn take(&mut self, entity: &str, line: Line) -> Option<Part<(String, Known)>> {
        let key = line.key?;
        let known = Known {
            row: line.found,
            metadata: line.metadata,
            image: line.image,
            ..Known::default()
        };
        if known.row.as_deref() == Some(TOO_LARGE) {
            tracing::warn!(
                entity,
                key,
                "a row is too large for a changeset, and is left out"
            );
            return None;
        }
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.bytes += length(&known.row) + length(&known.metadata) + length(&known.image);
        self.rows.push((key, known));
        (self.rows.len() >= CHUNK_RECORDS || self.bytes >= CHUNK_BYTES)
            .then(|| self.finish())
            .flatten()
    }

    /// The last part, unless it is empty.
    pub(crate) fn finish(&mut self) -> Option<Part<(String, Known)>> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        (!rows.is_empty()).then_some(Part::Items(rows))
    }
}

/// The error where more than [`PARKED_MAX`] records of an entity are parked.
pub(crate) fn check_parked(count: i64, entity: &str) -> DbResult<()> {
    if count <= PARKED_MAX {
        return Ok(());
    }
    Err(DbError::Unsupported(format!(
        "more than {PARKED_MAX} records of {entity:?} could not be merged; see what is parked"
    )))
}
