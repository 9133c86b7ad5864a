//! Mutations: what a client pushes, and how the server answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// One mutation: an atomic transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Push {
    /// 1, 2, 3 … for this client.
    pub mutation: u64,
    /// Applied in order, together or not at all.
    pub writes: Vec<Write>,
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Adds a row that does not exist yet.
    Create,
    /// Sets some columns of a row that exists.
    Update,
    /// Does either.
    Upsert,
    /// Removes a row that exists.
    Delete,
}

/// One write of a mutation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Write {
    /// Which entity.
    pub entity: String,
    /// What to do.
    pub op: Op,
    /// The row; a create may carry it in `values` or leave it to the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "Json"))]
    pub key: Option<serde_json::Value>,
    /// Columns and their values, each as the client spelled it, so that no digit is lost.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, ts(optional, type = "Row"))]
    pub values: BTreeMap<String, Box<RawValue>>,
    /// When the user made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hlc: Option<String>,
}

impl PartialEq for Write {
    /// Compares values by their spelling.
    fn eq(&self, other: &Self) -> bool {
        let spelled = |write: &Self| -> Vec<(String, String)> {
            let values = write.values.iter();
            values
                .map(|(name, value)| (name.clone(), value.get().to_owned()))
                .collect()
        };
        (&self.entity, self.op, &self.key, &self.hlc)
            == (&other.entity, other.op, &other.key, &other.hlc)
            && spelled(self) == spelled(other)
    }
}

/// Names a mutation among those of all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct MutationId {
    /// The client.
    pub client_id: Uuid,
    /// Its number for the mutation.
    pub mutation: u64,
}

/// The mutation is committed; the `cursor` frame that follows contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Ack {
    /// The mutation.
    pub mutation: u64,
}

/// The `reject` frame: no row of the mutation was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Rejected {
    /// The mutation.
    pub mutation: u64,
    /// Why.
    #[serde(flatten)]
    pub reject: Reject,
}

/// Why a mutation was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Reject {
    /// The kind of reason.
    pub code: RejectCode,
    /// The reason in words, never the database's own.
    pub message: String,
    /// The position of the write in `writes`, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<usize>,
    /// The column at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// With `out_of_order`: the number that comes next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// The `code` of a `reject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// A value or a key is not of its column's type, or may not be written.
    Invalid,
    /// The server syncs no such entity.
    UnknownEntity,
    /// The table has no such column.
    UnknownColumn,
    /// The row does not exist.
    NotFound,
    /// A row with this key already exists.
    Exists,
    /// A not-null, unique, foreign key, check or exclusion constraint forbids it.
    Constraint,
    /// This user may not do it.
    Forbidden,
    /// Too many writes, or a value too large for the database.
    TooLarge,
    /// A clock is too far in the future.
    Clock,
    /// It is not the mutation that comes next; `expected` says which is.
    OutOfOrder,
}

impl Reject {
    /// A reject of a whole mutation.
    pub fn new(code: RejectCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            write: None,
            column: None,
            expected: None,
        }
    }

    /// The same, naming the write.
    #[must_use]
    pub fn of_write(mut self, write: usize) -> Self {
        self.write = Some(write);
        self
    }

    /// The same, naming the column.
    #[must_use]
    pub fn of_column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }
}
