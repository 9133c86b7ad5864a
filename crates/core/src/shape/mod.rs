//! Shapes: which rows and columns of an entity a subscription wants.
//!
//! A client asks for a selection; resolved against its table and the read scope it is a shape.
//! Subscriptions that ask for the same share one shape, however they spell it: each change is evaluated, and
//! its bytes are written, once for all of them.

mod fields;
#[cfg(test)]
mod properties;
mod tables;
#[cfg(test)]
mod tests;
mod window;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use filter::{
    Backend, Filter, FilterError, NoSets, RowError, RowReader, RowValues, Set, SetRows, Sets,
    SetsAtBoth, Table,
};
use merge::Rules;
use protocol::{SchemaSummary, SelectionRequest};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use value::schema::Schema;

use crate::policy::{ReadScope, RowScope};
use crate::undo::{Before, RowVersions};

use fields::Fields;
pub use fields::of_fields_alone;
use tables::ReadableTables;
pub use tables::{Catalog, Others, WholeTables};

/// The bytes of a hash in the name of a shape, enough that two filters with one name cannot be found.
const NAME_BYTES: usize = 18;
/// Comes before the hash in the name of a shape whose clients may not see everything. No hash begins with it.
pub const GUARDED_MARK: &str = "~";

/// A set of rows and columns whose changes are sent. Cheap to clone; compared by its name.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Of the name. It is here, so that of many shapes one is found without a look at the others' names.
    hash: u64,
    definition: Arc<Definition>,
}

#[derive(Debug)]
struct Definition {
    entity: Box<str>,
    name: Box<str>,
    selection: Option<Selection>,
}

/// The rows and columns of a shape that is not a whole entity.
#[derive(Debug)]
pub struct Selection {
    fingerprint: Arc<str>,
    schema: Arc<Schema>,
    backend: Backend,
    filter: Filter,
    /// Positions, with the key's; none for all.
    columns: Option<BTreeSet<usize>>,
    /// The rows in which columns may be read that may not be read in all.
    partial: Option<Partial>,
    is_guarded: bool,
    /// What is sent of the rows' metadata, if it is sent too.
    fields: Option<Fields>,
}

/// Columns that are sent in some rows only.
#[derive(Debug, Clone)]
struct Partial {
    /// By position: the rows in which the column is sent.
    columns: BTreeMap<usize, Filter>,
    /// Reads what those filters name.
    reader: RowReader,
}

/// The table of an entity at the time when a shape is resolved.
#[derive(Debug, Clone)]
pub struct CurrentTable {
    /// The table's columns.
    pub schema: Arc<Schema>,
    /// Differs when the table has changed: shapes of two fingerprints are never equal.
    pub fingerprint: Arc<str>,
    /// The database that holds it.
    pub backend: Backend,
    /// How the rows merge by their fields; none where they do not.
    pub fields: Option<Arc<Rules>>,
    /// Whether they can be asked for as records.
    pub has_records: bool,
}

/// What happened to a row, as seen through a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowOp {
    /// The row matches now.
    Put,
    /// The row matches now as before and always in between, and what changed is known. Only where metadata is sent.
    Patch,
    /// The row no longer matches.
    Leave,
    /// The row is gone from the table.
    Delete,
}

impl RowOp {
    /// Whether the row is in the shape now.
    pub fn is_here(self) -> bool {
        matches!(self, Self::Put | Self::Patch)
    }
}

/// What the sessions of a shape are sent for a changed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowEffect {
    /// What happened.
    pub op: RowOp,
    /// Whether only a reader that joined between the position and now needs it.
    pub transient: bool,
}

impl Shape {
    /// The shape of all rows of an entity.
    pub fn whole(entity: &str) -> Self {
        Self::named(Definition {
            entity: entity.into(),
            name: entity.into(),
            selection: None,
        })
    }

    fn named(definition: Definition) -> Self {
        let mut hasher = DefaultHasher::new();
        definition.name.hash(&mut hasher);
        Self {
            hash: hasher.finish(),
            definition: Arc::new(definition),
        }
    }

