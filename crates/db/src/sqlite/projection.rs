//! The SQL that turns a row into JSON, in the form of PostgreSQL's rows.
//!
//! SQLite accepts any value in almost any column, so the value's own type decides; the declared type says
//! what the value means. A number beyond ±2^53 is a string (but not in a column of reals, where every number
//! is a double), and bytes are base64.
//!
//! Triggers run inside other programs, which may contain an older SQLite: their SQL uses nothing newer than
//! its JSON functions, and bytes are hex where base64 would take time. It is kept short, because preparing
//! any statement on the table compiles it.

use value::schema::ColumnKind;

use super::table::{Field, Table};
use crate::quote::{ident, literal};

/// Up to this whole number a double represents all of them exactly.
const EXACT_MAX: &str = "9007199254740992";
/// The greatest finite double.
const REAL_MAX: &str = "1.7976931348623157e308";
/// An older SQLite passes at most 127 arguments to a function; each column needs two.
const OBJECT_COLUMNS_MAX: usize = 63;
/// SQLite nests expressions at most 1000 deep, and `a || b || c` is as deep as it is long.
const CONCATENATED_MAX: usize = 64;

/// The context in which the SQL runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// A read on one of the engine's own connections.
    Read,
    /// A trigger.
    Trigger,
    /// A trigger that keeps values to write them again, so that they look as in a read.
    Image,
}

/// The value of `v` as an argument for `json_object` and `json_quote`.
fn json_value(field: &Field, v: &str, context: Context) -> String {
    if field.is_rowid {
        return format!("CASE WHEN {} THEN {v} ELSE {v} || '' END", is_exact(v));
    }
    // Bytes in a column of another type must not look like a value of that type.
    let is_for_bytes = matches!(field.kind, ColumnKind::Bytes | ColumnKind::Other);
    let bytes = match (context, is_for_bytes) {
        (Context::Read, true) => format!("rhtmx_base64({v})"),
        (Context::Read, false) => format!("json_object('base64', rhtmx_base64({v}))"),
        (Context::Image, true) => base64(v),
        (Context::Trigger | Context::Image, _) => format!("json_object('hex', hex({v}))"),
    };
    let any = format!(
        "CASE WHEN {} THEN {v} WHEN typeof({v}) = 'blob' THEN {bytes} ELSE {v} || '' END",
        is_exact(v)
    );
    match (&field.kind, context) {
        (ColumnKind::Text { .. }, _) => {
            format!("CASE typeof({v}) WHEN 'blob' THEN {bytes} ELSE {v} END")
        }
        (ColumnKind::Float | ColumnKind::Numeric, _) => {
            let real = real(v, context);
            let whole = match field.kind {
                ColumnKind::Float => v.to_owned(),
                _ => format!("CASE WHEN {} THEN {v} ELSE {v} || '' END", is_exact(v)),
            };
            // Of the texts that such a column keeps as texts, only these look like one of its numbers.
            format!(
                "CASE typeof({v}) WHEN 'real' THEN {real} WHEN 'blob' THEN {bytes} WHEN 'text' THEN \
                 CASE WHEN {v} IN ('Infinity', '-Infinity') THEN json_object('text', {v}) ELSE {v} END \
                 ELSE {whole} END"
            )
        }
        // A number that has to be written as a text must not look like one of the column's texts.
        (ColumnKind::Uuid | ColumnKind::Date, _) => format!(
            "CASE typeof({v}) WHEN 'text' THEN {v} WHEN 'blob' THEN {bytes} WHEN 'null' THEN NULL \
             ELSE CASE WHEN {} THEN {v} ELSE json_object('number', {v} || '') END END",
            is_exact(v)
        ),
        (ColumnKind::Bool, _) => {
            format!("CASE {v} WHEN 0 THEN json('false') WHEN 1 THEN json('true') ELSE {any} END")
        }
        (ColumnKind::TimestampTz, _) => time(v, &any),
        (ColumnKind::Json, Context::Image) => format!(
            "CASE WHEN CASE typeof({v}) WHEN 'text' THEN json_valid({v}) END THEN json({v}) ELSE {any} END"
        ),
        // The flag 8 checks for SQLite's own binary form.
        (ColumnKind::Json, _) => format!(
            "CASE WHEN CASE typeof({v}) WHEN 'text' THEN json_valid({v}) \
             WHEN 'blob' THEN json_valid({v}, 8) END THEN json({v}) ELSE {any} END"
        ),
        _ => any,
    }
}

