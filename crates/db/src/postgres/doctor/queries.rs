//! The questions. Each is an expression whose value is JSON.

use crate::postgres::capture;
use crate::postgres::incarnation::PRODUCT;
use crate::quote::literal;

/// The role, asked on its own search path.
pub(super) const ROLE: &str = "\
SELECT pg_catalog.json_build_object('name', pg_catalog.quote_ident(current_user), \
'is_superuser', pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on', \
'schema', pg_catalog.quote_ident(pg_catalog.current_schema()), \
'may_create', coalesce(pg_catalog.has_schema_privilege(pg_catalog.current_schema(), 'CREATE'), false), \
'log_schema', pg_catalog.quote_ident(n.nspname), 'log_owner', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)), \
'owns_log', coalesce(pg_catalog.pg_has_role(c.relowner, 'USAGE'), false), \
'functions_of_others', coalesce((SELECT pg_catalog.json_agg(pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid))) \
    FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) n.oid \
    AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_rhtmx_sync_') \
    AND NOT pg_catalog.pg_has_role(p.proowner, 'USAGE')), '[]'), \
'language', pg_catalog.current_setting('lc_messages'), \
'transaction_timeout_ms', coalesce((SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings \
    WHERE name OPERATOR(pg_catalog.=) 'transaction_timeout'), 0), \
'sees_sessions', pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')) \
FROM (SELECT) one \
LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('_rhtmx_sync_log')::pg_catalog.oid \
LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace";

pub(super) const CLOCK: &str =
    "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::pg_catalog.float8";

pub(super) const SERVER: &str = "\
SELECT json_build_object('version', current_setting('server_version'), \
'version_number', current_setting('server_version_num')::int, 'is_standby', pg_is_in_recovery(), \
'is_read_only', current_setting('default_transaction_read_only')::bool, \
'connections_max', current_setting('max_connections')::int, \
'connections_reserved', current_setting('superuser_reserved_connections')::int \
    + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0), \
'connections_of_others', (SELECT count(*) FROM pg_stat_activity \
    WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND usename <> current_user), \
'database', quote_ident(d.datname), 'database_connections_max', d.datconnlimit, 'role_connections_max', r.rolconnlimit) \
FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user";

pub(super) const TRANSACTIONS: &str = "\
SELECT coalesce(json_agg(o), '[]') FROM (SELECT * FROM ( \
    SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s, pid, NULL AS gid, \
        quote_ident(usename) AS role, application_name AS program \
    FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid() \
        AND backend_type = 'client backend' \
    UNION ALL SELECT extract(epoch FROM clock_timestamp() - prepared)::float8, NULL, gid, quote_ident(owner), NULL \
    FROM pg_prepared_xacts WHERE database = current_database()) a ORDER BY age_s DESC LIMIT 5) o";

/// What tells the product.
pub(super) fn product() -> String {
    format!("SELECT row_to_json(p) FROM ({PRODUCT}) p")
}

/// The oid of a table by its name, on the role's search path. A name may contain a dot.
pub(super) fn find(table: &str) -> String {
    let table = literal(table);
    format!(
        "SELECT c.oid::pg_catalog.int8 FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p,v,m,f}}') \
         AND (c.relname::pg_catalog.text OPERATOR(pg_catalog.=) {table} AND pg_catalog.pg_table_is_visible(c.oid) \
             OR pg_catalog.concat(n.nspname, '.', c.relname) OPERATOR(pg_catalog.=) {table}) \
         ORDER BY c.relname::pg_catalog.text OPERATOR(pg_catalog.=) {table} DESC LIMIT 1"
    )
}

/// Where tables of this name are, for one that was not found.
pub(super) fn elsewhere(table: &str) -> String {
    let name = table.rsplit_once('.').map_or(table, |(_, name)| name);
    format!(
        "SELECT json_build_object('elsewhere', coalesce(json_agg(concat(n.nspname, '.', c.relname) ORDER BY n.nspname), '[]')) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname::text = {} AND c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' \
         AND n.nspname NOT LIKE 'pg\\_%'",
        literal(name)
    )
}

