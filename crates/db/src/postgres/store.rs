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

use super::{capture, catalog};
use crate::catalog::{DescribeError, Described, log_entity};
use crate::entity::{Entity, EntityConfig, EntitySource};
use crate::error::DbError;
use crate::error::{DbResult, Failed};
use crate::quote::ident;
use crate::read;
use crate::retention::Pruned;
use crate::tables::_rhtmx_sync_entity as installed;

/// Captures are installed one at a time. A row of the engine's own is locked, because any role could keep an
/// advisory lock.
const LOCK_INSTALL: &str = "SET LOCAL lock_timeout = '10s'; SELECT FROM _rhtmx_sync_lock WHERE name = 'install' FOR UPDATE";
/// The advisory lock, with the entity's hash, for recording a change: shared for a row, exclusive for the
/// whole entity.
const RECORD_ENTITY_KEY: i32 = 0x7268_0006;
/// The advisory lock, with the row's hash, for recording a change of a row.
const RECORD_ROW_KEY: i32 = 0x7268_0007;
/// Creating a trigger needs a lock that waits for writers and makes others wait behind it. It is better to
/// try again later than to hold them up, and before PostgreSQL detects a deadlock with a writer.
const INSTALL_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '900ms'";
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
    let row: Head = sql_query(HEAD)
        .get_result(conn)
        .await
        .map_err(|error| DbError::while_doing("reading the epoch", error))?;
    Ok(Cursor {
        epoch: Epoch::new(&row.epoch),
        position: read::position(&row.position)?,
    })
}

