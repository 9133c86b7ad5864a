//! A table as filters see it, and those that their subqueries read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use super::Filter;
use crate::syntax::Name;
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
    pub(crate) fn names(self) -> impl Iterator<Item = &'a str> {
        self.schema
            .columns
            .iter()
            .map(|column| column.name.as_str())
    }

    /// A column, by position.
    pub(crate) fn column(self, index: usize) -> &'a Column {
        &self.schema.columns[index]
    }

    /// The position of the column that a name in a filter means: the one spelled alike or, without quotes,
    /// the one spelled in lower case, as PostgreSQL reads names.
    pub(crate) fn find(self, name: &Name) -> Option<usize> {
        let folded = || self.position(&name.folded());
        self.position(&name.text).or_else(folded)
    }
}

/// A table that a subquery reads, as far as the subquery may read it.
#[derive(Debug, Clone)]
pub struct InnerTable {
    /// Its columns.
    pub schema: Arc<Schema>,
    /// Differs when the table has changed.
    pub fingerprint: Arc<str>,
    /// The database that holds it.
    pub backend: Backend,
    /// The positions of the columns that may be named; none for all.
    pub visible: Option<BTreeSet<usize>>,
    /// The rows that count.
    pub rows: Filter,
    /// The columns that may be read in some rows only, with those rows.
    pub partial: BTreeMap<usize, Filter>,
}

/// The tables that subqueries may read.
pub trait Tables: Debug {
    /// The table of the entity of this name. None when there is none, or when the subquery may not read
    /// it.
    fn find(&self, entity: &str) -> Option<InnerTable>;
}

impl InnerTable {
    /// The table as filters see it, without its own subqueries.
    pub fn table(&self) -> Table<'_> {
        Table {
            visible: self.visible.as_ref(),
            ..Table::new(&self.schema, self.backend)
        }
    }
}
