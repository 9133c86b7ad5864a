//! Mutations: what a client pushes, and how the server answers.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::Chain;

/// One mutation: an atomic transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Push {
    /// 1, 2, 3 … for this client.
    pub mutation: u64,
    /// The chain up to and including this mutation, from clients that keep one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "string"))]
    pub chain: Option<Chain>,
    /// Applied in order, together or not at all.
    #[cfg_attr(test, ts(as = "Vec<Step>"))]
    pub writes: Writes,
}

/// The steps of a mutation, with the text in which they came: the chain is made of that.
#[derive(Debug, Clone)]
pub struct Writes {
    list: Vec<Step>,
    text: Box<RawValue>,
}

impl Writes {
    /// The JSON text of the array, exactly as it came.
    pub fn text(&self) -> &str {
        self.text.get()
    }
}

impl Deref for Writes {
    type Target = [Step];

    fn deref(&self) -> &[Step] {
        &self.list
    }
}

impl From<Vec<Step>> for Writes {
    fn from(list: Vec<Step>) -> Self {
        let text = to_raw_value(&list).expect("JSON can express writes");
        Self { list, text }
    }
}

impl PartialEq for Writes {
    /// Compares their text.
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Serialize for Writes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Writes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let list = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        Ok(Self { list, text })
    }
}

/// One element of a mutation's `writes`. A call has the member `mutator`, a write has `entity`; none has both.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(untagged)]
pub enum Step {
    /// A write.
    Write(Write),
    /// A call of a mutator.
    Call(MutatorCall),
}

impl Step {
    /// The write, if it is one.
    pub fn as_write(&self) -> Option<&Write> {
        match self {
            Self::Write(write) => Some(write),
            Self::Call(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;

        /// The members of both.
        #[derive(Deserialize)]
        struct Members {
            mutator: Option<String>,
            args: Option<Box<RawValue>>,
            entity: Option<String>,
            op: Option<Op>,
            key: Option<serde_json::Value>,
            #[serde(default)]
            values: BTreeMap<String, Box<RawValue>>,
            hlc: Option<String>,
            born: Option<String>,
            seen: Option<String>,
            #[serde(default)]
            resolves: BTreeMap<String, Vec<String>>,
        }
        let members = Members::deserialize(deserializer)?;
        match (members.mutator, members.entity) {
            (Some(_), Some(_)) => Err(D::Error::custom(
                "an element of `writes` has both `mutator` and `entity`",
            )),
            (Some(mutator), None) => Ok(Self::Call(MutatorCall {
                mutator,
                args: members.args,
            })),
            (None, entity) => Ok(Self::Write(Write {
                entity: entity.ok_or_else(|| D::Error::missing_field("entity"))?,
                op: members.op.ok_or_else(|| D::Error::missing_field("op"))?,
                key: members.key,
                values: members.values,
                hlc: members.hlc,
                born: members.born,
                seen: members.seen,
                resolves: members.resolves,
            })),
        }
    }
}

/// A call of a mutator: a function of the server's that is run within the mutation's transaction.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct MutatorCall {
    /// Its name: a letter from a to z, then letters, digits and underscores.
    pub mutator: String,
    /// Its arguments, as the client spelled them; absent means null.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "Json"))]
    pub args: Option<Box<RawValue>>,
}

impl PartialEq for MutatorCall {
    /// Compares the arguments by their spelling.
    fn eq(&self, other: &Self) -> bool {
        let spelled = |call: &Self| call.args.as_ref().map(|args| args.get().to_owned());
        self.mutator == other.mutator && spelled(self) == spelled(other)
    }
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
    /// When the user made it: the clock of every field that it writes. Only read where rows merge by their fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hlc: Option<String>,
    /// With `hlc`: the birth of the row that the user saw; absent for a row that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<String>,
    /// With `hlc`: the newest clock of the row that the user saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// With `update`: the clocks of lost values, by column, that nobody needs to see any more. It is rejected with
    /// `not_found` where one of them is not there or was resolved before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, ts(as = "Option<BTreeMap<String, Vec<String>>>", optional))]
    pub resolves: BTreeMap<String, Vec<String>>,
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
        let clocks = |write: &Self| [&write.hlc, &write.born, &write.seen].map(Clone::clone);
        (&self.entity, self.op, &self.key, &self.resolves)
            == (&other.entity, other.op, &other.key, &other.resolves)
            && clocks(self) == clocks(other)
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Ack {
    /// The mutation.
    pub mutation: u64,
    /// The clocks of writes that said another one than they count under; of rows that merge by their fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<Stamp>>", optional))]
    pub stamps: Vec<Stamp>,
}

/// The clock under which a write counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Stamp {
    /// The position of the write in `writes`, from 0.
    pub write: usize,
    /// Its clock.
    pub hlc: String,
}

/// A value that is not the one that a field holds, though somebody wrote it without knowing of the other.
///
/// Those of a mutation come before its `ack`. One without `mutation` tells a client that somebody else's write has
/// replaced a value of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Conflict {
    /// The entity.
    pub entity: String,
    /// The row's key, canonical.
    pub key: String,
    /// The column.
    pub field: String,
    /// What the field holds; none when its row is gone, and where it is too large to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<StampedValue>,
    /// What it does not hold.
    pub lost: StampedValue,
    /// What decided: `last_write_wins`, `server_wins`, `client_wins` or `keep_both`.
    pub strategy: String,
    /// The mutation of this client whose value it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutation: Option<u64>,
    /// The position of the write in that mutation's `writes`, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<usize>,
}

/// A value of a field, and when it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct StampedValue {
    /// The value.
    #[cfg_attr(test, ts(type = "Json"))]
    pub value: Box<RawValue>,
    /// Its clock.
    pub hlc: String,
}

impl Eq for StampedValue {}

impl PartialEq for StampedValue {
    /// Compares the value by its spelling.
    fn eq(&self, other: &Self) -> bool {
        (self.value.get(), &self.hlc) == (other.value.get(), &other.hlc)
    }
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
    /// With `refused`: why, in a word of the application's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The position of the write, or of the call, in `writes`, from 0.
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
    /// The application's own code does not want it: a mutator or a validation hook; `reason` may say why.
    Refused,
    /// The server has no such mutator.
    UnknownMutator,
    /// Too many writes and calls, or a value too large for the database.
    TooLarge,
    /// A clock is too far in the future.
    Clock,
    /// It is not the mutation that comes next; `expected` says which is.
    OutOfOrder,
    /// Its number stands for other writes, or other mutations precede it: another program used the client's id,
    /// or its store was rolled back or copied. The client pushes it again under a new `client_id`.
    Forked,
    /// Its number is so old that the server no longer knows whether it was applied with these writes.
    Forgotten,
}

impl Reject {
    /// A reject of a whole mutation.
    pub fn new(code: RejectCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
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
