//! The queue of mutations on SQLite.

use std::sync::Arc;

use sync_core::mutation::Applied;
use tokio::sync::oneshot;

use super::mutation::{self, Waiting, apply_all};
use super::pool::SqlitePool;
use crate::error::{DbError, DbResult};
use crate::lanes::Lane;
use crate::write::{ClientState, Mutation};

/// The writes of mutations that share a transaction.
const SHARED_WRITES_MAX: usize = 64;

impl SqlitePool {
    /// What is known of a client.
    pub(crate) async fn client_state(&self, client_id: &str) -> DbResult<ClientState> {
        mutation::client_state(&mut *self.get().await?, client_id).await
    }

    /// Applies a mutation exactly once.
    pub(crate) async fn apply(&self, mutation: Mutation) -> DbResult<Applied> {
        let (answer, answered) = oneshot::channel();
        let mutation = Arc::new(mutation);
        if let Some(lane) = self.waiting.submit(Waiting { mutation, answer }) {
            // In a task of its own: the caller may stop waiting for its mutation, and the lane goes on.
            tokio::spawn(self.clone().work(lane));
        }
        let lost = || DbError::Unreachable("the mutation's task has ended".to_owned());
        answered.await.map_err(|_| lost())?
    }

    async fn work(self, mut lane: Lane<Waiting>) {
        loop {
            let taken = lane.take(SHARED_WRITES_MAX);
            if taken.is_empty() {
                return;
            }
            let mutations: Vec<Arc<Mutation>> =
                taken.iter().map(|one| one.mutation.clone()).collect();
            let _turn = self.writer_turn.lock().await;
            let answers = match self.get().await {
                Ok(mut conn) => apply_all(&mut conn, mutations, &self.kept_statements).await,
                Err(error) => taken
                    .iter()
                    .map(|_| Err(DbError::Unreachable(error.to_string())))
                    .collect(),
            };
            for (one, answer) in taken.into_iter().zip(answers) {
                // Nobody may wait for it any more.
                let _ = one.answer.send(answer);
            }
        }
    }
}
