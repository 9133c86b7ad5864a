//! Keeps what is known beside rows that merge by their fields small: what is so old that nobody can write before it any more
//! is folded, and tombstones of that age are forgotten.
//!
//! Entries are read a batch at a time in the order of their keys, and written only where they are still what was read. Nobody's
//! lock is waited for, so that a batch, which holds several, never stands in a circle of writers; an entry that is
//! locked is left for the next round. A transaction that reads from one snapshot (`REPEATABLE READ`) and changes a row whose
//! entry was folded meanwhile fails as it would if another program had changed that row.

use merge::{Clock, Metadata, Rules};

/// How many entries are read at once.
pub(crate) const BATCH_ENTRIES: i64 = 500;

/// The most bytes of JSON that are kept of a row. PostgreSQL moves larger values out of the table.
pub const METADATA_BYTES_MAX: usize = 2048;

/// What one batch has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folded {
    /// The key of the last entry that was read, after which the next batch begins; none where there was no more.
    pub last: Option<String>,
    /// Entries that became smaller.
    pub folded: u64,
    /// Entries that are gone.
    pub forgotten: u64,
    /// How many of those that became smaller were folded before their time, because they were too large.
    pub early: u64,
}

/// An entry as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) entity_id: String,
    pub(crate) metadata: String,
}

/// What is to become of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) entity_id: String,
    /// The metadata as it was read.
    pub(crate) before: String,
    pub(crate) fate: Fate,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    Forget {
        /// Whether the row is gone, too. Then the values that lost in it are nobody's any more.
        is_gone: bool,
    },
    /// The metadata that is kept, and the newest clock in it.
    Keep {
        metadata: String,
        newest: String,
        early: bool,
    },
}

/// The changes of a batch. What is too large is folded before its time where that may be: where no other database may know
/// what is folded.
pub(crate) fn changes(
    entries: &[Entry],
    rules: &Rules,
    horizon: &Clock,
    may_be_early: bool,
) -> Vec<Change> {
    let changes = entries.iter().filter_map(|entry| {
        Some(Change {
            entity_id: entry.entity_id.clone(),
            before: entry.metadata.clone(),
            fate: fate(&entry.metadata, rules, horizon, may_be_early)?,
        })
    });
    changes.collect()
}

/// None where the entry stays as it is: also where somebody has changed it by hand into what is no metadata.
fn fate(text: &str, rules: &Rules, horizon: &Clock, may_be_early: bool) -> Option<Fate> {
    let before: Metadata = serde_json::from_str(text).ok()?;
    let mut metadata = before.clone();
    let is_smaller = metadata.fold(horizon);
    if metadata.may_be_forgotten(horizon, rules) {
        let is_gone = !before.is_alive(rules);
        return Some(Fate::Forget { is_gone });
    }
    if !is_smaller {
        // Or every entry would be written again whenever the horizon has moved.
        metadata.clone_from(&before);
    }
    let written = |metadata: &Metadata| serde_json::to_string(metadata).ok();
    let mut text = written(&metadata)?;
    let mut early = false;
    while may_be_early && text.len() > METADATA_BYTES_MAX && metadata.fold_older_half() {
        early = true;
        text = written(&metadata)?;
    }
    (metadata != before).then(|| Fate::Keep {
        newest: metadata
            .newest()
            .cloned()
            .unwrap_or_else(Clock::ground)
            .as_str()
            .to_owned(),
        metadata: text,
        early,
    })
}

/// The last key of a batch, if there may be more.
pub(crate) fn last(entries: &[Entry]) -> Option<String> {
    let is_full = i64::try_from(entries.len()).unwrap_or(i64::MAX) >= BATCH_ENTRIES;
    let last = entries.last().filter(|_| is_full);
    last.map(|entry| entry.entity_id.clone())
}
