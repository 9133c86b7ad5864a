//! The routes: WebSocket, server-sent events, plain HTTP, fields, status, the client's files.
//!
//! Each feature is a module with its routes; [`FEATURES`] lists them, for the router and for
//! `welcome.features`.

mod assets;
mod cors;
mod crdt;
mod door;
mod error;
mod fields;
mod host;
mod long_poll;
mod mutators;
mod page_body;
mod page_token;
mod push;
mod query;
mod rows;
mod selection_params;
mod sse;
mod status;
mod ticket;
mod ws;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;

use crate::config::SyncConfig;
use crate::state::EngineState;

/// A capability that clients can use.
struct Feature {
    /// Its name in `welcome.features`.
    name: &'static str,
    /// The names below the prefix that its routes use, and that no entity may have.
    reserved: &'static [&'static str],
    /// Its routes below the prefix.
    routes: fn(&str) -> Router<Arc<EngineState>>,
}

/// Every feature that this server offers.
const FEATURES: [Feature; 12] = [
    rows::FEATURE,
    rows::WINDOWS,
    fields::FEATURE,
    push::FEATURE,
    push::CHAIN,
    mutators::FEATURE,
    ws::FEATURE,
    crdt::FEATURE,
    sse::FEATURE,
    ticket::FEATURE,
    status::FEATURE,
    assets::FEATURE,
];

/// The names of the features that clients can use.
fn feature_names(config: &SyncConfig) -> Vec<String> {
    let has_use = |feature: &&Feature| match feature.name {
        name if name == mutators::FEATURE.name => !config.mutators.is_empty(),
        name if name == crdt::FEATURE.name => config.crdt,
        _ => true,
    };
    FEATURES
        .iter()
        .filter(has_use)
        .map(|feature| feature.name.to_owned())
        .collect()
}

/// The names that the routes use and no entity may have.
pub(crate) fn reserved_names() -> impl Iterator<Item = &'static str> {
    FEATURES
        .iter()
        .flat_map(|feature| feature.reserved.iter().copied())
}

/// All routes, for an application with any state.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(state: &Arc<EngineState>) -> Router<S> {
    let prefix = &state.config.prefix;
    let routes = FEATURES.iter().fold(Router::new(), |router, feature| {
        router.merge((feature.routes)(prefix))
    });
    routes
        .layer(from_fn_with_state(state.clone(), cors::answer))
        .layer(DefaultBodyLimit::max(state.config.limits.frame_bytes_max))
        .with_state(state.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn features_and_reserved_names_are_unique() {
        let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let reserved: Vec<&str> = reserved_names().collect();
        assert_eq!(
            reserved.iter().collect::<BTreeSet<_>>().len(),
            reserved.len()
        );
        assert!(names.contains(&"rows") && names.contains(&"push"));
    }
}
