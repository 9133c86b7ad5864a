//! Sees to it that the numbers in the engine's tables are this database's own (`core::incarnation` decides).

use sync_core::cursor::{Cursor, Position};
use sync_core::incarnation::{
    Continuity, CrashEvidence, Kept, Marker, Present, Product, ProductFacts, Reason, decide,
};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use tracing::{debug, info, warn};

use super::connect::failed;
use super::store::in_schema;
use crate::error::{DbError, DbResult};
use crate::read;

/// An expression: whether the marker is there and was written here, since the last crash. Between a crash or
/// a restore and the new epoch nothing may be read or written by the numbers in the engine's tables.
macro_rules! is_current {
    () => {
        "EXISTS (SELECT FROM _rhtmx_sync_alive WHERE coalesce(xmin = written_by::xid, true) \
         AND coalesce(started_at = pg_postmaster_start_time(), true))"
    };
}
pub(crate) use is_current;

/// What tells the product.
pub(super) const PRODUCT: &str = "\
SELECT version() AS version, to_regproc('pg_catalog.aurora_version') IS NOT NULL AS has_aurora_version, \
current_setting('neon.timeline_id', true) IS NOT NULL AS has_neon_timeline, \
EXISTS (SELECT FROM pg_settings WHERE name LIKE 'alloydb.%') AS has_alloydb_settings, \
EXISTS (SELECT FROM pg_roles WHERE rolname = 'supabase_admin') AS has_supabase_admin, \
EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS has_citus";

/// The cluster, the database and the timeline.
const IDENTITY: &str = "\
SELECT concat_ws('-', (SELECT to_hex(system_identifier) FROM pg_control_system()), \
(SELECT oid::text FROM pg_database WHERE datname = current_database()), \
left(pg_walfile_name(pg_current_wal_lsn()), 8))";
/// The same without functions that some products refuse.
const IDENTITY_WITHOUT_TIMELINE: &str = "\
SELECT concat_ws('-', '', oid::text, '') FROM pg_database WHERE datname = current_database()";

/// What the tables say and what the database is, in one snapshot.
const LOOK: &str = "\
SELECT m.epoch, m.identity, a.singleton IS NOT NULL AS marked, a.xmin = a.written_by::xid AS written_here, \
extract(epoch FROM a.started_at)::text AS marker_started_at, \
extract(epoch FROM pg_postmaster_start_time())::text AS started_at, \
EXISTS (SELECT FROM _rhtmx_sync_log WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())) \
OR pg_snapshot_xmax(m.floor::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) AS is_from_the_future, \
pg_current_snapshot()::text AS position \
FROM _rhtmx_sync_meta m LEFT JOIN _rhtmx_sync_alive a ON true";

/// Begins the transaction in which an epoch begins; one engine at a time. Makes the rows that were there
/// before somebody emptied all tables.
const LOCK: &str = "\
BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = 0; \
INSERT INTO _rhtmx_sync_meta DEFAULT VALUES ON CONFLICT DO NOTHING; \
INSERT INTO _rhtmx_sync_lock (name) VALUES ('install'), ('leader') ON CONFLICT DO NOTHING; \
SELECT FROM _rhtmx_sync_meta FOR UPDATE";

/// Begins a new epoch at the identity `$1`. One statement, so one snapshot: what it sees in the log is either
/// of transactions that the new floor contains, which retention prunes, or is not of this epoch.
const BEGIN: &str = "\
WITH entries AS (DELETE FROM _rhtmx_sync_log WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) \
OR xid = ANY (ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot())))), \
checkpoints AS (DELETE FROM _rhtmx_sync_checkpoint), \
marks AS (UPDATE _rhtmx_sync_client SET last_commit = NULL WHERE last_commit IS NOT NULL) \
UPDATE _rhtmx_sync_meta SET epoch = gen_random_uuid()::text, node = DEFAULT, floor = pg_current_snapshot()::text, identity = $1";

/// Notes the identity `$1`.
const ADOPT: &str = "UPDATE _rhtmx_sync_meta SET identity = $1";

/// Writes the marker, whose row must be gone; with `$1`, it says when the server started.
const MARK: &str = "\
INSERT INTO _rhtmx_sync_alive (started_at) VALUES (CASE WHEN $1::text::boolean THEN pg_postmaster_start_time() END)";

/// The database behind one connection.
pub(super) struct Database {
    identity: String,
    crash_evidence: CrashEvidence,
}

