//! Carries out a mutation with calls: its steps one by one, in one transaction that is open between them.
//!
//! Invariants:
//! 1. Whatever becomes of a function, nothing of its mutation is left unless all steps have succeeded and the commit has.
//! 2. A function that panics, fails or takes too long ends in an answer: the client's next mutation goes on.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use db::DbError;
use db::open_mutation::OpenMutation;
use db::write::{Began, Mutation};
use futures_util::FutureExt as _;
use protocol::{Reject, RejectCode};
use sync_core::mutation::Applied;
use sync_core::policy::Principal;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use super::check::{CheckedStep, concealed_call};
use crate::mutators::{Lent, MutatorError, Refusal, Run};
use crate::state::EngineState;

/// Why a mutation with calls was not applied. Nothing of it is left.
pub(super) enum Stop {
    /// It is to be rejected.
    Rejected(Reject),
    /// It took too long.
    TooSlow,
    /// The database failed.
    Failed(DbError),
}

/// What the steps need beside the transaction.
struct Steps<'a> {
    state: &'a EngineState,
    principal: &'a Arc<Principal>,
    deadline: Instant,
}

/// Carries out the steps, unless the mutation was answered before.
pub(super) async fn run(
    state: &EngineState,
    principal: &Arc<Principal>,
    mutation: &Arc<Mutation>,
    steps: Vec<CheckedStep>,
) -> Result<Applied, Stop> {
    let limit = state.config.limits.mutator_timeout();
    let begun = state.config.db_pool.begin(mutation, limit).await;
    let mut open = match begun.map_err(Stop::Failed)? {
        Began::Open(open) => open,
        Began::Answered(applied) => return Ok(applied),
    };
    let of = Steps {
        state,
        principal,
        deadline: Instant::now() + limit,
    };
    let is_single = steps.len() == 1;
    for (index, step) in steps.into_iter().enumerate() {
        let carried_out = of.carry_out(open, index, step).await;
        open = carried_out.map_err(|stop| stop.of_step(index))?;
    }
    let committed = open.commit().await.map_err(of_database)?;
    committed.map_err(|reject| match is_single {
        true => Stop::Rejected(reject.of_write(0)),
        false => Stop::Rejected(reject),
    })
}

impl Steps<'_> {
    /// Carries out one step. After a stop the transaction has ended.
    async fn carry_out(
        &self,
        open: OpenMutation,
        index: usize,
        step: CheckedStep,
    ) -> Result<OpenMutation, Stop> {
        match step {
            CheckedStep::Write(write) => {
                let mut open = open;
                let written = timeout_at(self.deadline, open.write(index, *write)).await;
                let stop = match written {
                    Ok(Ok(Ok(()))) => return Ok(open),
                    Ok(Ok(Err(reject))) => Stop::Rejected(reject),
                    Ok(Err(error)) => of_database(error),
                    Err(_) => {
                        open.abandon().await;
                        return Err(Stop::TooSlow);
                    }
                };
                open.roll_back().await;
                Err(stop)
            }
            CheckedStep::Call { mutator, run } => {
                let called = self.call(open, &mutator, run).await;
                let outcome = match &called {
                    Ok(_) => "ok",
                    Err(Stop::Rejected(reject)) if reject.reason.is_some() => "refused",
                    Err(Stop::Rejected(_)) => "rejected",
                    Err(Stop::TooSlow | Stop::Failed(_)) => "failed",
                };
                metrics::counter!("rhtmx_sync_mutator_calls_total", "mutator" => mutator, "outcome" => outcome)
                    .increment(1);
                called
            }
        }
    }

    async fn call(
        &self,
        open: OpenMutation,
        mutator: &str,
        run: Run,
    ) -> Result<OpenMutation, Stop> {
        let entities = self.state.entities.clone();
        let (lent, tx) = Lent::new(open, self.principal.clone(), entities);
        // What runs before its first await is within, too.
        let function = AssertUnwindSafe(async { run(tx).await }).catch_unwind();
        let ran = timeout_at(self.deadline, function).await;
        let Some((open, failure)) = lent.take_back().await else {
            error!(
                mutator,
                "a mutator has left something running in its transaction"
            );
            return Err(Stop::Rejected(failed()));
        };
        let stop = match ran {
            Err(_) => {
                warn!(
                    mutator,
                    "a mutation with this mutator takes longer than limits.mutator_ms"
                );
                open.abandon().await;
                return Err(Stop::TooSlow);
            }
            Ok(Err(panic)) => {
                error!(mutator, panic = words(&*panic), "a mutator panicked");
                open.abandon().await;
                return Err(Stop::Rejected(failed()));
            }
            Ok(Ok(ended)) => match (failure, ended) {
                (Some(error), _) => of_database(error),
                (None, Ok(())) => return Ok(open),
                (None, Err(error)) => self.stop(mutator, error),
            },
        };
        open.roll_back().await;
        Err(stop)
    }

    /// What follows from a function's error.
    fn stop(&self, mutator: &str, error: MutatorError) -> Stop {
        match error {
            MutatorError::Refused(refusal) => Stop::Rejected(Refusal::reject(refusal)),
            MutatorError::Rejected(write) => {
                Stop::Rejected(concealed_call(self.state, self.principal, *write))
            }
            MutatorError::Database(error) => of_database(error),
            MutatorError::Failed(error) => {
                error!(mutator, error = format!("{error:#}"), "a mutator failed");
                Stop::Rejected(failed())
            }
        }
    }
}

impl Stop {
    /// The same, of the step with this index.
    fn of_step(self, index: usize) -> Self {
        let write = Some(index);
        match self {
            Self::Rejected(reject) => Self::Rejected(reject.of_write(index)),
            Self::Failed(DbError::Table { message, .. }) => {
                Self::Failed(DbError::Table { write, message })
            }
            Self::Failed(DbError::Recurring { message, .. }) => {
                Self::Failed(DbError::Recurring { write, message })
            }
            other => other,
        }
    }
}

/// What follows from an error of the database. A statement that would fail again is the function's own, or the function has
/// gone on after one that failed.
fn of_database(error: DbError) -> Stop {
    match error {
        DbError::Statement { .. } => {
            error!(%error, "a mutator failed");
            Stop::Rejected(failed())
        }
        error => Stop::Failed(error),
    }
}

/// The reject of a mutation whose mutator did not end as it should.
fn failed() -> Reject {
    Reject::new(RejectCode::Refused, "the mutator failed")
}

/// The reject of a mutation that took too long too often.
pub(super) fn too_slow(limit: Duration) -> Reject {
    let message = format!("the mutation takes longer than {} ms", limit.as_millis());
    Reject::new(RejectCode::Refused, message)
}

/// The words of a panic.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no words")
}
