//! Mutations whose transaction stays open between their writes, on PostgreSQL.
//!
//! Such a mutation has a pooled connection of its own. Nothing that it sets outlives its transaction, because behind a
//! transaction pooler the database session has other users. A connection whose transaction does not end in order is
//! closed, and what it still runs is cancelled.

use std::sync::Arc;
use std::time::Duration;

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::pooled_connection::bb8::PooledConnection;
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager as _,
};
use protocol::{Reject, RowImage};
use sync_core::mutation::Applied;
use sync_core::mutation::fields::Merged;
use tokio::sync::OwnedSemaphorePermit;

use super::apply::{ROUNDS_MAX, answer_of_before, committed, others_are_under_way};
use super::cancel::CancelGuard;
use super::mutation::LOCK_PATIENCE;
use super::pool::PostgresPool;
use super::read::read_rows_within;
use super::store::in_schema;
use super::write::call::{self, Returned, Stored};
use super::write::explain::{self, Fault, Kind};
use super::write::fields;
use crate::entity::Entity;
use crate::error::{DbError, DbResult};
use crate::health::Health;
use crate::read::{ReadError, RowsQuery, collect, parts};
use crate::write::{
    Began, Mutation, RunAs, TableWrite, is_violation, not_its_own_transaction, statement_reject,
    stored_merged, violated,
};

/// How much longer than the mutation may take the database waits before it ends a statement or the transaction by
/// itself: the engine is there first, unless it is gone.
const GONE_PATIENCE: Duration = Duration::from_secs(5);

/// A mutation whose number has moved, in a transaction that is open.
pub(crate) struct OpenMutation {
    // Dropped first: what runs is cancelled before the connection is closed.
    guard: CancelGuard,
    conn: PooledConnection<'static, AsyncPgConnection>,
    log_schema: String,
    health: Arc<Health>,
    epoch: String,
    commit_id: i64,
    /// As whom writes have run.
    run_as: Option<Arc<RunAs>>,
    /// What became of the writes of rows that merge by their fields.
    merged: Merged,
    /// The mutation's client and number.
    place: (String, i64),
    _turn: OwnedSemaphorePermit,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    epoch: String,
    #[diesel(sql_type = Text)]
    commit_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    answers: Option<String>,
}

/// How writes have ended.
enum Ended {
    Done,
    Failed(Fault),
}

impl PostgresPool {
    /// Begins a mutation that may take this long.
    pub(crate) async fn begin(
        &self,
        mutation: &Mutation,
        patience: Duration,
    ) -> DbResult<Began<OpenMutation>> {
        let log_schema = self.own_schema().await?;
        let closed = |_| DbError::Unreachable("the pool is closed".to_owned());
        let turn = self.open_turns.clone().acquire_owned();
        let turn = turn.await.map_err(closed)?;
        let conn = self.get_owned().await?;
        let mut open = OpenMutation {
            guard: CancelGuard::new(&conn, self.connector.clone()),
            conn,
            log_schema: log_schema.to_string(),
            health: self.health().clone(),
            epoch: String::new(),
            commit_id: 0,
            run_as: None,
            merged: Merged::default(),
            place: (
                mutation.client_id.to_string(),
                i64::try_from(mutation.place.number).unwrap_or(i64::MAX),
            ),
            _turn: turn,
        };
        for _ in 0..ROUNDS_MAX {
            let answer = match open
                .begin(mutation, &self.writer.emptied(), patience)
                .await?
            {
                Stored::Now => return Ok(Began::Open(open)),
                Stored::Before(client) => answer_of_before(&client, mutation, open.epoch.clone()),
                Stored::OtherUser => Err(DbError::OtherUser),
                Stored::Failed(fault) => Err(fault.error(&[])),
            };
            open.undo().await?;
            if let Some(applied) = answer.transpose() {
                open.guard.disarm();
                return applied.map(Began::Answered);
            }
        }
        open.guard.disarm();
        Err(others_are_under_way())
    }
}

