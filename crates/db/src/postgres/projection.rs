//! The SQL that turns columns into JSON without losing anything on the way to a browser.
//!
//! The values are those of `to_json`, with these exceptions: an `int8` beyond ±2^53 and a `numeric` of more
//! than 15 digits are strings (15 decimal digits always survive a double, and counting them needs no
//! conversion), wherever in an array or a composite they are; bytes are base64, but not in a composite. Times
//! with a zone are in UTC because the database session's zone is UTC.

use value::schema::{Column, ColumnKind};

use super::types::ValueType;
use crate::health::ROW_BYTES_MAX;
use crate::quote::{ident, portable_literal};
use crate::read::TOO_LARGE;

/// PostgreSQL passes at most 100 arguments to a function.
const ARGUMENTS_MAX: usize = 90;

/// The most bytes of text that an entry of the log keeps as previous values. A row with more has no known past,
/// as one with more undo records has, and what the capture computes stays far from PostgreSQL's limits, so that
/// no value makes a writer fail.
const OLD_TEXT_BYTES_MAX: u32 = 1024 * 1024;
/// A column of at most this many characters does not count towards that.
const SHORT_TEXT_CHARS: u32 = 1024;

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
        ColumnKind::Enum(_) => own_json_value(expr),
        _ => format!("to_json({expr})"),
    }
}

/// The JSON value of `expr`, whose type is its owner's: `to_json` would call a cast to json that the owner made.
fn own_json_value(expr: &str) -> String {
    format!(
        "CASE WHEN {expr} IS DISTINCT FROM NULL THEN to_json({}) END",
        output(expr)
    )
}

/// The text of a value as its type's output function writes it. A cast to text may be the type's owner's.
fn output(expr: &str) -> String {
    format!("concat({expr})")
}

/// The JSON value of `expr`, which is of this type.
fn json_of(value_type: &ValueType, expr: &str) -> String {
    match value_type {
        ValueType::Scalar { is_own: true, .. } => own_json_value(expr),
        ValueType::Scalar { kind, .. } => json_value(kind, expr),
        ValueType::Array(element) if has_exception(element, true) => {
            let of_element = json_of(element, "e.v");
            let texts = match element.kind() {
                ColumnKind::Bytes => format!("to_json({expr})"),
                _ => format!("to_json({}::text[])", output(expr)),
            };
            format!(
                "CASE WHEN {expr} IS NULL THEN NULL WHEN coalesce(array_ndims({expr}), 1) = 1 THEN \
                 coalesce((SELECT json_agg({of_element} ORDER BY e.n) \
                 FROM (SELECT unnest({expr}) AS v, generate_subscripts({expr}, 1) AS n) e), '[]'::json) ELSE {texts} END"
            )
        }
        ValueType::Composite(fields)
            if fields.iter().any(|(_, field)| has_exception(field, false)) =>
        {
            let fields = fields.iter().map(|(name, field)| {
                let name = ident(name);
                format!(
                    "{} AS {name}",
                    json_of_field(field, &format!("({expr}).{name}"))
                )
            });
            let fields: Vec<String> = fields.collect();
            // A composite whose fields are all null is not null itself.
            format!(
                "CASE WHEN {expr} IS DISTINCT FROM NULL THEN \
                 (SELECT row_to_json(r.*) FROM (SELECT {}) r) END",
                fields.join(", ")
            )
        }
        _ => format!("to_json({expr})"),
    }
}

/// The JSON value of a composite's field.
fn json_of_field(field: &ValueType, expr: &str) -> String {
    if has_exception(field, false) {
        json_of(field, expr)
    } else {
        format!("to_json({expr})")
    }
}

/// Whether `to_json` does not serve for this type: some of its values are exceptions, or it could call code of the
/// type's owner. For bytes, `with_bytes` says so.
fn has_exception(value_type: &ValueType, with_bytes: bool) -> bool {
    match value_type {
        ValueType::Scalar { is_own: true, .. } => true,
        ValueType::Scalar { kind, .. } => match kind {
            ColumnKind::Int { min: i64::MIN, .. } | ColumnKind::Numeric => true,
            ColumnKind::Bytes => with_bytes,
            _ => false,
        },
        ValueType::Array(element) => has_exception(element, with_bytes),
        ValueType::Composite(fields) => fields.iter().any(|(_, field)| has_exception(field, false)),
    }
}

/// The JSON of the row `t`, from a `SELECT` list, or what stands for a row that is too large.
///
/// The lengths of texts and bytes are known without reading them, so one that is too long by itself is never
/// turned into JSON. `OFFSET 0` keeps PostgreSQL from writing the JSON a second time for its length.
pub(super) fn row_of(columns: &[Column], select: &str) -> String {
    bounded_row(columns, select, "t", "j.row", &format!("'{TOO_LARGE}'"))
}

