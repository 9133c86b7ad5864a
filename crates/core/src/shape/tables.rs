//! The tables that subqueries read: whole for policies, and for a client's own as far as that client may read them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use filter::{Filter, FilterError, InnerTable, Tables};

use super::{CurrentTable, Requested, fits, partial};
use crate::policy::ReadScope;

/// The tables of all entities, as they are now.
pub trait Catalog: fmt::Debug {
    /// The table of an entity. None when there is no such entity, or when its table is unknown.
    fn table(&self, entity: &str) -> Option<CurrentTable>;
}

/// What subqueries may read when a request is resolved.
#[derive(Clone, Copy)]
pub struct Others<'a> {
    /// All tables.
    pub catalog: &'a dyn Catalog,
    /// What the principal may see of an entity.
    pub scope_of: &'a dyn Fn(&str) -> ReadScope,
}

impl Others<'static> {
    /// There are no other tables.
    pub const NONE: Self = Self {
        catalog: &NoTables,
        scope_of: &|_| ReadScope::Nothing,
    };
}

#[derive(Debug)]
struct NoTables;

impl Catalog for NoTables {
    fn table(&self, _: &str) -> Option<CurrentTable> {
        None
    }
}

/// The tables as policies read them: every row and every column.
#[derive(Debug)]
pub struct WholeTables<'a> {
    catalog: &'a dyn Catalog,
    unknown: RefCell<BTreeSet<String>>,
}

impl<'a> WholeTables<'a> {
    /// All tables of a catalog.
    pub fn new(catalog: &'a dyn Catalog) -> Self {
        Self {
            catalog,
            unknown: RefCell::default(),
        }
    }

    /// The names that were looked up and not found.
    pub fn unknown(self) -> BTreeSet<String> {
        self.unknown.into_inner()
    }
}

impl Tables for WholeTables<'_> {
    fn find(&self, entity: &str) -> Option<InnerTable> {
        let Some(table) = self.catalog.table(entity) else {
            self.unknown.borrow_mut().insert(entity.to_owned());
            return None;
        };
        Some(InnerTable {
            schema: table.schema,
            fingerprint: table.fingerprint,
            backend: table.backend,
            visible: None,
            rows: Filter::everything(),
            partial: BTreeMap::new(),
        })
    }
}

/// The tables as a principal may read them.
pub(super) struct ReadableTables<'a> {
    others: Others<'a>,
    /// Whether not everything may be read of one that was looked up.
    is_restricted: Cell<bool>,
    fault: RefCell<Option<FilterError>>,
}

impl<'a> ReadableTables<'a> {
    pub(super) fn new(others: Others<'a>) -> Self {
        Self {
            others,
            is_restricted: Cell::default(),
            fault: RefCell::default(),
        }
    }

    /// Ends the look-ups. Returns whether what was found depends on the principal.
    ///
    /// # Errors
    /// When what may be seen of a table could not be evaluated: then it was as one that does not exist.
    pub(super) fn finish(self) -> Result<bool, FilterError> {
        match self.fault.into_inner() {
            Some(fault) => Err(fault),
            None => Ok(self.is_restricted.get()),
        }
    }

    fn readable(&self, table: CurrentTable, scope: &ReadScope) -> Result<InnerTable, FilterError> {
        let whole = WholeTables::new(self.others.catalog);
        fits(&table, scope)?;
        let allowed = Requested::of_scope(table.table().among(&whole), scope)?;
        let partial = partial(table.table(), scope)?;
        Ok(InnerTable {
            schema: table.schema,
            fingerprint: table.fingerprint,
            backend: table.backend,
            visible: allowed.columns,
            rows: allowed.filter,
            partial,
        })
    }
}

impl fmt::Debug for ReadableTables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadableTables")
            .field(&self.others.catalog)
            .finish()
    }
}

impl Tables for ReadableTables<'_> {
    fn find(&self, entity: &str) -> Option<InnerTable> {
        let scope = (self.others.scope_of)(entity);
        if matches!(scope, ReadScope::Nothing) {
            return None;
        }
        let table = self.others.catalog.table(entity)?;
        if !matches!(scope, ReadScope::Everything) {
            self.is_restricted.set(true);
        }
        let readable = self.readable(table, &scope);
        readable
            .map_err(|fault| self.fault.borrow_mut().get_or_insert(fault).clone())
            .ok()
    }
}