    /// Resolves a client's request against the table and what the client may see of it.
    ///
    /// A column that the client may not see does not exist for it: neither its filter nor its projection can
    /// name the column, so that nothing can be inferred from the answer. The same is true of other tables: the scope's
    /// subqueries read them whole, the client's own as far as the client may.
    ///
    /// # Errors
    /// When the filter, the columns or the scope cannot be answered.
    pub fn resolve(
        table: &CurrentTable,
        request: &SelectionRequest,
        scope: &ReadScope,
        others: Others<'_>,
    ) -> Result<Self, ResolveError> {
        let whole = WholeTables::new(others.catalog);
        fits(table, scope).map_err(ResolveError::Scope)?;
        let allowed = Requested::of_scope(table.table().among(&whole), scope);
        let allowed = allowed.map_err(ResolveError::Scope)?;
        let partial = partial(table.table(), scope).map_err(ResolveError::Scope)?;
        let visible = Table {
            visible: allowed.columns.as_ref(),
            ..table.table()
        };
        let readable = ReadableTables::new(others);
        let requested = Requested::new(visible.among(&readable), request);
        let reads_by_rights = readable.finish().map_err(ResolveError::Scope)?;
        let requested = requested.map_err(ResolveError::Request)?;
        let fields = fields::requested(table, request)?;
        let concealed = requested.filter.concealing(&partial);
        let window = window::requested(request, visible, &partial)?;
        let mut both = Requested {
            filter: concealed
                .map_err(ResolveError::Request)?
                .and(allowed.filter),
            columns: requested.columns.or(allowed.columns),
        };
        // Which rows match depends on rights, be it those to another table.
        let is_guarded = reads_by_rights || !matches!(scope, ReadScope::Everything);
        if let Some(window) = window {
            both.filter = window::filter(table, both.filter, window);
        }
        Ok(Self::of(table, both, partial, (is_guarded, fields)))
    }

    /// The shape of the rows that match a filter.
    #[cfg(test)]
    pub(crate) fn of_filter(table: &CurrentTable, filter: Filter) -> Self {
        let columns = None;
        let requested = Requested { filter, columns };
        Self::of(table, requested, BTreeMap::new(), (false, None))
    }

    fn of(
        table: &CurrentTable,
        Requested { filter, columns }: Requested,
        mut partial: BTreeMap<usize, Filter>,
        (is_guarded, fields): (bool, Option<Fields>),
    ) -> Self {
        let is_whole = filter.is_everything() && columns.is_none();
        if is_whole && !is_guarded && fields.is_none() {
            return Self::whole(&table.schema.entity);
        }
        partial.retain(|position, rows| {
            let is_asked = columns
                .as_ref()
                .is_none_or(|asked| asked.contains(position));
            is_asked && !rows.is_everything()
        });
        let partial = (!partial.is_empty()).then(|| Partial::new(table.table(), partial));
        let selection = Selection {
            fingerprint: table.fingerprint.clone(),
            schema: table.schema.clone(),
            backend: table.backend,
            filter,
            columns,
            partial,
            is_guarded,
            fields,
        };
        Self::named(Definition {
            entity: table.schema.entity.as_str().into(),
            name: selection.name().into(),
            selection: Some(selection),
        })
    }

    /// The entity of its rows.
    pub fn entity(&self) -> &str {
        &self.definition.entity
    }

    /// The shape's name in the protocol.
    pub fn as_str(&self) -> &str {
        &self.definition.name
    }

    /// Whether its clients may not see everything of the entity.
    pub fn is_guarded(&self) -> bool {
        self.selection()
            .is_some_and(|selection| selection.is_guarded)
    }

    /// What a cursor that was received for this shape must say beside it: the end of the shape's name where it is
    /// guarded, because then the cursor is good for no other shape.
    pub fn mark(&self) -> Option<&str> {
        let name = self
            .definition
            .name
            .strip_prefix(&*self.definition.entity)?;
        self.is_guarded().then(|| &name[1..])
    }

