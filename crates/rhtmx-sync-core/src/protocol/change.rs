//! Changes and rows, as streams and HTTP answers carry them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Which client's mutation made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Origin {
    /// The device.
    pub client_id: Uuid,
    /// Its mutation.
    pub mutation: u64,
}

/// One change of one row, or of all.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Change {
    /// The row now is this.
    Put {
        /// The row's key, canonical.
        key: String,
        /// The whole row.
        #[cfg_attr(test, ts(type = "Row"))]
        row: Box<RawValue>,
        /// Whose mutation.
        #[serde(flatten)]
        #[cfg_attr(test, ts(skip))]
        origin: Option<Origin>,
    },
    /// Gone from the table.
    Delete {
        /// The row's key, canonical.
        key: String,
        /// Whose mutation.
        #[serde(flatten)]
        #[cfg_attr(test, ts(skip))]
        origin: Option<Origin>,
    },
    /// No longer in this shape.
    Leave {
        /// The row's key, canonical.
        key: String,
        /// Whose mutation.
        #[serde(flatten)]
        #[cfg_attr(test, ts(skip))]
        origin: Option<Origin>,
    },
    /// All rows are gone.
    Truncate,
}

impl Change {
    /// The row's key; a truncate has none.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Leave { key, .. } => Some(key),
            Self::Truncate => None,
        }
    }
}

/// One row of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RowImage {
    /// The row's key, canonical.
    pub key: String,
    /// The whole row.
    #[cfg_attr(test, ts(type = "Row"))]
    pub row: Box<RawValue>,
}