/// A table, with the capture of an entity; without a schema of the engine's own there is none.
pub(super) fn table(oid: i64, entity: &str, log_schema: Option<&str>) -> String {
    let function = literal(&capture::function_name(entity));
    let (wanted, capture) = match log_schema {
        Some(schema) => (
            format!(
                "(SELECT wanted FROM {schema}._rhtmx_sync_entity WHERE entity = {})",
                literal(entity)
            ),
            format!(
                "p.proname = {function} AND p.pronamespace = {}::regnamespace",
                literal(schema)
            ),
        ),
        None => ("NULL".to_owned(), "false".to_owned()),
    };
    let members = format!(
        "WITH RECURSIVE down(oid) AS (SELECT {oid}::oid UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.oid \
                JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition), \
            up(oid) AS (SELECT {oid}::oid UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid \
                JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition) \
         SELECT json_agg(json_build_object('name', concat(quote_ident(n.nspname), '.', quote_ident(c.relname)), \
            'may_trigger', has_table_privilege(c.oid, 'TRIGGER'), 'triggers', g.enabled, 'disabled', g.disabled) ORDER BY c.relname) \
         FROM (SELECT oid FROM down UNION SELECT oid FROM up) m JOIN pg_class c ON c.oid = m.oid AND c.relkind IN ('r', 'p') \
         JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL ( \
            SELECT count(*) FILTER (WHERE g.tgenabled IN ('O', 'A')) AS enabled, \
                coalesce(json_agg(quote_ident(g.tgname)) FILTER (WHERE g.tgenabled IN ('D', 'R')), '[]') AS disabled \
            FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid WHERE g.tgrelid = c.oid AND {capture}) g"
    );
    let related = |this: &str, other: &str, child: &str| {
        format!(
            "(SELECT coalesce(json_agg(concat(quote_ident(rn.nspname), '.', quote_ident(r.relname))), '[]') \
             FROM pg_inherits i JOIN pg_class r ON r.oid = i.{other} JOIN pg_namespace rn ON rn.oid = r.relnamespace \
             JOIN pg_class k ON k.oid = i.{child} WHERE i.{this} = {oid} AND NOT k.relispartition)"
        )
    };
    let (heirs, parents) = (
        related("inhparent", "inhrelid", "inhrelid"),
        related("inhrelid", "inhparent", "inhrelid"),
    );
    format!(
        "SELECT json_build_object('name', concat(quote_ident(n.nspname), '.', quote_ident(c.relname)), 'kind', c.relkind, \
            'schema', quote_ident(n.nspname), 'owner', quote_ident(pg_get_userbyid(c.relowner)), \
            'may_use_schema', has_schema_privilege(n.oid, 'USAGE'), \
            'has_key', EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary), \
            'key_index', (SELECT quote_ident(x.relname) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
                WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL \
                AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid \
                    AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull) ORDER BY 1 LIMIT 1), \
            'has_id', EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'id' AND NOT attisdropped), \
            'lacks', (SELECT coalesce(json_agg(p), '[]') FROM unnest('{{SELECT,INSERT,UPDATE,DELETE}}'::text[]) p \
                WHERE NOT has_table_privilege(c.oid, p)), \
            'sequences', (SELECT coalesce(json_agg(s.oid::regclass::text), '[]') FROM pg_depend d JOIN pg_class s ON s.oid = d.objid \
                WHERE d.refobjid = c.oid AND d.deptype = 'a' AND d.classid = 'pg_class'::regclass \
                AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') END), \
            'members', ({members}), 'heirs', {heirs}, 'parents', {parents}, \
            'foreign', (WITH RECURSIVE below(oid) AS (SELECT c.oid UNION SELECT i.inhrelid FROM below \
                JOIN pg_inherits i ON i.inhparent = below.oid) \
                SELECT concat(quote_ident(fn.nspname), '.', quote_ident(f.relname)) FROM below JOIN pg_class f ON f.oid = below.oid \
                JOIN pg_namespace fn ON fn.oid = f.relnamespace WHERE f.relkind = 'f' ORDER BY 1 LIMIT 1), \
            'has_row_security', c.relrowsecurity, 'is_row_security_active', row_security_active(c.oid), \
            'row_policies', (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid AND polpermissive AND polcmd IN ('r', '*') \
                AND EXISTS (SELECT FROM unnest(polroles) r WHERE r = 0 OR pg_has_role(r, 'USAGE'))), \
            'shows_every_row', (SELECT coalesce(bool_or(polpermissive AND pg_get_expr(polqual, polrelid) = 'true') AND bool_and(polpermissive), \
                false) FROM pg_policy WHERE polrelid = c.oid AND polcmd IN ('r', '*') \
                AND EXISTS (SELECT FROM unnest(polroles) r WHERE r = 0 OR pg_has_role(r, 'USAGE'))), \
            'is_wanted', {wanted}) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}"
    )
}

/// The log in this schema, which is quoted.
pub(super) fn log(schema: &str) -> String {
    let log = literal(&format!("{schema}._rhtmx_sync_log"));
    format!(
        "SELECT json_build_object('bytes', pg_total_relation_size(c.oid), \
            'reaches_back_s', (SELECT extract(epoch FROM now() - min(made_at))::float8 FROM {schema}._rhtmx_sync_checkpoint), \
            'checkpoint_s', (SELECT extract(epoch FROM now() - max(made_at))::float8 FROM {schema}._rhtmx_sync_checkpoint), \
            'is_vacuumed_never_here', o.is_off, 'is_vacuumed_never', o.is_off OR NOT current_setting('autovacuum')::bool) \
         FROM pg_class c CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_options_to_table(c.reloptions) \
            WHERE option_name = 'autovacuum_enabled' AND NOT option_value::bool) AS is_off) o \
         WHERE c.oid = {log}::regclass"
    )
}
