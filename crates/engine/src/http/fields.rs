//! Rows with what is known of them beside their values, where nothing else can be asked for: under a prefix of its own, for
//! programs that merge fields, with the reads, the mutations and the sessions of the other routes.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use protocol::{ErrorCode, SelectionRequest};
use serde::Deserialize;
use serde_json::value::RawValue;
use sync_core::key;
use sync_core::shape::Shape;

use super::door::Admitted;
use super::error::HttpError;
use super::rows::{Failed, fields_alone, read_page};
use super::selection_params::SelectionParams;
use super::{Feature, push, query, ws};
use crate::auth::Identity;
use crate::rows::ReadClient;
use crate::rows::pages::{self, PageEnd};
use crate::rows::spool::Next;
use crate::state::EngineState;

pub(super) const FEATURE: Feature = Feature {
    name: "fields",
    reserved: &[],
    routes: |prefix| {
        let prefix = prefix_of_fields(prefix);
        let row = format!("{prefix}/{{entity}}/{{id}}");
        Router::new()
            .route(&format!("{prefix}/ws"), get(connect))
            .route(&format!("{prefix}/{{entity}}"), get(read).post(write))
            .route(&format!("{row}/latest"), get(latest))
            .route(&row, get(latest))
    },
};

/// The prefix of these routes: that of the others, with `field-` before its last part.
fn prefix_of_fields(prefix: &str) -> String {
    let (before, last) = prefix.rsplit_once('/').unwrap_or_default();
    format!("{before}/field-{last}")
}

async fn connect(State(state): State<Arc<EngineState>>, request: Request) -> Response {
    ws::connect(state, request, true)
}

async fn read(
    State(state): State<Arc<EngineState>>,
    Path(entity): Path<String>,
    Admitted(identity): Admitted,
    uri: Uri,
) -> Response {
    let page = read_page(&state, &entity, &identity, (&uri, true)).await;
    page.unwrap_or_else(Failed::into_response)
}

/// Applies a mutation, as the other route for it does.
async fn write(
    State(state): State<Arc<EngineState>>,
    Path(entity): Path<String>,
    Admitted(identity): Admitted,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, HttpError> {
    push::check_open(&state, &entity)?;
    if !state.merges(&entity) {
        let message = "the rows of this entity do not merge by their fields";
        return Err(HttpError::new(ErrorCode::Protocol, message));
    }
    push::apply(&state, identity, body).await
}

#[derive(Debug, Deserialize)]
struct Parameters {
    #[serde(flatten)]
    selection: SelectionParams,
}

/// Returns one row.
async fn latest(
    State(state): State<Arc<EngineState>>,
    Path((entity, id)): Path<(String, String)>,
    Admitted(identity): Admitted,
    uri: Uri,
) -> Response {
    match read_row(&state, (&entity, &id), &identity, &uri).await {
        Ok(Some(row)) => {
            let headers = [(header::CACHE_CONTROL, "no-store")];
            (headers, Json(row)).into_response()
        }
        Ok(None) => {
            let body =
                serde_json::json!({ "code": "not_found", "message": "the row does not exist" });
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
        Err(failed) => failed.into_response(),
    }
}

/// Reads the row with this key. None where there is none that this user may see, also because no row can have such a key.
async fn read_row(
    state: &Arc<EngineState>,
    (entity, id): (&str, &str),
    identity: &Identity,
    uri: &Uri,
) -> Result<Option<Box<RawValue>>, Failed> {
    let Parameters { selection } = query::read(uri, &[&["columns", "mode"]])?;
    let mut selection = selection.read()?;
    fields_alone(&mut selection)?;
    let resolve = |selection: &SelectionRequest| {
        let resolved = state.resolve(&identity.principal, entity, selection);
        resolved.map_err(HttpError::from)
    };
    // Whether there is such an entity for this user, before anything of its table is used.
    resolve(&selection)?;
    let known = state.entities.last_known(entity);
    let of_key = known.and_then(|known| key::selection(id, &known.schema));
    let Some(of_key) = of_key else {
        return Ok(None);
    };
    let selection = SelectionRequest {
        filter: of_key.filter,
        params: of_key.params,
        ..selection
    };
    match resolve(&selection) {
        Ok(shape) => first_row(state, &shape, ReadClient::http(identity)).await,
        Err(error) if error.is(ErrorCode::BadFilter) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn first_row(
    state: &Arc<EngineState>,
    shape: &Shape,
    client: ReadClient,
) -> Result<Option<Box<RawValue>>, Failed> {
    let mut items = state.reader.rows_page(shape, None, 1, client);
    loop {
        match pages::next(&mut items).await? {
            Next::Head(_) => {}
            Next::Page(array) => {
                let rows: Vec<Box<RawValue>> =
                    serde_json::from_slice(&array).map_err(|_| HttpError::unavailable())?;
                if let Some(row) = rows.into_iter().next() {
                    return Ok(Some(row));
                }
            }
            Next::End(PageEnd::Complete { .. }) => return Ok(None),
            Next::End(end) => return Err(end.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_of_fields;

    #[test]
    fn each_prefix_has_one_for_fields() {
        assert_eq!(prefix_of_fields("/api/sync"), "/api/field-sync");
        assert_eq!(prefix_of_fields("/live"), "/field-live");
    }
}
