//! What an update deletes.

use std::collections::HashSet;

use crate::clock::end_of;
use crate::limits::{Limit, ScanLimits};
use crate::reader::{Fault, FaultKind, Reader};

/// Reads a delete set, and names each client, clock and length in it. Returns how many ranges it has.
pub(crate) fn scan(
    reader: &mut Reader<'_>,
    limits: &ScanLimits,
    mut each: impl FnMut(u64, u64, u64),
) -> Result<u64, Fault> {
    let begin = reader.clone();
    // A client, and the number of its ranges.
    let clients = reader.count(2)?;
    if clients > limits.clients_max {
        return Err(begin.fault(FaultKind::TooMany(Limit::Clients)));
    }
    let (mut seen, mut all) = (HashSet::new(), 0_u64);
    for _ in 0..clients {
        let at = reader.clone();
        let client = reader.number()?;
        if !seen.insert(client) {
            return Err(at.fault(FaultKind::Twice));
        }
        let ranges = reader.count(2)?;
        all += ranges;
        if all > limits.delete_ranges_max {
            return Err(at.fault(FaultKind::TooMany(Limit::DeleteRanges)));
        }
        for _ in 0..ranges {
            let at = reader.clone();
            let (clock, length) = (reader.number()?, reader.number()?);
            if length == 0 {
                return Err(at.fault(FaultKind::Empty));
            }
            end_of(clock, length).map_err(|kind| at.fault(kind))?;
            each(client, clock, length);
        }
    }
    Ok(all)
}
