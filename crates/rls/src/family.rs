//! Types whose values are equal here exactly when `=` is true in PostgreSQL.

use filter::Table;
use value::schema::{Collation, ColumnKind};

/// Types of which any two are compared by value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Family {
    Bool,
    Int,
    Numeric,
    /// `text` and `varchar`, of a collation in which only equal texts are equal.
    Text,
    Uuid,
    Date,
    /// An enum, by its name.
    Enum(String),
}

impl Family {
    /// The family of a column; none when its values are not compared here.
    pub(crate) fn of_column(table: Table<'_>, position: usize) -> Option<Self> {
        if !filter::compares(table, position) {
            return None;
        }
        let column = &table.schema.columns[position];
        Some(match &column.kind {
            ColumnKind::Bool => Self::Bool,
            ColumnKind::Int { .. } => Self::Int,
            ColumnKind::Numeric => Self::Numeric,
            ColumnKind::Text { .. }
                if matches!(column.type_name.as_str(), "text" | "varchar")
                    && column.collation != Collation::Other =>
            {
                Self::Text
            }
            ColumnKind::Uuid => Self::Uuid,
            ColumnKind::Date => Self::Date,
            ColumnKind::Enum(_) => Self::Enum(column.type_name.clone()),
            _ => return None,
        })
    }

    /// The family of a type, as PostgreSQL writes it.
    pub(crate) fn of_type(name: &str) -> Self {
        match name {
            "boolean" => Self::Bool,
            "smallint" | "integer" | "bigint" => Self::Int,
            "numeric" => Self::Numeric,
            "text" | "character varying" => Self::Text,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            other => {
                let last = other.rsplit('.').next().unwrap_or(other);
                Self::Enum(last.trim_matches('"').to_owned())
            }
        }
    }
}
