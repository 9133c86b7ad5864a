//! What a document holds, in a form of which there is one: two documents are the same where their snapshots are.
//!
//! The bytes of equal documents differ, with the order and the grain in which they were merged. And a state vector is not
//! all: deletions do not advance it.

use std::collections::BTreeMap;

use crate::limits::ScanLimits;
use crate::reader::Fault;
use crate::update::scan_with_deletes;
use crate::writer;

/// How far each client's structs go without a gap, and what of them is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By client, the clock that comes next.
    clocks: BTreeMap<u64, u64>,
    /// By client, ranges from a clock to the one after it, in their order and with something between any two.
    deletes: BTreeMap<u64, Vec<(u64, u64)>>,
}

impl Snapshot {
    /// Of an update that holds a whole document.
    ///
    /// # Errors
    /// When the bytes are no update, or hold more than the limits say.
    pub fn of_update(update: &[u8], limits: &ScanLimits) -> Result<Self, Fault> {
        let mut ranges: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        let scan = scan_with_deletes(update, limits, |client, clock, length| {
            ranges
                .entry(client)
                .or_default()
                .push((clock, clock + length));
        })?;
        // What comes after a gap waits, and is not in a state vector yet.
        let whole = scan.clients.iter().filter(|range| range.from == 0);
        let clocks = whole
            .map(|range| (range.client, range.until_gap))
            .filter(|(_, clock)| *clock > 0);
        Ok(Self {
            clocks: clocks.collect(),
            deletes: ranges
                .into_iter()
                .map(|(client, ranges)| (client, joined(ranges)))
                .collect(),
        })
    }

    /// By client, the clock that comes next.
    pub fn clocks(&self) -> &BTreeMap<u64, u64> {
        &self.clocks
    }

    /// The bytes that stand for it, the same for the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        writer::number(&mut bytes, self.deletes.len() as u64);
        for (client, ranges) in &self.deletes {
            writer::number(&mut bytes, *client);
            writer::number(&mut bytes, ranges.len() as u64);
            for (from, to) in ranges {
                writer::number(&mut bytes, *from);
                writer::number(&mut bytes, to - from);
            }
        }
        bytes.append(&mut writer::state_vector(&self.clocks));
        bytes
    }
}

/// The ranges in their order, with those that touch made one.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}
