//! How far a client's document goes.

use std::collections::BTreeMap;

use crate::clock::CLOCK_MAX;
use crate::limits::{Limit, ScanLimits};
use crate::reader::{Fault, FaultKind, Reader};

/// Reads a state vector: for each client the clock that comes next.
///
/// # Errors
/// When the bytes are none, or hold more than the limits say.
pub fn scan_state_vector(bytes: &[u8], limits: &ScanLimits) -> Result<BTreeMap<u64, u64>, Fault> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(2)?;
    if count > limits.clients_max {
        return Err(Fault {
            at: 0,
            kind: FaultKind::TooMany(Limit::Clients),
        });
    }
    let mut clocks = BTreeMap::new();
    for _ in 0..count {
        let at = reader.clone();
        let (client, clock) = (reader.number()?, reader.number()?);
        if clock > CLOCK_MAX {
            return Err(at.fault(FaultKind::Clock));
        }
        if clocks.insert(client, clock).is_some() {
            return Err(at.fault(FaultKind::Twice));
        }
    }
    reader.end()?;
    Ok(clocks)
}
