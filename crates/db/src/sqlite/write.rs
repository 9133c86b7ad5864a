//! One write of a mutation, as one statement on the user's table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};
use filter::Filter;
use protocol::{MutationId, Op, Reject};
use serde_json::value::RawValue;
use value::schema::{ColumnKind, Schema};

use super::connect::SqliteConn;
use super::explain::{self, Tried};
use super::filter::predicate;
use super::statement::{Statement, Value};
use super::store;
use crate::error::Failed;
use crate::quote::ident;
use crate::tables::_rhtmx_sync_client as client;
use crate::write::{ClientState, TableWrite, WriteFailed, not_found};

/// Prepares the transaction: there is nothing to prepare.
pub(crate) async fn begin(_conn: &mut SqliteConn) -> Result<(), diesel::result::Error> {
    Ok(())
}

/// Reads how far the client has come; the transaction is the only one that writes.
pub(crate) async fn lock_client(
    conn: &mut SqliteConn,
    client: &str,
) -> Result<ClientState, Failed> {
    let client = client.to_owned();
    let (last_mutation, last_commit) = conn
        .spawn_blocking(move |conn| {
            client::table
                .find(client)
                .select((client::last_mutation, client::last_commit))
                .first(conn)
        })
        .await?;
    Ok(ClientState {
        last_mutation,
        last_commit,
        epoch: None,
    })
}

/// Tells the triggers whose mutation this is. There is one writer at a time, and the row is gone
/// before its transaction ends, so no other program's write is taken for it.
pub(crate) async fn set_mutation_id(
    conn: &mut SqliteConn,
    mutation_id: &MutationId,
) -> Result<(), diesel::result::Error> {
    let client_id = mutation_id.client_id.to_string();
    let mutation = i64::try_from(mutation_id.mutation).unwrap_or(i64::MAX);
    conn.spawn_blocking(move |conn| {
        sql_query("INSERT INTO _rhtmx_sync_mutation (client_id, mutation) VALUES (?1, ?2)")
            .bind::<Text, _>(client_id)
            .bind::<BigInt, _>(mutation)
            .execute(conn)
    })
    .await?;
    Ok(())
}

/// What a position must contain to show this transaction.
pub(crate) async fn commit_id(conn: &mut SqliteConn) -> Result<i64, diesel::result::Error> {
    conn.spawn_blocking(store::newest).await
}

/// Runs one write.
pub(crate) async fn write(conn: &mut SqliteConn, write: &TableWrite) -> Result<(), WriteFailed> {
    // SQLite checks not-null columns even where an upsert ends as an update, so an upsert of a row
    // that is there tries the update first.
    let ops: &[Op] = if write.op == Op::Upsert {
        &[Op::Update, Op::Upsert]
    } else {
        &[write.op]
    };
    let statements: Vec<Statement> = ops.iter().filter_map(|op| statement(write, *op)).collect();
    let tried = Tried {
        schema: write.schema.clone(),
        table: bare(write.relation()),
        op: write.op,
        values: values(write),
    };
    let op = write.op;
    let ended = conn
        .spawn_blocking(move |conn| run(conn, statements, &tried))
        .await?;
    match (ended, op) {
        (Ok(0), Op::Update | Op::Delete) => Err(WriteFailed::Rejected(not_found())),
        (Ok(_), _) => Ok(()),
        (Err(reject), _) => Err(WriteFailed::Rejected(reject)),
    }
}

/// Whether the row that is written matches a filter as it is now; none when it does not exist, or when the
/// write leaves its key to the database. The transaction is the only one that writes, so the answer still
/// holds when the write runs.
pub(crate) async fn row_matches(
    conn: &mut SqliteConn,
    write: &TableWrite,
    filter: &Filter,
) -> Result<Option<bool>, diesel::result::Error> {
    #[derive(QueryableByName)]
    struct Matches {
        #[diesel(sql_type = Bool)]
        matches: bool,
    }
    if write.key.is_none() {
        return Ok(None);
    }
    let statement = predicate(
        Statement::new("SELECT coalesce("),
        filter.condition(),
        &write.schema,
    );
    let statement = statement.sql(format!(", 0) AS matches FROM {} t", write.relation()));
    let statement = with_key(statement, write);
    conn.spawn_blocking(move |conn| {
        let found: Vec<Matches> = statement.load(conn)?;
        Ok(found.into_iter().next().map(|found| found.matches))
    })
    .await
}

