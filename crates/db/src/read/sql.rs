//! The statements that read the log and tables, generated in the backend's dialect.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use sync_core::log::ChangeKind;
use sync_core::shape::Selection;

use crate::entity::{Entity, RowsSql};
use crate::quote::literal;

/// The parts of the statements below that differ between the backends.
pub(crate) struct Dialect {
    /// A query of one row: `position`, `floor`.
    pub(crate) start: Cow<'static, str>,
    /// The table of the entities that are captured.
    pub(crate) entity_table: Cow<'static, str>,
    /// An aggregate of the entities `e`: a JSON object of their fingerprints.
    pub(crate) fingerprints: &'static str,
    /// A query of the new entries, with `commit_id`.
    pub(crate) new_entries: Cow<'static, str>,
    /// The old-value columns, as JSON, of the entity of the entry `n`; null when it has none.
    pub(crate) wanted: &'static str,
    /// The entry `w` as a JSON array of its id, its transaction (or null), its action and its `old`, in
    /// which values of columns that are not `wanted` are 0.
    pub(crate) undo_record: &'static str,
    /// The table of what is known of rows beside their values.
    pub(crate) field_table: Cow<'static, str>,
    /// What makes a text of metadata.
    pub(crate) as_text: &'static str,
    /// The metadata of its entry `f`, with `newest`: a clock that is later with each change of the row.
    pub(crate) metadata_with_newest: &'static str,
    /// The table of values that lost a conflict and are kept.
    pub(crate) conflict_table: Cow<'static, str>,
    /// When the row of the entry `f` was born, as text; null for one without a birth of its own.
    pub(crate) born: &'static str,
    /// The expression for the metadata that the first query returns, if it returns some, with the lost values of the second:
    /// lines of `field`, `hlc` and `value`.
    pub(crate) with_lost: fn(&str, &str) -> String,
    /// How a text is compared with the keys there.
    pub(crate) key_collation: &'static str,
    /// The order of the changes `l`: that of the log, but a row that exists though its newest entry comes before a
    /// truncate follows the truncate.
    pub(crate) order: &'static str,
}

impl Dialect {
    /// The same with the rows of some entities left out, which `condition` selects among the entries `w`: of
    /// all their entries one is left, which says that there were some.
    pub(crate) fn leaving_out(self, condition: &str) -> Self {
        let new_entries = format!(
            "SELECT id, commit_id, entity, CASE WHEN {condition} THEN NULL ELSE entity_id END AS entity_id, \
             CASE WHEN {condition} AND entity_id IS NOT NULL THEN '{unread}' ELSE action END AS action, \
             CASE WHEN {condition} THEN NULL ELSE old END AS old, data, client_id, mutation \
             FROM ({entries}) w",
            unread = ChangeKind::Unread.as_str(),
            entries = self.new_entries,
        );
        Self {
            new_entries: new_entries.into(),
            ..self
        }
    }
}

/// What a statement reads of which entities.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The expression for the row of each entity that is read, by the key `ranked.entity_id`.
    pub(crate) rows: BTreeMap<String, String>,
    /// Whether to return undo records.
    pub(crate) undo: bool,
    /// The entities of whose rows to return what is known beside their values, and what beside
    /// their metadata.
    pub(crate) metadata: BTreeMap<String, Told>,
    /// The entities whose fingerprints to return.
    pub(crate) checked: Vec<String>,
}

/// The maximum size of one row's undo records, in bytes; beyond it the row's past is unknown.
const UNDO_BYTES_MAX: usize = 1024 * 1024;

