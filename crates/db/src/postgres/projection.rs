//! The SQL that turns columns into JSON without losing anything on the way to a browser.
//!
//! The values are those of `to_json`, with these exceptions: an `int8` beyond ±2^53 and a `numeric` of more
//! than 15 digits are strings (15 decimal digits always survive a double, and counting them needs no
//! conversion), bytes are base64. Times with a zone are in UTC because the database session's zone is UTC.

use value::schema::{Column, ColumnKind};

use crate::health::ROW_BYTES_MAX;
use crate::quote::{ident, literal};
use crate::read::TOO_LARGE;

/// PostgreSQL passes at most 100 arguments to a function.
const ARGUMENTS_MAX: usize = 90;

/// The JSON value of `expr`; SQL null for null.
fn json_value(kind: &ColumnKind, expr: &str) -> String {
    match kind {
        ColumnKind::Int { min: i64::MIN, .. } => format!(
            "CASE WHEN {expr} BETWEEN -9007199254740992 AND 9007199254740992 \
             THEN to_json({expr}) ELSE to_json({expr}::text) END"
        ),
        ColumnKind::Numeric => format!(
            "CASE WHEN length(translate({expr}::text, '-.', '')) <= 15 \
             THEN to_json({expr}) ELSE to_json({expr}::text) END"
        ),
        ColumnKind::Bytes => format!("to_json(translate(encode({expr}, 'base64'), E'\\n', ''))"),
        ColumnKind::Array(element) if is_exception(element) => {
            let of_element = json_value(element, "e.v");
            let texts = match **element {
                ColumnKind::Bytes => format!("to_json({expr})"),
                _ => format!("to_json({expr}::text[])"),
            };
            format!(
                "CASE WHEN {expr} IS NULL THEN NULL WHEN coalesce(array_ndims({expr}), 1) = 1 THEN \
                 coalesce((SELECT json_agg({of_element} ORDER BY e.n) \
                 FROM unnest({expr}) WITH ORDINALITY e(v, n)), '[]'::json) ELSE {texts} END"
            )
        }
        _ => format!("to_json({expr})"),
    }
}

/// Whether values of this kind are among the exceptions to `to_json`.
fn is_exception(kind: &ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Int { min: i64::MIN, .. } | ColumnKind::Numeric | ColumnKind::Bytes
    )
}

/// The JSON of the row `t`, from a `SELECT` list, or what stands for a row that is too large.
///
/// The lengths of texts and bytes are known without reading them, so one that is too long by itself is never
/// turned into JSON. `OFFSET 0` keeps PostgreSQL from writing the JSON a second time for its length.
pub(super) fn row_of(columns: &[Column], select: &str) -> String {
    let row = format!(
        "(SELECT CASE WHEN octet_length(j.row) <= {ROW_BYTES_MAX} THEN j.row ELSE '{TOO_LARGE}' END FROM ( \
         SELECT row_to_json(r.*)::text AS row FROM (SELECT {select}) r OFFSET 0) j)"
    );
    let lengths: Vec<String> = columns
        .iter()
        .filter(|column| column.logged && is_unbounded(&column.kind))
        .map(|column| format!("octet_length(t.{})", ident(&column.name)))
        .collect();
    if lengths.is_empty() {
        return row;
    }
    format!(
        "CASE WHEN greatest({}) > {ROW_BYTES_MAX} THEN '{TOO_LARGE}' ELSE {row} END",
        lengths.join(", ")
    )
}

/// Whether a value of this kind alone may be too large, and its length is known without reading it.
fn is_unbounded(kind: &ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Text { chars_max: None } | ColumnKind::Bytes
    )
}

/// The items of a `SELECT` list: each column's JSON value under the column's name.
pub(super) fn select_items(columns: &[Column], alias: &str) -> Vec<String> {
    columns
        .iter()
        .map(|column| {
            let name = ident(&column.name);
            format!(
                "{} AS {name}",
                json_value(&column.kind, &format!("{alias}.{name}"))
            )
        })
        .collect()
}

/// Whether equal values of this kind have the same text. In other kinds, two texts may be equal (`1.0` and
/// `1.00`, or texts under some collations) and are two keys nevertheless.
fn has_one_spelling(kind: &ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Bool
            | ColumnKind::Int { .. }
            | ColumnKind::Uuid
            | ColumnKind::Date
            | ColumnKind::Timestamp
            | ColumnKind::TimestampTz
            | ColumnKind::Bytes
            | ColumnKind::Enum(_)
    )
}

/// A column with the type beneath its domain, as casts spell it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Typed<'a> {
    pub(super) column: &'a Column,
    pub(super) base_type: &'a str,
}

impl Typed<'_> {
    /// Its value in the row with this alias, in a type that can be compared: PostgreSQL has no operators for
    /// a domain over an enum.
    fn compared(self, alias: &str) -> String {
        let name = ident(&self.column.name);
        match self.column.kind {
            ColumnKind::Enum(_) => format!("{alias}.{name}::{}", self.base_type),
            _ => format!("{alias}.{name}"),
        }
    }
}

