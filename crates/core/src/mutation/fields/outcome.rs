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
            let told = protocol::Conflict {
                entity: write.entity.clone(),
                key: key.clone(),
                field: conflict.field.clone(),
                kept: conflict.kept.as_ref().map(stamped),
                lost: stamped(&conflict.lost),
                strategy: strategy(conflict.strategy),
                mutation: None,
                write: Some(index),
            };
            match conflict.lost.hlc.is_of(&node) {
                true => self.conflicts.push(told),
                false => self.of_others.push(protocol::Conflict {
                    write: None,
                    ..told
                }),
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

/// The word for it.
fn strategy(strategy: FieldMergeStrategy) -> String {
    match strategy {
        FieldMergeStrategy::LastWriteWins => "last_write_wins",
        FieldMergeStrategy::ServerWins => "server_wins",
        FieldMergeStrategy::ClientWins => "client_wins",
        FieldMergeStrategy::KeepBoth => "keep_both",
    }
    .to_owned()
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
