//! Folds what is kept beside rows that merge by their fields, on PostgreSQL.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _};
use serde_json::{Value, json};

use crate::error::{DbResult, Failed};
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
    conn: &mut AsyncPgConnection,
    entity: &str,
    after: Option<&str>,
) -> DbResult<Vec<Entry>> {
    let is_after = match after {
        Some(_) => "AND entity_id > $2",
        None => "AND $2 IS NULL",
    };
    let sql = format!(
        "SELECT entity_id, metadata::text AS metadata FROM _rhtmx_sync_field \
         WHERE entity = $1 {is_after} ORDER BY entity_id LIMIT {BATCH_ENTRIES}"
    );
    let found = conn.transaction(async |conn| {
        let found: Vec<Found> = sql_query(&sql)
            .bind::<Text, _>(entity)
            .bind::<Nullable<Text>, _>(after)
            .load(conn)
            .await?;
        Ok(found)
    });
    let found = found
        .await
        .map_err(|failed: Failed| failed.while_doing("reading what is known of rows"))?;
    let entries = found.into_iter().map(|found| Entry {
        entity_id: found.entity_id,
        metadata: found.metadata,
    });
    Ok(entries.collect())
}

/// Writes the entries that are still what was read and that nobody has locked.
pub(crate) async fn write(
    conn: &mut AsyncPgConnection,
    entity: &str,
    changes: Vec<Change>,
) -> DbResult<Folded> {
    #[derive(QueryableByName)]
    struct Written {
        #[diesel(sql_type = BigInt)]
        forgotten: i64,
        #[diesel(sql_type = BigInt)]
        folded: i64,
        #[diesel(sql_type = BigInt)]
        early: i64,
    }
    const SQL: &str = "WITH wanted AS ( \
           SELECT w.* FROM json_to_recordset($2::json) AS w(id text, before text, after text, newest text, early boolean, gone boolean)), \
         locked AS ( \
           SELECT f.entity_id, w.after, w.newest, w.early, w.gone FROM wanted w \
           JOIN _rhtmx_sync_field f ON f.entity = $1 AND f.entity_id = w.id COLLATE \"C\" \
           WHERE f.metadata = w.before::jsonb FOR UPDATE OF f SKIP LOCKED), \
         forgotten AS ( \
           DELETE FROM _rhtmx_sync_field f USING locked l \
           WHERE f.entity = $1 AND f.entity_id = l.entity_id AND l.after IS NULL RETURNING 1), \
         lost AS ( \
           DELETE FROM _rhtmx_field_conflict c USING locked l \
           WHERE c.entity = $1 AND c.entity_id = l.entity_id AND l.gone), \
         apart AS ( \
           DELETE FROM _rhtmx_sync_apart a USING locked l \
           WHERE a.entity = $1 AND a.entity_id = l.entity_id AND l.after IS NULL), \
         folded AS ( \
           UPDATE _rhtmx_sync_field f SET metadata = l.after::jsonb, newest = greatest(f.newest, l.newest COLLATE \"C\") \
           FROM locked l WHERE f.entity = $1 AND f.entity_id = l.entity_id AND l.after IS NOT NULL RETURNING l.early) \
         SELECT (SELECT count(*) FROM forgotten) AS forgotten, count(*) AS folded, \
           count(*) FILTER (WHERE early) AS early FROM folded";
    let wanted: Vec<Value> = changes.into_iter().map(wanted).collect();
    let wanted = Value::from(wanted).to_string();
    let written = conn.transaction(async |conn| {
        let written: Written = sql_query(SQL)
            .bind::<Text, _>(entity)
            .bind::<Text, _>(&wanted)
            .get_result(conn)
            .await?;
        Ok(written)
    });
    let written = written
        .await
        .map_err(|failed: Failed| failed.while_doing("folding what is known of rows"))?;
    Ok(Folded {
        last: None,
        folded: u64::try_from(written.folded).unwrap_or_default(),
        forgotten: u64::try_from(written.forgotten).unwrap_or_default(),
        early: u64::try_from(written.early).unwrap_or_default(),
    })
}

fn wanted(change: Change) -> Value {
    let mut wanted = json!({ "id": change.entity_id, "before": change.before });
    match change.fate {
        Fate::Forget { is_gone } => wanted["gone"] = is_gone.into(),
        Fate::Keep {
            metadata,
            newest,
            early,
        } => {
            wanted["after"] = metadata.into();
            wanted["newest"] = newest.into();
            wanted["early"] = early.into();
        }
    }
    wanted
}