/// The `jsonb` of some columns of a row, from a `SELECT` list of that row; null for one that is too large.
pub(super) fn image_of(columns: &[Column], select: &str, alias: &str) -> String {
    bounded_row(columns, select, alias, "j.row::jsonb", "NULL")
}

fn bounded_row(
    columns: &[Column],
    select: &str,
    alias: &str,
    small: &str,
    too_large: &str,
) -> String {
    let row = format!(
        "(SELECT CASE WHEN octet_length(j.row) <= {ROW_BYTES_MAX} THEN {small} ELSE {too_large} END FROM ( \
         SELECT row_to_json(r.*)::text AS row FROM (SELECT {select}) r OFFSET 0) j)"
    );
    let lengths: Vec<String> = columns
        .iter()
        .filter(|column| column.logged && is_unbounded(&column.kind))
        .map(|column| format!("octet_length({alias}.{})", ident(&column.name)))
        .collect();
    if lengths.is_empty() {
        return row;
    }
    format!(
        "CASE WHEN greatest({}) > {ROW_BYTES_MAX} THEN {too_large} ELSE {row} END",
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
pub(super) fn select_items(columns: &[Column], types: &[ValueType], alias: &str) -> Vec<String> {
    columns
        .iter()
        .zip(types)
        .map(|(column, value_type)| {
            let name = ident(&column.name);
            format!(
                "{} AS {name}",
                json_of(value_type, &format!("{alias}.{name}"))
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
    /// Whether filters can compare its values, so that the log needs its previous ones. Of any other column it
    /// says that the value changed, and whether it was null.
    pub(super) compared: bool,
}

impl Typed<'_> {
    /// Whether casts of its type may be those of the type's owner.
    fn has_own_casts(self) -> bool {
        let is_own = !self.base_type.starts_with("pg_catalog.");
        match self.column.kind {
            ColumnKind::Enum(_) | ColumnKind::Array(_) | ColumnKind::Other => is_own,
            _ => false,
        }
    }

    /// The text of its value in the row with this alias.
    fn text(self, alias: &str) -> String {
        let value = format!("{alias}.{}", ident(&self.column.name));
        if self.has_own_casts() {
            output(&value)
        } else {
            format!("{value}::text")
        }
    }

    /// The value of its type that `text` stands for.
    fn value_of(self, text: &str) -> String {
        let sql_type = self.base_type;
        if self.has_own_casts() {
            // It reads with the type's input function, and calls no cast.
            format!(
                "(SELECT r.v FROM json_to_record(json_build_object('v', {text})) AS r(v {sql_type}))"
            )
        } else {
            format!("{text}::{sql_type}")
        }
    }

    /// Its value in the row with this alias, in a type that can be compared: PostgreSQL has no operators for
    /// a domain over an enum.
    fn comparable(self, alias: &str) -> String {
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
            if has_one_spelling(&typed.column.kind) {
                format!("{} = {}", typed.comparable(old), typed.comparable(new))
            } else {
                let (old, new) = (typed.text(old), typed.text(new));
                format!("{old} COLLATE \"C\" = {new} COLLATE \"C\"")
            }
        })
        .collect();
    parts.join(" AND ")
}

/// The canonical key of the row with this alias, as text.
pub(super) fn key_text(key: &[Typed<'_>], alias: &str) -> String {
    match key {
        [one] => match one.column.kind {
            // A string in JSON, without its quotes.
            ColumnKind::Bytes
            | ColumnKind::Timestamp
            | ColumnKind::TimestampTz
            | ColumnKind::Date => {
                let value = format!("{alias}.{}", ident(&one.column.name));
                format!("({} #>> '{{}}')", json_value(&one.column.kind, &value))
            }
            _ => one.text(alias),
        },
        several => {
            let parts: Vec<String> = several
                .iter()
                .map(|typed| format!("({})::text", key_part(*typed, alias)))
                .collect();
            format!("('[' || {} || ']')", parts.join(" || ',' || "))
        }
    }
}

/// The JSON of one value in a key of several columns. The value must read back as one text, so structures
/// are written as text, and texts as [`key_is`] compares them: without the spaces that pad a `char(n)`.
fn key_part(typed: Typed<'_>, alias: &str) -> String {
    match typed.column.kind {
        ColumnKind::Text { .. } | ColumnKind::Array(_) | ColumnKind::Json | ColumnKind::Other => {
            format!("to_json({})", typed.text(alias))
        }
        _ => {
            let value = format!("{alias}.{}", ident(&typed.column.name));
            json_value(&typed.column.kind, &value)
        }
    }
}

/// The condition that the row with this alias has the key whose canonical text is `key`. `operators` are those by which the
/// key's index compares: an extension's are not found without their schema.
pub(super) fn key_is(
    columns: &[Typed<'_>],
    operators: &[String],
    alias: &str,
    key: &str,
) -> String {
    let parts: Vec<String> = columns
        .iter()
        .zip(operators)
        .enumerate()
        .map(|(index, (typed, operator))| {
            let text = match columns.len() {
                1 => key.to_owned(),
                _ => format!("({key}::json ->> {index})"),
            };
            let (of, value) = (typed.comparable(alias), typed.value_of(&text));
            match &typed.column.kind {
                ColumnKind::Bytes => format!("{of} = decode({text}, 'base64')"),
                kind if has_one_spelling(kind) => format!("{of} = {value}"),
                // The first half uses the index, the second is exact.
                _ => format!(
                    "{of} {operator} {value} AND {} COLLATE \"C\" = {text} COLLATE \"C\"",
                    typed.text(alias)
                ),
            }
        })
        .collect();
    parts.join(" AND ")
}

/// A `jsonb` object of the columns of `old`; with `new`, only of those that differ from `new`. Null when their
/// texts are too large to be kept.
pub(super) fn object(columns: &[Typed<'_>], old: &str, new: Option<&str>) -> String {
    let members: Vec<String> = columns
        .iter()
        .map(|typed| {
            let member = member(typed, old);
            match new {
                Some(new) => format!("CASE WHEN {} THEN {member} END", differs(typed, old, new)),
                None => member,
            }
        })
        .collect();
    let joined = joined(&members);
    let object = format!("('{{' || {joined} || '}}')::jsonb");
    match too_large(columns, old, new) {
        Some(too_large) => format!("CASE WHEN {too_large} THEN NULL ELSE {object} END"),
        None => object,
    }
}

/// The text of all members that are not null, with commas between them.
pub(super) fn joined(members: &[String]) -> String {
    let mut chunks: Vec<String> = members
        .chunks(ARGUMENTS_MAX)
        .map(|chunk| format!("concat_ws(',', {})", chunk.join(", ")))
        .collect();
    match chunks.len() {
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
    }
}

/// `"name":value`
fn member(typed: &Typed<'_>, old: &str) -> String {
    let column = typed.column;
    let expr = format!("{old}.{}", ident(&column.name));
    let label = serde_json::to_string(&column.name).expect("text is JSON");
    let label = portable_literal(&format!("{label}:"));
    if typed.compared {
        let value = json_value(&column.kind, &expr);
        format!("{label} || coalesce(({value})::text, 'null')")
    } else {
        format!("{label} || CASE WHEN {expr} IS DISTINCT FROM NULL THEN '0' ELSE 'null' END")
    }
}

/// The condition that the texts in an object are too large; none when they cannot be.
fn too_large(columns: &[Typed<'_>], old: &str, new: Option<&str>) -> Option<String> {
    let long = columns.iter().filter(|typed| {
        let chars_max = match typed.column.kind {
            ColumnKind::Text { chars_max } => chars_max.unwrap_or(u32::MAX),
            _ => 0,
        };
        typed.compared && chars_max > SHORT_TEXT_CHARS
    });
    let (mut all, mut changed) = (Vec::new(), Vec::new());
    for typed in long {
        let bytes = format!("octet_length({old}.{})::bigint", ident(&typed.column.name));
        all.push(format!("coalesce({bytes}, 0)"));
        changed.extend(new.map(|new| {
            format!(
                "CASE WHEN {} THEN coalesce({bytes}, 0) ELSE 0 END",
                differs(typed, old, new)
            )
        }));
    }
    let exceeds = |lengths: &[String]| format!("{} > {OLD_TEXT_BYTES_MAX}", lengths.join(" + "));
    match (all.is_empty(), changed.is_empty()) {
        (true, _) => None,
        (false, true) => Some(exceeds(&all)),
        // Comparing takes longer than adding lengths up, and few rows are large.
        (false, false) => Some(format!(
            "CASE WHEN {} THEN {} ELSE false END",
            exceeds(&all),
            exceeds(&changed)
        )),
    }
}

/// The condition that a column differs. Texts are compared by their bytes, since under some collations different
/// ones are equal. Structures and types that the engine does not know are compared as they are stored: they may
/// have no equality, or one of their owner's, and their text may be too large for PostgreSQL.
fn differs(typed: &Typed<'_>, old: &str, new: &str) -> String {
    let (a, b) = (typed.comparable(old), typed.comparable(new));
    match &typed.column.kind {
        ColumnKind::Text { .. } => {
            format!("{a}::text COLLATE \"C\" IS DISTINCT FROM {b}::text COLLATE \"C\"")
        }
        ColumnKind::Json | ColumnKind::Array(_) | ColumnKind::Other => {
            // Without the casts PostgreSQL would look for an operator `*<>` of the column's type.
            format!("ROW({a})::record *<> ROW({b})::record")
        }
        _ => format!("{a} IS DISTINCT FROM {b}"),
    }
}
