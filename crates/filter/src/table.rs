//! What a filter must know of a table.

use std::collections::BTreeSet;

use value::schema::{Column, Schema};

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
    /// The positions of the columns that may be named; none for all. Any other does not exist for the
    /// author of a filter.
    pub visible: Option<&'a BTreeSet<usize>>,
}

impl<'a> Table<'a> {
    /// A table of which every column may be named.
    pub fn new(schema: &'a Schema, backend: Backend) -> Self {
        Self {
            schema,
            backend,
            visible: None,
        }
    }

    /// The position of the visible column of this name.
    pub fn position(self, name: &str) -> Option<usize> {
        self.schema.position(name).filter(|position| {
            self.visible
                .is_none_or(|visible| visible.contains(position))
        })
    }

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
            self.position(&name.to_ascii_lowercase())
                .filter(|_| !quoted)
        };
        self.position(name).or_else(folded)
    }
}