/// The statement that reads changes. It is one statement, so it has one snapshot: it returns the database's
/// position and floor and, for each row that new entries name, the newest entry with the row as it is now.
/// Without entries it returns one line, in which the entry's columns are null. Entities that are not among
/// `rows` must be [left out](Dialect::leaving_out).
///
/// The row is a scalar subquery by key, which leaves the planner no choice but the key's index. Rows of
/// entries before a schema change are not looked up: their keys may be of another type.
///
/// With `undo` it also returns the undo records of rows whose entity has old-value columns.
pub(crate) fn changes_sql(dialect: &Dialect, reading: &Reading) -> String {
    let undo = reading.undo;
    let fingerprints = if reading.checked.is_empty() {
        "CAST(NULL AS TEXT)".to_owned()
    } else {
        fingerprints_sql(dialect, &reading.checked)
    };
    let mut rows = String::new();
    for (name, row) in &reading.rows {
        write!(rows, " WHEN {} THEN {row}", literal(name))
            .expect("writing to a string cannot fail");
    }
    let row = if rows.is_empty() {
        "CAST(NULL AS TEXT)".to_owned()
    } else {
        format!(
            "CASE WHEN entity_id IS NULL OR id < coalesce(schema_changed_at, 0) THEN NULL ELSE CASE entity{rows} END END"
        )
    };
    format!(
        "SELECT s.position, s.floor, {fingerprints} AS fingerprints, l.* FROM ({start}) s LEFT JOIN ( \
         SELECT id, commit_id, entity, entity_id AS key, action, created, deleted, truncated_at, client_id, mutation, \
         {row} AS row, {undo} AS undo, {metadata} AS metadata FROM ( \
         SELECT n.*, row_number() OVER (PARTITION BY entity, entity_id, \
           CASE WHEN entity_id IS NULL THEN action END ORDER BY id DESC) AS rank, \
         sum(CASE action WHEN 'create' THEN 1 ELSE 0 END) OVER (PARTITION BY entity, entity_id) AS created, \
         sum(CASE action WHEN 'delete' THEN 1 ELSE 0 END) OVER (PARTITION BY entity, entity_id) AS deleted, \
         max(CASE WHEN action = 'truncate' THEN id END) OVER (PARTITION BY entity) AS truncated_at, \
         max(CASE WHEN action = 'schema_change' THEN id END) OVER (PARTITION BY entity) AS schema_changed_at{records} \
         FROM ({new_entries}) n) ranked WHERE rank = 1) l ON true \
         ORDER BY {order}",
        order = dialect.order,
        metadata = metadata_of_changes(dialect, reading),
        start = dialect.start,
        new_entries = new_entries_sql(dialect, undo),
        undo = if undo {
            "'[' || undo_records || ']'"
        } else {
            "CAST(NULL AS TEXT)"
        },
        // One pass: the frame is the whole partition, so the value is the same for each of its rows.
        records = if undo {
            format!(
                ", string_agg(undo_record, ',') FILTER (WHERE undo_bytes <= {UNDO_BYTES_MAX}) \
                 OVER (PARTITION BY entity, entity_id ORDER BY id DESC \
                 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS undo_records"
            )
        } else {
            String::new()
        },
    )
}

/// The expression for what is known of the row of the entry `ranked` beside its values.
fn metadata_of_changes(dialect: &Dialect, reading: &Reading) -> String {
    if reading.metadata.is_empty() {
        return "CAST(NULL AS TEXT)".to_owned();
    }
    let mut sql = "CASE".to_owned();
    let kinds: BTreeSet<Told> = reading.metadata.values().copied().collect();
    for told in kinds {
        let of_kind = reading.metadata.iter();
        let names = of_kind.filter(|(_, other)| **other == told);
        let names: Vec<String> = names.map(|(name, _)| literal(name)).collect();
        if names.is_empty() {
            continue;
        }
        let _ = write!(
            sql,
            " WHEN entity_id IS NOT NULL AND entity IN ({}) THEN {}",
            names.join(", "),
            metadata_sql(dialect, "ranked.entity", "ranked.entity_id", told)
        );
    }
    sql + " END"
}

/// What is told of an entity's rows beside their metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told {
    /// The values that lost a conflict and are kept.
    lost: bool,
    /// A clock that is later with each change of the row.
    newest: bool,
}

impl Told {
    fn of(entity: &Entity) -> Self {
        Self {
            lost: entity.keeps_both(),
            newest: entity.records,
        }
    }
}

/// Which of these entities' rows have metadata to return, and what beside it.
pub(crate) fn with_metadata(
    names: &BTreeSet<String>,
    entities: &BTreeMap<String, Arc<Entity>>,
) -> BTreeMap<String, Told> {
    let told = |name: &String| {
        let entity = entities.get(name);
        entity.map_or(
            Told {
                lost: false,
                newest: false,
            },
            |entity| Told::of(entity),
        )
    };
    let named = names.iter().map(|name| (name.clone(), told(name)));
    named.collect()
}

