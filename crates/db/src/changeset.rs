//! Records of rows that merge by their fields, for other databases and from them.
//!
//! A record is a row with all that is known of it, so merging one is idempotent, from any sender and however often. What a
//! constraint forbids is *parked*: kept with the reason, tried again later, and in nobody's way.

use std::sync::Arc;

use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use merge::{Clock, Horizons, NodeId, Peers, Record};
use protocol::{Reject, RejectCode};
use sync_core::cursor::Position;
use sync_core::mutation::CheckedWrite;
use sync_core::mutation::fields::{Known, check_record, record_of};
use value::schema::Schema;

use crate::entity::{Entity, EntityMap};
use crate::error::{DbError, DbResult};
use crate::read::{Part, ReadStream, TOO_LARGE, unreadable};
use crate::write::{TableScope, TableWrite, stored_reject};

/// How many records one transaction merges at most.
pub const RECORDS_MERGED_MAX: usize = 1_000;

/// How many records may be parked for each entity. Beyond that something else is wrong, and merging stops.
pub const PARKED_MAX: i64 = 100_000;

/// How many records a chunk of a read has, and how many bytes about.
const CHUNK_RECORDS: usize = 500;
const CHUNK_BYTES: usize = 256 * 1024;

/// Records of an entity's rows, at one snapshot.
pub type RecordStream = ReadStream<(String, Known)>;

/// Of which rows what is known is read.
#[derive(Debug, Clone)]
pub(crate) enum Extent {
    /// Of all, and of those that are gone.
    All,
    /// Of those that have changed since a position.
    Since(Position),
    /// Of those of which something is known beside their values, and of those that are gone.
    Edited,
    /// Of those that are gone.
    Gone,
}

/// What a copy of rows that were never edited as fields has done.
#[derive(Debug, Default)]
pub struct CopiedRows {
    /// How many have been copied.
    pub rows: u64,
    /// The position of the source at which they were read, if all have been copied.
    pub position: Option<Position>,
}

/// The sum of the SHA-256 of rows, in which their order does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DigestSum {
    records: u64,
    parts: [u64; 4],
}

impl DigestSum {
    /// How many rows there are.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Adds a row's.
    pub fn add(&mut self, digest: &[u8; 32]) {
        self.records += 1;
        for (part, bytes) in self.parts.iter_mut().zip(digest.as_chunks::<8>().0) {
            *part = part.wrapping_add(u64::from_be_bytes(*bytes));
        }
    }

    /// Adds those of some rows, of which the parts have been summed up as signed numbers.
    #[cfg(feature = "postgres")]
    pub(crate) fn add_sums(&mut self, records: u64, sums: [i128; 4]) {
        self.records += records;
        for (part, sum) in self.parts.iter_mut().zip(sums) {
            let sum = sum.rem_euclid(1 << 64);
            *part = part.wrapping_add(u64::try_from(sum).unwrap_or_default());
        }
    }
}

/// A digest of which the database itself has computed the most part, from its own texts of the rows. Where two are the same,
/// so are the rows; rows of which the same is known in another form have another one.
#[derive(Debug)]
pub struct QuickDigest {
    /// The sum.
    pub sum: DigestSum,
    /// At which position.
    pub position: Position,
}

#[cfg(feature = "postgres")]
impl QuickDigest {
    pub(crate) fn new(position: Position) -> Self {
        Self {
            sum: DigestSum::default(),
            position,
        }
    }
}

/// Another database, as a record's sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub NodeId);

/// What is stored of an entity's peers.
#[derive(Debug, Default)]
pub(crate) struct StoredPeers {
    /// The database's own name.
    pub(crate) node: String,
    pub(crate) peers: Vec<String>,
    /// Who has passed, whose, and up to where.
    pub(crate) horizons: Vec<(String, String, String)>,
}

impl StoredPeers {
    pub(crate) fn read(self) -> DbResult<Peers> {
        let node = |text: &String| NodeId::new(text).map_err(|error| unreadable(&error));
        let peers: Vec<NodeId> = self.peers.iter().map(node).collect::<DbResult<_>>()?;
        let horizons = self.horizons.iter().map(|(who, whose, clock)| {
            let clock = Clock::read(clock).map_err(|error| unreadable(&error))?;
            Ok((node(who)?, node(whose)?, clock))
        });
        let horizons: Horizons = horizons.collect::<DbResult<_>>()?;
        Ok(Peers::new(node(&self.node)?, peers, horizons))
    }
}

/// Who has passed, whose, and up to where, as it is stored.
pub(crate) fn horizons_of(horizons: &Horizons) -> Vec<(String, String, String)> {
    let all = horizons.iter().map(|(who, whose, clock)| {
        let [who, whose, clock] = [who.as_str(), whose.as_str(), clock.as_str()].map(str::to_owned);
        (who, whose, clock)
    });
    all.collect()
}

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
    #[diesel(sql_type = Nullable<Text>)]
    newest: Option<String>,
}

/// What a line says of its row.
pub(crate) fn known_of(line: Line) -> Option<(String, Known)> {
    let known = Known {
        row: line.found,
        metadata: line.metadata,
        image: line.image,
        newest: line.newest,
        ..Known::default()
    };
    Some((line.key?, known))
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
        let (key, known) = known_of(line)?;
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