/// The condition that `v` is a number in the range in which a double represents every whole number exactly.
/// Texts and bytes compare greater than any number.
fn is_exact(v: &str) -> String {
    format!("{v} BETWEEN -{EXACT_MAX} AND {EXACT_MAX}")
}

/// The condition that `v` is a whole number in that range.
fn is_whole(v: &str) -> String {
    format!("{} AND {v} = CAST({v} AS INTEGER)", is_exact(v))
}

fn real(v: &str, context: Context) -> String {
    // Before 3.53 SQLite writes only 15 digits by default, and not always the right ones when asked for more.
    let exact = match context {
        Context::Read => format!("rhtmx_double({v})"),
        Context::Trigger | Context::Image => digits(v),
    };
    format!(
        "CASE WHEN {} THEN CAST({v} AS INTEGER) WHEN abs({v}) <= {REAL_MAX} THEN json({exact}) \
         WHEN {v} > 0 THEN 'Infinity' ELSE '-Infinity' END",
        is_whole(v)
    )
}

/// The text of `v` with as many digits as the double needs.
fn digits(v: &str) -> String {
    format!(
        "CASE CAST(printf('%.15g', {v}) AS REAL) WHEN {v} THEN printf('%.15g', {v}) \
         ELSE printf('%!.17g', {v}) END"
    )
}

/// A time in the form that SQLite's own functions write, with or without a fraction and a zone, becomes ISO
/// 8601 in UTC; anything else becomes `other`.
fn time(v: &str, other: &str) -> String {
    const DAY: &str = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]";
    const CLOCK: &str = "[T ][0-9][0-9]:[0-9][0-9]:[0-9][0-9]";
    // `f` is what follows the seconds, `z` the zone at its end.
    format!(
        "CASE WHEN {v} GLOB '{DAY}{CLOCK}' \
         THEN substr({v}, 1, 10) || 'T' || substr({v}, 12) || '+00:00' \
         WHEN {v} GLOB '{DAY}{CLOCK}[.Z+-]*' THEN (SELECT coalesce( \
         strftime('%Y-%m-%dT%H:%M:%S', substr({v}, 1, 19) || z) \
         || rtrim(rtrim(substr(f, 1, length(f) - length(z)), '0'), '.') || '+00:00', {v}) \
         FROM (SELECT substr({v}, 20) AS f, ltrim(substr({v}, 20), '.0123456789') AS z)) \
         ELSE {other} END"
    )
}

