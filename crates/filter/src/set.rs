//! Sets of values that the rows of other tables make: what a subquery means in a condition.
//!
//! A condition does not hold a set's values, because they change without it: it names the set, and whoever evaluates
//! the condition looks the values up ([`Sets`]). So the same condition is evaluated against a set as it was and as
//! it is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use value::schema::Schema;

use super::Filter;
use super::row::RowValues;
use super::scalar::{Cell, Scalar};
use super::table::{Backend, Table};

/// How many subqueries may be inside each other.
pub const SUBQUERIES_NESTED_MAX: usize = 3;

/// A set of values. Cheap to clone; sets of one name are one.
#[derive(Debug, Clone)]
pub struct Set(Arc<Definition>);

#[derive(Debug)]
struct Definition {
    name: Box<str>,
    rows: SetRows,
}

/// The rows that make a set, and the columns whose values are in it.
#[derive(Debug)]
pub struct SetRows {
    /// Their table.
    pub schema: Arc<Schema>,
    /// Differs when the table has changed.
    pub fingerprint: Arc<str>,
    /// The database that holds it.
    pub backend: Backend,
    /// Which rows.
    pub filter: Filter,
    /// The columns, by position; none for a set of which only matters whether it is empty.
    pub columns: Vec<usize>,
}

/// Whether a set has some values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// Whether it has them.
    pub found: bool,
    /// Whether it has no row at all.
    pub is_empty: bool,
    /// Whether in some row a value is null.
    pub has_null: bool,
}

/// The sets as they are at some moment.
pub trait Sets {
    /// Looks values up in a set, one for each of its columns. None when the set is not known: then no condition on
    /// it is true.
    fn look_up(&self, set: &Set, values: &[&Scalar]) -> Option<Lookup>;
}

/// No set is known. For conditions that name none.
#[derive(Debug, Clone, Copy)]
pub struct NoSets;

impl Sets for NoSets {
    fn look_up(&self, _: &Set, _: &[&Scalar]) -> Option<Lookup> {
        None
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
    /// The table of the entity of this name. None when there is no such entity, for whoever the condition is read for.
    fn find(&self, entity: &str) -> Option<InnerTable>;
}

impl Set {
    /// The set of the values that some columns hold in some rows.
    pub fn new(rows: SetRows) -> Self {
        let name = rows.name().into();
        Self(Arc::new(Definition { name, rows }))
    }

    /// What identifies the set: its query in one form, and the table that it was made for.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The rows that make it.
    pub fn rows(&self) -> &SetRows {
        &self.0.rows
    }

    /// The entity of those rows.
    pub fn entity(&self) -> &str {
        &self.0.rows.schema.entity
    }

    /// How many sets are inside each other, this one among them.
    pub fn depth(&self) -> usize {
        let inner = self.rows().filter.sets().map(|set| set.depth());
        inner.max().unwrap_or_default() + 1
    }
}

impl SetRows {
    /// The table of the rows.
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.schema, self.backend)
    }

    /// The columns that decide which rows count, and their values, by position.
    pub fn evaluated_columns(&self) -> BTreeSet<usize> {
        let named = self.filter.columns();
        named.chain(self.columns.iter().copied()).collect()
    }

    /// Their names.
    pub fn evaluated_column_names(&self) -> impl Iterator<Item = &str> {
        let columns = self.evaluated_columns().into_iter();
        columns.map(|position| self.schema.columns[position].name.as_str())
    }

    /// The query as text, behind what identifies the table.
    fn name(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("{:?}", self.schema.columns[*column].name))
            .collect();
        let inner = self.filter.sets().map(|set| set.rows().fingerprint.clone());
        let inner: BTreeSet<Arc<str>> = inner.collect();
        format!(
            "{}{inner:?} SELECT {} FROM {:?} WHERE {}",
            self.fingerprint,
            columns.join(", "),
            self.schema.entity,
            self.filter.text(self.table())
        )
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.name() == other.name()
    }
}

impl Eq for Set {}

impl PartialOrd for Set {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Set {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl Hash for Set {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// Which rows of a subquery a row matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Membership {
    /// `IN`: a null, on either side, makes the answer unknown, unless the values are found or there are none.
    In,
    /// `EXISTS` with equalities: a null equals nothing.
    Exists,
}

/// Whether a row's values in `columns` are in a set; none is SQL's unknown.
pub(super) fn is_member(
    columns: &[usize],
    set: &Set,
    membership: Membership,
    row: &RowValues,
    sets: &dyn Sets,
) -> Option<bool> {
    let values: Option<Vec<&Scalar>> = columns.iter().map(|column| row.scalar(*column)).collect();
    debug_assert!(
        columns
            .iter()
            .all(|column| row.cell(*column) != &Cell::Unread)
    );
    // Values that are not there are looked up as no values: then only the rest of the answer counts.
    let lookup = sets.look_up(set, values.as_deref().unwrap_or_default())?;
    let found = match &values {
        Some(values) if values.is_empty() => !lookup.is_empty,
        Some(_) => lookup.found,
        None => false,
    };
    match membership {
        Membership::Exists => Some(found),
        Membership::In if found => Some(true),
        Membership::In if lookup.is_empty => Some(false),
        Membership::In if values.is_none() || lookup.has_null => None,
        Membership::In => Some(false),
    }
}