impl Database {
    /// Finds out what database this is.
    pub(super) async fn find_out(client: &Client) -> DbResult<Self> {
        let context = "finding out what database this is";
        let row = client
            .query_typed_one(PRODUCT, &[])
            .await
            .map_err(|error| failed(context, &error))?;
        let product = Product::recognise(&ProductFacts {
            version: row.get(0),
            has_aurora_version: row.get(1),
            has_neon_timeline: row.get(2),
            has_alloydb_settings: row.get(3),
            has_supabase_admin: row.get(4),
            has_citus: row.get(5),
        });
        let Some(crash_evidence) = product.crash_evidence() else {
            return Err(DbError::Unsupported(format!(
                "{product} cannot be synced: its transaction numbers do not say what is visible"
            )));
        };
        match crash_evidence {
            CrashEvidence::Marker => match client.query_typed_one(IDENTITY, &[]).await {
                Ok(row) => {
                    return Ok(Self {
                        identity: row.get(0),
                        crash_evidence,
                    });
                }
                Err(error) if is_refused(&error) => {
                    debug!(%error, "the timeline is not to be had; each restart counts as a crash");
                }
                Err(error) => return Err(failed(context, &error)),
            },
            CrashEvidence::StartTime => {
                debug!(%product, "unlogged tables are not trusted; each restart counts as a crash");
            }
        }
        let row = client
            .query_typed_one(IDENTITY_WITHOUT_TIMELINE, &[])
            .await
            .map_err(|error| failed(context, &error))?;
        Ok(Self {
            identity: row.get(0),
            crash_evidence: CrashEvidence::StartTime,
        })
    }

    /// Begins a new epoch if the old one does not go on. `reached` is how far this engine has read.
    pub(super) async fn ensure_epoch(
        &self,
        client: &Client,
        log_schema: &str,
        reached: Option<&Cursor>,
    ) -> DbResult<()> {
        if self.look(client, log_schema, reached).await? == Continuity::Continues {
            return Ok(());
        }
        let context = "beginning an epoch";
        client
            .batch_execute(&in_schema(LOCK, log_schema))
            .await
            .map_err(|error| failed(context, &error))?;
        let begun = self.begin(client, log_schema, reached).await;
        let end = if begun.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = client.batch_execute(end).await;
        begun?;
        ended.map_err(|error| failed(context, &error))
    }

    /// The same, under the lock and inside of its transaction.
    async fn begin(
        &self,
        client: &Client,
        log_schema: &str,
        reached: Option<&Cursor>,
    ) -> DbResult<()> {
        let failed = |error| failed("beginning an epoch", &error);
        let continuity = self.look(client, log_schema, reached).await?;
        let statement = match continuity {
            Continuity::Continues => return Ok(()),
            Continuity::Adopted => {
                info!("the identity of this database is noted");
                ADOPT
            }
            Continuity::Ended(reason) => {
                warn!(%reason, "a new epoch begins: clients refetch their rows");
                BEGIN
            }
        };
        client
            .execute_typed(
                &in_schema(statement, log_schema),
                &[(&self.identity, Type::TEXT)],
            )
            .await
            .map_err(failed)?;
        let by_start = self.crash_evidence == CrashEvidence::StartTime;
        client
            .batch_execute(&in_schema("DELETE FROM _rhtmx_sync_alive", log_schema))
            .await
            .map_err(failed)?;
        client
            .execute_typed(
                &in_schema(MARK, log_schema),
                &[(&by_start.to_string(), Type::TEXT)],
            )
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn look(
        &self,
        client: &Client,
        log_schema: &str,
        reached: Option<&Cursor>,
    ) -> DbResult<Continuity> {
        let row = client
            .query_typed_opt(&in_schema(LOOK, log_schema), &[])
            .await
            .map_err(|error| failed("looking at the epoch", &error))?;
        let Some(row) = row else {
            return Ok(Continuity::Ended(Reason::Emptied));
        };
        Ok(decide(&kept(&row), &self.present(&row, reached)?))
    }

    fn present(&self, row: &Row, reached: Option<&Cursor>) -> DbResult<Present> {
        let (epoch, position): (String, String) = (row.get("epoch"), row.get("position"));
        let position: Position = read::position(&position)?;
        let is_behind_reader = reached.is_some_and(|reached| {
            reached.epoch.as_str().starts_with(&epoch) && !position.covers(&reached.position)
        });
        Ok(Present {
            identity: self.identity.clone(),
            crash_evidence: self.crash_evidence,
            started_at: row.get("started_at"),
            is_behind_reader,
        })
    }
}

fn kept(row: &Row) -> Kept {
    let marked: bool = row.get("marked");
    Kept {
        identity: row.get("identity"),
        marker: marked.then(|| Marker {
            written_here: row.get("written_here"),
            started_at: row.get("marker_started_at"),
        }),
        is_from_the_future: row.get("is_from_the_future"),
    }
}

/// Whether a function is missing, forbidden or not supported.
fn is_refused(error: &tokio_postgres::Error) -> bool {
    let refusals = [
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
    ];
    error.code().is_some_and(|code| refusals.contains(code))
}
