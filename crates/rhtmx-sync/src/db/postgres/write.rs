//! One write of a mutation, as one statement on the user's table.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use rhtmx_sync_core::protocol::{Op, Origin, Reject, RejectCode};
use rhtmx_sync_core::schema::{Column, ColumnKind, Schema};
use serde::Deserialize;

use super::read::SESSION_SETTINGS;
use crate::db::quote::ident;
use crate::db::write::{TableWrite, WriteFailed};

/// Prepares the transaction.
pub(crate) async fn begin(conn: &mut AsyncPgConnection) -> Result<(), diesel::result::Error> {
    conn.batch_execute(SESSION_SETTINGS).await
}

/// Tells the triggers whose mutation this is.
pub(crate) async fn set_origin(conn: &mut AsyncPgConnection, origin: &Origin) -> Result<(), diesel::result::Error> {
    sql_query("SELECT set_config('rhtmx_sync.client_id', $1, true), set_config('rhtmx_sync.mutation', $2, true)")
        .bind::<Text, _>(origin.client_id.to_string())
        .bind::<Text, _>(origin.mutation.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// What a position must contain to show this transaction.
pub(crate) async fn mark(conn: &mut AsyncPgConnection) -> Result<i64, diesel::result::Error> {
    let row: Number =
        sql_query("SELECT pg_current_xact_id()::text::bigint AS number").get_result(conn).await?;
    Ok(row.number)
}

/// Runs one write.
pub(crate) async fn write(conn: &mut AsyncPgConnection, index: usize, write: &TableWrite) -> Result<(), WriteFailed> {
    let input = object(&write.schema, &write.values);
    let row_key = key_object(write);
    // `INSERT … ON CONFLICT` checks not-null columns even where it ends as an update, so an upsert
    // of a row that is there tries the update first.
    let ops: &[Op] = if write.op == Op::Upsert { &[Op::Update, Op::Upsert] } else { &[write.op] };
    let mut ran = Ran::Rows { rows: 0 };
    for op in ops {
        let Some(statement) = statement(&write.relation, write, *op) else { continue };
        ran = run(conn, &statement, &input, &row_key).await?;
        if !matches!(ran, Ran::Rows { rows: 0 }) {
            break;
        }
    }
    match (ran, write.op) {
        (Ran::Rows { rows: 0 }, Op::Update | Op::Delete) => {
            let reject = Reject::new(RejectCode::NotFound, "the row is not there");
            Err(WriteFailed::Rejected(reject.of_write(index)))
        }
        (Ran::Rows { .. }, _) => Ok(()),
        (Ran::Refused(fault), _) => {
            let reject = explain(conn, write, &input, &fault).await?;
            Err(WriteFailed::Rejected(reject.of_write(index)))
        }
    }
}

/// Has deferred constraints speak now, while their answer can still be a reject.
pub(crate) async fn settle(conn: &mut AsyncPgConnection, writes: &[TableWrite]) -> Result<(), WriteFailed> {
    match run(conn, "SET CONSTRAINTS ALL IMMEDIATE", "{}", "{}").await? {
        Ran::Rows { .. } => Ok(()),
        Ran::Refused(fault) => {
            let reject = match writes {
                [write] => explain(conn, write, "{}", &fault).await?.of_write(0),
                _ => Reject::new(RejectCode::Constraint, "a deferred constraint does not hold"),
            };
            Err(WriteFailed::Rejected(reject))
        }
    }
}

/// What `_rhtmx_sync_write` answers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ran {
    Rows { rows: i64 },
    Refused(Fault),
}

/// A refusal, in the names that PostgreSQL gives with it; empty where it gives none.
#[derive(Deserialize)]
struct Fault {
    state: String,
    column: String,
    constraint: String,
    schema: String,
    table: String,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    answer: String,
}

async fn run(
    conn: &mut AsyncPgConnection,
    statement: &str,
    input: &str,
    row_key: &str,
) -> Result<Ran, diesel::result::Error> {
    let row: Answer = sql_query("SELECT _rhtmx_sync_write($1, $2, $3) AS answer")
        .bind::<Text, _>(statement)
        .bind::<Text, _>(input)
        .bind::<Text, _>(row_key)
        .get_result(conn)
        .await?;
    serde_json::from_str(&row.answer).map_err(|error| diesel::result::Error::DeserializationError(error.into()))
}

/// The statement; `$1` is the object of the values, `$2` that of the key. None for an update that
/// would set nothing.
fn statement(table: &str, write: &TableWrite, op: Op) -> Option<String> {
    let schema = &write.schema;
    let columns: Vec<&Column> = write.values.iter().map(|(index, _)| &schema.columns[*index]).collect();
    let names: Vec<String> = columns.iter().map(|column| ident(&column.name)).collect();
    let key_is: Vec<String> = schema
        .key_columns()
        .map(|column| format!("t.{} = {}", ident(&column.name), value(column, "k", "$2")))
        .collect();
    let key_is = key_is.join(" AND ");
    let values = columns.iter().map(|column| value(column, "v", "$1")).collect::<Vec<_>>().join(", ");
    let insert = || match names.is_empty() {
        true => format!("INSERT INTO {table} DEFAULT VALUES"),
        false => format!(
            "INSERT INTO {table} ({}) SELECT {values} FROM jsonb_populate_record(NULL::{table}, $1) v",
            names.join(", ")
        ),
    };
    Some(match op {
        Op::Create => insert(),
        Op::Upsert => {
            let key: Vec<String> = schema.key_columns().map(|column| ident(&column.name)).collect();
            let set: Vec<String> = write
                .values
                .iter()
                .filter(|(index, _)| !schema.is_key(*index))
                .map(|(index, _)| ident(&schema.columns[*index].name))
                .map(|name| format!("{name} = EXCLUDED.{name}"))
                .collect();
            let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
            format!("{} ON CONFLICT ({}) DO {action}", insert(), key.join(", "))
        }
        Op::Update => {
            let set: Vec<String> = columns
                .iter()
                .filter(|column| !schema.key_columns().any(|key| key.name == column.name))
                .map(|column| format!("{} = {}", ident(&column.name), value(column, "v", "$1")))
                .collect();
            if set.is_empty() {
                return None;
            }
            format!(
                "UPDATE {table} t SET {} FROM jsonb_populate_record(NULL::{table}, $1) v, \
                 jsonb_populate_record(NULL::{table}, $2) k WHERE {key_is}",
                set.join(", ")
            )
        }
        Op::Delete => {
            format!("DELETE FROM {table} t USING jsonb_populate_record(NULL::{table}, $2) k WHERE {key_is}")
        }
    })
}

/// A column's value out of a record made from JSON. Bytes travel as base64, which the record would
/// take for text.
fn value(column: &Column, record: &str, parameter: &str) -> String {
    let name = crate::db::quote::literal(&column.name);
    match &column.kind {
        ColumnKind::Bytes => format!("decode({parameter} ->> {name}, 'base64')"),
        ColumnKind::Array(element) if **element == ColumnKind::Bytes => format!(
            "CASE WHEN jsonb_typeof({parameter} -> {name}) = 'array' THEN \
             (SELECT coalesce(array_agg(decode(e.v, 'base64') ORDER BY e.n), '{{}}') \
             FROM jsonb_array_elements_text({parameter} -> {name}) WITH ORDINALITY e(v, n)) END"
        ),
        _ => format!("{record}.{}", ident(&column.name)),
    }
}

/// The JSON object of these columns, each value as the client spelled it.
fn object(schema: &Schema, values: &[(usize, Box<serde_json::value::RawValue>)]) -> String {
    let members: Vec<String> = values
        .iter()
        .map(|(index, value)| format!("{}:{}", json_text(&schema.columns[*index].name), value.get()))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn key_object(write: &TableWrite) -> String {
    let values = write.key.iter().flatten();
    let members: Vec<String> = write
        .schema
        .key_columns()
        .zip(values)
        .map(|(column, value)| format!("{}:{value}", json_text(&column.name)))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Says in our own words why PostgreSQL refused a write, naming the column where there is one.
async fn explain(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    input: &str,
    fault: &Fault,
) -> Result<Reject, diesel::result::Error> {
    let named = |reject: Reject, column: Option<String>| match column {
        Some(column) if write.schema.position(&column).is_some() => reject.of_column(column),
        _ => reject,
    };
    let constraint = RejectCode::Constraint;
    Ok(match (fault.state.as_str(), &fault.state[..2]) {
        ("23502", _) => named(Reject::new(constraint, "the column may not be null"), Some(fault.column.clone())),
        ("23505", _) => match constraint_of(conn, fault).await? {
            Some(of) if of.kind == "p" => Reject::new(RejectCode::Exists, "a row with this key is there already"),
            of => named(Reject::new(constraint, "another row has this value already"), of.and_then(|of| of.column)),
        },
        ("23503", _) if write.op == Op::Delete => Reject::new(constraint, "other rows refer to this row"),
        ("23503", _) => {
            let of = constraint_of(conn, fault).await?;
            named(Reject::new(constraint, "it refers to a row that is not there"), of.and_then(|of| of.column))
        }
        ("23514", _) => {
            let of = constraint_of(conn, fault).await?;
            named(Reject::new(constraint, "a check of the table does not hold"), of.and_then(|of| of.column))
        }
        ("42501", _) => Reject::new(RejectCode::Forbidden, "the server may not write this"),
        ("428C9", _) => Reject::new(RejectCode::Invalid, "the database computes this column itself"),
        (_, "54") => Reject::new(RejectCode::TooLarge, "a value is too large for the database"),
        (_, "22") => {
            let column = column_at_fault(conn, write, input).await?;
            named(Reject::new(RejectCode::Invalid, "the value does not fit the column's type"), column)
        }
        _ => Reject::new(constraint, "a rule of the table forbids it"),
    })
}

#[derive(QueryableByName)]
struct ConstraintOf {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    column: Option<String>,
}

/// Finds a constraint, or the index behind it, by the names in a refusal. On a partition these are
/// the partition's.
async fn constraint_of(
    conn: &mut AsyncPgConnection,
    fault: &Fault,
) -> Result<Option<ConstraintOf>, diesel::result::Error> {
    let found: Vec<ConstraintOf> = sql_query(
        "SELECT c.contype::text AS kind, (SELECT attname::text FROM pg_attribute \
           WHERE attrelid = c.conrelid AND attnum = c.conkey[1]) AS column \
         FROM pg_constraint c WHERE c.conrelid = to_regclass($1) AND c.conname = $2 \
         UNION ALL SELECT 'u', (SELECT attname::text FROM pg_attribute \
           WHERE attrelid = x.indrelid AND attnum = x.indkey[0]) \
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
         WHERE x.indrelid = to_regclass($1) AND i.relname = $2",
    )
    .bind::<Text, _>(format!("{}.{}", ident(&fault.schema), ident(&fault.table)))
    .bind::<Text, _>(&fault.constraint)
    .load(conn)
    .await?;
    Ok(found.into_iter().next())
}

/// PostgreSQL does not say which value it could not read, so each is tried alone.
async fn column_at_fault(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    input: &str,
) -> Result<Option<String>, diesel::result::Error> {
    let table = &write.relation;
    let key = write.schema.key_columns().filter(|_| write.key.is_some());
    let key_input = key_object(write);
    let values = write.values.iter().map(|(index, _)| (&write.schema.columns[*index], input));
    for (column, object) in values.chain(key.map(|column| (column, key_input.as_str()))) {
        // The record is made of this value alone, so no other can be at fault.
        let record = format!("jsonb_build_object({0}, $1 -> {0})", crate::db::quote::literal(&column.name));
        let probe = format!(
            "SELECT {} FROM jsonb_populate_record(NULL::{table}, {record}) v",
            value(column, "v", "$1")
        );
        if let Ran::Refused(_) = run(conn, &probe, object, "{}").await? {
            return Ok(Some(column.name.clone()));
        }
    }
    Ok(None)
}
