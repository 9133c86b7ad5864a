//! Reads of the log and of tables: first reads, resumes and catch-ups.
//!
//! Each is one statement, so it sees one committed state. It runs on a blocking thread and pauses while its
//! receiver takes nothing; writers go on meanwhile, and the write-ahead log keeps the pages that the read
//! still needs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::connection::DefaultLoadingMode;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteValue};
use diesel::{QueryableByName, RunQueryDsl as _};
use protocol::RowImage;
use sync_core::cursor::{CommitId, Position};
use sync_core::log::NetChange;

use super::connect::{SqliteConn, blocking};
use super::statement::{Statement, Value};
use super::{filter, projection};
use crate::entity::Entity;
use crate::error::{DbError, DbResult};
use crate::read::collect::{ChangeRow, ChangesCollector, RowLine, RowsCollector};
use crate::read::sql::{self, Dialect};
use crate::read::{ChangesQuery, PartSender, RowsPage, RowsQuery};

/// `?1` is the newest known id, `?2` the JSON array of the entities. `?3` is the old-value columns of each
/// entity, and is used only if there are any. Ids are never used again, so the newest id ever assigned is the
/// position even of an empty log.
pub(crate) const DIALECT: Dialect = Dialect {
    start: Cow::Borrowed(
        "SELECT CAST(coalesce((SELECT seq FROM sqlite_sequence \
            WHERE name = '_rhtmx_sync_log'), 0) AS TEXT) AS position, \
            (SELECT floor FROM _rhtmx_sync_meta) AS floor",
    ),
    entity_table: Cow::Borrowed("_rhtmx_sync_entity"),
    fingerprints: "json_group_object(e.entity, e.fingerprint)",
    new_entries: Cow::Borrowed(
        "SELECT id, id AS commit_id, entity, entity_id, action, old, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE id > ?1 AND entity IN (SELECT value FROM json_each(?2))",
    ),
    wanted: "(SELECT j.value FROM json_each(?3) j WHERE j.key = n.entity)",
    // Concatenated as text, because a value loses its JSON subtype in a CASE. A double is copied from the
    // log, because before 3.53 `json_quote` writes only 15 digits; a name with quotes has no path, hence
    // coalesce.
    undo_record: "'[' || w.id || ',null,' || json_quote(w.action) || ',' || \
           CASE WHEN CASE WHEN json_valid(w.old) THEN json_type(w.old) END = 'object' THEN '{' || coalesce( \
           (SELECT group_concat(json_quote(o.key) || ':' || CASE \
           WHEN NOT EXISTS (SELECT 1 FROM json_each(w.wanted) c WHERE c.value = o.key) THEN '0' \
           WHEN o.type IN ('null', 'true', 'false') THEN o.type \
           WHEN o.type IN ('object', 'array') THEN o.value \
           WHEN o.type = 'real' THEN coalesce(w.old -> o.fullkey, json_quote(o.value)) \
           ELSE json_quote(o.value) END, ',') FROM json_each(w.old) o), '') || '}' \
           ELSE 'null' END || ']'",
};

/// A text of the user's. SQLite accepts any bytes as text; those that are not UTF-8 become U+FFFD, so that
/// one such value does not prevent all others from being read.
#[derive(FromSqlRow)]
struct AnyText(String);

impl FromSql<Text, Sqlite> for AnyText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(value.read_text().to_owned()))
    }
}

impl QueryableByName<Sqlite> for ChangeRow {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        Self::read(
            |_, name| text(row, name),
            |_, name| NamedRow::get::<Nullable<BigInt>, _>(row, name),
        )
    }
}

impl QueryableByName<Sqlite> for RowLine {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        Self::read(|name| text(row, name))
    }
}

fn text<'a>(row: &impl NamedRow<'a, Sqlite>, name: &str) -> deserialize::Result<Option<String>> {
    let text: Option<AnyText> = NamedRow::get::<Nullable<Text>, _>(row, name)?;
    Ok(text.map(|text| text.0))
}

