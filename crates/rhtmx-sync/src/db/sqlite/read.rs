//! Reads of the log and of tables: snapshots, resumes and pulls.
//!
//! Each is one statement, so it sees one committed state. It runs on a blocking thread and stops
//! while nobody takes its parts; meanwhile writers go on, and the write-ahead log keeps what it
//! still has to see.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::connection::DefaultLoadingMode;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteValue};
use diesel::{QueryableByName, RunQueryDsl as _};
use rhtmx_sync_core::cursor::{Mark, Position};

use super::connect::{SqliteConn, blocking};
use super::statement::{Statement, Value};
use super::{filter, projection};
use crate::db::DbError;
use crate::db::error::DbResult;
use crate::db::read::{
    self, ChangeRow, ChangesCollector, ChangesDialect, ChangesQuery, ReadSender, RowLine,
    RowsCollector, RowsPage, RowsQuery,
};
use crate::entity::Entity;

/// `?1` is the newest id that is known, `?2` the JSON array of the entities that are wanted, `?3`,
/// there only with histories, the columns of each entity whose previous values are wanted. Ids are
/// never used again, so the newest one ever given stands for the log also when it is empty.
pub(crate) const DIALECT: ChangesDialect = ChangesDialect {
    start: "SELECT CAST(coalesce((SELECT seq FROM sqlite_sequence \
            WHERE name = '_rhtmx_sync_log'), 0) AS TEXT) AS position, \
            (SELECT floor FROM _rhtmx_sync_meta) AS floor",
    versions: "json_group_object(e.entity, e.fingerprint)",
    news: "SELECT id, id AS mark, entity, entity_id, action, old, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE id > ?1 AND entity IN (SELECT value FROM json_each(?2))",
    wanted: "(SELECT j.value FROM json_each(?3) j WHERE j.key = n.entity)",
    // Put together as text: a CASE takes away what SQLite knows of JSON. A double is taken as the log has
    // it, since `json_quote` writes only 15 digits before SQLite 3.53; a name with quotes has no path.
    step: "'[' || w.id || ',null,' || json_quote(w.action) || ',' || \
           CASE WHEN CASE WHEN json_valid(w.old) THEN json_type(w.old) END = 'object' THEN '{' || coalesce( \
           (SELECT group_concat(json_quote(o.key) || ':' || CASE \
           WHEN NOT EXISTS (SELECT 1 FROM json_each(w.wanted) c WHERE c.value = o.key) THEN '0' \
           WHEN o.type IN ('null', 'true', 'false') THEN o.type \
           WHEN o.type IN ('object', 'array') THEN o.value \
           WHEN o.type = 'real' THEN coalesce(w.old -> o.fullkey, json_quote(o.value)) \
           ELSE json_quote(o.value) END, ',') FROM json_each(w.old) o), '') || '}' \
           ELSE 'null' END || ']'",
};

/// A text of the user's. SQLite takes any bytes for one; what is not UTF-8 becomes U+FFFD, so that
/// one such value does not keep all others from being read.
#[derive(FromSqlRow)]
struct AnyText(String);

impl FromSql<Text, Sqlite> for AnyText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(value.read_text().to_owned()))
    }
}

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
    key: Option<AnyText>,
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
    history: Option<AnyText>,
    /// The derived code calls its argument `row`, so this comes last.
    #[diesel(sql_type = Nullable<Text>)]
    row: Option<AnyText>,
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
            key: line.key.map(|key| key.0),
            action: line.action,
            came: line.came,
            went: line.went,
            truncated_at: line.truncated_at,
            client_id: line.client_id,
            mutation: line.mutation,
            row: line.row.map(|row| row.0),
            history: line.history.map(|history| history.0),
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
    key: Option<AnyText>,
    #[diesel(sql_type = Nullable<Text>)]
    row: Option<AnyText>,
}

impl From<TableLine> for RowLine {
    fn from(line: TableLine) -> Self {
        Self {
            position: line.position,
            floor: line.floor,
            versions: line.versions,
            key: line.key.map(|key| key.0),
            row: line.row.map(|row| row.0),
        }
    }
}

