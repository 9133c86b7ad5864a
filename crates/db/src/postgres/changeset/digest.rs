//! The digest of an entity's rows, of which the database itself computes the most part.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};
use futures_util::StreamExt as _;
use merge::{Clock, digest_above};
use sync_core::mutation::fields::row_of;

use super::{READING, Unedited, edited, start_sql};
use crate::changeset::{Line, QuickDigest, Start, known_of};
use crate::entity::Entity;
use crate::error::{DbResult, Failed};
use crate::postgres::cancel::CancelGuard;
use crate::postgres::one_snapshot::{ONE_SNAPSHOT, lock_all};
use crate::postgres::pool::PostgresPool;
use crate::postgres::read::{READ_TIMEOUTS, SESSION_SETTINGS};
use crate::postgres::store::SEARCH_PATH;
use crate::read;

/// The sums of the parts of the SHA-256 of each row's JSON.
#[derive(QueryableByName)]
struct Sums {
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = Nullable<Text>)]
    a: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    b: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    c: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    d: Option<String>,
}

/// The digest of the rows, whatever has been folded up to the horizon; none where the table is another one now.
pub(crate) async fn quick_digest(
    pool: &PostgresPool,
    entity: &Entity,
    horizon: &Clock,
) -> DbResult<Option<QuickDigest>> {
    let log_schema = pool.own_schema().await?;
    let Some(unedited) = Unedited::of(entity, &log_schema) else {
        return Ok(None);
    };
    let rules = entity.fields.clone().unwrap_or_default();
    let mut conn = pool.get_owned().await?;
    let mut guard = CancelGuard::new(&conn, pool.connector.clone());
    let digest = conn.transaction(async |conn| {
        conn.batch_execute(&format!(
            "SET TRANSACTION {ONE_SNAPSHOT}; {SESSION_SETTINGS}; {READ_TIMEOUTS}; SET LOCAL {SEARCH_PATH}; {}",
            lock_all(std::iter::once(entity))
        ))
        .await?;
        let start: Start = sql_query(start_sql(entity, &log_schema)).get_result(conn).await?;
        if start.fingerprint.as_deref() != Some(&entity.fingerprint) {
            return Ok(None);
        }
        let sums: Sums = sql_query(sums_sql(&unedited)).get_result(conn).await?;
        let mut digest = QuickDigest::new(read::position(&start.position)?);
        let mut parts = [0; 4];
        for (part, sum) in parts.iter_mut().zip([sums.a, sums.b, sums.c, sums.d]) {
            // There is none of no rows.
            if let Some(sum) = sum {
                *part = sum.parse().map_err(|error| read::unreadable(&error))?;
            }
        }
        digest.sum.add_sums(sums.records.unsigned_abs(), parts);
        let mut lines = sql_query(edited(entity, &log_schema)).load_stream::<Line>(conn).await?;
        while let Some(line) = lines.next().await {
            let row = known_of(line?).and_then(|(key, known)| {
                let row = row_of(&entity.schema, &rules, &key, &known)?;
                digest_above(&key, row, horizon, &rules)
            });
            if let Some(row) = row {
                digest.sum.add(&row);
            }
        }
        Ok(Some(digest))
    });
    let digest = digest.await;
    guard.disarm();
    digest.map_err(|failed: Failed| failed.while_doing(READING))
}

fn sums_sql(unedited: &Unedited<'_>) -> String {
    let part = |at: usize| {
        let bytes = format!("encode(substr(r.hash, {}, 8), 'hex')", at * 8 + 1);
        format!("sum(('x' || {bytes})::bit(64)::bigint)::text")
    };
    // Without the OFFSET each part would compute the hash of its own.
    format!(
        "SELECT count(*) AS records, {} AS a, {} AS b, {} AS c, {} AS d \
         FROM (SELECT sha256(convert_to({}, 'UTF8')) AS hash FROM {unedited} OFFSET 0) r",
        part(0),
        part(1),
        part(2),
        part(3),
        unedited.row,
    )
}
