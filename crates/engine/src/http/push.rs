//! Mutations by `POST`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use protocol::{
    Ack, Chain, Conflict, ErrorCode, Push, RejectCode, Rejected, ServerFrame, Writes, json,
    json_fault,
};
use serde::{Deserialize, Serialize};
use sync_core::limit::Limit;
use sync_core::mutation::Applied;
use sync_core::mutation::fields::Merged;
use uuid::Uuid;

use super::Feature;
use super::door::Admitted;
use super::error::HttpError;
use crate::auth::Identity;
use crate::limits;
use crate::mutations::{self, MutationError};
use crate::session;
use crate::state::EngineState;

pub(super) const FEATURE: Feature = Feature {
    name: "push",
    reserved: &[],
    routes: |prefix| Router::new().route(&format!("{prefix}/{{entity}}"), post(push)),
};

/// The server compares the chains of a client's mutations.
pub(super) const CHAIN: Feature = Feature {
    name: "chain",
    reserved: &[],
    routes: |_| Router::new(),
};

#[derive(Debug, Deserialize)]
struct Body {
    client_id: Uuid,
    mutation: u64,
    chain: Option<Chain>,
    writes: Writes,
}

async fn push(
    State(state): State<Arc<EngineState>>,
    Path(entity): Path<String>,
    Admitted(identity): Admitted,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, HttpError> {
    check_open(&state, &entity)?;
    apply(&state, identity, body).await
}

/// Checks that there is an entity of this name for clients.
pub(super) fn check_open(state: &EngineState, entity: &str) -> Result<(), HttpError> {
    let message = "no entity of this name is synced";
    let unknown = || HttpError::new(ErrorCode::UnknownEntity, message);
    state.is_open(entity).then_some(()).ok_or_else(unknown)
}

/// Applies the mutation in a body: 200 with an ack, or the status that fits the reject.
pub(super) async fn apply(
    state: &Arc<EngineState>,
    identity: Identity,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, HttpError> {
    let user = identity.counted();
    let principal = identity.principal;
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            limits::reached(Limit::FrameBytes);
            HttpError::new(
                ErrorCode::TooLarge,
                "the body is larger than frame_bytes_max",
            )
        }
        _ => HttpError::new(ErrorCode::Protocol, "the body could not be read"),
    })?;
    let body: Body = serde_json::from_slice(&body).map_err(|error| {
        HttpError::new(
            ErrorCode::Protocol,
            format!("not a mutation: {}", json_fault(&error)),
        )
    })?;
    if state.hub.epoch().is_none() || state.shutdown.is_cancelled() {
        return Err(HttpError::unavailable());
    }
    if let Some(pause) = state.rates.push_pause(user.as_ref()) {
        let message = "this user pushes more than it may (limits.pushes_per_second_of_user, writes_per_second_of_user)";
        return Err(HttpError::new(ErrorCode::RateLimited, message).retry_after(pause));
    }
    state.rates.push(user.as_ref(), body.writes.len());
    let (mutation, client_id) = (body.mutation, body.client_id);
    let push = Push {
        mutation,
        chain: body.chain,
        writes: body.writes,
    };
    // In a task of its own, so that a client that disconnects does not stop a mutation half-way.
    let applying = state.clone();
    let applied = state
        .tasks
        .spawn(async move { mutations::apply(&applying, &principal, client_id, push, None).await });
    match applied.await {
        Ok(Ok(applied)) => Ok(answer(mutation, applied)),
        Ok(Err(MutationError::OtherUser)) => {
            Err(HttpError::new(ErrorCode::Forbidden, session::OTHER_USER))
        }
        Ok(Err(_)) => Err(HttpError::unavailable()),
        Err(_) => Err(HttpError::new(
            ErrorCode::Internal,
            "the server failed; push again",
        )),
    }
}

/// An `ack` with what on a socket comes in frames before it.
#[derive(Serialize)]
struct AckWithConflicts {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    ack: Ack,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<Conflict>,
}

fn answer(mutation: u64, applied: Applied) -> Response {
    let (status, text) = match applied {
        Applied::Committed { merged, .. } => {
            let Merged {
                stamps, conflicts, ..
            } = merged;
            let ack = AckWithConflicts {
                kind: "ack",
                ack: Ack { mutation, stamps },
                conflicts,
            };
            (StatusCode::OK, json::text(&ack))
        }
        Applied::Rejected(reject) => {
            let status = reject_status(reject.code);
            let frame = ServerFrame::Reject(Rejected { mutation, reject });
            (status, frame.to_text())
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (status, headers, text).into_response()
}

fn reject_status(code: RejectCode) -> StatusCode {
    match code {
        RejectCode::NotFound
        | RejectCode::Exists
        | RejectCode::Constraint
        | RejectCode::Refused
        | RejectCode::OutOfOrder
        | RejectCode::Forked
        | RejectCode::Forgotten => StatusCode::CONFLICT,
        RejectCode::Forbidden => StatusCode::FORBIDDEN,
        RejectCode::Invalid
        | RejectCode::UnknownEntity
        | RejectCode::UnknownColumn
        | RejectCode::UnknownMutator
        | RejectCode::TooLarge
        | RejectCode::Clock => StatusCode::UNPROCESSABLE_ENTITY,
    }
}
