//! Questions as SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use filter::{Condition, Window};
use sync_core::membership::Question;

use super::dialect::dialect;
use super::filter::Predicates;
use super::projection;
use super::read::guarded_row;
use super::rls::group::Asked;
use super::store::in_schema;
use crate::entity::{Entity, RowsSql};
use crate::health::Health;
use crate::read::{inquiry, sql};
use crate::sets;

/// A statement for the fingerprints of the entities `$1`.
pub(super) fn fingerprints_sql(log_schema: &str) -> String {
    in_schema(
        "SELECT coalesce(json_object_agg(e.entity, e.fingerprint), '{}')::text AS fingerprints \
         FROM _rhtmx_sync_entity e WHERE e.entity = ANY ($1::text::text[])",
        log_schema,
    )
}

/// The statement that answers a question about rows of this entity, in lines of `key`, `row` and `count`, and its
/// parameters.
pub(super) fn question_sql(
    question: &Question,
    entity: &Entity,
    entities: &BTreeMap<String, Arc<Entity>>,
    asked: &Asked,
    (log_schema, health): (&str, &Health),
) -> (String, Vec<String>) {
    let condition = match question {
        Question::Set(set) | Question::Window { set, .. } => sets::condition(set.rows()),
        Question::Rows { filter, .. } | Question::Fields { filter, .. } => {
            filter.condition().clone()
        }
        // It has a statement of its own.
        Question::Group(_) => Condition::Constant(Some(false)),
    };
    let predicates = Predicates::new(entity, entities).with_asked(asked);
    let predicate = predicates.write(&condition);
    let RowsSql::Table {
        key,
        row,
        columns,
        from,
    } = &entity.rows
    else {
        unreachable!("the rows of an entity with a table are in a table")
    };
    let condition = &predicate.sql;
    let sql = match question {
        Question::Set(set) if set.rows().columns.is_empty() => format!(
            "SELECT NULL::text AS key, '{{}}' AS row, count(*) AS count, NULL::text AS metadata FROM {from} WHERE {condition} \
             HAVING count(*) > 0"
        ),
        Question::Set(set) => {
            let chosen = || set.rows().columns.iter().copied();
            let of_schema: Vec<_> = chosen()
                .map(|column| entity.schema.columns[column].clone())
                .collect();
            // A column may be in the set more than once.
            let unique: BTreeSet<usize> = chosen().collect();
            let parts: Vec<&str> = unique.iter().map(|it| columns[*it].as_str()).collect();
            let groups: Vec<String> = unique
                .iter()
                .map(|it| {
                    let name = &entity.schema.columns[*it].name;
                    format!("t.{}", crate::quote::ident(name))
                })
                .collect();
            format!(
                "SELECT NULL::text AS key, {} AS row, count(*) AS count, NULL::text AS metadata FROM {from} WHERE {condition} GROUP BY {}",
                projection::row_of(&of_schema, &parts.join(", ")),
                groups.join(", ")
            )
        }
        Question::Window { set, .. } => {
            let window = set.rows().window.iter();
            let unique: BTreeSet<usize> = window.flat_map(Window::columns).collect();
            let of_schema = unique.iter().map(|it| entity.schema.columns[*it].clone());
            let parts: Vec<&str> = unique.iter().map(|it| columns[*it].as_str()).collect();
            format!(
                "SELECT {key} AS key, {} AS row, NULL::bigint AS count, NULL::text AS metadata \
                 FROM {from} WHERE {condition}",
                projection::row_of(&of_schema.collect::<Vec<_>>(), &parts.join(", "))
            )
        }
        Question::Rows { .. } | Question::Fields { .. } | Question::Group(_) => {
            let is_asked = matches!(question, Question::Fields { .. });
            let metadata = sql::metadata_of_rows(&dialect(log_schema), entity, key, is_asked);
            let row = match health.is_guarded(&entity.schema.entity) {
                true => guarded_row(log_schema, entity, key),
                false => row.clone(),
            };
            format!(
                "SELECT {key} AS key, {row} AS row, NULL::bigint AS count, {metadata} AS metadata \
                 FROM {from} WHERE {condition}"
            )
        }
    };
    (sql + &inquiry::end(question, entity), predicate.params)
}
