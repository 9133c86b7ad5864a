//! Subscriptions: what a client asks for, its first rows, and the changes that follow.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::MutationId;

/// The longest subscription id that is accepted, in bytes.
pub const SUBSCRIPTION_ID_BYTES_MAX: usize = 256;

/// A subscription's name: text or a whole number, sent back as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(untagged)]
pub enum SubscriptionId {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Which rows and columns of an entity a client asks for; all of them when nothing is set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct SelectionRequest {
    /// A filter.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The filter's `$1`, `$2`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "Array<Json>"))]
    pub params: Option<Vec<Box<RawValue>>>,
    /// Only these columns (and the key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// The columns by which the rows are ordered, where only the first are wanted. The key's columns follow by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    // The generator takes a comma with a space for the end of a field.
    #[cfg_attr(test, ts(optional, type = "Array<[string,'asc' | 'desc']>"))]
    pub order: Option<Vec<(String, Direction)>>,
    /// Only the first rows in the order: so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The first rows behind this one, which has these values in the order's columns and the key's others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "Array<Json>"))]
    pub after: Option<Vec<Box<RawValue>>>,
    /// Whether with what is known of the rows beside their values: `rows` or `fields`; rows if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// The [`SelectionRequest::mode`] of rows alone.
pub const MODE_ROWS: &str = "rows";
/// The [`SelectionRequest::mode`] of rows with their metadata.
pub const MODE_FIELDS: &str = "fields";
/// The [`SelectionRequest::mode`] of rows with their newest clocks, always whole. The server asks for it on behalf of clients
/// that speak another protocol.
pub const MODE_RECORDS: &str = "records";

/// Which values of a column come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The least; nulls come last.
    Asc,
    /// The greatest; nulls come first.
    Desc,
}

/// Asks for an entity's rows and their changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(try_from = "SubscribeFields")]
pub struct Subscribe {
    /// Chosen by the client.
    pub id: SubscriptionId,
    /// Which entity.
    pub entity: String,
    /// Which rows and columns of it.
    #[serde(flatten)]
    pub selection: SelectionRequest,
    /// Resume from here. A text that is not a cursor of this server is answered with `refetch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A `subscribe` as it is read: serde cannot flatten raw JSON.
#[derive(Deserialize)]
struct SubscribeFields {
    id: SubscriptionId,
    entity: String,
    #[serde(rename = "where")]
    filter: Option<String>,
    #[serde(default)]
    params: Option<Vec<Box<RawValue>>>,
    columns: Option<Vec<String>>,
    order: Option<Vec<(String, Direction)>>,
    limit: Option<u32>,
    #[serde(default)]
    after: Option<Vec<Box<RawValue>>>,
    offset: Option<IgnoredAny>,
    mode: Option<String>,
    cursor: Option<String>,
}

/// Ends a subscription.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Unsubscribe {
    /// Which one.
    pub id: SubscriptionId,
}

/// One row of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(from = "RowImageFields")]
pub struct RowImage {
    /// The row's key, canonical.
    pub key: String,
    /// The row.
    #[cfg_attr(test, ts(type = "Row"))]
    pub row: Box<RawValue>,
    /// What is known of it beside its values.
    #[serde(flatten)]
    pub metadata: RowMetadata,
}

/// A [`RowImage`] as it is read: serde cannot flatten raw JSON.
#[derive(Deserialize)]
struct RowImageFields {
    key: String,
    row: Box<RawValue>,
    born: Option<Box<str>>,
    died: Option<Box<str>>,
    base: Option<Box<str>>,
    edited: Option<Box<str>>,
    newest: Option<Box<str>>,
    #[serde(default)]
    clocks: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    lost: BTreeMap<String, Box<RawValue>>,
}

/// What is known of a row beside its values, in a subscription with `mode: "fields"`. A row that was never edited by its
/// fields has nothing of it. Moments are hybrid logical clocks as text, ordered by their bytes.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct RowMetadata {
    /// When it was created; none for before anything was stamped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "string"))]
    pub born: Option<Box<str>>,
    /// When it was deleted, for a row that an edit has brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "string"))]
    pub died: Option<Box<str>>,
    /// The clock of every column that `clocks` does not name; none for `born`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "string"))]
    pub base: Option<Box<str>>,
    /// The newest edit, where no clock tells it. It is not told to those who are not sent all columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "string"))]
    pub edited: Option<Box<str>>,
    /// With [`MODE_RECORDS`], a clock that is later with each change of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(skip))]
    pub newest: Option<Box<str>>,
    /// What columns have of their own: a clock, or of a counter or a set what it is made of.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, ts(optional, type = "Record<string,Json>"))]
    pub clocks: BTreeMap<String, Box<RawValue>>,
    /// By column, where both values of a conflict are kept: those that lost and that nobody has resolved, the oldest first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, ts(optional, type = "Record<string,StampedValue[]>"))]
    pub lost: BTreeMap<String, Box<RawValue>>,
}

