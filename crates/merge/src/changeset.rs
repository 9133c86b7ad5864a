//! Changesets: rows with all that is known of them, by which databases come together.
//!
//! Their JSON is that of the CRDT-over-SQL family: an array of records for each table, each record its columns with
//! `is_deleted`, `hlc`, `node_id` and `modified`. What the family does not know (the version, whose changeset it is, a
//! row's metadata) stands under one name that no table and no column has, [`RESERVED`]; a changeset of the family comes, and
//! goes, without.
//!
//! A record is a whole row, not a difference, and merging is idempotent: pages may come in any order, twice, or again after
//! a break. A page is good or bad as a whole, before anything of it is applied.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::{Clock, NodeId};
use crate::hybrid::AHEAD_MS_MAX;
use crate::metadata::{Metadata, RowError};
use crate::peers::Horizons;
use crate::row::Row;
use crate::rules::Rules;
use crate::write::{Edit, Site, Write};

/// The name of what the family does not know.
pub const RESERVED: &str = "_rhtmx_sync";

/// The version of the form.
pub const CHANGESET_VERSION: u32 = 1;

/// How many records a page may have.
pub const RECORDS_MAX: usize = 10_000;

/// Whose page it is, and what follows from having all pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`CHANGESET_VERSION`]
    pub version: u32,
    /// The database whose rows they are.
    pub node: NodeId,
    /// The newest `modified` of that database that the pages up to this one have, if they leave nothing out: who has
    /// merged them asks for what was modified since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Clock>,
    /// Of the last page: up to where the database has everything that any database will ever have admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizons: Option<Horizons>,
    /// Of the last page, if all pages together leave nothing out: the cursor of that database from which the next
    /// changeset goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A row in a changeset.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its columns, as far as they are given.
    pub columns: Map<String, Value>,
    /// Whether it is a tombstone.
    pub is_deleted: bool,
    /// The newest clock in it.
    pub hlc: Clock,
    /// When its database took it up, in that database's own clocks.
    pub modified: Option<Clock>,
    /// What is known of it beside its columns; none from the family.
    pub metadata: Option<Metadata>,
}

/// A page of a changeset.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changeset {
    /// None from the family.
    pub header: Option<Header>,
    /// The records by their tables.
    pub records: BTreeMap<String, Vec<Record>>,
}

/// A table that changesets may name.
#[derive(Debug, Clone, Default)]
pub struct TableNames {
    /// Its columns.
    pub columns: BTreeSet<String>,
    /// Those of its key, which every record has.
    pub key: Vec<String>,
}

/// What is wrong with a changeset, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind}", place(.table.as_deref(), *.record, .column.as_deref()))]
pub struct ChangesetError {
    /// The table.
    pub table: Option<String>,
    /// The record's place in its table, from 0.
    pub record: Option<usize>,
    /// The column.
    pub column: Option<String>,
    /// What is wrong.
    pub kind: ChangesetErrorKind,
}

/// What can be wrong with a changeset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangesetErrorKind {
    /// It is no JSON; most often it was cut off.
    #[error("it is not JSON, or was cut off")]
    Cut,
    /// Something has another form than it must.
    #[error("it has another form")]
    Malformed,
    /// Another version.
    #[error("its version is not {CHANGESET_VERSION}")]
    Version,
    /// More than [`RECORDS_MAX`] records.
    #[error("a page has at most {RECORDS_MAX} records")]
    TooLarge,
    /// No such table is synced.
    #[error("no such table is synced")]
    UnknownTable,
    /// The table has no such column.
    #[error("the table has no such column")]
    UnknownColumn,
    /// The key is missing, or null.
    #[error("the key is missing")]
    NoKey,
    /// The page has the row twice.
    #[error("the row is there twice")]
    Repeated,
    /// A text has a null byte, which no database takes.
    #[error("a text has a null byte")]
    NullByte,
    /// A clock is none.
    #[error("it is no clock")]
    Clock,
    /// The metadata is none, or not that of these columns.
    #[error("the metadata does not fit")]
    Metadata,
}

fn place(table: Option<&str>, record: Option<usize>, column: Option<&str>) -> String {
    let mut place = table.map_or_else(
        || "changeset".to_owned(),
        |table| format!("table {table:?}"),
    );
    if let Some(record) = record {
        place.push_str(&format!(", record {record}"));
    }
    if let Some(column) = column {
        place.push_str(&format!(", column {column:?}"));
    }
    place
}

impl From<ChangesetErrorKind> for ChangesetError {
    fn from(kind: ChangesetErrorKind) -> Self {
        Self {
            table: None,
            record: None,
            column: None,
            kind,
        }
    }
}

