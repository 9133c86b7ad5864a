//! What the engine needs of a database, tried and rolled back.

use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection as _, TransactionManager as _,
};
use sync_core::doctor::{Facts, Tried};

use super::CONTEXT;
use crate::error::{DbError, DbResult};

/// Each with the statements that try it, in the schema `{S}`.
const TRIES: [(&str, &str); 6] = [
    (
        "snapshots of transactions",
        "DO $$ BEGIN IF NOT pg_catalog.pg_visible_in_snapshot(pg_catalog.pg_current_xact_id(), pg_catalog.pg_current_snapshot()) \
         IS NOT NULL THEN RAISE 'no answer'; END IF; END $$",
    ),
    (
        "tables with transaction numbers, and unlogged ones",
        "CREATE TABLE {S}._rhtmx_sync_try (id bigserial, xid pg_catalog.xid8 DEFAULT pg_catalog.pg_current_xact_id(), \
             PRIMARY KEY (xid, id)); \
         INSERT INTO {S}._rhtmx_sync_try DEFAULT VALUES; CREATE UNLOGGED TABLE {S}._rhtmx_sync_try_unlogged ()",
    ),
    (
        "statement triggers that see all changed rows",
        "CREATE TABLE {S}._rhtmx_sync_try (id int); CREATE TABLE {S}._rhtmx_sync_try_log (was int, became int); \
         CREATE FUNCTION {S}._rhtmx_sync_try() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog \
             AS $$ BEGIN INSERT INTO {S}._rhtmx_sync_try_log SELECT o.id, n.id FROM o, n; RETURN NULL; END $$; \
         CREATE TRIGGER _rhtmx_sync_try AFTER UPDATE ON {S}._rhtmx_sync_try REFERENCING OLD TABLE AS o NEW TABLE AS n \
             FOR EACH STATEMENT EXECUTE FUNCTION {S}._rhtmx_sync_try(); \
         INSERT INTO {S}._rhtmx_sync_try VALUES (1); UPDATE {S}._rhtmx_sync_try SET id = 2; \
         DO $$ BEGIN IF NOT EXISTS (SELECT FROM {S}._rhtmx_sync_try_log WHERE was = 1 AND became = 2) THEN \
             RAISE 'the trigger did not fire'; END IF; END $$",
    ),
    (
        "advisory locks",
        "SELECT pg_catalog.pg_try_advisory_xact_lock_shared(8243126)",
    ),
    (
        "notifications",
        "SELECT pg_catalog.pg_notify('_rhtmx_sync_try', '')",
    ),
    (
        "subtransactions in functions",
        "DO $$ BEGIN BEGIN RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN NULL; END; END $$",
    ),
];

/// Tries everything, unless the role may create nothing or the server takes no writes; that is reported anyway.
pub(super) async fn run(conn: &mut AsyncPgConnection, facts: &Facts) -> DbResult<Vec<Tried>> {
    let role = &facts.role;
    let schema = match &role.schema {
        Some(schema) if role.may_create && !facts.server.is_standby => schema,
        _ => return Ok(Vec::new()),
    };
    AnsiTransactionManager::begin_transaction(conn)
        .await
        .map_err(|error| DbError::while_doing(CONTEXT, error))?;
    let writes = conn.batch_execute("SET TRANSACTION READ WRITE").await;
    writes.map_err(|error| DbError::while_doing(CONTEXT, error))?;
    let mut tried = Vec::new();
    for (what, statements) in TRIES {
        let error = succeeds(conn, &statements.replace("{S}", schema)).await?;
        tried.push(Tried { what, error });
    }
    AnsiTransactionManager::rollback_transaction(conn)
        .await
        .map_err(|error| DbError::while_doing(CONTEXT, error))?;
    Ok(tried)
}

/// Runs statements within the open transaction and takes them back. Returns the database's message when they fail.
pub(super) async fn succeeds(
    conn: &mut AsyncPgConnection,
    statements: &str,
) -> DbResult<Option<String>> {
    let failed = |error| DbError::while_doing(CONTEXT, error);
    AnsiTransactionManager::begin_transaction(conn)
        .await
        .map_err(failed)?;
    let tried = conn.batch_execute(statements).await;
    AnsiTransactionManager::rollback_transaction(conn)
        .await
        .map_err(failed)?;
    match tried {
        Ok(()) => Ok(None),
        // Only the connection's own end says nothing of what was tried.
        Err(error) => match failed(error) {
            DbError::Statement { message, .. } => Ok(Some(message)),
            error => Err(error),
        },
    }
}
