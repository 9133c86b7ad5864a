//! Reads of the log and of tables: first reads, resumes and catch-ups.
//!
//! Each is one statement, so it sees one committed state. It runs on a blocking thread and pauses while its
//! receiver takes nothing; writers go on meanwhile, and the write-ahead log keeps the pages that the read
//! still needs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use diesel::connection::DefaultLoadingMode;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteValue};
use diesel::{Connection as _, QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection};
use protocol::{RefetchReason, RowImage};
use sync_core::cursor::{CommitId, Position};
use sync_core::log::NetChange;
use sync_core::shape::Selection;

use super::connect::{SqliteConn, blocking};
use super::entry::{entry_hash, hash_at, newest, position};
use super::filter::Predicates;
use super::statement::{Statement, Value};
use super::{entry, projection, store};
use crate::entity::{Entity, RowsSql};
use crate::error::{DbError, DbResult, Failed};
use crate::health::{Health, ROW_BYTES_MAX};
use crate::inquiry::{self, Collected, Inquiring, Moved};
use crate::quote::literal;
use crate::read::collect::{ChangeRow, ChangesCollector, RowLine, RowsCollector};
use crate::read::sql::{self, Dialect, Reading};
use crate::read::{
    self, ALONE, ChangesQuery, Fingerprints, Part, PartSender, RESUME_ENTRIES_CHEAP, ReadStart,
    RowsPage, RowsQuery, TOO_LARGE, reason_in_place_of_row,
};

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

/// Reads the changes since the query's position and sends them to `out`.
pub(crate) async fn read_changes(
    conn: &mut SqliteConn,
    entities: &BTreeMap<String, Arc<Entity>>,
    health: &Arc<Health>,
    mut query: ChangesQuery,
    out: &PartSender<NetChange>,
) -> DbResult<()> {
    let Position::Log(from) = query.from else {
        return Err(DbError::Unsupported(
            "a cursor of PostgreSQL cannot be used with SQLite".to_owned(),
        ));
    };
    let inquiring = query.inquiry.take();
    let changes = Changes {
        entities: entities.clone(),
        expected: query.expected(entities),
        health: health.clone(),
        out: out.clone(),
        query,
    };
    blocking(conn, "reading the log", move |conn| {
        conn.transaction(|conn| {
            if !entry::is_known(conn, from)? {
                return changes.send(Part::Start(never_been_there(conn)?));
            }
            if let Some(entries_max) = changes.query.entries_max
                && let Some(reason) = refuse(conn, from.id, entries_max)?
            {
                return changes.send(Part::Refused(reason));
            }
            let mut moved = Moved::default();
            if let Some(inquiring) = inquiring {
                match changes.inquire(conn, from.id, inquiring)? {
                    Ok(touched) => moved = touched,
                    Err(ended) => return changes.send(ended),
                }
            }
            let wanted = changes.query.of(&changes.entities);
            let mut is_ended = false;
            changes.read(conn, from.id, &wanted, &mut |part| {
                moved.pass(&part);
                is_ended = changes.out.blocking_send(part).is_err();
                !is_ended
            })?;
            if !is_ended {
                changes.send_moved(conn, &moved)?;
            }
            Ok(())
        })
    })
    .await
}

/// A read of changes.
struct Changes {
    /// All entities that it may read.
    entities: BTreeMap<String, Arc<Entity>>,
    expected: Fingerprints,
    health: Arc<Health>,
    out: PartSender<NetChange>,
    query: ChangesQuery,
}

impl Changes {
    /// Sends a part.
    fn send(&self, part: Part<NetChange>) -> Result<(), Failed> {
        // An error means that the receiver has been dropped, and nothing is left to do.
        let _ = self.out.blocking_send(part);
        Ok(())
    }

