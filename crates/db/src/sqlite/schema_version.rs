//! The version of the application's own tables on SQLite.

use diesel::connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager};
use diesel::prelude::*;
use diesel_async::pooled_connection::bb8::PooledConnection;
use tokio::sync::OwnedMutexGuard;

use super::connect::{SqliteConn, blocking};
use super::pool::SqlitePool;
use crate::error::{DbResult, Failed};
use crate::tables::_rhtmx_sync_meta as meta;

const CONTEXT: &str = "changing the application's tables";

/// A transaction in which the application's tables get to another version.
pub(crate) struct SchemaChange {
    conn: PooledConnection<'static, SqliteConn>,
    version: i64,
    _turn: OwnedMutexGuard<()>,
}

/// The version of the application's tables.
pub(crate) async fn version(pool: &SqlitePool) -> DbResult<i64> {
    let context = "reading the version of the tables";
    blocking(&mut *pool.get().await?, context, |conn| Ok(stored(conn)?)).await
}

fn stored(conn: &mut SqliteConnection) -> QueryResult<i64> {
    meta::table.select(meta::schema_version).first(conn)
}

impl SqlitePool {
    /// Begins a change of the application's tables. Another one, also of another process, is waited for.
    pub(crate) async fn begin_schema_change(&self) -> DbResult<SchemaChange> {
        let turn = self.writer_turn.clone().lock_owned().await;
        let mut conn = self.get().await?;
        let version = blocking(&mut conn, CONTEXT, |conn| {
            AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?;
            stored(conn).map_err(|error| {
                let _ = AnsiTransactionManager::rollback_transaction(conn);
                Failed::Diesel(error)
            })
        });
        Ok(SchemaChange {
            version: version.await?,
            conn,
            _turn: turn,
        })
    }
}

impl SchemaChange {
    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    pub(crate) async fn execute(&mut self, sql: &str) -> DbResult<()> {
        let sql = sql.to_owned();
        blocking(&mut self.conn, CONTEXT, move |conn| {
            Ok(conn.batch_execute(&sql)?)
        })
        .await
    }

    pub(crate) async fn commit(mut self, version: u32) -> DbResult<()> {
        blocking(&mut self.conn, CONTEXT, move |conn| {
            let ended = diesel::update(meta::table)
                .set(meta::schema_version.eq(i64::from(version)))
                .execute(conn)
                .and_then(|_| AnsiTransactionManager::commit_transaction(conn));
            Ok(ended.inspect_err(|_| {
                let _ = AnsiTransactionManager::rollback_transaction(conn);
            })?)
        })
        .await
    }

    pub(crate) async fn roll_back(mut self) {
        let taken_back = blocking(&mut self.conn, CONTEXT, |conn| {
            let _ = AnsiTransactionManager::rollback_transaction(conn);
            Ok(())
        });
        // Without a thread to run on, the program ends.
        let _ = taken_back.await;
    }
}
