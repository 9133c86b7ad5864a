//! Writes of rows that merge by their fields. There is one writer at a time, so what is known of a row stays true until the
//! write is done.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};
use merge::{Conflict, LOST_VALUES_MAX};
use protocol::Op;
use serde_json::json;
use serde_json::value::RawValue;
use sync_core::log::ChangeKind;
use sync_core::mutation::fields::{Action, Entry, FieldWrite, Known, Plan, plan};

use super::explain::WriteFailed;
use super::statement::{KeptStatements, Statement, Value};
use super::store;
use super::write::{self, check_afterwards, check_before};
use crate::fields::{KnownRow, Lost};
use crate::write::TableWrite;

/// The name in the log under which it moves on.
const APART: &str = "_rhtmx_sync_apart";

/// Plans a write for the row as it is, and carries it out. None for a row whose key the database chooses: it is new.
pub(super) fn merge(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    fields: &FieldWrite,
    kept: &KeptStatements,
) -> Result<Option<Plan>, WriteFailed> {
    let Some(key) = write.canonical_key() else {
        check_before(conn, write)?;
        write::write(conn, write, kept)?;
        check_afterwards(conn, write)?;
        return Ok(None);
    };
    let known = known(conn, write, &key)?;
    if let Some(reject) = write.finds_nobodys_row(&known) {
        return Err(WriteFailed::Rejected(reject));
    }
    // Before anything is told of what the row holds.
    check_before(conn, write)?;
    let plan = plan(write, fields, &known).map_err(WriteFailed::Rejected)?;
    let lost = Lost::of(&plan, known.row.is_some());
    carry_out(conn, write, &key, (&plan, &lost), kept)?;
    Ok(Some(plan))
}

/// Keeps the values that lost and notes those that are resolved, and says in the log that the row has changed.
fn keep_lost(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    key: &str,
    lost: &Lost,
) -> QueryResult<()> {
    for Conflict { field, lost, .. } in &lost.kept {
        sql_query(
            "INSERT INTO _rhtmx_field_conflict (entity, entity_id, field, hlc, value) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO NOTHING",
        )
        .bind::<Text, _>(&write.entity)
        .bind::<Text, _>(key)
        .bind::<Text, _>(field)
        .bind::<Text, _>(lost.hlc.as_str())
        .bind::<Text, _>(lost.value.to_string())
        .execute(conn)?;
        sql_query(format!(
            "DELETE FROM _rhtmx_field_conflict WHERE entity = ?1 AND entity_id = ?2 AND field = ?3 AND hlc NOT IN ( \
             SELECT hlc FROM _rhtmx_field_conflict WHERE entity = ?1 AND entity_id = ?2 AND field = ?3 \
             ORDER BY hlc DESC LIMIT {LOST_VALUES_MAX})"
        ))
        .bind::<Text, _>(&write.entity)
        .bind::<Text, _>(key)
        .bind::<Text, _>(field)
        .execute(conn)?;
    }
    for (field, clock) in &lost.resolved {
        sql_query(
            "UPDATE _rhtmx_field_conflict SET resolved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
             WHERE entity = ?1 AND entity_id = ?2 AND field = ?3 AND hlc = ?4",
        )
        .bind::<Text, _>(&write.entity)
        .bind::<Text, _>(key)
        .bind::<Text, _>(field)
        .bind::<Text, _>(clock.as_str())
        .execute(conn)?;
    }
    if lost.is_told {
        sql_query(
            "INSERT INTO _rhtmx_sync_log (entity, entity_id, action, old, client_id, mutation) VALUES (?1, ?2, 'update', '{}', \
             (SELECT client_id FROM _rhtmx_sync_mutation), (SELECT mutation FROM _rhtmx_sync_mutation))",
        )
        .bind::<Text, _>(&write.entity)
        .bind::<Text, _>(key)
        .execute(conn)?;
    }
    Ok(())
}

/// Merges a record of another database. Returns whether it has changed anything.
pub(super) fn merge_record(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    fields: &FieldWrite,
    kept: &KeptStatements,
) -> Result<bool, WriteFailed> {
    let key = write.canonical_key().unwrap_or_default();
    let known = known(conn, write, &key)?;
    let plan = plan(write, fields, &known).map_err(WriteFailed::Rejected)?;
    let changes = plan.entry.is_some() || !matches!(plan.action, Action::Nothing);
    if changes {
        let lost = Lost::of(&plan, known.row.is_some());
        carry_out(conn, write, &key, (&plan, &lost), kept)?;
    }
    Ok(changes)
}

