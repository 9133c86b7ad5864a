//! The version of the application's own tables on PostgreSQL.

use std::sync::Arc;

use diesel::sql_types::BigInt;
use diesel::{QueryableByName, sql_query};
use diesel_async::pooled_connection::bb8::PooledConnection;
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
    TransactionManager as _,
};

use super::pool::PostgresPool;
use super::store::in_schema;
use crate::error::{DbError, DbResult};

const CONTEXT: &str = "changing the application's tables";

/// Who waits for somebody else's change sees what that has made of the version, hence `READ COMMITTED`.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0";

/// A transaction in which the application's tables get to another version.
pub(crate) struct SchemaChange {
    conn: PooledConnection<'static, AsyncPgConnection>,
    log_schema: Arc<str>,
    version: i64,
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = BigInt)]
    schema_version: i64,
}

fn failed(error: diesel::result::Error) -> DbError {
    DbError::while_doing(CONTEXT, error)
}

async fn stored(conn: &mut AsyncPgConnection, log_schema: &str, locking: &str) -> DbResult<i64> {
    let sql = format!("SELECT schema_version FROM _rhtmx_sync_meta {locking}");
    let found: Version = sql_query(in_schema(&sql, log_schema))
        .get_result(conn)
        .await
        .map_err(|error| DbError::while_doing("reading the version of the tables", error))?;
    Ok(found.schema_version)
}

/// The version of the application's tables.
pub(crate) async fn version(pool: &PostgresPool) -> DbResult<i64> {
    let log_schema = pool.own_schema().await?;
    stored(&mut *pool.get().await?, &log_schema, "").await
}

impl PostgresPool {
    /// Begins a change of the application's tables. Another one, also of another process, is waited for.
    pub(crate) async fn begin_schema_change(&self) -> DbResult<SchemaChange> {
        let log_schema = self.own_schema().await?;
        let mut conn = self.get_owned().await?;
        AnsiTransactionManager::begin_transaction_sql(&mut *conn, BEGIN)
            .await
            .map_err(failed)?;
        let version = stored(&mut conn, &log_schema, "FOR UPDATE").await?;
        Ok(SchemaChange {
            conn,
            log_schema,
            version,
        })
    }
}

impl SchemaChange {
    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    pub(crate) async fn execute(&mut self, sql: &str) -> DbResult<()> {
        self.conn.batch_execute(sql).await.map_err(failed)
    }

    pub(crate) async fn commit(mut self, version: u32) -> DbResult<()> {
        // It also fails where a statement has, which would make the commit a silent rollback.
        sql_query(in_schema(
            "UPDATE _rhtmx_sync_meta SET schema_version = $1",
            &self.log_schema,
        ))
        .bind::<BigInt, _>(i64::from(version))
        .execute(&mut *self.conn)
        .await
        .map_err(failed)?;
        AnsiTransactionManager::commit_transaction(&mut *self.conn)
            .await
            .map_err(failed)
    }

    pub(crate) async fn roll_back(mut self) {
        // If it fails, the pool closes the connection, which takes everything back.
        let _ = AnsiTransactionManager::rollback_transaction(&mut *self.conn).await;
    }
}
