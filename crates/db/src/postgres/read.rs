//! Reads of the log and of tables on pooled connections: first reads, resumes and catch-ups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use diesel::QueryableByName;
use diesel::deserialize;
use diesel::pg::Pg;
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use filter::AskedSource as _;
use futures_util::StreamExt as _;
use protocol::RowImage;
use rls::Answers;
use sync_core::cursor::CommitId;
use sync_core::membership::{AskedGroup, GroupAnswer};
use sync_core::shape::Selection;
use sync_core::snapshot::Snapshot;
use tracing::debug;

use super::cancel::Progress;
use super::dialect::{bound, dialect};
use super::filter::Predicates;
use super::one_snapshot::{ONE_SNAPSHOT, lock_all, question_settings, take_over};
use super::projection;
use super::rls::group::{self, Asked, denied};
use super::store::{SEARCH_PATH, in_schema};
use crate::entity::{Entity, RowsSql};
use crate::error::{DbError, DbResult, Failed};
use crate::health::{Health, Unreadable};
use crate::quote::{array, literal};
use crate::read::collect::{ChangeRow, RowLine, RowsCollector};
use crate::read::inquiry::TIME_OF_GROUP;
use crate::read::sql::{self, Reading};
use crate::read::{
    self, Exported, Fingerprints, OldValueColumns, Part, PartSender, RowsPage, RowsQuery,
};
use crate::sets;
use crate::sets::groups_of;

/// The settings on which the generated SQL relies. They are `LOCAL`, because behind a transaction pooler
/// other clients share the database session.
pub(crate) const SESSION_SETTINGS: &str = "\
SET LOCAL \"TimeZone\" = 'UTC'; SET LOCAL datestyle = 'ISO, MDY'; SET LOCAL intervalstyle = 'postgres'; \
SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL standard_conforming_strings = on; \
SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// A read runs at the database's pace for as long as it makes progress, so it has no time-out as a whole. It does not
/// wait long for a table that somebody has locked, because others wait for its turn. While its receiver is slow, its
/// transaction may be idle.
pub(super) const READ_TIMEOUTS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '1s'; \
SET LOCAL idle_in_transaction_session_timeout = 0";

/// One statement needs no more than its own snapshot. Where transactions are serializable by default, a read
/// would take part in the checks for conflicts, and make writers fail.
pub(super) const READ_COMMITTED: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Keeps the planner from scanning tables, because its statistics lag behind a log that grows by thousands
/// of entries per second.
pub(crate) const PLANNER_SETTINGS: &str = "\
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// The statement that reads changes of these entities. The rows of some are left out: those that are missing,
/// and those named.
pub(crate) fn changes_sql(
    log_schema: &str,
    entities: &BTreeMap<String, Arc<Entity>>,
    left_out: &BTreeSet<String>,
    health: &Health,
    (undo, metadata, checked): (bool, &BTreeSet<String>, &Fingerprints),
) -> String {
    let unread: BTreeSet<&String> = read::missing(entities).chain(left_out).collect();
    let mut dialect = dialect(log_schema);
    if !unread.is_empty() {
        let names: Vec<String> = unread.iter().map(|name| literal(name)).collect();
        dialect = dialect.leaving_out(&format!("entity IN ({})", names.join(", ")));
    }
    let rows = entities.iter().filter(|(name, _)| !unread.contains(name));
    let reading = Reading {
        rows: rows
            .map(|(name, entity)| (name.clone(), row(log_schema, entity, health)))
            .collect(),
        undo,
        metadata: sql::with_metadata(metadata, entities),
        checked: checked.keys().cloned().collect(),
    };
    sql::changes_sql(&dialect, &reading)
}

/// The expression for an entity's row by the key `ranked.entity_id`.
fn row(log_schema: &str, entity: &Entity, health: &Health) -> String {
    if entity.row_of_key.is_empty() || !health.is_guarded(&entity.schema.entity) {
        return entity.row_by_key.clone();
    }
    guarded_row(log_schema, entity, "ranked.entity_id")
}

/// The expression for the row with this key, or what stands for it when reading it fails.
pub(crate) fn guarded_row(log_schema: &str, entity: &Entity, key: &str) -> String {
    let read = in_schema("_rhtmx_sync_read", log_schema);
    format!("{read}({}, {key})", literal(&entity.row_of_key))
}

