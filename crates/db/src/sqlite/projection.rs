//! The SQL that turns a row into JSON, in the shapes that PostgreSQL's rows have.
//!
//! SQLite lets any value into almost any column, so what decides is the value's own type; the
//! declared type says how it is meant. A number beyond ±2^53 is a string (but not in a column of
//! reals, where each is a double), and bytes are base64.
//!
//! Triggers run inside other programs, which may bring an older SQLite: they get nothing that is
//! younger than its JSON functions, and bytes in hex where base64 would take time. What they say is
//! kept short, because every statement on the table that is prepared compiles it.

use value::schema::ColumnKind;

use super::table::{Field, Table};
use crate::quote::{ident, literal};

/// The greatest whole number up to which every one is a double.
const EXACT_MAX: &str = "9007199254740992";
const REAL_MAX: &str = "1.7976931348623157e308";
/// An older SQLite passes at most 127 arguments to a function, two of them for each column.
const OBJECT_COLUMNS_MAX: usize = 63;
/// SQLite nests expressions 1000 deep, and `a || b || c` is as deep as it is long.
const CONCATENATED_MAX: usize = 64;

/// Where the SQL runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On the engine's own connections.
    Read,
    /// In a trigger.
    Trigger,
}

/// The value of `v` as `json_object` and `json_quote` take it.
fn json_value(field: &Field, v: &str, place: Place) -> String {
    if field.is_rowid {
        return format!("CASE WHEN {} THEN {v} ELSE {v} || '' END", is_exact(v));
    }
    // Bytes in a column for something else must not look like that.
    let is_for_bytes = matches!(field.kind, ColumnKind::Bytes | ColumnKind::Other);
    let bytes = match (place, is_for_bytes) {
        (Place::Read, true) => format!("rhtmx_base64({v})"),
        (Place::Read, false) => format!("json_object('base64', rhtmx_base64({v}))"),
        (Place::Trigger, true) => format!("hex({v})"),
        (Place::Trigger, false) => format!("json_object('hex', hex({v}))"),
    };
    let any = format!(
        "CASE WHEN {} THEN {v} WHEN typeof({v}) = 'blob' THEN {bytes} ELSE {v} || '' END",
        is_exact(v)
    );
    match (&field.kind, place) {
        (ColumnKind::Text { .. }, _) => {
            format!("CASE typeof({v}) WHEN 'blob' THEN {bytes} ELSE {v} END")
        }
        (ColumnKind::Float | ColumnKind::Numeric, _) => {
            let real = real(v, place);
            let whole = match field.kind {
                ColumnKind::Float => v.to_owned(),
                _ => format!("CASE WHEN {} THEN {v} ELSE {v} || '' END", is_exact(v)),
            };
            // Of the texts that are left in such a column these alone look like a number of it.
            format!(
                "CASE typeof({v}) WHEN 'real' THEN {real} WHEN 'blob' THEN {bytes} WHEN 'text' THEN \
                 CASE WHEN {v} IN ('Infinity', '-Infinity') THEN json_object('text', {v}) ELSE {v} END \
                 ELSE {whole} END"
            )
        }
        // A number that is written as a text must not look like one of the column's.
        (ColumnKind::Uuid | ColumnKind::Date, _) => format!(
            "CASE typeof({v}) WHEN 'text' THEN {v} WHEN 'blob' THEN {bytes} WHEN 'null' THEN NULL \
             ELSE CASE WHEN {} THEN {v} ELSE json_object('number', {v} || '') END END",
            is_exact(v)
        ),
        (ColumnKind::Bool, _) => {
            format!("CASE {v} WHEN 0 THEN json('false') WHEN 1 THEN json('true') ELSE {any} END")
        }
        (ColumnKind::TimestampTz, _) => time(v, &any),
        (ColumnKind::Json, Place::Trigger) => format!(
            "CASE WHEN typeof({v}) = 'text' AND json_valid({v}) THEN json({v}) ELSE {any} END"
        ),
        // 8 is SQLite's own binary form.
        (ColumnKind::Json, Place::Read) => format!(
            "CASE WHEN CASE typeof({v}) WHEN 'text' THEN json_valid({v}) \
             WHEN 'blob' THEN json_valid({v}, 8) END THEN json({v}) ELSE {any} END"
        ),
        _ => any,
    }
}

/// Whether `v` is a number up to which every whole one is a double: texts and bytes are greater
/// than any number.
fn is_exact(v: &str) -> String {
    format!("{v} BETWEEN -{EXACT_MAX} AND {EXACT_MAX}")
}

fn is_whole(v: &str) -> String {
    format!("{} AND {v} = CAST({v} AS INTEGER)", is_exact(v))
}

fn real(v: &str, place: Place) -> String {
    // Before 3.53 SQLite writes only 15 digits by itself, and not always the right ones when asked for more.
    let exact = match place {
        Place::Read => format!("rhtmx_double({v})"),
        Place::Trigger => digits(v),
    };
    format!(
        "CASE WHEN {} THEN CAST({v} AS INTEGER) WHEN abs({v}) <= {REAL_MAX} THEN json({exact}) \
         WHEN {v} > 0 THEN 'Infinity' ELSE '-Infinity' END",
        is_whole(v)
    )
}

/// As many digits as a double needs.
fn digits(v: &str) -> String {
    format!(
        "CASE CAST(printf('%.15g', {v}) AS REAL) WHEN {v} THEN printf('%.15g', {v}) \
         ELSE printf('%!.17g', {v}) END"
    )
}