    /// Reads the changes of these entities for as long as `take` wants more.
    fn read(
        &self,
        conn: &mut SqliteConnection,
        from: i64,
        entities: &BTreeMap<String, Arc<Entity>>,
        take: &mut dyn FnMut(Part<NetChange>) -> bool,
    ) -> Result<(), Failed> {
        let guarded: BTreeMap<String, Arc<Entity>> = entities
            .iter()
            .filter(|(name, _)| self.health.is_guarded(name))
            .map(|(name, entity)| (name.clone(), entity.clone()))
            .collect();
        let statement = changes_statement(entities, &guarded, from, &self.query, &self.expected);
        let health = self.health.clone();
        let mut collector = ChangesCollector::new(commit_id, self.expected.clone(), health);
        let mut take_line = |line| -> Result<bool, Failed> {
            if self.out.is_closed() {
                return Ok(false);
            }
            Ok(collector.take(line)?.into_iter().all(&mut *take))
        };
        if guarded.is_empty() {
            for line in statement.load_iter::<ChangeRow, DefaultLoadingMode>(conn)? {
                if !take_line(line?)? {
                    return Ok(());
                }
            }
        } else {
            for mut line in statement.load::<ChangeRow>(conn)? {
                line.read_alone(|entity, key| read_one(conn, &guarded[entity], key))?;
                if !take_line(line)? {
                    return Ok(());
                }
            }
        }
        if let Some(part) = collector.finish() {
            take(part);
        }
        Ok(())
    }

    /// Asks what belongs to the read. Returns the rows that moved, or the part that ends the read.
    fn inquire(
        &self,
        conn: &mut SqliteConnection,
        from: i64,
        Inquiring {
            deciding,
            mut inquiry,
        }: Inquiring,
    ) -> Result<Result<Moved, Part<NetChange>>, Failed> {
        let deciding = read::some_of(&self.entities, &deciding);
        let (mut start, mut ended) = (None, None);
        let (mut kept, mut fits) = (Collected::default(), true);
        self.read(conn, from, &deciding, &mut |part| {
            match part {
                Part::Start(found) => start = Some(found),
                Part::Items(entries) => fits = kept.take(entries),
                part => ended = Some(part),
            }
            fits && ended.is_none()
        })?;
        if let Some(ended) = ended {
            return Ok(Err(ended));
        }
        // Where the log no longer reaches back, whoever reads finds that out.
        let Some(start) = start.filter(|start| self.query.from.covers(&start.floor)) else {
            return Ok(Ok(Moved::default()));
        };
        if !fits && self.query.checked {
            return Ok(Err(Part::Refused(RefetchReason::Expired)));
        }
        if !fits {
            kept.entries = inquiry::unread(deciding.keys(), CommitId::LogId(0));
        }
        inquiry.at(&Arc::new(start.position));
        let mut questions = inquiry.begin(&kept.entries);
        while !questions.is_empty() {
            let answers = super::inquiry::ask(conn, &questions, &self.entities, &self.health)?;
            questions = inquiry.answer(answers);
        }
        Ok(Ok(Moved::new(inquiry.touched())))
    }

