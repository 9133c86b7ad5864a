//! The columns of a table that is filtered.

use value::schema::{Collation, Column, ColumnKind};

use super::values::Sort;

/// A column that filters may name.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// As the table's definition spells its type.
    pub(crate) sql_type: &'static str,
    /// None where values are not compared.
    pub(crate) sort: Option<Sort>,
    /// Values in SQL that a column without a sort holds, or those beside its sort.
    pub(crate) others: &'static [&'static str],
    /// A cast without which the database does not compare its values, or nothing.
    pub(crate) cast: &'static str,
    /// Whether `<` and its like are answered.
    pub(crate) ordered: bool,
    /// What the server's catalog has to make of it.
    pub(crate) column: Column,
}

/// A column as the catalog should describe it.
pub(crate) fn column(
    name: &str,
    kind: ColumnKind,
    type_name: &str,
    collation: Collation,
) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        type_name: type_name.to_owned(),
        nullable: true,
        has_default: false,
        generated: false,
        collation,
        logged: true,
    }
}
