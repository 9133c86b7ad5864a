//! Reads of the log and of tables on pooled connections: snapshots, resumes and pulls.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use futures_util::StreamExt as _;
use rhtmx_sync_core::cursor::{Mark, Position};
use rhtmx_sync_core::snapshot::Snapshot;

use super::{filter, projection};
use crate::db::DbError;
use crate::db::error::{DbResult, Failed};
use crate::db::read::{
    self, ChangeRow, ChangesCollector, ChangesDialect, ChangesQuery, HistoryColumns, ReadSender,
    RowLine, RowsCollector, RowsPage, RowsQuery,
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
/// ranges of the one index on `xid`. `$4`, there only with histories, is the columns of each entity
/// whose previous values are wanted.
pub(crate) const DIALECT: ChangesDialect = ChangesDialect {
    // Between a crash and the new epoch nobody can go on from where they were.
    start: "SELECT pg_current_snapshot()::text AS position, (SELECT CASE \
            WHEN EXISTS (SELECT FROM _rhtmx_sync_alive) THEN floor ELSE pg_current_snapshot()::text END \
            FROM _rhtmx_sync_meta) AS floor",
    versions: "json_object_agg(e.entity, e.fingerprint)::text",
    news: "SELECT id, xid::text::bigint AS mark, entity, entity_id, action, old, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE xid >= $1::text::xid8 AND entity = ANY ($3::text::text[]) \
           UNION ALL \
           SELECT id, xid::text::bigint, entity, entity_id, action, old, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE xid = ANY ($2::text::xid8[]) AND entity = ANY ($3::text::text[])",
    wanted: "($4::text::jsonb -> n.entity)",
    step: "json_build_array(w.id, w.mark, w.action, CASE WHEN w.old IS NOT NULL THEN coalesce( \
           (SELECT jsonb_object_agg(o.key, CASE WHEN w.wanted ? o.key THEN o.value ELSE '0'::jsonb END) \
           FROM jsonb_each(w.old) o), '{}'::jsonb) END)::text",
};

#[derive(QueryableByName)]
struct ChangeLine {
    #[diesel(sql_type = Text)]
    position: String,
    #[diesel(sql_type = Text)]
    floor: String,
    #[diesel(sql_type = Nullable<Text>)]
    versions: Option<String>,
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
    #[diesel(sql_type = Nullable<BigInt>)]
    came: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    went: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    truncated_at: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    client_id: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mutation: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    history: Option<String>,
    /// The derived code calls its argument `row`, so this comes last.
    #[diesel(sql_type = Nullable<Text>)]
    row: Option<String>,
}

impl From<ChangeLine> for ChangeRow {
    fn from(line: ChangeLine) -> Self {
        Self {
            position: line.position,
            floor: line.floor,
            versions: line.versions,
            id: line.id,
            mark: line.mark,
            entity: line.entity,
            key: line.key,
            action: line.action,
            came: line.came,
            went: line.went,
            truncated_at: line.truncated_at,
            client_id: line.client_id,
            mutation: line.mutation,
            row: line.row,
            history: line.history,
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
    versions: Option<String>,
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
            versions: line.versions,
            key: line.key,
            row: line.row,
        }
    }
}

/// The parameters of [`DIALECT`], in their order: the last only when histories are wanted.
pub(crate) fn parameters(
    from: &Snapshot,
    entities: &BTreeMap<String, Arc<Entity>>,
    wanted: &HistoryColumns,
) -> Vec<String> {
    let running: Vec<String> = from.running().iter().map(u64::to_string).collect();
    let mut parameters = vec![
        from.xmax().to_string(),
        format!("{{{}}}", running.join(",")),
        array(entities.keys()),
    ];
    if !wanted.is_empty() {
        parameters.push(serde_json::to_string(wanted).expect("names are JSON"));
    }
    parameters
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
    query: &ChangesQuery,
    out: &ReadSender,
) -> DbResult<()> {
    let Position::Snapshot(from) = &query.from else {
        return Err(DbError::Unsupported(
            "a cursor of SQLite does not fit PostgreSQL".to_owned(),
        ));
    };
    let history = !query.histories.is_empty();
    let sql = read::changes_sql(&DIALECT, entities, history, query.checked);
    let parameters = parameters(from, entities, &query.histories);
    let expected = query.expected(entities);
    conn.transaction(async |conn| {
        conn.batch_execute(&format!("{SESSION_SETTINGS}; {PLANNER_SETTINGS}"))
            .await?;
        let mut lines = bound(&sql, &parameters)
            .load_stream::<ChangeLine>(conn)
            .await?;
        let mut collector = ChangesCollector::new(mark, expected);
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

/// A statement whose parameters are all texts.
fn bound<'a>(sql: &str, parameters: &'a [String]) -> BoxedSqlQuery<'a, Pg, SqlQuery> {
    let query = sql_query(sql).into_boxed();
    parameters
        .iter()
        .fold(query, |query, parameter| query.bind::<Text, _>(parameter))
}

/// The statement that reads some rows of an entity, and its parameters.
fn rows_sql(entity: &Entity, query: &RowsQuery) -> (String, Vec<String>) {
    let part = query.shape.part();
    let object_of = |columns: Vec<String>| projection::object_of(&columns.join(", "));
    let mut rows = read::rows_before_where(&entity.rows, part, object_of);
    let mut parameters = Vec::new();
    if let Some(part) = part.filter(|part| !part.filter().is_everything()) {
        let predicate = filter::predicate(part.filter().condition(), entity);
        rows = format!("{rows} WHERE {}", predicate.sql);
        parameters = predicate.params;
    }
    if let Some(RowsPage { after_key, limit }) = &query.page {
        let mut beyond = String::new();
        if let Some(key) = after_key {
            parameters.push(key.clone());
            beyond = format!("WHERE key > ${}::text COLLATE \"C\"", parameters.len());
        }
        let keyed = format!("SELECT key COLLATE \"C\" AS key, row FROM ({rows}) unordered");
        rows = format!("SELECT key, row FROM ({keyed}) keyed {beyond} ORDER BY key LIMIT {limit}");
    }
    let (before, behind) = read::around_rows(&DIALECT, entity);
    (format!("{before}{rows}{behind}"), parameters)
}

/// Reads rows of an entity.
pub(crate) async fn read_rows(
    conn: &mut AsyncPgConnection,
    entity: &Arc<Entity>,
    query: &RowsQuery,
    out: &ReadSender,
) -> DbResult<()> {
    let (sql, parameters) = rows_sql(entity, query);
    conn.transaction(async |conn| {
        conn.batch_execute(SESSION_SETTINGS).await?;
        let mut lines = bound(&sql, &parameters)
            .load_stream::<TableLine>(conn)
            .await?;
        let mut collector = RowsCollector::new(entity);
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
