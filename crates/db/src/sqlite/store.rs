//! The engine's own tables on SQLite: epoch, installed captures, recorded changes, retention.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};
use sync_core::cursor::{Cursor, Epoch, LogPosition, Position};
use sync_core::log::ChangeKind;

use super::connect::{SqliteConn, blocking};
use super::entry;
use super::entry::{entry_hash, hash_at, newest, position};
use super::statement::Statement;
use crate::entity::Entity;
use crate::error::DbResult;
use crate::read;
use crate::retention::Pruned;

/// The maximum number of rows that one statement of retention deletes.
const PRUNE_ROWS: i64 = 5000;
/// The number of entries from which the log's size is estimated.
const SAMPLE_ROWS: i64 = 1000;
/// The size of an entry without its texts: numbers, record and cell headers, its share of the pages.
const ENTRY_BYTES: i64 = 40;

/// The greatest age, because SQLite's dates begin with the year 0.
const AGE_SECONDS_MAX: f64 = 1e10;

/// The newest id that the log has ever assigned, as an expression.
const NEWEST: &str = newest!();

/// The database's epoch and position, as texts.
#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = Text)]
    epoch: String,
    #[diesel(sql_type = Text)]
    position: String,
}

fn head_in(conn: &mut SqliteConnection) -> QueryResult<Head> {
    let sql = concat!(
        "SELECT epoch, ",
        position!(),
        " AS position FROM _rhtmx_sync_meta"
    );
    sql_query(sql).get_result(conn)
}

/// The database's epoch and position.
pub(crate) async fn head(conn: &mut SqliteConn) -> DbResult<Cursor> {
    let head = blocking(conn, "reading the epoch", |conn| Ok(head_in(conn)?)).await?;
    Ok(Cursor {
        epoch: Epoch::new(&head.epoch),
        position: read::position(&head.position)?,
    })
}

/// Begins a new epoch if the file has gone back to a state before `reached`. Returns whether it did.
pub(crate) async fn begin_epoch(conn: &mut SqliteConn, reached: LogPosition) -> DbResult<bool> {
    blocking(conn, "beginning an epoch", move |conn| {
        Ok(conn.immediate_transaction(|conn| entry::begin_epoch(conn, reached))?)
    })
    .await
}

/// The newest id that the log has ever assigned.
pub(super) fn newest(conn: &mut SqliteConnection) -> QueryResult<i64> {
    one_number(conn, &format!("SELECT {NEWEST} AS number"))
}

pub(super) fn one_number(conn: &mut SqliteConnection, sql: &str) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let row: Row = Statement::new(sql).kept().get_result(conn)?;
    Ok(row.number)
}

/// A text that changes when any table, index or trigger of the database changes, or what is to be captured.
pub(crate) async fn catalog_version(
    conn: &mut SqliteConn,
    _entities: &BTreeMap<String, Arc<Entity>>,
) -> DbResult<String> {
    let version = blocking(conn, "looking at the catalog", |conn| {
        let schema = "SELECT schema_version AS number FROM pragma_schema_version";
        let unwanted = "SELECT count(*) AS number FROM _rhtmx_sync_entity WHERE NOT wanted";
        Ok((one_number(conn, schema)?, one_number(conn, unwanted)?))
    });
    Ok(format!("{:?}", version.await?))
}

/// Writes an entry to the log for an entity without a table.
pub(crate) async fn record(
    conn: &mut SqliteConn,
    entity: &str,
    key: Option<&str>,
    kind: ChangeKind,
    data: Option<&str>,
) -> DbResult<Position> {
    let (entity, key, data) = (
        entity.to_owned(),
        key.map(str::to_owned),
        data.map(str::to_owned),
    );
    let recorded = blocking(conn, "recording a change", move |conn| {
        Ok(conn.immediate_transaction(|conn| {
            record_in(conn, &entity, key.as_deref(), kind, data.as_deref())?;
            head_in(conn)
        })?)
    });
    read::position(&recorded.await?.position)
}

pub(super) fn record_in(
    conn: &mut SqliteConnection,
    entity: &str,
    key: Option<&str>,
    kind: ChangeKind,
    data: Option<&str>,
) -> QueryResult<()> {
    sql_query(
        "INSERT INTO _rhtmx_sync_log (entity, entity_id, action, data) VALUES (?1, ?2, ?3, ?4)",
    )
    .bind::<Text, _>(entity)
    .bind::<Nullable<Text>, _>(key)
    .bind::<Text, _>(kind.as_str())
    .bind::<Nullable<Text>, _>(data)
    .execute(conn)?;
    Ok(())
}

