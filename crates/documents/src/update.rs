//! Updates: what somebody has inserted and deleted.

use std::collections::HashSet;

use crate::clock::{CLOCK_MAX, end_of};
use crate::content;
use crate::deletes;
use crate::limits::{Limit, ScanLimits};
use crate::reader::{Fault, FaultKind, Reader};

/// The bits of a struct's first byte.
const NUMBER: u8 = 0x1f;
const HAS_LEFT: u8 = 0x80;
const HAS_RIGHT: u8 = 0x40;
const HAS_PARENT_SUB: u8 = 0x20;
/// The numbers of structs that are no items.
const COLLECTED: u8 = 0;
const SKIP: u8 = 10;

/// What an update has of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRange {
    /// The client's number.
    pub client: u64,
    /// The clock of its first struct.
    pub from: u64,
    /// The clock after its last.
    pub to: u64,
    /// The clock at which something is left out for the first time; as `to` where nothing is.
    pub until_gap: u64,
}

/// What an update holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateScan {
    /// By client, in the update's order.
    pub clients: Vec<ClientRange>,
    /// How many structs.
    pub structs: u64,
    /// How many ranges of deletions.
    pub delete_ranges: u64,
    /// Whether it names documents within the document.
    pub has_documents: bool,
    /// Whether yrs can read it, too. If not it is kept and handed on as it came, and is merged by clients alone.
    pub is_mergeable: bool,
}

impl UpdateScan {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.structs == 0 && self.delete_ranges == 0
    }
}

/// Reads an update (version 1) to its end.
///
/// # Errors
/// When the bytes are none, or hold more than the limits say: what is wrong, and where.
pub fn scan_update(bytes: &[u8], limits: &ScanLimits) -> Result<UpdateScan, Fault> {
    scan_with_deletes(bytes, limits, |_, _, _| {})
}

/// The same, which names each client, clock and length that is deleted.
pub(crate) fn scan_with_deletes(
    bytes: &[u8],
    limits: &ScanLimits,
    each_delete: impl FnMut(u64, u64, u64),
) -> Result<UpdateScan, Fault> {
    let mut reader = Reader::new(bytes);
    let mut scan = UpdateScan {
        clients: Vec::new(),
        structs: 0,
        delete_ranges: 0,
        has_documents: false,
        is_mergeable: true,
    };
    let mut seen = HashSet::new();
    // The number of structs, the client, the clock, and a struct of two bytes.
    let clients = reader.count(5)?;
    if clients > limits.clients_max {
        return Err(Fault {
            at: 0,
            kind: FaultKind::TooMany(Limit::Clients),
        });
    }
    for _ in 0..clients {
        let at = reader.clone();
        let structs = reader.count(2)?;
        if structs == 0 {
            return Err(at.fault(FaultKind::Empty));
        }
        scan.structs += structs;
        if scan.structs > limits.structs_max {
            return Err(at.fault(FaultKind::TooMany(Limit::Structs)));
        }
        let client = reader.number()?;
        if !seen.insert(client) {
            return Err(at.fault(FaultKind::Twice));
        }
        let from = reader.number()?;
        let (mut to, mut gap) = (from, None);
        for _ in 0..structs {
            let at = reader.clone();
            let (length, is_there) = scan_struct(&mut reader, limits, &mut scan)?;
            if !is_there {
                gap = gap.or(Some(to));
            }
            to = end_of(to, length).map_err(|kind| at.fault(kind))?;
        }
        scan.clients.push(ClientRange {
            client,
            from,
            to,
            until_gap: gap.unwrap_or(to),
        });
    }
    scan.delete_ranges = deletes::scan(&mut reader, limits, each_delete)?;
    reader.end()?;
    Ok(scan)
}

/// Reads a struct. Returns its length, and whether it is there: in place of what is left out stands one that is not.
fn scan_struct(
    reader: &mut Reader<'_>,
    limits: &ScanLimits,
    scan: &mut UpdateScan,
) -> Result<(u64, bool), Fault> {
    let at = reader.clone();
    let info = reader.byte()?;
    if info == COLLECTED || info == SKIP {
        return match reader.number()? {
            0 => Err(at.fault(FaultKind::Empty)),
            length => Ok((length, info != SKIP)),
        };
    }
    for _ in [HAS_LEFT, HAS_RIGHT].iter().filter(|bit| info & **bit != 0) {
        id(reader)?;
    }
    // Only what stands beside nothing says where it belongs.
    if info & (HAS_LEFT | HAS_RIGHT) == 0 {
        let at = reader.clone();
        match reader.byte()? {
            1 => {
                reader.text()?;
            }
            0 => id(reader)?,
            _ => return Err(at.fault(FaultKind::Tag)),
        }
        if info & HAS_PARENT_SUB != 0 {
            reader.text()?;
        }
    }
    let content = content::scan(reader, info & NUMBER, limits)?;
    scan.has_documents |= content.is_document;
    scan.is_mergeable &= content.is_mergeable;
    Ok((content.length, true))
}

/// Reads a client and a clock.
fn id(reader: &mut Reader<'_>) -> Result<(), Fault> {
    reader.number()?;
    let at = reader.clone();
    match reader.number()? <= CLOCK_MAX {
        true => Ok(()),
        false => Err(at.fault(FaultKind::Clock)),
    }
}
