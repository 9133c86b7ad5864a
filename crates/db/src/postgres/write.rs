//! The single steps of a mutation; each write is one statement on the user's table.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use filter::Filter;
use protocol::{MutationId, Op, Reject, RejectCode};
use serde::Deserialize;
use value::schema::{ColumnKind, Schema};

use super::filter::predicate;
use super::incarnation::is_current;
use super::read::SESSION_SETTINGS;
use crate::error::{DbError, Failed};
use crate::quote::ident;
use crate::write::{ClientState, TableWrite, WriteFailed, not_found};

/// Applies the database session's settings to the transaction.
pub(crate) async fn begin(conn: &mut AsyncPgConnection) -> Result<(), diesel::result::Error> {
    conn.batch_execute(SESSION_SETTINGS).await
}

#[derive(QueryableByName)]
struct ClientRow {
    #[diesel(sql_type = BigInt)]
    last_mutation: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_commit: Option<i64>,
    #[diesel(sql_type = Text)]
    epoch: String,
    #[diesel(sql_type = Bool)]
    is_current: bool,
}

/// Sets the number to itself, which locks the row.
const LOCK_CLIENT: &str = concat!(
    "UPDATE _rhtmx_sync_client SET last_mutation = last_mutation WHERE client_id = $1 \
     RETURNING last_mutation, last_commit, (SELECT epoch FROM _rhtmx_sync_meta) AS epoch, ",
    is_current!(),
    " AS is_current"
);

/// Locks the client's row.
///
/// After a crash or a restore PostgreSQL assigns transaction numbers again, so no mutation is applied until a new epoch
/// has begun: its commit id would be mistaken for that of an earlier transaction.
pub(crate) async fn lock_client(
    conn: &mut AsyncPgConnection,
    client: &str,
) -> Result<ClientState, Failed> {
    let row: ClientRow = sql_query(LOCK_CLIENT)
        .bind::<Text, _>(client)
        .get_result(conn)
        .await?;
    if !row.is_current {
        return Err(Failed::Other(DbError::Unreachable(
            "the database has crashed or was restored, and its new epoch has not begun".to_owned(),
        )));
    }
    Ok(ClientState {
        last_mutation: row.last_mutation,
        last_commit: row.last_commit,
        epoch: Some(row.epoch),
    })
}

