//! A node's records on their way into the tables: a few to a mutation, each tried again without the ones that are refused.
//!
//! The protocol answers nothing to a record. All that a node learns is the clock up to which it need not send its records
//! again, so that clock never passes a record that was not taken for a reason that may pass.

use std::collections::VecDeque;

use merge::{AHEAD_MS_MAX, Clock};
use protocol::{Reject, RejectCode};

use super::frames::{ReadChangeset, Received};

/// How many records share a mutation.
const MUTATION_RECORDS: usize = 100;

/// How many bytes of records share a mutation about.
const MUTATION_BYTES: usize = 256 * 1024;

/// How many bytes of records may wait. Until they are fewer nothing more is read.
pub(super) const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many bytes of records are kept whose time has not come, or that a constraint forbids; others come again with the next
/// connection.
pub(super) const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How often a mutation gets another number because another connection of the node has used it.
const RENUMBERED_MAX: u32 = 1_000;

/// How long a connection lives before what it has taken counts. A node may send a new row before the older ones that it has
/// written offline, and says nothing when these have come.
pub(super) const SETTLED_AFTER_MS: u64 = 30_000;

/// The records of one connection.
#[derive(Debug)]
pub(super) struct Pushes {
    waiting: VecDeque<Received>,
    waiting_bytes: usize,
    /// A constraint was in the way; another record may clear it.
    again: Vec<Received>,
    /// Whether a record was taken since they were tried.
    has_progressed: bool,
    /// Their clocks are ahead.
    early: Vec<Received>,
    /// The bytes of both.
    kept_bytes: usize,
    under_way: Option<(u64, Vec<Received>)>,
    /// How many of the next records go alone, because it is unknown which of them was refused.
    alone: usize,
    number: u64,
    renumbered: u32,
    writes_max: usize,
    taken: Taken,
}

/// Up to which clock a node's records are taken.
#[derive(Debug)]
struct Taken {
    before: Option<Clock>,
    newest: Option<Clock>,
    /// A record must come again.
    is_held: bool,
    opened_ms: u64,
    /// Whether what the node wrote offline has come for certain.
    is_caught_up: bool,
    newest_seen: Option<Clock>,
}