/// The writes are done, and whatever else happens in this transaction is not the mutation's.
///
/// Deferred foreign keys speak at the commit and at nothing before it: what is left of them then
/// fails the commit, and with it the transaction.
pub(crate) async fn settle(
    conn: &mut SqliteConn,
    _writes: &[TableWrite],
) -> Result<(), WriteFailed> {
    conn.spawn_blocking(|conn| sql_query("DELETE FROM _rhtmx_sync_mutation").execute(conn))
        .await?;
    Ok(())
}

/// Tries the statements until one finds a row: the number of rows, or why there is none.
fn run(
    conn: &mut SqliteConnection,
    statements: Vec<Statement>,
    tried: &Tried,
) -> Result<Result<usize, Reject>, diesel::result::Error> {
    for statement in statements {
        match statement.execute(conn) {
            Ok(0) => {}
            Ok(rows) => return Ok(Ok(rows)),
            Err(error) => match explain::refused(&error) {
                Some(refused) => return Ok(Err(explain::reject(conn, tried, &refused)?)),
                None => return Err(error),
            },
        }
    }
    Ok(Ok(0))
}

/// None for an update that would set nothing.
fn statement(write: &TableWrite, op: Op) -> Option<Statement> {
    let (table, schema) = (write.relation(), &write.schema);
    let named = values(write);
    let names: Vec<String> = named
        .iter()
        .map(|(index, _)| ident(&schema.columns[*index].name))
        .collect();
    Some(match op {
        Op::Create if names.is_empty() => {
            Statement::new(format!("INSERT INTO {table} DEFAULT VALUES"))
        }
        Op::Create => insert(table, &names, named),
        Op::Upsert => {
            let key: Vec<String> = schema
                .key_columns()
                .map(|column| ident(&column.name))
                .collect();
            let set: Vec<String> = names
                .iter()
                .filter(|name| !key.contains(name))
                .map(|name| format!("{name} = excluded.{name}"))
                .collect();
            let action = match set.is_empty() {
                true => "NOTHING".to_owned(),
                false => format!("UPDATE SET {}", set.join(", ")),
            };
            insert(table, &names, named)
                .sql(format!(" ON CONFLICT ({}) DO {action}", key.join(", ")))
        }
        Op::Update => {
            let mut statement = Statement::new(format!("UPDATE {table} SET "));
            let set = names
                .iter()
                .zip(named)
                .filter(|(_, (index, _))| !schema.is_key(*index));
            let set: Vec<_> = set.collect();
            if set.is_empty() {
                return None;
            }
            for (place, (name, (_, value))) in set.into_iter().enumerate() {
                let comma = if place > 0 { ", " } else { "" };
                statement = statement.sql(format!("{comma}{name} = ")).value(value);
            }
            with_key(statement, write)
        }
        Op::Delete => with_key(Statement::new(format!("DELETE FROM {table}")), write),
    })
}

fn insert(table: &str, names: &[String], named: Vec<(usize, Value)>) -> Statement {
    Statement::new(format!(
        "INSERT INTO {table} ({}) VALUES (",
        names.join(", ")
    ))
    .values(named.into_iter().map(|(_, value)| value))
    .sql(")")
}