/// Sets the mutation id that the triggers write to the log.
pub(crate) async fn set_mutation_id(
    conn: &mut AsyncPgConnection,
    mutation_id: &MutationId,
) -> Result<(), diesel::result::Error> {
    sql_query("SELECT set_config('rhtmx_sync.client_id', $1, true), set_config('rhtmx_sync.mutation', $2, true)")
        .bind::<Text, _>(mutation_id.client_id.to_string())
        .bind::<Text, _>(mutation_id.mutation.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The commit id of this transaction.
pub(crate) async fn commit_id(conn: &mut AsyncPgConnection) -> Result<i64, diesel::result::Error> {
    let row: Number = sql_query("SELECT pg_current_xact_id()::text::bigint AS number")
        .get_result(conn)
        .await?;
    Ok(row.number)
}

/// Runs one write.
pub(crate) async fn write(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
) -> Result<(), WriteFailed> {
    let input = object(&write.schema, &write.values);
    let row_key = key_object(write);
    // `INSERT … ON CONFLICT` checks not-null columns even if it ends as an update, so an upsert tries the
    // update first.
    let ops: &[Op] = if write.op == Op::Upsert {
        &[Op::Update, Op::Upsert]
    } else {
        &[write.op]
    };
    let mut ran = Ran::Rows { rows: 0 };
    for op in ops {
        let Some(statement) = statement(write, *op) else {
            continue;
        };
        ran = run(conn, &statement, &input, &row_key).await?;
        if !matches!(ran, Ran::Rows { rows: 0 }) {
            break;
        }
    }
    match (ran, write.op) {
        (Ran::Rows { rows: 0 }, Op::Update | Op::Delete) => Err(WriteFailed::Rejected(not_found())),
        (Ran::Rows { .. }, _) => Ok(()),
        (Ran::Failed(fault), _) if fault.is_of_the_table() => Err(fault.into_table_error()),
        (Ran::Failed(fault), _) => {
            let reject = explain(conn, write, &input, &fault).await?;
            Err(WriteFailed::Rejected(reject))
        }
    }
}

#[derive(QueryableByName)]
struct Matches {
    #[diesel(sql_type = Bool)]
    matches: bool,
}

/// Whether the row to be written, as it is now, matches a filter; `None` when it does not exist, or when the
/// database generates its key. Locks the row, so that the answer is still true when the write runs.
pub(crate) async fn row_matches(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    filter: &Filter,
) -> Result<Option<bool>, diesel::result::Error> {
    if write.key.is_none() {
        return Ok(None);
    }
    let predicate = predicate(filter.condition(), &write.table);
    let key = format!("${}::text::jsonb", predicate.params.len() + 1);
    let sql = format!(
        "SELECT coalesce({}, false) AS matches FROM {} t{} WHERE {} FOR UPDATE OF t",
        predicate.sql,
        write.relation(),
        from(
            " CROSS JOIN",
            [&record(write, &write.schema.key, "k", &key)]
        ),
        key_is(write, &key),
    );
    let query = predicate
        .params
        .iter()
        .fold(sql_query(sql).into_boxed(), |query, param| {
            query.bind::<Text, _>(param)
        });
    let found: Vec<Matches> = query.bind::<Text, _>(key_object(write)).load(conn).await?;
    Ok(found.into_iter().next().map(|found| found.matches))
}

/// Checks deferred constraints now, while a violation can still become a reject.
pub(crate) async fn settle(
    conn: &mut AsyncPgConnection,
    writes: &[TableWrite],
) -> Result<(), WriteFailed> {
    match run(conn, "SET CONSTRAINTS ALL IMMEDIATE", "{}", "{}").await? {
        Ran::Rows { .. } => Ok(()),
        Ran::Failed(fault) if fault.is_of_the_table() => Err(fault.into_table_error()),
        Ran::Failed(fault) => {
            let reject = match writes {
                [write] => explain(conn, write, "{}", &fault).await?.of_write(0),
                _ => Reject::new(RejectCode::Constraint, "a deferred constraint is violated"),
            };
            Err(WriteFailed::Rejected(reject))
        }
    }
}

/// The answer of `_rhtmx_sync_write`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ran {
    Rows { rows: i64 },
    Failed(Fault),
}

/// A statement's error, with the names that PostgreSQL reports; empty where it reports none.
#[derive(Deserialize)]
struct Fault {
    state: String,
    column: String,
    constraint: String,
    schema: String,
    table: String,
}

impl Fault {
    /// Whether the statement or a trigger of the user's does not fit the table or the schema: classes 42 (such as
    /// a missing column or function) and 55 (such as a key that is deferrable), and an internal error.
    fn is_of_the_table(&self) -> bool {
        let is_kept = matches!(self.state.as_str(), "42501" | "428C9");
        !is_kept
            && (self.state.starts_with("42")
                || self.state.starts_with("55")
                || self.state == "XX000")
    }

    fn into_table_error(self) -> WriteFailed {
        WriteFailed::Table {
            write: None,
            message: format!("SQLSTATE {}", self.state),
        }
    }
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
    serde_json::from_str(&row.answer)
        .map_err(|error| diesel::result::Error::DeserializationError(error.into()))
}

/// The write's statement; `$1` is the JSON object of the values, `$2` that of the key. `None` for an update
/// that sets nothing.
fn statement(write: &TableWrite, op: Op) -> Option<String> {
    let (table, schema) = (write.relation(), &write.schema);
    let written: Vec<usize> = write.values.iter().map(|(index, _)| *index).collect();
    let names: Vec<String> = written
        .iter()
        .map(|index| ident(&schema.columns[*index].name))
        .collect();
    let values: Vec<String> = written
        .iter()
        .map(|index| value(write, *index, "v", "$1"))
        .collect();
    let record = record(write, &written, "v", "$1");
    let row_key = self::record(write, &schema.key, "k", "$2");
    let key_is = key_is(write, "$2");
    let insert = || {
        if names.is_empty() {
            format!("INSERT INTO {table} DEFAULT VALUES")
        } else {
            format!(
                "INSERT INTO {table} ({}) SELECT {}{}",
                names.join(", "),
                values.join(", "),
                from("FROM", [&record])
            )
        }
    };
    Some(match op {
        Op::Create => insert(),
        Op::Upsert => {
            let key: Vec<String> = schema
                .key_columns()
                .map(|column| ident(&column.name))
                .collect();
            let others = names.iter().filter(|name| !key.contains(name));
            let set: Vec<String> = others
                .map(|name| format!("{name} = EXCLUDED.{name}"))
                .collect();
            let action = if set.is_empty() {
                "NOTHING".to_owned()
            } else {
                format!("UPDATE SET {}", set.join(", "))
            };
            format!("{} ON CONFLICT ({}) DO {action}", insert(), key.join(", "))
        }
        Op::Update => {
            let set: Vec<String> = written
                .iter()
                .zip(names.iter().zip(&values))
                .filter(|(index, _)| !schema.is_key(**index))
                .map(|(_, (name, value))| format!("{name} = {value}"))
                .collect();
            if set.is_empty() {
                return None;
            }
            let from = from("FROM", [&record, &row_key]);
            format!(
                "UPDATE {table} t SET {}{from} WHERE {key_is}",
                set.join(", ")
            )
        }
        Op::Delete => format!(
            "DELETE FROM {table} t{} WHERE {key_is}",
            from("USING", [&row_key])
        ),
    })
}

/// The condition that the row `t` has the key in the JSON object `parameter`, whose [`record`] is called `k`.
fn key_is(write: &TableWrite, parameter: &str) -> String {
    let parts: Vec<String> = write
        .schema
        .key
        .iter()
        .map(|&index| {
            format!(
                "t.{} = {}",
                ident(&write.schema.columns[index].name),
                value(write, index, "k", parameter)
            )
        })
        .collect();
    parts.join(" AND ")
}

/// A record of these columns from the JSON object `parameter`; `None` when no column needs one.
///
/// It has no other columns: a missing one would be null, which its domain may forbid.
fn record(write: &TableWrite, columns: &[usize], alias: &str, parameter: &str) -> Option<String> {
    let defined: Vec<String> = columns
        .iter()
        .filter(|index| !is_bytes(&write.schema.columns[**index].kind))
        .map(|&index| {
            format!(
                "{} {}",
                ident(&write.schema.columns[index].name),
                write.table.column_types[index]
            )
        })
        .collect();
    (!defined.is_empty()).then(|| {
        format!(
            "jsonb_to_record({parameter}) AS {alias}({})",
            defined.join(", ")
        )
    })
}

fn from<const N: usize>(word: &str, records: [&Option<String>; N]) -> String {
    let records: Vec<&str> = records.into_iter().flatten().map(String::as_str).collect();
    if records.is_empty() {
        String::new()
    } else {
        format!(" {word} {}", records.join(", "))
    }
}

/// Whether values of this kind are bytes, sent as base64, which a record would take for text.
fn is_bytes(kind: &ColumnKind) -> bool {
    match kind {
        ColumnKind::Array(element) => **element == ColumnKind::Bytes,
        kind => *kind == ColumnKind::Bytes,
    }
}

/// A column's value, from a record or from the JSON itself.
fn value(write: &TableWrite, index: usize, record: &str, parameter: &str) -> String {
    let column = &write.schema.columns[index];
    let name = crate::quote::literal(&column.name);
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

/// The JSON object of these columns, each value exactly as the client wrote it.
fn object(schema: &Schema, values: &[(usize, Box<serde_json::value::RawValue>)]) -> String {
    let members: Vec<String> = values
        .iter()
        .map(|(index, value)| {
            format!(
                "{}:{}",
                json_text(&schema.columns[*index].name),
                value.get()
            )
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

/// The JSON object of the key.
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

/// The reject for a failed statement, in the engine's words, with the column where there is one.
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
        ("23502", _) => {
            let column = match fault.column.as_str() {
                "" => column_at_fault(conn, write, input).await?,
                column => Some(column.to_owned()),
            };
            named(
                Reject::new(constraint, "the column may not be null"),
                column,
            )
        }
        ("23505", _) => match constraint_of(conn, write, fault).await? {
            Some(found) if found.kind == "p" => {
                Reject::new(RejectCode::Exists, "a row with this key already exists")
            }
            found => named(
                Reject::new(constraint, "another row already has this value"),
                found.and_then(|found| found.column),
            ),
        },
        ("23503", _) => {
            let found = constraint_of(conn, write, fault).await?;
            if write.op == Op::Delete || found.as_ref().is_some_and(|found| found.refers_here) {
                Reject::new(constraint, "other rows refer to this row")
            } else {
                named(
                    Reject::new(constraint, "it refers to a row that does not exist"),
                    found.and_then(|found| found.column),
                )
            }
        }
        ("23514", _) => {
            let column = match constraint_of(conn, write, fault).await? {
                Some(found) => found.column,
                // A domain's check.
                None => column_at_fault(conn, write, input).await?,
            };
            named(
                Reject::new(constraint, "a check of the table is violated"),
                column,
            )
        }
        ("42501", _) => Reject::new(RejectCode::Forbidden, "the server may not write this"),
        ("428C9", _) => Reject::new(RejectCode::Invalid, "the database computes this column"),
        (_, "54") => Reject::new(
            RejectCode::TooLarge,
            "a value is too large for the database",
        ),
        (_, "22") => {
            let column = column_at_fault(conn, write, input).await?;
            named(
                Reject::new(
                    RejectCode::Invalid,
                    "the value does not fit the column's type",
                ),
                column,
            )
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
    /// Whether it is a foreign key of another table that refers to the written one.
    #[diesel(sql_type = Bool)]
    refers_here: bool,
}

/// Finds a constraint, or the index behind it, by the names in an error. On a partition these are the
/// partition's.
async fn constraint_of(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    fault: &Fault,
) -> Result<Option<ConstraintOf>, diesel::result::Error> {
    if fault.table.is_empty() {
        // A domain's constraint, or a trigger of the user's that raises this code.
        return Ok(None);
    }
    let found: Vec<ConstraintOf> = sql_query(
        "SELECT c.contype::text AS kind, (SELECT attname::text FROM pg_attribute \
           WHERE attrelid = c.conrelid AND attnum = c.conkey[1]) AS column, \
           c.confrelid = to_regclass($3) AND c.conrelid <> c.confrelid AS refers_here \
         FROM pg_constraint c WHERE c.conrelid = to_regclass($1) AND c.conname = $2 \
         UNION ALL SELECT 'u', (SELECT attname::text FROM pg_attribute \
           WHERE attrelid = x.indrelid AND attnum = x.indkey[0]), false \
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
         WHERE x.indrelid = to_regclass($1) AND i.relname = $2",
    )
    .bind::<Text, _>(format!("{}.{}", ident(&fault.schema), ident(&fault.table)))
    .bind::<Text, _>(&fault.constraint)
    .bind::<Text, _>(write.relation())
    .load(conn)
    .await?;
    Ok(found.into_iter().next())
}

/// The column whose value PostgreSQL cannot read. It does not say which, so each is tried alone.
async fn column_at_fault(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    input: &str,
) -> Result<Option<String>, diesel::result::Error> {
    let row_key = key_object(write);
    let values = write.values.iter().map(|(index, _)| (*index, input));
    let key = write
        .schema
        .key
        .iter()
        .filter(|_| write.key.is_some())
        .map(|&index| (index, row_key.as_str()));
    for (index, object) in values.chain(key) {
        let probe = format!(
            "SELECT {}{}",
            value(write, index, "v", "$1"),
            from("FROM", [&record(write, &[index], "v", "$1")])
        );
        if let Ran::Failed(_) = run(conn, &probe, object, "{}").await? {
            return Ok(Some(write.schema.columns[index].name.clone()));
        }
    }
    Ok(None)
}
