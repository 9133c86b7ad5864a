//! What happens at a limit: it is counted, and a client for which there is no room is told when to come back.

use std::time::Duration;

use sync_core::limit::Limit;

/// When to come back where nobody knows when there will be room.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Counts that a client has reached a limit.
pub(crate) fn reached(limit: Limit) {
    metrics::counter!("rhtmx_sync_limits_reached_total", "limit" => limit.name()).increment(1);
}
