//! Copies rows of which nothing is known beside their values into an empty table of another PostgreSQL, as `COPY` writes
//! and reads them. Most first copies are of such rows alone, and this costs a fraction of merging them.
//!
//! Whether another one has a row of this key meanwhile, or had it, is looked at in each transaction; then the copy ends
//! before that transaction, and its rows are merged as all others are.

use std::pin::{Pin, pin};

use futures_util::{SinkExt as _, StreamExt as _};
use sync_core::cursor::Position;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, CopyOutStream};
use tokio_util::bytes::BytesMut;
use tracing::debug;

use super::{Unedited, start_sql};
use crate::changeset::CopiedRows;
use crate::entity::{Entity, RowsSql};
use crate::error::DbResult;
use crate::postgres::connect::{Driven, failed};
use crate::postgres::mutation::LOCK_PATIENCE;
use crate::postgres::one_snapshot::{ONE_SNAPSHOT, lock_all};
use crate::postgres::pool::PostgresPool;
use crate::postgres::read::{READ_COMMITTED, READ_TIMEOUTS, SESSION_SETTINGS};
use crate::postgres::store::{SEARCH_PATH, in_schema};
use crate::quote::ident;
use crate::read;

const COPYING: &str = "copying a table";

/// How many rows one transaction copies at most, and how many bytes about. Its readers get all of it in one piece.
const ROWS_TOGETHER_MAX: u64 = 50_000;
const BYTES_TOGETHER_MAX: usize = 16 * 1024 * 1024;
/// How many bytes are sent together.
const BYTES_SENT_TOGETHER: usize = 64 * 1024;

/// Copies the rows of the source that were never edited as fields, if the target is empty.
///
/// # Errors
/// When the source fails, or a connection ends. What has been copied stays.
pub(crate) async fn copy_unedited(
    (from, source): (&PostgresPool, &Entity),
    (to, target): (&PostgresPool, &Entity),
) -> DbResult<CopiedRows> {
    let mut copied = CopiedRows::default();
    // A statement that copies has a name, which a pooler may keep for somebody else.
    if !(from.keeps_sessions() && to.keeps_sessions()) {
        return Ok(copied);
    }
    let (Some(columns), Some(relation)) = (columns(source), target.relation.as_deref()) else {
        return Ok(copied);
    };
    let to_schema = to.own_schema().await?;
    let writer = Writer {
        session: to.connector.connect_driven().await?,
        copy_in: format!("COPY {relation} ({columns}) FROM STDIN"),
        is_known: in_schema(
            "SELECT EXISTS (SELECT FROM _rhtmx_sync_field WHERE entity = $1)",
            &to_schema,
        ),
        entity: target.schema.entity.clone(),
    };
    if !writer.is_empty(relation).await? {
        return Ok(copied);
    }
    let from_schema = from.own_schema().await?;
    let reader = from.connector.connect_driven().await?;
    let Some(position) = begin(&reader.client, source, &from_schema).await? else {
        return Ok(copied);
    };
    let Some(unedited) = Unedited::of(source, &from_schema) else {
        return Ok(copied);
    };
    let copy_out = format!("COPY (SELECT {columns} FROM {unedited}) TO STDOUT");
    let rows = reader.client.copy_out(&copy_out).await;
    let mut rows = pin!(rows.map_err(|error| failed(COPYING, &error))?);
    loop {
        match writer.copy(rows.as_mut()).await? {
            Copied::All(count) => {
                copied.rows += count;
                copied.position = Some(position);
                return Ok(copied);
            }
            Copied::Some(count) => copied.rows += count,
            Copied::Nothing => return Ok(copied),
        }
    }
}

/// The columns that are written; none where the database itself computes a part of the key.
fn columns(entity: &Entity) -> Option<String> {
    let schema = &entity.schema;
    if !matches!(entity.rows, RowsSql::Table { .. })
        || schema.key_columns().any(|column| column.generated)
    {
        return None;
    }
    let written = schema.columns.iter().filter(|column| !column.generated);
    let names: Vec<String> = written.map(|column| ident(&column.name)).collect();
    Some(names.join(", "))
}

/// Begins the transaction that reads. Returns its position; none where the table is another one now.
async fn begin(client: &Client, entity: &Entity, log_schema: &str) -> DbResult<Option<Position>> {
    let begin = format!(
        "BEGIN {ONE_SNAPSHOT}; {SESSION_SETTINGS}; {READ_TIMEOUTS}; SET LOCAL {SEARCH_PATH}; {}",
        lock_all(std::iter::once(entity))
    );
    let context = |error| failed(COPYING, &error);
    client.batch_execute(&begin).await.map_err(context)?;
    let start = start_sql(entity, log_schema);
    let start = client.query_typed_one(&start, &[]).await.map_err(context)?;
    let text = |column| start.try_get::<_, Option<String>>(column).map_err(context);
    if text("fingerprint")?.as_deref() != Some(&entity.fingerprint) {
        return Ok(None);
    }
    let position = text("position")?.unwrap_or_default();
    Ok(Some(read::position(&position)?))
}