/// Does nothing: the log's entries contain their time and are in the order of the commits.
pub(crate) async fn make_checkpoint(_conn: &mut SqliteConn) -> DbResult<()> {
    Ok(())
}

/// The log's size in bytes, estimated from entries all over it, and its floor. The space of deleted rows is
/// not counted, because it is reused.
pub(crate) async fn log_size(conn: &mut SqliteConn) -> DbResult<(u64, String)> {
    let sql = format!(
        "WITH RECURSIVE bounds (oldest, newest) AS (SELECT min(id), max(id) FROM _rhtmx_sync_log), \
         sample (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM sample WHERE n < {SAMPLE_ROWS}) \
         SELECT coalesce((SELECT newest - oldest + 1 FROM bounds) * \
         (SELECT avg({ENTRY_BYTES} + octet_length(entity) + octet_length(action) \
         + octet_length(created_at) + coalesce(octet_length(entity_id), 0) \
         + coalesce(octet_length(old), 0) + coalesce(octet_length(data), 0) \
         + coalesce(octet_length(client_id), 0)) \
         FROM bounds CROSS JOIN sample JOIN _rhtmx_sync_log \
         ON id = oldest + (newest - oldest) * n / {SAMPLE_ROWS}), 0) AS number"
    );
    blocking(conn, "measuring the log", move |conn| {
        let (bytes, floor) = (one_number(conn, &sql)?, floor(conn)?);
        Ok((u64::try_from(bytes).unwrap_or_default(), floor.to_string()))
    })
    .await
}

/// The newest id below which entries may be gone.
pub(super) fn floor(conn: &mut SqliteConnection) -> QueryResult<i64> {
    one_number(
        conn,
        "SELECT CAST(floor AS INTEGER) AS number FROM _rhtmx_sync_meta",
    )
}

/// Moves the floor to just below the entries that are younger than `age`, and deletes a batch of the entries
/// below it. The floor moves in the same transaction that deletes the first row.
pub(crate) async fn prune_older_than(conn: &mut SqliteConn, age: Duration) -> DbResult<Pruned> {
    // Only entries before the first young one are deleted, so a clock that was set back keeps entries rather
    // than losing them.
    let old_enough = format!(
        "SELECT coalesce(max(id), 0) AS number FROM _rhtmx_sync_log WHERE id < coalesce( \
         (SELECT id FROM _rhtmx_sync_log \
         WHERE created_at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{:.3} seconds') \
         ORDER BY id LIMIT 1), {NEWEST} + 1)",
        age.as_secs_f64().min(AGE_SECONDS_MAX)
    );
    prune(conn, old_enough).await
}

/// Deletes a batch of the oldest tenth of the entries, for a log that has grown too large.
pub(crate) async fn prune_oldest(conn: &mut SqliteConn) -> DbResult<Pruned> {
    let tenth = "SELECT coalesce((SELECT min(id) + (max(id) - min(id)) / 10 \
        FROM _rhtmx_sync_log), 0) AS number";
    prune(conn, tenth.to_owned()).await
}

async fn prune(conn: &mut SqliteConn, new_floor: String) -> DbResult<Pruned> {
    blocking(conn, "pruning the log", move |conn| {
        // Found before the lock is taken: what is old enough now is so later, too.
        let new_floor = one_number(conn, &new_floor)?;
        Ok(conn.immediate_transaction(|conn| prune_in(conn, new_floor))?)
    })
    .await
}

fn prune_in(conn: &mut SqliteConnection, new_floor: i64) -> QueryResult<Pruned> {
    let old = floor(conn)?;
    let oldest = "SELECT coalesce(min(id), 0) AS number FROM _rhtmx_sync_log";
    // Entries that are already below the floor are deleted first.
    let target = match one_number(conn, oldest)? {
        id if id > old => new_floor.max(old),
        _ => old,
    };
    if target > old {
        // The entry that it stands on may be gone before the next read.
        sql_query(concat!(
            "UPDATE _rhtmx_sync_meta SET floor = CAST(?1 AS TEXT), floor_entry = ",
            hash_at!("?1")
        ))
        .bind::<BigInt, _>(target)
        .execute(conn)?;
    }
    let rows = sql_query(
        "DELETE FROM _rhtmx_sync_log WHERE id IN \
         (SELECT id FROM _rhtmx_sync_log WHERE id <= ?1 ORDER BY id LIMIT ?2)",
    )
    .bind::<BigInt, _>(target)
    .bind::<BigInt, _>(PRUNE_ROWS)
    .execute(conn)?;
    let rows = u64::try_from(rows).unwrap_or_default();
    Ok(Pruned {
        rows,
        floor_moved: target > old,
        more: rows == PRUNE_ROWS.unsigned_abs(),
    })
}
