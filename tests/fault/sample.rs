//! What a client held at one cursor, in compact form, to be checked when everything is at rest.

use sync_core::cursor::Epoch;
use sync_core::snapshot::Snapshot;

use crate::filters::Filter;

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) client: usize,
    /// The epoch that the snapshot belongs to.
    pub(crate) epoch: Epoch,
    pub(crate) snapshot: Snapshot,
    /// All live subscriptions.
    pub(crate) subscriptions: Vec<SampledSubscription>,
}

#[derive(Debug)]
pub(crate) struct SampledSubscription {
    pub(crate) entity: String,
    pub(crate) filter: Filter,
    /// The columns that `subscribed` named.
    pub(crate) columns: Vec<String>,
    /// Key and fingerprint of each row.
    pub(crate) rows: Vec<(String, u64)>,
}
