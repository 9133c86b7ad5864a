//! The description of a table, the same for both backends.

use value::schema::Schema;

use crate::entity::{Entity, RowsSql};
use crate::fields::FieldsError;

/// A table as it is now.
#[derive(Debug)]
pub struct Described {
    /// Its entity.
    pub entity: Entity,
    /// Whether all its triggers are installed and enabled.
    pub captured: bool,
}

impl Described {
    /// A table whose triggers are installed and enabled, or an entity without a table.
    pub(crate) fn captured(entity: Entity) -> Self {
        Self {
            entity,
            captured: true,
        }
    }
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
    /// PostgreSQL lets no statement that writes foreign tables fire the triggers of a capture, so writers would
    /// fail.
    #[error(
        "{table:?} is in one tree of tables with the foreign table {foreign}, and writes to that through a common parent \
         would fail because of the capture; detach one of the two, or sync the foreign server's own table"
    )]
    Foreign {
        /// The table.
        table: String,
        /// The foreign table's quoted name.
        foreign: String,
    },
    /// Its rows are to merge by their fields, and cannot.
    #[error("the fields of {table:?} cannot merge as configured: {error}")]
    Fields {
        /// The table.
        table: String,
        /// Why.
        error: FieldsError,
    },
    /// `uncapture` removed its triggers.
    #[error(
        "the capture of {0:?} was removed by `uncapture`; the next start of a server that has it configured brings it back"
    )]
    Uncaptured(String),
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
        row_by_key: "CASE WHEN id > coalesce(truncated_at, 0) THEN CAST(data AS TEXT) END"
            .to_owned(),
        row_of_key: String::new(),
        base_types: Vec::new(),
        rows: RowsSql::Query(log_rows(name, log)),
        capture: Vec::new(),
        fields: None,
        records: false,
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
