//! What is known of a mutation before the database sees it: whether its writes fit their tables, and the rights of the
//! principal.

use db::entity::{Entity, EntityMap};
use db::write::{TableScope, TableWrite};
use filter::{Filter, FilterError, Table};
use protocol::{MutatorCall, Op, Push, Reject, RejectCode, Step, Write, json_fault};
use sync_core::mutation::fields::{Receipt, check_received};
use sync_core::mutation::{self, Applied};
use sync_core::policy::{Principal, ReadScope, RowScope, WriteScope};
use sync_core::shape::WholeTables;
use tracing::error;

use crate::mutators::{Hook, RejectedWrite, Run};
use crate::state::EngineState;

/// The steps of a mutation.
pub(super) enum Checked {
    /// Writes alone, which the database applies by itself.
    Writes(Vec<TableWrite>),
    /// Calls, and maybe writes.
    Calls(Vec<CheckedStep>),
}

/// A step that may be carried out.
pub(super) enum CheckedStep {
    Write(Box<TableWrite>),
    Call {
        /// The mutator's name.
        mutator: String,
        run: Run,
    },
}

/// Checks the writes against the current tables, and adds the principal's write scopes. Finds the mutators, and reads their
/// arguments.
pub(super) fn check(
    state: &EngineState,
    principal: &Principal,
    push: &Push,
    receipt: &Receipt,
) -> Result<Checked, Reject> {
    mutation::check_count(push.writes.len(), state.config.limits.writes_max)?;
    let entities = state.entities.all();
    // Writes are checked in their order, and a mutation that is tried again is checked from the start.
    let mut receipt = receipt.clone();
    let mut write = |index: usize, write: &Write| {
        let checked = check_write(state, principal, write, &entities, &mut receipt);
        checked.map_err(|reject| reject.of_write(index))
    };
    let steps = push.writes.iter().enumerate();
    if !has_calls(push) {
        let writes = steps.filter_map(|(index, step)| Some(write(index, step.as_write()?)));
        return writes.collect::<Result<_, _>>().map(Checked::Writes);
    }
    let steps = steps.map(|(index, step)| match step {
        Step::Write(of_table) => Ok(CheckedStep::Write(Box::new(write(index, of_table)?))),
        Step::Call(call) => check_call(state, call).map_err(|reject| reject.of_write(index)),
    });
    steps.collect::<Result<_, _>>().map(Checked::Calls)
}

/// Whether a mutation calls mutators.
pub(super) fn has_calls(push: &Push) -> bool {
    push.writes.iter().any(|step| step.as_write().is_none())
}

fn check_call(state: &EngineState, call: &MutatorCall) -> Result<CheckedStep, Reject> {
    let MutatorCall { mutator, args } = call;
    let found = state.config.mutators.find(mutator).ok_or_else(|| {
        let message = "the server has no mutator of this name";
        Reject::new(RejectCode::UnknownMutator, message)
    })?;
    let args = args.as_ref().map_or("null", |args| args.get());
    let run = found.read(args).map_err(|error| {
        let message = format!(
            "the arguments of {mutator} do not fit: {}",
            json_fault(&error)
        );
        Reject::new(RejectCode::Invalid, message)
    })?;
    Ok(CheckedStep::Call {
        mutator: mutator.clone(),
        run,
    })
}

fn check_write(
    state: &EngineState,
    principal: &Principal,
    write: &Write,
    entities: &EntityMap,
    receipt: &mut Receipt,
) -> Result<TableWrite, Reject> {
    let authorizer = &state.config.auth.authorizer;
    let entity = entities
        .get(&write.entity)
        .filter(|_| !authorizer.is_closed(&write.entity));
    if entity.is_some_and(|entity| entity.relation.is_none()) {
        return Err(not_writable());
    }
    let scope = authorizer.write(principal, &write.entity, write.op);
    let schema = entity.map(|entity| entity.schema.clone());
    let checked = match entity.and_then(|entity| Some((entity, entity.fields.as_ref()?))) {
        Some((entity, rules)) if receipt.is_of_records() => {
            check_received(write, &entity.schema, &scope.columns, rules, receipt)?
        }
        None if receipt.is_of_records() => return Err(not_writable()),
        Some((entity, rules)) => {
            let schema = entity.schema.clone();
            mutation::check_fields(write, schema, &scope.columns, rules, receipt)?
        }
        None => mutation::check(write, schema, &scope.columns)?,
    };
    Hook::validate(
        state.config.mutators.hooks(&write.entity),
        principal,
        &checked,
    )?;
    let table = entity.ok_or_else(not_writable)?;
    let scope = filters(state, table, scope).map_err(|error| {
        let entity = &write.entity;
        error!(%error, entity, "the write scope of an entity cannot be used; its writes are rejected");
        Reject::new(RejectCode::Forbidden, "this user may not write this entity")
    })?;
    let checked = TableWrite::new(checked, table.clone(), scope, entities.clone());
    let checked = checked.ok_or_else(not_writable)?;
    Ok(match state.row_level.run_as(principal, &write.entity) {
        Some(run_as) => checked.decided_by_database(run_as),
        None => checked,
    })
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
    let others = WholeTables::new(state);
    let table = Table::new(&table.schema, state.config.db_pool.filter_backend());
    let table = table.among(&others);
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
    let reject = match applied {
        Applied::Rejected(reject) => reject,
        Applied::Committed {
            commit_id,
            epoch,
            mut merged,
        } => {
            merged.conflicts.retain(|conflict| {
                let scope = state
                    .config
                    .auth
                    .authorizer
                    .read(principal, &conflict.entity);
                scope.reads_column(&conflict.field)
            });
            return Applied::Committed {
                commit_id,
                epoch,
                merged,
            };
        }
    };
    let step = reject.write.and_then(|index| push.writes.get(index));
    let Some(Step::Write(write)) = step else {
        return Applied::Rejected(reject);
    };
    let authorizer = &state.config.auth.authorizer;
    let columns = authorizer.write(principal, &write.entity, write.op).columns;
    Applied::Rejected(mutation::concealed(reject, write, &columns))
}

/// The reject of a mutator's write as the principal may know it: without a column that the principal may not read.
pub(super) fn concealed_call(
    state: &EngineState,
    principal: &Principal,
    rejected: RejectedWrite,
) -> Reject {
    let RejectedWrite { entity, reject } = rejected;
    let (Some(entity), Some(column)) = (entity, &reject.column) else {
        return reject;
    };
    let authorizer = &state.config.auth.authorizer;
    let is_hidden = authorizer.is_closed(&entity)
        || matches!(authorizer.read(principal, &entity), ReadScope::Nothing)
        || authorizer
            .write(principal, &entity, Op::Update)
            .columns
            .is_hidden(column);
    match is_hidden {
        true => mutation::without_column(reject),
        false => reject,
    }
}
