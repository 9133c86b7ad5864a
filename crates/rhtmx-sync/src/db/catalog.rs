//! What both backends say of a table.

use rhtmx_sync_core::schema::{Column, ColumnKind, Schema};

use crate::entity::Entity;

/// A table as it is now.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) entity: Entity,
    /// Whether all its triggers are there.
    pub(crate) captured: bool,
}

/// Why a table cannot be synced. Each names the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DescribeError {
    #[error("{0:?} has no primary key; add one, so that its rows have names")]
    NoPrimaryKey(String),
    #[error("{0:?} is not a table; only tables can be synced")]
    NotATable(String),
}

/// An entity that has no table: its rows are the log's newest `data`.
pub(crate) fn log_entity(name: &str) -> Entity {
    let key = Column {
        name: "key".to_owned(),
        kind: ColumnKind::Text { chars_max: None },
        type_name: "text".to_owned(),
        nullable: false,
        has_default: false,
        generated: false,
    };
    let columns = vec![key];
    Entity {
        schema: std::sync::Arc::new(Schema { entity: name.to_owned(), columns, key: vec![0] }),
        fingerprint: "log".to_owned(),
        relation: None,
        row_by_key: "CAST(data AS TEXT)".to_owned(),
        all_rows: log_rows(name),
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
        entity = super::quote::literal(name),
    )
}
