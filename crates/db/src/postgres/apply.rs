//! From a mutation to its answer, on PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;

use diesel_async::AsyncConnection as _;
use protocol::Reject;
use sync_core::mutation::Applied;
use sync_core::mutation::fields::Merged;

use super::mutation::{self, Ran};
use super::pool::PostgresPool;
use super::read;
use super::write::call::StoredClient;
use super::write::explain::{self, Fault, Kind};
use super::write::fields;
use crate::error::{DbError, DbResult};
use crate::write::{
    ClientState, Mutation, TableWrite, answer_again, merged_of_before, rejected_at_commit,
    stored_reject,
};

/// How often a mutation is tried when others of its client come between.
pub(super) const ROUNDS_MAX: u32 = 5;

impl PostgresPool {
    /// What is known of a client. Each connection of one asks, so where the sessions are the engine's own it takes one
    /// round trip.
    pub(crate) async fn client_state(&self, client_id: &str) -> DbResult<ClientState> {
        let context = "reading a client's last mutation";
        let mut conn = self.get().await?;
        if self.keeps_sessions() {
            let read = mutation::client_state(&mut conn, client_id).await;
            return read.map_err(|failed| failed.while_doing(context));
        }
        conn.transaction(async |conn| mutation::client_state(conn, client_id).await)
            .await
            .map_err(|failed| failed.while_doing(context))
    }

    /// Has the transactions of mutations empty these settings.
    pub(crate) fn empty_settings(&self, names: &BTreeSet<String>) {
        self.writer.empty_settings(names);
    }

    /// Applies a mutation exactly once.
    pub(crate) async fn apply(&self, mutation: Mutation) -> DbResult<Applied> {
        let log_schema = self.own_schema().await?;
        let mut mutation = Arc::new(mutation);
        let mut has_raced = false;
        for _ in 0..ROUNDS_MAX {
            match self.writer.run(&mutation, &log_schema, has_raced).await? {
                Ran::Now {
                    epoch,
                    commit_id,
                    merged,
                } => {
                    return Ok(match &mutation.writes {
                        Ok(_) => committed(Some(commit_id), epoch, merged),
                        Err(reject) => Applied::Rejected(reject.clone()),
                    });
                }
                Ran::Before { epoch, client } => {
                    if let Some(applied) = answer_of_before(&client, &mutation, epoch)? {
                        return Ok(applied);
                    }
                }
                Ran::Failed { fault, planned } => {
                    let writes = mutation.writes.as_deref().unwrap_or_default();
                    let writes = planned.as_deref().unwrap_or(writes);
                    // A row that is there by now is found by the next plan; one that is only alike is not.
                    let is_race =
                        fault.kind() == Kind::Raced || !has_raced && fault.is_race(writes);
                    has_raced |= is_race;
                    if !is_race {
                        let asked = fields::as_asked(writes);
                        let reject = self.explain(&asked, &log_schema, &fault).await?;
                        mutation = Arc::new(mutation.rejected(reject));
                    }
                }
                Ran::Rejected(reject) => {
                    let writes = mutation.writes.as_deref().unwrap_or_default();
                    let mut conn = self.get().await?;
                    let reject = explain::of_plan(&mut conn, writes, reject).await?;
                    mutation = Arc::new(mutation.rejected(reject));
                }
                Ran::OtherUser => return Err(DbError::OtherUser),
                Ran::NotCommitted => {
                    mutation = Arc::new(mutation.rejected(rejected_at_commit(&mutation)));
                }
                Ran::TooSlow => {
                    let message = "it takes longer than statement_timeout_ms".to_owned();
                    return Err(DbError::Recurring {
                        write: None,
                        message,
                    });
                }
            }
        }
        Err(others_are_under_way())
    }

    /// The reject for a mutation that failed because of its data.
    async fn explain(
        &self,
        writes: &[TableWrite],
        log_schema: &str,
        fault: &Fault,
    ) -> DbResult<Reject> {
        if matches!(fault.kind(), Kind::Data | Kind::Table) {
            let mut conn = self.get().await?;
            let explained = explain::explain(&mut conn, log_schema, writes, fault).await?;
            if let Some(reject) = explained {
                return Ok(reject);
            }
        }
        Err(fault.error(writes))
    }
}

/// The answer to a mutation that does not come next; none when it does, because its client has pushed meanwhile.
pub(super) fn answer_of_before(
    client: &StoredClient,
    mutation: &Mutation,
    epoch: String,
) -> DbResult<Option<Applied>> {
    answer_again(&client.chains(), &mutation.place, || match &client.reject {
        Some(text) => stored_reject(text).map(Applied::Rejected),
        None => {
            let merged = merged_of_before(client.merged.as_deref());
            Ok(committed(client.commit, epoch, merged))
        }
    })
}

/// The error of a mutation that was tried too often while others of its client came between.
pub(super) fn others_are_under_way() -> DbError {
    let message = "other mutations of this client are under way";
    DbError::Unreachable(message.to_owned())
}

pub(super) fn committed(commit_id: Option<i64>, epoch: String, merged: Merged) -> Applied {
    Applied::Committed {
        commit_id: commit_id.map(read::commit_id),
        epoch: Some(epoch),
        merged,
    }
}
