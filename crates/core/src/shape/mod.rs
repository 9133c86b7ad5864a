//! Shapes: which rows and columns of an entity a subscription wants.
//!
//! A client asks for a selection; resolved against its table and the read scope it is a shape.
//! Subscriptions that ask for the same share one shape, however they spell it: each change is evaluated, and
//! its bytes are written, once for all of them.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use filter::{Backend, Filter, FilterError, RowError, RowReader, Table};
use protocol::{SchemaSummary, SelectionRequest};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use value::schema::Schema;

use crate::policy::ReadScope;
use crate::undo::{Before, RowVersions};

/// The bytes of a hash in the name of a shape, enough that two filters with one name cannot be found.
const NAME_BYTES: usize = 18;

/// A set of rows and columns whose changes are sent. Cheap to clone; compared by its name.
#[derive(Debug, Clone)]
pub struct Shape(Arc<Definition>);

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
}

/// What happened to a row, as seen through a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOp {
    /// The row matches now.
    Put,
    /// The row no longer matches.
    Leave,
    /// The row is gone from the table.
    Delete,
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
        Self(Arc::new(Definition {
            entity: entity.into(),
            name: entity.into(),
            selection: None,
        }))
    }

    /// Resolves a client's request against the table and what the client may see of it.
    ///
    /// A column that the client may not see does not exist for it: neither its filter nor its projection can
    /// name the column, so that nothing can be inferred from the answer.
    ///
    /// # Errors
    /// When the filter or the columns cannot be answered.
    pub fn resolve(
        table: &CurrentTable,
        request: &SelectionRequest,
        scope: &ReadScope,
    ) -> Result<Self, FilterError> {
        let allowed = match scope {
            ReadScope::Everything => Requested::everything(),
            ReadScope::Restricted(allowed) => Requested::new(table.table(), allowed)?,
        };
        let visible = Table {
            visible: allowed.columns.as_ref(),
            ..table.table()
        };
        let requested = Requested::new(visible, request)?;
        let both = Requested {
            filter: requested.filter.and(allowed.filter),
            columns: requested.columns.or(allowed.columns),
        };
        Ok(Self::of(table, both))
    }

    fn of(table: &CurrentTable, Requested { filter, columns }: Requested) -> Self {
        if filter.is_everything() && columns.is_none() {
            return Self::whole(&table.schema.entity);
        }
        let selection = Selection {
            fingerprint: table.fingerprint.clone(),
            schema: table.schema.clone(),
            backend: table.backend,
            filter,
            columns,
        };
        Self(Arc::new(Definition {
            entity: table.schema.entity.as_str().into(),
            name: selection.name().into(),
            selection: Some(selection),
        }))
    }

    /// The entity of its rows.
    pub fn entity(&self) -> &str {
        &self.0.entity
    }

    /// The shape's name in the protocol.
    pub fn as_str(&self) -> &str {
        &self.0.name
    }

    /// The rows and columns of the shape; none for a whole entity.
    pub fn selection(&self) -> Option<&Selection> {
        self.0.selection.as_ref()
    }
}

/// A selection that has been checked against a table, before it becomes one of a shape.
struct Requested {
    filter: Filter,
    /// Positions, with the key's; none for all.
    columns: Option<BTreeSet<usize>>,
}

impl Requested {
    fn everything() -> Self {
        Self {
            filter: Filter::everything(),
            columns: None,
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
            .map(|selection| RowReader::new(selection.table(), selection.filter.columns()));
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
        let name = URL_SAFE_NO_PAD.encode(&hash.finalize()[..NAME_BYTES]);
        format!("{}.{name}", self.schema.entity)
    }

    /// The fingerprint of the table that it was made for.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The table that it was made for.
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.schema, self.backend)
    }

    /// The filter of its rows.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The positions of its columns; none for all.
    pub fn columns(&self) -> Option<&BTreeSet<usize>> {
        self.columns.as_ref()
    }

    /// The names of its columns; none for all.
    pub fn column_names(&self) -> Option<Vec<&str>> {
        let name = |&position: &usize| self.schema.columns[position].name.as_str();
        Some(self.columns.as_ref()?.iter().map(name).collect())
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

    /// The names of the columns whose previous values its filter needs.
    pub fn filter_columns(&self) -> impl Iterator<Item = &str> {
        self.filter
            .columns()
            .map(|position| self.schema.columns[position].name.as_str())
    }

    /// A row as it is sent; none when that is the whole row.
    ///
    /// # Errors
    /// When the row is not a JSON object.
    pub fn project(&self, row: &RawValue) -> Result<Option<Box<RawValue>>, RowError> {
        let Some(names) = self.column_names() else {
            return Ok(None);
        };
        filter::project(row, |name| names.contains(&name)).map(Some)
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
    /// `before` is the row at the position of a reader that has followed the shape so far. A reader that
    /// joined since may have the row as it was in between; an effect that only such a reader needs is
    /// transient.
    pub fn effect(&self, versions: &RowVersions) -> Option<RowEffect> {
        let matches =
            |row: Option<&_>| row.is_some_and(|row| self.filter.matches(row) == Some(true));
        let before = match versions.before() {
            Before::Row(row) => Some(matches(row)),
            Before::AnyOf(values) if !self.filter.may_match(values) => Some(false),
            Before::AnyOf(_) | Before::Unknown => None,
        };
        if matches(versions.now()) {
            let differs = before != Some(true) || self.shows_difference(versions);
            let transient = !differs;
            // A reader that joined while the row did not match never received it.
            let is_sent = differs || !versions.between().all(matches);
            return is_sent.then_some(RowEffect {
                op: RowOp::Put,
                transient,
            });
        }
        let op = match versions.now() {
            Some(_) => RowOp::Leave,
            None => RowOp::Delete,
        };
        let transient = before == Some(false);
        let is_sent = !transient || versions.between().any(matches);
        is_sent.then_some(RowEffect { op, transient })
    }

    /// Whether the columns show a difference in a row that matched before and matches now.
    fn shows_difference(&self, versions: &RowVersions) -> bool {
        let Some(columns) = &self.columns else {
            return true;
        };
        // A column that is not in the log may have changed.
        let unlogged = |&position: &usize| !self.schema.columns[position].logged;
        versions.touches(columns) || columns.iter().any(unlogged)
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name && self.0.entity == other.0.entity
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
        (self.entity(), self.as_str()).cmp(&(other.entity(), other.as_str()))
    }
}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