/// A time of the form that SQLite's own functions write, with or without a fraction and a zone, as
/// ISO 8601 in UTC; anything else as `other` has it.
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

/// The JSON text of the row called `alias`, for reads.
pub(super) fn row(table: &Table, alias: &str) -> String {
    if table.fields.len() > OBJECT_COLUMNS_MAX {
        return whole_row(table, alias, Place::Read);
    }
    let member = |field: &Field| {
        format!(
            "{}, {}",
            literal(&field.name),
            json_value(field, &field.of(alias), Place::Read)
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

/// The JSON text of the row called `alias`, for triggers.
pub(super) fn whole_row(table: &Table, alias: &str, place: Place) -> String {
    object(members(table, alias, place))
}

/// What each column adds to [`object`].
pub(super) fn members(table: &Table, alias: &str, place: Place) -> Vec<String> {
    table
        .fields
        .iter()
        .map(|field| member(field, alias, place))
        .collect()
}

/// The JSON text of what `OLD` held in the columns that changed. The collation of a column may call
/// two texts equal that are not.
pub(super) fn changed_columns(table: &Table) -> String {
    let members = table.fields.iter().map(|field| {
        let (old, new) = (field.of("OLD"), field.of("NEW"));
        let member = member(field, "OLD", Place::Trigger);
        format!("CASE WHEN ({old} COLLATE BINARY) IS NOT {new} THEN {member} ELSE '' END")
    });
    object(members.collect())
}

/// `,"name":value`
fn member(field: &Field, alias: &str, place: Place) -> String {
    let label = serde_json::to_string(&field.name).expect("text is JSON");
    let value = json_value(field, &field.of(alias), place);
    format!("{} || json_quote({value})", literal(&format!(",{label}:")))
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

/// The canonical key text of the row called `alias`; null for a key that cannot be found again by
/// its text, whose row therefore has no name.
pub(super) fn key_text(table: &Table, alias: &str, place: Place) -> String {
    let parts: Vec<String> = table
        .key_fields()
        .map(|field| key_part(field, &field.of(alias), place, table.key.len() > 1))
        .collect();
    match parts.as_slice() {
        [one] => one.clone(),
        several => format!("('[' || {} || ']')", several.join(" || ',' || ")),
    }
}

/// One value of a key as text, or as JSON.
fn key_part(field: &Field, v: &str, place: Place, as_json: bool) -> String {
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
    let whole = match as_json {
        true => format!(
            "CASE WHEN {} THEN CAST({v} AS TEXT) ELSE {} END",
            is_exact(v),
            // Without a type, a number and its text must not look alike.
            if field.is_untyped() {
                "NULL".to_owned()
            } else {
                quoted(v.to_owned())
            }
        ),
        false => format!("CAST({v} AS TEXT)"),
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
            let base64 = match place {
                Place::Read => format!("rhtmx_base64({v})"),
                Place::Trigger => base64(v),
            };
            format!("CASE typeof({v}) WHEN 'blob' THEN {} END", quoted(base64))
        }
        ColumnKind::Bool => format!(
            "CASE {v} WHEN 0 THEN 'false' WHEN 1 THEN 'true' ELSE CASE typeof({v}) {number} \
             WHEN 'text' THEN {text} END END"
        ),
        _ if field.is_untyped() => {
            let text = match as_json {
                true => text,
                false => format!("CASE WHEN {} THEN NULL ELSE {text} END", looks_whole(v)),
            };
            format!("CASE typeof({v}) WHEN 'integer' THEN {whole} WHEN 'text' THEN {text} END")
        }
        _ => format!("CASE typeof({v}) {number} WHEN 'text' THEN {text} END"),
    }
}

/// Whether a text spells an integer as SQLite would.
fn looks_whole(v: &str) -> String {
    format!("CAST(CAST({v} AS INTEGER) AS TEXT) = {v}")
}

/// Base64 from SQLite's own functions: some 2 µs for three bytes, so for keys alone.
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
    // As many numbers as there are groups of three bytes.
    let groups = "json_each('[' || \
        substr(replace(hex(zeroblob((length(b) + 2) / 3)), '00', ',0'), 2) || ']') e";
    format!(
        "(SELECT substr(coalesce((SELECT group_concat({chars}, '') FROM {groups}), ''), 1, \
         (length(b) * 4 + 2) / 3) || substr('==', 1, (3 - length(b) % 3) % 3) \
         FROM (SELECT {v} AS b))"
    )
}

/// The condition that the row called `alias` has the key whose canonical text is `key`. Written so
/// that the key's index is used. For reads.
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
            match part.collation.eq_ignore_ascii_case("BINARY") {
                true => found,
                // Keys are told apart byte by byte.
                false => format!("{found} AND {v} COLLATE BINARY = {value}"),
            }
        })
        .collect();
    parts.join(" AND ")
}

/// One value out of a canonical key.
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

/// A source of nulls under the name `alias` for columns that may be dropped.
///
/// SQLite refuses to drop a column that a trigger names. Named one level below such a source, the
/// column is found while it is there, and its null when it is gone.
pub(super) fn stand_in(fields: &[&Field], alias: &str) -> Option<String> {
    let nulls: Vec<String> = fields
        .iter()
        .map(|field| format!("NULL AS {}", ident(&field.name)))
        .collect();
    (!nulls.is_empty()).then(|| format!("(SELECT {}) AS {alias}", nulls.join(", ")))
}