/// Goes on with the condition that this is the row. Keys are told apart byte by byte, whatever the
/// column's collation calls equal.
fn with_key(mut statement: Statement, write: &TableWrite) -> Statement {
    let keys = write.key.iter().flatten();
    for (place, (column, key)) in write.schema.key_columns().zip(keys).enumerate() {
        let word = if place == 0 { "WHERE" } else { "AND" };
        let name = ident(&column.name);
        let value = key_value(&write.schema, &column.kind, &key.to_string());
        let is_text = matches!(value, Value::Text(_));
        statement = statement
            .sql(format!(" {word} {name} = "))
            .value(value.clone());
        if is_text {
            statement = statement
                .sql(format!(" AND {name} COLLATE BINARY = "))
                .value(value);
        }
    }
    statement
}

/// What is written, by the position of the column.
fn values(write: &TableWrite) -> Vec<(usize, Value)> {
    let schema = &write.schema;
    let stored = |(index, raw): &(usize, Box<RawValue>)| {
        let kind = &schema.columns[*index].kind;
        let value = match value(kind, raw.get()) {
            _ if schema.is_key(*index) => key_value(schema, kind, raw.get()),
            Value::Text(text) if *kind == ColumnKind::TimestampTz => {
                Value::Text(with_all_parts(text))
            }
            value => value,
        };
        (*index, value)
    };
    write.values.iter().map(stored).collect()
}

/// A value in a key. On the wire a key of one column without a type is a text, also where it stands
/// for an integer.
fn key_value(schema: &Schema, kind: &ColumnKind, json: &str) -> Value {
    match value(kind, json) {
        Value::Text(text) if *kind == ColumnKind::Other && schema.key.len() == 1 => {
            match text.parse::<i64>() {
                Ok(integer) if integer.to_string() == text => Value::Integer(integer),
                _ => Value::Text(text),
            }
        }
        value => value,
    }
}

/// A checked JSON value as SQLite stores it.
fn value(kind: &ColumnKind, json: &str) -> Value {
    if json == "null" {
        return Value::Null;
    }
    // What is in the quotes, or the number itself.
    let text = || serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    match kind {
        ColumnKind::Bool => Value::Integer((json == "true").into()),
        ColumnKind::Int { .. } => integer_or_text(text()),
        ColumnKind::Float => real_or_text(text()),
        ColumnKind::Bytes => {
            let text: String = text();
            BASE64.decode(&text).map_or(Value::Text(text), Value::Blob)
        }
        ColumnKind::Json => Value::Text(json.to_owned()),
        ColumnKind::Other => match json.as_bytes().first() {
            Some(b't' | b'f') => Value::Integer((json == "true").into()),
            Some(b'"' | b'[' | b'{') => Value::Text(text()),
            _ => match integer_or_text(json.to_owned()) {
                Value::Text(text) => real_or_text(text),
                integer => integer,
            },
        },
        // The column's affinity makes a number of what is meant as one.
        _ => Value::Text(text()),
    }
}

fn integer_or_text(text: String) -> Value {
    text.parse().map_or(Value::Text(text), Value::Integer)
}

/// `"NaN"` stays a text: SQLite takes it for null.
fn real_or_text(text: String) -> Value {
    match text.parse::<f64>() {
        Ok(real) if !real.is_nan() => Value::Real(real),
        _ => Value::Text(text),
    }
}

/// A time with its seconds, and the minutes of its zone, which SQLite's functions want to see.
fn with_all_parts(mut time: String) -> String {
    const MINUTES_END: usize = "YYYY-MM-DDTHH:MM".len();
    if time.len() >= MINUTES_END && time.as_bytes().get(MINUTES_END) != Some(&b':') {
        time.insert_str(MINUTES_END, ":00");
    }
    let zone = time.rfind(['+', '-']).filter(|sign| *sign > MINUTES_END);
    if zone.is_some_and(|sign| time.len() - sign == "+HH".len()) {
        time.push_str(":00");
    }
    time
}

/// A quoted name without its quotes.
fn bare(quoted: &str) -> String {
    quoted
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .unwrap_or(quoted)
        .replace("\"\"", "\"")
}
