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
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};
use protocol::RowImage;
use sync_core::cursor::CommitId;
use sync_core::shape::Selection;

use super::connect::{SqliteConn, blocking};
use super::entry::{entry_hash, hash_at, newest, position};
use super::filter::Predicates;
use super::projection;
use super::statement::{Statement, Value};
use crate::entity::{Entity, RowsSql};
use crate::error::{DbError, DbResult, Failed};
use crate::health::{Health, ROW_BYTES_MAX};
use crate::quote::literal;
use crate::read::collect::{ChangeRow, RowLine, RowsCollector};
use crate::read::sql::{self, Dialect};
use crate::read::{
    ALONE, DrainSnapshots, PartSender, RowsPage, RowsQuery, TOO_LARGE, reason_in_place_of_row,
};
use crate::sets;

/// `?1` is the newest known id, `?2` the JSON array of the entities. `?3` is the old-value columns of each
/// entity, and is used only if there are any. The newest id ever assigned is the position even of an empty log.
pub(crate) const DIALECT: Dialect = Dialect {
    start: Cow::Borrowed(concat!(
        "SELECT ",
        position!(),
        " AS position, (SELECT floor FROM _rhtmx_sync_meta) AS floor"
    )),
    entity_table: Cow::Borrowed("_rhtmx_sync_entity"),
    fingerprints: "json_group_object(e.entity, e.fingerprint)",
    new_entries: Cow::Borrowed(
        "SELECT id, id AS commit_id, entity, entity_id, action, old, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE id > ?1 AND entity IN (SELECT value FROM json_each(?2))",
    ),
    // No program truncates a table here, and SQLite would read each row again to sort it.
    order: "l.id",
    field_table: Cow::Borrowed("_rhtmx_sync_field"),
    as_text: "",
    // What somebody has written by hand may be no JSON.
    metadata_with_newest: "CASE WHEN json_valid(f.metadata) THEN json_set(f.metadata, '$.newest', f.newest) \
           ELSE f.metadata END",
    conflict_table: Cow::Borrowed("_rhtmx_field_conflict"),
    born: "CASE WHEN json_valid(f.metadata) THEN f.metadata ->> 'born' END",
    with_lost,
    key_collation: "",
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

fn with_lost(metadata: &str, lost: &str) -> String {
    format!(
        "(SELECT CASE WHEN w.lost IS NOT NULL AND json_type(w.metadata) = 'object' THEN json_set(w.metadata, '$.lost', json(w.lost)) \
         ELSE w.metadata END FROM (SELECT coalesce(({metadata}), '{{}}') AS metadata, \
         (SELECT CASE WHEN count(*) > 0 THEN json_group_object(g.field, json(g.lost)) END FROM (SELECT l.field, \
         json_group_array(json_object('value', json(l.value), 'hlc', l.hlc)) AS lost FROM ({lost}) l GROUP BY l.field) g) AS lost) w)"
    )
}

/// What stands for a row that cannot be read.
const FAILING: &str = "!failing";

/// A text of the user's. SQLite accepts any bytes as text; those that are not UTF-8 become U+FFFD, so that
/// one such value does not prevent all others from being read.
#[derive(FromSqlRow)]
struct AnyText(String);

impl FromSql<Text, Sqlite> for AnyText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(value.read_text().to_owned()))
    }
}

/// The JSON of a row, which is copied only if it is not too large.
#[derive(FromSqlRow)]
struct RowText(String);

impl FromSql<Text, Sqlite> for RowText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let text = value.read_text();
        let fits = text.len() <= ROW_BYTES_MAX;
        Ok(Self(if fits { text } else { TOO_LARGE }.to_owned()))
    }
}

/// A row that was read by itself.
struct OneRow(Option<String>);

impl QueryableByName<Sqlite> for OneRow {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        row_text(row, "row").map(Self)
    }
}

