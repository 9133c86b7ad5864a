//! The keys of the rows that a role sees.

use std::collections::BTreeSet;

use value::schema::ColumnKind;

use crate::entity::{Entity, RowsSql};
use crate::quote::{array, ident, portable_literal};

/// The statement for the canonical keys of the rows that a role sees. `among` are the keys of the only ones that matter; it may
/// return others, too.
pub(in crate::postgres) fn visible_sql(
    entity: &Entity,
    among: Option<&BTreeSet<String>>,
) -> Option<String> {
    let RowsSql::Table { key, from, .. } = &entity.rows else {
        return None;
    };
    let among = among.and_then(|keys| has_key(entity, keys));
    Some(format!(
        "SELECT coalesce(pg_catalog.json_agg(v.key), '[]'::pg_catalog.json)::pg_catalog.text \
         FROM (SELECT {key} AS key FROM {from} WHERE {} LIMIT {}) v",
        among.as_deref().unwrap_or("true"),
        rls::Question::KEYS_MAX + 1
    ))
}

/// That a row has one of these keys, by an operator that leaks nothing: so it comes before the policies, and by an index.
/// None for other types, and for keys of several columns.
fn has_key(entity: &Entity, keys: &BTreeSet<String>) -> Option<String> {
    let [column] = entity.schema.key_columns().collect::<Vec<_>>()[..] else {
        return None;
    };
    let type_name = match (&column.kind, column.type_name.as_str()) {
        (ColumnKind::Int { .. }, name @ ("int2" | "int4" | "int8")) => name,
        (ColumnKind::Uuid, "uuid") => "uuid",
        (ColumnKind::Text { .. }, "text" | "varchar") => "text",
        _ => return None,
    };
    Some(format!(
        "t.{} OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.{type_name}[])",
        ident(&column.name),
        portable_literal(&array(keys.iter()))
    ))
}
