//! Records of rows that merge by their fields, for other databases and from them.

mod copying;
mod digest;
mod merging;

use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use futures_util::StreamExt as _;
use sync_core::cursor::{Position, refuse};
use sync_core::mutation::fields::Known;

pub(crate) use copying::copy_unedited;
pub(crate) use digest::quick_digest;
pub(crate) use merging::merge_records;

use super::cancel::{self, CancelGuard, Progress};
use super::dialect::{bound, dialect};
use super::one_snapshot::{ONE_SNAPSHOT, lock_all};
use super::pool::PostgresPool;
use super::read::{READ_TIMEOUTS, SESSION_SETTINGS};
use super::store::{SEARCH_PATH, in_schema};
use crate::changeset::{Chunk, Extent, Line, Parked, RecordStream, Start, StoredPeers, parked_of};
use crate::entity::{Entity, RowsSql};
use crate::error::{DbError, DbResult, Failed};
use crate::quote::literal;
use crate::read::{self, Part, PartSender, ReadStart, ReadStream};
use crate::tables::{
    _rhtmx_sync_horizon as horizon, _rhtmx_sync_meta as meta, _rhtmx_sync_parked as parked_table,
    _rhtmx_sync_peer as peer,
};

const READING: &str = "reading records";
const KEEPING: &str = "keeping what is known of other databases";

/// The name under which the database stamps.
pub(crate) async fn node(conn: &mut AsyncPgConnection) -> DbResult<String> {
    #[derive(QueryableByName)]
    struct Node {
        #[diesel(sql_type = Text)]
        node: String,
    }
    let found = conn.transaction(async |conn| {
        let node: Node = sql_query("SELECT node FROM _rhtmx_sync_meta")
            .get_result(conn)
            .await?;
        Ok(node.node)
    });
    found
        .await
        .map_err(|failed: Failed| failed.while_doing(READING))
}

/// Starts a read of records.
pub(crate) fn read_records(
    pool: &PostgresPool,
    entity: Arc<Entity>,
    extent: Extent,
) -> RecordStream {
    let pool = pool.clone();
    ReadStream::begin(|out| async move {
        let log_schema = pool.own_schema().await?;
        let mut conn = pool.get_owned().await?;
        let guard = CancelGuard::new(&conn, pool.connector.clone());
        let progress = Progress::default();
        let read = read_all(&mut conn, (&log_schema, &entity), &extent, &out, &progress);
        let timeout = pool.statement_timeout();
        cancel::run(guard, timeout, READING, &out, &progress, read).await
    })
}

async fn read_all(
    conn: &mut AsyncPgConnection,
    (log_schema, entity): (&str, &Entity),
    extent: &Extent,
    out: &PartSender<(String, Known)>,
    progress: &Progress,
) -> DbResult<()> {
    let name = &entity.schema.entity;
    let read = conn.transaction(async |conn| {
        conn.batch_execute(&format!(
            "SET TRANSACTION {ONE_SNAPSHOT}; {SESSION_SETTINGS}; {READ_TIMEOUTS}; SET LOCAL {SEARCH_PATH}; {}",
            lock_all(std::iter::once(entity))
        ))
        .await?;
        let start: Start = sql_query(start_sql(entity, log_schema)).get_result(conn).await?;
        if start.fingerprint.as_deref() != Some(&entity.fingerprint) {
            let _ = progress.send(out, Part::Outdated(name.clone())).await;
            return Ok(());
        }
        let (position, floor) = (read::position(&start.position)?, read::position(&start.floor)?);
        let since = match extent {
            Extent::Since(since) => Some(since),
            Extent::All | Extent::Edited | Extent::Gone => None,
        };
        if let Some(reason) = since.and_then(|since| refuse(since, &position, &floor)) {
            let _ = progress.send(out, Part::Refused(reason)).await;
            return Ok(());
        }
        let (sql, parameters) = match since {
            None if matches!(extent, Extent::Gone) => (gone(entity, log_schema), Vec::new()),
            None if matches!(extent, Extent::Edited) => (edited(entity, log_schema), Vec::new()),
            None => (all(entity, log_schema), Vec::new()),
            Some(Position::Snapshot(since)) => {
                let running: Vec<String> = since.running().iter().map(u64::to_string).collect();
                let seen = vec![
                    since.xmax().to_string(),
                    format!("{{{}}}", running.join(",")),
                    format!("{{{}}}", array_item(name)),
                ];
                (changed(entity, log_schema), seen)
            }
            Some(Position::Log(_)) => {
                let text = "a cursor of SQLite cannot be used with PostgreSQL";
                return Err(DbError::Unsupported(text.to_owned()).into());
            }
        };
        let begun = Part::Start(ReadStart { position, floor });
        if progress.send(out, begun).await.is_err() {
            return Ok(());
        }
        let mut lines = bound(&sql, &parameters).load_stream::<Line>(conn).await?;
        let mut chunk = Chunk::default();
        while let Some(line) = lines.next().await {
            progress.line();
            let line = line?;
            if let Some(part) = chunk.take(name, line)
                && progress.send(out, part).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(part) = chunk.finish() {
            let _ = progress.send(out, part).await;
        }
        Ok(())
    });
    read.await
        .map_err(|failed: Failed| failed.while_doing(READING))
}

/// Where a read begins, with the fingerprint of the table for which the capture was made.
fn start_sql(entity: &Entity, log_schema: &str) -> String {
    format!(
        "SELECT s.*, (SELECT fingerprint FROM {} WHERE entity = {}) AS fingerprint FROM ({}) s",
        in_schema("_rhtmx_sync_entity", log_schema),
        literal(&entity.schema.entity),
        dialect(log_schema).start
    )
}

/// The rows of which nothing is known beside their values.
struct Unedited<'a> {
    /// The expression for the whole row's JSON.
    row: &'a str,
    key: &'a str,
    /// The table under the alias `t`.
    from: &'a str,
    fields: String,
    entity: String,
}