/// Reads the changes since the query's position and sends them to `out`.
pub(crate) async fn read_changes(
    conn: &mut SqliteConn,
    entities: &BTreeMap<String, Arc<Entity>>,
    query: &ChangesQuery,
    out: &PartSender<NetChange>,
) -> DbResult<()> {
    let Position::LogId(from) = query.from else {
        return Err(DbError::Unsupported(
            "a cursor of PostgreSQL cannot be used with SQLite".to_owned(),
        ));
    };
    let names: Vec<&String> = entities.keys().collect();
    let names = serde_json::to_string(&names).expect("names are JSON");
    let old_value_columns = serde_json::to_string(&query.old_value_columns)
        .ok()
        .filter(|_| !query.old_value_columns.is_empty());
    let statement = changes_statement(entities, from, names, old_value_columns, query.checked);
    let expected = query.expected(entities);
    let out = out.clone();
    blocking(conn, "reading the log", move |conn| {
        let mut collector = ChangesCollector::new(commit_id, expected);
        for line in statement.load_iter::<ChangeRow, DefaultLoadingMode>(conn)? {
            for part in collector.take(line?)? {
                if out.blocking_send(part).is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(part) = collector.finish() {
            // An error means that the receiver has been dropped, and nothing is left to do.
            let _ = out.blocking_send(part);
        }
        Ok(())
    })
    .await
}

/// The statement that reads changes. Its text is the same for each drain, and preparing it takes longer than
/// most drains, so it is kept prepared.
fn changes_statement(
    entities: &BTreeMap<String, Arc<Entity>>,
    from: i64,
    names: String,
    old_value_columns: Option<String>,
    checked: bool,
) -> Statement {
    let undo = old_value_columns.is_some();
    let new_entries = sql::new_entries_sql(&DIALECT, undo);
    let sql = sql::changes_sql(&DIALECT, entities, undo, checked);
    // Parameters occur only in `new_entries`; elsewhere an entity's name may look like one.
    let (before, after) = sql
        .split_once(&new_entries)
        .expect("the statement contains the query of the new entries");
    let mut statement = Statement::new(before);
    for (index, piece) in new_entries.split('?').enumerate() {
        if index == 0 {
            statement = statement.sql(piece);
            continue;
        }
        let (number, piece) = piece.split_at(1);
        let value = match number {
            "1" => Value::Integer(from),
            "2" => Value::Text(names.clone()),
            _ => Value::Text(old_value_columns.clone().unwrap_or_default()),
        };
        statement = statement.value(value).sql(piece);
    }
    statement.sql(after).kept()
}

/// The statement that reads some rows of an entity.
fn rows_statement(entity: &Entity, query: &RowsQuery) -> Statement {
    let selection = query.shape.selection();
    let rows = sql::rows_before_where(&entity.rows, selection, projection::object);
    let (before, after) = sql::around_rows(&DIALECT, entity);
    let mut statement = Statement::new(before);
    if query.page.is_some() {
        statement =
            statement.sql("SELECT key, row FROM (SELECT key COLLATE BINARY AS key, row FROM (");
    }
    statement = statement.sql(rows);
    if let Some(selection) = selection.filter(|selection| !selection.filter().is_everything()) {
        statement = filter::predicate(
            statement.sql(" WHERE "),
            selection.filter().condition(),
            selection.table().schema,
        );
    }
    if let Some(RowsPage { after_key, limit }) = &query.page {
        // Rows without a key are not sent and must not fill the page.
        statement = statement.sql(") unordered) keyed WHERE key IS NOT NULL");
        if let Some(key) = after_key {
            statement = statement.sql(" AND key > ").value(Value::Text(key.clone()));
        }
        statement = statement.sql(format!(" ORDER BY key LIMIT {limit}"));
    }
    statement.sql(after)
}

/// Reads rows of an entity and sends them to `out`.
pub(crate) async fn read_rows(
    conn: &mut SqliteConn,
    entity: &Arc<Entity>,
    query: &RowsQuery,
    out: &PartSender<RowImage>,
) -> DbResult<()> {
    let statement = rows_statement(entity, query);
    let (entity, out) = (entity.clone(), out.clone());
    blocking(conn, "reading a table", move |conn| {
        let mut collector = RowsCollector::new(&entity);
        for line in statement.load_iter::<RowLine, DefaultLoadingMode>(conn)? {
            if let Some(part) = collector.take(line?)?
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

/// The commit id of a log entry, which on SQLite is its id.
pub(crate) fn commit_id(id: i64) -> CommitId {
    CommitId::LogId(id)
}
