//! Yjs documents, without effects: what comes from a client is read here before anything else sees it.
//!
//! Updates are kept byte for byte as they came, and the libraries that build documents of them trust their bytes: a count
//! makes them reserve memory, nested values fill their stack, and a length that overflows ends the process. So a scan comes
//! first. It reads the encoding of lib0 and Yjs (version 1; <https://github.com/yjs/yjs>, `INTERNALS.md`) from end to end and
//! builds nothing.
//!
//! Invariants:
//!
//! 1. *No input panics*, whatever its bytes.
//! 2. *The memory of a scan has a bound*: a fixed multiple of the bytes that came, whatever they claim.
//! 3. *What passes a scan, Yjs can decode*, and yrs as well unless it is said not to be mergeable; what Yjs writes passes it,
//!    unless a limit with a name is exceeded.

mod any;
mod awareness;
mod clock;
mod content;
mod deletes;
mod json;
mod limits;
mod presence;
mod reader;
mod snapshot;
mod state_vector;
mod tiles;
mod update;
pub mod wire;
mod writer;

pub use awareness::{AwarenessEntry, scan_awareness};
pub use limits::{Limit, ScanLimits};
pub use presence::{CLIENTS_OF_CONNECTION_MAX, Connection, Presence};
pub use reader::{Fault, FaultKind};
pub use snapshot::Snapshot;
pub use state_vector::scan_state_vector;
pub use tiles::{CompactionPolicy, Tile, TileFault, check_tiles, parts_to_merge};
pub use update::{ClientRange, UpdateScan, scan_update};
pub use writer::{awareness_update, state_vector};