/// A page of a first read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Snapshot {
    /// The subscription.
    pub id: SubscriptionId,
    /// The page's rows.
    pub rows: Vec<RowImage>,
    /// Whether pages follow.
    pub more: bool,
}

/// Everything up to `cursor` has been sent, and the stream is attached from there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Subscribed {
    /// The subscription.
    pub id: SubscriptionId,
    /// The name under which its changes come.
    pub shape: String,
    /// This subscription's resume point.
    pub cursor: String,
    /// The columns.
    pub schema: SchemaSummary,
    /// How the rows merge, with `mode: "fields"`: the strategy, what deletions mean, and the columns that are more than
    /// a value with a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional, type = "Json"))]
    pub rules: Option<Box<RawValue>>,
}

/// The names and types of a table's columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SchemaSummary {
    /// The primary key's columns.
    pub key: Vec<String>,
    /// Each column's PostgreSQL type name.
    pub columns: BTreeMap<String, String>,
}

/// Drop the rows of this subscription; a snapshot follows by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Refetch {
    /// The subscription.
    pub id: SubscriptionId,
    /// Why.
    pub reason: RefetchReason,
}

/// Why a client must drop a subscription's rows and take them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum RefetchReason {
    /// The cursor is older than the log.
    Expired,
    /// The cursor belongs to another epoch.
    Epoch,
    /// The table's schema changed.
    Schema,
    /// What the user may see has changed.
    Permission,
}

/// Changes, to be held back until the next `cursor` (with `id`: until `subscribed`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Changes {
    /// The shape, on a live stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// The subscription, while it catches up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<SubscriptionId>,
    /// In the order in which they apply.
    pub changes: Vec<Change>,
    /// The keys of a window's rows as they are ordered now, where the values do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<String>>,
}

/// One change of one row, or of all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "op", rename_all = "lowercase", try_from = "ChangeFields")]
pub enum Change {
    /// The row now is this.
    Put {
        /// The row's key, canonical.
        key: String,
        /// The whole row.
        #[cfg_attr(test, ts(type = "Row"))]
        row: Box<RawValue>,
        /// What is known of it beside its values.
        #[serde(flatten)]
        metadata: RowMetadata,
        /// The mutation that made the change.
        #[serde(flatten)]
        #[cfg_attr(test, ts(skip))]
        mutation_id: Option<MutationId>,
    },
    /// These columns of a row that is here have changed, or what is known of it beside its values.
    Patch {
        /// The row's key, canonical.
        key: String,
        /// The values of the columns that changed.
        #[cfg_attr(test, ts(type = "Row"))]
        values: Box<RawValue>,
        /// All that is known of the row now beside its values, in place of what was.
        #[serde(flatten)]
        metadata: RowMetadata,
        /// The mutation that made the change.
        #[serde(flatten)]
        #[cfg_attr(test, ts(skip))]
        mutation_id: Option<MutationId>,
    },
    /// The row is gone from the table.
    Delete {
        /// The row's key, canonical.
        key: String,
        /// With [`MODE_RECORDS`], the clock of the deletion, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, ts(skip))]
        hlc: Option<Box<str>>,
        /// The mutation that made the change.
        #[serde(flatten)]
        #[cfg_attr(test, ts(skip))]
        mutation_id: Option<MutationId>,
    },
    /// The row is no longer in this shape.
    Leave {
        /// The row's key, canonical.
        key: String,
        /// The mutation that made the change.
        #[serde(flatten)]
        #[cfg_attr(test, ts(skip))]
        mutation_id: Option<MutationId>,
    },
    /// All rows are gone.
    Truncate,
}