    /// Whether one may resume from a cursor that was received for the shape of this name or mark, if any.
    ///
    /// What somebody may see changes without an entry in the log, so a cursor is good for another shape only where
    /// neither is guarded: then the selection is the client's own affair.
    pub fn resumes(&self, named: Option<&str>) -> bool {
        let is_guarded = |name: &str| {
            let end = name.rsplit('.').next().unwrap_or_default();
            end.starts_with(GUARDED_MARK)
        };
        match named {
            Some(named) => {
                let is_same = named == self.as_str() || Some(named) == self.mark();
                is_same || !(self.is_guarded() || is_guarded(named))
            }
            None => !self.is_guarded(),
        }
    }

    /// The sets that decide which rows are in it, with those inside them.
    pub fn all_sets(&self) -> impl Iterator<Item = Set> {
        let mut found = BTreeSet::new();
        if let Some(selection) = self.selection() {
            selection
                .filter()
                .sets()
                .for_each(|set| collect_sets(set, &mut found));
        }
        found.into_iter()
    }

    /// The rows and columns of the shape; none for a whole entity.
    pub fn selection(&self) -> Option<&Selection> {
        self.definition.selection.as_ref()
    }
}

fn collect_sets(set: &Set, found: &mut BTreeSet<Set>) {
    if found.insert(set.clone()) {
        let inner = set.rows().filter.sets();
        inner.for_each(|inner| collect_sets(inner, found));
    }
}

/// A selection that has been checked against a table, before it becomes one of a shape.
struct Requested {
    filter: Filter,
    /// Positions, with the key's; none for all.
    columns: Option<BTreeSet<usize>>,
}

/// Why a request is no shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The request cannot be answered.
    #[error(transparent)]
    Request(FilterError),
    /// What the client may see cannot be evaluated: its table has changed, or its claims are too large. The message is
    /// not for the client.
    #[error("what may be seen cannot be evaluated: {0}")]
    Scope(FilterError),
    /// There is no such mode, or not for this entity.
    #[error("{0}")]
    Mode(&'static str),
}

impl Requested {
    fn everything() -> Self {
        Self {
            filter: Filter::everything(),
            columns: None,
        }
    }

    fn of_scope(table: Table<'_>, scope: &ReadScope) -> Result<Self, FilterError> {
        match scope {
            ReadScope::Everything => Ok(Self::everything()),
            ReadScope::Restricted(allowed) => Self::new(table, allowed),
            ReadScope::Policies { rows, hidden, .. } => Ok(Self {
                filter: rows.filter(table)?,
                columns: without(table, hidden)?,
            }),
            ReadScope::Nothing => Ok(Self {
                filter: Filter::nothing(),
                columns: None,
            }),
        }
    }

    fn new(table: Table<'_>, request: &SelectionRequest) -> Result<Self, FilterError> {
        let params = request.params.as_deref().unwrap_or_default();
        let filter = match &request.filter {
            Some(text) => Filter::new(text, params, table)?,
            None if !params.is_empty() => {
                return Err(FilterError::bad_request(
                    "`params` belong to `where`, which is missing",
                ));
            }
            None => Filter::everything(),
        };
        let columns = request
            .columns
            .as_ref()
            .map(|columns| positions(table, columns))
            .transpose()?;
        Ok(Self { filter, columns })
    }
}

/// A shape with a reader of the columns that its filter names.
#[derive(Debug, Clone)]
pub struct ShapeReader {
    shape: Shape,
    reader: Option<RowReader>,
}

