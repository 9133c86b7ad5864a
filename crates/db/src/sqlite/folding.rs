//! Folds what is kept beside rows that merge by their fields, on SQLite.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};

use super::connect::{SqliteConn, blocking};
use crate::error::DbResult;
use crate::folding::{BATCH_ENTRIES, Change, Entry, Fate, Folded};

/// A row of a batch.
#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    entity_id: String,
    #[diesel(sql_type = Text)]
    metadata: String,
}

/// Reads the entries after a key.
pub(crate) async fn read(
    conn: &mut SqliteConn,
    entity: &str,
    after: Option<&str>,
) -> DbResult<Vec<Entry>> {
    let is_after = match after {
        Some(_) => "AND entity_id > ?2",
        None => "AND ?2 IS NULL",
    };
    let sql = format!(
        "SELECT entity_id, metadata FROM _rhtmx_sync_field \
         WHERE entity = ?1 {is_after} ORDER BY entity_id LIMIT {BATCH_ENTRIES}"
    );
    let (entity, after) = (entity.to_owned(), after.map(str::to_owned));
    blocking(conn, "reading what is known of rows", move |conn| {
        let found: Vec<Found> = sql_query(sql)
            .bind::<Text, _>(entity)
            .bind::<Nullable<Text>, _>(after)
            .load(conn)?;
        let entries = found.into_iter().map(|found| Entry {
            entity_id: found.entity_id,
            metadata: found.metadata,
        });
        Ok(entries.collect())
    })
    .await
}

/// Writes the entries that are still what was read.
pub(crate) async fn write(
    conn: &mut SqliteConn,
    entity: &str,
    changes: Vec<Change>,
) -> DbResult<Folded> {
    let entity = entity.to_owned();
    blocking(conn, "folding what is known of rows", move |conn| {
        Ok(conn.immediate_transaction(|conn| write_in(conn, &entity, &changes))?)
    })
    .await
}

fn write_in(conn: &mut SqliteConnection, entity: &str, changes: &[Change]) -> QueryResult<Folded> {
    const FORGET: &str =
        "DELETE FROM _rhtmx_sync_field WHERE entity = ?1 AND entity_id = ?2 AND metadata = ?3";
    const LOST: &str = "DELETE FROM _rhtmx_field_conflict WHERE entity = ?1 AND entity_id = ?2";
    const APART: &str = "DELETE FROM _rhtmx_sync_apart WHERE entity = ?1 AND entity_id = ?2";
    const KEEP: &str = "UPDATE _rhtmx_sync_field SET metadata = ?4, newest = max(newest, ?5) \
         WHERE entity = ?1 AND entity_id = ?2 AND metadata = ?3";
    let mut done = Folded::default();
    for change in changes {
        match &change.fate {
            Fate::Forget { is_gone } => {
                let rows = sql_query(FORGET)
                    .bind::<Text, _>(entity)
                    .bind::<Text, _>(&change.entity_id)
                    .bind::<Text, _>(&change.before)
                    .execute(conn)?;
                if rows > 0 {
                    sql_query(APART)
                        .bind::<Text, _>(entity)
                        .bind::<Text, _>(&change.entity_id)
                        .execute(conn)?;
                }
                if rows > 0 && *is_gone {
                    sql_query(LOST)
                        .bind::<Text, _>(entity)
                        .bind::<Text, _>(&change.entity_id)
                        .execute(conn)?;
                }
                done.forgotten += rows as u64;
            }
            Fate::Keep {
                metadata,
                newest,
                early,
            } => {
                let rows = sql_query(KEEP)
                    .bind::<Text, _>(entity)
                    .bind::<Text, _>(&change.entity_id)
                    .bind::<Text, _>(&change.before)
                    .bind::<Text, _>(metadata)
                    .bind::<Text, _>(newest)
                    .execute(conn)?;
                done.folded += rows as u64;
                done.early += rows as u64 * u64::from(*early);
            }
        }
    }
    Ok(done)
}
