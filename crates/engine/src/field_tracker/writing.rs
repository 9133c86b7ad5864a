//! Writes of the server's own code, by the way of mutations.

use std::collections::BTreeSet;

use db::write::{Mutation, TableScope, TableWrite};
use db::{DbError, backoff};
use merge::{Clock, ClockError, ClockPolicy, WriteError};
use protocol::{Op, Reject, RejectCode, Write, json};
use serde_json::Value;
use serde_json::value::to_raw_value;
use sync_core::mutation::chain::{Place, WritesDigest};
use sync_core::mutation::fields::{Merged, Receipt, Stamp};
use sync_core::mutation::{self, Applied};
use sync_core::policy::WriteColumns;
use tracing::warn;

use super::{FieldEdit, FieldTracker, FieldTrackerError};
use crate::authors::Author;
use crate::clock::now_ms;
use crate::folding;
use crate::lost_values;
use crate::schema_watch;

/// Attempts to apply a write before the caller is told of the failure.
const ATTEMPTS_MAX: u32 = 5;

/// When a value was written that comes from elsewhere, and to which row of its key.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) clock: Clock,
    pub(super) born: Clock,
}

/// The error of a write of which the database does not say what became.
pub(super) fn unanswered() -> DbError {
    DbError::Unreachable("the database does not say what became of a write".to_owned())
}

impl FieldTracker {
    /// Writes in one transaction, and says what became of it: the clocks of what comes from nowhere else, and the values
    /// that lost.
    pub(super) async fn write(
        &self,
        writes: Vec<(FieldEdit, Option<Written>)>,
    ) -> Result<Merged, FieldTrackerError> {
        let state = &self.state;
        self.epoch()?;
        mutation::check_count(writes.len(), state.config.limits.writes_max)
            .map_err(FieldTrackerError::Rejected)?;
        let _permit = tokio::select! {
            permit = state.authors.permit() => permit.ok_or(FieldTrackerError::Closed)?,
            () = state.shutdown.cancelled() => return Err(FieldTrackerError::Closed),
        };
        let author = state.authors.take();
        let received_ms = now_ms();
        let mut failures = 0;
        let applied = loop {
            let checked = match self.check(&writes, author, received_ms) {
                Ok(checked) => checked,
                Err(error) => {
                    if failures == 0 {
                        state.authors.give_back(author.unused());
                    }
                    return Err(error);
                }
            };
            let place = Place {
                number: author.number,
                claimed: None,
                digest: digest(&writes),
            };
            let mutation = Mutation::new(author.client_id, None, place, Ok(checked));
            let error = match state.config.db_pool.apply(mutation).await {
                Ok(applied) => break applied,
                Err(error) => error,
            };
            failures += 1;
            if failures == ATTEMPTS_MAX {
                return Err(error.into());
            }
            warn!(%error, failures, "a write of the server's own code failed; retrying");
            tokio::time::sleep(backoff::pause(failures)).await;
            if !error.is_retryable() {
                // The table may have changed since the statement was made.
                let entities = writes.iter().map(|(edit, _)| edit.entity.clone());
                schema_watch::refresh(state, &entities.collect::<BTreeSet<_>>()).await;
            }
        };
        state.authors.give_back(author);
        state.wake();
        state.field_stats.count(writes.len(), &[], &applied);
        match applied {
            Applied::Committed { merged, .. } => {
                lost_values::tell(state, &merged.of_others);
                Ok(merged)
            }
            Applied::Rejected(reject) => Err(FieldTrackerError::Rejected(reject)),
        }
    }

    fn check(
        &self,
        writes: &[(FieldEdit, Option<Written>)],
        author: Author,
        received_ms: u64,
    ) -> Result<Vec<TableWrite>, FieldTrackerError> {
        let policy = self.state.config.clock;
        let mut receipt = Receipt::new(policy, received_ms, author.client_id, author.number);
        let checked = writes.iter().enumerate().map(|(index, (edit, written))| {
            let rejected = |reject: Reject| FieldTrackerError::Rejected(reject.of_write(index));
            let table = self.find(&edit.entity)?;
            let rules = table
                .fields
                .clone()
                .ok_or_else(|| FieldTrackerError::NotFields(edit.entity.clone()))?;
            let mut checked = mutation::check_fields(
                &write_of(edit),
                table.schema.clone(),
                WriteColumns::ALL,
                &rules,
                &mut receipt,
            )
            .map_err(rejected)?;
            if let Some(fields) = &mut checked.fields {
                match written {
                    Some(written) => {
                        let oldest_ms = folding::oldest_write_ms(&self.state, received_ms);
                        let stamp = admitted(policy, written, received_ms, oldest_ms);
                        fields.stamp = stamp.map_err(rejected)?;
                    }
                    // No clock is this one, so the one that it gets is told.
                    None => fields.said = Some(Clock::ground()),
                }
            }
            let others = self.state.entities.all();
            let write = TableWrite::new(checked, table, TableScope::default(), others);
            write.ok_or_else(|| FieldTrackerError::NotFields(edit.entity.clone()))
        });
        checked.collect()
    }
}

/// The stamp of what was written elsewhere.
fn admitted(
    policy: ClockPolicy,
    written: &Written,
    received_ms: u64,
    oldest_ms: u64,
) -> Result<Stamp, Reject> {
    if written.clock.millis() < oldest_ms {
        let horizon = Clock::new(oldest_ms, 0, &written.clock.node());
        let message = WriteError::Stale { horizon }.to_string();
        return Err(Reject::new(RejectCode::Clock, message));
    }
    let admitted = policy.admit(&written.clock, received_ms, None);
    let refused = |error: ClockError| Reject::new(RejectCode::Clock, error.to_string());
    Ok(Stamp::Author {
        clock: admitted.map_err(refused)?,
        born: Some(written.born.clone()),
        seen: None,
    })
}

fn write_of(edit: &FieldEdit) -> Write {
    let value = to_raw_value(&edit.value).unwrap_or_default();
    Write {
        entity: edit.entity.clone(),
        op: Op::Update,
        key: Some(Value::from(edit.id.as_str())),
        values: [(edit.field.clone(), value)].into(),
        hlc: None,
        born: None,
        seen: None,
        resolves: Default::default(),
    }
}

/// What the author's number stands for.
fn digest(writes: &[(FieldEdit, Option<Written>)]) -> WritesDigest {
    let writes = writes.iter().map(|(edit, written)| {
        let written = written.as_ref();
        (
            [&edit.entity, &edit.id, &edit.field],
            &edit.value,
            written.map(|written| (&written.clock, &written.born)),
        )
    });
    WritesDigest::of(&json::text(&writes.collect::<Vec<_>>()))
}
