//! What the subscriptions of one session may cost.

use protocol::SelectionRequest;

use super::SubscribeError;
use crate::limit::Limit;
use crate::shape::{Selection, Shape};

/// The most that the subscriptions of one session may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Subscriptions.
    pub subscriptions_max: usize,
    /// Comparisons that evaluating each filter once takes ([`filter::Work::base`]).
    pub filter_work_max: usize,
    /// Memory of the filters, as the client wrote them and as they are evaluated, in bytes.
    pub filter_bytes_max: usize,
}

/// What a subscription costs, even when it shares its shape with others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    work: usize,
    pub(super) bytes: usize,
}

impl Cost {
    pub(super) fn of(shape: &Shape, request: &SelectionRequest) -> Self {
        let filter = shape.selection().map(Selection::filter);
        let texts = [&request.filter].into_iter().flatten();
        let columns = request.columns.iter().flatten();
        let params = request.params.iter().flatten();
        let written: usize = texts.chain(columns).map(String::len).sum();
        let params: usize = params.map(|param| param.get().len()).sum();
        Self {
            work: filter.map_or(0, |filter| filter.work().base()),
            bytes: filter.map_or(0, |filter| filter.bytes()) + written + params,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            work: self.work + other.work,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl SessionLimits {
    pub(super) fn check(&self, cost: Cost) -> Result<(), SubscribeError> {
        let fail = |limit, message| Err(SubscribeError::beyond(limit, message));
        if cost.work > self.filter_work_max {
            let message = format!(
                "the filters of a connection take at most {} comparisons for each row (filter_work_max)",
                self.filter_work_max
            );
            return fail(Limit::FilterWork, message);
        }
        if cost.bytes > self.filter_bytes_max {
            let message = format!(
                "the filters of a connection take at most {} bytes (filter_bytes_max)",
                self.filter_bytes_max
            );
            return fail(Limit::FilterBytes, message);
        }
        Ok(())
    }
}
