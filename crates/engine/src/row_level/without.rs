//! Without PostgreSQL there is no row level security, and the engine does not start where it is asked for.

use std::collections::BTreeSet;

use db::DbResult;

use crate::state::EngineState;

pub(crate) async fn start(_: &EngineState) -> DbResult<()> {
    Ok(())
}

pub(crate) async fn refresh(_: &EngineState) -> BTreeSet<String> {
    BTreeSet::new()
}

pub(crate) async fn watch_clock(_: &EngineState) {}
