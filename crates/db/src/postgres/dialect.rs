//! What the statements that read the log and tables are made of on PostgreSQL.

use std::borrow::Cow;

use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_query;
use diesel::sql_types::Text;

use super::incarnation::is_current;
use super::store::in_schema;
use crate::read::sql::Dialect;

/// `$1` is the snapshot's xmax, `$2` its running transactions: two ranges of the one index on `xid`. `$3` is
/// the entities. `$4` is the old-value columns of each entity, and is used only if there are any.
pub(crate) const DIALECT: Dialect = Dialect {
    // Between a crash and the new epoch no cursor can be resumed, so the floor is the present.
    start: Cow::Borrowed(concat!(
        "SELECT pg_current_snapshot()::text AS position, (SELECT CASE WHEN ",
        is_current!(),
        " THEN floor ELSE pg_current_snapshot()::text END FROM _rhtmx_sync_meta) AS floor",
    )),
    entity_table: Cow::Borrowed("_rhtmx_sync_entity"),
    fingerprints: "json_object_agg(e.entity, e.fingerprint)::text",
    new_entries: Cow::Borrowed(
        "SELECT id, xid::text::bigint AS commit_id, entity, entity_id, action, old, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE xid >= $1::text::xid8 AND entity = ANY ($3::text::text[]) \
           UNION ALL \
           SELECT id, xid::text::bigint, entity, entity_id, action, old, data, client_id, mutation \
           FROM _rhtmx_sync_log WHERE xid = ANY ($2::text::xid8[]) AND entity = ANY ($3::text::text[])",
    ),
    order: "CASE WHEN l.row IS NOT NULL AND l.truncated_at > l.id THEN l.truncated_at ELSE l.id END, \
        l.key IS NOT NULL, l.id",
    field_table: Cow::Borrowed("_rhtmx_sync_field"),
    as_text: "::text",
    metadata_with_newest: "(f.metadata || jsonb_build_object('newest', f.newest))",
    conflict_table: Cow::Borrowed("_rhtmx_field_conflict"),
    born: "f.metadata ->> 'born'",
    with_lost,
    key_collation: " COLLATE \"C\"",
    wanted: "($4::text::jsonb -> n.entity)",
    undo_record: "json_build_array(w.id, w.commit_id, w.action, CASE WHEN w.old IS NOT NULL THEN coalesce( \
           (SELECT jsonb_object_agg(o.key, CASE WHEN w.wanted ? o.key THEN o.value ELSE '0'::jsonb END) \
           FROM jsonb_each(w.old) o), '{}'::jsonb) END)::text",
};

fn with_lost(metadata: &str, lost: &str) -> String {
    format!(
        "(coalesce(({metadata}), '{{}}'::jsonb) || coalesce((SELECT jsonb_build_object('lost', jsonb_object_agg(g.field, g.lost)) \
         FROM (SELECT l.field, jsonb_agg(jsonb_build_object('value', l.value, 'hlc', l.hlc) ORDER BY l.hlc) AS lost FROM ({lost}) l \
         GROUP BY l.field) g HAVING count(*) > 0), '{{}}'::jsonb))::text"
    )
}

/// The dialect for a log in this schema.
pub(crate) fn dialect(log_schema: &str) -> Dialect {
    Dialect {
        start: in_schema(&DIALECT.start, log_schema).into(),
        entity_table: in_schema(&DIALECT.entity_table, log_schema).into(),
        field_table: in_schema(&DIALECT.field_table, log_schema).into(),
        conflict_table: in_schema(&DIALECT.conflict_table, log_schema).into(),
        new_entries: in_schema(&DIALECT.new_entries, log_schema).into(),
        ..DIALECT
    }
}

/// A statement whose parameters are all texts.
pub(crate) fn bound<'a>(sql: &str, parameters: &'a [String]) -> BoxedSqlQuery<'a, Pg, SqlQuery> {
    let query = sql_query(sql).into_boxed();
    parameters
        .iter()
        .fold(query, |query, parameter| query.bind::<Text, _>(parameter))
}