impl ShapeReader {
    /// Makes a reader for `shape`.
    pub fn new(shape: Shape) -> Self {
        let reader = shape
            .selection()
            .map(|selection| RowReader::new(selection.table(), selection.evaluated_columns()));
        Self { shape, reader }
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn selection(&self) -> Option<(&Selection, &RowReader)> {
        self.shape.selection().zip(self.reader.as_ref())
    }
}

/// Whether what a scope says of rows is said of the table as it is.
fn fits(table: &CurrentTable, scope: &ReadScope) -> Result<(), FilterError> {
    match scope {
        ReadScope::Policies {
            rows: RowScope::Filter { fingerprint, .. },
            ..
        } if **fingerprint != *table.fingerprint => {
            let message = "the table has changed, and its policies have not been read again yet";
            Err(FilterError::bad_request(message))
        }
        _ => Ok(()),
    }
}

/// The columns that may be read in some rows only, with those rows.
fn partial(table: Table<'_>, scope: &ReadScope) -> Result<BTreeMap<usize, Filter>, FilterError> {
    let ReadScope::Policies { partial, .. } = scope else {
        return Ok(BTreeMap::new());
    };
    let read = partial.iter().map(|(name, rows)| {
        let position = table
            .position(name)
            .ok_or_else(|| FilterError::no_such_column(name))?;
        Ok((position, rows.filter(table)?))
    });
    read.collect()
}

/// The positions of all columns but these; none when there are no such. One that does not exist is an error: it may
/// have another name now.
fn without(table: Table<'_>, hidden: &[String]) -> Result<Option<BTreeSet<usize>>, FilterError> {
    if hidden.is_empty() {
        return Ok(None);
    }
    let hidden = positions(table, hidden)?;
    let all = 0..table.schema.columns.len();
    let is_shown = |position: &usize| table.schema.is_key(*position) || !hidden.contains(position);
    Ok(Some(all.filter(is_shown).collect()))
}

/// The positions of these columns and of the key.
fn positions(table: Table<'_>, columns: &[String]) -> Result<BTreeSet<usize>, FilterError> {
    let mut positions: BTreeSet<usize> = table.schema.key.iter().copied().collect();
    for name in columns {
        let position = table
            .position(name)
            .ok_or_else(|| FilterError::no_such_column(name))?;
        positions.insert(position);
    }
    Ok(positions)
}

impl Partial {
    fn new(table: Table<'_>, columns: BTreeMap<usize, Filter>) -> Self {
        let named: Vec<usize> = columns.values().flat_map(Filter::columns).collect();
        Self {
            reader: RowReader::new(table, named),
            columns,
        }
    }

    /// The columns that decide.
    fn named(&self) -> impl Iterator<Item = usize> {
        self.columns.values().flat_map(Filter::columns)
    }
}

impl CurrentTable {
    /// The table as filters see it.
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.schema, self.backend)
    }
}

impl Selection {
    fn name(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(&self.schema.entity);
        add(&self.fingerprint);
        add(&self.filter.text(self.table()));
        for name in self.column_names().into_iter().flatten() {
            add(name);
        }
        for (entity, fingerprint) in self.filter.inner_tables() {
            add("\0inner");
            add(entity);
            add(fingerprint);
        }
        for (position, rows) in self.partial.iter().flat_map(|partial| &partial.columns) {
            add("\0partial");
            add(&self.schema.columns[*position].name);
            add(&rows.text(self.table()));
        }
        if self.fields.is_some() {
            add("\0fields");
        }
        if self.sends_records() {
            add("\0records");
        }
        let name = URL_SAFE_NO_PAD.encode(&hash.finalize()[..NAME_BYTES]);
        let mark = if self.is_guarded { GUARDED_MARK } else { "" };
        format!("{}.{mark}{name}", self.schema.entity)
    }

