//! For tests: a table with a column of each kind, and arbitrary filters and rows of it.

pub mod arbitrary;
pub mod queries;
pub mod sets;
pub mod tables;

use serde_json::value::RawValue;
use value::schema::{Collation, Column, ColumnKind, Schema};

use crate::{Backend, Table};

/// A table that owns its schema.
pub struct TestTable {
    /// Its columns.
    pub schema: Schema,
    /// The database that holds it.
    pub backend: Backend,
}

impl TestTable {
    /// The table as filters see it.
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.schema, self.backend)
    }
}

/// A table with a column of each kind.
pub fn test_table(backend: Backend) -> TestTable {
    use ColumnKind::{
        Array, Bool, Bytes, Date, Enum, Float, Json, Numeric, Other, Timestamp, TimestampTz, Uuid,
    };
    let text = || ColumnKind::Text { chars_max: None };
    let labels = ["low", "mid", "high"].map(str::to_owned).to_vec();
    let (bytes, own, other) = (Collation::Bytes, Collation::Deterministic, Collation::Other);
    let columns = vec![
        ("id", ColumnKind::INT8, "int8", own),
        ("n", ColumnKind::INT4, "int4", own),
        ("t", text(), "text", bytes),
        ("b", Bool, "bool", own),
        ("f4", Float, "float4", own),
        ("f8", Float, "float8", own),
        ("num", Numeric, "numeric", own),
        ("s", text(), "text", own),
        ("u", Uuid, "uuid", bytes),
        ("d", Date, "date", bytes),
        ("ts", Timestamp, "timestamp", own),
        ("tz", TimestampTz, "timestamptz", own),
        ("e", Enum(labels), "mood", own),
        ("j", Json, "jsonb", own),
        ("a", Array(Box::new(ColumnKind::INT4)), "int4[]", own),
        ("by", Bytes, "bytea", own),
        ("c", text(), "bpchar", own),
        ("ci", text(), "citext", own),
        ("o", Other, "inet", own),
        ("virtual", ColumnKind::INT4, "int4", own),
        ("Mixed Case", text(), "varchar", own),
        ("odd", text(), "text", other),
    ];
    let columns = columns
        .into_iter()
        .map(|(name, kind, type_name, collation)| Column {
            name: name.to_owned(),
            kind,
            type_name: type_name.to_owned(),
            nullable: true,
            has_default: false,
            generated: false,
            collation,
            logged: name != "virtual",
        });
    let schema = Schema {
        entity: "t".to_owned(),
        columns: columns.collect(),
        key: vec![0],
    };
    TestTable { schema, backend }
}

/// JSON as it is written.
pub fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}
