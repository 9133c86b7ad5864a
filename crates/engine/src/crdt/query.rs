//! Queries of rows: deleted ones are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use db::entity::Entity;
use db::read::{ReadError, RowsPage, RowsQuery};
pub use protocol::Direction;
use protocol::{RowImage, SelectionRequest};
use serde::de::DeserializeOwned;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};
use sync_core::key;
use sync_core::policy::ReadScope;
use sync_core::shape::{Others, Selection, Shape};

use super::limits::{RESULT_BYTES_MAX, RESULT_ROWS_MAX};
use super::{Crdt, CrdtError};
use crate::schema_watch;

/// Attempts to read a table that changes meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// Which rows of an entity are asked for, and in which order.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub(super) entity: String,
    pub(super) filter: Option<String>,
    pub(super) params: Vec<Value>,
    columns: Option<Vec<String>>,
    order: Vec<(String, Direction)>,
    pub(super) limit: Option<u32>,
    pub(super) after_key: Option<String>,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its key as text: the value of the one column, or a JSON array of several.
    pub key: String,
    /// Its columns, as frames have them.
    pub values: Map<String, Value>,
}

impl Row {
    /// The row in the application's own form.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, CrdtError> {
        Ok(serde_json::from_value(Value::Object(self.values.clone()))?)
    }

    fn of(image: &RowImage) -> Result<Self, CrdtError> {
        Ok(Self {
            key: image.key.to_string(),
            values: serde_json::from_str(image.row.get())?,
        })
    }
}

impl Query {
    /// All rows of an entity, in the order of the bytes of their keys.
    pub fn new(entity: impl Into<String>) -> Self {
        Self {
            entity: entity.into(),
            filter: None,
            params: Vec::new(),
            columns: None,
            order: Vec::new(),
            limit: None,
            after_key: None,
        }
    }

    /// Only rows that match a filter, in the language of subscriptions: `"done = $1 AND title LIKE $2"`.
    #[must_use]
    pub fn filter<V: Into<Value>>(
        self,
        filter: impl Into<String>,
        params: impl IntoIterator<Item = V>,
    ) -> Self {
        Self {
            filter: Some(filter.into()),
            params: params.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// Only these columns, and the key.
    #[must_use]
    pub fn columns<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        Self {
            columns: Some(columns.into_iter().map(Into::into).collect()),
            ..self
        }
    }

    /// In the order of this column, behind those named before.
    #[must_use]
    pub fn order_by(mut self, column: impl Into<String>, direction: Direction) -> Self {
        self.order.push((column.into(), direction));
        self
    }

    /// Only the first rows in the order.
    #[must_use]
    pub fn limit(self, rows: u32) -> Self {
        Self {
            limit: Some(rows),
            ..self
        }
    }

    /// Only rows behind this key, in the order of the bytes of their keys: for taking a table in parts.
    #[must_use]
    pub fn after_key(self, key: impl Into<String>) -> Self {
        Self {
            after_key: Some(key.into()),
            ..self
        }
    }

    /// How many rows the result may have, and one more, by which it is seen that there are too many.
    pub(super) fn rows_read(&self) -> usize {
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        limit.min(RESULT_ROWS_MAX + 1)
    }

    fn request(&self) -> Result<SelectionRequest, CrdtError> {
        let is_ordered = !self.order.is_empty();
        if is_ordered && self.after_key.is_some() {
            let text = "behind a key there is no order but that of the keys";
            return Err(CrdtError::Query(text.to_owned()));
        }
        let params: Result<_, _> = self.params.iter().map(to_raw_value).collect();
        Ok(SelectionRequest {
            filter: self.filter.clone(),
            params: self.filter.is_some().then_some(params?),
            columns: self.columns.clone(),
            order: is_ordered.then(|| self.order.clone()),
            limit: is_ordered.then(|| u32::try_from(self.rows_read()).unwrap_or(u32::MAX)),
            ..SelectionRequest::default()
        })
    }
}

/// A query that fits the tables as they are.
pub(super) struct Resolved {
    pub(super) entity: Arc<Entity>,
    pub(super) rows: RowsQuery,
}

impl Resolved {
    /// The entities whose changes may change the result.
    pub(super) fn reads(&self) -> BTreeSet<String> {
        let filter = self.rows.shape.selection().map(Selection::filter);
        let inner = filter
            .map(|filter| filter.inner_tables())
            .unwrap_or_default();
        let inner = inner.into_iter().map(|(entity, _)| entity.to_owned());
        inner.chain([self.entity.schema.entity.clone()]).collect()
    }
}

/// The rows of a result, unless there are too many.
pub(super) fn result_of(images: &[RowImage]) -> Result<Vec<Row>, CrdtError> {
    let bytes: usize = images.iter().map(|image| image.row.get().len()).sum();
    if images.len() > RESULT_ROWS_MAX || bytes > RESULT_BYTES_MAX {
        return Err(CrdtError::ResultTooLarge);
    }
    images.iter().map(Row::of).collect()
}

impl Crdt {
    /// The rows that match, as they are committed now. Deleted ones are not among them.
    ///
    /// # Errors
    /// When the query does not fit the table, the result is too large, or the database fails.
    pub async fn query(&self, query: &Query) -> Result<Vec<Row>, CrdtError> {
        let mut attempt = 1;
        loop {
            let resolved = self.resolve(query)?;
            match self.read(resolved).await {
                Err(CrdtError::NoTable(entity)) if attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    schema_watch::refresh(self.state(), &BTreeSet::from([entity])).await;
                }
                result => return result,
            }
        }
    }

