//! What a program's plain SQL has done to a counter or a set, where other databases merge with this one: as a difference, so that
//! what is done elsewhere meanwhile adds to it.
//!
//! The trigger says in a table what such a column was and is. Views of the engine's make the row's new metadata of it: an older
//! SQLite could not parse all that in one statement, nor open a file whose triggers it cannot parse. Nothing here may raise an
//! error.

use merge::ColumnMerge;

use super::super::projection;
use super::super::table::Field;
use crate::quote::literal;

/// The greatest number whose differences are told: beyond it a double's last digits are no longer its own.
const NUMBER_MAX: i64 = 1 << 53;

/// The condition that a change of the entity is told.
pub(super) fn is_told(entity: &str) -> String {
    format!("EXISTS (SELECT 1 FROM _rhtmx_sync_marking WHERE entity = {entity})")
}

/// Tells what a counter or a set was and is, if other databases merge with this one, it has changed, and it is a number, or an
/// array. `row` is a query of the row's `entity_id`, `sources` stand in for dropped columns, and `is_stamped` is the condition
/// that the engine has stamped the column.
pub(super) fn tell(
    (entity, row, sources): (&str, &str, &[String]),
    (field, merge): (&Field, ColumnMerge),
    is_stamped: &str,
) -> String {
    let (was, is) = (field.of("OLD"), field.of("NEW"));
    let (kind, was, fits) = match merge {
        ColumnMerge::Counter => (
            "counter",
            was.clone(),
            format!("{} AND {}", is_number(&was), is_number(&is)),
        ),
        _ => (
            "set",
            format!("CASE WHEN {} THEN {was} ELSE '[]' END", is_array(&was)),
            is_array(&is),
        ),
    };
    let sources: String = sources.iter().map(|source| format!(", {source}")).collect();
    format!(
        "INSERT INTO _rhtmx_sync_marking (entity, entity_id, field, kind, was, becomes) \
         SELECT {entity}, entity_id, {}, '{kind}', (SELECT {was}), (SELECT {is}) FROM ({row}) AS k{sources} \
         WHERE EXISTS (SELECT 1 FROM _rhtmx_sync_peer) AND entity_id IS NOT NULL AND (SELECT {}) AND (SELECT {fits}) \
         AND NOT {is_stamped};",
        literal(&field.name),
        projection::is_changed(field)
    )
}

/// The text of the object `fields` of an entry, with what was told.
const FIELDS: &str = "(SELECT '{' || group_concat(c.member, ',') || '}' FROM _rhtmx_sync_marking_members AS c \
    WHERE c.entity = _rhtmx_sync_field.entity AND c.entity_id = _rhtmx_sync_field.entity_id)";

/// Takes the entry's metadata with what was told, and forgets that.
pub(super) fn take(entity: &str, at: &str) -> String {
    format!(
        "UPDATE _rhtmx_sync_field SET metadata = json_set(CASE WHEN json_valid(metadata) THEN metadata ELSE '{{}}' END, \
         '$.fields', json(coalesce({FIELDS}, '{{}}'))) {at} AND {}; DELETE FROM _rhtmx_sync_marking WHERE entity = {entity};",
        is_told(entity)
    )
}

fn is_number(value: &str) -> String {
    let fits = format!("{value} BETWEEN -{NUMBER_MAX} AND {NUMBER_MAX}");
    format!(
        "CASE typeof({value}) WHEN 'null' THEN 1 WHEN 'integer' THEN {fits} WHEN 'real' THEN {fits} ELSE 0 END"
    )
}

/// What is no text is no JSON to older libraries, and may be to newer ones.
fn is_array(value: &str) -> String {
    format!(
        "CASE WHEN typeof({value}) <> 'text' THEN 0 WHEN json_valid({value}) THEN json_type({value}) = 'array' ELSE 0 END"
    )
}
