//! Mutations whose transaction stays open between their writes, on SQLite.
//!
//! There is one writer at a time, so such a mutation takes the engine's turn to write until it ends. Its transaction is
//! ended in order in any case: a database in memory lives in the one connection.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::prelude::*;
use diesel_async::pooled_connection::bb8::PooledConnection;
use protocol::{Reject, RowImage};
use sync_core::mutation::Applied;
use sync_core::mutation::fields::Merged;
use tokio::sync::OwnedMutexGuard;

use super::connect::{SqliteConn, blocking};
use super::explain::WriteFailed;
use super::mutation::{
    NextOfClient, is_violated_at_commit, name_mutation, next, unname_mutation, write_in_scope,
};
use super::pool::SqlitePool;
use super::read::{Rows, read_rows};
use crate::entity::Entity;
use crate::error::{DbError, DbResult, Failed};
use crate::read::{ReadError, RowsQuery, collect, parts};
use crate::write::{
    Began, Mutation, TableWrite, not_its_own_transaction, replaced_meanwhile, violated,
};

/// A mutation whose number has moved, in a transaction that is open.
pub(crate) struct OpenMutation {
    conn: PooledConnection<'static, SqliteConn>,
    client: NextOfClient,
    /// What became of the writes of rows that merge by their fields.
    merged: Merged,
    pool: SqlitePool,
    /// How many times the file had been replaced when the mutation began.
    replaced: u64,
    _turn: OwnedMutexGuard<()>,
}

impl SqlitePool {
    /// Begins a mutation. SQLite has no time-outs of its own.
    pub(crate) async fn begin(
        &self,
        mutation: &Arc<Mutation>,
        _patience: Duration,
    ) -> DbResult<Began<OpenMutation>> {
        let turn = self.writer_turn.clone().lock_owned().await;
        let replaced = self.replaced()?;
        let mut conn = self.get().await?;
        let mutation = mutation.clone();
        let begun = blocking(&mut conn, "beginning a mutation", move |conn| {
            AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?;
            let begun = begin(conn, &mutation);
            if !matches!(begun, Ok(Began::Open(_))) {
                roll_back(conn);
            }
            begun
        });
        Ok(begun.await?.map(|client| OpenMutation {
            conn,
            client,
            merged: Merged::default(),
            pool: self.clone(),
            replaced,
            _turn: turn,
        }))
    }
}

fn begin(conn: &mut SqliteConnection, mutation: &Mutation) -> Result<Began<NextOfClient>, Failed> {
    let begun = next(conn, mutation)?;
    if let Began::Open(_) = begun {
        // Whatever the transaction writes from now on is the mutation's.
        name_mutation(conn, mutation)?;
    }
    Ok(begun)
}

/// Takes back every transaction that is open on the connection.
fn roll_back(conn: &mut SqliteConnection) {
    while let Ok(Some(_)) =
        AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()
    {
        // It fails where a rule of a table has ended the transaction.
        let _ = AnsiTransactionManager::rollback_transaction(conn);
    }
}

impl OpenMutation {
    /// Runs a write. When it is rejected, nothing of it is left, and the transaction goes on.
    pub(crate) async fn write(
        &mut self,
        index: usize,
        write: TableWrite,
    ) -> DbResult<Result<(), Reject>> {
        let kept = self.pool.kept_statements.clone();
        let written = blocking(
            &mut self.conn,
            "running writes of a mutation",
            move |conn| {
                match conn.transaction(|conn| write_in_scope(conn, &write, &kept)) {
                    Ok(plan) => {
                        let mut merged = Merged::default();
                        if let Some(plan) = plan {
                            merged.add(index, &write, &plan);
                        }
                        Ok(Ok(merged))
                    }
                    Err(WriteFailed::Rejected(reject)) => Ok(Err(reject)),
                    Err(WriteFailed::Table { message, .. }) => Err(of_table(message)),
                    // A rule of the table has ended the transaction.
                    Err(WriteFailed::Diesel(diesel::result::Error::NotInTransaction)) => {
                        Err(of_table("the transaction was ended".to_owned()))
                    }
                    Err(WriteFailed::Diesel(error)) => Err(Failed::Diesel(error)),
                }
            },
        );
        Ok(written.await?.map(|merged| self.merged.append(merged)))
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
        let (out, parts) = parts();
        let rows = Rows::new(entity, self.pool.health(), query, &out);
        let rows = rows.map_err(ReadError::Outdated)?;
        drop(out);
        let (read, rows) = tokio::join!(read_rows(&mut self.conn, rows), collect(parts));
        read?;
        rows
    }

    /// The connection, for statements of the application's own.
    pub(crate) fn connection(&mut self) -> &mut SqliteConn {
        &mut self.conn
    }

    /// Commits. After a reject nothing is left.
    pub(crate) async fn commit(mut self) -> DbResult<Result<Applied, Reject>> {
        let (client, merged) = (self.client, self.merged);
        let committed = blocking(&mut self.conn, "committing a mutation", move |conn| {
            let committed = commit(conn, &client, merged);
            if !matches!(committed, Ok(Ok(_))) {
                roll_back(conn);
            }
            committed
        });
        let committed = committed.await?;
        if self.pool.replaced()? != self.replaced {
            return Err(replaced_meanwhile());
        }
        Ok(committed)
    }

    /// Takes everything back.
    pub(crate) async fn roll_back(mut self) {
        let taken_back = blocking(&mut self.conn, "taking a mutation back", |conn| {
            roll_back(conn);
            Ok(())
        });
        // Without a thread to run on, the program ends.
        let _ = taken_back.await;
    }
}

fn of_table(message: String) -> Failed {
    Failed::Other(DbError::Table {
        write: Some(0),
        message,
    })
}

fn commit(
    conn: &mut SqliteConnection,
    client: &NextOfClient,
    merged: Merged,
) -> Result<Result<Applied, Reject>, Failed> {
    let depth = AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()?;
    // Where somebody ended the transaction, the name is gone with what it wrote.
    if depth.is_none_or(|depth| depth.get() > 1) || !unname_mutation(conn)? {
        return Err(Failed::Other(not_its_own_transaction()));
    }
    let applied = client.answer(conn, Ok(merged))?;
    match AnsiTransactionManager::commit_transaction(conn) {
        Ok(()) => Ok(Ok(applied)),
        Err(error) if is_violated_at_commit(&error) => Ok(Err(violated())),
        Err(error) => Err(Failed::Diesel(error)),
    }
}
