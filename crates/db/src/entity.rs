//! The configured entities, and what their tables look like now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, RwLock};

use filter::Backend;
use merge::Rules;
use sync_core::shape::{CurrentTable, Shape};
#[cfg(feature = "postgres")]
use value::schema::ColumnKind;
use value::schema::Schema;

/// Entities by their names.
pub type EntityMap = Arc<BTreeMap<String, Arc<Entity>>>;

/// One synced entity: the name that clients know, and the table behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityConfig {
    /// The name in the protocol.
    pub name: String,
    /// Where its rows are.
    pub source: EntitySource,
    /// Whether PostgreSQL's row level security says who may see and write what.
    pub rls: bool,
    /// Whether only policies may read it: it is captured, and for clients it does not exist.
    pub internal: bool,
    /// How its rows merge by their fields; none where they are replaced whole. How the greatest and the least of a column
    /// compare follows from the column's type, whatever stands here.
    pub fields: Option<Rules>,
    /// Whether clients can ask for its rows as records, each with a clock that is later with each change of it.
    pub records: bool,
}

/// Where an entity's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntitySource {
    /// In this table: `table` or `schema.table`, spelled as in the catalog. Its triggers write the changes.
    Table(String),
    /// In the log alone: the application records the changes ([`crate::DbPool::record`]), and rows live as
    /// long as the log keeps them.
    Log,
}

impl EntityConfig {
    /// An entity whose table has the same name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            source: EntitySource::Table(name.clone()),
            internal: false,
            fields: None,
            records: false,
            name,
            rls: false,
        }
    }

    /// An entity on a table of another name: `table` or `schema.table`.
    pub fn on_table(name: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: EntitySource::Table(table.into()),
            rls: false,
            internal: false,
            fields: None,
            records: false,
        }
    }

    /// An entity without a table.
    pub fn without_table(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: EntitySource::Log,
            rls: false,
            internal: false,
            fields: None,
            records: false,
        }
    }

    /// The same entity for policies alone. Its changes are captured, because they change what others may see; no client can
    /// subscribe to it, write it or learn of it.
    #[must_use]
    pub fn internal(self) -> Self {
        Self {
            internal: true,
            ..self
        }
    }

    /// The same entity, of which PostgreSQL's row level security says who may see and write what.
    #[must_use]
    pub fn rls(self) -> Self {
        Self { rls: true, ..self }
    }

    /// The same entity, whose rows merge by their fields.
    #[must_use]
    pub fn fields(self, rules: Rules) -> Self {
        Self {
            fields: Some(rules),
            ..self
        }
    }
}

impl From<String> for EntityConfig {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<&str> for EntityConfig {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// An entity as it is now: its schema, and the generated SQL that reads and captures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Its columns and its key.
    pub schema: Arc<Schema>,
    /// A short text that identifies the table's columns and types; when it differs, so does the table.
    pub fingerprint: String,
    /// The table's quoted name; `None` for an entity without a table.
    pub relation: Option<String>,
    /// The columns' types, as casts spell them; empty on SQLite, which needs no casts.
    pub column_types: Vec<String>,
    /// The operator under which the index of the key compares each of its columns, with its schema; empty on
    /// SQLite.
    pub key_operators: Vec<String>,
    /// A scalar subquery for the row's JSON text, by the key `ranked.entity_id` of the query around it.
    pub row_by_key: String,
    /// A statement for the row's JSON text, by the key `$1`; empty where statements cannot be run by name.
    pub row_of_key: String,
    /// The columns' types beneath domains, as casts spell them; empty on SQLite.
    pub base_types: Vec<String>,
    /// The SQL that reads its rows.
    pub rows: RowsSql,
    /// The statements that install its capture, in order; empty for an entity without a table.
    pub capture: Vec<String>,
    /// How its rows merge by their fields, fitted to its columns; none where they are replaced whole.
    pub fields: Option<Arc<Rules>>,
    /// Whether clients can ask for its rows as records.
    pub records: bool,
}

/// The parts of a query of two columns, `key` and `row`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsSql {
    /// For a table.
    Table {
        /// The expression for a row's canonical key.
        key: String,
        /// The expression for the whole row's JSON.
        row: String,
        /// Each column's part of the JSON of some columns, in the backend's own form.
        columns: Vec<String>,
        /// The table under the alias `t`.
        from: String,
    },
    /// The whole query, for an entity without a table.
    Query(String),
}

impl Entity {
    /// Whether values of its rows that lost a conflict are kept.
    pub(crate) fn keeps_both(&self) -> bool {
        self.fields.as_ref().is_some_and(|rules| rules.keeps_both())
    }

    /// The operator that compares this column of the key.
    #[cfg(feature = "postgres")]
    pub(crate) fn equality(&self, column: usize) -> &str {
        let key = self.schema.key.iter().position(|key| *key == column);
        let operator = key.and_then(|key| self.key_operators.get(key));
        operator.map_or("OPERATOR(pg_catalog.=)", String::as_str)
    }

