//! What is to be done when a write comes, and what is told of it.

use merge::{Clock, Conflict};
use serde_json::value::RawValue;

/// What to do when a write comes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to do with the table.
    pub action: Action,
    /// What to keep beside the row from now on; none where that stays as it is.
    pub entry: Option<Entry>,
    /// The clock under which the write counts.
    pub clock: Clock,
    /// The values that lost.
    pub conflicts: Vec<Conflict>,
}

/// What became of a write, for those who made it or whose values lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// Its position in the mutation.
    pub write: usize,
    /// The clock under which it counts.
    pub clock: Clock,
    /// The values that lost.
    pub conflicts: Vec<Conflict>,
}

/// What to do with the table. Values have the positions of their columns, ascending.
#[derive(Debug, Clone)]
pub enum Action {
    /// Insert the row.
    Create {
        /// Its values, with the key's.
        values: Vec<(usize, Box<RawValue>)>,
    },
    /// Set some of its columns.
    Update {
        /// The values that won, and the numbers that increments make.
        values: Vec<(usize, Box<RawValue>)>,
        /// The increments that are among the values, each as a JSON number or the text of one. They leave no trace beside
        /// the row, so a database that did not lock the row when it was read adds them instead.
        adds: Vec<(usize, Box<RawValue>)>,
    },
    /// Delete it.
    Delete,
    /// Leave the table as it is: the write has lost.
    Nothing,
}

/// What is kept beside a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The newest clock in the metadata.
    pub newest: Clock,
    /// The metadata, as JSON.
    pub metadata: String,
    /// The values of a row that is gone and may come back, as JSON.
    pub image: Option<String>,
}
