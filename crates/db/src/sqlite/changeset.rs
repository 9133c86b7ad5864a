//! Records of rows that merge by their fields, for other databases and from them.

use std::sync::Arc;

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use sync_core::cursor::{Position, refuse};
use sync_core::mutation::fields::Known;

use super::connect::{SqliteConn, blocking};
use super::explain::WriteFailed;
use super::pool::SqlitePool;
use super::read::DIALECT;
use super::statement::{KeptStatements, Statement, Value};
use super::{entry, field_write};
use crate::changeset::{
    Chunk, Extent, Line, MergedRecord, Parked, RecordStream, Start, StoredPeers, parked_of,
};
use crate::entity::{Entity, RowsSql};
use crate::error::{DbError, DbResult, Failed};
use crate::read::{self, Part, PartSender, ReadStart, ReadStream};
use crate::tables::{
    _rhtmx_sync_horizon as horizon, _rhtmx_sync_meta as meta, _rhtmx_sync_parked as parked_table,
    _rhtmx_sync_peer as peer,
};
use crate::write::{TableWrite, is_violation};

const READING: &str = "reading records";
const MERGING: &str = "merging records";
const KEEPING: &str = "keeping what is known of other databases";

/// The name under which the database stamps.
pub(crate) async fn node(conn: &mut SqliteConn) -> DbResult<String> {
    #[derive(QueryableByName)]
    struct Node {
        #[diesel(sql_type = Text)]
        node: String,
    }
    blocking(conn, READING, |conn| {
        let found: Node = sql_query("SELECT node FROM _rhtmx_sync_meta").get_result(conn)?;
        Ok(found.node)
    })
    .await
}

/// Starts a read of records.
pub(crate) fn read_records(pool: &SqlitePool, entity: Arc<Entity>, extent: Extent) -> RecordStream {
    let pool = pool.clone();
    ReadStream::begin(|out| async move {
        blocking(&mut *pool.get().await?, READING, move |conn| {
            conn.transaction(|conn| read_all(conn, &entity, &extent, &out))
        })
        .await
    })
}

fn read_all(
    conn: &mut SqliteConnection,
    entity: &Entity,
    extent: &Extent,
    out: &PartSender<(String, Known)>,
) -> Result<(), Failed> {
    let name = &entity.schema.entity;
    let start: Start =
        Statement::new("SELECT s.*, (SELECT fingerprint FROM _rhtmx_sync_entity WHERE entity = ")
            .value(Value::Text(name.clone()))
            .sql(format!(") AS fingerprint FROM ({}) s", DIALECT.start))
            .get_result(conn)?;
    if start.fingerprint.as_deref() != Some(&entity.fingerprint) {
        let _ = out.blocking_send(Part::Outdated(name.clone()));
        return Ok(());
    }
    let (position, floor) = (
        read::position(&start.position)?,
        read::position(&start.floor)?,
    );
    let mut after = None;
    if let Extent::Since(since) = extent {
        let Position::Log(from) = since else {
            let text = "a cursor of PostgreSQL cannot be used with SQLite";
            return Err(DbError::Unsupported(text.to_owned()).into());
        };
        let mut refused = refuse(since, &position, &floor);
        if refused.is_none() && !entry::is_known(conn, *from)? {
            refused = Some(protocol::RefetchReason::Epoch);
        }
        if let Some(reason) = refused {
            let _ = out.blocking_send(Part::Refused(reason));
            return Ok(());
        }
        after = Some(from.id);
    }
    let begun = Part::Start(ReadStart { position, floor });
    if out.blocking_send(begun).is_err() {
        return Ok(());
    }
    let statement = match after {
        None if matches!(extent, Extent::Gone) => gone(entity),
        None if matches!(extent, Extent::Edited) => edited(entity),
        None => all(entity),
        Some(after) => changed(entity, after),
    };
    let mut chunk = Chunk::default();
    for line in statement.load_iter::<Line, DefaultLoadingMode>(conn)? {
        let line = line?;
        if let Some(part) = chunk.take(name, line)
            && out.blocking_send(part).is_err()
        {
            return Ok(());
        }
    }
    if let Some(part) = chunk.finish() {
        let _ = out.blocking_send(part);
    }
    Ok(())
}

