//! What the engine syncs: the configured entities with what their tables look like now.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use filter::Backend;
use sync_core::shape::{Shape, TableVersion};
use value::schema::Schema;

/// One synced entity: the name that clients know and the table behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityConfig {
    /// The name on the wire.
    pub name: String,
    /// Where its rows are.
    pub source: EntitySource,
}

/// Where an entity's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntitySource {
    /// In this table: `table` or `schema.table`, spelled as the catalog spells it. Changes come from
    /// its triggers.
    Table(String),
    /// Nowhere but in the log: changes come from [`crate::ChangeTracker::record_change`], and rows
    /// live as long as the log keeps them.
    Log,
}

impl EntityConfig {
    /// An entity whose table has the same name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            source: EntitySource::Table(name.clone()),
            name,
        }
    }

    /// An entity on another table: `table` or `schema.table`.
    pub fn on_table(name: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: EntitySource::Table(table.into()),
        }
    }

    /// An entity without a table.
    pub fn without_table(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: EntitySource::Log,
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

/// An entity as it is now: its schema, and the generated SQL that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Its columns and its key.
    pub schema: Arc<Schema>,
    /// What its table looks like, as one short text; another text means another shape.
    pub fingerprint: String,
    /// The table's quoted name; none for an entity that lives in the log.
    pub relation: Option<String>,
    /// The columns' types as casts spell them; empty on SQLite, which needs none.
    pub column_types: Vec<String>,
    /// A scalar subquery: the row's JSON text, for the key in `ranked.entity_id` around it.
    pub row_by_key: String,
    /// The types beneath domains, as casts spell them; empty on SQLite.
    pub base_types: Vec<String>,
    /// How its rows are read.
    pub rows: RowsSql,
    /// The statements that install its capture, in order; empty for an entity that lives in the log.
    pub capture: Vec<String>,
}

/// The parts of a query of two columns, `key` and `row`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsSql {
    /// Of a table.
    Table {
        /// The expression of a row's canonical key.
        key: String,
        /// The whole row's JSON.
        row: String,
        /// What each column adds to a row of some columns, in the backend's own way.
        columns: Vec<String>,
        /// The table, called `t`.
        from: String,
    },
    /// All in one piece, for an entity that lives in the log.
    Query(String),
}

impl Entity {
    /// The table as shapes see it; none for an entity that lives in the log, or is missing.
    pub fn table_version(&self, backend: Backend) -> Option<TableVersion> {
        self.relation.as_ref()?;
        Some(TableVersion {
            schema: self.schema.clone(),
            version: self.fingerprint.as_str().into(),
            backend,
        })
    }

    /// Whether a shape was made for the entity as it is.
    pub fn fits(&self, shape: &Shape) -> bool {
        shape
            .selection()
            .is_none_or(|part| part.version() == self.fingerprint)
    }

    /// Stands for an entity whose table is missing at the moment.
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
            row_by_key: String::new(),
            base_types: Vec::new(),
            rows: RowsSql::Query(String::new()),
            capture: Vec::new(),
        }
    }

    /// Whether its table is missing, so that the log's entries of single rows mean nothing.
    pub fn is_missing(&self) -> bool {
        self.row_by_key.is_empty()
    }
}

/// The entities that can be read now. An entity whose table is missing at the moment is configured
/// but not in here.
#[derive(Debug)]
pub struct Entities {
    configured: Vec<String>,
    current: RwLock<Current>,
}

#[derive(Debug, Default)]
struct Current {
    all: Arc<BTreeMap<String, Arc<Entity>>>,
    with_missing: Arc<BTreeMap<String, Arc<Entity>>>,
    /// As each was when it could last be read.
    last: BTreeMap<String, Arc<Entity>>,
}

impl Entities {
    /// Entities of these names, none of which can be read yet.
    pub fn new(configured: Vec<String>) -> Self {
        let entities = Self {
            configured,
            current: RwLock::default(),
        };
        entities.set(BTreeMap::new());
        entities
    }

    /// All of them, as they are now.
    pub fn all(&self) -> Arc<BTreeMap<String, Arc<Entity>>> {
        self.current
            .read()
            .expect("no panic holds this lock")
            .all
            .clone()
    }

    /// The same with those that are missing: what the log says of a whole entity must reach its clients
    /// also while its table is coming or going.
    pub fn with_missing(&self) -> Arc<BTreeMap<String, Arc<Entity>>> {
        self.current
            .read()
            .expect("no panic holds this lock")
            .with_missing
            .clone()
    }

    /// One of them.
    pub fn find(&self, name: &str) -> Option<Arc<Entity>> {
        self.all().get(name).cloned()
    }

    /// One of them as it was when it could last be read.
    pub fn last_known(&self, name: &str) -> Option<Arc<Entity>> {
        let current = self.current.read().expect("no panic holds this lock");
        current.last.get(name).cloned()
    }

    /// Replaces all of them. The same value stays the same allocation, so that what was prepared for it
    /// stays prepared.
    pub fn replace(&self, entities: BTreeMap<String, Arc<Entity>>) {
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
        let mut current = self.current.write().expect("no panic holds this lock");
        current.last.extend(entities.clone());
        current.all = Arc::new(entities);
        current.with_missing = Arc::new(with_missing);
    }
}