/// Reads what is new in the log since `from`.
pub(crate) async fn read_changes(
    conn: &mut SqliteConn,
    entities: &BTreeMap<String, Arc<Entity>>,
    query: &ChangesQuery,
    out: &ReadSender,
) -> DbResult<()> {
    let Position::LogId(from) = query.from else {
        return Err(DbError::Unsupported(
            "a cursor of PostgreSQL does not fit SQLite".to_owned(),
        ));
    };
    let names: Vec<&String> = entities.keys().collect();
    let names = serde_json::to_string(&names).expect("names are JSON");
    let wanted = serde_json::to_string(&query.histories)
        .ok()
        .filter(|_| !query.histories.is_empty());
    let statement = changes_statement(entities, from, names, wanted, query.checked);
    let expected = query.expected(entities);
    let out = out.clone();
    blocking(conn, "reading the log", move |conn| {
        let mut collector = ChangesCollector::new(mark, expected);
        for line in statement.load_iter::<ChangeLine, DefaultLoadingMode>(conn)? {
            for part in collector.take(line?.into())? {
                if out.blocking_send(part).is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(part) = collector.finish() {
            // Nobody waits for it when the receiver is gone.
            let _ = out.blocking_send(part);
        }
        Ok(())
    })
    .await
}

/// The text is the same at each drain, and preparing it takes longer than most drains.
fn changes_statement(
    entities: &BTreeMap<String, Arc<Entity>>,
    from: i64,
    names: String,
    wanted: Option<String>,
    checked: bool,
) -> Statement {
    let news = read::news_sql(&DIALECT, wanted.is_some());
    let sql = read::changes_sql(&DIALECT, entities, wanted.is_some(), checked);
    // Names of entities may look like parameters; only what is between them is searched.
    let (before, after) = sql.split_once(&news).expect("it is in there");
    let mut statement = Statement::new(before);
    for (index, piece) in news.split('?').enumerate() {
        if index == 0 {
            statement = statement.sql(piece);
            continue;
        }
        let (number, piece) = piece.split_at(1);
        let value = match number {
            "1" => Value::Integer(from),
            "2" => Value::Text(names.clone()),
            _ => Value::Text(wanted.clone().unwrap_or_default()),
        };
        statement = statement.value(value).sql(piece);
    }
    statement.sql(after).kept()
}

/// The statement that reads some rows of an entity.
fn rows_statement(entity: &Entity, query: &RowsQuery) -> Statement {
    let part = query.shape.part();
    let rows = read::rows_before_where(&entity.rows, part, projection::object);
    let (before, behind) = read::around_rows(&DIALECT, entity);
    let mut statement = Statement::new(before);
    if query.page.is_some() {
        statement =
            statement.sql("SELECT key, row FROM (SELECT key COLLATE BINARY AS key, row FROM (");
    }
    statement = statement.sql(rows);
    if let Some(part) = part.filter(|part| !part.filter().is_everything()) {
        statement = filter::predicate(
            statement.sql(" WHERE "),
            part.filter().condition(),
            part.table().schema,
        );
    }
    if let Some(RowsPage { after_key, limit }) = &query.page {
        // Rows without a name are not sent, and must not fill the page.
        statement = statement.sql(") unordered) keyed WHERE key IS NOT NULL");
        if let Some(key) = after_key {
            statement = statement.sql(" AND key > ").value(Value::Text(key.clone()));
        }
        statement = statement.sql(format!(" ORDER BY key LIMIT {limit}"));
    }
    statement.sql(behind)
}

/// Reads rows of an entity.
pub(crate) async fn read_rows(
    conn: &mut SqliteConn,
    entity: &Arc<Entity>,
    query: &RowsQuery,
    out: &ReadSender,
) -> DbResult<()> {
    let statement = rows_statement(entity, query);
    let (entity, out) = (entity.clone(), out.clone());
    blocking(conn, "reading a table", move |conn| {
        let mut collector = RowsCollector::new(&entity);
        for line in statement.load_iter::<TableLine, DefaultLoadingMode>(conn)? {
            if let Some(part) = collector.take(line?.into())?
                && out.blocking_send(part).is_err()
            {
                return Ok(());
            }
        }
        if let Some(part) = collector.finish() {
            let _ = out.blocking_send(part);
        }
        Ok(())
    })
    .await
}

/// The mark of a log entry here is its id.
pub(crate) fn mark(id: i64) -> Mark {
    Mark::LogId(id)
}
