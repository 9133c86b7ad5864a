//! Who is there: cursors, names and the like, which are passed on and never kept.

use crate::json;
use crate::limits::{Limit, ScanLimits};
use crate::reader::{Fault, FaultKind, Reader};

/// What one client says of itself, or that it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwarenessEntry<'a> {
    /// The client's number in the document.
    pub client: u64,
    /// Grows with what it says.
    pub clock: u64,
    /// The state as JSON; none for one who is gone.
    pub state: Option<&'a str>,
}

/// Reads an awareness update. Every state is JSON, because every client parses it without asking.
///
/// # Errors
/// When the bytes are none, a state is no JSON, or there is more than the limits say.
pub fn scan_awareness<'a>(
    bytes: &'a [u8],
    limits: &ScanLimits,
) -> Result<Vec<AwarenessEntry<'a>>, Fault> {
    let mut reader = Reader::new(bytes);
    // A client, a clock, and a text with its length.
    let count = reader.count(4)?;
    if count > limits.awareness_clients_max {
        return Err(Fault {
            at: 0,
            kind: FaultKind::TooMany(Limit::AwarenessClients),
        });
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let (client, clock) = (reader.number()?, reader.number()?);
        let at = reader.clone();
        let state = reader.text()?;
        if state.len() as u64 > limits.awareness_bytes_max {
            return Err(at.fault(FaultKind::TooMany(Limit::AwarenessBytes)));
        }
        json::check(state).map_err(|kind| at.fault(kind))?;
        entries.push(AwarenessEntry {
            client,
            clock,
            state: (state.trim() != "null").then_some(state),
        });
    }
    reader.end()?;
    Ok(entries)
}