/// What one transaction has copied.
enum Copied {
    /// What was left.
    All(u64),
    /// As much as one takes.
    Some(u64),
    /// Nothing, because the database has something of the entity already, or forbids a row.
    Nothing,
}

struct Writer {
    session: Driven,
    copy_in: String,
    is_known: String,
    entity: String,
}

impl Writer {
    async fn is_empty(&self, relation: &str) -> DbResult<bool> {
        let client = &self.session.client;
        let sql = format!("SELECT EXISTS (SELECT FROM {relation})");
        let row = client.query_typed_one(&sql, &[]).await;
        let has_rows = row.and_then(|row| row.try_get::<_, bool>(0));
        let has_rows = has_rows.map_err(|error| failed(COPYING, &error))?;
        Ok(!has_rows && !self.is_known().await?)
    }

    /// Whether something is known of some row beside its values.
    async fn is_known(&self) -> DbResult<bool> {
        let client = &self.session.client;
        let of_entity = [(&self.entity as _, Type::TEXT)];
        let known = client.query_typed_one(&self.is_known, &of_entity).await;
        let known = known.and_then(|row| row.try_get(0));
        known.map_err(|error| failed(COPYING, &error))
    }

    /// Copies some of the rows in one transaction.
    async fn copy(&self, rows: Pin<&mut CopyOutStream>) -> DbResult<Copied> {
        let client = &self.session.client;
        let begin = format!(
            "BEGIN; {READ_COMMITTED}; {SESSION_SETTINGS}; SET LOCAL statement_timeout = 0; \
             SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = {}; \
             SET LOCAL rhtmx_sync.merging = 'on'",
            LOCK_PATIENCE.as_millis()
        );
        let begun = client.batch_execute(&begin).await;
        begun.map_err(|error| failed(COPYING, &error))?;
        let (sent, is_end) = match self.send(rows).await {
            Ok(sent) => sent,
            Err(Failure::Source(error)) => return Err(failed(COPYING, &error)),
            Err(Failure::Target(error)) if client.is_closed() => {
                return Err(failed(COPYING, &error));
            }
            Err(Failure::Target(error)) => {
                // The message may contain values.
                let code = error.code().map(tokio_postgres::error::SqlState::code);
                debug!(code, entity = self.entity, "rows are merged, not copied");
                self.end("ROLLBACK").await?;
                return Ok(Copied::Nothing);
            }
        };
        // One that is gone again leaves only this.
        if self.is_known().await? {
            self.end("ROLLBACK").await?;
            return Ok(Copied::Nothing);
        }
        self.end("COMMIT").await?;
        Ok(match is_end {
            true => Copied::All(sent),
            false => Copied::Some(sent),
        })
    }

    async fn end(&self, end: &str) -> DbResult<()> {
        let ended = self.session.client.batch_execute(end).await;
        ended.map_err(|error| failed(COPYING, &error))
    }

    /// Sends rows until there are no more, or enough. Returns how many, and whether there are no more.
    async fn send(&self, mut rows: Pin<&mut CopyOutStream>) -> Result<(u64, bool), Failure> {
        let sink = self.session.client.copy_in(&self.copy_in).await;
        let mut sink = pin!(sink.map_err(Failure::Target)?);
        let (mut sent, mut bytes, mut is_end) = (0, 0, false);
        let mut waiting = BytesMut::new();
        // PostgreSQL sends each row in a message of its own.
        while sent < ROWS_TOGETHER_MAX && bytes < BYTES_TOGETHER_MAX {
            let Some(row) = rows.next().await else {
                is_end = true;
                break;
            };
            let row = row.map_err(Failure::Source)?;
            sent += 1;
            bytes += row.len();
            waiting.extend_from_slice(&row);
            if waiting.len() >= BYTES_SENT_TOGETHER {
                let together = waiting.split().freeze();
                sink.send(together).await.map_err(Failure::Target)?;
            }
        }
        let last = waiting.freeze();
        sink.send(last).await.map_err(Failure::Target)?;
        let copied = sink.finish().await.map_err(Failure::Target)?;
        Ok((copied, is_end))
    }
}

/// Whose fault it was.
enum Failure {
    Source(tokio_postgres::Error),
    Target(tokio_postgres::Error),
}
