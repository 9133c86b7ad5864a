//! Writes of rows that merge by their fields: what is known of the rows, and what each write makes of them.
//!
//! What is known is read without a lock, once for all mutations that share a call, and the writes are planned one after
//! the other: what one makes of a row is what the next one finds. The call compares each row's entry with what was known,
//! under the row's lock. A mutation whose plan was made for an older row leaves nothing behind and is planned again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use diesel::QueryableByName;
use diesel::sql_types::Text;
use protocol::{Op, Reject, RejectCode};
use serde_json::value::RawValue;
use sync_core::mutation::fields::{Action, Known, Merged, Plan, plan};
use tokio_postgres::SimpleQueryMessage;

use super::literal::literal;
use crate::error::{DbError, DbResult};
use crate::fields::{Beside, KnownRow, Loses, Lost};
use crate::postgres::read::{READ_COMMITTED, SESSION_SETTINGS};
use crate::postgres::store::{SEARCH_PATH, in_schema};
use crate::read::TOO_LARGE;
use crate::write::{Mutation, TableWrite};

/// The rows that writes name, by entity and key, as they are known.
pub(in crate::postgres) type Rows = BTreeMap<(String, String), Known>;

/// A mutation as it is carried out, and what is told of it.
#[derive(Debug)]
pub(in crate::postgres) struct Planned<'a> {
    pub(in crate::postgres) mutation: Cow<'a, Mutation>,
    pub(in crate::postgres) merged: Merged,
}

impl Planned<'_> {
    /// The writes as they were planned, where some merge by their fields.
    pub(in crate::postgres) fn writes(&self) -> Option<Vec<TableWrite>> {
        match &self.mutation {
            Cow::Borrowed(_) => None,
            Cow::Owned(mutation) => mutation.writes.clone().ok(),
        }
    }
}

/// The rows that these mutations' writes of fields name.
pub(in crate::postgres) fn named<'a>(
    writes: impl Iterator<Item = &'a TableWrite>,
) -> Vec<&'a TableWrite> {
    let mut named: Vec<&TableWrite> = writes.filter(|write| write.fields.is_some()).collect();
    named.sort_by_cached_key(|write| row_of(write));
    named.dedup_by_key(|write| row_of(write));
    named
}

/// Whether a write creates a row, of which most likely nothing is known. If something is, carrying out the plan fails.
pub(in crate::postgres) fn is_creation(write: &TableWrite) -> bool {
    write.op == Op::Create
}

fn row_of(write: &TableWrite) -> Option<(String, String)> {
    Some((write.entity.clone(), write.canonical_key()?))
}

/// The statements that read what is known of these rows; they form one transaction, because they are sent together.
pub(in crate::postgres) fn known_sql(named: &[&TableWrite], log_schema: &str) -> String {
    format!(
        "{READ_COMMITTED}; {SESSION_SETTINGS}; SET LOCAL {SEARCH_PATH}; {}",
        known_query(named, log_schema)
    )
}

/// The query alone: the entity, the key, the row, the metadata, the image, the lost values, as whom the database counts, the
/// newest clock, and as whom the database stamps. Entries are looked up by their keys whatever the planner knows of them: where
/// it has no statistics, it believes that an entity has few, and reads all of them.
pub(in crate::postgres) fn known_query(named: &[&TableWrite], log_schema: &str) -> String {
    let mut keys: BTreeMap<&str, (&TableWrite, Vec<String>)> = BTreeMap::new();
    for write in named {
        if let Some(key) = write.canonical_key() {
            let (_, keys) = keys.entry(&write.entity).or_insert((write, Vec::new()));
            keys.push(key);
        }
    }
    let entries = in_schema("_rhtmx_sync_field", log_schema);
    let conflicts = in_schema("_rhtmx_field_conflict", log_schema);
    let mut sql = String::new();
    for (entity, (write, keys)) in keys {
        if !sql.is_empty() {
            sql.push_str(" UNION ALL ");
        }
        let keys: Vec<String> = keys.iter().map(|key| literal(key)).collect();
        let _ = write!(
            sql,
            "SELECT {entity}::pg_catalog.text AS entity, ranked.entity_id, {row} AS found, f.metadata::pg_catalog.text AS metadata, f.image::pg_catalog.text AS image, {lost} AS lost, \
             (SELECT m.node::pg_catalog.text FROM {meta} m WHERE EXISTS (SELECT FROM {peers})) AS counts_as, \
             f.newest::pg_catalog.text AS newest, (SELECT m.node::pg_catalog.text FROM {meta} m) AS node \
             FROM pg_catalog.unnest(ARRAY[{keys}]::pg_catalog.text[]) AS ranked(entity_id) LEFT JOIN LATERAL \
             (SELECT f.metadata, f.image, f.newest FROM {entries} f WHERE f.entity OPERATOR(pg_catalog.=) {entity} \
             AND f.entity_id OPERATOR(pg_catalog.=) ranked.entity_id OFFSET 0) f ON true",
            entity = literal(entity),
            row = write.table.row_by_key,
            lost = match write.table.keeps_both() {
                true => open_conflicts(&conflicts, entity),
                false => "NULL".to_owned(),
            },
            meta = in_schema("_rhtmx_sync_meta", log_schema),
            peers = in_schema("_rhtmx_sync_peer", log_schema),
            keys = keys.join(","),
        );
    }
    sql
}

/// The expression for the clocks of a row's open conflicts.
fn open_conflicts(conflicts: &str, entity: &str) -> String {
    format!(
        "(SELECT pg_catalog.jsonb_object_agg(c.field, c.clocks)::pg_catalog.text FROM ( \
         SELECT c.field, pg_catalog.jsonb_agg(c.hlc) AS clocks FROM {conflicts} c \
         WHERE c.entity OPERATOR(pg_catalog.=) {} AND c.entity_id OPERATOR(pg_catalog.=) ranked.entity_id \
         AND c.resolved_at IS NULL GROUP BY c.field) c)",
        literal(entity)
    )
}

