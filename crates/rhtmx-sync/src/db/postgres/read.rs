//! Reads of the log and of tables on pooled connections: snapshots, resumes and pulls.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use futures_util::StreamExt as _;
use rhtmx_sync_core::cursor::{Mark, Position};
use rhtmx_sync_core::snapshot::Snapshot;

use crate::db::DbError;
use crate::db::error::{DbResult, Failed};
use crate::db::read::{
    self, ChangeRow, ChangesCollector, ChangesDialect, ReadSender, RowLine, RowsCollector,
};
use crate::entity::Entity;

/// How the generated SQL expects a session to be. `LOCAL`, because behind a transaction pooler a
/// session belongs to everybody.
pub(crate) const SESSION_SETTINGS: &str = "\
SET LOCAL \"TimeZone\" = 'UTC'; SET LOCAL datestyle = 'ISO, MDY'; SET LOCAL intervalstyle = 'postgres'; \
SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; \
SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// The planner knows nothing of a log that grows by thousands a second; left alone it scans tables.
pub(crate) const PLANNER_SETTINGS: &str = "\
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// `$1` is the snapshot's xmax, `$2` its running transactions, `$3` the entities that are wanted: two
/// ranges of the one index on `xid`.
pub(crate) const DIALECT: ChangesDialect = ChangesDialect {
    start: "SELECT pg_current_snapshot()::text AS position, (SELECT floor FROM _rhtmx_sync_meta) AS floor",
    news: "SELECT id, xid::text::bigint AS mark, entity, entity_id, action, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE xid >= $1::text::xid8 AND entity = ANY ($3::text::text[]) \
           UNION ALL \
           SELECT id, xid::text::bigint, entity, entity_id, action, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE xid = ANY ($2::text::xid8[]) AND entity = ANY ($3::text::text[])",
};

#[derive(QueryableByName)]
struct ChangeLine {
    #[diesel(sql_type = Text)]
    position: String,
    #[diesel(sql_type = Text)]
    floor: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mark: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    entity: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    action: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    first_action: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    truncated_at: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    client_id: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mutation: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    row: Option<String>,
}

impl From<ChangeLine> for ChangeRow {
    fn from(line: ChangeLine) -> Self {
        Self {
            position: line.position,
            floor: line.floor,
            id: line.id,
            mark: line.mark,
            entity: line.entity,
            key: line.key,
            action: line.action,
            first_action: line.first_action,
            truncated_at: line.truncated_at,
            client_id: line.client_id,
            mutation: line.mutation,
            row: line.row,
        }
    }
}

#[derive(QueryableByName)]
struct TableLine {
    #[diesel(sql_type = Nullable<Text>)]
    position: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    floor: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    row: Option<String>,
}

impl From<TableLine> for RowLine {
    fn from(line: TableLine) -> Self {
        Self {
            position: line.position,
            floor: line.floor,
            key: line.key,
            row: line.row,
        }
    }
}

/// The three parameters of [`DIALECT`].
pub(crate) struct Parameters {
    pub(crate) xmax: String,
    pub(crate) running: String,
    pub(crate) entities: String,
}

impl Parameters {
    pub(crate) fn new(from: &Snapshot, entities: &BTreeMap<String, Arc<Entity>>) -> Self {
        let running: Vec<String> = from.running().iter().map(u64::to_string).collect();
        Self {
            xmax: from.xmax().to_string(),
            running: format!("{{{}}}", running.join(",")),
            entities: array(entities.keys()),
        }
    }
}

/// The text of a `text[]`.
fn array<'a>(items: impl Iterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = items
        .map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}

/// Reads what is new in the log since `from`.
pub(crate) async fn read_changes(
    conn: &mut AsyncPgConnection,
    entities: &BTreeMap<String, Arc<Entity>>,
    from: &Position,
    out: &ReadSender,
) -> DbResult<()> {
    let Position::Snapshot(from) = from else {
        return Err(DbError::Unsupported(
            "a cursor of SQLite does not fit PostgreSQL".to_owned(),
        ));
    };
    let sql = read::changes_sql(&DIALECT, entities);
    let parameters = Parameters::new(from, entities);
    conn.transaction(async |conn| {
        conn.batch_execute(&format!("{SESSION_SETTINGS}; {PLANNER_SETTINGS}"))
            .await?;
        let mut lines = sql_query(&sql)
            .bind::<Text, _>(&parameters.xmax)
            .bind::<Text, _>(&parameters.running)
            .bind::<Text, _>(&parameters.entities)
            .load_stream::<ChangeLine>(conn)
            .await?;
        let mut collector = ChangesCollector::new(mark);
        while let Some(line) = lines.next().await {
            for part in collector.take(line?.into())? {
                if out.send(part).await.is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(part) = collector.finish() {
            // Nobody waits for it when the receiver is gone.
            let _ = out.send(part).await;
        }
        Ok::<_, Failed>(())
    })
    .await
    .map_err(|failed| failed.while_doing("reading the log"))
}

/// Reads all rows of an entity.
pub(crate) async fn read_rows(
    conn: &mut AsyncPgConnection,
    entity: &Entity,
    out: &ReadSender,
) -> DbResult<()> {
    let sql = read::rows_sql(&DIALECT, entity);
    conn.transaction(async |conn| {
        conn.batch_execute(SESSION_SETTINGS).await?;
        let mut lines = sql_query(&sql).load_stream::<TableLine>(conn).await?;
        let mut collector = RowsCollector::default();
        while let Some(line) = lines.next().await {
            if let Some(part) = collector.take(line?.into())?
                && out.send(part).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(part) = collector.finish() {
            let _ = out.send(part).await;
        }
        Ok::<_, Failed>(())
    })
    .await
    .map_err(|failed| failed.while_doing("reading a table"))
}

/// The mark of a log entry here is its transaction.
pub(crate) fn mark(xid: i64) -> Mark {
    Mark::Xid(u64::try_from(xid).unwrap_or_default())
}
