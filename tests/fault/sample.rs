//! What a client held at one cursor, in little space, to be checked when all is at rest.

use sync_core::cursor::Epoch;
use sync_core::snapshot::Snapshot;

use crate::filters::Filter;

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) client: usize,
    /// The history that the snapshot belongs to.
    pub(crate) epoch: Epoch,
    pub(crate) snapshot: Snapshot,
    /// All subscriptions that were live.
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) entity: String,
    pub(crate) filter: Filter,
    /// Those that `subscribed` named.
    pub(crate) columns: Vec<String>,
    /// Key and fingerprint of each row.
    pub(crate) rows: Vec<(String, u64)>,
}
