//! What one message of a client may hold.

use std::fmt;

/// The deepest nesting of JSON and of lib0's `Any` that is taken.
pub(crate) const DEPTH_MAX: usize = 64;

/// The most of each thing that one update may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Structs: runs of characters, elements and the like.
    pub structs_max: u64,
    /// Clients whose structs, or deletions, are in it.
    pub clients_max: u64,
    /// Ranges of deletions.
    pub delete_ranges_max: u64,
    /// Bytes of one binary value.
    pub binary_bytes_max: u64,
    /// Bytes of one user's awareness state.
    pub awareness_bytes_max: u64,
    /// Users in one awareness message.
    pub awareness_clients_max: u64,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            structs_max: 200_000,
            clients_max: 4_096,
            delete_ranges_max: 1_000_000,
            binary_bytes_max: 256 * 1024,
            awareness_bytes_max: 32 * 1024,
            awareness_clients_max: 1_024,
        }
    }
}

/// A limit by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`ScanLimits::structs_max`].
    Structs,
    /// [`ScanLimits::clients_max`].
    Clients,
    /// [`ScanLimits::delete_ranges_max`].
    DeleteRanges,
    /// [`ScanLimits::binary_bytes_max`].
    BinaryBytes,
    /// [`ScanLimits::awareness_bytes_max`].
    AwarenessBytes,
    /// [`ScanLimits::awareness_clients_max`].
    AwarenessClients,
    /// The depth of nested values.
    Depth,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Structs => "structs",
            Self::Clients => "clients",
            Self::DeleteRanges => "ranges of deletions",
            Self::BinaryBytes => "bytes of a binary value",
            Self::AwarenessBytes => "bytes of an awareness state",
            Self::AwarenessClients => "clients of an awareness message",
            Self::Depth => "levels of nested values",
        })
    }
}
