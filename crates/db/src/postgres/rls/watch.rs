//! What answers depend on beside rows: which tables are captured, and whether the catalog has changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sync_core::membership::Relations;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::catalog::read;
use crate::error::DbResult;
use crate::postgres::connect::failed;

const CONTEXT: &str = "looking at what policies depend on";

/// The tables of the entities in `$1` with their partitions, and what holds no rows of its own or is the engine's.
const RELATIONS: &str = r"
WITH RECURSIVE captured(entity, oid) AS (
 SELECT e.key, to_regclass(e.value)::oid FROM json_each_text($1::text::json) e
 UNION SELECT p.entity, i.inhrelid FROM captured p JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition)
SELECT json_build_object(
 'entities', (SELECT coalesce(json_agg(json_build_array(oid::int8, entity)), '[]') FROM captured WHERE oid IS NOT NULL),
 'ignored', (SELECT coalesce(json_agg(c.oid::int8), '[]') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid >= 16384 AND (c.relkind IN ('v', 'i', 'I', 'S', 't', 'c') OR n.nspname = 'pg_toast'
  OR c.relname LIKE '\_rhtmx\_sync\_%' OR c.relname = '_rhtmx_field_conflict')))::text";

/// Row versions are as good as texts: whatever is altered is written again.
const VERSION: &str = r"
WITH of_users AS (SELECT oid, nspacl FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
facts(fact) AS (
 SELECT concat_ws(':', 'policy', oid, xmin) FROM pg_policy
 UNION ALL SELECT concat_ws(':', 'schema', oid, nspacl::text) FROM of_users
 UNION ALL SELECT concat_ws(':', 'table', c.oid, c.relname, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text)
  FROM pg_class c JOIN of_users n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname NOT LIKE '\_rhtmx\_sync\_%' AND c.relname <> '_rhtmx_field_conflict'
  AND NOT (c.relispartition AND c.relacl IS NULL AND NOT c.relrowsecurity)
 UNION ALL SELECT concat_ws(':', 'column', attrelid, attnum, attacl::text) FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384
 UNION ALL SELECT concat_ws(':', 'view', w.oid, w.xmin) FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
  JOIN of_users n ON n.oid = c.relnamespace
 UNION ALL SELECT concat_ws(':', 'function', f.oid, f.xmin) FROM pg_proc f JOIN of_users n ON n.oid = f.pronamespace
  WHERE f.proname NOT LIKE '\_rhtmx\_sync\_%'
 UNION ALL SELECT concat_ws(':', 'setting', setdatabase, setrole, setconfig::text) FROM pg_db_role_setting
  WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))),
shared(fact) AS (
 SELECT concat_ws(':', 'role', oid, rolname, rolsuper, rolbypassrls, rolinherit) FROM pg_roles
 UNION ALL SELECT concat_ws(':', 'member', roleid, member, xmin) FROM pg_auth_members)
SELECT json_build_object('own', (SELECT md5(string_agg(fact, ',' ORDER BY fact)) FROM facts),
 'shared', (SELECT md5(string_agg(fact, ',' ORDER BY fact)) FROM shared),
 'relations', (SELECT concat(count(*), ':', max(oid)) FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'))::text";

/// What differs when something in the catalog has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct CatalogVersion {
    /// A policy, a function, a view, a right, a role's setting.
    pub own: String,
    /// A role, of which all databases of the server have the same.
    pub shared: String,
    /// A table or an index is new, or gone.
    pub relations: String,
}

#[derive(Deserialize)]
struct Found {
    entities: Vec<(u32, String)>,
    ignored: BTreeSet<u32>,
}

pub(in crate::postgres) async fn relations(client: &Client, entities: &str) -> DbResult<Relations> {
    let rows = client
        .query_typed(RELATIONS, &[(&entities, Type::TEXT)])
        .await;
    let rows = rows.map_err(|error| failed(CONTEXT, &error))?;
    let found: Option<Found> = rows.first().map(read).transpose()?;
    Ok(found.map_or_else(Relations::default, |found| Relations {
        entities: found.entities.into_iter().collect::<BTreeMap<_, _>>(),
        ignored: found.ignored,
    }))
}

pub(in crate::postgres) async fn version(client: &Client) -> DbResult<CatalogVersion> {
    let rows = client.query_typed(VERSION, &[]).await;
    let rows = rows.map_err(|error| failed(CONTEXT, &error))?;
    Ok(rows.first().map(read).transpose()?.unwrap_or_default())
}
