//! The WebSocket route.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::upgrade::{OnUpgrade, Upgraded};
use protocol::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::{Feature, door, feature_names};
use crate::session::{Greeting, WebSocket, greet};
use crate::state::EngineState;

pub(super) const FEATURE: Feature = Feature {
    name: "websocket",
    reserved: &["ws"],
    routes: |prefix| Router::new().route(&format!("{prefix}/ws"), get(upgrade)),
};

/// The answer to a request that does not ask for a WebSocket.
const UPGRADE_REQUIRED: &str = "this route is a WebSocket: upgrade an HTTP/1.1 connection";

async fn upgrade(State(state): State<Arc<EngineState>>, request: Request) -> Response {
    connect(state, request, false)
}

/// Upgrades the connection of a request. On it clients can subscribe to fields alone if `only_fields`.
pub(super) fn connect(state: Arc<EngineState>, request: Request, only_fields: bool) -> Response {
    let (headers, extensions) = (request.headers(), request.extensions());
    let asks_for_our_protocol = asks_for_our_protocol(headers);
    let auth = &state.config.auth;
    let greeting = Greeting {
        unwelcome: door::check(headers, extensions, auth)
            .err()
            .map(door::Unwelcome::message),
        credential: door::credential(headers, extensions, auth),
        address: door::address(headers, extensions, auth),
        features: feature_names(&state.config),
        only_fields,
    };
    let mut response = upgrade_to(state, request, move |state, upgraded| {
        serve(state, upgraded, greeting)
    });
    if asks_for_our_protocol && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// Upgrades the connection of a request, for what serves it.
pub(super) fn upgrade_to<F: Future<Output = ()> + Send + 'static>(
    state: Arc<EngineState>,
    mut request: Request,
    serve: impl FnOnce(Arc<EngineState>, Upgraded) -> F + Send + 'static,
) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let response = create_response_with_body(&request, Body::empty).ok();
    let (Some(upgrade), Some(response)) = (upgrade, response) else {
        // HTTP/2 has neither these headers nor the upgrade, so a proxy that speaks it drops them.
        let required = [
            (CONNECTION, "upgrade"),
            (UPGRADE, "websocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
        ];
        return (StatusCode::UPGRADE_REQUIRED, required, UPGRADE_REQUIRED).into_response();
    };
    tokio::spawn(async move {
        // It fails when the client disconnects before the answer, and then there is nothing to serve.
        if let Ok(upgraded) = upgrade.await {
            let tasks = state.tasks.clone();
            tasks.track_future(Box::pin(serve(state, upgraded))).await;
        }
    });
    response
}

async fn serve(state: Arc<EngineState>, upgraded: Upgraded, greeting: Greeting) {
    // Boxed on its own: the handshake's future is freed long before the connection ends.
    let greeted = Box::pin(async move {
        let socket = WebSocket::new(upgraded, state.config.limits.frame_bytes_max).await;
        greet(state, socket, greeting).await
    });
    if let Some(session) = greeted.await {
        session.run(None).await;
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