/// After a read has failed: reads the rows of these entities one by one from now on, if that may help.
pub(crate) fn guard_after(
    error: &DbError,
    entities: &BTreeMap<String, Arc<Entity>>,
    health: &Health,
) {
    let DbError::Statement { message, .. } = error else {
        return;
    };
    let concerns_the_table =
        Unreadable::of_message(message) == Unreadable::Denied || message.contains("does not exist");
    if concerns_the_table {
        return;
    }
    for (name, entity) in entities {
        if !entity.row_of_key.is_empty() {
            health.guard(name);
        }
    }
}

impl QueryableByName<Pg> for ChangeRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        Self::read(
            |_, name| NamedRow::get::<Nullable<Text>, _>(row, name),
            |_, name| NamedRow::get::<Nullable<BigInt>, _>(row, name),
        )
    }
}

impl QueryableByName<Pg> for RowLine {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        Self::read(|name| NamedRow::get::<Nullable<Text>, _>(row, name))
    }
}

/// The parameters of [`DIALECT`], in order; the last only if there are old-value columns.
pub(crate) fn parameters(
    from: &Snapshot,
    entities: &BTreeMap<String, Arc<Entity>>,
    old_value_columns: &OldValueColumns,
) -> Vec<String> {
    let running: Vec<String> = from.running().iter().map(u64::to_string).collect();
    let mut parameters = vec![
        from.xmax().to_string(),
        format!("{{{}}}", running.join(",")),
        array(entities.keys()),
    ];
    if !old_value_columns.is_empty() {
        parameters.push(serde_json::to_string(old_value_columns).expect("names are JSON"));
    }
    parameters
}

/// The statement that reads some rows of an entity, and its parameters.
fn rows_sql(
    entity: &Entity,
    query: &RowsQuery,
    asked: &Asked,
    relies_on: &[Arc<Entity>],
    log_schema: &str,
    guarded: bool,
) -> (String, Vec<String>) {
    let selection = query.shape.selection();
    let object_of =
        |columns: Vec<String>| projection::row_of(&entity.schema.columns, &columns.join(", "));
    let dialect = dialect(log_schema);
    let mut rows = match &entity.rows {
        RowsSql::Table { key, from, .. } if guarded => {
            let row = guarded_row(log_schema, entity, key);
            let asked = query.shape.has_metadata();
            let metadata = sql::metadata_of_rows(&dialect, entity, key, asked);
            format!("SELECT {key} AS key, {row} AS row, {metadata} AS metadata FROM {from}")
        }
        _ => sql::rows_before_where(&dialect, entity, selection, object_of),
    };
    let mut parameters = Vec::new();
    if let Some(first) = selection.and_then(Selection::window) {
        // Not by their keys: so an index on the order serves.
        let predicates = Predicates::new(entity, &query.others).with_asked(asked);
        let predicate = predicates.write(&sets::condition(first));
        let window = first.window.iter();
        let end = window.map(|window| sets::first_rows(entity, window, window.limit()));
        rows = format!("{rows} WHERE {}{}", predicate.sql, end.collect::<String>());
        parameters = predicate.params;
    } else if let Some(selection) =
        selection.filter(|selection| !selection.filter().is_everything())
    {
        let predicates = Predicates::new(entity, &query.others).with_asked(asked);
        let predicate = predicates.write(selection.filter().condition());
        rows = format!("{rows} WHERE {}", predicate.sql);
        parameters = predicate.params;
    }
    if let Some(RowsPage { after_key, limit }) = &query.page {
        let mut beyond = String::new();
        if let Some(key) = after_key {
            parameters.push(key.clone());
            beyond = format!("WHERE key > ${}::text COLLATE \"C\"", parameters.len());
        }
        let keyed =
            format!("SELECT key COLLATE \"C\" AS key, row, metadata FROM ({rows}) unordered");
        rows = format!(
            "SELECT key, row, metadata FROM ({keyed}) keyed {beyond} ORDER BY key LIMIT {limit}"
        );
    }
    let (before, after) = sql::around_rows(&dialect, relies_on);
    (format!("{before}{rows}{after}"), parameters)
}