/// The condition that two rows have exactly the same key.
pub(super) fn same_key(key: &[Typed<'_>], old: &str, new: &str) -> String {
    let parts: Vec<String> = key
        .iter()
        .map(|typed| {
            let name = ident(&typed.column.name);
            if has_one_spelling(&typed.column.kind) {
                format!("{} = {}", typed.compared(old), typed.compared(new))
            } else {
                format!("{old}.{name}::text COLLATE \"C\" = {new}.{name}::text COLLATE \"C\"")
            }
        })
        .collect();
    parts.join(" AND ")
}

/// The canonical key of the row with this alias, as text.
pub(super) fn key_text(key: &[&Column], alias: &str) -> String {
    let of = |column: &Column| format!("{alias}.{}", ident(&column.name));
    match key {
        [one] => match one.kind {
            // A string in JSON, without its quotes.
            ColumnKind::Bytes
            | ColumnKind::Timestamp
            | ColumnKind::TimestampTz
            | ColumnKind::Date => {
                format!("({} #>> '{{}}')", json_value(&one.kind, &of(one)))
            }
            _ => format!("{}::text", of(one)),
        },
        several => {
            let parts: Vec<String> = several
                .iter()
                .map(|column| format!("({})::text", key_part(column, &of(column))))
                .collect();
            format!("('[' || {} || ']')", parts.join(" || ',' || "))
        }
    }
}

/// The JSON of one value in a key of several columns. The value must read back as one text, so structures
/// are written as text.
fn key_part(column: &Column, expr: &str) -> String {
    match column.kind {
        ColumnKind::Array(_) | ColumnKind::Json | ColumnKind::Other => {
            format!("to_json({expr}::text)")
        }
        _ => json_value(&column.kind, expr),
    }
}

/// The condition that the row with this alias has the key whose canonical text is `key`.
pub(super) fn key_is(columns: &[Typed<'_>], alias: &str, key: &str) -> String {
    let parts: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, typed)| {
            let text = match columns.len() {
                1 => key.to_owned(),
                _ => format!("({key}::json ->> {index})"),
            };
            let (of, sql_type) = (typed.compared(alias), typed.base_type);
            match &typed.column.kind {
                ColumnKind::Bytes => format!("{of} = decode({text}, 'base64')"),
                kind if has_one_spelling(kind) => format!("{of} = {text}::{sql_type}"),
                // The first half uses the index, the second is exact.
                _ => format!(
                    "{of} = {text}::{sql_type} AND {of}::text COLLATE \"C\" = {text} COLLATE \"C\""
                ),
            }
        })
        .collect();
    parts.join(" AND ")
}

/// A `jsonb` object of the columns of `old`; with `new`, only of those that differ from `new`.
pub(super) fn object(columns: &[Typed<'_>], old: &str, new: Option<&str>) -> String {
    let members: Vec<String> = columns
        .iter()
        .map(|typed| {
            let column = typed.column;
            let name = ident(&column.name);
            let value = json_value(&column.kind, &format!("{old}.{name}"));
            let label = serde_json::to_string(&column.name).expect("text is JSON");
            let member = format!(
                "{} || coalesce(({value})::text, 'null')",
                literal(&format!("{label}:"))
            );
            match new {
                Some(new) => format!("CASE WHEN {} THEN {member} END", differs(typed, old, new)),
                None => member,
            }
        })
        .collect();
    let mut chunks: Vec<String> = members
        .chunks(ARGUMENTS_MAX)
        .map(|chunk| format!("concat_ws(',', {})", chunk.join(", ")))
        .collect();
    let joined = match chunks.len() {
        0 => "''".to_owned(),
        1 => chunks.remove(0),
        // A chunk in which nothing differs must not leave a comma behind.
        _ => {
            let nullable: Vec<String> = chunks
                .iter()
                .map(|chunk| format!("nullif({chunk}, '')"))
                .collect();
            format!("concat_ws(',', {})", nullable.join(", "))
        }
    };
    format!("('{{' || {joined} || '}}')::jsonb")
}

/// The condition that a column differs. Only some types are compared natively: others (json, xml, geometries,
/// types of extensions) may have no equality, or one under which different texts are equal, and are compared
/// as text.
fn differs(typed: &Typed<'_>, old: &str, new: &str) -> String {
    let column = typed.column;
    let (old, new) = (typed.compared(old), typed.compared(new));
    let native = match &column.kind {
        ColumnKind::Other => false,
        ColumnKind::Json => column.type_name == "jsonb",
        ColumnKind::Array(element) => has_one_spelling(element),
        _ => true,
    };
    let cast = match column.kind {
        // Under some collations different texts are equal.
        ColumnKind::Text { .. } => "::text COLLATE \"C\"",
        _ if native => "",
        _ => "::text",
    };
    format!("{old}{cast} IS DISTINCT FROM {new}{cast}")
}
