//! Windows that clients ask for: the first rows in some order.
//!
//! Which rows these are is a set of keys, and the shape's rows are those whose keys are in it. What else decides is
//! inside the set, so a row that comes into the window and one that leaves it are moved by the set alone.

use std::collections::BTreeMap;

use filter::{Filter, FilterError, Set, SetRows, Table, Window, WindowRequest};
use protocol::{Direction, SelectionRequest};

use super::{CurrentTable, ResolveError};

/// The window that a client asks for, if it asks for one.
pub(super) fn requested(
    request: &SelectionRequest,
    visible: Table<'_>,
    partial: &BTreeMap<usize, Filter>,
) -> Result<Option<Window>, ResolveError> {
    let Some(limit) = request.limit else {
        if request.asks_for_window() {
            let error = FilterError::bad_request("`order` and `after` belong to a `limit`");
            return Err(ResolveError::Request(error));
        }
        return Ok(None);
    };
    let order = request.order.iter().flatten();
    let order: Vec<(&str, filter::Direction)> = order
        .map(|(column, direction)| {
            let direction = match direction {
                Direction::Asc => filter::Direction::Ascending,
                Direction::Desc => filter::Direction::Descending,
            };
            (column.as_str(), direction)
        })
        .collect();
    let request = WindowRequest {
        order: &order,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        after: request.after.as_deref(),
    };
    let is_partial = |column| {
        partial
            .get(&column)
            .is_some_and(|rows| !rows.is_everything())
    };
    let window = Window::new(request, visible, is_partial);
    window.map(Some).map_err(ResolveError::Request)
}

/// The filter of the rows that are in a window of those that match `rows`.
pub(super) fn filter(table: &CurrentTable, rows: Filter, window: Window) -> Filter {
    Filter::of_window(Set::new(SetRows {
        schema: table.schema.clone(),
        fingerprint: table.fingerprint.clone(),
        backend: table.backend,
        filter: rows,
        columns: table.schema.key.clone(),
        window: Some(window),
        asked: None,
    }))
}
