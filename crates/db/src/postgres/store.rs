//! The engine's own tables on PostgreSQL: epoch, installed captures, recorded changes, retention.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use sync_core::cursor::{Cursor, Epoch, Position};
use sync_core::log::ChangeKind;

use super::capture;
use crate::entity::Entity;
use crate::error::DbError;
use crate::error::{DbResult, Failed};
use crate::quote::ident;
use crate::read;
use crate::retention::Pruned;

/// The advisory lock, with the entity's hash, for recording a change: shared for a row, exclusive for the
/// whole entity.
const RECORD_ENTITY_KEY: i32 = 0x7268_0006;
/// The advisory lock, with the row's hash, for recording a change of a row.
const RECORD_ROW_KEY: i32 = 0x7268_0007;
/// The number of pages from which the log's size is estimated.
const SAMPLE_PAGES: f64 = 256.0;
/// The maximum number of rows that one statement of retention deletes.
const PRUNE_ROWS: i64 = 5000;

#[derive(QueryableByName)]
struct OneText {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Returns the database's epoch and position. The epoch consists of the log's own uuid and the identity to which
/// its numbers belong.
pub(crate) const HEAD: &str = "\
SELECT concat_ws('-', epoch, identity) AS epoch, pg_current_snapshot()::text AS position FROM _rhtmx_sync_meta";

#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = Text)]
    epoch: String,
    #[diesel(sql_type = Text)]
    position: String,
}

/// The database's epoch and position.
pub(crate) async fn head(conn: &mut AsyncPgConnection) -> DbResult<Cursor> {
    let read = conn.transaction(async |conn| {
        let row: Head = sql_query(HEAD).get_result(conn).await?;
        Ok(row)
    });
    let row = read
        .await
        .map_err(|failed: Failed| failed.while_doing("reading the epoch"))?;
    Ok(Cursor {
        epoch: Epoch::new(&row.epoch),
        position: read::position(&row.position)?,
    })
}

/// The database's position.
pub(crate) async fn position(conn: &mut AsyncPgConnection) -> DbResult<Position> {
    let read = conn.transaction(async |conn| {
        let sql = "SELECT pg_current_snapshot()::text AS value";
        let row: OneText = sql_query(sql).get_result(conn).await?;
        Ok(row)
    });
    let row = read
        .await
        .map_err(|failed: Failed| failed.while_doing("reading the position"))?;
    read::position(&row.value)
}

/// The server's version as a number: 150004 for 15.4.
pub(crate) async fn version(conn: &mut AsyncPgConnection) -> DbResult<i64> {
    let row: OneText = sql_query("SELECT current_setting('server_version_num') AS value")
        .get_result(conn)
        .await
        .map_err(|error| DbError::while_doing("reading the version", error))?;
    Ok(row.value.parse().unwrap_or_default())
}

/// Whether the role may do everything.
pub(crate) async fn is_superuser(conn: &mut AsyncPgConnection) -> DbResult<bool> {
    let row: OneText = sql_query("SELECT current_setting('is_superuser') AS value")
        .get_result(conn)
        .await
        .map_err(|error| DbError::while_doing("reading the role's rights", error))?;
    Ok(row.value == "on")
}

/// The language of the server's messages, unless it is English.
pub(crate) async fn foreign_messages(conn: &mut AsyncPgConnection) -> DbResult<Option<String>> {
    let row: OneText = sql_query("SELECT current_setting('lc_messages') AS value")
        .get_result(conn)
        .await
        .map_err(|error| DbError::while_doing("reading the messages' language", error))?;
    let is_english = ["C", "POSIX", "en", "English"]
        .iter()
        .any(|language| row.value.starts_with(language));
    Ok((!is_english && !row.value.is_empty()).then_some(row.value))
}

