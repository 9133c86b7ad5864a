//! Writes without a function around them.

use merge::Clock;
use serde::Serialize;
use serde_json::Value;

use super::limits::TRANSACTION_WRITES_MAX;
use super::{Crdt, CrdtError, CrdtTx, RowWrite};

impl Crdt {
    /// Inserts a row that is not there, or is deleted, and returns its clock. `values` is a JSON object of columns with the
    /// whole key, or what serialises to one.
    ///
    /// # Errors
    /// [`CrdtError::Rejected`] when the row is there, or a value or a constraint forbids it; when the database fails.
    pub async fn insert(
        &self,
        entity: &str,
        values: impl Serialize + Send,
    ) -> Result<Clock, CrdtError> {
        self.batch(vec![RowWrite::insert(entity, values)]).await
    }

    /// Sets some columns of a row that is there, and returns their clock; see [`RowWrite::update`].
    ///
    /// # Errors
    /// [`CrdtError::Rejected`] when there is no such row, or a value or a constraint forbids it; when the database fails.
    pub async fn update(
        &self,
        entity: &str,
        key: impl Into<Value> + Send,
        values: impl Serialize + Send,
    ) -> Result<Clock, CrdtError> {
        self.batch(vec![RowWrite::update(entity, key, values)])
            .await
    }

    /// Inserts a row, or sets these columns of the one that has its key, and returns their clock.
    ///
    /// # Errors
    /// As [`Crdt::insert`], but for a row that is there.
    pub async fn put(
        &self,
        entity: &str,
        values: impl Serialize + Send,
    ) -> Result<Clock, CrdtError> {
        self.batch(vec![RowWrite::put(entity, values)]).await
    }

    /// Deletes a row that is there, and returns the deletion's clock. The row is gone for queries, and remembered.
    ///
    /// # Errors
    /// [`CrdtError::Rejected`] when there is no such row, or a constraint forbids it; when the database fails.
    pub async fn delete(
        &self,
        entity: &str,
        key: impl Into<Value> + Send,
    ) -> Result<Clock, CrdtError> {
        self.batch(vec![RowWrite::delete(entity, key)]).await
    }

    /// Writes all of these, in their order, or none: a [transaction](Crdt::transaction) without a function.
    ///
    /// # Errors
    /// As there.
    pub async fn batch(&self, writes: Vec<RowWrite>) -> Result<Clock, CrdtError> {
        if writes.len() > TRANSACTION_WRITES_MAX {
            return Err(CrdtError::TooManyWrites);
        }
        let writes = &writes;
        let written = self.transaction(move |tx: CrdtTx| async move {
            for write in writes {
                tx.write(write).await?;
            }
            Ok(tx.clock().clone())
        });
        written.await
    }
}
