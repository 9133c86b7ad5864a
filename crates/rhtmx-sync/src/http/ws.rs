//! The WebSocket route.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderMap;
use axum::response::Response;
use rhtmx_sync_core::protocol::SUBPROTOCOL;

use super::origin;
use crate::engine::Inner;
use crate::session::greet;

/// Memory that an idle connection keeps for reading; it grows for larger frames. The library's default
/// of 128 KiB would be most of what a connection costs.
const READ_BUFFER_BYTES: usize = 1024;
/// Frames collect up to this size before they are written on their own.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// A frame up to so many times the limit is still read, so that the client hears why it is refused;
/// beyond that the connection is cut.
const READ_ANYWAY: usize = 4;

pub(super) async fn upgrade(
    State(engine): State<Arc<Inner>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let allowed = origin::is_allowed(&headers, &engine.config);
    let frame_bytes_max = engine.config.limits.frame_bytes_max;
    upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(frame_bytes_max.saturating_mul(READ_ANYWAY))
        .max_frame_size(frame_bytes_max.saturating_mul(READ_ANYWAY))
        .on_upgrade(move |socket| async move {
            let tasks = engine.tasks.clone();
            tasks
                .track_future(Box::pin(greet(engine, socket, allowed)))
                .await;
        })
}
