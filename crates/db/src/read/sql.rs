//! The statements that read the log and tables. What differs between the backends is in their dialects.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sync_core::shape::Selection;

use crate::entity::{Entity, RowsSql};
use crate::quote::literal;

/// What differs between the backends in the statements below.
pub(crate) struct Dialect {
    /// One row: `position`, `floor`.
    pub(crate) start: &'static str,
    /// A JSON object of the fingerprints of entities `e`.
    pub(crate) fingerprints: &'static str,
    /// The entries that are new, with `commit_id`.
    pub(crate) new_entries: &'static str,
    /// The columns, as JSON, whose previous values are wanted of the entity of the entry `n`; null where
    /// none are.
    pub(crate) wanted: &'static str,
    /// The entry `w` as a JSON array of its id, its transaction (or null), its action and its `old`, in
    /// which values that are not `wanted` are 0.
    pub(crate) undo_record: &'static str,
}

/// What undoes the entries of one row may be this long, in bytes; beyond it the row's past is unknown.
const UNDO_BYTES_MAX: usize = 1024 * 1024;

/// One statement, so one snapshot: where the database is, and for each row that the new entries
/// name the newest of them with the row as it is. Without entries it gives one line with nulls.
///
/// The row is a scalar subquery by key, which leaves the planner no choice but the key's index.
/// Entries before a schema_change are not looked up: their keys may be of another type.
///
/// With `undo` it also gives, for entities whose previous values somebody wants, what undoes a row's
/// entries.
pub(crate) fn changes_sql(
    dialect: &Dialect,
    entities: &BTreeMap<String, Arc<Entity>>,
    undo: bool,
    checked: bool,
) -> String {
    let fingerprints = match checked {
        true => fingerprints_sql(dialect, entities.keys()),
        false => "CAST(NULL AS TEXT)".to_owned(),
    };
    let mut rows = String::new();
    let (missing, here): (Vec<_>, Vec<_>) =
        entities.iter().partition(|(_, entity)| entity.is_missing());
    let missing: Vec<String> = missing.into_iter().map(|(name, _)| literal(name)).collect();
    let unless_missing = match missing.is_empty() {
        true => String::new(),
        false => format!(
            "AND (entity_id IS NULL OR entity NOT IN ({})) ",
            missing.join(", ")
        ),
    };
    for (name, entity) in here {
        write!(rows, " WHEN {} THEN {}", literal(name), entity.row_by_key)
            .expect("writing to a string");
    }
    let row = match rows.is_empty() {
        true => "CAST(NULL AS TEXT)".to_owned(),
        false => format!(
            "CASE WHEN entity_id IS NULL OR id < coalesce(schema_changed_at, 0) THEN NULL ELSE CASE entity{rows} END END"
        ),
    };
    format!(
        "SELECT s.position, s.floor, {fingerprints} AS fingerprints, l.* FROM ({start}) s LEFT JOIN ( \
         SELECT id, commit_id, entity, entity_id AS key, action, created, deleted, truncated_at, client_id, mutation, \
         {row} AS row, {undo} AS undo FROM ( \
         SELECT n.*, row_number() OVER (PARTITION BY entity, entity_id, \
           CASE WHEN entity_id IS NULL THEN action END ORDER BY id DESC) AS rank, \
         sum(CASE action WHEN 'create' THEN 1 ELSE 0 END) OVER (PARTITION BY entity, entity_id) AS created, \
         sum(CASE action WHEN 'delete' THEN 1 ELSE 0 END) OVER (PARTITION BY entity, entity_id) AS deleted, \
         max(CASE WHEN action = 'truncate' THEN id END) OVER (PARTITION BY entity) AS truncated_at, \
         max(CASE WHEN action = 'schema_change' THEN id END) OVER (PARTITION BY entity) AS schema_changed_at{records} \
         FROM ({news}) n) ranked WHERE rank = 1 {unless_missing}) l ON true ORDER BY l.id",
        start = dialect.start,
        news = new_entries_sql(dialect, undo),
        undo = match undo {
            true => "'[' || undo_records || ']'".to_owned(),
            false => "CAST(NULL AS TEXT)".to_owned(),
        },
        // One pass: the whole of a partition gives the same for each of its rows.
        records = match undo {
            true => format!(
                ", string_agg(undo_record, ',') FILTER (WHERE undo_bytes <= {UNDO_BYTES_MAX}) \
                 OVER (PARTITION BY entity, entity_id ORDER BY id DESC \
                 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS undo_records"
            ),
            false => String::new(),
        },
    )
}

/// The entries that are new; with `undo` each has its undo record where that is wanted, and how long those
/// of its row are together.
pub(crate) fn new_entries_sql(dialect: &Dialect, undo: bool) -> String {
    if !undo {
        return dialect.new_entries.to_owned();
    }
    format!(
        "SELECT s.*, sum(length(undo_record)) OVER (PARTITION BY entity, entity_id) AS undo_bytes FROM ( \
         SELECT w.*, CASE WHEN wanted IS NOT NULL AND entity_id IS NOT NULL THEN {record} END AS undo_record FROM ( \
         SELECT n.*, {wanted} AS wanted FROM ({news}) n) w) s",
        record = dialect.undo_record,
        wanted = dialect.wanted,
        news = dialect.new_entries,
    )
}

/// What tables these entities have at the snapshot.
fn fingerprints_sql<'a>(dialect: &Dialect, names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(name)).collect();
    format!(
        "(SELECT {} FROM _rhtmx_sync_entity e WHERE e.entity IN ({}))",
        dialect.fingerprints,
        names.join(", ")
    )
}

/// What comes before and behind a query of `key` and `row`, so that its lines are [`super::collect::RowLine`]s.
pub(crate) fn around_rows(dialect: &Dialect, entity: &Entity) -> (String, &'static str) {
    let before = format!(
        "SELECT position, floor, {} AS fingerprints, CAST(NULL AS TEXT) AS key, CAST(NULL AS TEXT) AS row \
         FROM ({}) s UNION ALL SELECT NULL, NULL, NULL, key, row FROM (",
        fingerprints_sql(dialect, [&entity.schema.entity]),
        dialect.start
    );
    (before, ") all_rows")
}

/// A query of `key` and `row`, up to the predicate that `selection` asks for, which has to follow.
pub(crate) fn rows_before_where(
    rows: &RowsSql,
    selection: Option<&Selection>,
    object_of: impl Fn(Vec<String>) -> String,
) -> String {
    match rows {
        RowsSql::Query(query) => query.clone(),
        RowsSql::Table {
            key,
            row,
            columns,
            from,
        } => {
            let wanted = selection.and_then(Selection::columns).map(|wanted| {
                let columns = wanted.iter().map(|&index| columns[index].clone());
                object_of(columns.collect())
            });
            let row = wanted.unwrap_or_else(|| row.clone());
            format!("SELECT {key} AS key, {row} AS row FROM {from}")
        }
    }
}
