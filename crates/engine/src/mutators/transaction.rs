//! The transaction of a mutation, lent to a mutator.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use db::DbError;
use db::entity::Entities;
#[cfg(feature = "postgres")]
use db::open_mutation::PostgresConnection;
#[cfg(feature = "sqlite")]
use db::open_mutation::SqliteConnection;
use db::open_mutation::{OpenConnection, OpenMutation};
use db::write::{TableScope, TableWrite};
use protocol::{Op, Reject, Write};
use serde::Serialize;
use serde_json::value::to_raw_value;
use sync_core::mutation;
use sync_core::policy::{Principal, WriteColumns};
use tokio::sync::{Mutex, MutexGuard};

use super::error::{MutatorError, RejectedWrite};

/// How long the engine waits for what a function has left running, before it gives the transaction up.
const RETURN_PATIENCE: Duration = Duration::from_secs(1);

/// The transaction of the mutation in which a mutator was called, with the server's rights.
///
/// Its writes are checked like a client's, against the columns and their types, but no policy applies to them, and none
/// fills in a column. They become visible to clients when the mutation is committed, as changes of the client's own
/// mutation. One that is rejected is an error; the function may go on after it, and nothing of it is left.
///
/// Beyond the function's end it answers every call with an error. Do not let a task of its own hold it: what that leaves
/// running keeps the transaction open.
pub struct MutatorTx {
    shared: Arc<Shared>,
}

struct Shared {
    principal: Arc<Principal>,
    entities: Arc<Entities>,
    /// None once the function has ended.
    open: Mutex<Option<OpenMutation>>,
    /// Whether the function holds the connection.
    is_lent: AtomicBool,
    /// The first failure of the database in a write, after which the mutation cannot go on.
    failure: std::sync::Mutex<Option<DbError>>,
}

/// The engine's half of what was lent.
pub(crate) struct Lent {
    shared: Arc<Shared>,
}

impl fmt::Debug for MutatorTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutatorTx")
            .field("principal", &self.shared.principal)
            .finish_non_exhaustive()
    }
}

impl Lent {
    /// Lends an open mutation to a function that acts for this principal.
    pub(crate) fn new(
        open: OpenMutation,
        principal: Arc<Principal>,
        entities: Arc<Entities>,
    ) -> (Self, MutatorTx) {
        let shared = Arc::new(Shared {
            principal,
            entities,
            open: Mutex::new(Some(open)),
            is_lent: AtomicBool::new(false),
            failure: std::sync::Mutex::default(),
        });
        let tx = MutatorTx {
            shared: shared.clone(),
        };
        (Self { shared }, tx)
    }

    /// Takes it back, with the failure after which it cannot go on; none where the function has left something running
    /// that does not end.
    pub(crate) async fn take_back(self) -> Option<(OpenMutation, Option<DbError>)> {
        let lock = tokio::time::timeout(RETURN_PATIENCE, self.shared.open.lock());
        let open = lock.await.ok()?.take()?;
        let failure = self.shared.failure.lock();
        let failure = failure.unwrap_or_else(PoisonError::into_inner).take();
        Some((open, failure))
    }
}

impl MutatorTx {
    /// For whom the client acts.
    pub fn principal(&self) -> &Principal {
        &self.shared.principal
    }

    /// Creates a row that does not exist yet. `values` is a JSON object of columns.
    ///
    /// # Errors
    /// [`MutatorError::Rejected`] when the row exists, or a value or a constraint forbids it.
    pub async fn create(
        &self,
        entity: &str,
        values: impl Serialize + Send,
    ) -> Result<(), MutatorError> {
        let write = write(entity, Op::Create, None, Some(to_raw_value(&values)?))?;
        self.write(write).await
    }

    /// Creates a row, or sets these columns of the one that has its key. `values` has the whole key.
    ///
    /// # Errors
    /// As [`MutatorTx::create`], but for a row that exists.
    pub async fn upsert(
        &self,
        entity: &str,
        values: impl Serialize + Send,
    ) -> Result<(), MutatorError> {
        let write = write(entity, Op::Upsert, None, Some(to_raw_value(&values)?))?;
        self.write(write).await
    }

    /// Sets some columns of a row that exists. `key` is a text or a number, or an array for a key of several columns.
    ///
    /// # Errors
    /// [`MutatorError::Rejected`] when there is no such row, or a value or a constraint forbids it.
    pub async fn update(
        &self,
        entity: &str,
        key: impl Serialize + Send,
        values: impl Serialize + Send,
    ) -> Result<(), MutatorError> {
        let key_value = serde_json::to_value(&key)?;
        let write = write(
            entity,
            Op::Update,
            Some(key_value),
            Some(to_raw_value(&values)?),
        )?;
        self.write(write).await
    }

    /// Deletes a row that exists.
    ///
    /// # Errors
    /// [`MutatorError::Rejected`] when there is no such row, or a constraint forbids it.
    pub async fn delete(
        &self,
        entity: &str,
        key: impl Serialize + Send,
    ) -> Result<(), MutatorError> {
        let key_value = serde_json::to_value(&key)?;
        self.write(write(entity, Op::Delete, Some(key_value), None)?)
            .await
    }