/// All rows, and the entries of those that are gone.
fn all(entity: &Entity) -> Statement {
    let name = || Value::Text(entity.schema.entity.clone());
    let RowsSql::Table { key, row, from, .. } = &entity.rows else {
        return Statement::new(
            "SELECT NULL AS key, NULL AS found, NULL AS metadata, NULL AS image, NULL AS newest LIMIT 0",
        );
    };
    Statement::new(format!(
        "SELECT {key} AS key, {row} AS found, f.metadata AS metadata, f.image AS image, f.newest FROM {from} \
         LEFT JOIN _rhtmx_sync_field f ON f.entity = "
    ))
    .value(name())
    .sql(format!(
        " AND f.entity_id = ({key}) UNION ALL SELECT ranked.entity_id, NULL, ranked.metadata, ranked.image, ranked.newest \
         FROM _rhtmx_sync_field AS ranked WHERE ranked.entity = "
    ))
    .value(name())
    .sql(format!(" AND {} IS NULL", entity.row_by_key))
}

/// The entries of the rows that are gone.
fn gone(entity: &Entity) -> Statement {
    entries(entity, "NULL").sql(format!(" AND {} IS NULL", entity.row_by_key))
}

/// The rows of which something is known beside their values, and those that are gone.
fn edited(entity: &Entity) -> Statement {
    entries(entity, &entity.row_by_key)
}

/// The entries of the entity's rows, each with its row as this says.
fn entries(entity: &Entity, found: &str) -> Statement {
    Statement::new(format!(
        "SELECT ranked.entity_id AS key, {found} AS found, ranked.metadata, ranked.image, ranked.newest \
         FROM _rhtmx_sync_field AS ranked WHERE ranked.entity = "
    ))
    .value(Value::Text(entity.schema.entity.clone()))
}

/// The rows that the log names after an entry, and what was written beside the table since.
fn changed(entity: &Entity, after: i64) -> Statement {
    let name = || Value::Text(entity.schema.entity.clone());
    Statement::new(format!(
        "SELECT ranked.entity_id AS key, {} AS found, f.metadata AS metadata, f.image AS image, f.newest \
         FROM (SELECT entity_id FROM _rhtmx_sync_log WHERE id > ",
        entity.row_by_key
    ))
    .value(Value::Integer(after))
    .sql(" AND entity_id IS NOT NULL AND entity = ")
    .value(name())
    .sql(" UNION SELECT entity_id FROM _rhtmx_sync_apart WHERE at > ")
    .value(Value::Integer(after))
    .sql(" AND entity = ")
    .value(name())
    .sql(") AS ranked LEFT JOIN _rhtmx_sync_field f ON f.entity = ")
    .value(name())
    .sql(" AND f.entity_id = ranked.entity_id")
}

/// Merges records in one transaction.
pub(crate) async fn merge_records(
    pool: &SqlitePool,
    writes: Vec<TableWrite>,
) -> DbResult<Vec<MergedRecord>> {
    let _turn = pool.writer_turn.lock().await;
    let kept = pool.kept_statements.clone();
    blocking(&mut *pool.get().await?, MERGING, move |conn| {
        conn.immediate_transaction(|conn| {
            // What the triggers log is no client's; the entry is there to name what is stamped.
            sql_query("INSERT INTO _rhtmx_sync_mutation (client_id, mutation) VALUES (?1, 0)")
                .bind::<Text, _>(uuid::Uuid::nil().to_string())
                .execute(conn)?;
            let merged = writes.iter().map(|write| merge_one(conn, write, &kept));
            let merged = merged.collect::<Result<Vec<_>, Failed>>()?;
            sql_query("DELETE FROM _rhtmx_sync_mutation").execute(conn)?;
            Ok(merged)
        })
    })
    .await
}

