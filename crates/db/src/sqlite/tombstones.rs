//! What is known of rows that are gone, and the newest clock of a table's rows, on SQLite.

use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use super::connect::blocking;
use super::pool::SqlitePool;
use super::statement::{Statement, Value};
use crate::changeset::{Line, known_of};
use crate::entity::Entity;
use crate::error::{DbError, DbResult};
use crate::tombstones::{Tombstone, TombstonesPage, of_node};

/// A page of the rows that are gone, in the order of their keys.
pub(crate) async fn read(
    pool: &SqlitePool,
    entity: &Entity,
    page: TombstonesPage,
) -> DbResult<Vec<Tombstone>> {
    let name = Value::Text(entity.schema.entity.clone());
    let mut statement = Statement::new(
        "SELECT ranked.entity_id AS key, NULL AS found, ranked.metadata AS metadata, ranked.image AS image, ranked.newest \
         FROM _rhtmx_sync_field AS ranked WHERE ranked.entity = ",
    )
    .value(name);
    if let Some(after) = page.after_key {
        statement = statement
            .sql(" AND ranked.entity_id > ")
            .value(Value::Text(after));
    }
    // Most entries are of rows that have never died: those need no look at the table.
    let statement = statement.sql(format!(
        " AND ranked.metadata LIKE '%\"died\"%' AND {} IS NULL ORDER BY ranked.entity_id LIMIT {}",
        entity.row_by_key, page.limit
    ));
    blocking(
        &mut *pool.get().await?,
        "reading deleted rows",
        move |conn| {
            let lines: Vec<Line> = statement.load(conn)?;
            Ok(lines.into_iter().filter_map(known_of).collect())
        },
    )
    .await
}

/// The newest clock that is known of the rows of an entity.
pub(crate) async fn newest(
    pool: &SqlitePool,
    entity: &str,
    only_node: Option<&str>,
    except_node: Option<&str>,
) -> DbResult<Option<String>> {
    #[derive(QueryableByName)]
    struct Newest {
        #[diesel(sql_type = Nullable<Text>)]
        newest: Option<String>,
    }
    let mut statement =
        Statement::new("SELECT max(newest) AS newest FROM _rhtmx_sync_field WHERE entity = ")
            .value(Value::Text(entity.to_owned()));
    for (node, sign) in [(only_node, "="), (except_node, "<>")] {
        if let Some(node) = node {
            statement = statement
                .sql(format!(" AND {} {sign} ", of_node("newest")))
                .value(Value::Text(node.to_owned()));
        }
    }
    blocking(
        &mut *pool.get().await?,
        "reading the newest clock",
        move |conn| {
            let found: Newest = statement
                .get_result(conn)
                .map_err(|error| DbError::while_doing("reading the newest clock", error))?;
            Ok(found.newest)
        },
    )
    .await
}
