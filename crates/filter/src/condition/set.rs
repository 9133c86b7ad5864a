//! Sets of values that the rows of other tables make: what a subquery means in a condition.
//!
//! A condition does not hold a set's values, because they change without it: it names the set, and an evaluation of
//! the condition looks the values up ([`Sets`]). So the same condition is evaluated against a set as it was and as
//! it is.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use value::schema::Schema;

use super::table::{Backend, Table};
use super::window::Window;
use super::{Condition, Filter};
use crate::scalar::Scalar;
use crate::syntax::quoted;

/// How many subqueries of a text may be inside each other. A client's may read a table whose policy has as many again.
pub const SUBQUERIES_NESTED_MAX: usize = 3;
/// How many subqueries a text may have.
pub const SUBQUERIES_MAX: usize = 16;

/// A set of values. Cheap to clone; sets of one name are one.
#[derive(Debug, Clone)]
pub struct Set(Arc<Definition>);

#[derive(Debug)]
struct Definition {
    name: Box<str>,
    /// Of the name, which is long: most names are told apart without being read.
    hash: u64,
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
    /// Where only the first of the rows count: which. The columns are those of the key then.
    pub window: Option<Window>,
    /// Whom to ask for the set, where no query made here says what it holds. Then the table is the one whose columns it is
    /// compared with, and every row counts.
    pub asked: Option<AskedSet>,
}

/// A set that the database itself is asked for.
#[derive(Debug, Clone)]
pub struct AskedSet {
    /// What is asked, for this set and others at once.
    pub source: Arc<dyn AskedSource>,
    /// Which of the answers is the set.
    pub part: usize,
}

/// Something that the database is asked for sets.
pub trait AskedSource: Any + Debug + Send + Sync {
    /// What identifies it. Sources of one name have the same answers.
    fn name(&self) -> &str;
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

/// The sets at a reader's position and now.
#[derive(Clone, Copy)]
pub struct SetsAtBoth<'a> {
    /// As they were at the reader's position.
    pub before: &'a dyn Sets,
    /// As they are.
    pub now: &'a dyn Sets,
}

impl SetsAtBoth<'static> {
    /// No set is known. For filters that name none.
    pub const NONE: Self = Self {
        before: &NoSets,
        now: &NoSets,
    };
}

impl Set {
    /// The set of the values that some columns hold in some rows.
    pub fn new(rows: SetRows) -> Self {
        let name: Box<str> = rows.name().into();
        let hash = fnv_1a(name.as_bytes());
        Self(Arc::new(Definition { name, hash, rows }))
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

    /// Whom to ask for it, unless it is made of rows.
    pub fn asked(&self) -> Option<&AskedSet> {
        self.rows().asked.as_ref()
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
        let named = named.chain(self.columns.iter().copied());
        let windows = self.window.iter();
        named.chain(windows.flat_map(Window::columns)).collect()
    }

    /// Their names.
    pub fn evaluated_column_names(&self) -> impl Iterator<Item = &str> {
        let columns = self.evaluated_columns().into_iter();
        columns.map(|position| self.schema.columns[position].name.as_str())
    }

    /// The columns that the query selects. One that only asks for rows selects a constant.
    pub(crate) fn selected(&self) -> String {
        let names = self.columns.iter();
        let names: Vec<String> = names
            .map(|column| quoted(&self.schema.columns[*column].name))
            .collect();
        if names.is_empty() {
            return "1".to_owned();
        }
        names.join(", ")
    }

    /// The query as text, behind what identifies the tables that it reads.
    fn name(&self) -> String {
        let tables: BTreeSet<(&str, &str)> = self.tables().collect();
        if let Some(AskedSet { source, part }) = &self.asked {
            return format!(
                "{tables:?} {} ASKED {part} OF {}",
                self.selected(),
                source.name()
            );
        }
        format!(
            "{tables:?} SELECT {} FROM {:?} WHERE {}{}",
            self.selected(),
            self.schema.entity,
            self.filter.text(self.table()),
            self.window_text(true)
        )
    }

    /// What of the query follows the condition.
    pub(crate) fn window_text(&self, with_values: bool) -> String {
        let text = |window: &Window| window.text(&self.schema, with_values);
        self.window.as_ref().map(text).unwrap_or_default()
    }

    /// The tables that it reads, each as its entity and fingerprint.
    fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = (self.schema.entity.as_str(), &*self.fingerprint);
        std::iter::once(own).chain(self.filter.inner_tables())
    }
}

/// The hash FNV-1a. It decides the order of conditions, and so the names of shapes, which servers of other versions must know:
/// the hashers of the standard library may change.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.name() == other.name())
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
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        let by_hash = self.0.hash.cmp(&other.0.hash);
        by_hash.then_with(|| self.name().cmp(other.name()))
    }
}

impl Hash for Set {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
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

impl Filter {
    /// The filter of the rows that are in a window, a set of keys.
    pub fn of_window(set: Set) -> Self {
        Self::of(Condition::Member {
            columns: set.rows().columns.clone(),
            set,
            membership: Membership::Exists,
            negated: false,
        })
    }

    /// The window of which all its rows are, if it is one of a window.
    pub fn window(&self) -> Option<&Set> {
        match &self.condition {
            Condition::Member { set, .. } => Some(set).filter(|set| set.rows().window.is_some()),
            _ => None,
        }
    }
}