impl Record {
    /// The record of a row. Of one that is deleted under [`Deletes::Win`](crate::Deletes::Win) only the key is left.
    pub fn of(
        key: &Map<String, Value>,
        row: &Row,
        modified: Option<Clock>,
        rules: &Rules,
    ) -> Option<Self> {
        let mut columns = row.values();
        for (column, value) in key {
            columns.insert(column.clone(), value.clone());
        }
        Some(Self {
            columns,
            is_deleted: !row.is_alive(rules),
            hlc: row.newest()?.clone(),
            modified,
            metadata: Some(row.metadata()),
        })
    }

    /// What the record makes of the row that is known.
    ///
    /// A record of the family has no births. It is a write of all its columns where the row is there, else a creation: so
    /// it is one database that takes up a node's records, and hands them on with metadata.
    ///
    /// # Errors
    /// When a value does not fit its column, or the metadata does not fit the columns.
    pub fn merge(
        &self,
        known: Option<&Row>,
        key: &[String],
        rules: &Rules,
    ) -> Result<Row, RowError> {
        let mut values = self.columns.clone();
        values.retain(|column, _| !key.contains(column));
        let part = match &self.metadata {
            // Of a tombstone without a birth, no values are known.
            Some(metadata) => Row::new(metadata, &values, rules)?,
            None => {
                let born = known.filter(|known| known.is_alive(rules) && known.is_whole());
                let edit = match (self.is_deleted, born) {
                    (true, _) => Edit::Delete,
                    (false, Some(_)) => Edit::Update(values),
                    (false, None) => Edit::Create(values),
                };
                let born = born.and_then(Row::born).cloned();
                let write = Write {
                    clock: self.hlc.clone(),
                    born,
                    seen: None,
                    edit,
                };
                write.part(known, rules, &Site::default())?
            }
        };
        Ok(known.cloned().unwrap_or_default().joined(&part, rules))
    }

    /// Whether a clock in it is further ahead of the time than a peer's may be. Such a record is kept aside until the time
    /// has come; the others go on.
    pub fn is_from_the_future(&self, time_ms: u64) -> bool {
        let newest = self.metadata.as_ref().and_then(Metadata::newest);
        let newest = newest.max(Some(&self.hlc)).map_or(0, Clock::millis);
        newest > time_ms.saturating_add(AHEAD_MS_MAX)
    }

    fn read(
        record: &Value,
        table: &TableNames,
    ) -> Result<Self, (Option<String>, ChangesetErrorKind)> {
        use ChangesetErrorKind as Kind;
        let mut columns = record.as_object().ok_or((None, Kind::Malformed))?.clone();
        let clock = |name: &str, value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Clock::read_foreign(&text)
                .map(Some)
                .map_err(|_| (Some(name.to_owned()), Kind::Clock)),
            Some(_) => Err((Some(name.to_owned()), Kind::Clock)),
        };
        let mut ours = match columns.remove(RESERVED) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(ours)) => ours,
            Some(_) => return Err((None, Kind::Metadata)),
        };
        // Where a column has one of these names, what is meant stands among what the family does not know.
        let mut taken = |name: &str| match table.columns.contains(name) {
            true => ours.remove(name),
            false => columns.remove(name),
        };
        let hlc = clock("hlc", taken("hlc"))?.ok_or((Some("hlc".to_owned()), Kind::Clock))?;
        let modified = clock("modified", taken("modified"))?;
        let is_deleted = match taken("is_deleted") {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Bool(true)) => true,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(_) => return Err((Some("is_deleted".to_owned()), Kind::Malformed)),
        };
        // It is the node in `hlc`.
        taken("node_id");
        let metadata = ours.remove("metadata").map(Metadata::deserialize);
        let metadata = metadata.transpose().map_err(|_| (None, Kind::Metadata))?;
        for (column, value) in &columns {
            if !table.columns.contains(column) {
                return Err((Some(column.clone()), Kind::UnknownColumn));
            }
            if has_null_byte(value) {
                return Err((Some(column.clone()), Kind::NullByte));
            }
        }
        for column in &table.key {
            if columns.get(column).is_none_or(Value::is_null) {
                return Err((Some(column.clone()), Kind::NoKey));
            }
        }
        Ok(Self {
            columns,
            is_deleted,
            hlc,
            modified,
            metadata,
        })
    }

    fn to_value(&self, table: &TableNames) -> Value {
        let mut record = self.columns.clone();
        let mut ours = Map::new();
        let modified = self.modified.as_ref().unwrap_or(&self.hlc);
        for (name, value) in [
            ("is_deleted", Value::from(u8::from(self.is_deleted))),
            ("hlc", Value::from(self.hlc.as_str())),
            ("node_id", Value::from(self.hlc.node().as_str())),
            ("modified", Value::from(modified.as_str())),
        ] {
            let is_column = table.columns.contains(name);
            let place = if is_column { &mut ours } else { &mut record };
            place.insert(name.to_owned(), value);
        }
        let metadata = self.metadata.as_ref().map(serde_json::to_value);
        if let Some(Ok(metadata)) = metadata {
            ours.insert("metadata".to_owned(), metadata);
        }
        if !ours.is_empty() {
            record.insert(RESERVED.to_owned(), Value::Object(ours));
        }
        Value::Object(record)
    }
}

