//! What a filter must know of a table.

use crate::schema::{Column, Schema};

/// Which database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// A table, as filters see it.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Its columns.
    pub schema: &'a Schema,
    /// Where it is.
    pub backend: Backend,
}

impl<'a> Table<'a> {
    /// The names of its columns.
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

    /// The position of the column that a name in a filter means: the one spelled like it; without
    /// quotes also the one spelled in lower case, as PostgreSQL reads names.
    pub(super) fn find(self, name: &str, quoted: bool) -> Option<usize> {
        let folded = || {
            self.schema
                .position(&name.to_ascii_lowercase())
                .filter(|_| !quoted)
        };
        self.schema.position(name).or_else(folded)
    }
}
