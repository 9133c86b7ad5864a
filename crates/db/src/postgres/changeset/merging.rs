//! Merges records of another database.
//!
//! One transaction for a page: the rows are locked, so what is known of them stays true until they are written. Rows of
//! which nothing is known are inserted together; what remains goes the way of mutations, a few to a call. Where a constraint
//! forbids one, the others of its call are tried again without it.

use std::collections::BTreeMap;

use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};
use diesel::{QueryableByName, result::DatabaseErrorKind, result::Error};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection as _, AsyncPgConnection, RunQueryDsl,
    SimpleAsyncConnection as _, TransactionManager as _,
};
use protocol::{Op, Reject};
use sync_core::mutation::fields::Known;

use crate::changeset::{MergedRecord, forbidden};
use crate::error::{DbError, DbResult, Failed};
use crate::postgres::mutation::LOCK_PATIENCE;
use crate::postgres::pool::PostgresPool;
use crate::postgres::read::{PLANNER_SETTINGS, READ_COMMITTED, SESSION_SETTINGS};
use crate::postgres::store::{SEARCH_PATH, in_schema};
use crate::postgres::write::call::{self, Stored};
use crate::postgres::write::explain::{self, Fault, Kind};
use crate::postgres::write::fields;
use crate::postgres::write::statement::{insert_all, key_object, lock_all, object};
use crate::write::TableWrite;

const MERGING: &str = "merging records";

/// How often a page is tried when others write its rows meanwhile.
const ROUNDS_MAX: u32 = 10;

/// How many writes share a call, and with it a subtransaction.
const SHARED_WRITES_MAX: usize = 100;

/// Merges records in one transaction.
pub(crate) async fn merge_records(
    pool: &PostgresPool,
    writes: Vec<TableWrite>,
) -> DbResult<Vec<MergedRecord>> {
    let log_schema = pool.own_schema().await?;
    let mut round = 1;
    loop {
        let mut conn = pool.get_owned().await?;
        let merged = conn.transaction(async |conn| {
            let mut page = Page {
                conn,
                log_schema: &log_schema,
                merged: vec![Ok(false); writes.len()],
            };
            page.merge(&writes).await?;
            Ok(page.merged)
        });
        match merged
            .await
            .map_err(|failed: Failed| failed.while_doing(MERGING))
        {
            Err(error) if error.is_retryable() && round < ROUNDS_MAX => round += 1,
            merged => return merged,
        }
    }
}

#[derive(QueryableByName)]
struct OneText {
    #[diesel(sql_type = Nullable<Text>)]
    text: Option<String>,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    epoch: String,
    #[diesel(sql_type = Text)]
    commit_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    answers: Option<String>,
}

/// A page that is being merged.
struct Page<'a> {
    conn: &'a mut AsyncPgConnection,
    log_schema: &'a str,
    merged: Vec<MergedRecord>,
}

/// A write as it is carried out, with its place in the page.
type Planned = (usize, TableWrite);

