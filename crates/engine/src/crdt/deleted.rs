//! Rows that are gone and remembered.

use db::tombstones::{Tombstone, TombstonesPage};
use filter::{Filter, NoSets, RowReader, Table};
use merge::{Clock, NodeId};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};
use sync_core::mutation::fields::{record_of, row_of};
use value::schema::Schema;

use super::limits::RESULT_ROWS_MAX;
use super::query::Query;
use super::{Crdt, CrdtError};

/// How many tombstones are read at once.
const PAGE_ROWS: usize = 500;

/// A row that is gone, as long as it is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedRow {
    /// Its key as text.
    pub key: String,
    /// The columns of its key, and those that are kept: all, where an edit may bring the row back
    /// ([`Deletes::Revive`](crate::Deletes)), else none.
    pub values: Map<String, Value>,
    /// When it was deleted.
    pub deleted_at: Clock,
    /// By whom.
    pub node: NodeId,
}

impl Crdt {
    /// The rows that are deleted and still remembered, in the order of the bytes of their keys. A filter finds only those
    /// of which it names columns that are kept. Columns and an order cannot be chosen.
    ///
    /// # Errors
    /// When the rows of the entity do not merge, the query does not fit the table, more than [`RESULT_ROWS_MAX`] match and no
    /// limit is given, or the database fails.
    pub async fn query_deleted(&self, query: Query) -> Result<Vec<DeletedRow>, CrdtError> {
        let resolved = self.resolve(&query)?;
        let schema = resolved.entity.schema.clone();
        let rules = resolved.entity.fields.clone();
        let rules = rules.ok_or_else(|| CrdtError::NotFields(query.entity.clone()))?;
        let filter = Kept::of(self, &query, &schema)?;
        let mut found: Vec<DeletedRow> = Vec::new();
        let mut after_key = query.after_key.clone();
        loop {
            let page = TombstonesPage {
                after_key: after_key.take(),
                limit: PAGE_ROWS,
            };
            let tombstones = self.pool().tombstones(&resolved.entity, page).await?;
            let is_last = tombstones.len() < PAGE_ROWS;
            after_key = tombstones.last().map(|(key, _)| key.clone());
            let deleted = |(key, known): Tombstone| {
                let row = row_of(&schema, &rules, &key, &known)?;
                let record = record_of(&schema, &rules, &key, &known)?;
                let died = row.died()?.clone();
                Some(DeletedRow {
                    key,
                    values: record.columns,
                    node: died.node(),
                    deleted_at: died,
                })
            };
            let deleted = tombstones.into_iter().filter_map(deleted);
            found.extend(deleted.filter(|row| filter.takes(&row.values)));
            if found.len() >= query.rows_read() {
                found.truncate(query.rows_read());
                break;
            }
            if is_last {
                break;
            }
        }
        match found.len() > RESULT_ROWS_MAX {
            true => Err(CrdtError::ResultTooLarge),
            false => Ok(found),
        }
    }
}

/// What a filter says of rows that no table has.
struct Kept {
    filter: Filter,
    reader: RowReader,
}

impl Kept {
    fn of(crdt: &Crdt, query: &Query, schema: &Schema) -> Result<Self, CrdtError> {
        let table = Table::new(schema, crdt.pool().filter_backend());
        let params: Result<Vec<_>, _> = query.params.iter().map(to_raw_value).collect();
        let filter = match &query.filter {
            Some(text) => Filter::new(text, &params?, table)
                .map_err(|error| CrdtError::Query(error.to_string()))?,
            None => Filter::everything(),
        };
        let reader = RowReader::new(table, filter.columns());
        Ok(Self { filter, reader })
    }

    fn takes(&self, values: &Map<String, Value>) -> bool {
        let read = to_raw_value(values).ok();
        let read = read.and_then(|row| self.reader.read(&row).ok());
        self.filter.is_everything()
            || read.is_some_and(|row| self.filter.matches(&row, &NoSets) == Some(true))
    }
}
