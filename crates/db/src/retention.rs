//! The result of one step of retention.

/// The result of deleting one batch of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The number of deleted entries.
    pub rows: u64,
    /// Whether the floor has moved forward.
    pub floor_moved: bool,
    /// Whether entries below the floor may be left.
    pub more: bool,
}