/// Reads rows of an entity and sends them to `out`: at the snapshot that a drain has exported, or, when that cannot be
/// taken over, at one of its own.
pub(crate) async fn read_rows(
    conn: &mut AsyncPgConnection,
    (log_schema, entity, health): (&str, &Arc<Entity>, &Arc<Health>),
    query: &RowsQuery,
    mut exported: Option<Exported>,
    out: &PartSender<RowImage>,
    progress: &Progress,
) -> DbResult<()> {
    let relies_on = match query.relies_on(entity) {
        Ok(relies_on) => relies_on,
        Err(entity) => {
            let _ = progress.send(out, Part::Outdated(entity)).await;
            return Ok(());
        }
    };
    let selection = query.shape.selection();
    let rows = Rows {
        log_schema,
        entity,
        health,
        query,
        groups: selection.map_or_else(Vec::new, |found| groups_of(found.filter())),
        relies_on,
    };
    loop {
        let at_drain = exported.take();
        let is_at_drain = at_drain.is_some();
        let mut has_begun = false;
        let read = conn.transaction(async |conn| {
            rows.begin(conn, at_drain).await?;
            has_begun = true;
            rows.read(conn, out, progress).await
        });
        match read.await {
            Err(_) if is_at_drain && !has_begun => {
                debug!("the snapshot of a drain could not be taken over");
            }
            read => {
                return read.map_err(|failed: Failed| failed.while_doing("reading a table"));
            }
        }
    }
}

/// Reads rows of an entity within a transaction that somebody has begun, and sends them to `out`. What it sets stays set:
/// it belongs into a savepoint.
pub(crate) async fn read_rows_within(
    conn: &mut AsyncPgConnection,
    (log_schema, entity, health): (&str, &Arc<Entity>, &Arc<Health>),
    query: &RowsQuery,
    out: PartSender<RowImage>,
) -> DbResult<()> {
    let progress = Progress::default();
    let relies_on = match query.relies_on(entity) {
        Ok(relies_on) => relies_on,
        Err(entity) => {
            let _ = progress.send(&out, Part::Outdated(entity)).await;
            return Ok(());
        }
    };
    let rows = Rows {
        log_schema,
        entity,
        health,
        query,
        groups: Vec::new(),
        relies_on,
    };
    let read = async {
        conn.batch_execute(&format!("{SESSION_SETTINGS}; SET LOCAL {SEARCH_PATH}"))
            .await?;
        rows.read(conn, &out, &progress).await
    };
    read.await
        .map_err(|failed: Failed| failed.while_doing("reading a table"))
}

/// A read of rows.
struct Rows<'a> {
    log_schema: &'a str,
    entity: &'a Arc<Entity>,
    health: &'a Arc<Health>,
    query: &'a RowsQuery,
    /// Those that the database is asked for.
    groups: Vec<Arc<AskedGroup>>,
    relies_on: Vec<Arc<Entity>>,
}

