//! Writes to rows that merge by their fields.
//!
//! Such a write says when it was made, and what its author had seen of the row ([`Stamp`]). What becomes of it is decided
//! when the database applies it: [`plan`] takes the row as it is then, with what is kept beside it, and says what to do with
//! the table, what to keep, and which values lost.
//!
//! The database guards what was read: the plan holds only while the row's entry is what it was, and is made again
//! otherwise. A row whose entry has not changed may still have been inserted, deleted without a trigger, or counted; the
//! statements find out, or are made so that it does not matter ([`Action::Update`], `adds`).

mod known;
mod outcome;
mod plan;
mod received;
mod record;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use merge::{
    AHEAD_MS_MAX, Amount, Clock, ClockError, ClockPolicy, ColumnMerge, NodeId, Record, Rules,
    WriteError,
};
use protocol::{Op, Reject, RejectCode, Write};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;
use value::schema::{ColumnKind, Schema};

/// How many lost values one write may resolve.
pub const RESOLVED_MAX: usize = 1000;

pub use known::Known;
pub use outcome::{Action, Entry, KEPT_BYTES_MAX, Merged, Plan, TOLD_BYTES_MAX};
pub use plan::plan;
pub use received::check_received;
pub use record::{check_record, key_values, record_of, row_of};

use super::{CheckedWrite, column_value, invalid, shorten};

/// How a write of a row that merges by its fields was made.
#[derive(Debug, Clone)]
pub struct FieldWrite {
    /// How the row merges.
    pub rules: Arc<Rules>,
    /// When it was made.
    pub stamp: Stamp,
    /// The clock that its author said; none where the author said none.
    pub said: Option<Clock>,
    /// The kept values that nobody needs to see any more, by column.
    pub resolves: BTreeMap<String, Vec<Clock>>,
}

/// When a write was made, and what its author had seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Stamp {
    /// As the author says.
    Author {
        /// The clock of the write, as it was admitted.
        clock: Clock,
        /// The birth of the row that the author saw; none for a row that has none.
        born: Option<Clock>,
        /// The newest clock of the row that the author saw.
        seen: Option<Clock>,
    },
    /// The author does not say: it counts as made when it was received, by somebody who saw the row as it is then.
    Receipt {
        /// Milliseconds from 1970.
        received_ms: u64,
        /// Whose write it is.
        node: NodeId,
    },
    /// It is the database's own, by somebody who saw the row as it is then, and counts under this clock; where the row is
    /// already as late, under the next one.
    Own {
        /// The clock of everything that is written together.
        clock: Clock,
    },
    /// It is what another database knows of the row, without the columns of its key: see [`check_record`].
    Record(Box<Record>),
}

/// The receipt of a mutation: what its writes' clocks are compared with.
#[derive(Debug, Clone)]
pub struct Receipt {
    policy: ClockPolicy,
    received_ms: u64,
    node: NodeId,
    /// Below every clock that becomes the moment of receipt.
    previous: Clock,
    /// The earliest moment at which a write may have been made.
    oldest_ms: u64,
    /// Whose records its writes are, where they are records and no edits.
    records_of: Option<NodeId>,
    /// The newest write of each row in the mutation.
    rows: BTreeMap<(String, String), Earlier>,
}

impl Receipt {
    /// A client's mutation of this number, received at this time in milliseconds from 1970.
    ///
    /// Clocks that become the moment of receipt keep the order of the client's mutations: of two that are received in one
    /// millisecond the numbers decide.
    pub fn new(policy: ClockPolicy, received_ms: u64, client_id: Uuid, number: u64) -> Self {
        let node = NodeId::of_client(client_id.as_bytes());
        let counter = (number % u64::from(u16::MAX)) as u16;
        Self {
            policy,
            received_ms,
            previous: Clock::new(received_ms, counter, &node),
            node,
            oldest_ms: 0,
            records_of: None,
            rows: BTreeMap::new(),
        }
    }

    /// Refuses writes that were made before this moment: the clocks that they are to be compared with may be gone.
    #[must_use]
    pub fn refusing_before(self, oldest_ms: u64) -> Self {
        Self { oldest_ms, ..self }
    }

    /// The same, of whole rows as a node of the family of CRDTs over SQL has them, with the clocks of that node.
    #[must_use]
    pub fn of_records(self, node: Option<NodeId>) -> Self {
        Self {
            records_of: node,
            ..self
        }
    }

    /// Whether its writes are records.
    pub fn is_of_records(&self) -> bool {
        self.records_of.is_some()
    }

    /// The clock of a record. It counts as it is, however often the record comes: taken for another one it would win again
    /// each time. So one that is too far ahead is refused under every [`ClockPolicy`].
    fn clock_of_record(&self, write: &Write) -> Result<Clock, Reject> {
        let clock = read("hlc", write.hlc.as_deref().unwrap_or_default())?;
        let is_own = self
            .records_of
            .as_ref()
            .is_some_and(|node| clock.is_of(node));
        if !is_own {
            return Err(invalid("`hlc` must be a clock of the node that sends it"));
        }
        let ahead_ms = clock.millis().saturating_sub(self.received_ms);
        match ahead_ms > AHEAD_MS_MAX {
            true => Err(refused(&ClockError::Ahead { ahead_ms })),
            false => Ok(clock),
        }
    }