fn carry_out(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    key: &str,
    (plan, lost): (&Plan, &Lost),
    kept: &KeptStatements,
) -> Result<(), WriteFailed> {
    if let Some(entry) = &plan.entry {
        keep(conn, write, key, entry)?;
    }
    let (op, values): (Op, &[(usize, Box<RawValue>)]) = match &plan.action {
        Action::Create { values } => (Op::Create, values),
        Action::Update { values, .. } => (Op::Update, values),
        Action::Delete => (Op::Delete, &[]),
        Action::Nothing => {
            if plan.entry.is_some() && !lost.is_told {
                is_apart(conn, write, key)?;
            }
            return Ok(keep_lost(conn, write, key, lost)?);
        }
    };
    let columns = (op == Op::Update).then(|| {
        let names = values
            .iter()
            .map(|(index, _)| &write.schema.columns[*index].name);
        names.collect::<Vec<_>>()
    });
    let stamped = json!({"entity": write.entity, "id": key, "columns": columns}).to_string();
    name_stamped(conn, Some(&stamped))?;
    let planned = write.planned(op, values.to_vec());
    write::write(conn, &planned, kept)?;
    name_stamped(conn, None)?;
    check_afterwards(conn, &planned)?;
    Ok(keep_lost(conn, write, key, lost)?)
}

fn known(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    key: &str,
) -> Result<Known, diesel::result::Error> {
    let statement = Statement::new(format!(
        "SELECT {} AS found, f.metadata, f.image, f.newest, (SELECT node FROM _rhtmx_sync_meta) AS node, (SELECT node FROM _rhtmx_sync_meta \
         WHERE EXISTS (SELECT 1 FROM _rhtmx_sync_peer)) AS counts_as, ",
        write.table.row_by_key
    ));
    let statement = match write.table.keeps_both() {
        false => statement.sql("NULL"),
        true => statement
            .sql(
                "(SELECT json_group_object(c.field, json(c.clocks)) FROM (SELECT c.field, json_group_array(c.hlc) AS clocks \
                 FROM _rhtmx_field_conflict c WHERE c.entity = ",
            )
            .value(Value::Text(write.entity.clone()))
            .sql(" AND c.entity_id = ranked.entity_id AND c.resolved_at IS NULL GROUP BY c.field) c)"),
    };
    let statement = statement
        .sql(" AS lost FROM (SELECT ")
        .value(Value::Text(key.to_owned()))
        .sql(" AS entity_id) AS ranked LEFT JOIN _rhtmx_sync_field f ON f.entity = ")
        .value(Value::Text(write.entity.clone()))
        .sql(" AND f.entity_id = ranked.entity_id");
    let found: Vec<KnownRow> = statement.load(conn)?;
    let found = found.into_iter().next();
    Ok(found.map(Known::from).unwrap_or_default())
}

fn keep(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    key: &str,
    entry: &Entry,
) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata, image) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE SET newest = excluded.newest, metadata = excluded.metadata, image = excluded.image",
    )
    .bind::<Text, _>(&write.entity)
    .bind::<Text, _>(key)
    .bind::<Text, _>(entry.newest.as_str())
    .bind::<Text, _>(&entry.metadata)
    .bind::<Nullable<Text>, _>(&entry.image)
    .execute(conn)
}

/// Remembers that the row's entry has changed without the table, of which the log says nothing. An entry of the log under
/// a name that no entity has moves the database's position, so that it is known what was before.
fn is_apart(conn: &mut SqliteConnection, write: &TableWrite, key: &str) -> QueryResult<usize> {
    store::record_in(conn, APART, Some(key), ChangeKind::Update, None)?;
    let newest = store::newest(conn)?;
    sql_query(
        "INSERT INTO _rhtmx_sync_apart (entity, entity_id, at) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET at = excluded.at",
    )
    .bind::<Text, _>(&write.entity)
    .bind::<Text, _>(key)
    .bind::<BigInt, _>(newest)
    .execute(conn)
}

/// Names what the triggers need not stamp.
fn name_stamped(conn: &mut SqliteConnection, stamped: Option<&str>) -> QueryResult<usize> {
    sql_query("UPDATE _rhtmx_sync_mutation SET stamped = ?1")
        .bind::<Nullable<Text>, _>(stamped)
        .execute(conn)
}
