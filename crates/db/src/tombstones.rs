//! Rows that are gone and of which it is known: tombstones.

use sync_core::mutation::fields::Known;

/// A row that is gone: its canonical key, and what is known of it.
pub type Tombstone = (String, Known);

/// A page of tombstones, in the order of the bytes of their keys.
#[derive(Debug, Clone)]
pub struct TombstonesPage {
    /// It begins after this key.
    pub after_key: Option<String>,
    /// How many it has at most.
    pub limit: usize,
}

/// The expression for the node of a clock: what follows the moment, in three digits of a second or in six, and the counter.
pub(crate) fn of_node(clock: &str) -> String {
    format!(
        "(CASE WHEN substr({clock}, 24, 1) = 'Z' THEN substr({clock}, 31) ELSE substr({clock}, 34) END)"
    )
}