    /// The row of this key; none where there is none, or it is deleted. `key` is a text or a number, or an array for a key
    /// of several columns.
    ///
    /// # Errors
    /// As [`Crdt::query`].
    pub async fn get(&self, entity: &str, key: impl Into<Value>) -> Result<Option<Row>, CrdtError> {
        let query = self.of_key(entity, &key.into())?;
        Ok(self.query(&query).await?.into_iter().next())
    }

    /// The query of one row.
    pub(super) fn of_key(&self, entity: &str, sent: &Value) -> Result<Query, CrdtError> {
        let schema = self.entity(entity)?.schema.clone();
        let not_a_key = || CrdtError::Query(format!("{sent} is no key of {entity:?}"));
        let parts = key::split(sent, schema.key.len()).ok_or_else(not_a_key)?;
        let request = key::selection(&key::canonical(&parts), &schema).ok_or_else(not_a_key)?;
        let params = request.params.unwrap_or_default();
        let params: Result<Vec<Value>, _> = params
            .iter()
            .map(|param| serde_json::from_str(param.get()))
            .collect();
        Ok(Query::new(entity).filter(request.filter.unwrap_or_default(), params?))
    }

    pub(super) fn resolve(&self, query: &Query) -> Result<Resolved, CrdtError> {
        let state = self.state();
        let entity = self.entity(&query.entity)?;
        let table = entity.current_table(state.config.db_pool.filter_backend());
        let table = table.ok_or_else(|| CrdtError::NoTable(query.entity.clone()))?;
        let others = Others {
            catalog: &**state,
            scope_of: &|_| ReadScope::Everything,
        };
        let request = query.request()?;
        let shape = Shape::resolve(&table, &request, &ReadScope::Everything, others);
        let shape = shape.map_err(|error| CrdtError::Query(error.to_string()))?;
        let page = request.limit.is_none().then(|| RowsPage {
            after_key: query.after_key.clone(),
            limit: query.rows_read(),
        });
        let rows = RowsQuery {
            page,
            ..RowsQuery::all(shape, state.entities.all())
        };
        Ok(Resolved { entity, rows })
    }

    async fn read(&self, resolved: Resolved) -> Result<Vec<Row>, CrdtError> {
        let mut read = self.pool().read_rows(resolved.entity, resolved.rows);
        read.start().await?;
        let (mut images, mut bytes) = (Vec::new(), 0);
        loop {
            let next: Result<_, ReadError> = read.next().await;
            let Some(chunk) = next? else {
                break;
            };
            bytes += chunk
                .iter()
                .map(|image| image.row.get().len())
                .sum::<usize>();
            images.extend(chunk);
            if bytes > RESULT_BYTES_MAX {
                return Err(CrdtError::ResultTooLarge);
            }
        }
        result_of(&images)
    }
}