    /// Sends the rows that moved and have not changed.
    fn send_moved(&self, conn: &mut SqliteConnection, moved: &Moved) -> Result<(), Failed> {
        for question in moved.questions() {
            let name = inquiry::subject(&question);
            let Some(entity) = self.entities.get(name) else {
                continue;
            };
            let mut collector = moved.collector(name, CommitId::LogId(0), &self.health);
            let known = (&self.entities, &*self.health);
            let ended = super::inquiry::lines(conn, &question, entity, known, |line| {
                let part = collector.take(line);
                match part.map(|part| self.out.blocking_send(part)) {
                    Some(Err(_)) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
            match collector.finish() {
                Some(part) if ended.is_none() => self.send(part)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The start of a read from a position at which this database has never been, or is no more.
fn never_been_there(conn: &mut SqliteConnection) -> QueryResult<ReadStart> {
    // No position is covered by this one.
    Ok(ReadStart {
        position: Position::log_id(-1),
        floor: Position::log_id(store::floor(conn)?),
    })
}

/// Returns why the changes since `from` are not read: the log no longer has them, or has too many.
fn refuse(
    conn: &mut SqliteConnection,
    from: i64,
    entries_max: u64,
) -> QueryResult<Option<RefetchReason>> {
    #[derive(QueryableByName)]
    struct Newest {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let newest: Newest = Statement::new(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_rhtmx_sync_log'), 0) AS id",
    )
    .kept()
    .get_result(conn)?;
    let distance = u64::try_from(newest.id.saturating_sub(from)).unwrap_or_default();
    let is_refused = from < store::floor(conn)? || distance > entries_max.max(RESUME_ENTRIES_CHEAP);
    Ok(is_refused.then_some(RefetchReason::Expired))
}

/// The statement that reads changes. Its text is the same for each drain, and preparing it takes longer than
/// most drains, so it is kept prepared. Those of other reads differ by their entities.
fn changes_statement(
    entities: &BTreeMap<String, Arc<Entity>>,
    guarded: &BTreeMap<String, Arc<Entity>>,
    from: i64,
    query: &ChangesQuery,
    checked: &Fingerprints,
) -> Statement {
    let json = |value: Result<String, serde_json::Error>| value.expect("names are JSON");
    let names = json(serde_json::to_string(&entities.keys().collect::<Vec<_>>()));
    let old_value_columns = json(serde_json::to_string(&query.old_value_columns));
    let missing: Vec<&String> = read::missing(entities).collect();
    let mut dialect = DIALECT;
    if !missing.is_empty() {
        dialect = dialect.leaving_out("entity IN (SELECT value FROM json_each(?4))");
    }
    let undo = !query.old_value_columns.is_empty();
    let row = |name: &String, entity: &Entity| match guarded.get(name) {
        Some(_) => literal(ALONE),
        None => entity.row_by_key.clone(),
    };
    let reading = Reading {
        rows: entities
            .iter()
            .filter(|(_, entity)| !entity.is_missing())
            .map(|(name, entity)| (name.clone(), row(name, entity)))
            .collect(),
        undo,
        checked: checked.keys().cloned().collect(),
    };
    let missing = json(serde_json::to_string(&missing));
    let new_entries = sql::new_entries_sql(&dialect, undo);
    let sql = sql::changes_sql(&dialect, &reading);
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
            "4" => Value::Text(missing.clone()),
            _ => Value::Text(old_value_columns.clone()),
        };
        statement = statement.value(value).sql(piece);
    }
    let statement = statement.sql(after);
    if query.checked {
        statement
    } else {
        statement.kept()
    }
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
            format!("SELECT {key} AS key, {} AS row FROM {from}", literal(ALONE))
        }
        rows => sql::rows_before_where(rows, selection, projection::object),
    };
    let (before, after) = sql::around_rows(&DIALECT, relies_on);
    let mut statement = Statement::new(before);
    if query.page.is_some() {
        statement =
            statement.sql("SELECT key, row FROM (SELECT key COLLATE BINARY AS key, row FROM (");
    }
    statement = statement.sql(rows);
    if let Some(selection) = selection.filter(|selection| !selection.filter().is_everything()) {
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

/// Reads rows of an entity and sends them to `out`.
pub(crate) async fn read_rows(
    conn: &mut SqliteConn,
    entity: &Arc<Entity>,
    health: &Arc<Health>,
    query: &RowsQuery,
    out: &PartSender<RowImage>,
) -> DbResult<()> {
    let relies_on = match query.relies_on(entity) {
        Ok(relies_on) => relies_on,
        Err(entity) => {
            let _ = out.send(Part::Outdated(entity)).await;
            return Ok(());
        }
    };
    let guarded = entity.relation.is_some() && health.is_guarded(&entity.schema.entity);
    let statement = rows_statement(entity, query, &relies_on, guarded);
    let selection = query.shape.selection();
    let is_partial = selection.is_some_and(Selection::is_partial);
    let mut collector = RowsCollector::new(entity, &relies_on, health.clone());
    if guarded || is_partial {
        collector = collector.projecting(&query.shape);
    }
    let (entity, out) = (entity.clone(), out.clone());
    blocking(conn, "reading a table", move |conn| {
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
                    let line = match line.key_alone() {
                        Some(key) => RowLine::alone(key.to_owned(), read_one(conn, &entity, key)?),
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
    })
    .await
}

/// The commit id of a log entry, which on SQLite is its id.
pub(crate) fn commit_id(id: i64) -> CommitId {
    CommitId::LogId(id)
}