    /// How a write was made that names these clocks.
    pub(super) fn stamp(&self, write: &Write) -> Result<Stamp, Reject> {
        let Some(hlc) = &write.hlc else {
            return Ok(Stamp::Receipt {
                received_ms: self.received_ms,
                node: self.node.clone(),
            });
        };
        let clock = Clock::read(hlc).map_err(|error| no_clock("hlc", &error))?;
        if !clock.is_of(&self.node) {
            let message = format!("`hlc` must be a clock of this client's node, {}", self.node);
            return Err(invalid(message));
        }
        if clock.millis() < self.oldest_ms {
            let horizon = Clock::new(self.oldest_ms, 0, &self.node);
            return Err(refused(&WriteError::Stale { horizon }));
        }
        let previous = Some(&self.previous);
        let admitted = self.policy.admit(&clock, self.received_ms, previous);
        Ok(Stamp::Author {
            clock: admitted.map_err(|error| refused(&error))?,
            born: read_some("born", write.born.as_deref())?,
            seen: read_some("seen", write.seen.as_deref())?,
        })
    }

    /// The stamp of a write of this row, above that of an earlier one in the same mutation: it comes after it, and who has
    /// created the row has seen its birth.
    pub(super) fn in_order(
        &mut self,
        checked: &CheckedWrite,
        stamp: Stamp,
    ) -> Result<Stamp, Reject> {
        let (
            Stamp::Author {
                mut clock,
                mut born,
                seen,
            },
            Some(key),
        ) = (stamp.clone(), checked.canonical_key())
        else {
            return Ok(stamp);
        };
        let row = (checked.entity.clone(), key);
        let earlier = self.rows.get(&row);
        if let Some(earlier) = earlier.filter(|earlier| clock <= earlier.clock) {
            let after = Clock::after(Some(&earlier.clock), clock.millis(), &self.node);
            clock = after.map_err(|error| refused(&error))?;
        }
        let birth = match checked.op {
            Op::Create => Some(clock.clone()),
            _ => earlier.and_then(|earlier| earlier.birth.clone()),
        };
        if checked.op != Op::Create {
            born = born.or_else(|| birth.clone());
        }
        let written = Earlier {
            clock: clock.clone(),
            birth,
        };
        self.rows.insert(row, written);
        Ok(Stamp::Author { clock, born, seen })
    }
}

/// What an earlier write of a mutation did to a row.
#[derive(Debug, Clone)]
struct Earlier {
    clock: Clock,
    /// The row's birth, if the mutation has created it.
    birth: Option<Clock>,
}

/// The lost values that a write resolves.
pub(super) fn resolves(write: &Write) -> Result<BTreeMap<String, Vec<Clock>>, Reject> {
    if write.resolves.values().map(Vec::len).sum::<usize>() > RESOLVED_MAX {
        let message = format!("a write resolves at most {RESOLVED_MAX} lost values");
        return Err(Reject::new(RejectCode::TooLarge, message));
    }
    let of_columns = write.resolves.iter();
    let read = of_columns.map(|(column, clocks)| {
        let read = clocks.iter().map(|clock| {
            read("resolves", clock).map_err(|reject| reject.of_column(shorten(column)))
        });
        let mut clocks = read.collect::<Result<Vec<_>, _>>()?;
        clocks.sort();
        clocks.dedup();
        Ok((column.clone(), clocks))
    });
    read.collect()
}

/// The clock that a write says, if it says one.
pub(super) fn said(write: &Write) -> Option<Clock> {
    Clock::read(write.hlc.as_deref()?).ok()
}

/// Reads a clock that the author has seen or made; what it has seen may be of other programs of the family.
fn read(member: &str, text: &str) -> Result<Clock, Reject> {
    Clock::read_foreign(text).map_err(|error| no_clock(member, &error))
}

fn no_clock(member: &str, error: &ClockError) -> Reject {
    invalid(format!("`{member}` is no clock: {error}"))
}

fn read_some(member: &str, text: Option<&str>) -> Result<Option<Clock>, Reject> {
    text.map(|text| read(member, text)).transpose()
}

/// The reject of a write whose clock is refused.
fn refused(error: &impl fmt::Display) -> Reject {
    Reject::new(RejectCode::Clock, error.to_string())
}

/// Checks an edit of a column that is more than a register: `{"add": 3}` of a counter, `{"add": […], "remove": […]}` of a
/// set. None where the value is none and is checked as any other.
pub(super) fn check_edit(
    rules: &Rules,
    schema: &Schema,
    column: usize,
    raw: &RawValue,
) -> Option<Result<(), String>> {
    let found = &schema.columns[column];
    let merge = rules.merge(&found.name);
    if !matches!(merge, ColumnMerge::Counter | ColumnMerge::Set) || !raw.get().starts_with('{') {
        return None;
    }
    let edit: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    Some(match merge {
        ColumnMerge::Counter => check_increment(&edit, &found.kind),
        _ => check_members(&edit, &found.kind),
    })
}

fn check_increment(edit: &BTreeMap<String, &RawValue>, kind: &ColumnKind) -> Result<(), String> {
    let add = match edit.get("add") {
        Some(add) if edit.len() == 1 => add,
        _ => return Err("an edit of a counter is {\"add\": number}".to_owned()),
    };
    column_value::check(kind, add)?;
    let value: Value = serde_json::from_str(add.get()).map_err(|error| error.to_string())?;
    let amount = Amount::of(&value);
    let checked = amount.map_err(|error| format!("it cannot be added: {error}"));
    checked.map(|_| ())
}

fn check_members(edit: &BTreeMap<String, &RawValue>, kind: &ColumnKind) -> Result<(), String> {
    let is_known = |name: &str| matches!(name, "add" | "remove");
    if edit.is_empty() || !edit.keys().all(|name| is_known(name)) {
        return Err("an edit of a set is {\"add\": […], \"remove\": […]}".to_owned());
    }
    for members in edit.values() {
        column_value::check(kind, members)?;
        if !members.get().starts_with('[') {
            return Err("the members of a set are an array".to_owned());
        }
    }
    Ok(())
}
