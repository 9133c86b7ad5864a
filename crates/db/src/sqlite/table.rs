//! A table as the generated SQL sees it: its columns' types, its key, its other unique keys.

use value::schema::ColumnKind;

use crate::quote::ident;

/// A column's affinity: how SQLite converts a value that is stored in it
/// (<https://www.sqlite.org/datatype3.html>, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
    pub(super) affinity: Affinity,
    /// Whether it is the rowid (`INTEGER PRIMARY KEY`): an integer, never null.
    pub(super) is_rowid: bool,
    /// Whether it is computed from others, so that it changes without being written.
    pub(super) is_generated: bool,
    /// Whether filters can compare its values, so that the log needs its previous ones. Of any other column it
    /// says that the value changed, and whether it was null.
    pub(super) compared: bool,
}

impl Field {
    /// Its value in the row with this alias.
    pub(super) fn of(&self, alias: &str) -> String {
        format!("{alias}.{}", ident(&self.name))
    }

    /// Whether it stores every value unconverted, so that `5` and `'5'` are two keys with the same text.
    pub(super) fn is_untyped(&self) -> bool {
        self.kind == ColumnKind::Other && self.affinity == Affinity::Blob
    }
}

/// A column of a unique key: its index, and the collation under which it is unique.
#[derive(Debug, Clone)]
pub(super) struct KeyPart {
    pub(super) field: usize,
    pub(super) collation: String,
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    /// The primary key, in its own order.
    pub(super) key: Vec<KeyPart>,
    /// The other unique keys that consist of columns alone.
    pub(super) uniques: Vec<Vec<KeyPart>>,
}

impl Table {
    /// Its quoted name.
    pub(super) fn quoted(&self) -> String {
        ident(&self.name)
    }

    /// The key's columns.
    pub(super) fn key_fields(&self) -> impl ExactSizeIterator<Item = &Field> {
        self.key.iter().map(|part| &self.fields[part.field])
    }

    /// The columns that the user may drop: all but the key's.
    pub(super) fn droppable(&self) -> Vec<&Field> {
        let is_key = |index: usize| self.key.iter().any(|part| part.field == index);
        let others = self
            .fields
            .iter()
            .enumerate()
            .filter(|(index, _)| !is_key(*index));
        others.map(|(_, field)| field).collect()
    }
}

/// The meaning of a declared type: its kind, PostgreSQL's name for it, its affinity.
pub(super) fn declared(sql_type: &str, strict: bool) -> (ColumnKind, &'static str, Affinity) {
    let upper = sql_type.to_ascii_uppercase();
    let affinity = affinity(&upper, strict);
    let bare = upper.split('(').next().unwrap_or_default().trim();
    let named = match bare {
        "JSON" | "JSONB" => Some((ColumnKind::Json, "jsonb")),
        "UUID" => Some((ColumnKind::Uuid, "uuid")),
        "DATE" => Some((ColumnKind::Date, "date")),
        "DATETIME" => Some((ColumnKind::TimestampTz, "timestamptz")),
        "BYTEA" | "BINARY" | "VARBINARY" => Some((ColumnKind::Bytes, "bytea")),
        _ if bare.starts_with("BOOL") => Some((ColumnKind::Bool, "bool")),
        _ if bare.starts_with("TIMESTAMP") => Some((ColumnKind::TimestampTz, "timestamptz")),
        _ if bare.starts_with("NUM") || bare.starts_with("DEC") => {
            Some((ColumnKind::Numeric, "numeric"))
        }
        _ => None,
    };
    let (kind, name) = named.unwrap_or(match affinity {
        Affinity::Integer => (ColumnKind::INT8, "int8"),
        Affinity::Text => (ColumnKind::Text { chars_max: None }, "text"),
        Affinity::Real => (ColumnKind::Float, "float8"),
        Affinity::Blob if upper.contains("BLOB") => (ColumnKind::Bytes, "bytea"),
        Affinity::Blob | Affinity::Numeric => (ColumnKind::Other, "any"),
    });
    (kind, name, affinity)
}

fn affinity(upper: &str, strict: bool) -> Affinity {
    let has = |word| upper.contains(word);
    if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || upper.is_empty() || (strict && upper == "ANY") {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_type_maps_to_a_type_of_postgresql() {
        for (sql_type, name, affinity) in [
            ("INTEGER", "int8", Affinity::Integer),
            ("bigint", "int8", Affinity::Integer),
            ("TINYINT(1)", "int8", Affinity::Integer),
            ("VARCHAR(20)", "text", Affinity::Text),
            ("clob", "text", Affinity::Text),
            ("Boolean", "bool", Affinity::Numeric),
            ("DOUBLE PRECISION", "float8", Affinity::Real),
            ("DECIMAL(10,2)", "numeric", Affinity::Numeric),
            ("BLOB", "bytea", Affinity::Blob),
            ("JSON", "jsonb", Affinity::Numeric),
            ("UUID", "uuid", Affinity::Numeric),
            ("DATE", "date", Affinity::Numeric),
            ("TIMESTAMP WITH TIME ZONE", "timestamptz", Affinity::Numeric),
            ("", "any", Affinity::Blob),
            ("MONEY", "any", Affinity::Numeric),
        ] {
            let (_, declared_name, declared_affinity) = declared(sql_type, false);
            assert_eq!(
                (declared_name, declared_affinity),
                (name, affinity),
                "{sql_type}"
            );
        }
        assert_eq!(declared("ANY", true).2, Affinity::Blob);
        assert_eq!(declared("ANY", false).2, Affinity::Numeric);
    }
}