fn has_null_byte(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_null_byte),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_null_byte(value)),
        _ => false,
    }
}

impl Changeset {
    /// Reads a page. Its names are compared with those of the tables that are synced and go no further.
    ///
    /// # Errors
    /// At the first thing that is wrong, with its place; nothing of the page is to be applied then.
    pub fn read(text: &str, tables: &BTreeMap<String, TableNames>) -> Result<Self, ChangesetError> {
        use ChangesetErrorKind as Kind;
        let page: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => Kind::Malformed,
                _ => Kind::Cut,
            })?;
        let mut changeset = Self::default();
        let mut count = 0;
        for (name, value) in page {
            if name == RESERVED {
                let header = Header::deserialize(value).map_err(|_| Kind::Malformed)?;
                if header.version != CHANGESET_VERSION {
                    return Err(Kind::Version.into());
                }
                changeset.header = Some(header);
                continue;
            }
            let wrong = |record, column, kind| ChangesetError {
                table: Some(name.clone()),
                record,
                column,
                kind,
            };
            let table = tables
                .get(&name)
                .ok_or_else(|| wrong(None, None, Kind::UnknownTable))?;
            let list = value
                .as_array()
                .ok_or_else(|| wrong(None, None, Kind::Malformed))?;
            count += list.len();
            if count > RECORDS_MAX {
                return Err(wrong(None, None, Kind::TooLarge));
            }
            let (mut keys, mut records) = (BTreeSet::new(), Vec::new());
            for (index, record) in list.iter().enumerate() {
                let record = Record::read(record, table)
                    .map_err(|(column, kind)| wrong(Some(index), column, kind))?;
                let key = table.key.iter().map(|column| record.columns.get(column));
                let key = serde_json::to_string(&key.collect::<Vec<_>>()).unwrap_or_default();
                if !keys.insert(key) {
                    return Err(wrong(Some(index), None, Kind::Repeated));
                }
                records.push(record);
            }
            changeset.records.insert(name, records);
        }
        Ok(changeset)
    }

    /// The page as JSON, for these tables; others are left out. Programs of the family read it if its records have no
    /// metadata and it no header: they take every name in a record for a column's.
    pub fn to_value(&self, tables: &BTreeMap<String, TableNames>) -> Value {
        let records = self.records.iter().filter_map(|(name, records)| {
            let table = tables.get(name)?;
            let records = records.iter().map(|record| record.to_value(table));
            Some((name.clone(), records.collect()))
        });
        let mut page: Map<String, Value> = records.collect();
        if let Some(Ok(header)) = self.header.as_ref().map(serde_json::to_value) {
            page.insert(RESERVED.to_owned(), header);
        }
        Value::Object(page)
    }

    /// The newest `modified` in it.
    pub fn last_modified(&self) -> Option<&Clock> {
        self.records
            .values()
            .flatten()
            .filter_map(|record| record.modified.as_ref())
            .max()
    }
}

/// Which rows a changeset has.
#[derive(Debug, Clone, Default)]
pub struct ChangesetFilter {
    /// Only these tables.
    pub only_tables: Option<BTreeSet<String>>,
    /// Only rows that this node wrote last.
    pub only_node: Option<NodeId>,
    /// Only rows that another node wrote last.
    pub except_node: Option<NodeId>,
    /// Only rows that were taken up after this.
    pub modified_after: Option<Clock>,
}

impl ChangesetFilter {
    /// Whether a row is in it.
    pub fn takes(&self, table: &str, newest: &Clock, modified: &Clock) -> bool {
        self.only_tables
            .as_ref()
            .is_none_or(|tables| tables.contains(table))
            && self
                .only_node
                .as_ref()
                .is_none_or(|node| newest.is_of(node))
            && self
                .except_node
                .as_ref()
                .is_none_or(|node| !newest.is_of(node))
            && self
                .modified_after
                .as_ref()
                .is_none_or(|after| modified > after)
    }

    /// Whether it leaves out rows that were taken up since, so that who has them does not have everything.
    pub fn leaves_out(&self) -> bool {
        self.only_tables.is_some() || self.only_node.is_some() || self.except_node.is_some()
    }
}
