//! Tables whose rows merge, for a program with a database of its own: no server, no clients.
//!
//! A program on a desktop keeps a SQLite file, another one PostgreSQL. Both write with [`Crdt`], or with plain SQL, and
//! changesets bring them together. Deleted rows are gone for queries and remembered for merging; a watched query is live;
//! what one transaction writes has one clock; the tables have versions.
//!
//! ```
//! use rhtmx_sync::DbPool;
//! use rhtmx_sync::crdt::{Crdt, CrdtError, Query, Schema};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 2)]
//! # async fn main() -> Result<(), CrdtError> {
//! let schema = Schema::new(1).entity("todos").on_create(async |tx| {
//!     tx.execute("CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT, done BOOLEAN NOT NULL DEFAULT FALSE)").await?;
//!     Ok(())
//! });
//! let crdt = Crdt::open(DbPool::from_url("sqlite::memory:").await?, schema).await?;
//!
//! crdt.insert("todos", json!({"id": "a", "title": "milk", "done": false})).await?;
//! crdt.transaction(|tx| async move {
//!     tx.insert("todos", json!({"id": "b", "title": "bread", "done": false})).await?;
//!     tx.update("todos", "a", json!({"done": true})).await
//! })
//! .await?;
//! let mut open = crdt.watch(Query::new("todos").filter("done = $1", [false]))?;
//! let rows = open.next().await.expect("the first result")?;
//! assert_eq!(rows[0].values["title"], "bread");
//!
//! crdt.delete("todos", "b").await?;
//! assert!(open.next().await.expect("the next result")?.is_empty());
//! let deleted = crdt.query_deleted(Query::new("todos")).await?;
//! assert_eq!(deleted[0].key, "b");
//! crdt.close().await;
//! # Ok(())
//! # }
//! ```

mod batch;
mod deleted;
mod error;
mod limits;
mod query;
mod schema;
mod transaction;
mod watch;
mod write;

use std::sync::{Arc, Mutex, PoisonError};

use db::DbPool;
use db::entity::{Entity, EntitySource};
use merge::{Changeset, ChangesetFilter, Clock, NodeId};
use sync_core::cursor::Cursor;
use tokio::sync::Semaphore;

use crate::changesets::{MergeSummary, Pages, Replica};
use crate::clock::now_ms;
use crate::config::SyncConfig;
use crate::engine::SyncEngine;
use crate::state::EngineState;

pub use deleted::DeletedRow;
pub use error::CrdtError;
pub use limits::{
    RESULT_BYTES_MAX, RESULT_ROWS_MAX, TRANSACTION_TIMEOUT, TRANSACTION_WRITES_MAX, WATCHES_MAX,
};
pub use query::{Direction, Query, Row};
pub use schema::{Schema, SchemaTx};
pub use transaction::CrdtTx;
pub use watch::Watch;
pub use write::RowWrite;

/// A database whose rows merge. Cheap to clone.
///
/// It has all rights: no policy applies to what it reads and writes. What it writes reaches clients of the same database as
/// any other change.
#[derive(Debug, Clone)]
pub struct Crdt {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: SyncEngine,
    node: NodeId,
    /// The newest clock that was issued or met here.
    newest: Mutex<Option<Clock>>,
    watches: Arc<Semaphore>,
    /// Whether the engine was started for this alone.
    owns: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.owns {
            self.engine.state().shutdown.cancel();
        }
    }
}

impl Crdt {
    /// Opens a database: makes the engine's own tables, brings the application's to the schema's version, and captures them.
    /// It listens to what other programs commit until it is [closed](Crdt::close) or its last clone is dropped.
    ///
    /// # Errors
    /// When the database fails, its tables have a newer version, they cannot be brought to this one, or one of them cannot
    /// be captured.
    pub async fn open(db_pool: DbPool, schema: Schema) -> Result<Self, CrdtError> {
        Self::open_with(SyncConfig::new(db_pool, Vec::<String>::new()), schema).await
    }

    /// The same with more of the configuration: connections, retention, what becomes of clocks that are ahead. Its entities
    /// are synced beside those of the schema.
    ///
    /// # Errors
    /// As [`Crdt::open`].
    pub async fn open_with(mut config: SyncConfig, schema: Schema) -> Result<Self, CrdtError> {
        config.db_pool = config.db_pool.configured(&config.database)?;
        schema.apply(&config).await?;
        config.entities.extend(schema.entities());
        let engine = SyncEngine::new(config).await?;
        Self::new(engine, true).await
    }