/// The database's position.
pub(crate) async fn position(conn: &mut AsyncPgConnection) -> DbResult<Position> {
    let row: OneText = sql_query("SELECT pg_current_snapshot()::text AS value")
        .get_result(conn)
        .await
        .map_err(|error| DbError::while_doing("reading the position", error))?;
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

/// A text that changes when one of these tables, its partitions, its key, its triggers, any enum or domain, or
/// what is known of installed captures changes. It waits for no lock on the tables.
pub(crate) async fn catalog_version(
    conn: &mut AsyncPgConnection,
    entities: &BTreeMap<String, Arc<Entity>>,
) -> DbResult<String> {
    let relations: Vec<&str> = entities
        .values()
        .filter_map(|entity| entity.relation.as_deref())
        .collect();
    let row: OneText = sql_query(
        "WITH RECURSIVE roots AS (SELECT to_regclass(r.name)::oid AS oid FROM json_array_elements_text($1::json) r(name)), \
         partitions AS (SELECT inhparent, inhrelid FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid AND c.relispartition), \
         down(oid) AS (SELECT oid FROM roots UNION SELECT inhrelid FROM down JOIN partitions ON inhparent = down.oid), \
         up(oid) AS (SELECT oid FROM roots UNION SELECT inhparent FROM up JOIN partitions ON inhrelid = up.oid), \
         tables AS (SELECT oid FROM down UNION SELECT oid FROM up), \
         facts(fact) AS ( \
           SELECT concat_ws(':', attrelid, attnum, pg_attribute.xmin) FROM pg_attribute JOIN tables ON attrelid = tables.oid WHERE attnum > 0 \
           UNION ALL SELECT concat_ws(':', indrelid, indkey) FROM pg_index JOIN tables ON indrelid = tables.oid WHERE indisprimary \
           UNION ALL SELECT concat_ws(':', tgrelid, tgname, tgfoid, pg_trigger.xmin) FROM pg_trigger JOIN tables ON tgrelid = tables.oid \
             WHERE NOT tgisinternal \
           UNION ALL SELECT concat_ws(':', entity, fingerprint) FROM _rhtmx_sync_entity \
           UNION ALL SELECT concat_ws(':', enumtypid, enumlabel, enumsortorder) FROM pg_enum \
           UNION ALL SELECT concat_ws(':', y.oid, typname, nspname) FROM pg_type y JOIN pg_namespace s ON s.oid = typnamespace \
             WHERE typtype IN ('e', 'd')) \
         SELECT md5(coalesce(string_agg(fact, ',' ORDER BY fact), '')) AS value FROM facts",
    )
    .bind::<Text, _>(protocol::json::text(&relations))
    .get_result(conn)
    .await
    .map_err(|error| DbError::while_doing("looking at the catalog", error))?;
    Ok(row.value)
}

/// Installs or updates an entity's capture for its table as it is now, and describes the table; `None` while
/// the table is missing.
pub(crate) async fn install(
    conn: &mut AsyncPgConnection,
    config: &EntityConfig,
) -> DbResult<Result<Option<Described>, DescribeError>> {
    let EntitySource::Table(table) = &config.source else {
        let log = in_schema("_rhtmx_sync_log", &log_schema(conn).await?);
        return Ok(Ok(Some(Described {
            entity: log_entity(&config.name, &log),
            captured: true,
            settled: Vec::new(),
        })));
    };
    conn.transaction(async |conn| {
        conn.batch_execute(&format!("{LOCK_INSTALL}; {INSTALL_LOCK_TIMEOUT}"))
            .await?;
        let log_schema = log_schema(conn).await?;
        let described = match catalog::describe(conn, &config.name, table, &log_schema).await? {
            Ok(Some(described)) => described,
            other => {
                // Its clients are notified once that the table has gone.
                if diesel::delete(installed::table.find(&config.name))
                    .execute(conn)
                    .await?
                    > 0
                {
                    record_in(conn, &config.name, None, ChangeKind::SchemaChange, None).await?;
                }
                return Ok(other);
            }
        };
        let stored: Option<String> = installed::table
            .find(&config.name)
            .select(installed::fingerprint)
            .first(conn)
            .await
            .optional()?;
        if described.captured && stored.as_ref() == Some(&described.entity.fingerprint) {
            return Ok(Ok(Some(described)));
        }
        // The function alone needs no lock on the table. But when the key has changed, no write may be in
        // progress: entries of the old function must come before the schema change below.
        let fingerprint = &described.entity.fingerprint;
        let same_key = stored.is_some_and(|stored| {
            catalog::key_fingerprint(&stored) == catalog::key_fingerprint(fingerprint)
        });
        for statement in &described.entity.capture {
            if !(same_key && described.settled.contains(statement)) {
                conn.batch_execute(statement).await?;
            }
        }
        // Described again, with the triggers that it has now.
        let described = match catalog::describe(conn, &config.name, table, &log_schema).await? {
            Ok(Some(described)) => described,
            other => return Ok(other),
        };
        let relation = described.entity.relation.clone().unwrap_or_default();
        let row = (
            installed::relation.eq(&relation),
            installed::fingerprint.eq(&described.entity.fingerprint),
        );
        diesel::insert_into(installed::table)
            .values((installed::entity.eq(&config.name), row))
            .on_conflict(installed::entity)
            .do_update()
            .set(row)
            .execute(conn)
            .await?;
        // A client that resumes from before this point must refetch: the table may have changed while it was
        // not captured, or may have had another form.
        record_in(conn, &config.name, None, ChangeKind::SchemaChange, None).await?;
        Ok(Ok(Some(described)))
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("installing the capture"))
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
    statement.replace(
        "_rhtmx_sync_",
        &format!("{}._rhtmx_sync_", ident(log_schema)),
    )
}

/// Removes the captures of these entities, or of all, and returns the names of those that had one.
pub(crate) async fn uninstall(
    conn: &mut AsyncPgConnection,
    only: Option<&[String]>,
) -> DbResult<Vec<String>> {
    conn.transaction(async |conn| {
        let found: OneText =
            sql_query("SELECT coalesce(to_regclass('_rhtmx_sync_lock')::text, '') AS value")
                .get_result(conn)
                .await?;
        if found.value.is_empty() {
            return Ok(Vec::new());
        }
        conn.batch_execute(LOCK_INSTALL).await?;
        let schema = log_schema(conn).await?;
        let mut names: Vec<String> = installed::table
            .select(installed::entity)
            .order(installed::entity)
            .load(conn)
            .await?;
        names.retain(|name| only.is_none_or(|only| only.contains(name)));
        for name in &names {
            // `CASCADE` drops the triggers, too, which a role with only the TRIGGER privilege could not do.
            let function = format!(
                "{}.{}",
                ident(&schema),
                ident(&capture::function_name(name))
            );
            conn.batch_execute(&format!("DROP FUNCTION IF EXISTS {function}() CASCADE"))
                .await?;
            diesel::delete(installed::table.find(name))
                .execute(conn)
                .await?;
        }
        Ok(names)
    })
    .await
    .map_err(|failed: Failed| failed.while_doing("removing the capture"))
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

/// Stores the current snapshot with its time, for retention to move the floor to later.
pub(crate) async fn make_checkpoint(conn: &mut AsyncPgConnection) -> DbResult<()> {
    sql_query("INSERT INTO _rhtmx_sync_checkpoint (position) VALUES (pg_current_snapshot()::text)")
        .execute(conn)
        .await
        .map(|_| ())
        .map_err(|error| DbError::while_doing("making a checkpoint", error))
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
    let failed = |error| DbError::while_doing("measuring the log", error);
    let pages: Size = sql_query(
        "SELECT (pg_relation_size('_rhtmx_sync_log') / current_setting('block_size')::int)::float8 AS bytes, \
         floor FROM _rhtmx_sync_meta",
    )
    .get_result(conn)
    .await
    .map_err(failed)?;
    let percent = (100.0 * SAMPLE_PAGES / pages.bytes.max(1.0)).min(100.0);
    let size: Size = sql_query(format!(
        "SELECT (100 / {percent:?}::float8 * coalesce(sum(90 + coalesce(pg_column_size(entity), 0) \
           + coalesce(pg_column_size(entity_id), 0) + coalesce(pg_column_size(old), 0) \
           + coalesce(pg_column_size(data), 0)), 0))::float8 AS bytes, \
         (SELECT floor FROM _rhtmx_sync_meta) AS floor \
         FROM _rhtmx_sync_log TABLESAMPLE SYSTEM ({percent:?})"
    ))
    .get_result(conn)
    .await
    .map_err(failed)?;
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
