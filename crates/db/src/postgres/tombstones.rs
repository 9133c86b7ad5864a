//! What is known of rows that are gone, and the newest clock of a table's rows, on PostgreSQL.

use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};

use super::dialect::bound;
use super::pool::PostgresPool;
use super::read::SESSION_SETTINGS;
use super::store::{SEARCH_PATH, in_schema};
use crate::changeset::{Line, known_of};
use crate::entity::Entity;
use crate::error::{DbResult, Failed};
use crate::quote::literal;
use crate::tombstones::{Tombstone, TombstonesPage, of_node};

/// A page of the rows that are gone, in the order of their keys.
pub(crate) async fn read(
    pool: &PostgresPool,
    entity: &Entity,
    page: TombstonesPage,
) -> DbResult<Vec<Tombstone>> {
    let fields = in_schema("_rhtmx_sync_field", &pool.own_schema().await?);
    let beyond = match &page.after_key {
        Some(_) => "AND ranked.entity_id > $1::text COLLATE \"C\"",
        None => "",
    };
    // Most entries are of rows that have never died: those need no look at the table.
    let sql = format!(
        "SELECT ranked.entity_id AS key, NULL::text AS found, ranked.metadata::text AS metadata, ranked.image::text AS image, ranked.newest \
         FROM {fields} ranked WHERE ranked.entity = {name} {beyond} AND ranked.metadata ? 'died' AND {row} IS NULL \
         ORDER BY ranked.entity_id LIMIT {limit}",
        name = literal(&entity.schema.entity),
        row = entity.row_by_key,
        limit = page.limit,
    );
    let parameters: Vec<String> = page.after_key.into_iter().collect();
    let mut conn = pool.get().await?;
    let lines: Result<Vec<Line>, Failed> = conn
        .transaction(async |conn| {
            conn.batch_execute(&format!("{SESSION_SETTINGS}; SET LOCAL {SEARCH_PATH}"))
                .await?;
            Ok(bound(&sql, &parameters).load(conn).await?)
        })
        .await;
    let lines = lines.map_err(|failed| failed.while_doing("reading deleted rows"))?;
    Ok(lines.into_iter().filter_map(known_of).collect())
}

/// The newest clock that is known of the rows of an entity.
pub(crate) async fn newest(
    pool: &PostgresPool,
    entity: &str,
    only_node: Option<&str>,
    except_node: Option<&str>,
) -> DbResult<Option<String>> {
    #[derive(QueryableByName)]
    struct Newest {
        #[diesel(sql_type = Nullable<Text>)]
        newest: Option<String>,
    }
    let mut sql = format!(
        "SELECT max(newest) AS newest FROM {} WHERE entity = $1",
        in_schema("_rhtmx_sync_field", &pool.own_schema().await?)
    );
    let mut parameters = vec![entity.to_owned()];
    for (node, sign) in [(only_node, "="), (except_node, "<>")] {
        if let Some(node) = node {
            parameters.push(node.to_owned());
            sql.push_str(&format!(
                " AND {} {sign} ${}",
                of_node("newest"),
                parameters.len()
            ));
        }
    }
    let mut conn = pool.get().await?;
    let found: Result<Newest, Failed> = conn
        .transaction(async |conn| Ok(bound(&sql, &parameters).get_result(conn).await?))
        .await;
    let found = found.map_err(|failed| failed.while_doing("reading the newest clock"))?;
    Ok(found.newest)
}
