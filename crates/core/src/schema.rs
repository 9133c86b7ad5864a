//! What clients receive of a table's schema.

use protocol::SchemaSummary;
use value::schema::Schema;

/// The `schema` of a `subscribed` frame, with all columns.
pub fn summary(schema: &Schema) -> SchemaSummary {
    let name = |column: &value::schema::Column| column.name.clone();
    SchemaSummary {
        key: schema.key_columns().map(name).collect(),
        columns: schema
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.type_name.clone()))
            .collect(),
    }
}