impl<'a> Unedited<'a> {
    /// Those of an entity with a table.
    fn of(entity: &'a Entity, log_schema: &str) -> Option<Self> {
        let RowsSql::Table { key, row, from, .. } = &entity.rows else {
            return None;
        };
        Some(Self {
            row,
            key,
            from,
            fields: in_schema("_rhtmx_sync_field", log_schema),
            entity: literal(&entity.schema.entity),
        })
    }
}

/// What comes after `FROM`.
impl std::fmt::Display for Unedited<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            key,
            from,
            fields,
            entity,
            ..
        } = self;
        // Where nothing is known of any row, no key is computed.
        write!(
            f,
            "{from} WHERE NOT EXISTS (SELECT FROM {fields} f WHERE f.entity = {entity}) OR NOT EXISTS \
             (SELECT FROM {fields} f WHERE f.entity = {entity} AND f.entity_id = ({key}) COLLATE \"C\")"
        )
    }
}

/// An item of an array's text.
fn array_item(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// All rows, and the entries of those that are gone.
fn all(entity: &Entity, log_schema: &str) -> String {
    let RowsSql::Table { key, row, from, .. } = &entity.rows else {
        return String::new();
    };
    let (fields, name) = (
        in_schema("_rhtmx_sync_field", log_schema),
        literal(&entity.schema.entity),
    );
    format!(
        "SELECT {key} AS key, {row} AS found, f.metadata::text AS metadata, f.image::text AS image, f.newest FROM {from} \
         LEFT JOIN {fields} f ON f.entity = {name} AND f.entity_id = ({key}) COLLATE \"C\" UNION ALL {}",
        gone(entity, log_schema)
    )
}

/// The entries of the rows that are gone.
fn gone(entity: &Entity, log_schema: &str) -> String {
    format!(
        "{} AND {} IS NULL",
        entries(entity, log_schema, "NULL"),
        entity.row_by_key
    )
}

/// The rows of which something is known beside their values, and those that are gone.
fn edited(entity: &Entity, log_schema: &str) -> String {
    entries(entity, log_schema, &entity.row_by_key)
}

/// The entries of the entity's rows, each with its row as this says.
fn entries(entity: &Entity, log_schema: &str, found: &str) -> String {
    format!(
        "SELECT ranked.entity_id AS key, {found} AS found, ranked.metadata::text AS metadata, \
         ranked.image::text AS image, ranked.newest FROM {} ranked WHERE ranked.entity = {}",
        in_schema("_rhtmx_sync_field", log_schema),
        literal(&entity.schema.entity),
    )
}

/// The rows that the log names since a snapshot, and what was written beside the table since; the parameters are those of
/// the log's new entries.
fn changed(entity: &Entity, log_schema: &str) -> String {
    let (fields, name) = (
        in_schema("_rhtmx_sync_field", log_schema),
        literal(&entity.schema.entity),
    );
    format!(
        "SELECT ranked.entity_id AS key, {row} AS found, f.metadata::text AS metadata, f.image::text AS image, \
         f.newest FROM ( \
         SELECT n.entity_id COLLATE \"C\" AS entity_id FROM ({entries}) n WHERE n.entity_id IS NOT NULL \
         UNION SELECT a.entity_id FROM {apart} a WHERE a.entity = {name} \
         AND (a.xid >= $1::text::xid8 OR a.xid = ANY ($2::text::xid8[]))) ranked \
         LEFT JOIN {fields} f ON f.entity = {name} AND f.entity_id = ranked.entity_id",
        row = entity.row_by_key,
        entries = dialect(log_schema).new_entries,
        apart = in_schema("_rhtmx_sync_apart", log_schema),
    )
}

/// The databases whose rows of an entity have been merged here, and what is known of who has what.
pub(crate) async fn peers(conn: &mut AsyncPgConnection, entity: String) -> DbResult<StoredPeers> {
    let found = conn.transaction(async |conn| {
        let peers = peer::table.filter(peer::entity.eq(&entity));
        let horizons = horizon::table.filter(horizon::entity.eq(&entity));
        let columns = (horizon::who, horizon::whose, horizon::clock);
        Ok(StoredPeers {
            node: meta::table.select(meta::node).first(conn).await?,
            peers: peers.select(peer::node).load(conn).await?,
            horizons: horizons.select(columns).load(conn).await?,
        })
    });
    found
        .await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}

/// Stores who has what, where that is more than before.
pub(crate) async fn raise_horizons(
    conn: &mut AsyncPgConnection,
    entity: String,
    horizons: Vec<(String, String, String)>,
) -> DbResult<()> {
    let stored = conn.transaction(async |conn| {
        for (who, whose, clock) in horizons {
            let insert = diesel::insert_into(horizon::table)
                .values((
                    horizon::entity.eq(&entity),
                    horizon::who.eq(who),
                    horizon::whose.eq(whose),
                    horizon::clock.eq(&clock),
                ))
                .on_conflict((horizon::entity, horizon::who, horizon::whose))
                .do_update()
                .set(horizon::clock.eq(&clock));
            diesel::query_dsl::methods::FilterDsl::filter(insert, horizon::clock.lt(&clock))
                .execute(conn)
                .await?;
        }
        Ok(())
    });
    stored
        .await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}

/// How far another database's rows have been merged.
pub(crate) async fn reached(
    conn: &mut AsyncPgConnection,
    node: String,
    entity: String,
) -> DbResult<Option<String>> {
    let found = conn.transaction(async |conn| {
        let found = peer::table.find((node, entity)).select(peer::reached);
        Ok(found.first(conn).await.optional()?)
    });
    found
        .await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}

/// Stores how far.
pub(crate) async fn reach(
    conn: &mut AsyncPgConnection,
    node: String,
    entity: String,
    cursor: String,
) -> DbResult<()> {
    let stored = conn.transaction(async |conn| {
        diesel::insert_into(peer::table)
            .values((
                peer::node.eq(node),
                peer::entity.eq(entity),
                peer::reached.eq(&cursor),
            ))
            .on_conflict((peer::node, peer::entity))
            .do_update()
            .set(peer::reached.eq(&cursor))
            .execute(conn)
            .await?;
        Ok(())
    });
    stored
        .await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}

/// Parks records and forgets others. Returns how many of the entity are parked.
pub(crate) async fn park(
    conn: &mut AsyncPgConnection,
    node: String,
    entity: String,
    parked: Vec<Parked>,
    merged: Vec<String>,
) -> DbResult<i64> {
    use parked_table as table;
    let kept = conn.transaction(async |conn| {
        for one in &parked {
            let reject = serde_json::to_string(&one.reject).expect("a reject is JSON");
            let values = (table::record.eq(&one.record), table::reject.eq(&reject));
            let row = (
                table::entity.eq(&entity),
                table::entity_id.eq(&one.key),
                table::node.eq(&node),
            );
            diesel::insert_into(table::table)
                .values((row, values))
                .on_conflict((table::entity, table::entity_id, table::node))
                .do_update()
                .set(values)
                .execute(conn)
                .await?;
        }
        let of_entity = || table::table.filter(table::entity.eq(&entity));
        let count: i64 = of_entity().count().get_result(conn).await?;
        if count > 0 {
            let rows = of_entity().filter(table::entity_id.eq_any(&merged));
            diesel::delete(rows.filter(table::node.eq(&node)))
                .execute(conn)
                .await?;
        }
        Ok(count)
    });
    kept.await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))
}

/// The parked records of an entity.
pub(crate) async fn parked(
    conn: &mut AsyncPgConnection,
    entity: String,
    after: Option<(String, String)>,
    limit: i64,
) -> DbResult<Vec<Parked>> {
    use parked_table as table;
    let found = conn.transaction(async |conn| {
        let mut query = table::table
            .filter(table::entity.eq(entity))
            .select((table::entity_id, table::node, table::record, table::reject))
            .order((table::entity_id, table::node))
            .limit(limit)
            .into_boxed();
        if let Some((key, node)) = after {
            let later = table::entity_id.eq(key.clone()).and(table::node.gt(node));
            query = query.filter(table::entity_id.gt(key).or(later));
        }
        let found: Vec<(String, String, String, String)> = query.load(conn).await?;
        Ok(found)
    });
    let found = found
        .await
        .map_err(|failed: Failed| failed.while_doing(KEEPING))?;
    found.into_iter().map(parked_of).collect()
}