impl Rows<'_> {
    fn settings() -> String {
        format!("{SESSION_SETTINGS}; {READ_TIMEOUTS}; SET LOCAL {SEARCH_PATH}")
    }

    /// Begins the transaction: its settings, and where it is more than one statement the locks of its tables.
    async fn begin(
        &self,
        conn: &mut AsyncPgConnection,
        at_drain: Option<Exported>,
    ) -> Result<(), Failed> {
        let settings = Self::settings();
        let lock = lock_all(self.relies_on.iter().map(|entity| &**entity));
        if let Some(exported) = at_drain {
            return take_over(conn, exported, &settings, &lock).await;
        }
        let begin = match self.groups.is_empty() {
            true => format!("{READ_COMMITTED}; {settings}"),
            false => format!("SET TRANSACTION {ONE_SNAPSHOT}; {settings}; {lock}"),
        };
        Ok(conn.batch_execute(&begin).await?)
    }

    /// Reads, in the transaction that has begun.
    async fn read(
        &self,
        conn: &mut AsyncPgConnection,
        out: &PartSender<RowImage>,
        progress: &Progress,
    ) -> Result<(), Failed> {
        let (entity, query) = (self.entity, self.query);
        let mut asked = Asked::default();
        for group in &self.groups {
            let is_denied = query.denied.contains(group.name());
            let answer = match is_denied {
                true => denied(group, "it was not answered before"),
                false => ask_group(conn, self.log_schema, &query.others, group, false).await?,
            };
            if answer.answers == Answers::Denied && !is_denied {
                let text = "the database could not say what a role sees";
                return Err(DbError::Unreachable(text.to_owned()).into());
            }
            asked.insert(group.clone(), answer);
        }
        if !self.groups.is_empty() {
            conn.batch_execute(&Self::settings()).await?;
        }
        let guarded = self.health.is_guarded(&entity.schema.entity);
        let (relies_on, schema) = (&*self.relies_on, self.log_schema);
        let (sql, parameters) = rows_sql(entity, query, &asked, relies_on, schema, guarded);
        let mut lines = bound(&sql, &parameters)
            .load_stream::<RowLine>(conn)
            .await?;
        let selection = query.shape.selection();
        let is_partial = selection.is_some_and(Selection::is_partial);
        let mut collector =
            RowsCollector::new((entity, &query.shape), &self.relies_on, self.health.clone());
        if guarded || is_partial {
            collector = collector.projecting();
        }
        while let Some(line) = lines.next().await {
            progress.line();
            if let Some(part) = collector.take(line?)?
                && progress.send(out, part).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(part) = collector.finish() {
            let _ = progress.send(out, part).await;
        }
        Ok(())
    }
}

/// Asks a group in the open transaction, and for the values of guards if that is wanted.
pub(super) async fn ask_group(
    conn: &mut AsyncPgConnection,
    log_schema: &str,
    entities: &BTreeMap<String, Arc<Entity>>,
    group: &AskedGroup,
    with_guards: bool,
) -> Result<GroupAnswer, Failed> {
    #[derive(QueryableByName)]
    struct Reply {
        #[diesel(sql_type = Text)]
        reply: String,
    }
    let plan = group.plan();
    let entity = entities.get(plan.entity());
    let fits = |entity: &&Arc<Entity>| *entity.fingerprint == *plan.fingerprint;
    let Some(entity) = entity.filter(fits) else {
        return Ok(denied(group, "its table has changed"));
    };
    let (sql, parameters) = group::statement(log_schema, entity, group, with_guards);
    let sql = format!("SELECT ({sql}) AS reply");
    let reply: Result<Reply, Failed> = conn
        .transaction(async |conn| {
            conn.batch_execute(&question_settings(TIME_OF_GROUP))
                .await?;
            Ok(bound(&sql, &parameters).get_result(conn).await?)
        })
        .await;
    match reply {
        Ok(reply) => Ok(group::answer(group, &reply.reply, with_guards)),
        Err(failed) => match failed.while_doing("asking policies") {
            error @ (DbError::Unreachable(_) | DbError::Refused(_)) => Err(error.into()),
            _ => Ok(denied(group, "it cannot be asked")),
        },
    }
}

/// The commit id of a log entry, which on PostgreSQL is its transaction.
pub(crate) fn commit_id(xid: i64) -> CommitId {
    CommitId::Xid(u64::try_from(xid).unwrap_or_default())
}

/// Which of these rows can be read now, or are gone.
pub(crate) async fn readable_rows(
    conn: &mut AsyncPgConnection,
    log_schema: &str,
    entity: &Entity,
    keys: &[String],
) -> DbResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Key {
        #[diesel(sql_type = Text)]
        key: String,
    }
    let row = guarded_row(log_schema, entity, "k.key");
    let sql = format!(
        "SELECT k.key AS key FROM unnest($1::text::text[]) k(key) WHERE coalesce(left({row}, 1), '') <> '!'"
    );
    let parameters = [array(keys.iter())];
    let read: Result<Vec<Key>, Failed> = conn
        .transaction(async |conn| {
            conn.batch_execute(&format!(
                "{READ_COMMITTED}; {SESSION_SETTINGS}; SET LOCAL {SEARCH_PATH}"
            ))
            .await?;
            Ok(bound(&sql, &parameters).load(conn).await?)
        })
        .await;
    let rows = read.map_err(|failed| failed.while_doing("trying rows again"))?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}
