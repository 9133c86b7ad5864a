//! A write as SQL.
//!
//! The statements run with the role's own search path, on which the users' triggers may rely, so they name the schema
//! of every function and operator: somebody else's with closer argument types would run with the engine's rights.

use filter::Filter;
use protocol::Op;
use serde_json::value::RawValue;
use value::schema::{ColumnKind, Schema};

use crate::fields::{Beside, Loses};
use crate::postgres::filter::{Predicate, Predicates};
use crate::quote::ident;
use crate::write::{RunAs, TableWrite};

/// The writes as `_rhtmx_sync_apply` takes them: a JSON array, in ASCII so that no database's encoding matters until
/// the values are read.
pub(in crate::postgres) fn steps(writes: &[TableWrite], merged: Option<&str>) -> String {
    let run_as = writes.iter().find_map(|write| write.run_as.as_deref());
    steps_of(writes, run_as, merged)
}

/// The same where what is deferred runs as somebody else than the engine, too.
pub(in crate::postgres) fn steps_of(
    writes: &[TableWrite],
    run_as: Option<&RunAs>,
    merged: Option<&str>,
) -> String {
    let run_as = run_as.map(|run_as| {
        let (role, settings) = (json_text(&run_as.role), json_text(&run_as.settings));
        format!(r#"{{"as":{{"role":{role},"settings":{settings}}}}}"#)
    });
    let merged = merged.map(|merged| format!(r#"{{"merged":{}}}"#, json_text(&merged)));
    let before = run_as.into_iter().chain(merged);
    let steps: Vec<String> = before.chain(writes.iter().map(step)).collect();
    ascii(&format!("[{}]", steps.join(",")))
}

fn step(write: &TableWrite) -> String {
    // `INSERT … ON CONFLICT` checks not-null columns even if it ends as an update, so an upsert tries the
    // update first. Where the database decides, that is one statement, if it can be: then both kinds of rights are asked,
    // whether the row exists or not.
    let runs_as_role = write.run_as.is_some();
    let beside = write.beside.as_deref();
    let loses = beside.and_then(|beside| beside.loses);
    let ops: &[Op] = match write.op {
        _ if loses.is_some() => &[],
        Op::Upsert if runs_as_role && is_whole(write) => &[Op::Upsert],
        Op::Upsert => &[Op::Update, Op::Upsert],
        _ => std::slice::from_ref(&write.op),
    };
    let guard = guard(write);
    let check = check(write, guard.as_ref()).filter(|_| loses.is_none());
    let mut statements: Vec<String> = Vec::new();
    if loses == Some(Loses::Row) {
        statements.push(found(write, guard.as_ref(), None));
    } else if guard.is_some() && sets_nothing(write) && write.op == Op::Upsert {
        // Then the upsert leaves a row that it finds as it is.
        statements.push(found(write, guard.as_ref(), check.as_ref()));
    }
    let predicate = guard.as_ref().map(|guard| guard.sql.as_str());
    let returning = check.as_ref().map_or_else(String::new, |check| {
        format!(" RETURNING {}", returned(write, check))
    });
    let of_ops = ops.iter().filter_map(|op| statement(write, *op, predicate));
    statements.extend(of_ops.map(|statement| statement + &returning));
    if runs_as_role && sets_nothing(write) && write.op == Op::Upsert {
        // A row that the insert has met may be one that does not exist for the role.
        statements.push(visible(write, "$2", "1"));
    }
    let params: Vec<&str> = guard
        .iter()
        .chain(&check)
        .flat_map(|predicate| predicate.params.iter().map(String::as_str))
        .collect();
    let params = (guard.is_some() || check.is_some()).then_some(params.as_slice());
    let mut step = format!(
        r#"{{"s":{},"v":{},"k":{}"#,
        json_text(&statements),
        object(&write.schema, &write.values),
        key_object(write, params)
    );
    // An upsert that writes nothing has found a row that its writer may not write.
    let finds =
        write.op != Op::Create && (write.op != Op::Upsert || guard.is_some() || runs_as_role);
    if finds && loses != Some(Loses::Deletion) {
        step.push_str(r#","n":true"#);
    }
    if runs_as_role {
        step.push_str(r#","a":true"#);
    }
    if let Some(beside) = beside {
        step.push_str(&format!(r#","f":{}"#, kept(write, beside)));
    }
    if let Some(check) = write.scope.check.as_ref().filter(|_| check.is_some()) {
        // By then the row itself may be in a set that says who may write it.
        let (query, params) = matches(write, predicates(write).without_itself(), check, "$1", "$2");
        // The answer is still true at the commit.
        let query = json_text(&(query + " FOR UPDATE OF t"));
        let (relation, params) = (json_text(write.relation()), json_text(&params));
        step.push_str(&format!(r#","r":{relation},"c":{query},"p":{params}"#));
        if write.key.is_none() {
            step.push_str(r#","g":true"#);
        }
    }
    step.push('}');
    step
}

/// What is kept beside the row, as `_rhtmx_sync_apply` takes it.
fn kept(write: &TableWrite, beside: &Beside) -> String {
    let key = write.canonical_key().unwrap_or_default();
    // A row that is to be created has no lock: if it is there by now, creating it fails.
    let lock = match write.op {
        Op::Create => String::new(),
        _ => found(write, None, None),
    };
    let mut kept = format!(
        r#"{{"l":{},"e":{},"i":{},"x":{},"s":{}"#,
        json_text(&lock),
        json_text(&write.entity),
        json_text(&key),
        beside.expected.as_deref().unwrap_or("null"),
        json_text(&beside.stamped),
    );
    if let Some(entry) = &beside.entry {
        kept.push_str(&format!(
            r#","m":{},"w":{},"g":{}"#,
            entry.metadata,
            json_text(entry.newest.as_str()),
            entry.image.as_deref().unwrap_or("null"),
        ));
    }
    let lost = &beside.lost;
    if !lost.kept.is_empty() {
        let values = lost.kept.iter().map(|conflict| {
            let (field, clock) = (&conflict.field, conflict.lost.hlc.as_str());
            serde_json::json!({"f": field, "h": clock, "v": conflict.lost.value})
        });
        let values: Vec<_> = values.collect();
        kept.push_str(&format!(r#","c":{}"#, json_text(&values)));
    }
    if !lost.resolved.is_empty() {
        let resolved = lost.resolved.iter();
        let resolved =
            resolved.map(|(field, clock)| serde_json::json!({"f": field, "h": clock.as_str()}));
        let resolved: Vec<_> = resolved.collect();
        kept.push_str(&format!(r#","d":{}"#, json_text(&resolved)));
    }
    if lost.is_told {
        kept.push_str(r#","t":true"#);
    } else if beside.loses.is_some() && beside.entry.is_some() {
        kept.push_str(r#","p":true"#);
    }
    kept + "}"
}

/// A query that locks the rows with the keys in `$1`, an array of their objects.
pub(in crate::postgres) fn lock_all(write: &TableWrite) -> String {
    format!(
        "SELECT 1 FROM pg_catalog.jsonb_array_elements($1::pg_catalog.jsonb) AS e(j){} JOIN {} t ON {} FOR UPDATE OF t",
        from(
            " CROSS JOIN",
            [&record(write, &write.schema.key, "k", "e.j")]
        ),
        write.relation(),
        key_is(write, "e.j"),
    )
}

/// A statement that inserts the rows in `$1`, an array of the objects of their values, with the columns of this write.
pub(in crate::postgres) fn insert_all(write: &TableWrite) -> String {
    let written: Vec<usize> = write.values.iter().map(|(index, _)| *index).collect();
    let name = |index: &usize| ident(&write.schema.columns[*index].name);
    let names: Vec<String> = written.iter().map(name).collect();
    let values: Vec<String> = written
        .iter()
        .map(|index| value(write, *index, "v", "e.j"))
        .collect();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM pg_catalog.jsonb_array_elements($1::pg_catalog.jsonb) AS e(j){}",
        write.relation(),
        names.join(", "),
        values.join(", "),
        from(" CROSS JOIN", [&record(write, &written, "v", "e.j")]),
    )
}

/// What the row must match that a write finds. It is part of the statement, so that no row can come in between; its
/// parameters are in the key's object, under a name that no column has.
fn guard(write: &TableWrite) -> Option<Predicate> {
    let using = write.scope.using.as_ref();
    let using = using.filter(|_| write.op != Op::Create)?;
    Some(with_params_in_key(write, using, 0))
}

/// What the row must match that a write leaves behind. The statement returns whether it does; its parameters come after
/// the guard's.
fn check(write: &TableWrite, guard: Option<&Predicate>) -> Option<Predicate> {
    let check = write.scope.check.as_ref();
    let check = check.filter(|_| write.op != Op::Delete)?;
    let before = guard.map_or(0, |guard| guard.params.len());
    Some(with_params_in_key(write, check, before))
}

/// A filter whose parameters are in the key's object, after as many others.
fn with_params_in_key(write: &TableWrite, filter: &Filter, before: usize) -> Predicate {
    predicates(write).write_with(filter.condition(), |number| {
        let index = before + number - 1;
        format!("($2 OPERATOR(pg_catalog.#>>) '{{\"{PARAMS}\",{index}}}')")
    })
}

/// Where the parameters of the guard and the check are in the key's object.
const PARAMS: &str = "";

/// What a statement returns of the row `t`: the oid of the row's own table, which may be a partition, if the row matches
/// the check; and its key where the database chose that.
fn returned(write: &TableWrite, check: &Predicate) -> String {
    let table = format!("CASE WHEN {} THEN t.tableoid END", check.sql);
    match write.key {
        Some(_) => table,
        None => format!("{table}, {}", chosen_key(&write.schema)),
    }
}

/// The key of the row `t` as [`key_object`] has it.
fn chosen_key(schema: &Schema) -> String {
    let members: Vec<String> = schema
        .key_columns()
        .map(|column| {
            let name = ident(&column.name);
            let value = match is_bytes(&column.kind) {
                true => format!("pg_catalog.encode(t.{name}, 'base64')"),
                false => format!("t.{name}"),
            };
            format!("{}, {value}", crate::quote::literal(&column.name))
        })
        .collect();
    format!("pg_catalog.jsonb_build_object({})", members.join(", "))
}

/// A query for the row with the write's key, if it matches the guard. It locks the row.
fn found(write: &TableWrite, guard: Option<&Predicate>, check: Option<&Predicate>) -> String {
    format!(
        "SELECT {} FROM {} t{} WHERE {}{} FOR UPDATE OF t",
        check.map_or_else(|| "1".to_owned(), |check| returned(write, check)),
        write.relation(),
        from(
            " CROSS JOIN",
            [&record(write, &write.schema.key, "k", "$2")]
        ),
        key_is(write, "$2"),
        and(guard.map(|guard| guard.sql.as_str())),
    )
}

/// A query for the row with the key in the JSON object `key`, which returns `what`, without a lock.
pub(super) fn visible(write: &TableWrite, key: &str, what: &str) -> String {
    format!(
        "SELECT {what} FROM {} t{} WHERE {}",
        write.relation(),
        from(" CROSS JOIN", [&record(write, &write.schema.key, "k", key)]),
        key_is(write, key),
    )
}

/// Whether a row can be created from a write: no column is missing that the database needs.
fn is_whole(write: &TableWrite) -> bool {
    let is_written = |index: usize| write.values.iter().any(|(written, _)| *written == index);
    let mut columns = write.schema.columns.iter().enumerate();
    columns.all(|(index, column)| {
        column.nullable || column.has_default || column.generated || is_written(index)
    })
}

fn and(guard: Option<&str>) -> String {
    guard.map_or_else(String::new, |guard| format!(" AND {guard}"))
}

/// How conditions on the written table are written.
pub(super) fn predicates(write: &TableWrite) -> Predicates<'_> {
    Predicates::new(&write.table, &write.others)
}

/// A query whether the row with the write's key matches a filter, and the filter's parameters; `key` and `params` are the
/// parameters of the query.
pub(super) fn matches(
    write: &TableWrite,
    predicates: Predicates<'_>,
    filter: &Filter,
    key: &str,
    params: &str,
) -> (String, Vec<String>) {
    let placeholder = |number| format!("{params}[{number}]");
    let predicate = predicates.write_with(filter.condition(), placeholder);
    let query = format!(
        "SELECT coalesce({}, false) AS answer FROM {} t{} WHERE {}",
        predicate.sql,
        write.relation(),
        from(" CROSS JOIN", [&record(write, &write.schema.key, "k", key)]),
        key_is(write, key),
    );
    (query, predicate.params)
}

/// JSON with every other character escaped, which can only be within a string.
pub(super) fn ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() {
            ascii.push(char);
        } else {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// Whether a write sets no column of a row that it finds.
fn sets_nothing(write: &TableWrite) -> bool {
    let mut written = write.values.iter();
    written.all(|(index, _)| !write.sets(*index))
}

/// The write's statement; `$1` is the JSON object of the values, `$2` that of the key. A row that is there is written
/// only if it matches the guard. `None` for an update that sets nothing.
fn statement(write: &TableWrite, op: Op, guard: Option<&str>) -> Option<String> {
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
    let key_is = key_is(write, "$2") + &and(guard);
    let insert = || {
        if names.is_empty() {
            format!("INSERT INTO {table} AS t DEFAULT VALUES")
        } else {
            format!(
                "INSERT INTO {table} AS t ({}) SELECT {}{}",
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
            let others = written.iter().zip(&names);
            let others = others.filter(|(index, _)| write.sets(**index));
            let set: Vec<String> = others
                .map(|(_, name)| format!("{name} = EXCLUDED.{name}"))
                .collect();
            let action = if set.is_empty() {
                "NOTHING".to_owned()
            } else {
                let guard = guard.map_or_else(String::new, |guard| format!(" WHERE {guard}"));
                format!("UPDATE SET {}{guard}", set.join(", "))
            };
            format!("{} ON CONFLICT ({}) DO {action}", insert(), key.join(", "))
        }
        Op::Update => {
            let beside = write.beside.as_deref();
            let is_added = |index| beside.is_some_and(|beside| beside.adds.contains(&index));
            let set: Vec<String> = written
                .iter()
                .zip(names.iter().zip(&values))
                .filter(|(index, _)| write.sets(**index))
                .map(|(index, (name, value))| match is_added(*index) {
                    true => {
                        format!("{name} = coalesce(t.{name}, 0) OPERATOR(pg_catalog.+) {value}")
                    }
                    false => format!("{name} = {value}"),
                })
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
pub(super) fn key_is(write: &TableWrite, parameter: &str) -> String {
    let parts: Vec<String> = write
        .schema
        .key
        .iter()
        .map(|&index| {
            let column = &write.schema.columns[index];
            let cast = write.table.key_cast(index);
            format!(
                "t.{}{cast} {} {}{cast}",
                ident(&column.name),
                write.table.equality(index),
                value(write, index, "k", parameter)
            )
        })
        .collect();
    parts.join(" AND ")
}

/// A record of these columns from the JSON object `parameter`; `None` when no column needs one.
///
/// It has no other columns: a missing one would be null, which its domain may forbid.
pub(super) fn record(
    write: &TableWrite,
    columns: &[usize],
    alias: &str,
    parameter: &str,
) -> Option<String> {
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
            "pg_catalog.jsonb_to_record({parameter}) AS {alias}({})",
            defined.join(", ")
        )
    })
}

pub(super) fn from<const N: usize>(word: &str, records: [&Option<String>; N]) -> String {
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
pub(super) fn value(write: &TableWrite, index: usize, record: &str, parameter: &str) -> String {
    let column = &write.schema.columns[index];
    let name = crate::quote::literal(&column.name);
    match &column.kind {
        ColumnKind::Bytes => {
            format!("pg_catalog.decode({parameter} OPERATOR(pg_catalog.->>) {name}, 'base64')")
        }
        ColumnKind::Array(element) if **element == ColumnKind::Bytes => format!(
            "CASE pg_catalog.jsonb_typeof({parameter} OPERATOR(pg_catalog.->) {name}) WHEN 'array' THEN \
             (SELECT coalesce(pg_catalog.array_agg(pg_catalog.decode(e.v, 'base64') ORDER BY e.n), '{{}}') \
             FROM pg_catalog.jsonb_array_elements_text({parameter} OPERATOR(pg_catalog.->) {name}) \
             WITH ORDINALITY e(v, n)) END"
        ),
        _ => format!("{record}.{}", ident(&column.name)),
    }
}

/// The JSON object of these columns, each value exactly as the client wrote it.
pub(in crate::postgres) fn object(schema: &Schema, values: &[(usize, Box<RawValue>)]) -> String {
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

/// The JSON object of the key, with the parameters of guard and check if there are such.
pub(in crate::postgres) fn key_object(write: &TableWrite, params: Option<&[&str]>) -> String {
    let values = write.key.iter().flatten();
    let columns = write.schema.key_columns().zip(values);
    let columns = columns.map(|(column, value)| format!("{}:{value}", json_text(&column.name)));
    let params = params.map(|params| format!("{}:{}", json_text(PARAMS), json_text(params)));
    let members: Vec<String> = columns.chain(params).collect();
    format!("{{{}}}", members.join(","))
}

fn json_text(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("texts are JSON")
}

#[cfg(test)]
mod tests {
    use super::ascii;

    #[test]
    fn what_is_not_ascii_is_escaped_as_json() {
        assert_eq!(ascii(r#"["é😀\n"]"#), r#"["\u00e9\ud83d\ude00\n"]"#);
    }
}