/// Reads one row by its key, or returns what stands for it.
pub(super) fn read_one(
    conn: &mut SqliteConnection,
    entity: &Entity,
    key: &str,
) -> Result<Option<String>, Failed> {
    let row = format!("SELECT {} AS row FROM (SELECT ", entity.row_by_key);
    let statement = Statement::new(row)
        .value(Value::Text(key.to_owned()))
        .sql(" AS entity_id) ranked");
    match statement.get_result::<OneRow>(conn) {
        Ok(row) => Ok(row.0),
        Err(error) => match DbError::while_doing("reading a row", error) {
            error if error.is_retryable() || is_of_another_table(&error) => Err(error.into()),
            _ => Ok(Some(FAILING.to_owned())),
        },
    }
}

/// After a read has failed: reads the rows of these entities one by one from now on, if that may help.
pub(crate) fn guard_after(
    error: &DbError,
    entities: &BTreeMap<String, Arc<Entity>>,
    health: &Health,
) {
    if matches!(error, DbError::Statement { .. }) && !is_of_another_table(error) {
        guard(entities, health);
    }
}

/// Whether a statement was made for a table that has changed since, which says nothing about its rows.
fn is_of_another_table(error: &DbError) -> bool {
    let gone = ["no such column", "no such table"];
    matches!(error, DbError::Statement { message, .. } if gone.iter().any(|gone| message.contains(gone)))
}

/// From now on reads the rows of these entities one by one.
fn guard(entities: &BTreeMap<String, Arc<Entity>>, health: &Health) {
    for (name, entity) in entities {
        if entity.relation.is_some() {
            health.guard(name);
        }
    }
}

/// Which of these rows can be read now, or are gone.
pub(crate) async fn readable_rows(
    conn: &mut SqliteConn,
    entity: &Entity,
    keys: &[String],
) -> DbResult<Vec<String>> {
    let (entity, mut keys) = (entity.clone(), keys.to_vec());
    blocking(conn, "trying rows again", move |conn| {
        let mut failed = None;
        keys.retain(|key| match read_one(conn, &entity, key) {
            Ok(row) => row.is_none_or(|row| reason_in_place_of_row(&row).is_none()),
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        failed.map_or(Ok(keys), Err)
    })
    .await
}

impl QueryableByName<Sqlite> for ChangeRow {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        Self::read(
            |_, name| row_text(row, name),
            |_, name| NamedRow::get::<Nullable<BigInt>, _>(row, name),
        )
    }
}

impl QueryableByName<Sqlite> for RowLine {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        Self::read(|name| row_text(row, name))
    }
}

fn text<'a>(row: &impl NamedRow<'a, Sqlite>, name: &str) -> deserialize::Result<Option<String>> {
    let text: Option<AnyText> = NamedRow::get::<Nullable<Text>, _>(row, name)?;
    Ok(text.map(|text| text.0))
}

/// The row's JSON, or what stands for it when it is too large.
pub(super) fn row_text<'a>(
    row: &impl NamedRow<'a, Sqlite>,
    name: &str,
) -> deserialize::Result<Option<String>> {
    if name != "row" {
        return text(row, name);
    }
    let json: Option<RowText> = NamedRow::get::<Nullable<Text>, _>(row, name)?;
    Ok(json.map(|json| json.0))
}

