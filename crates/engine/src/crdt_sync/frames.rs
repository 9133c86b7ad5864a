//! The frames of `crdt_sync` 1.0: one JSON object each, an opening from either side, then changesets.

use merge::{Clock, NodeId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::precision;
use super::tables::{Table, Tables, is_own};

/// The largest frame that a node may send, in bytes. What it wrote while it was offline comes in one.
pub(crate) const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many records a frame of ours has. Each frame is merged by itself, in one transaction.
const FRAME_RECORDS: usize = 500;

/// How many bytes such a frame has about.
const FRAME_BYTES: usize = 512 * 1024;

/// What a node says first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Opening {
    /// The name under which it stamps.
    pub(super) node: NodeId,
    /// When it last took up a row of another node, in its own clock.
    pub(super) last_modified: Clock,
    /// A token that the application sends along.
    pub(super) token: Option<String>,
}

impl Opening {
    /// Reads the first frame.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Frame {
            node_id: String,
            last_modified: String,
            data: Option<Map<String, Value>>,
        }
        let frame: Frame = serde_json::from_str(text)
            .map_err(|_| "the first frame is {\"node_id\", \"last_modified\", \"data\"}")?;
        let node = NodeId::new(&frame.node_id).map_err(|_| "`node_id` is no name of a node")?;
        let last_modified =
            Clock::read_foreign(&frame.last_modified).map_err(|_| "`last_modified` is no clock")?;
        let token = frame.data.as_ref().and_then(|data| data.get("token"));
        Ok(Self {
            node,
            last_modified,
            token: token.and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// The answer: the node is to send what it has written after this clock.
pub(super) fn opening(database: &NodeId, after: &Clock) -> String {
    json!({"node_id": database.as_str(), "last_modified": after.floor_text(), "data": null})
        .to_string()
}

/// A record of a node's own, as a write of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Received {
    pub(super) table: usize,
    /// As the node has it.
    pub(super) hlc: Clock,
    /// The write, as JSON.
    pub(super) write: String,
}

/// What a changeset has.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ReadChangeset {
    /// In the order of the tables.
    pub(super) records: Vec<Received>,
    /// Why records were left out that the node must send again: they are malformed, or not of this node.
    pub(super) left_out: Vec<&'static str>,
}

/// Reads a changeset. Tables that are not among these are the node's own affair.
pub(super) fn read_changeset(
    text: &str,
    tables: &Tables,
    node: &NodeId,
) -> Result<ReadChangeset, &'static str> {
    let changeset: std::collections::HashMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|_| "a changeset is an object of arrays")?;
    let mut read = ReadChangeset::default();
    for (index, table) in tables.all().iter().enumerate() {
        let Some(records) = changeset.get(&table.schema.entity) else {
            continue;
        };
        let records: Vec<&RawValue> = serde_json::from_str(records.get())
            .map_err(|_| "a changeset is an object of arrays")?;
        for record in records {
            match read_record(record, index, table, node) {
                Ok(record) => read.records.push(record),
                Err(reason) => read.left_out.push(reason),
            }
        }
    }
    Ok(read)
}

fn read_record(
    record: &RawValue,
    index: usize,
    table: &Table,
    node: &NodeId,
) -> Result<Received, &'static str> {
    let record: Map<String, Value> =
        serde_json::from_str(record.get()).map_err(|_| "a record is an object")?;
    let hlc = record.get("hlc").and_then(Value::as_str);
    let hlc = hlc.and_then(|hlc| Clock::read_foreign(hlc).ok());
    let hlc = hlc.ok_or("a record has no clock")?;
    if !hlc.is_of(node) {
        return Err("a record is of another node");
    }
    let is_deleted = match record.get("is_deleted") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(_) => return Err("`is_deleted` is 0 or 1"),
    };
    let columns = record.into_iter().filter(|(name, _)| !is_own(name));
    let values: Map<String, Value> = columns
        .map(|(name, value)| {
            let value = Tables::taken(table, &name, value);
            (name, value)
        })
        .collect();
    let write = json!({
        "entity": table.schema.entity,
        "op": if is_deleted { "delete" } else { "upsert" },
        "values": values,
        "hlc": precision::here(&hlc).as_str(),
    });
    Ok(Received {
        table: index,
        hlc,
        write: write.to_string(),
    })
}

/// A record for a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) table: usize,
    pub(super) hlc: Clock,
    /// Whether it goes in a frame of its own, because the node's database may refuse it.
    pub(super) is_alone: bool,
    text: String,
}

impl Shown {
    /// The record of a row that is there, or is gone.
    pub(super) fn new(
        table: usize,
        mut columns: Map<String, Value>,
        hlc: Clock,
        (is_deleted, is_alone): (bool, bool),
    ) -> Self {
        for (name, value) in [
            ("is_deleted", Value::from(u8::from(is_deleted))),
            ("hlc", Value::from(hlc.as_str())),
            ("node_id", Value::from(hlc.node().as_str())),
            // A node that merges it sets its own.
            ("modified", Value::from(hlc.as_str())),
        ] {
            columns.insert(name.to_owned(), value);
        }
        Self {
            table,
            hlc,
            is_alone,
            text: Value::Object(columns).to_string(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// The changesets of these records, those of tables that others refer to first.
pub(super) fn changesets(tables: &Tables, mut records: Vec<Shown>) -> Vec<String> {
    records.sort_by_key(|record| (record.is_alone, record.table));
    let mut frames = Vec::new();
    let mut frame: Vec<Shown> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let is_full = frame.len() >= FRAME_RECORDS || bytes >= FRAME_BYTES || record.is_alone;
        if is_full && !frame.is_empty() {
            frames.push(changeset(tables, &frame));
            frame.clear();
            bytes = 0;
        }
        bytes += record.bytes();
        frame.push(record);
    }
    if !frame.is_empty() {
        frames.push(changeset(tables, &frame));
    }
    frames
}

/// One changeset, of records in the order of their tables. The order of an object's members is that in which a node merges
/// its tables.
fn changeset(tables: &Tables, records: &[Shown]) -> String {
    let mut text = String::from("{");
    for of_table in records.chunk_by(|one, two| one.table == two.table) {
        let table = of_table.first().and_then(|record| tables.get(record.table));
        let Some(table) = table else {
            continue;
        };
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&Value::from(table.schema.entity.as_str()).to_string());
        text.push_str(":[");
        for (index, record) in of_table.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&record.text);
        }
        text.push(']');
    }
    text.push('}');
    text
}