/// A line of the query [`known_query`].
#[derive(QueryableByName)]
pub(in crate::postgres) struct NamedRow {
    #[diesel(sql_type = Text)]
    entity: String,
    #[diesel(sql_type = Text)]
    entity_id: String,
    #[diesel(embed)]
    known: KnownRow,
}

impl NamedRow {
    /// The row by its name.
    pub(in crate::postgres) fn named(self) -> ((String, String), Known) {
        ((self.entity, self.entity_id), self.known.into())
    }
}

/// Reads what the query returned.
pub(in crate::postgres) fn known(messages: &[SimpleQueryMessage]) -> DbResult<Rows> {
    let mut rows = Rows::new();
    for message in messages {
        let SimpleQueryMessage::Row(row) = message else {
            continue;
        };
        let text = |index| row.get(index).map(str::to_owned);
        let (Some(entity), Some(key)) = (text(0), text(1)) else {
            return Err(DbError::Statement {
                context: "reading the rows of field writes",
                message: "a row has no name".to_owned(),
            });
        };
        let known = Known {
            row: text(2),
            metadata: text(3),
            image: text(4),
            lost: text(5),
            counts_as: text(6),
            newest: text(7),
            node: text(8),
        };
        rows.insert((entity, key), known);
    }
    Ok(rows)
}

/// Plans a mutation's writes, one after the other. The rows become what the writes make of them, unless one is rejected.
pub(in crate::postgres) fn planned<'a>(
    mutation: &'a Mutation,
    rows: &mut Rows,
) -> Result<Planned<'a>, Reject> {
    let writes = match &mutation.writes {
        Ok(writes) if writes.iter().any(|write| write.fields.is_some()) => writes,
        _ => {
            return Ok(Planned {
                mutation: Cow::Borrowed(mutation),
                merged: Merged::default(),
            });
        }
    };
    let (writes, mut merged) = plan_all(writes, rows)?;
    for conflict in &mut merged.conflicts {
        conflict.mutation = Some(mutation.place.number);
    }
    Ok(Planned {
        mutation: Cow::Owned(mutation.with_writes(writes, &merged)),
        merged,
    })
}

/// The writes as they are carried out, and what is told of them.
pub(in crate::postgres) fn plan_all(
    writes: &[TableWrite],
    rows: &mut Rows,
) -> Result<(Vec<TableWrite>, Merged), Reject> {
    let mut after = Rows::new();
    let mut merged = Merged::default();
    let mut planned = Vec::with_capacity(writes.len());
    for (index, write) in writes.iter().enumerate() {
        let (Some(fields), Some(row)) = (&write.fields, row_of(write)) else {
            planned.push(write.clone());
            continue;
        };
        let known = after.entry(row.clone());
        let known = known.or_insert_with(|| rows.get(&row).cloned().unwrap_or_default());
        let of_write = |reject: Reject| reject.of_write(index);
        if let Some(reject) = write.finds_nobodys_row(known) {
            return Err(of_write(reject));
        }
        if known.row.as_deref() == Some(TOO_LARGE) {
            let message = "the row is too large to be merged";
            return Err(of_write(Reject::new(RejectCode::TooLarge, message)));
        }
        let made = plan(write, fields, known).map_err(of_write)?;
        planned.push(carried(write, &made, known));
        known.carry_out(&write.schema, &made);
        merged.add(index, write, &made);
    }
    rows.extend(after);
    Ok((planned, merged))
}

/// Planned writes, each as what its writer asked for, with the values that it was to write: for saying why it failed.
pub(in crate::postgres) fn as_asked(planned: &[TableWrite]) -> Vec<TableWrite> {
    let asked = planned.iter().map(|write| match &write.beside {
        Some(beside) => write.planned(beside.written, write.values.clone()),
        None => write.clone(),
    });
    asked.collect()
}

/// The write that carries out a plan.
fn carried(write: &TableWrite, plan: &Plan, known: &Known) -> TableWrite {
    let columns = |values: &[(usize, Box<RawValue>)]| -> Vec<&str> {
        let names = values.iter().map(|(index, _)| *index);
        names
            .map(|index| write.schema.columns[index].name.as_str())
            .collect()
    };
    let (op, values, added, stamped, loses) = match &plan.action {
        Action::Create { values } => (Op::Create, values.clone(), &[][..], None, None),
        Action::Update { values, adds } => (
            Op::Update,
            values.clone(),
            &adds[..],
            Some(columns(values)),
            None,
        ),
        Action::Delete => (Op::Delete, Vec::new(), &[][..], None, None),
        Action::Nothing => {
            let loses = match known.row {
                Some(_) => Loses::Row,
                None => Loses::Deletion,
            };
            (write.op, Vec::new(), &[][..], None, Some(loses))
        }
    };
    let is_added = |index: usize| added.iter().find(|(added, _)| *added == index);
    let values = values.into_iter().map(|(index, value)| {
        let added = is_added(index).map(|(_, added)| added.clone());
        (index, added.unwrap_or(value))
    });
    let values = values.collect();
    let key = write.canonical_key().unwrap_or_default();
    let beside = Beside {
        written: write.op,
        expected: known.metadata.clone(),
        entry: plan.entry.clone(),
        stamped: serde_json::json!({"entity": write.entity, "id": key, "columns": stamped})
            .to_string(),
        adds: added.iter().map(|(index, _)| *index).collect(),
        loses,
        lost: Lost::of(plan, known.row.is_some()),
    };
    let mut planned = write.planned(op, values);
    planned.beside = Some(beside.into());
    planned
}