    /// The fingerprint of the table that it was made for.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The table that it was made for.
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.schema, self.backend)
    }

    /// Whether a row that is not in the shape must not be named, because it is unknown whether its clients ever had
    /// it: they may not see all rows. They refetch instead.
    pub fn is_unclear(&self, versions: &RowVersions, sets: SetsAtBoth<'_>) -> bool {
        self.is_guarded
            && !self.filter.is_everything()
            && self.matched_before(versions, sets).is_none()
    }

    /// The filter of its rows.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The rows of which only the first are in the shape, if it is a window; otherwise none.
    pub fn window(&self) -> Option<&SetRows> {
        Some(self.filter.window()?.rows())
    }

    /// The positions of its columns; none for all.
    pub fn columns(&self) -> Option<&BTreeSet<usize>> {
        self.columns.as_ref()
    }

    /// The names of its columns; none for all.
    pub fn column_names(&self) -> Option<Vec<&str>> {
        Some(self.names(self.columns.as_ref()?).collect())
    }

    /// The `schema` of a `subscribed` frame, with its columns.
    pub fn summary(&self) -> SchemaSummary {
        let mut summary = crate::schema::summary(&self.schema);
        if let Some(names) = self.column_names() {
            summary
                .columns
                .retain(|name, _| names.contains(&name.as_str()));
        }
        summary
    }

    /// The positions of the columns that decide which rows are sent, and which of their columns. A change of one of
    /// them needs its previous value.
    pub fn evaluated_columns(&self) -> impl Iterator<Item = usize> {
        let partial = self.partial.iter().flat_map(|partial| partial.named());
        self.filter.columns().chain(partial)
    }

    /// Their names. One may occur twice.
    pub fn evaluated_column_names(&self) -> impl Iterator<Item = &str> {
        self.evaluated_columns()
            .map(|position| self.schema.columns[position].name.as_str())
    }

    /// A row as it is sent; none when that is the whole row.
    ///
    /// # Errors
    /// When the row is not a JSON object.
    pub fn project(&self, row: &RawValue) -> Result<Option<Box<RawValue>>, RowError> {
        let columns = self.columns_of(row)?;
        columns
            .map(|columns| self.project_to(row, &columns))
            .transpose()
    }

    /// The positions of the columns that are sent of a row; none for all.
    ///
    /// # Errors
    /// When the row is not a JSON object.
    pub fn columns_of(&self, row: &RawValue) -> Result<Option<Cow<'_, BTreeSet<usize>>>, RowError> {
        match &self.partial {
            None => Ok(self.columns.as_ref().map(Cow::Borrowed)),
            Some(partial) => {
                let shown = self.shown(&partial.reader.read(row)?);
                Ok(Some(Cow::Owned(shown)))
            }
        }
    }

    /// Some columns of a row.
    ///
    /// # Errors
    /// When the row is not a JSON object.
    pub fn project_to(
        &self,
        row: &RawValue,
        columns: &BTreeSet<usize>,
    ) -> Result<Box<RawValue>, RowError> {
        let names: Vec<&str> = self.names(columns).collect();
        filter::project(row, |name| names.contains(&name))
    }

    /// Whether each row's columns must be chosen when it has been read with all of them.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// The columns that are sent of a row with these values.
    fn shown(&self, row: &RowValues) -> BTreeSet<usize> {
        let all = 0..self.schema.columns.len();
        let asked = |position: &usize| {
            let columns = self.columns.as_ref();
            columns.is_none_or(|columns| columns.contains(position))
        };
        let readable = |position: &usize| {
            let partial = self.partial.as_ref();
            let rows = partial.and_then(|partial| partial.columns.get(position));
            // A column's own policy names no set.
            rows.is_none_or(|rows| rows.matches(row, &NoSets) == Some(true))
        };
        all.filter(asked).filter(readable).collect()
    }

    fn names(&self, columns: &BTreeSet<usize>) -> impl Iterator<Item = &str> {
        let name = |&position: &usize| self.schema.columns[position].name.as_str();
        columns.iter().map(name)
    }

    /// The comparisons that [`Self::effect`] takes for a row with these versions.
    pub fn work(&self, versions: &RowVersions) -> usize {
        let work = self.filter.work();
        versions
            .all()
            .map(|row| work.on(row))
            .fold(0, usize::saturating_add)
    }

    /// The effect of a row with these versions; none when nothing is sent.
    ///
    /// | before \ now   | does not exist | does not match | matches              |
    /// |----------------|----------------|----------------|----------------------|
    /// | did not exist  | nothing        | nothing        | put                  |
    /// | did not match  | nothing        | nothing        | put                  |
    /// | matched        | delete         | leave          | put, if it differs   |
    /// | unknown        | delete         | leave          | put                  |
    ///
    /// Where metadata is sent, the put of a row that matched all the time is a patch.
    ///
    /// `before` is the row at the position of a reader that has followed the shape so far. A reader that
    /// joined since may have the row as it was in between; an effect that only such a reader needs is
    /// transient. What the sets were in between is taken for either of what they were and are: where it was neither,
    /// [such a reader reads again](crate::session::Batch::moves).
    pub fn effect(&self, versions: &RowVersions, sets: SetsAtBoth<'_>) -> Option<RowEffect> {
        let matches_now = |row: Option<&RowValues>| self.matches(row, sets.now);
        let matches_before = |row: Option<&RowValues>| self.matches(row, sets.before);
        let before = self.matched_before(versions, sets);
        if matches_now(versions.now()) {
            let differs = before != Some(true) || self.shows_difference(versions);
            let transient = !differs;
            // A reader that joined while the row did not match never received it.
            let always = |row| matches_now(row) && matches_before(row);
            let matched_always = versions.between().all(always);
            let is_sent = differs || !matched_always;
            let is_here = before == Some(true) && matched_always;
            let op = match is_here && self.may_patch(versions) {
                true => RowOp::Patch,
                false => RowOp::Put,
            };
            return is_sent.then_some(RowEffect { op, transient });
        }
        let op = match versions.now() {
            Some(_) => RowOp::Leave,
            None => RowOp::Delete,
        };
        let transient = before == Some(false);
        let ever = |row| matches_now(row) || matches_before(row);
        let is_sent = !transient || versions.between().any(ever);
        is_sent.then_some(RowEffect { op, transient })
    }

    /// The effect of a row that has not changed, while the sets have; none when nothing is sent.
    pub fn effect_of_sets(
        &self,
        versions: &RowVersions,
        sets: SetsAtBoth<'_>,
    ) -> Option<RowEffect> {
        let matched = self.matches(versions.now(), sets.before);
        let op = match (matched, self.matches(versions.now(), sets.now)) {
            (false, true) => RowOp::Put,
            (true, false) => RowOp::Leave,
            (true, true) | (false, false) => return None,
        };
        Some(RowEffect {
            op,
            transient: false,
        })
    }

    fn matches(&self, row: Option<&RowValues>, sets: &dyn Sets) -> bool {
        row.is_some_and(|row| self.filter.matches(row, sets) == Some(true))
    }

    /// Whether the row matched at the reader's position; none when that is unknown.
    fn matched_before(&self, versions: &RowVersions, sets: SetsAtBoth<'_>) -> Option<bool> {
        match versions.before() {
            Before::Row(row) => Some(self.matches(row, sets.before)),
            Before::AnyOf(values) if !self.filter.may_match(values) => Some(false),
            Before::Unknown if self.filter.is_nothing() => Some(false),
            Before::AnyOf(_) | Before::Unknown => None,
        }
    }

    /// Whether the columns show a difference in a row that matched before and matches now.
    fn shows_difference(&self, versions: &RowVersions) -> bool {
        let mut columns = match (&self.columns, &self.partial) {
            (None, None) => return true,
            (Some(columns), None) => Cow::Borrowed(columns),
            (_, Some(_)) => Cow::Owned(
                versions
                    .now()
                    .map(|now| self.shown(now))
                    .unwrap_or_default(),
            ),
        };
        if let Some(partial) = &self.partial {
            // They decide which columns are sent.
            columns.to_mut().extend(partial.named());
        }
        // A column that is not in the log may have changed.
        let unlogged = |&position: &usize| !self.schema.columns[position].logged;
        let bare = || self.shows_bare_updates() && versions.has_bare_update();
        versions.touches(&columns) || columns.iter().any(unlogged) || bare()
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.definition, &other.definition)
            || (self.hash == other.hash
                && self.as_str() == other.as_str()
                && self.entity() == other.entity())
    }
}

impl Eq for Shape {}

impl PartialOrd for Shape {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Shape {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.definition, &other.definition) {
            return Ordering::Equal;
        }
        (self.entity(), self.as_str()).cmp(&(other.entity(), other.as_str()))
    }
}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
