//! What both backends say of a table.

use value::schema::Schema;

use crate::entity::{Entity, RowsSql};

/// A table as it is now.
#[derive(Debug)]
pub struct Described {
    /// Its entity.
    pub entity: Entity,
    /// Whether all its triggers are there.
    pub captured: bool,
    /// The statements of its capture that need not run again while its key is what it was.
    pub settled: Vec<String>,
}

/// Why a table cannot be synced. Each names the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// Its rows have no names.
    #[error("{0:?} has no primary key; add one, so that its rows have names")]
    NoPrimaryKey(String),
    /// It is a view, a sequence or the like.
    #[error("{0:?} is not a table; only tables can be synced")]
    NotATable(String),
    /// Capturing it would never end.
    #[error("{0:?} is a table of the engine itself")]
    Own(String),
}

/// How the names of the engine's own tables begin. Capturing the log would never end.
pub(crate) const OWN_PREFIX: &str = "_rhtmx_";

/// An entity that has no table: its rows are the log's newest `data`.
pub(crate) fn log_entity(name: &str) -> Entity {
    Entity {
        // Nobody has said what its rows hold, and each may hold something else.
        schema: std::sync::Arc::new(Schema {
            entity: name.to_owned(),
            columns: Vec::new(),
            key: Vec::new(),
        }),
        fingerprint: "log".to_owned(),
        relation: None,
        column_types: Vec::new(),
        row_by_key: "CAST(data AS TEXT)".to_owned(),
        base_types: Vec::new(),
        rows: RowsSql::Query(log_rows(name)),
        capture: Vec::new(),
    }
}

fn log_rows(name: &str) -> String {
    format!(
        "SELECT entity_id AS key, CAST(data AS TEXT) AS row FROM ( \
         SELECT entity_id, action, data, row_number() OVER (PARTITION BY entity_id ORDER BY id DESC) AS rank \
         FROM _rhtmx_sync_log WHERE entity = {entity} AND id > coalesce( \
         (SELECT max(id) FROM _rhtmx_sync_log WHERE entity = {entity} AND action = 'truncate'), 0)) newest \
         WHERE rank = 1 AND entity_id IS NOT NULL AND action <> 'delete'",
        entity = crate::quote::literal(name),
    )
}
