//! Each write of a mutation is one statement on the user's table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use filter::Filter;
use protocol::{Op, Reject, RejectCode};
use serde_json::value::RawValue;
use value::schema::{ColumnKind, Schema};

use super::explain::{self, Tried, WriteFailed};
use super::filter::Predicates;
use super::statement::{KeptStatements, Statement, Value};
use crate::quote::ident;
use crate::sets;
use crate::write::{TableWrite, not_found, outside_check, outside_using};

#[derive(QueryableByName)]
struct Matches {
    #[diesel(sql_type = Bool)]
    matches: bool,
}

/// Runs one write.
pub(super) fn write(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    kept: &KeptStatements,
) -> Result<(), WriteFailed> {
    // SQLite checks not-null columns even if an upsert ends as an update, so an upsert tries the update
    // first.
    let ops: &[Op] = if write.op == Op::Upsert {
        &[Op::Update, Op::Upsert]
    } else {
        &[write.op]
    };
    let statements = ops.iter().filter_map(|op| statement(write, *op));
    let statements: Vec<Statement> = statements.map(|one| kept.keep(one)).collect();
    let tried = Tried {
        schema: write.schema.clone(),
        table: bare(write.relation()),
        op: write.op,
        values: values(write),
    };
    let ended = run(conn, statements, &tried).map_err(explain::failure)?;
    match (ended, write.op) {
        (Ok(0), Op::Update | Op::Delete) => Err(WriteFailed::Rejected(not_found())),
        (Ok(_), _) => Ok(()),
        (Err(reject), _) => Err(WriteFailed::Rejected(in_scope(conn, write, reject)?)),
    }
}

/// A reject as its writer may know it: of rows that the writer could not write, not even which values are taken is told.
fn in_scope(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    reject: Reject,
) -> Result<Reject, diesel::result::Error> {
    let tells_of_others = matches!(reject.code, RejectCode::Exists | RejectCode::Constraint);
    if write.op == Op::Delete || !tells_of_others {
        return Ok(reject);
    }
    if !passes_check(conn, write)? {
        return Ok(outside_check());
    }
    // A key that is taken by a row that does not exist for the writer.
    let hides = match &write.scope.visible {
        Some(visible) if reject.code == RejectCode::Exists => {
            row_matches(conn, write, visible)? == Some(false)
        }
        _ => false,
    };
    Ok(if hides { outside_check() } else { reject })
}

/// Whether a write's values pass its check. A column that it does not name is as in the row that it finds, or null where
/// there is none.
fn passes_check(
    conn: &mut SqliteConnection,
    write: &TableWrite,
) -> Result<bool, diesel::result::Error> {
    let Some(check) = &write.scope.check else {
        return Ok(true);
    };
    let written = values(write);
    let mut statement =
        predicates(write).write(Statement::new("SELECT coalesce("), check.condition());
    statement = statement.sql(", 0) AS matches FROM (SELECT 1");
    for index in check.columns() {
        let name = ident(&write.schema.columns[index].name);
        statement = match written.iter().find(|(written, _)| *written == index) {
            Some((_, value)) => statement.sql(", ").value(value.clone()),
            None if write.op == Op::Create => statement.sql(", NULL"),
            None => statement.sql(format!(", r.{name}")),
        };
        statement = statement.sql(format!(" AS {name}"));
    }
    statement = statement.sql(" FROM (SELECT 1) one");
    if write.op != Op::Create {
        let found = format!(" LEFT JOIN (SELECT * FROM {}", write.relation());
        statement = with_key(statement.sql(found), write).sql(") r ON 1");
    }
    let found: Vec<Matches> = statement.sql(") t").load(conn)?;
    Ok(found.first().is_some_and(|found| found.matches))
}

/// Refuses an update or a delete of a row that its writer may not write.
pub(super) fn check_before(
    conn: &mut SqliteConnection,
    write: &TableWrite,
) -> Result<(), WriteFailed> {
    let Some(using) = write
        .scope
        .using
        .as_ref()
        .filter(|_| write.op != Op::Create)
    else {
        return Ok(());
    };
    if row_matches(conn, write, using)? != Some(false) {
        return Ok(());
    }
    if write.op == Op::Upsert {
        return Err(WriteFailed::Rejected(outside_check()));
    }
    let is_visible = match &write.scope.visible {
        Some(visible) => row_matches(conn, write, visible)? == Some(true),
        None => false,
    };
    Err(WriteFailed::Rejected(outside_using(is_visible)))
}

/// Refuses a row that its writer may not leave behind.
pub(super) fn check_afterwards(
    conn: &mut SqliteConnection,
    write: &TableWrite,
) -> Result<(), WriteFailed> {
    let check = write
        .scope
        .check
        .as_ref()
        .filter(|_| write.op != Op::Delete);
    match check {
        Some(check) if passes_check_afterwards(conn, write, check)? != Some(true) => {
            Err(WriteFailed::Rejected(outside_check()))
        }
        _ => Ok(()),
    }
}

/// How conditions on the written table are written.
fn predicates(write: &TableWrite) -> Predicates<'_> {
    Predicates::new(&write.table, &write.others)
}