/// The JSON text of the row with this alias, for reads.
pub(super) fn row(table: &Table, alias: &str) -> String {
    if table.fields.len() > OBJECT_COLUMNS_MAX {
        return whole_row(table, alias, Context::Read);
    }
    let member = |field: &Field| {
        format!(
            "{}, {}",
            literal(&field.name),
            json_value(field, &field.of(alias), Context::Read)
        )
    };
    format!(
        "json_object({})",
        table
            .fields
            .iter()
            .map(member)
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// The JSON text of the row with this alias, however many columns it has.
pub(super) fn whole_row(table: &Table, alias: &str, context: Context) -> String {
    object(members(table, alias, context))
}

/// Each column's part of [`object`].
pub(super) fn members(table: &Table, alias: &str, context: Context) -> Vec<String> {
    table
        .fields
        .iter()
        .map(|field| member(field, alias, context))
        .collect()
}

/// The JSON text of the values of these columns, from which the row can be written again; null if one of them is of bytes
/// where no bytes belong, which an older SQLite cannot read as what they may be.
pub(super) fn image(fields: &[&Field], alias: &str) -> String {
    let members = fields
        .iter()
        .map(|field| member(field, alias, Context::Image))
        .collect();
    let others = fields
        .iter()
        .filter(|field| !matches!(field.kind, ColumnKind::Bytes | ColumnKind::Other));
    let types: Vec<String> = others
        .map(|field| format!("typeof({})", field.of(alias)))
        .collect();
    let object = object(members);
    if types.is_empty() {
        return object;
    }
    format!(
        "CASE WHEN instr({}, 'blob') = 0 THEN {object} END",
        concatenated(types)
    )
}

/// The condition that the value of a column changed. Values are compared as bytes: under a column's collation two
/// different texts may be equal.
pub(super) fn is_changed(field: &Field) -> String {
    format!(
        "({} COLLATE BINARY) IS NOT {}",
        field.of("OLD"),
        field.of("NEW")
    )
}

/// The JSON text of the values of `OLD` in the columns that changed.
pub(super) fn changed_columns(table: &Table) -> String {
    let members = table.fields.iter().map(|field| {
        let (is_changed, member) = (is_changed(field), member(field, "OLD", Context::Trigger));
        format!("CASE WHEN {is_changed} THEN {member} ELSE '' END")
    });
    object(members.collect())
}

/// `,"name":value`. What filters cannot compare is in the log as 0, or as null.
fn member(field: &Field, alias: &str, context: Context) -> String {
    let label = serde_json::to_string(&field.name).expect("text is JSON");
    let label = literal(&format!(",{label}:"));
    let value = field.of(alias);
    if context == Context::Trigger && !field.compared {
        return format!("{label} || CASE WHEN {value} IS NULL THEN 'null' ELSE '0' END");
    }
    format!(
        "{label} || json_quote({})",
        json_value(field, &value, context)
    )
}

/// The JSON text of an object of these members.
pub(super) fn object(members: Vec<String>) -> String {
    format!("'{{' || substr({}, 2) || '}}'", concatenated(members))
}

fn concatenated(mut parts: Vec<String>) -> String {
    while parts.len() > CONCATENATED_MAX {
        parts = parts
            .chunks(CONCATENATED_MAX)
            .map(|chunk| format!("({})", chunk.join(" || ")))
            .collect();
    }
    parts.join(" || ")
}

/// The canonical key of the row with this alias, as text; null for a key that its text does not identify, so
/// that the row is not synced.
pub(super) fn key_text(table: &Table, alias: &str, context: Context) -> String {
    let parts: Vec<String> = table
        .key_fields()
        .map(|field| key_part(field, &field.of(alias), context, table.key.len() > 1))
        .collect();
    match parts.as_slice() {
        [one] => one.clone(),
        several => format!("('[' || {} || ']')", several.join(" || ',' || ")),
    }
}

/// One value of a key as text, or as JSON.
fn key_part(field: &Field, v: &str, context: Context, as_json: bool) -> String {
    if field.is_rowid {
        return format!("CAST({v} AS TEXT)");
    }
    let quoted = |text: String| {
        if as_json {
            format!("'\"' || {text} || '\"'")
        } else {
            text
        }
    };
    let whole = if as_json {
        format!(
            "CASE WHEN {} THEN CAST({v} AS TEXT) ELSE {} END",
            is_exact(v),
            // In a column without a type, a number and its text must not look alike.
            if field.is_untyped() {
                "NULL".to_owned()
            } else {
                quoted(v.to_owned())
            }
        )
    } else {
        format!("CAST({v} AS TEXT)")
    };
    let text = if as_json {
        format!("json_quote({v})")
    } else {
        v.to_owned()
    };
    let number = format!(
        "WHEN 'integer' THEN {whole} WHEN 'real' THEN CASE WHEN {} \
         THEN CAST(CAST({v} AS INTEGER) AS TEXT) WHEN abs({v}) <= {REAL_MAX} THEN {} END",
        is_whole(v),
        digits(v)
    );
    match field.kind {
        ColumnKind::Text { .. } => format!("CASE typeof({v}) WHEN 'text' THEN {text} END"),
        ColumnKind::Bytes => {
            let base64 = match context {
                Context::Read => format!("rhtmx_base64({v})"),
                Context::Trigger | Context::Image => base64(v),
            };
            format!("CASE typeof({v}) WHEN 'blob' THEN {} END", quoted(base64))
        }
        ColumnKind::Bool => format!(
            "CASE {v} WHEN 0 THEN 'false' WHEN 1 THEN 'true' ELSE CASE typeof({v}) {number} \
             WHEN 'text' THEN {text} END END"
        ),
        _ if field.is_untyped() => {
            let text = if as_json {
                text
            } else {
                format!("CASE WHEN {} THEN NULL ELSE {text} END", looks_whole(v))
            };
            format!("CASE typeof({v}) WHEN 'integer' THEN {whole} WHEN 'text' THEN {text} END")
        }
        _ => format!("CASE typeof({v}) {number} WHEN 'text' THEN {text} END"),
    }
}

/// The condition that a text spells an integer as SQLite would.
fn looks_whole(v: &str) -> String {
    format!("CAST(CAST({v} AS INTEGER) AS TEXT) = {v}")
}

/// Base64 from SQLite's own functions. It takes some 2 µs for three bytes, so it is used for keys only.
fn base64(v: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n| {
        format!("(instr('0123456789ABCDEF', substr(hex(b) || '0000', 6 * e.key + {n}, 1)) - 1)")
    };
    let [d1, d2, d3, d4, d5, d6] = [1, 2, 3, 4, 5, 6].map(digit);
    let sextets = [
        format!("{d1} * 4 + {d2} / 4"),
        format!("{d2} % 4 * 16 + {d3}"),
        format!("{d4} * 4 + {d5} / 4"),
        format!("{d5} % 4 * 16 + {d6}"),
    ];
    let chars = sextets
        .map(|sextet| format!("substr('{ALPHABET}', 1 + {sextet}, 1)"))
        .join(" || ");
    // One number for each group of three bytes.
    let groups = "json_each('[' || \
        substr(replace(hex(zeroblob((length(b) + 2) / 3)), '00', ',0'), 2) || ']') e";
    format!(
        "(SELECT substr(coalesce((SELECT group_concat({chars}, '') FROM {groups}), ''), 1, \
         (length(b) * 4 + 2) / 3) || substr('==', 1, (3 - length(b) % 3) % 3) \
         FROM (SELECT {v} AS b))"
    )
}

/// The condition that the row with this alias has the key whose canonical text is `key`, written so that the
/// key's index is used. For reads.
pub(super) fn key_is(table: &Table, alias: &str, key: &str) -> String {
    let parts: Vec<String> = table
        .key
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let field = &table.fields[part.field];
            let value = key_value(field, key, (table.key.len() > 1).then_some(index));
            let v = field.of(alias);
            if field.is_rowid {
                return format!("{v} = {value}");
            }
            let found = format!("{v} COLLATE {} = {value}", ident(&part.collation));
            if part.collation.eq_ignore_ascii_case("BINARY") {
                found
            } else {
                // Keys are compared byte by byte.
                format!("{found} AND {v} COLLATE BINARY = {value}")
            }
        })
        .collect();
    parts.join(" AND ")
}

/// One value from a canonical key.
fn key_value(field: &Field, key: &str, index: Option<usize>) -> String {
    let text = match index {
        Some(index) => format!("(CASE WHEN json_valid({key}) THEN {key} END ->> {index})"),
        None => key.to_owned(),
    };
    match field.kind {
        ColumnKind::Bytes => format!("rhtmx_unbase64({text})"),
        ColumnKind::Bool if index.is_none() => {
            format!("CASE {text} WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE {text} END")
        }
        _ if field.is_untyped() && index.is_none() => {
            format!(
                "CASE WHEN {} THEN CAST({text} AS INTEGER) ELSE {text} END",
                looks_whole(&text)
            )
        }
        _ => text,
    }
}

/// A source of nulls, under the alias `alias`, for columns that may be dropped.
///
/// SQLite does not drop a column that a trigger names. A name one level below such a source means the column
/// as long as it exists, and the source's null once it is gone.
pub(super) fn stand_in(fields: &[&Field], alias: &str) -> Option<String> {
    let nulls: Vec<String> = fields
        .iter()
        .map(|field| format!("NULL AS {}", ident(&field.name)))
        .collect();
    (!nulls.is_empty()).then(|| format!("(SELECT {}) AS {alias}", nulls.join(", ")))
}