    /// The database of an engine that runs already, with those of its entities whose rows merge by their fields.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn over(engine: &SyncEngine) -> Result<Self, CrdtError> {
        Self::new(engine.clone(), false).await
    }

    async fn new(engine: SyncEngine, owns: bool) -> Result<Self, CrdtError> {
        let node = match engine.state().config.db_pool.node().await {
            Ok(node) => node,
            Err(error) => {
                if owns {
                    engine.shutdown().await;
                }
                return Err(error.into());
            }
        };
        Ok(Self {
            shared: Arc::new(Shared {
                engine,
                node,
                newest: Mutex::default(),
                watches: Arc::new(Semaphore::new(WATCHES_MAX)),
                owns,
            }),
        })
    }

    /// Ends all watches and, unless the engine is somebody else's, stops listening.
    pub async fn close(&self) {
        self.shared.watches.close();
        if self.shared.owns {
            self.shared.engine.shutdown().await;
        }
    }

    /// The name under which the database stamps.
    pub fn node_id(&self) -> &NodeId {
        &self.shared.node
    }

    /// The version of the application's tables, as [`Schema`] has brought them to; 0 where none ever has.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schema_version(&self) -> Result<u32, CrdtError> {
        Ok(self.pool().schema_version().await?)
    }

    /// The newest clock of the filter's tables and nodes; none where nothing was ever stamped. It says whether there is
    /// something new. Since when to ask for it is what a changeset's cursor says, because of what was merged late.
    ///
    /// # Errors
    /// When there is no such table, or the database fails.
    pub async fn last_modified(
        &self,
        filter: &ChangesetFilter,
    ) -> Result<Option<Clock>, CrdtError> {
        for name in filter.only_tables.iter().flatten() {
            self.entity(name)?;
        }
        let mut newest = None;
        for entity in self.merging() {
            let name = &entity.schema.entity;
            let only = filter.only_tables.as_ref();
            if only.is_none_or(|tables| tables.contains(name)) {
                let (one, another) = (filter.only_node.as_ref(), filter.except_node.as_ref());
                newest = newest.max(self.pool().newest_clock(name, one, another).await?);
            }
        }
        let after = filter.modified_after.as_ref();
        Ok(newest.filter(|newest| after.is_none_or(|after| newest > after)))
    }

    /// The rows of the filter's tables, for another database: see [`Replica::changeset`].
    ///
    /// # Errors
    /// As there.
    pub async fn changeset(
        &self,
        filter: ChangesetFilter,
        since: Option<&Cursor>,
    ) -> Result<Pages, CrdtError> {
        Ok(self.replica().changeset(filter, since).await?)
    }

    /// Merges a page of another database: see [`Replica::merge`].
    ///
    /// # Errors
    /// As there.
    pub async fn merge(&self, page: Changeset) -> Result<MergeSummary, CrdtError> {
        let merged = self.replica().merge(page).await;
        self.state().wake();
        Ok(merged?)
    }

    /// The tables as they are now, as a replica that comes together with others.
    pub fn replica(&self) -> Replica {
        Replica::of(
            self.pool().clone(),
            self.shared.node.clone(),
            self.merging(),
        )
        .with_clock_hours(self.state().config.clock_hours())
    }

    fn state(&self) -> &Arc<EngineState> {
        self.shared.engine.state()
    }

    fn pool(&self) -> &DbPool {
        &self.state().config.db_pool
    }

    /// The entities whose rows merge, in their configured order.
    fn merging(&self) -> Vec<Arc<Entity>> {
        let state = self.state();
        let configured = state.config.entities.iter();
        let found = configured.filter_map(|config| state.entities.find(&config.name));
        found.filter(|entity| entity.fields.is_some()).collect()
    }

    /// An entity that has a table.
    fn entity(&self, name: &str) -> Result<Arc<Entity>, CrdtError> {
        let state = self.state();
        if state.shutdown.is_cancelled() {
            return Err(CrdtError::Closed);
        }
        let mut configured = state.config.entities.iter();
        let config = configured.find(|config| config.name == name);
        let has_table =
            config.is_some_and(|config| matches!(config.source, EntitySource::Table(_)));
        if !has_table {
            return Err(CrdtError::UnknownEntity(name.to_owned()));
        }
        let found = state.entities.find(name);
        found.ok_or_else(|| CrdtError::NoTable(name.to_owned()))
    }

    /// A clock that was not issued before, above this one.
    fn next_clock(&self, above: Option<Clock>) -> Result<Clock, CrdtError> {
        let newest = self.shared.newest.lock();
        let mut newest = newest.unwrap_or_else(PoisonError::into_inner);
        let below = newest.take().max(above);
        let next = Clock::after(below.as_ref(), now_ms(), &self.shared.node);
        *newest = next.clone().ok().or(below);
        next.map_err(|_| CrdtError::NoClock)
    }
}