/// Whether a row that has just been written passes the write's check; `None` when it cannot be found: no key names it,
/// and it has no row id. What the write makes of the row is in no set that says who may write it.
fn passes_check_afterwards(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    check: &Filter,
) -> Result<Option<bool>, diesel::result::Error> {
    let mut predicates = predicates(write);
    if !is_as_before(write, check) {
        predicates = predicates.without_itself();
    }
    if write.key.is_some() {
        let statement = with_key(matches_of(write, predicates, check), write);
        return found(conn, statement);
    }
    let has_rowid =
        "SELECT NOT wr AS matches FROM pragma_table_list WHERE schema = 'main' AND name = ";
    let has_rowid = Statement::new(has_rowid).value(Value::Text(bare(write.relation())));
    let has_rowid: Vec<Matches> = has_rowid.load(conn)?;
    let hides_rowid = write.schema.position(ROWID).is_some();
    if hides_rowid || !has_rowid.iter().any(|found| found.matches) {
        return Ok(None);
    }
    let statement = matches_of(write, predicates, check);
    // Inserts of triggers do not count.
    let statement = statement.sql(format!(" WHERE t.{ROWID} = last_insert_rowid()"));
    found(conn, statement)
}

/// Whether the written row is in the sets that a filter names as it was before the write.
fn is_as_before(write: &TableWrite, filter: &Filter) -> bool {
    let deciding = sets::columns_of(filter, write.relation(), &write.others);
    let name = |index: usize| write.schema.columns[index].name.as_str();
    let mut written = write.values.iter().filter(|(index, _)| write.sets(*index));
    write.op == Op::Update && written.all(|(index, _)| !deciding.contains(name(*index)))
}

/// The answer of a query for one row at most.
fn found(
    conn: &mut SqliteConnection,
    statement: Statement,
) -> Result<Option<bool>, diesel::result::Error> {
    let found: Vec<Matches> = statement.load(conn)?;
    Ok(found.into_iter().next().map(|found| found.matches))
}

/// The name of a row's id that columns have least often.
const ROWID: &str = "_rowid_";

/// Whether the row to be written, as it is now, matches a filter; `None` when it does not exist, or when the
/// database generates its key. There is only one writer at a time, so the answer is still true when the write
/// runs.
fn row_matches(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    filter: &Filter,
) -> Result<Option<bool>, diesel::result::Error> {
    if write.key.is_none() {
        return Ok(None);
    }
    found(
        conn,
        with_key(matches_of(write, predicates(write), filter), write),
    )
}

/// The query whether a row of the written table matches a filter, without the condition that says which row.
fn matches_of(write: &TableWrite, predicates: Predicates<'_>, filter: &Filter) -> Statement {
    let statement = predicates.write(Statement::new("SELECT coalesce("), filter.condition());
    statement.sql(format!(", 0) AS matches FROM {} t", write.relation()))
}

/// Tries the statements until one affects a row. Returns the number of rows, or the reject.
fn run(
    conn: &mut SqliteConnection,
    statements: Vec<Statement>,
    tried: &Tried,
) -> Result<Result<usize, Reject>, diesel::result::Error> {
    for statement in statements {
        match statement.execute(conn) {
            Ok(0) => {}
            Ok(rows) => return Ok(Ok(rows)),
            Err(error) => match explain::violation(&error) {
                Some(violation) => return Ok(Err(explain::reject(conn, tried, &violation)?)),
                None => return Err(error),
            },
        }
    }
    Ok(Ok(0))
}

/// The write's statement; `None` for an update that sets nothing.
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
            let set: Vec<String> = named
                .iter()
                .zip(&names)
                .filter(|((index, _), _)| write.sets(*index))
                .map(|(_, name)| format!("{name} = excluded.{name}"))
                .collect();
            let action = if set.is_empty() {
                "NOTHING".to_owned()
            } else {
                format!("UPDATE SET {}", set.join(", "))
            };
            insert(table, &names, named)
                .sql(format!(" ON CONFLICT ({}) DO {action}", key.join(", ")))
        }
        Op::Update => {
            let mut statement = Statement::new(format!("UPDATE {table} SET "));
            let set = names
                .iter()
                .zip(named)
                .filter(|(_, (index, _))| write.sets(*index));
            let set: Vec<_> = set.collect();
            if set.is_empty() {
                return None;
            }
            for (index, (name, (_, value))) in set.into_iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
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

/// Appends the condition that a row has the write's key. Keys are compared byte by byte, whatever is equal
/// under the column's collation.
fn with_key(mut statement: Statement, write: &TableWrite) -> Statement {
    let keys = write.key.iter().flatten();
    for (index, (column, key)) in write.schema.key_columns().zip(keys).enumerate() {
        let word = if index == 0 { "WHERE" } else { "AND" };
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

/// The values to write, each with its column's index.
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

/// A value in a key. In the protocol a key of one column without a type is a text, even if it stands for an
/// integer.
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
    // The string without its quotes, or the number itself.
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
        // The column's affinity converts a text to a number where it should be one.
        _ => Value::Text(text()),
    }
}

fn integer_or_text(text: String) -> Value {
    text.parse().map_or(Value::Text(text), Value::Integer)
}

/// A real, or the text if it is none. `"NaN"` stays a text, because SQLite stores it as null otherwise.
fn real_or_text(text: String) -> Value {
    match text.parse::<f64>() {
        Ok(real) if !real.is_nan() => Value::Real(real),
        _ => Value::Text(text),
    }
}

/// A time with its seconds and its zone's minutes, which SQLite's functions require.
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
