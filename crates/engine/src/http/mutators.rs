//! The mutators that clients can call, with the schemas of their arguments; and mutations that belong to no entity.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Feature;
use super::door::Admitted;
use super::error::HttpError;
use super::push;
use crate::state::EngineState;

/// Offered where there is at least one.
pub(super) const FEATURE: Feature = Feature {
    name: "mutators",
    reserved: &["mutators"],
    routes: |prefix| Router::new().route(&format!("{prefix}/mutators"), get(list).post(call)),
};

/// Lists the mutators by name.
async fn list(State(state): State<Arc<EngineState>>, _: Admitted) -> Json<Value> {
    let listed = state.config.mutators.all().map(|(name, mutator)| {
        let mut listed = json!({ "name": name, "args": mutator.args });
        if let Some(description) = mutator.args.get("description") {
            listed["description"] = description.clone();
        }
        listed
    });
    Json(json!({ "mutators": listed.collect::<Vec<_>>() }))
}

/// Applies a mutation, which may have nothing but calls.
async fn call(
    State(state): State<Arc<EngineState>>,
    Admitted(identity): Admitted,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, HttpError> {
    push::apply(&state, identity, body).await
}