impl Pushes {
    /// Behind this mutation of the node, with records after this clock.
    pub(super) fn new(
        last_number: u64,
        before: Option<Clock>,
        writes_max: usize,
        opened_ms: u64,
    ) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            again: Vec::new(),
            has_progressed: false,
            early: Vec::new(),
            kept_bytes: 0,
            under_way: None,
            alone: 0,
            number: last_number,
            renumbered: 0,
            writes_max: writes_max.clamp(1, MUTATION_RECORDS),
            taken: Taken {
                before,
                newest: None,
                is_held: false,
                opened_ms,
                is_caught_up: false,
                newest_seen: None,
            },
        }
    }

    /// Takes up a changeset.
    pub(super) fn add(&mut self, changeset: ReadChangeset, now_ms: u64) {
        self.taken.is_held |= !changeset.left_out.is_empty();
        self.taken.see(&changeset.records);
        for record in changeset.records {
            match record.hlc.millis() > now_ms.saturating_add(AHEAD_MS_MAX) {
                true => self.keep(record, Kept::Early),
                false => self.wait(record),
            }
        }
    }

    /// Whether there is room for another changeset.
    pub(super) fn has_room(&self) -> bool {
        self.waiting_bytes < WAITING_BYTES_MAX
    }

    /// When the first record is due whose clock is ahead.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let due = self.early.iter().map(|record| record.hlc.millis());
        due.min().map(|millis| millis.saturating_sub(AHEAD_MS_MAX))
    }

    /// The next mutation as a frame; none while one is under way.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<String> {
        if self.under_way.is_some() {
            return None;
        }
        if self.due_ms().is_some_and(|due| due <= now_ms) {
            let is_due =
                |record: &mut Received| record.hlc.millis() <= now_ms.saturating_add(AHEAD_MS_MAX);
            let due: Vec<Received> = self.early.extract_if(.., is_due).collect();
            self.wait_again(due);
        }
        if self.waiting.is_empty() && std::mem::take(&mut self.has_progressed) {
            let again = std::mem::take(&mut self.again);
            self.wait_again(again);
        }
        let batch = self.batch();
        if batch.is_empty() {
            return None;
        }
        self.number += 1;
        let writes: Vec<&str> = batch.iter().map(|record| record.write.as_str()).collect();
        let number = self.number;
        let frame = format!(
            r#"{{"type":"push","mutation":{number},"writes":[{}]}}"#,
            writes.join(",")
        );
        self.under_way = Some((number, batch));
        Some(frame)
    }

    fn batch(&mut self) -> Vec<Received> {
        let records_max = match self.alone {
            0 => self.writes_max,
            _ => 1,
        };
        let mut batch: Vec<Received> = Vec::new();
        let mut bytes = 0;
        while batch.len() < records_max && bytes < MUTATION_BYTES {
            // Records of one row come one after another.
            let Some(record) = self.waiting.pop_front() else {
                break;
            };
            bytes += record.write.len();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(record.write.len());
            batch.push(record);
        }
        self.alone = self.alone.saturating_sub(batch.len());
        batch
    }

    /// A mutation was committed.
    pub(super) fn acked(&mut self, number: u64) {
        if let Some(records) = self.answered(number) {
            self.renumbered = 0;
            self.has_progressed = true;
            let newest = records.into_iter().map(|record| record.hlc).max();
            self.taken.newest = self.taken.newest.take().max(newest);
        }
    }

    /// A mutation was rejected: what became of the record that was the reason, for a log. `Err` where the connection must
    /// begin again.
    pub(super) fn rejected(&mut self, number: u64, reject: &Reject) -> Result<(), &'static str> {
        let Some(mut records) = self.answered(number) else {
            return Ok(());
        };
        match reject.code {
            RejectCode::OutOfOrder | RejectCode::Forked | RejectCode::Forgotten => {
                self.renumbered += 1;
                if self.renumbered > RENUMBERED_MAX {
                    return Err("another connection of this node is using its numbers");
                }
                if let Some(expected) = reject.expected {
                    self.number = expected.saturating_sub(1);
                }
                self.wait_first(records);
                return Ok(());
            }
            _ => self.renumbered = 0,
        }
        let refused = match (reject.write, records.len()) {
            (_, 1) => Some(0),
            (Some(index), count) if index < count => Some(index),
            _ => None,
        };
        match refused {
            Some(index) => {
                let record = records.remove(index);
                self.refuse(record, reject.code);
            }
            None => self.alone = records.len(),
        }
        self.wait_first(records);
        Ok(())
    }

    fn refuse(&mut self, record: Received, code: RejectCode) {
        match code {
            RejectCode::Constraint => self.keep(record, Kept::Again),
            RejectCode::Clock => self.keep(record, Kept::Early),
            // Nobody may write it, or it is of a row that nobody has: so it will be the next time.
            RejectCode::Forbidden
            | RejectCode::Refused
            | RejectCode::NotFound
            | RejectCode::TooLarge
            | RejectCode::UnknownEntity => {
                self.taken.newest = self.taken.newest.take().max(Some(record.hlc));
            }
            _ => self.taken.is_held = true,
        }
    }

    /// The clock up to which the node need not send its records again.
    pub(super) fn taken(&self, now_ms: u64) -> Option<&Clock> {
        let rests = self.waiting.is_empty()
            && self.under_way.is_none()
            && self.again.is_empty()
            && self.early.is_empty();
        match rests {
            true => self.taken.up_to(now_ms),
            false => self.taken.before.as_ref(),
        }
    }

    fn answered(&mut self, number: u64) -> Option<Vec<Received>> {
        let (_, records) = self.under_way.take_if(|(it, _)| *it == number)?;
        Some(records)
    }

    fn wait(&mut self, record: Received) {
        self.waiting_bytes += record.write.len();
        self.waiting.push_back(record);
    }

    fn wait_first(&mut self, records: Vec<Received>) {
        for record in records.into_iter().rev() {
            self.waiting_bytes += record.write.len();
            self.waiting.push_front(record);
        }
    }

    fn keep(&mut self, record: Received, why: Kept) {
        let bytes = self.kept_bytes + record.write.len();
        if bytes > KEPT_BYTES_MAX {
            self.taken.is_held = true;
            return;
        }
        self.kept_bytes = bytes;
        match why {
            Kept::Early => self.early.push(record),
            Kept::Again => self.again.push(record),
        }
    }

    fn wait_again(&mut self, records: Vec<Received>) {
        for record in records {
            self.kept_bytes = self.kept_bytes.saturating_sub(record.write.len());
            self.wait(record);
        }
    }
}

/// Why a record is kept for later.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// Its clock is ahead.
    Early,
    /// A constraint was in the way.
    Again,
}

impl Taken {
    /// Looks at the clocks of a frame. A frame that is sent while the application writes has the rows of one moment, which
    /// come once; so one with several, or with a row that has come before, is what was written offline.
    fn see(&mut self, records: &[Received]) {
        let clocks = || records.iter().map(|record| &record.hlc);
        let (least, greatest) = (clocks().min(), clocks().max());
        let has_come = self.newest_seen.is_some() && least < self.newest_seen.as_ref();
        self.is_caught_up |= least != greatest || has_come && least.is_some();
        self.newest_seen = self.newest_seen.take().max(greatest.cloned());
    }

    fn up_to(&self, now_ms: u64) -> Option<&Clock> {
        let is_old = now_ms.saturating_sub(self.opened_ms) >= SETTLED_AFTER_MS;
        let counts = !self.is_held && (self.is_caught_up || is_old);
        match counts {
            true => self.newest.as_ref().max(self.before.as_ref()),
            false => self.before.as_ref(),
        }
    }
}