/// A text that changes when one of these tables, its partitions, its key, its triggers, a foreign table beside it,
/// any enum or domain, a type that its columns consist of, the file of its rows, or what is known of
/// captures changes. It waits for no lock on the tables.
pub(crate) async fn catalog_version(
    conn: &mut AsyncPgConnection,
    entities: &BTreeMap<String, Arc<Entity>>,
) -> DbResult<String> {
    let relations: Vec<&str> = entities
        .values()
        .filter_map(|entity| entity.relation.as_deref())
        .collect();
    let names = protocol::json::text(&relations);
    conn.transaction(async |conn| {
        let log_schema = log_schema(conn).await?;
        conn.batch_execute(&format!("SET LOCAL {SEARCH_PATH}"))
            .await?;
        let row: OneText = sql_query(in_schema(&catalog_facts(), &log_schema))
            .bind::<Text, _>(names)
            .get_result(conn)
            .await?;
        Ok(row.value)
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("looking at the catalog"))
}

fn catalog_facts() -> String {
    format!(
        "WITH RECURSIVE configured AS (SELECT to_regclass(r.name)::oid AS oid FROM json_array_elements_text($1::json) r(name)), \
         partitions AS (SELECT inhparent, inhrelid FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid AND c.relispartition), \
         down(oid) AS (SELECT oid FROM configured UNION SELECT inhrelid FROM down JOIN partitions ON inhparent = down.oid), \
         up(oid) AS (SELECT oid FROM configured UNION SELECT inhparent FROM up JOIN partitions ON inhrelid = up.oid), \
         tables AS (SELECT oid FROM down UNION SELECT oid FROM up), \
         below(oid) AS (SELECT oid FROM tables UNION SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.oid), \
         roots(oid) AS (SELECT DISTINCT atttypid FROM pg_attribute JOIN tables ON attrelid = tables.oid WHERE attnum > 0), \
         {types}, \
         facts(fact) AS ( \
           SELECT concat_ws(':', attrelid, attnum, pg_attribute.xmin) FROM pg_attribute JOIN tables ON attrelid = tables.oid WHERE attnum > 0 \
           UNION ALL SELECT concat_ws(':', 'file', c.oid, c.relfilenode) FROM pg_class c JOIN tables ON c.oid = tables.oid \
           UNION ALL SELECT concat_ws(':', indrelid, indkey) FROM pg_index JOIN tables ON indrelid = tables.oid WHERE indisprimary \
           UNION ALL SELECT concat_ws(':', tgrelid, tgname, tgfoid, pg_trigger.xmin) FROM pg_trigger JOIN tables ON tgrelid = tables.oid \
             WHERE NOT tgisinternal \
           UNION ALL SELECT concat_ws(':', 'foreign', c.oid) FROM below JOIN pg_class c ON c.oid = below.oid WHERE c.relkind = 'f' \
           UNION ALL SELECT concat_ws(':', a.attrelid, a.attnum, a.attname, a.atttypid) FROM types JOIN pg_type y ON y.oid = types.oid \
             JOIN pg_attribute a ON a.attrelid = y.typrelid WHERE y.typtype = 'c' AND a.attnum > 0 \
           UNION ALL SELECT concat_ws(':', enumtypid, enumlabel, enumsortorder) FROM pg_enum \
           UNION ALL SELECT concat_ws(':', y.oid, typname, nspname) FROM pg_type y JOIN pg_namespace s ON s.oid = typnamespace \
             WHERE typtype IN ('e', 'd') \
           UNION ALL SELECT concat_ws(':', 'capture', entity, fingerprint, wanted, generation) FROM _rhtmx_sync_entity) \
         SELECT md5(coalesce(string_agg(fact, ',' ORDER BY fact), '')) AS value FROM facts",
        types = super::types::REACHABLE
    )
}

/// The schema that contains the log.
pub(crate) async fn log_schema(conn: &mut AsyncPgConnection) -> DbResult<String> {
    let row: Result<OneText, _> = sql_query(LOG_SCHEMA).get_result(conn).await;
    row.map(|row| row.value)
        .map_err(|error| DbError::while_doing("looking for the log", error))
}

/// Returns the schema that contains the log. It runs with the role's own search path, so it leaves no name to be
/// looked up there but the log's.
pub(crate) const LOG_SCHEMA: &str = "\
SELECT n.nspname::pg_catalog.text AS value FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE c.oid OPERATOR(pg_catalog.=) '_rhtmx_sync_log'::pg_catalog.regclass";

/// The search path of reads and of the listener: nothing but PostgreSQL's own. On the role's path a function that
/// somebody else made, with closer argument types, would be called with the engine's rights.
pub(crate) const SEARCH_PATH: &str = "search_path = pg_catalog, pg_temp";

/// The statement with the engine's tables in this schema. It must contain no text of a user's.
pub(crate) fn in_schema(statement: &str, log_schema: &str) -> String {
    let schema = ident(log_schema);
    let statement = statement.replace("_rhtmx_sync_", &format!("{schema}._rhtmx_sync_"));
    statement.replace(
        "_rhtmx_field_conflict",
        &format!("{schema}._rhtmx_field_conflict"),
    )
}

/// Writes an entry to the log for an entity without a table.
pub(crate) async fn record(
    conn: &mut AsyncPgConnection,
    entity: &str,
    key: Option<&str>,
    kind: ChangeKind,
    data: Option<&str>,
) -> DbResult<Position> {
    conn.transaction(async |conn| {
        // When two transactions record a change of the same row, the later id must commit later; there is no
        // row whose lock would ensure that.
        sql_query(
            "SELECT CASE WHEN $2 IS NULL THEN pg_advisory_xact_lock($3, hashtext($1))::text \
             ELSE pg_advisory_xact_lock_shared($3, hashtext($1))::text \
               || pg_advisory_xact_lock($4, hashtext($1 || '/' || $2))::text END",
        )
        .bind::<Text, _>(entity)
        .bind::<Nullable<Text>, _>(key)
        .bind::<Integer, _>(RECORD_ENTITY_KEY)
        .bind::<Integer, _>(RECORD_ROW_KEY)
        .execute(conn)
        .await?;
        record_in(conn, entity, key, kind, data).await?;
        conn.batch_execute(&format!(
            "DO $ring$ BEGIN IF NOT pg_try_advisory_xact_lock_shared({}) THEN PERFORM pg_notify('{}', ''); END IF; END $ring$",
            capture::DOORBELL_KEY,
            capture::CHANNEL
        ))
        .await?;
        Ok(())
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("recording a change"))?;
    position(conn).await
}

async fn record_in(
    conn: &mut AsyncPgConnection,
    entity: &str,
    key: Option<&str>,
    kind: ChangeKind,
    data: Option<&str>,
) -> Result<(), diesel::result::Error> {
    sql_query("INSERT INTO _rhtmx_sync_log (entity, entity_id, action, data) VALUES ($1, $2, $3, $4::jsonb)")
        .bind::<Text, _>(entity)
        .bind::<Nullable<Text>, _>(key)
        .bind::<Text, _>(kind.as_str())
        .bind::<Nullable<Text>, _>(data)
        .execute(conn)
        .await?;
    Ok(())
}

/// What a notification that carries a message begins with; those that only wake have other payloads.
pub(crate) const MESSAGE_PREFIX: &str = "message:";

/// Runs a transaction that writes nothing.
pub(crate) async fn advance(conn: &mut AsyncPgConnection) -> DbResult<()> {
    conn.batch_execute("SELECT pg_catalog.pg_current_xact_id()")
        .await
        .map_err(|error| DbError::while_doing("beginning a transaction", error))
}

/// Sends a message to every server that listens.
pub(crate) async fn send_message(conn: &mut AsyncPgConnection, message: &str) -> DbResult<()> {
    conn.transaction(async |conn| {
        sql_query("SELECT pg_catalog.pg_notify($1, $2)")
            .bind::<Text, _>(capture::CHANNEL)
            .bind::<Text, _>(format!("{MESSAGE_PREFIX}{message}"))
            .execute(conn)
            .await
            .map(|_| ())
    })
    .await
    .map_err(|error| DbError::while_doing("sending a message to the servers", error))
}

/// Stores the current snapshot with its time, for retention to move the floor to later.
pub(crate) async fn make_checkpoint(conn: &mut AsyncPgConnection) -> DbResult<()> {
    let insert =
        "INSERT INTO _rhtmx_sync_checkpoint (position) VALUES (pg_current_snapshot()::text)";
    conn.transaction(async |conn| {
        sql_query(insert).execute(conn).await?;
        Ok(())
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("making a checkpoint"))
}

/// The log's size in bytes, and its floor. The table's own size does not help: it stays the same when rows
/// are deleted, because their space is reused. So what lives on some of its pages is counted, taken at random
/// from all of it: entries that one statement wrote lie together, and may be a thousand times as large as others.
pub(crate) async fn log_size(conn: &mut AsyncPgConnection) -> DbResult<(u64, String)> {
    #[derive(QueryableByName)]
    struct Size {
        #[diesel(sql_type = Double)]
        bytes: f64,
        #[diesel(sql_type = Text)]
        floor: String,
    }
    let measured = conn.transaction(async |conn| {
        let pages: Size = sql_query(
            "SELECT (pg_relation_size('_rhtmx_sync_log') / current_setting('block_size')::int)::float8 AS bytes, \
             floor FROM _rhtmx_sync_meta",
        )
        .get_result(conn)
        .await?;
        let percent = (100.0 * SAMPLE_PAGES / pages.bytes.max(1.0)).min(100.0);
        let size: Size = sql_query(format!(
            "SELECT (100 / {percent:?}::float8 * coalesce(sum(90 + coalesce(pg_column_size(entity), 0) \
               + coalesce(pg_column_size(entity_id), 0) + coalesce(pg_column_size(old), 0) \
               + coalesce(pg_column_size(data), 0)), 0))::float8 AS bytes, \
             (SELECT floor FROM _rhtmx_sync_meta) AS floor \
             FROM _rhtmx_sync_log TABLESAMPLE SYSTEM ({percent:?})"
        ))
        .get_result(conn)
        .await?;
        Ok(size)
    });
    let size = measured
        .await
        .map_err(|failed: Failed| failed.while_doing("measuring the log"))?;
    // Neither negative nor larger than a disk.
    Ok((size.bytes as u64, size.floor))
}

/// Moves the floor to the newest checkpoint that is at least this old, and deletes a batch of the entries
/// below it. The floor moves in the same transaction that deletes the first row.
pub(crate) async fn prune_older_than(
    conn: &mut AsyncPgConnection,
    age: Duration,
) -> DbResult<Pruned> {
    let newest = format!(
        "SELECT position FROM _rhtmx_sync_checkpoint WHERE made_at <= now() - interval '{} milliseconds' \
         ORDER BY made_at DESC LIMIT 1",
        age.as_millis()
    );
    prune(conn, &newest).await
}

/// The same with the oldest checkpoint above the floor, for a log that has grown too large.
pub(crate) async fn prune_oldest(conn: &mut AsyncPgConnection) -> DbResult<Pruned> {
    let next = "SELECT position FROM _rhtmx_sync_checkpoint, _rhtmx_sync_meta \
                WHERE pg_snapshot_xmax(position::pg_snapshot) > pg_snapshot_xmax(floor::pg_snapshot) \
                ORDER BY made_at LIMIT 1";
    prune(conn, next).await
}

async fn prune(conn: &mut AsyncPgConnection, new_floor: &str) -> DbResult<Pruned> {
    #[derive(QueryableByName)]
    struct Deleted {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let move_floor = format!(
        "UPDATE _rhtmx_sync_meta SET floor = checkpoint.position FROM ({new_floor}) checkpoint \
         WHERE pg_snapshot_xmax(checkpoint.position::pg_snapshot) >= pg_snapshot_xmax(floor::pg_snapshot) \
           AND pg_snapshot_xmin(checkpoint.position::pg_snapshot) >= pg_snapshot_xmin(floor::pg_snapshot) \
           AND checkpoint.position <> floor"
    );
    let delete = format!(
        "WITH gone AS (DELETE FROM _rhtmx_sync_log WHERE (xid, id) IN ( \
           SELECT l.xid, l.id FROM _rhtmx_sync_log l, _rhtmx_sync_meta m \
           WHERE l.xid < pg_snapshot_xmax(m.floor::pg_snapshot) \
             AND pg_visible_in_snapshot(l.xid, m.floor::pg_snapshot) \
           ORDER BY l.xid, l.id LIMIT {PRUNE_ROWS}) RETURNING 1) \
         SELECT count(*) AS rows FROM gone"
    );
    conn.transaction(async |conn| {
        let moved = sql_query(&move_floor).execute(conn).await?;
        if moved > 0 {
            sql_query(
                "DELETE FROM _rhtmx_sync_checkpoint USING _rhtmx_sync_meta \
                 WHERE pg_snapshot_xmax(position::pg_snapshot) < pg_snapshot_xmax(floor::pg_snapshot)",
            )
            .execute(conn)
            .await?;
        }
        let deleted: Deleted = sql_query(&delete).get_result(conn).await?;
        Ok(Pruned {
            rows: u64::try_from(deleted.rows).unwrap_or_default(),
            floor_moved: moved > 0,
            more: deleted.rows == PRUNE_ROWS,
        })
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("pruning the log"))
}
