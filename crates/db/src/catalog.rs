//! The description of a table, the same for both backends.

use value::schema::Schema;

use crate::entity::{Entity, RowsSql};

/// A table as it is now.
#[derive(Debug)]
pub struct Described {
    /// Its entity.
    pub entity: Entity,
    /// Whether all its triggers are installed and enabled.
    pub captured: bool,
    /// The statements of its capture that need not run again unless its key has changed.
    pub settled: Vec<String>,
}

/// Why a table cannot be synced. Each variant names the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// Nothing identifies its rows.
    #[error("{0:?} has no primary key; add one, so that its rows can be identified")]
    NoPrimaryKey(String),
    /// It is a view, a sequence or the like.
    #[error("{0:?} is not a table; only tables can be synced")]
    NotATable(String),
    /// Capturing the log would write to the log without end.
    #[error("{0:?} is one of the engine's own tables")]
    Own(String),
}

/// The prefix of the engine's own tables.
pub(crate) const OWN_PREFIX: &str = "_rhtmx_";

/// An entity without a table, whose rows are the newest `data` in `log`, the name of the log's table.
pub(crate) fn log_entity(name: &str, log: &str) -> Entity {
    Entity {
        // No schema is declared; each row may hold other columns.
        schema: std::sync::Arc::new(Schema {
            entity: name.to_owned(),
            columns: Vec::new(),
            key: Vec::new(),
        }),
        fingerprint: "log".to_owned(),
        relation: None,
        column_types: Vec::new(),
        key_operators: Vec::new(),
        row_by_key: "CAST(data AS TEXT)".to_owned(),
        row_of_key: String::new(),
        base_types: Vec::new(),
        rows: RowsSql::Query(log_rows(name, log)),
        capture: Vec::new(),
    }
}

fn log_rows(name: &str, log: &str) -> String {
    format!(
        "SELECT entity_id AS key, CAST(data AS TEXT) AS row FROM ( \
         SELECT entity_id, action, data, row_number() OVER (PARTITION BY entity_id ORDER BY id DESC) AS rank \
         FROM {log} WHERE entity = {entity} AND id > coalesce( \
         (SELECT max(id) FROM {log} WHERE entity = {entity} AND action = 'truncate'), 0)) newest \
         WHERE rank = 1 AND entity_id IS NOT NULL AND action <> 'delete'",
        entity = crate::quote::literal(name),
    )
}
