//! What is to be done when a write comes, and what is told of it.

use std::collections::BTreeMap;

use merge::{Clock, Conflict, FieldMergeStrategy};
use protocol::{Stamp, StampedValue};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::mutation::CheckedWrite;

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
    /// The kept values that nobody needs to see any more, by column.
    pub resolved: BTreeMap<String, Vec<Clock>>,
}

impl Plan {
    /// The values that lost and are kept beside the row, until somebody resolves the conflict.
    pub fn kept(&self) -> impl Iterator<Item = &Conflict> {
        let conflicts = self.conflicts.iter();
        conflicts.filter(|conflict| conflict.strategy == FieldMergeStrategy::KeepBoth)
    }
}

/// How many bytes of values a mutation is told of that lost, or replaced others': what it wrote itself always fits a frame.
pub const TOLD_BYTES_MAX: usize = 1024 * 1024;

/// A value that stands is told beside the one that lost if it has at most this many bytes: small writes must not cause large
/// answers.
pub const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What became of a mutation's writes of rows that merge by their fields: what its author is told with the `ack`, each time,
/// and whose values it has replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The clocks of writes that count under another one than they said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stamps: Vec<Stamp>,
    /// The values of the author's that lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<protocol::Conflict>,
    /// The values of others that the author had not seen and that lost. They are told once, so they are not stored.
    #[serde(skip)]
    pub of_others: Vec<protocol::Conflict>,
    /// The bytes of the values in it.
    #[serde(skip)]
    bytes: usize,
}

impl Merged {
    /// Whether there is nothing to tell the author.
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty() && self.conflicts.is_empty()
    }

    /// Adds what became of a write; `index` is its position in the mutation.
    pub fn add(&mut self, index: usize, write: &CheckedWrite, plan: &Plan) {
        let says_another = |write: &CheckedWrite| {
            let fields = write.fields.as_ref()?;
            Some(fields.said.as_ref()? != &plan.clock)
        };
        if says_another(write) == Some(true) {
            self.stamps.push(Stamp {
                write: index,
                hlc: plan.clock.to_string(),
            });
        }
        let key = write.canonical_key().unwrap_or_default();
        let node = plan.clock.node();
        for conflict in &plan.conflicts {
            let kept = conflict.kept.as_ref().map(stamped);
            let kept = kept.filter(|kept| kept.value.get().len() <= KEPT_BYTES_MAX);
            let lost = stamped(&conflict.lost);
            let kept_bytes = kept.as_ref().map_or(0, |kept| kept.value.get().len());
            let bytes = self.bytes + kept_bytes + lost.value.get().len();
            if bytes > TOLD_BYTES_MAX {
                continue;
            }
            self.bytes = bytes;
            let is_own = conflict.lost.hlc.is_of(&node);
            let told = protocol::Conflict {
                entity: write.entity.clone(),
                key: key.clone(),
                field: conflict.field.clone(),
                kept,
                lost,
                strategy: word(conflict.strategy),
                mutation: None,
                write: is_own.then_some(index),
            };
            match is_own {
                true => self.conflicts.push(told),
                false => self.of_others.push(told),
            }
        }
    }

    /// The same, of a write that was looked at alone and has this position in the mutation.
    #[must_use]
    pub fn of_write(mut self, index: usize) -> Self {
        for stamp in &mut self.stamps {
            stamp.write = index;
        }
        for conflict in &mut self.conflicts {
            conflict.write = Some(index);
        }
        self
    }

    /// Adds what became of a later write of the same mutation.
    pub fn append(&mut self, mut later: Self) {
        self.bytes += later.bytes;
        self.stamps.append(&mut later.stamps);
        self.conflicts.append(&mut later.conflicts);
        self.of_others.append(&mut later.of_others);
    }
}

fn stamped(value: &merge::Stamped) -> StampedValue {
    StampedValue {
        value: to_raw_value(&value.value).expect("a value is JSON"),
        hlc: value.hlc.to_string(),
    }
}

/// The word for a strategy, as it is configured.
fn word(strategy: FieldMergeStrategy) -> String {
    let word = serde_json::to_value(strategy).expect("it is JSON");
    word.as_str().unwrap_or_default().to_owned()
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
    /// A clock at or above those in the metadata, and later with each change of what the row shows.
    pub newest: Clock,
    /// The metadata, as JSON.
    pub metadata: String,
    /// The values of a row that is gone and may come back, as JSON.
    pub image: Option<String>,
}
