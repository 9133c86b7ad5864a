//! What one step of retention did.

/// One small batch of retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Entries that are gone.
    pub rows: u64,
    /// Whether the floor is further on than before.
    pub floor_moved: bool,
    /// Whether more lies below the floor.
    pub more: bool,
}