fn merge_one(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    kept: &KeptStatements,
) -> Result<MergedRecord, Failed> {
    let Some(fields) = &write.fields else {
        return Err(crate::changeset::no_fields(&write.schema).into());
    };
    let merged = conn.transaction(|conn| field_write::merge_record(conn, write, fields, kept));
    match merged {
        Ok(changed) => Ok(Ok(changed)),
        Err(WriteFailed::Rejected(reject)) => Ok(Err(reject)),
        Err(WriteFailed::Diesel(error)) if !is_violation(&error) => Err(error.into()),
        Err(WriteFailed::Table { .. } | WriteFailed::Diesel(_)) => {
            Ok(Err(crate::changeset::forbidden()))
        }
    }
}

/// The databases whose rows of an entity have been merged here, and what is known of who has what.
pub(crate) async fn peers(conn: &mut SqliteConn, entity: String) -> DbResult<StoredPeers> {
    blocking(conn, KEEPING, move |conn| {
        let peers = peer::table.filter(peer::entity.eq(&entity));
        let horizons = horizon::table.filter(horizon::entity.eq(&entity));
        let columns = (horizon::who, horizon::whose, horizon::clock);
        Ok(conn.transaction(|conn| {
            QueryResult::Ok(StoredPeers {
                node: meta::table.select(meta::node).first(conn)?,
                peers: peers.select(peer::node).load(conn)?,
                horizons: horizons.select(columns).load(conn)?,
            })
        })?)
    })
    .await
}

/// Stores who has what, where that is more than before.
pub(crate) async fn raise_horizons(
    conn: &mut SqliteConn,
    entity: String,
    horizons: Vec<(String, String, String)>,
) -> DbResult<()> {
    blocking(conn, KEEPING, move |conn| {
        Ok(conn.immediate_transaction(|conn| {
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
                    .execute(conn)?;
            }
            QueryResult::Ok(())
        })?)
    })
    .await
}

/// How far another database's rows have been merged.
pub(crate) async fn reached(
    conn: &mut SqliteConn,
    node: String,
    entity: String,
) -> DbResult<Option<String>> {
    blocking(conn, KEEPING, move |conn| {
        let found = peer::table.find((node, entity)).select(peer::reached);
        Ok(found.first(conn).optional()?)
    })
    .await
}

/// Stores how far.
pub(crate) async fn reach(
    conn: &mut SqliteConn,
    node: String,
    entity: String,
    cursor: String,
) -> DbResult<()> {
    blocking(conn, KEEPING, move |conn| {
        diesel::insert_into(peer::table)
            .values((
                peer::node.eq(node),
                peer::entity.eq(entity),
                peer::reached.eq(&cursor),
            ))
            .on_conflict((peer::node, peer::entity))
            .do_update()
            .set(peer::reached.eq(&cursor))
            .execute(conn)?;
        Ok(())
    })
    .await
}

/// Parks records and forgets others. Returns how many of the entity are parked.
pub(crate) async fn park(
    conn: &mut SqliteConn,
    node: String,
    entity: String,
    parked: Vec<Parked>,
    merged: Vec<String>,
) -> DbResult<i64> {
    use parked_table as table;
    blocking(conn, KEEPING, move |conn| {
        Ok(conn.immediate_transaction(|conn| {
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
                    .execute(conn)?;
            }
            let of_entity = || table::table.filter(table::entity.eq(&entity));
            let count = of_entity().count().get_result(conn)?;
            if count > 0 {
                for key in &merged {
                    let row = of_entity().filter(table::entity_id.eq(key));
                    diesel::delete(row.filter(table::node.eq(&node))).execute(conn)?;
                }
            }
            QueryResult::Ok(count)
        })?)
    })
    .await
}

/// The parked records of an entity.
pub(crate) async fn parked(
    conn: &mut SqliteConn,
    entity: String,
    after: Option<(String, String)>,
    limit: i64,
) -> DbResult<Vec<Parked>> {
    use parked_table as table;
    let found: Vec<(String, String, String, String)> = blocking(conn, KEEPING, move |conn| {
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
        Ok(query.load(conn)?)
    })
    .await?;
    found.into_iter().map(parked_of).collect()
}
