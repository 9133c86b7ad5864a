//! Applies mutations: from a `push` to its answer.

use std::sync::Arc;

use db::entity::Entity;
use db::write::{Mutation, TableScope, TableWrite};
use db::{DbError, backoff};
use filter::{Filter, FilterError, Table};
use protocol::{Push, Reject, RejectCode, Write};
use sync_core::mutation::chain::{Place, WritesDigest};
use sync_core::mutation::{self, Applied};
use sync_core::policy::{Principal, RowScope, WriteColumns, WriteScope};
use tracing::{error, warn};
use uuid::Uuid;

use crate::schema_watch;
use crate::state::EngineState;

/// Attempts to apply a mutation before the connection ends and the client pushes it again.
const ATTEMPTS_MAX: u32 = 12;

/// Failures that usually pass by themselves after which a mutation is rejected: its table, or a trigger on it, makes
/// it fail so each time.
const RECURRING_FAILURES_MAX: u32 = 10;

/// Failures because of the table after which a mutation is rejected, though the table was read again after each.
const TABLE_FAILURES_MAX: u32 = 5;

/// Why the result of a mutation is unknown; the client pushes it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MutationError {
    /// The database stayed out of reach.
    Unavailable,
    /// The server failed.
    Internal,
    /// The client id belongs to another user: nothing was applied.
    OtherUser,
}

/// Applies a mutation, once however often it is pushed, and returns how the database answered.
pub(crate) async fn apply(
    state: &Arc<EngineState>,
    principal: &Principal,
    client_id: Uuid,
    push: Push,
) -> Result<Applied, MutationError> {
    let place = Place {
        number: push.mutation,
        claimed: push.chain,
        digest: WritesDigest::of(push.writes.text()),
    };
    let mut failures = 0;
    let mut table_failures = 0;
    let mut recurring_failures = 0;
    let mut refused = None;
    loop {
        let mutation = Mutation {
            client_id,
            user_id: principal.user_id.clone(),
            place,
            writes: match refused.take() {
                Some(reject) => Err(reject),
                None => check(state, principal, &push),
            },
        };
        let error = match state.config.db_pool.apply(mutation).await {
            Ok(applied) if is_in_current_epoch(state, &applied) => {
                count(state, &applied);
                return Ok(concealed(state, principal, &push, applied));
            }
            // When it is pushed again, the listener has reached the epoch.
            Ok(_) => return Err(MutationError::Unavailable),
            Err(DbError::OtherUser) => return Err(MutationError::OtherUser),
            Err(error) => error,
        };
        failures += 1;
        // Every error is retried, even one that looks permanent: a client must not lose a write because the
        // database refused it for a temporary reason. Only what the table causes each time ends as a reject.
        warn!(%error, %client_id, mutation = push.mutation, failures, "a mutation failed; retrying");
        if failures == ATTEMPTS_MAX {
            return Err(MutationError::Unavailable);
        }
        tokio::time::sleep(backoff::pause(failures)).await;
        if let DbError::Recurring { write, .. } = error {
            recurring_failures += 1;
            if recurring_failures >= RECURRING_FAILURES_MAX {
                refused = Some(refused_by_table(write));
            }
        }
        if error.is_retryable() {
            continue;
        }
        // The table may have changed since the statement was made.
        let written = push.writes.iter().map(|write| write.entity.clone());
        if !schema_watch::refresh(state, &written.collect())
            .await
            .is_empty()
        {
            continue;
        }
        if let DbError::Table { write, .. } = error {
            table_failures += 1;
            if table_failures >= TABLE_FAILURES_MAX {
                refused = Some(refused_by_table(write));
            }
        }
    }
}

/// The reject of a mutation that its table, as it is now, cannot take.
fn refused_by_table(write: Option<usize>) -> Reject {
    let message = "the table, or a rule on it, cannot take this write";
    let reject = Reject::new(RejectCode::Constraint, message);
    match write {
        Some(write) => reject.of_write(write),
        None => reject,
    }
}

/// Whether the hub's positions can show when the mutation is visible. After a crash of the database, a
/// mutation may be applied before this server's listener knows of the new epoch.
fn is_in_current_epoch(state: &EngineState, applied: &Applied) -> bool {
    match applied {
        Applied::Committed {
            epoch: Some(epoch), ..
        } => {
            let current = state.hub.epoch();
            current.is_some_and(|current| current.as_str().starts_with(epoch))
        }
        Applied::Committed { epoch: None, .. } | Applied::Rejected(_) => true,
    }
}

fn count(state: &EngineState, applied: &Applied) {
    let outcome = match applied {
        Applied::Committed { .. } => {
            state.wake();
            "ack"
        }
        Applied::Rejected(_) => "reject",
    };
    metrics::counter!("rhtmx_sync_mutations_total", "outcome" => outcome).increment(1);
}

/// Checks the writes against the current tables, and adds the principal's write scopes.
fn check(
    state: &EngineState,
    principal: &Principal,
    push: &Push,
) -> Result<Vec<TableWrite>, Reject> {
    let entities = state.entities.all();
    let authorizer = &state.config.auth.authorizer;
    let entity = |name: &str| {
        let found = entities.get(name);
        found.filter(|_| !authorizer.is_closed(name))
    };
    let has_no_table = |name: &str| entity(name).is_some_and(|entity| entity.relation.is_none());
    if let Some(index) = push
        .writes
        .iter()
        .position(|write| has_no_table(&write.entity))
    {
        return Err(not_writable(index));
    }
    let schema = |name: &str| entity(name).map(|entity| entity.schema.clone());
    let scopes = scopes(state, principal, push);
    let columns = |index: usize| {
        scopes
            .get(index)
            .map_or(WriteColumns::ALL, |scope| &scope.columns)
    };
    let checked = mutation::check(
        &push.writes,
        schema,
        columns,
        state.config.limits.writes_max,
    )?;
    let with_tables = checked.into_iter().zip(scopes).enumerate();
    let with_tables = with_tables.map(|(index, (checked, scope))| {
        let table = entity(&checked.entity).ok_or_else(|| not_writable(index))?;
        let scope = filters(state, table, scope).map_err(|error| {
            error!(%error, entity = checked.entity, "the write scope of an entity cannot be used; its writes are rejected");
            Reject::new(RejectCode::Forbidden, "this user may not write this entity").of_write(index)
        })?;
        TableWrite::new(checked, table.clone(), scope).ok_or_else(|| not_writable(index))
    });
    with_tables.collect()
}

/// The write scope of each write, as far as there may be writes.
fn scopes(state: &EngineState, principal: &Principal, push: &Push) -> Vec<WriteScope> {
    let authorizer = &state.config.auth.authorizer;
    let writes = push.writes.iter().take(state.config.limits.writes_max);
    let scope = |write: &Write| authorizer.write(principal, &write.entity, write.op);
    writes.map(scope).collect()
}

fn not_writable(index: usize) -> Reject {
    Reject::new(RejectCode::Forbidden, "only the server writes this entity").of_write(index)
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
fn concealed(state: &EngineState, principal: &Principal, push: &Push, applied: Applied) -> Applied {
    let Applied::Rejected(reject) = applied else {
        return applied;
    };
    let Some(write) = reject.write.and_then(|index| push.writes.get(index)) else {
        return Applied::Rejected(reject);
    };
    let authorizer = &state.config.auth.authorizer;
    let columns = authorizer.write(principal, &write.entity, write.op).columns;
    Applied::Rejected(mutation::concealed(reject, write, &columns))
}