/// A change as it is read: serde can neither flatten nor tag raw JSON.
#[derive(Deserialize)]
struct ChangeFields {
    op: ChangeOp,
    key: Option<String>,
    row: Option<Box<RawValue>>,
    values: Option<Box<RawValue>>,
    born: Option<Box<str>>,
    died: Option<Box<str>>,
    base: Option<Box<str>>,
    edited: Option<Box<str>>,
    newest: Option<Box<str>>,
    hlc: Option<Box<str>>,
    #[serde(default)]
    clocks: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    lost: BTreeMap<String, Box<RawValue>>,
    client_id: Option<Uuid>,
    mutation: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChangeOp {
    Put,
    Patch,
    Delete,
    Leave,
    Truncate,
}

/// Apply everything held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Cursor {
    /// The new resume point of all subscriptions.
    pub cursor: String,
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<RowImageFields> for RowImage {
    fn from(fields: RowImageFields) -> Self {
        Self {
            key: fields.key,
            row: fields.row,
            metadata: RowMetadata {
                born: fields.born,
                died: fields.died,
                base: fields.base,
                edited: fields.edited,
                newest: fields.newest,
                clocks: fields.clocks,
                lost: fields.lost,
            },
        }
    }
}

impl From<&str> for SubscriptionId {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl SelectionRequest {
    /// Whether it asks for the whole entity.
    pub fn is_everything(&self) -> bool {
        self.filter.is_none()
            && self.params.is_none()
            && self.columns.is_none()
            && self.mode.as_deref().is_none_or(|mode| mode == MODE_ROWS)
            && !self.asks_for_window()
    }

    /// Whether it asks for the first rows in some order.
    pub fn asks_for_window(&self) -> bool {
        self.order.is_some() || self.limit.is_some() || self.after.is_some()
    }
}

impl TryFrom<SubscribeFields> for Subscribe {
    type Error = &'static str;

    fn try_from(fields: SubscribeFields) -> Result<Self, &'static str> {
        if fields.offset.is_some() {
            return Err("there is no `offset`: rows that come and go would shift it; give `after`");
        }
        Ok(Self {
            id: fields.id,
            entity: fields.entity,
            selection: SelectionRequest {
                filter: fields.filter,
                params: fields.params,
                columns: fields.columns,
                order: fields.order,
                limit: fields.limit,
                after: fields.after,
                mode: fields.mode,
            },
            cursor: fields.cursor,
        })
    }
}

impl Change {
    /// The row's key; a truncate has none.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Put { key, .. }
            | Self::Patch { key, .. }
            | Self::Delete { key, .. }
            | Self::Leave { key, .. } => Some(key),
            Self::Truncate => None,
        }
    }
}

impl TryFrom<ChangeFields> for Change {
    type Error = &'static str;

    fn try_from(fields: ChangeFields) -> Result<Self, &'static str> {
        let mutation_id = fields
            .client_id
            .zip(fields.mutation)
            .map(|(client_id, mutation)| MutationId {
                client_id,
                mutation,
            });
        let key = fields.key.ok_or("a change of a row without its `key`");
        let metadata = RowMetadata {
            born: fields.born,
            died: fields.died,
            base: fields.base,
            edited: fields.edited,
            newest: fields.newest,
            clocks: fields.clocks,
            lost: fields.lost,
        };
        Ok(match fields.op {
            ChangeOp::Put => Self::Put {
                key: key?,
                row: fields.row.ok_or("a put without its `row`")?,
                metadata,
                mutation_id,
            },
            ChangeOp::Patch => Self::Patch {
                key: key?,
                values: fields.values.ok_or("a patch without its `values`")?,
                metadata,
                mutation_id,
            },
            ChangeOp::Delete => Self::Delete {
                key: key?,
                hlc: fields.hlc,
                mutation_id,
            },
            ChangeOp::Leave => Self::Leave {
                key: key?,
                mutation_id,
            },
            ChangeOp::Truncate => Self::Truncate,
        })
    }
}