    /// The cast of a column of the key for that: PostgreSQL has no operators for a domain over an enum.
    #[cfg(feature = "postgres")]
    pub(crate) fn key_cast(&self, column: usize) -> String {
        match &self.schema.columns[column].kind {
            ColumnKind::Enum(_) => format!("::{}", self.base_types[column]),
            _ => String::new(),
        }
    }

    /// The table as shapes see it; `None` for an entity that has no table or is missing.
    pub fn current_table(&self, backend: Backend) -> Option<CurrentTable> {
        self.relation.as_ref()?;
        Some(CurrentTable {
            schema: self.schema.clone(),
            fingerprint: self.fingerprint.as_str().into(),
            backend,
            fields: self.fields.clone(),
            has_records: self.records,
        })
    }

    /// Whether a shape was resolved for the table as it is now.
    pub fn fits(&self, shape: &Shape) -> bool {
        shape
            .selection()
            .is_none_or(|selection| selection.fingerprint() == self.fingerprint)
    }

    /// A stand-in for an entity whose table is missing.
    fn missing(name: &str) -> Self {
        Self {
            schema: Arc::new(Schema {
                entity: name.to_owned(),
                columns: Vec::new(),
                key: Vec::new(),
            }),
            fingerprint: String::new(),
            relation: None,
            column_types: Vec::new(),
            key_operators: Vec::new(),
            row_by_key: String::new(),
            row_of_key: String::new(),
            base_types: Vec::new(),
            rows: RowsSql::Query(String::new()),
            capture: Vec::new(),
            fields: None,
            records: false,
        }
    }

    /// Whether its table is missing. The log's entries for single rows cannot be read then.
    pub fn is_missing(&self) -> bool {
        self.row_by_key.is_empty()
    }
}

/// The entities that can be read now. An entity whose table is missing is configured, but not among them.
#[derive(Debug)]
pub struct Entities {
    configured: Vec<String>,
    current: RwLock<Current>,
    replacing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Current {
    all: Arc<BTreeMap<String, Arc<Entity>>>,
    with_missing: Arc<BTreeMap<String, Arc<Entity>>>,
    /// Each entity as it was when it could last be read.
    last: BTreeMap<String, Arc<Entity>>,
}

impl Entities {
    /// Configured entities, none of which can be read yet.
    pub fn new(configured: Vec<String>) -> Self {
        let entities = Self {
            configured,
            current: RwLock::default(),
            replacing: Mutex::default(),
        };
        entities.set(BTreeMap::new());
        entities
    }

    /// The names of all configured entities.
    pub fn configured(&self) -> BTreeSet<String> {
        self.configured.iter().cloned().collect()
    }

    /// All entities that can be read now.
    pub fn all(&self) -> Arc<BTreeMap<String, Arc<Entity>>> {
        self.current
            .read()
            .expect("no holder of this lock panics")
            .all
            .clone()
    }

    /// The same with those that are missing: entries for a whole entity must reach its clients even while
    /// its table appears or disappears.
    pub fn with_missing(&self) -> Arc<BTreeMap<String, Arc<Entity>>> {
        self.current
            .read()
            .expect("no holder of this lock panics")
            .with_missing
            .clone()
    }

    /// An entity that can be read now.
    pub fn find(&self, name: &str) -> Option<Arc<Entity>> {
        self.all().get(name).cloned()
    }

    /// An entity as it was when it could last be read.
    pub fn last_known(&self, name: &str) -> Option<Arc<Entity>> {
        let current = self.current.read().expect("no holder of this lock panics");
        current.last.get(name).cloned()
    }

    /// Replaces one entity; none when its table is missing.
    pub fn replace_one(&self, name: &str, entity: Option<Arc<Entity>>) {
        let _one_at_a_time = self
            .replacing
            .lock()
            .expect("no holder of this lock panics");
        let mut entities = (*self.all()).clone();
        match entity {
            Some(entity) => entities.insert(name.to_owned(), entity),
            None => entities.remove(name),
        };
        self.replace(entities);
    }

    /// Replaces all entities. When nothing differs the allocation stays the same, so that statements
    /// prepared for it stay valid.
    fn replace(&self, entities: BTreeMap<String, Arc<Entity>>) {
        if *self.all() != entities {
            self.set(entities);
        }
    }

    fn set(&self, entities: BTreeMap<String, Arc<Entity>>) {
        let missing = self
            .configured
            .iter()
            .map(|name| (name.clone(), Arc::new(Entity::missing(name))));
        let mut with_missing: BTreeMap<String, Arc<Entity>> = missing.collect();
        with_missing.extend(entities.clone());
        let mut current = self.current.write().expect("no holder of this lock panics");
        current.last.extend(entities.clone());
        current.all = Arc::new(entities);
        current.with_missing = Arc::new(with_missing);
    }
}
