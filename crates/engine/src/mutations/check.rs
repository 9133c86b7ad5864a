//! What is known of a mutation before the database sees it: whether its writes fit their tables, and the rights of the
//! principal.

use std::sync::Arc;

use db::entity::Entity;
use db::write::{TableScope, TableWrite};
use filter::{Filter, FilterError, Table};
use protocol::{Push, Reject, RejectCode, Step, Write};
use sync_core::mutation::{self, Applied};
use sync_core::policy::{Principal, RowScope, WriteScope};
use tracing::error;

use crate::state::EngineState;

/// Checks the writes against the current tables, and adds the principal's write scopes.
pub(super) fn check(
    state: &EngineState,
    principal: &Principal,
    push: &Push,
) -> Result<Vec<TableWrite>, Reject> {
    mutation::check_count(push.writes.len(), state.config.limits.writes_max)?;
    let entities = state.entities.all();
    let checked = push.writes.iter().enumerate().map(|(index, step)| {
        let checked = match step {
            Step::Write(write) => check_write(state, principal, write, entities.get(&write.entity)),
            Step::Call(_) => Err(Reject::new(
                RejectCode::UnknownMutator,
                "there is no such mutator",
            )),
        };
        checked.map_err(|reject| reject.of_write(index))
    });
    checked.collect()
}

fn check_write(
    state: &EngineState,
    principal: &Principal,
    write: &Write,
    entity: Option<&Arc<Entity>>,
) -> Result<TableWrite, Reject> {
    let authorizer = &state.config.auth.authorizer;
    let entity = entity.filter(|_| !authorizer.is_closed(&write.entity));
    if entity.is_some_and(|entity| entity.relation.is_none()) {
        return Err(not_writable());
    }
    let scope = authorizer.write(principal, &write.entity, write.op);
    let schema = entity.map(|entity| entity.schema.clone());
    let checked = mutation::check(write, schema, &scope.columns)?;
    let table = entity.ok_or_else(not_writable)?;
    let scope = filters(state, table, scope).map_err(|error| {
        let entity = &write.entity;
        error!(%error, entity, "the write scope of an entity cannot be used; its writes are rejected");
        Reject::new(RejectCode::Forbidden, "this user may not write this entity")
    })?;
    TableWrite::new(checked, table.clone(), scope).ok_or_else(not_writable)
}

fn not_writable() -> Reject {
    Reject::new(RejectCode::Forbidden, "only the server writes this entity")
}

/// The rows of a write scope, as filters on the table; none where every row is allowed.
fn filters(
    state: &EngineState,
    table: &Entity,
    scope: WriteScope,
) -> Result<TableScope, FilterError> {
    let table = Table::new(&table.schema, state.config.db_pool.filter_backend());
    let filter = |rows: Option<RowScope>| rows.map(|rows| rows.filter(table)).transpose();
    let restricts = |filter: &Filter| !filter.is_everything();
    let visible = filter(scope.visible)?;
    let using = match (visible.clone(), filter(scope.using)?) {
        (Some(visible), Some(using)) => Some(visible.and(using)),
        (one, other) => one.or(other),
    };
    Ok(TableScope {
        visible,
        using: using.filter(restricts),
        check: filter(scope.check)?.filter(restricts),
    })
}

/// An answer as the principal may know it: the database names columns that the principal may not read.
pub(super) fn concealed(
    state: &EngineState,
    principal: &Principal,
    push: &Push,
    applied: Applied,
) -> Applied {
    let Applied::Rejected(reject) = applied else {
        return applied;
    };
    let step = reject.write.and_then(|index| push.writes.get(index));
    let Some(Step::Write(write)) = step else {
        return Applied::Rejected(reject);
    };
    let authorizer = &state.config.auth.authorizer;
    let columns = authorizer.write(principal, &write.entity, write.op).columns;
    Applied::Rejected(mutation::concealed(reject, write, &columns))
}
