//! The WebSocket route.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use rhtmx_sync_core::protocol::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::origin;
use crate::engine::Inner;
use crate::session::{Socket, greet};

/// What a client is told that speaks no WebSocket.
const UPGRADE_REQUIRED: &str = "this is a WebSocket: it begins with an upgrade of HTTP/1.1";

pub(super) async fn upgrade(State(engine): State<Arc<Inner>>, mut request: Request) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let response = create_response_with_body(&request, Body::empty).ok();
    let (Some(upgrade), Some(mut response)) = (upgrade, response) else {
        // HTTP/2 knows neither header nor upgrade, and has them left out on the way.
        let wanted = [
            (CONNECTION, "upgrade"),
            (UPGRADE, "websocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
        ];
        return (StatusCode::UPGRADE_REQUIRED, wanted, UPGRADE_REQUIRED).into_response();
    };
    if asks_for_our_protocol(request.headers()) {
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let allowed = origin::is_allowed(request.headers(), &engine.config);
    tokio::spawn(async move {
        // A client that goes before it is answered has asked for nothing.
        if let Ok(upgraded) = upgrade.await {
            let tasks = engine.tasks.clone();
            tasks
                .track_future(Box::pin(serve(engine, upgraded, allowed)))
                .await;
        }
    });
    response
}

async fn serve(engine: Arc<Inner>, upgraded: Upgraded, allowed: bool) {
    // Boxed by itself: it has long ended while the connection lives.
    let greeted = Box::pin(async move {
        let socket = Socket::new(upgraded, engine.config.limits.frame_bytes_max).await;
        greet(engine, socket, allowed).await
    });
    if let Some(connection) = greeted.await {
        connection.run(None).await;
    }
}

fn asks_for_our_protocol(headers: &HeaderMap) -> bool {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == SUBPROTOCOL)
}