/// The statement that reads some rows of an entity.
fn rows_statement(
    entity: &Entity,
    query: &RowsQuery,
    relies_on: &[Arc<Entity>],
    guarded: bool,
) -> Statement {
    let selection = query.shape.selection();
    let rows = match &entity.rows {
        RowsSql::Table { key, from, .. } if guarded => {
            let asked = query.shape.has_metadata();
            let metadata = sql::metadata_of_rows(&DIALECT, entity, key, asked);
            let row = literal(ALONE);
            format!("SELECT {key} AS key, {row} AS row, {metadata} AS metadata FROM {from}")
        }
        _ => sql::rows_before_where(&DIALECT, entity, selection, projection::object),
    };
    let (before, after) = sql::around_rows(&DIALECT, relies_on);
    let mut statement = Statement::new(before);
    if query.page.is_some() {
        statement =
            statement.sql("SELECT key, row, metadata FROM (SELECT key COLLATE BINARY AS key, row, metadata FROM (");
    }
    statement = statement.sql(rows);
    if let Some(first) = selection.and_then(Selection::window) {
        // Not by their keys: so an index on the order serves.
        let predicates = Predicates::new(entity, &query.others);
        // Rows without a key are not sent and must not be among the first.
        let key = match &entity.rows {
            RowsSql::Table { key, .. } => key.as_str(),
            RowsSql::Query(_) => "key",
        };
        let where_keyed = statement.sql(format!(" WHERE {key} IS NOT NULL AND "));
        statement = predicates.write(where_keyed, &sets::condition(first));
        let window = first.window.iter();
        let end = window.map(|window| sets::first_rows(entity, window, window.limit()));
        statement = statement.sql(end.collect::<String>());
    } else if let Some(selection) =
        selection.filter(|selection| !selection.filter().is_everything())
    {
        let predicates = Predicates::new(entity, &query.others);
        statement = predicates.write(statement.sql(" WHERE "), selection.filter().condition());
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

/// What fails when a read of rows does.
const ROWS_CONTEXT: &str = "reading a table";

/// A read of rows.
pub(crate) struct Rows {
    entity: Arc<Entity>,
    guarded: bool,
    statement: Statement,
    collector: RowsCollector,
    out: PartSender<RowImage>,
}

/// Makes a read of rows.
pub(crate) async fn read_rows(conn: &mut SqliteConn, read: Rows) -> DbResult<()> {
    blocking(conn, ROWS_CONTEXT, |conn| read.read_all(conn)).await
}

/// Makes it in the transaction of the next drain. The error is the read itself, when there is no drain in time.
pub(crate) async fn read_rows_at_drain(
    read: Rows,
    drains: &DrainSnapshots,
) -> Result<DbResult<()>, Rows> {
    let made = drains.read_within(read, Rows::read_all).await?;
    Ok(made
        .unwrap_or_else(|| Err(panicked().into()))
        .map_err(|failed| failed.while_doing(ROWS_CONTEXT)))
}

/// What is said of a read that has panicked on the connection of a drain.
pub(super) fn panicked() -> DbError {
    DbError::Unreachable("a read has panicked".to_owned())
}

impl Rows {
    /// A read of an entity's rows, which are sent to `out`.
    ///
    /// # Errors
    /// The name of an entity whose table has changed.
    pub(crate) fn new(
        entity: &Arc<Entity>,
        health: &Arc<Health>,
        query: &RowsQuery,
        out: &PartSender<RowImage>,
    ) -> Result<Self, String> {
        let relies_on = query.relies_on(entity)?;
        let guarded = entity.relation.is_some() && health.is_guarded(&entity.schema.entity);
        let selection = query.shape.selection();
        let is_partial = selection.is_some_and(Selection::is_partial);
        let mut collector = RowsCollector::new((entity, &query.shape), &relies_on, health.clone());
        if guarded || is_partial {
            collector = collector.projecting();
        }
        Ok(Self {
            entity: entity.clone(),
            guarded,
            statement: rows_statement(entity, query, &relies_on, guarded),
            collector,
            out: out.clone(),
        })
    }

    fn read_all(self, conn: &mut SqliteConnection) -> Result<(), Failed> {
        let Self {
            entity,
            guarded,
            statement,
            mut collector,
            out,
        } = self;
        let mut take = |line| -> Result<bool, Failed> {
            if out.is_closed() {
                return Ok(false);
            }
            Ok(match collector.take(line)? {
                Some(part) => out.blocking_send(part).is_ok(),
                None => true,
            })
        };
        if guarded {
            conn.transaction(|conn| {
                for line in statement.load::<RowLine>(conn)? {
                    let row = match line.key_alone() {
                        Some(key) => Some(read_one(conn, &entity, key)?),
                        None => None,
                    };
                    let line = match row {
                        Some(row) => line.alone(row),
                        None => line,
                    };
                    if !take(line)? {
                        break;
                    }
                }
                Ok::<_, Failed>(())
            })?;
        } else {
            for line in statement.load_iter::<RowLine, DefaultLoadingMode>(conn)? {
                if !take(line?)? {
                    return Ok(());
                }
            }
        }
        if let Some(part) = collector.finish() {
            let _ = out.blocking_send(part);
        }
        Ok(())
    }
}

/// The commit id of a log entry, which on SQLite is its id.
pub(crate) fn commit_id(id: i64) -> CommitId {
    CommitId::LogId(id)
}
