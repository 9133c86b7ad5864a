//! The columns of a filtered table.

use value::schema::{Collation, Column, ColumnKind};

use super::values::Sort;

/// A column that filters may name.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// The type as in the table's definition.
    pub(crate) sql_type: &'static str,
    /// None when values are not compared.
    pub(crate) sort: Option<Sort>,
    /// The SQL values of a column without a sort, or those beside its sort.
    pub(crate) others: &'static [&'static str],
    /// The cast that the database needs to compare the values, or nothing.
    pub(crate) cast: &'static str,
    /// Whether `<` and similar operators are supported.
    pub(crate) ordered: bool,
    /// The column as the server's catalog must describe it.
    pub(crate) column: Column,
}

/// A column as the catalog must describe it.
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