impl OpenMutation {
    async fn begin(
        &mut self,
        mutation: &Mutation,
        emptied: &str,
        patience: Duration,
    ) -> DbResult<Stored> {
        let failed = |error| DbError::while_doing("beginning a mutation", error);
        let patience_ms = (patience + GONE_PATIENCE).as_millis();
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = {patience_ms}; \
             SET LOCAL idle_in_transaction_session_timeout = {patience_ms}; {emptied}"
        );
        AnsiTransactionManager::begin_transaction_sql(&mut *self.conn, &begin)
            .await
            .map_err(failed)?;
        let query = call::query(&[mutation], &self.log_schema, LOCK_PATIENCE);
        let returned = self.run(&query).await?;
        self.epoch = returned.epoch;
        self.commit_id = returned.commit_id;
        let stored = one(returned.stored)?;
        if let Stored::Now = stored {
            // Whatever the transaction writes from now on is the mutation's.
            let (client, number) = &self.place;
            sql_query(
                "SELECT pg_catalog.set_config('rhtmx_sync.client_id', $1, true), \
                 pg_catalog.set_config('rhtmx_sync.mutation', $2, true)",
            )
            .bind::<Text, _>(client)
            .bind::<Text, _>(number.to_string())
            .execute(&mut *self.conn)
            .await
            .map_err(failed)?;
        }
        Ok(stored)
    }

    async fn run(&mut self, query: &str) -> DbResult<Returned> {
        let row: Row = sql_query(query)
            .get_result(&mut *self.conn)
            .await
            .map_err(|error| DbError::while_doing("running writes of a mutation", error))?;
        call::read(Some((
            Some(&row.epoch),
            Some(&row.commit_id),
            row.answers.as_deref(),
        )))
    }

    /// Runs a write. When it is rejected, nothing of it is left, and the transaction goes on.
    pub(crate) async fn write(
        &mut self,
        index: usize,
        write: &TableWrite,
    ) -> DbResult<Result<(), Reject>> {
        if write.run_as.is_some() {
            self.run_as.clone_from(&write.run_as);
        }
        if write.fields.is_some() {
            return self.write_fields(index, write).await;
        }
        let run_as = write.run_as.clone();
        let ran = self.run_writes(std::slice::from_ref(write), run_as.as_deref());
        Ok(match ran.await? {
            Ended::Done => Ok(()),
            Ended::Failed(fault) => Err(self.explain(std::slice::from_ref(write), &fault).await?),
        })
    }

    /// Runs a write of a row that merges by its fields, planned for the row as the transaction sees it.
    async fn write_fields(
        &mut self,
        index: usize,
        write: &TableWrite,
    ) -> DbResult<Result<(), Reject>> {
        for round in 1..=ROUNDS_MAX {
            let writes = std::slice::from_ref(write);
            let sql = fields::known_query(&fields::named(writes.iter()), &self.log_schema);
            let found: Vec<fields::NamedRow> = match sql.as_str() {
                // The database chooses the key.
                "" => Vec::new(),
                sql => sql_query(sql)
                    .load(&mut *self.conn)
                    .await
                    .map_err(|error| DbError::while_doing("reading a row to merge with", error))?,
            };
            let mut rows = found.into_iter().map(fields::NamedRow::named).collect();
            let (planned, merged) = match fields::plan_all(writes, &mut rows) {
                Ok(planned) => planned,
                Err(reject) => {
                    let explaining =
                        async |conn: &mut _| explain::of_plan(conn, writes, reject).await;
                    return self.and_take_back(explaining).await.map(Err);
                }
            };
            match self
                .run_writes(&planned, write.run_as.clone().as_deref())
                .await?
            {
                Ended::Done => {
                    self.merged.append(merged.of_write(index));
                    return Ok(Ok(()));
                }
                Ended::Failed(fault) if round < ROUNDS_MAX && fault.kind() == Kind::Raced => {}
                Ended::Failed(fault) => return Ok(Err(self.explain(&planned, &fault).await?)),
            }
        }
        Err(others_are_under_way())
    }

    async fn run_writes(
        &mut self,
        writes: &[TableWrite],
        run_as: Option<&RunAs>,
    ) -> DbResult<Ended> {
        let query = call::query_of_open(writes, run_as, &self.log_schema, LOCK_PATIENCE);
        let returned = self.run(&query).await?;
        if returned.commit_id != self.commit_id {
            return Err(not_its_own_transaction());
        }
        match one(returned.stored)? {
            Stored::Now => Ok(Ended::Done),
            Stored::Failed(fault) => Ok(Ended::Failed(fault)),
            Stored::Before(_) | Stored::OtherUser => Err(unexpected()),
        }
    }

    /// The reject for a fault, looked for in a savepoint, of which nothing stays.
    async fn explain(&mut self, writes: &[TableWrite], fault: &Fault) -> DbResult<Reject> {
        let mut explained = None;
        if matches!(fault.kind(), Kind::Data | Kind::Table) {
            let log_schema = self.log_schema.clone();
            let asked = fields::as_asked(writes);
            let explaining =
                async |conn: &mut _| explain::explain(conn, &log_schema, &asked, fault).await;
            explained = self.and_take_back(explaining).await?;
        }
        explained.ok_or_else(|| fault.error(writes))
    }

    /// Looks for something in a savepoint, of which nothing stays.
    async fn and_take_back<T>(
        &mut self,
        look: impl AsyncFnOnce(&mut AsyncPgConnection) -> DbResult<T>,
    ) -> DbResult<T> {
        let failed = |error| DbError::while_doing("looking at something within a mutation", error);
        let conn = &mut *self.conn;
        AnsiTransactionManager::begin_transaction(conn)
            .await
            .map_err(failed)?;
        let found = look(conn).await;
        AnsiTransactionManager::rollback_transaction(conn)
            .await
            .map_err(failed)?;
        found
    }

    /// What became of its writes so far.
    pub(crate) fn merged(&mut self) -> &mut Merged {
        &mut self.merged
    }

    /// Reads rows as the transaction sees them.
    pub(crate) async fn rows(
        &mut self,
        entity: &Arc<Entity>,
        query: &RowsQuery,
    ) -> Result<Vec<RowImage>, ReadError> {
        let (log_schema, health) = (self.log_schema.clone(), self.health.clone());
        let (out, parts) = parts();
        // In a savepoint, with which the settings of the read go.
        let read = self.and_take_back(async move |conn: &mut _| {
            read_rows_within(conn, (&log_schema, entity, &health), query, out).await
        });
        let (read, rows) = tokio::join!(read, collect(parts));
        read?;
        rows
    }

    /// The connection, for statements of the application's own.
    pub(crate) fn connection(&mut self) -> &mut AsyncPgConnection {
        &mut self.conn
    }

    /// Checks what is deferred, and commits. After a reject nothing is left.
    pub(crate) async fn commit(mut self) -> DbResult<Result<Applied, Reject>> {
        let run_as = self.run_as.clone();
        if let Ended::Failed(fault) = self.run_writes(&[], run_as.as_deref()).await? {
            let reject = self.explain(&[], &fault).await?;
            self.roll_back().await;
            return Ok(Err(reject));
        }
        if !self.is_alone() {
            return Err(not_its_own_transaction());
        }
        self.keep_merged().await?;
        match AnsiTransactionManager::commit_transaction(&mut *self.conn).await {
            Ok(()) => {
                self.guard.disarm();
                Ok(Ok(committed(Some(self.commit_id), self.epoch, self.merged)))
            }
            Err(error) if is_violation(&error) => {
                self.guard.disarm();
                Ok(Err(violated()))
            }
            Err(error) => statement_reject(error).map(Err),
        }
    }

    /// Keeps what is told of the mutation.
    async fn keep_merged(&mut self) -> DbResult<()> {
        let (client, number) = &self.place;
        for conflict in &mut self.merged.conflicts {
            conflict.mutation = u64::try_from(*number).ok();
        }
        let Some(text) = stored_merged(&self.merged) else {
            return Ok(());
        };
        let sql = "WITH old AS (DELETE FROM _rhtmx_sync_merged WHERE client_id = $1 AND mutation <= $2 - 64) \
             INSERT INTO _rhtmx_sync_merged (client_id, mutation, merged) VALUES ($1, $2, $3)";
        sql_query(in_schema(sql, &self.log_schema))
            .bind::<Text, _>(client)
            .bind::<BigInt, _>(number)
            .bind::<Text, _>(text)
            .execute(&mut *self.conn)
            .await
            .map_err(|error| DbError::while_doing("keeping what became of a mutation", error))?;
        Ok(())
    }

    /// Whether the transaction is the only one that is open on the connection.
    fn is_alone(&mut self) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(&mut *self.conn);
        let depth = status.transaction_depth();
        depth.is_ok_and(|depth| depth.is_some_and(|depth| depth.get() == 1))
    }

    /// Takes everything back. It cannot fail: the database takes back what is not committed.
    pub(crate) async fn roll_back(mut self) {
        if self.is_alone() && self.undo().await.is_ok() {
            self.guard.disarm();
        }
    }

    async fn undo(&mut self) -> DbResult<()> {
        AnsiTransactionManager::rollback_transaction(&mut *self.conn)
            .await
            .map_err(|error| DbError::while_doing("taking a mutation back", error))
    }
}

fn one(stored: Vec<Stored>) -> DbResult<Stored> {
    stored.into_iter().next().ok_or_else(unexpected)
}

fn unexpected() -> DbError {
    DbError::Statement {
        context: "running writes of a mutation",
        message: "the answer is none of theirs".to_owned(),
    }
}
