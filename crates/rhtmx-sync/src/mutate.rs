//! From a `push` to its answer.

use std::sync::Arc;

use rhtmx_sync_core::mutation;
use rhtmx_sync_core::protocol::{Origin, Push, Reject, RejectCode};
use rhtmx_sync_core::session::Applied;
use tracing::warn;
use uuid::Uuid;

use crate::db::write::{Mutation, Outcome, TableWrite};
use crate::engine::Inner;

/// How often a mutation is tried before its client is sent away to come back with it.
const TRIES: u32 = 12;

/// Whether it was applied is not known; the client pushes it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MutateError {
    /// The database stayed out of reach.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Inner {
    /// Applies a mutation, once however often it comes, and says how that ended.
    pub(crate) async fn mutate(
        self: &Arc<Self>,
        client_id: Uuid,
        push: Push,
    ) -> Result<Applied, MutateError> {
        let origin = Origin {
            client_id,
            mutation: push.mutation,
        };
        let mut failures = 0;
        loop {
            let writes = self.check(&push);
            let error = match self
                .config
                .db_pool
                .apply(&Mutation { origin, writes })
                .await
            {
                Ok(outcome) if self.is_of_our_history(&outcome) => {
                    return Ok(self.answered(outcome));
                }
                // Sent again, it is answered by then.
                Ok(_) => return Err(MutateError::Unavailable),
                Err(error) => error,
            };
            failures += 1;
            // No transient failure is told from a lasting one here: a client must not lose a write
            // because the database said no for a reason that passes.
            warn!(%error, %client_id, mutation = push.mutation, failures, "a mutation failed; trying again");
            if failures == TRIES {
                return Err(MutateError::Unavailable);
            }
            tokio::time::sleep(crate::backoff::pause(failures)).await;
            // Perhaps the table is no longer what the statement was made for.
            if !error.is_transient()
                && let Err(error) = self.refresh_entities().await
            {
                warn!(%error, "the tables could not be looked at again");
            }
        }
    }

    /// Whether the hub's positions can say when it is visible. After a crash of the database a mutation may
    /// be applied before this server's listener knows of the new history.
    fn is_of_our_history(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Committed {
                epoch: Some(epoch), ..
            } => {
                let ours = self.hub.epoch();
                ours.is_some_and(|ours| ours.as_str().starts_with(epoch))
            }
            Outcome::Committed { epoch: None, .. } | Outcome::Rejected(_) => true,
        }
    }

    fn answered(&self, outcome: Outcome) -> Applied {
        match outcome {
            Outcome::Committed { mark, .. } => {
                metrics::counter!("rhtmx_sync_mutations_total", "outcome" => "ack").increment(1);
                self.poke();
                Applied::Committed(mark)
            }
            Outcome::Rejected(reject) => {
                metrics::counter!("rhtmx_sync_mutations_total", "outcome" => "reject").increment(1);
                Applied::Rejected(reject)
            }
        }
    }

    /// Checks the writes against the tables as they are now.
    fn check(&self, push: &Push) -> Result<Vec<TableWrite>, Reject> {
        let entities = self.entities.all();
        let has_no_table = |name: &str| {
            entities
                .get(name)
                .is_some_and(|entity| entity.relation.is_none())
        };
        if let Some(index) = push
            .writes
            .iter()
            .position(|write| has_no_table(&write.entity))
        {
            return Err(
                Reject::new(RejectCode::Forbidden, "only the server writes this entity")
                    .of_write(index),
            );
        }
        let schema = |name: &str| entities.get(name).map(|entity| entity.schema.clone());
        let checked = mutation::check(&push.writes, schema, self.config.limits.writes_max)?;
        let with_relation = checked.into_iter().enumerate().map(|(index, checked)| {
            let entity = entities.get(&checked.entity);
            let relation = entity.and_then(|entity| entity.relation.clone());
            let relation = relation.ok_or_else(|| {
                Reject::new(RejectCode::Forbidden, "only the server writes this entity")
                    .of_write(index)
            })?;
            let column_types = entity
                .map(|entity| entity.column_types.clone())
                .unwrap_or_default();
            Ok(TableWrite {
                checked,
                relation,
                column_types,
            })
        });
        with_relation.collect()
    }
}
