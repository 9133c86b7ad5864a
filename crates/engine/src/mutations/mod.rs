//! Applies mutations: from a `push` to its answer.

mod calls;
mod check;

use std::sync::Arc;

use db::write::Mutation;
use db::{DbError, backoff};
use merge::NodeId;
use protocol::{Push, Reject, RejectCode, Step};
use sync_core::mutation::Applied;
use sync_core::mutation::chain::{Place, WritesDigest};
use sync_core::mutation::fields::Receipt;
use sync_core::policy::Principal;
use tracing::warn;
use uuid::Uuid;

use self::calls::Stop;
use self::check::{Checked, check, concealed, has_calls};

use crate::clock::now_ms;
use crate::folding;
use crate::lost_values;
use crate::schema_watch;
use crate::state::EngineState;

/// Attempts to apply a mutation before the connection ends and the client pushes it again.
const ATTEMPTS_MAX: u32 = 12;

/// Failures that usually pass by themselves after which a mutation is rejected: its table, or a trigger on it, makes
/// it fail so each time.
const RECURRING_FAILURES_MAX: u32 = 10;

/// Failures because of the table after which a mutation is rejected, though the table was read again after each.
const TABLE_FAILURES_MAX: u32 = 5;

/// Attempts of a mutation that take too long after which it is rejected.
const SLOW_ATTEMPTS_MAX: u32 = 3;

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

/// Applies a mutation, once however often it is pushed, and returns how the database answered. Its writes are records where a
/// node sends them whose protocol knows nothing else.
pub(crate) async fn apply(
    state: &Arc<EngineState>,
    principal: &Arc<Principal>,
    client_id: Uuid,
    push: Push,
    records_of: Option<NodeId>,
) -> Result<Applied, MutationError> {
    let place = Place {
        number: push.mutation,
        claimed: push.chain,
        digest: WritesDigest::of(push.writes.text()),
    };
    // The same for every attempt.
    let clock = state.config.clock;
    let received_ms = now_ms();
    let receipt = Receipt::new(clock, received_ms, client_id, push.mutation)
        .refusing_before(folding::oldest_write_ms(state, received_ms))
        .of_records(records_of);
    let mut failures = 0;
    let mut table_failures = 0;
    let mut recurring_failures = 0;
    let mut slow_attempts = 0;
    let mut refused = None;
    loop {
        let checked = match refused.take() {
            Some(reject) => Err(reject),
            None => check(state, principal, &push, &receipt),
        };
        let mutation = |writes| {
            let user_id = principal.user_id.clone();
            Mutation::new(client_id, user_id, place, writes)
        };
        let db_pool = &state.config.db_pool;
        let applied = match checked {
            Err(reject) => db_pool.apply(mutation(Err(reject))).await,
            Ok(Checked::Writes(writes)) => db_pool.apply(mutation(Ok(writes))).await,
            Ok(Checked::Calls(steps)) => {
                let begun = Arc::new(mutation(Ok(Vec::new())));
                // Boxed: it is large, and most mutations have no calls.
                match Box::pin(calls::run(state, principal, &begun, steps)).await {
                    Ok(applied) => Ok(applied),
                    Err(Stop::Failed(error)) => Err(error),
                    Err(Stop::Rejected(reject)) => {
                        refused = Some(reject);
                        continue;
                    }
                    Err(Stop::TooSlow) => {
                        slow_attempts += 1;
                        if slow_attempts >= SLOW_ATTEMPTS_MAX {
                            refused = Some(calls::too_slow(state.config.limits.mutator_timeout()));
                        }
                        continue;
                    }
                }
            }
        };
        let error = match applied {
            Ok(mut applied) if is_in_current_epoch(state, &applied) => {
                count(state, &applied);
                state.count_fields(&push.writes, &applied);
                if let Applied::Committed { merged, .. } = &mut applied {
                    let of_others = std::mem::take(&mut merged.of_others);
                    lost_values::tell(state, &of_others);
                }
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
        let written = match has_calls(&push) {
            // What its functions write is known to them alone.
            true => state.entities.configured(),
            false => {
                let writes = push.writes.iter().filter_map(Step::as_write);
                writes.map(|write| write.entity.clone()).collect()
            }
        };
        if !schema_watch::refresh(state, &written).await.is_empty() {
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