    /// The connection within the transaction, for statements of the application's own: also reads, which see what the
    /// mutation has written so far. What they change in synced tables is a change of the client's mutation too. Drop it
    /// before the next call of this value, and do not end the transaction with it.
    ///
    /// # Errors
    /// When the function has ended, or holds the connection already.
    pub async fn connection(&self) -> Result<TxConnection<'_>, MutatorError> {
        let open = self.open().await?;
        self.shared.is_lent.store(true, Ordering::Relaxed);
        Ok(TxConnection {
            open,
            is_lent: &self.shared.is_lent,
        })
    }

    async fn open(&self) -> Result<MutexGuard<'_, Option<OpenMutation>>, MutatorError> {
        // Waiting for what the same function holds would never end.
        if self.shared.is_lent.load(Ordering::Relaxed) {
            let message = "the connection of this mutation is in use: drop it before the next call";
            return Err(MutatorError::Failed(anyhow!(message)));
        }
        let open = self.shared.open.lock().await;
        match *open {
            Some(_) => Ok(open),
            None => Err(MutatorError::Failed(anyhow!(
                "the mutation has ended; a mutator's transaction does not outlive the function"
            ))),
        }
    }

    async fn write(&self, write: Write) -> Result<(), MutatorError> {
        let rejected = |reject: Reject| {
            let entity = Some(write.entity.clone());
            MutatorError::Rejected(Box::new(RejectedWrite { entity, reject }))
        };
        let mut open = self.open().await?;
        let table = self.shared.entities.find(&write.entity);
        let schema = table.as_ref().map(|table| table.schema.clone());
        let checked = mutation::check(&write, schema, WriteColumns::ALL).map_err(rejected)?;
        let table_write = table.and_then(|table| {
            let (scope, others) = (TableScope::default(), Arc::default());
            TableWrite::new(checked, table, scope, others)
        });
        let (Some(open), Some(table_write)) = (&mut *open, table_write) else {
            let message = format!("the entity {:?} has no table to write to", write.entity);
            return Err(MutatorError::Failed(anyhow!(message)));
        };
        match open.write(0, table_write).await {
            Ok(written) => written.map_err(rejected),
            Err(error) => {
                let failure = self.shared.failure.lock();
                let mut failure = failure.unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
                let message = "a write of this mutation failed, and it cannot go on".to_owned();
                Err(MutatorError::Database(DbError::Unreachable(message)))
            }
        }
    }
}

fn write(
    entity: &str,
    op: Op,
    key: Option<serde_json::Value>,
    values: Option<Box<serde_json::value::RawValue>>,
) -> Result<Write, MutatorError> {
    let values = match values {
        Some(values) => serde_json::from_str(values.get())
            .map_err(|_| anyhow!("the values for {entity:?} are no JSON object of columns"))?,
        None => Default::default(),
    };
    Ok(Write {
        entity: entity.to_owned(),
        op,
        key,
        values,
        hlc: None,
        born: None,
        seen: None,
        resolves: BTreeMap::new(),
    })
}

/// The connection within a mutation's transaction. Use the accessor of the database that the application has.
pub struct TxConnection<'a> {
    open: MutexGuard<'a, Option<OpenMutation>>,
    is_lent: &'a AtomicBool,
}

impl fmt::Debug for TxConnection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxConnection").finish_non_exhaustive()
    }
}

impl TxConnection<'_> {
    fn connection(&mut self) -> Result<OpenConnection<'_>, MutatorError> {
        let open = self.open.as_mut();
        let open = open.ok_or_else(|| MutatorError::Failed(anyhow!("the mutation has ended")))?;
        Ok(open.connection())
    }

    /// The connection to PostgreSQL.
    ///
    /// # Errors
    /// When the database is another one.
    #[cfg(feature = "postgres")]
    pub fn postgres(&mut self) -> Result<&mut PostgresConnection, MutatorError> {
        match self.connection()? {
            OpenConnection::Postgres(conn) => Ok(conn),
            #[cfg(feature = "sqlite")]
            OpenConnection::Sqlite(_) => {
                Err(MutatorError::Failed(anyhow!("the database is SQLite")))
            }
        }
    }

    /// The connection to SQLite.
    ///
    /// # Errors
    /// When the database is another one.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&mut self) -> Result<&mut SqliteConnection, MutatorError> {
        match self.connection()? {
            OpenConnection::Sqlite(conn) => Ok(conn),
            #[cfg(feature = "postgres")]
            OpenConnection::Postgres(_) => {
                Err(MutatorError::Failed(anyhow!("the database is PostgreSQL")))
            }
        }
    }
}

impl Drop for TxConnection<'_> {
    fn drop(&mut self) {
        self.is_lent.store(false, Ordering::Relaxed);
    }
}
