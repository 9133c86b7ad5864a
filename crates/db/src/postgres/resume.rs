//! What a resume would cost, asked before the log is sorted for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use protocol::RefetchReason;
use serde::Deserialize;
use sync_core::cursor::{self, Position};

use super::dialect::{DIALECT, bound};
use super::store::in_schema;
use crate::entity::{Entity, RowsSql};
use crate::error::Failed;
use crate::read::{RESUME_ENTRIES_CHEAP, RESUME_ENTRIES_PER_ROW, position};

/// The two ends of the log after a position, and how far it may be resumed from.
#[derive(QueryableByName)]
struct Extent {
    #[diesel(sql_type = Text)]
    position: String,
    #[diesel(sql_type = Text)]
    floor: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    first: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
}

/// Both ends are found in the primary key, `(xid, id)`.
const EXTENT: &str = "SELECT s.*, least( \
      (SELECT id FROM _rhtmx_sync_log WHERE xid >= $1::text::xid8 ORDER BY xid, id LIMIT 1), \
      (SELECT min(id) FROM _rhtmx_sync_log WHERE xid = ANY ($2::text::xid8[]))) AS first, \
      (SELECT id FROM _rhtmx_sync_log ORDER BY xid DESC, id DESC LIMIT 1) AS last \
   FROM (";

/// How many of some entries after a position are wanted.
#[derive(QueryableByName)]
struct Sample {
    #[diesel(sql_type = BigInt)]
    seen: i64,
    #[diesel(sql_type = BigInt)]
    wanted: i64,
}

/// Of both ends: a client chooses its cursor, and counting all entries after it takes long.
const SAMPLE: &str = "SELECT count(*) AS seen, count(*) FILTER (WHERE s.entity = ANY ($2::text::text[])) AS wanted FROM ( \
      (SELECT entity FROM _rhtmx_sync_log WHERE xid >= $1::text::xid8 ORDER BY xid, id LIMIT 2000) UNION ALL \
      (SELECT entity FROM _rhtmx_sync_log WHERE xid >= $1::text::xid8 ORDER BY xid DESC, id DESC LIMIT 2000)) s";

#[derive(QueryableByName)]
struct Plan {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    plan: String,
}

#[derive(Deserialize)]
struct Explained {
    #[serde(rename = "Plan")]
    plan: PlanNode,
}

#[derive(Deserialize)]
struct PlanNode {
    #[serde(rename = "Plan Rows")]
    rows: f64,
}

/// Returns why the changes since `from` are not read: the log no longer has them, or it has so many that reading the
/// rows costs less. Each question is cheap, however large the log is.
pub(crate) async fn refuse(
    conn: &mut AsyncPgConnection,
    log_schema: &str,
    entities: &BTreeMap<String, Arc<Entity>>,
    from: &Position,
    parameters: &[String],
    entries_max: u64,
) -> Result<Option<RefetchReason>, Failed> {
    let sql = in_schema(&format!("{EXTENT}{}) s", DIALECT.start), log_schema);
    let extent: Extent = bound(&sql, &parameters[..2]).get_result(conn).await?;
    let (now, floor) = (position(&extent.position)?, position(&extent.floor)?);
    if let Some(reason) = cursor::refuse(from, &now, &floor) {
        return Ok(Some(reason));
    }
    let (Some(first), Some(last)) = (extent.first, extent.last) else {
        return Ok(None);
    };
    let distance = u64::try_from(last.saturating_sub(first)).unwrap_or_default();
    if distance < RESUME_ENTRIES_CHEAP {
        return Ok(None);
    }
    if distance > entries_max {
        return Ok(Some(RefetchReason::Expired));
    }
    let Some(rows) = table_rows(conn, entities).await? else {
        return Ok(None);
    };
    let parameters = [parameters[0].clone(), parameters[2].clone()];
    let sample: Sample = bound(&in_schema(SAMPLE, log_schema), &parameters)
        .get_result(conn)
        .await?;
    let share = sample.wanted as f64 / sample.seen.max(1) as f64;
    let entries_max = rows.saturating_mul(RESUME_ENTRIES_PER_ROW);
    let is_longer = distance as f64 * share > entries_max.max(RESUME_ENTRIES_CHEAP) as f64;
    Ok(is_longer.then_some(RefetchReason::Expired))
}

/// The planner's estimate of the rows of all these tables; none when one of them is not a table.
async fn table_rows(
    conn: &mut AsyncPgConnection,
    entities: &BTreeMap<String, Arc<Entity>>,
) -> Result<Option<u64>, Failed> {
    let mut rows = 0;
    for entity in entities.values() {
        let RowsSql::Table { from, .. } = &entity.rows else {
            return Ok(None);
        };
        let explain = format!("EXPLAIN (FORMAT JSON) SELECT FROM {from}");
        let explained: Plan = sql_query(explain).get_result(conn).await?;
        let plans: Vec<Explained> = serde_json::from_str(&explained.plan).unwrap_or_default();
        rows += plans
            .iter()
            .map(|explained| explained.plan.rows as u64)
            .sum::<u64>();
    }
    Ok(Some(rows))
}