/// The expression for what is known of a row beside its values. A row that has no metadata has an empty object.
fn metadata_sql(dialect: &Dialect, entity: &str, key: &str, told: Told) -> String {
    let collation = dialect.key_collation;
    let of_row = |alias: &str| {
        format!("{alias}.entity = {entity} AND {alias}.entity_id = ({key}){collation}")
    };
    let (table, entry) = (&dialect.field_table, of_row("f"));
    let metadata = match told.newest {
        true => dialect.metadata_with_newest,
        false => "f.metadata",
    };
    if !told.lost {
        let as_text = dialect.as_text;
        return format!(
            "coalesce((SELECT {metadata}{as_text} FROM {table} f WHERE {entry}), '{{}}')"
        );
    }
    // Values that lost before the row was born belong to an earlier one of the same key.
    let lost = format!(
        "SELECT c.field, c.hlc, c.value FROM {} c LEFT JOIN {table} f ON {entry} WHERE {} AND c.resolved_at IS NULL \
         AND c.hlc > coalesce({}, '') ORDER BY c.field, c.hlc",
        dialect.conflict_table,
        of_row("c"),
        dialect.born
    );
    let metadata = format!("SELECT {metadata} FROM {table} f WHERE {entry}");
    (dialect.with_lost)(&metadata, &lost)
}

/// The same for the rows of an entity in a query of its table, if it is asked for; otherwise null.
pub(crate) fn metadata_of_rows(
    dialect: &Dialect,
    entity: &Entity,
    key: &str,
    is_asked: bool,
) -> String {
    match is_asked {
        true => {
            let name = literal(&entity.schema.entity);
            metadata_sql(dialect, &name, key, Told::of(entity))
        }
        false => "CAST(NULL AS TEXT)".to_owned(),
    }
}

/// The query of the new entries. With `undo` each entry of an entity with old-value columns has its undo
/// record, and all have the total length of their row's undo records.
pub(crate) fn new_entries_sql(dialect: &Dialect, undo: bool) -> String {
    if !undo {
        return dialect.new_entries.to_string();
    }
    format!(
        "SELECT s.*, sum(length(undo_record)) OVER (PARTITION BY entity, entity_id) AS undo_bytes FROM ( \
         SELECT w.*, CASE WHEN wanted IS NOT NULL AND entity_id IS NOT NULL THEN {record} END AS undo_record FROM ( \
         SELECT n.*, {wanted} AS wanted FROM ({new_entries}) n) w) s",
        record = dialect.undo_record,
        wanted = dialect.wanted,
        new_entries = dialect.new_entries,
    )
}

/// A scalar subquery for these entities' fingerprints at the snapshot.
fn fingerprints_sql<'a>(dialect: &Dialect, names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(name)).collect();
    format!(
        "(SELECT {} FROM {} e WHERE e.entity IN ({}))",
        dialect.fingerprints,
        dialect.entity_table,
        names.join(", ")
    )
}

/// The SQL before and after a query of `key`, `row` and `metadata` that turns its lines into
/// [`super::collect::RowLine`]s. It relies on the tables of these entities.
pub(crate) fn around_rows(dialect: &Dialect, entities: &[Arc<Entity>]) -> (String, &'static str) {
    let before = format!(
        "SELECT position, floor, {} AS fingerprints, CAST(NULL AS TEXT) AS key, CAST(NULL AS TEXT) AS row, \
         CAST(NULL AS TEXT) AS metadata \
         FROM ({}) s UNION ALL SELECT NULL, NULL, NULL, key, row, metadata FROM (",
        fingerprints_sql(dialect, entities.iter().map(|entity| &entity.schema.entity)),
        dialect.start
    );
    (before, ") all_rows")
}

/// A query of `key`, `row` and `metadata` without the `WHERE` for the selection's filter, which the caller appends.
pub(crate) fn rows_before_where(
    dialect: &Dialect,
    entity: &Entity,
    selection: Option<&Selection>,
    object_of: impl Fn(Vec<String>) -> String,
) -> String {
    match &entity.rows {
        RowsSql::Query(query) => {
            format!("SELECT key, row, CAST(NULL AS TEXT) AS metadata FROM ({query}) recorded")
        }
        RowsSql::Table {
            key,
            row,
            columns,
            from,
        } => {
            // Where each row's columns differ, they are chosen once the row has been read.
            let projected = selection.filter(|selection| !selection.is_partial());
            let projected = projected.and_then(Selection::columns).map(|projection| {
                let columns = projection.iter().map(|&index| columns[index].clone());
                object_of(columns.collect())
            });
            let row = projected.unwrap_or_else(|| row.clone());
            let is_asked = selection.is_some_and(Selection::has_metadata);
            let metadata = metadata_of_rows(dialect, entity, key, is_asked);
            format!("SELECT {key} AS key, {row} AS row, {metadata} AS metadata FROM {from}")
        }
    }
}
