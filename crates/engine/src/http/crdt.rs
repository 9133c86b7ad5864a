//! The WebSocket for nodes of the family of CRDTs over SQL.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use protocol::ErrorCode;

use super::error::HttpError;
use super::{Feature, door, ws};
use crate::crdt_sync::{self, Arrival, FRAME_BYTES_MAX};
use crate::session::WebSocket;
use crate::state::EngineState;

pub(super) const FEATURE: Feature = Feature {
    name: "crdt",
    reserved: &["crdt"],
    routes: |prefix| Router::new().route(&format!("{prefix}/crdt"), get(connect)),
};

/// The parameter of nodes whose databases have truth values.
const BOOLEANS: &str = "booleans=true";

async fn connect(State(state): State<Arc<EngineState>>, request: Request) -> Response {
    match admitted(&state, &request) {
        Ok(arrival) => ws::upgrade_to(state, request, |state, upgraded| async move {
            let socket = WebSocket::new(upgraded, FRAME_BYTES_MAX).await;
            crdt_sync::serve(state, socket, arrival).await;
        }),
        Err(error) => error.into_response(),
    }
}

fn admitted(state: &EngineState, request: &Request) -> Result<Arrival, HttpError> {
    if !state.config.crdt {
        let message = "no entity of this name is synced";
        return Err(HttpError::new(ErrorCode::UnknownEntity, message));
    }
    let (headers, extensions) = (request.headers(), request.extensions());
    let auth = &state.config.auth;
    door::check(headers, extensions, auth)?;
    let query = request.uri().query().unwrap_or_default();
    Ok(Arrival {
        credential: door::credential(headers, extensions, auth)?,
        address: door::address(headers, extensions, auth),
        has_booleans: query.split('&').any(|parameter| parameter == BOOLEANS),
    })
}
