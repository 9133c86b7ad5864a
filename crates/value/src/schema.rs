//! The schema of an entity's table: its columns, their types, its key.

/// An entity's columns and key, as read from the database's catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The name under which clients know it.
    pub entity: String,
    /// In the table's order.
    pub columns: Vec<Column>,
    /// The primary key: positions in `columns`, in the key's order. Never empty.
    pub key: Vec<usize>,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, as the catalog spells it.
    pub name: String,
    /// How its values look in JSON.
    pub kind: ColumnKind,
    /// The name of its type in the protocol (PostgreSQL's: `int4`, `text[]`, …).
    pub type_name: String,
    /// Whether it takes null.
    pub nullable: bool,
    /// Whether the database fills it in when a create leaves it out.
    pub has_default: bool,
    /// Whether the database computes it (`GENERATED ALWAYS`), so that clients may not write it.
    pub generated: bool,
    /// How its texts are compared; without meaning for other types.
    pub collation: Collation,
    /// Whether the log has its previous values; it lacks those of a virtual generated column.
    pub logged: bool,
}

/// How a column compares texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// By their bytes: `"C"` and `"POSIX"` in a database in UTF-8, `BINARY` on SQLite.
    Bytes,
    /// In an order of its own, but texts are equal only when their bytes are.
    Deterministic,
    /// Different texts may be equal: a nondeterministic collation, `NOCASE`, `RTRIM`.
    Other,
}

/// The types whose values the engine checks before the database sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// `true` or `false`.
    Bool,
    /// A whole number between the two bounds; a string in JSON beyond ±2^53.
    Int {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// `float4`, `float8`: a number, or `"NaN"`, `"Infinity"`, `"-Infinity"`.
    Float,
    /// A decimal number; a string where a double would lose digits.
    Numeric,
    /// Any text without a null byte, of bounded length where the column says so.
    Text {
        /// The most characters, from `varchar(n)`.
        chars_max: Option<u32>,
    },
    /// A uuid.
    Uuid,
    /// `YYYY-MM-DD`.
    Date,
    /// A time without a zone, ISO 8601.
    Timestamp,
    /// A time with a zone, ISO 8601, sent in UTC.
    TimestampTz,
    /// Bytes, base64 (RFC 4648, with padding).
    Bytes,
    /// Any JSON value.
    Json,
    /// One of these labels.
    Enum(Vec<String>),
    /// A JSON array of values of this kind.
    Array(Box<ColumnKind>),
    /// Another type: the database alone judges the value.
    Other,
}

impl ColumnKind {
    /// `int2`.
    pub const INT2: Self = Self::Int {
        min: i16::MIN as i64,
        max: i16::MAX as i64,
    };
    /// `int4`.
    pub const INT4: Self = Self::Int {
        min: i32::MIN as i64,
        max: i32::MAX as i64,
    };
    /// `int8`.
    pub const INT8: Self = Self::Int {
        min: i64::MIN,
        max: i64::MAX,
    };
}

impl Schema {
    /// The key's columns, in the key's order.
    pub fn key_columns(&self) -> impl ExactSizeIterator<Item = &Column> {
        self.key.iter().map(|&index| &self.columns[index])
    }

    /// The position of a column.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Whether the column at `index` is part of the key.
    pub fn is_key(&self, index: usize) -> bool {
        self.key.contains(&index)
    }
}
