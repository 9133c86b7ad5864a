//! What the catalog says of policies and of what they name.

use rls::{Draft, Guard, GuardDraft, Plan, Source, Sources, TableFacts};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::{DbError, DbResult};
use crate::postgres::connect::failed;

const CONTEXT: &str = "reading policies";

/// The facts of the table `$1` and the roles `$2`. The search path is PostgreSQL's own schema alone, so `pg_get_expr` writes
/// every other name with its schema, and the text means the same under any search path.
const FACTS: &str = "\
SELECT json_build_object( \
 'oid', c.oid::int8, 'name', c.relname, 'relation', format('%I.%I', n.nspname, c.relname), \
 'enabled', c.relrowsecurity, 'forced', c.relforcerowsecurity, \
 'policies', (SELECT coalesce(json_agg(json_build_object('name', p.polname, 'permissive', p.polpermissive, \
   'command', p.polcmd, 'roles', p.polroles::oid[]::int8[], 'using', pg_get_expr(p.polqual, p.polrelid), \
   'check', pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname), '[]') \
   FROM pg_policy p WHERE p.polrelid = c.oid), \
 'columns', (SELECT coalesce(json_agg(json_build_object('name', a.attname) ORDER BY a.attnum), '[]') \
   FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
 'roles', (SELECT coalesce(json_agg(json_build_object('name', r.rolname, 'oid', r.oid::int8, \
   'bypasses', r.rolsuper OR r.rolbypassrls, 'owns', pg_has_role(r.oid, c.relowner, 'USAGE'), \
   'has_rights_of', (SELECT json_agg(o.oid::int8) FROM pg_roles o WHERE pg_has_role(r.oid, o.oid, 'USAGE')), \
   'enters_schema', has_schema_privilege(r.oid, n.oid, 'USAGE'), \
   'readable', (SELECT coalesce(json_agg(a.attname), '[]') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
     AND NOT a.attisdropped AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')), \
   'may_be_set', pg_has_role(current_user, r.oid, 'MEMBER')) ORDER BY r.rolname), '[]') \
   FROM pg_roles r WHERE CASE WHEN cardinality($2) > 0 THEN r.rolname = ANY ($2) \
   ELSE NOT r.rolsuper AND r.rolname !~ '^pg_' AND r.rolname <> current_user \
   AND pg_has_role(current_user, r.oid, 'MEMBER') AND has_any_column_privilege(r.oid, c.oid, 'SELECT') END) \
)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.oid = to_regclass($1)";

/// Functions, views, and tables with the policies that count when they are read.
const SOURCES: &str = "\
SELECT coalesce(json_agg(json_build_object('kind', s.kind, 'oid', s.oid::int8, 'schema', s.schema, 'name', s.name, \
 'text', coalesce(s.text, ''), 'is_volatile', s.volatility = 'v', 'is_immutable', s.volatility = 'i', \
 'is_opaque', s.is_opaque, 'is_unnamed', s.is_unnamed, 'children', s.children)), '[]')::text FROM ( \
SELECT 'function' AS kind, f.oid, n.nspname AS schema, f.proname AS name, \
 coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS text, f.provolatile::text AS volatility, \
 l.lanname NOT IN ('sql', 'plpgsql') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass \
 AND d.objid = f.oid AND d.deptype = 'e') AS is_opaque, \
 EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid AND (d.classid IN \
 ('pg_operator'::regclass, 'pg_cast'::regclass, 'pg_type'::regclass, 'pg_amproc'::regclass, 'pg_transform'::regclass) \
 OR d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.contypid <> 0) \
 OR d.classid = 'pg_proc'::regclass AND EXISTS (SELECT FROM pg_aggregate a WHERE a.aggfnoid = d.objid))) AS is_unnamed, \
 '[]'::json AS children \
FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang \
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND f.prokind IN ('f', 'w') \
AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) \
UNION ALL \
SELECT 'relation', c.oid, n.nspname, c.relname, \
 CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) WHEN c.relkind IN ('r', 'p') THEN \
 (SELECT string_agg(pg_get_expr(p.polqual, p.polrelid), ' ; ') FROM pg_policy p \
 WHERE p.polrelid = c.oid AND p.polcmd IN ('*', 'r')) END, 's', false, false, \
 (SELECT coalesce(json_agg(i.inhrelid::int8), '[]') FROM pg_inherits i WHERE i.inhparent = c.oid) \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')) s";

/// What the catalog says of a table, as a quoted name, and of roles; none when there is no such table. Without names, the
/// roles are those that the engine's may become and that may read the table, but superusers.
pub(in crate::postgres) async fn facts(
    client: &Client,
    relation: &str,
    roles: &[String],
) -> DbResult<Option<TableFacts>> {
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&relation, Type::TEXT), (&roles, Type::TEXT_ARRAY)];
    let rows = client.query_typed(FACTS, &params).await;
    let rows = rows.map_err(|error| failed(CONTEXT, &error))?;
    rows.first().map(read).transpose()
}

/// What policies may name.
pub(in crate::postgres) async fn sources(client: &Client) -> DbResult<Sources> {
    let rows = client.query_typed(SOURCES, &[]).await;
    let rows = rows.map_err(|error| failed(CONTEXT, &error))?;
    let sources: Vec<Source> = rows.first().map(read).transpose()?.unwrap_or_default();
    Ok(Sources::new(sources))
}

/// The plan of a draft.
pub(in crate::postgres) async fn plan(client: &Client, draft: Draft<'_>) -> DbResult<Plan> {
    let mut types = Vec::new();
    for probe in draft.probes() {
        types.push(type_name(client, &probe).await?);
    }
    Ok(draft.finish(&types))
}

/// The guards of a draft.
pub(in crate::postgres) async fn guards(
    client: &Client,
    draft: GuardDraft,
) -> DbResult<Option<Vec<Guard>>> {
    let mut types = Vec::new();
    for probe in draft.probes() {
        types.push(type_name(client, &probe).await?);
    }
    Ok(draft.finish(&types))
}

/// The answer to a probe; none when PostgreSQL refuses the statement.
async fn type_name(client: &Client, probe: &str) -> DbResult<Option<String>> {
    let fails = |error: &tokio_postgres::Error| failed(CONTEXT, error);
    client
        .batch_execute("SAVEPOINT probe")
        .await
        .map_err(|error| fails(&error))?;
    let found = match client.query_typed(probe, &[]).await {
        Ok(rows) => rows.first().and_then(|row| row.try_get(0).ok()),
        Err(error) if error.as_db_error().is_some() => None,
        Err(error) => return Err(fails(&error)),
    };
    let ended = client
        .batch_execute("ROLLBACK TO SAVEPOINT probe; RELEASE SAVEPOINT probe")
        .await;
    ended.map_err(|error| fails(&error))?;
    Ok(found)
}

pub(in crate::postgres) fn read<T: serde::de::DeserializeOwned>(
    row: &tokio_postgres::Row,
) -> DbResult<T> {
    let bad = |error: String| DbError::Statement {
        context: CONTEXT,
        message: error,
    };
    let text: &str = row.try_get(0).map_err(|error| bad(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| bad(error.to_string()))
}
