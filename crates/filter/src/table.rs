//! A table as filters see it.

use std::collections::BTreeSet;

use super::set::Tables;
use value::schema::{Column, Schema};

/// The database that holds a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// What a filter needs to know of a table.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Its columns.
    pub schema: &'a Schema,
    /// The database that holds it.
    pub backend: Backend,
    /// The positions of the columns that a filter may name; none for all. For a filter, any other does not
    /// exist.
    pub visible: Option<&'a BTreeSet<usize>>,
    /// The tables that its subqueries may read; none when it may have no subqueries.
    pub others: Option<&'a dyn Tables>,
}

impl<'a> Table<'a> {
    /// A table of which filters may name every column.
    pub fn new(schema: &'a Schema, backend: Backend) -> Self {
        Self {
            schema,
            backend,
            visible: None,
            others: None,
        }
    }

    /// The same table, of which filters may have subqueries on these others.
    #[must_use]
    pub fn among(self, others: &'a dyn Tables) -> Self {
        Self {
            others: Some(others),
            ..self
        }
    }

    /// The position of the visible column of this name.
    pub fn position(self, name: &str) -> Option<usize> {
        self.schema.position(name).filter(|position| {
            self.visible
                .is_none_or(|visible| visible.contains(position))
        })
    }

    /// The names of all its columns.
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        self.schema
            .columns
            .iter()
            .map(|column| column.name.as_str())
    }

    /// A column, by position.
    pub(super) fn column(self, index: usize) -> &'a Column {
        &self.schema.columns[index]
    }

    /// The position of the column that a name in a filter means: the one spelled alike or, without quotes,
    /// the one spelled in lower case, as PostgreSQL reads names.
    pub(super) fn find(self, name: &str, quoted: bool) -> Option<usize> {
        let folded = || {
            self.position(&name.to_ascii_lowercase())
                .filter(|_| !quoted)
        };
        self.position(name).or_else(folded)
    }
}