impl Page<'_> {
    async fn merge(&mut self, writes: &[TableWrite]) -> Result<(), Failed> {
        let rows = self.known(writes).await?;
        let (mut fresh, mut others) = (Vec::new(), Vec::new());
        for (at, write) in writes.iter().enumerate() {
            let mut one = rows.clone_of(write);
            let is_nothing = |known: &Known| known.row.is_none() && known.metadata.is_none();
            let is_new = one.values().all(is_nothing);
            match fields::plan_all(std::slice::from_ref(write), &mut one) {
                Err(reject) => self.merged[at] = Err(reject),
                Ok((planned, _)) => {
                    for planned in planned {
                        let changes = planned.changes();
                        self.merged[at] = Ok(changes);
                        match (changes, is_new && planned.op == Op::Create) {
                            (true, true) => fresh.push((at, planned)),
                            (true, false) => others.push((at, planned)),
                            (false, _) => {}
                        }
                    }
                }
            }
        }
        if !fresh.is_empty() && !self.insert(&fresh).await? {
            others.append(&mut fresh);
            others.sort_by_key(|(at, _)| *at);
        }
        for chunk in others.chunks(SHARED_WRITES_MAX) {
            self.apply(chunk).await?;
        }
        Ok(())
    }

    /// Locks the rows that are there, and reads what is known of all.
    async fn known(&mut self, writes: &[TableWrite]) -> Result<Rows, Failed> {
        let Some(first) = writes.first() else {
            return Ok(Rows::default());
        };
        // Constraints are checked with each write, so that it is known which one violates them.
        self.conn
            .batch_execute(&format!(
                "{READ_COMMITTED}; {SESSION_SETTINGS}; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {}; \
                 SET CONSTRAINTS ALL IMMEDIATE; {PLANNER_SETTINGS}",
                LOCK_PATIENCE.as_millis()
            ))
            .await?;
        let path: OneText = sql_query(
            "SELECT pg_catalog.set_config('rhtmx_sync.merging', 'on', true), \
             pg_catalog.current_setting('search_path') AS text",
        )
        .get_result(self.conn)
        .await?;
        self.conn
            .batch_execute(&format!("SET LOCAL {SEARCH_PATH}"))
            .await?;
        let keys: Vec<String> = writes.iter().map(|write| key_object(write, None)).collect();
        sql_query(lock_all(first))
            .bind::<Text, _>(format!("[{}]", keys.join(",")))
            .execute(self.conn)
            .await?;
        let named = fields::named(writes.iter());
        let found: Vec<fields::NamedRow> = sql_query(fields::known_query(&named, self.log_schema))
            .load(self.conn)
            .await?;
        self.conn
            .batch_execute(
                "SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL enable_hashjoin TO DEFAULT; \
                 SET LOCAL enable_mergejoin TO DEFAULT",
            )
            .await?;
        sql_query("SELECT pg_catalog.set_config('search_path', $1, true)")
            .bind::<Text, _>(path.text.unwrap_or_default())
            .execute(self.conn)
            .await?;
        let rows = found.into_iter().map(fields::NamedRow::named);
        Ok(Rows(rows.collect()))
    }

    /// Inserts rows of which nothing is known. Returns false where that is not to be: then nothing is left of it.
    async fn insert(&mut self, fresh: &[Planned]) -> Result<bool, Failed> {
        let log_schema = self.log_schema;
        let inserted = self
            .conn
            .transaction(async |conn| {
                for rows in fresh.chunk_by(|(_, one), (_, two)| same_columns(one, two)) {
                    let Some((_, first)) = rows.first() else {
                        continue;
                    };
                    let values = rows
                        .iter()
                        .map(|(_, write)| object(&write.schema, &write.values));
                    let values: Vec<String> = values.collect();
                    sql_query(insert_all(first))
                        .bind::<Text, _>(format!("[{}]", values.join(",")))
                        .execute(conn)
                        .await?;
                }
                let entries: Vec<String> =
                    fresh.iter().filter_map(|(_, one)| entry_of(one)).collect();
                if !entries.is_empty() {
                    sql_query(insert_entries(log_schema))
                        .bind::<Text, _>(format!("[{}]", entries.join(",")))
                        .execute(conn)
                        .await?;
                }
                Ok(())
            })
            .await;
        match inserted {
            Ok(()) => Ok(true),
            Err(Failed::Diesel(Error::DatabaseError(kind, info))) => {
                let is_gone = matches!(
                    kind,
                    DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand
                );
                if is_gone {
                    return Err(Failed::Diesel(Error::DatabaseError(kind, info)));
                }
                tracing::debug!(message = info.message(), "rows are inserted one by one");
                Ok(false)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Carries out writes of which each does something. Those that a constraint forbids are left out.
    async fn apply(&mut self, writes: &[Planned]) -> Result<(), Failed> {
        let mut waiting = vec![writes];
        while let Some(writes) = waiting.pop() {
            let together: Vec<TableWrite> = writes.iter().map(|(_, write)| write.clone()).collect();
            let fault = match self.call(&together).await? {
                Stored::Now => continue,
                Stored::Failed(fault) => fault,
                Stored::Before(_) | Stored::OtherUser => {
                    return Err(DbError::Statement {
                        context: MERGING,
                        message: "the answer is none to records".to_owned(),
                    }
                    .into());
                }
            };
            if !matches!(fault.kind(), Kind::Data | Kind::Table) {
                return Err(fault.error(&together).into());
            }
            let at = match (writes, fault.write_index()) {
                ([one], _) => {
                    let reject = self.explain(&together, &fault).await?;
                    self.merged[one.0] = Err(Reject {
                        write: None,
                        ..reject
                    });
                    continue;
                }
                (_, Some(at)) if at < writes.len() => at,
                _ => writes.len() / 2,
            };
            let (before, rest) = writes.split_at(at);
            let (one, after) = rest.split_at(1);
            waiting.extend(
                [after, one, before]
                    .into_iter()
                    .filter(|part| !part.is_empty()),
            );
        }
        Ok(())
    }

    async fn call(&mut self, writes: &[TableWrite]) -> Result<Stored, Failed> {
        let sql = call::query_of_open(writes, None, self.log_schema, LOCK_PATIENCE);
        let answer: Answer = sql_query(sql).get_result(self.conn).await?;
        let returned = call::read(Some((
            Some(&answer.epoch),
            Some(&answer.commit_id),
            answer.answers.as_deref(),
        )))?;
        let stored = returned.stored.into_iter().next();
        stored.ok_or_else(|| {
            let message = "there is no answer".to_owned();
            DbError::Statement {
                context: MERGING,
                message,
            }
            .into()
        })
    }

    /// Why a write failed, looked for in a savepoint, of which nothing stays.
    async fn explain(&mut self, writes: &[TableWrite], fault: &Fault) -> Result<Reject, Failed> {
        AnsiTransactionManager::begin_transaction(self.conn).await?;
        let asked = fields::as_asked(writes);
        let explained = explain::explain(self.conn, self.log_schema, &asked, fault).await;
        AnsiTransactionManager::rollback_transaction(self.conn).await?;
        Ok(explained?.unwrap_or_else(forbidden))
    }
}

/// What is known of the rows of a page.
#[derive(Default)]
struct Rows(fields::Rows);

impl Rows {
    /// What is known of one write's row.
    fn clone_of(&self, write: &TableWrite) -> fields::Rows {
        let name = (
            write.entity.clone(),
            write.canonical_key().unwrap_or_default(),
        );
        let known = self.0.get(&name).cloned().unwrap_or_default();
        BTreeMap::from([(name, known)])
    }
}

fn same_columns(one: &TableWrite, two: &TableWrite) -> bool {
    let columns = |write: &TableWrite| -> Vec<usize> {
        write.values.iter().map(|(index, _)| *index).collect()
    };
    columns(one) == columns(two)
}

/// The entry of a new row, as JSON.
fn entry_of(write: &TableWrite) -> Option<String> {
    let entry = write.beside.as_ref()?.entry.as_ref()?;
    let text = |value: &str| serde_json::Value::from(value).to_string();
    Some(format!(
        r#"{{"e":{},"i":{},"w":{},"m":{}}}"#,
        text(&write.entity),
        text(&write.canonical_key().unwrap_or_default()),
        text(entry.newest.as_str()),
        entry.metadata,
    ))
}

fn insert_entries(log_schema: &str) -> String {
    format!(
        "INSERT INTO {} (entity, entity_id, newest, metadata) SELECT n.e, n.i, n.w, n.m \
         FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) \
         AS n(e pg_catalog.text, i pg_catalog.text, w pg_catalog.text, m pg_catalog.jsonb)",
        in_schema("_rhtmx_sync_field", log_schema)
    )
}
