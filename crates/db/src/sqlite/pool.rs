//! The pool of connections to SQLite.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use diesel_async::SimpleAsyncConnection as _;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use futures_util::FutureExt as _;
use sync_core::cursor::Cursor;

use super::changes::{self, Changes};
use super::connect::{SqliteConn, establish};
use super::file::FileId;
use super::mutation::Waiting;
use super::read::Rows;
use super::statement::KeptStatements;
use super::{capture, install, read, store};
use crate::catalog::{DescribeError, Described};
use crate::config::DatabaseConfig;
use crate::entity::{Entity, EntityConfig};
use crate::error::{DbError, DbResult};
use crate::health::Health;
use crate::lanes::Lanes;
use crate::migrations;
use crate::read::{
    ChangeStream, ChangesQuery, DrainSnapshots, Part, ReadStream, RowStream, RowsQuery,
};

/// A pool of connections to SQLite. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct SqlitePool {
    /// The mutations that wait.
    pub(super) waiting: Arc<Lanes<Waiting>>,
    pub(super) kept_statements: Arc<KeptStatements>,
    /// The turn of the engine's one writer: what waits shares a transaction, or one mutation is open between its writes.
    pub(super) writer_turn: Arc<tokio::sync::Mutex<()>>,
    /// The file; `None` for a database in memory.
    path: Option<Arc<str>>,
    config: DatabaseConfig,
    health: Arc<Health>,
    generation: u32,
    opened: Arc<Mutex<Opened>>,
}

/// The connections to one file.
struct Opened {
    pool: Pool<SqliteConn>,
    /// The file, while there is one.
    file: Option<FileId>,
    /// How many files before this one were at the path.
    replaced: u64,
}

impl std::fmt::Debug for SqlitePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlitePool")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SqlitePool {
    /// A connection for the application's own queries.
    ///
    /// # Errors
    /// When none becomes free, or none can be opened, within the connect time-out.
    pub async fn get(&self) -> Result<PooledConnection<'static, SqliteConn>, DbError> {
        let pool = self.current()?.pool.clone();
        Ok(pool.get_owned().await?)
    }

    /// How many times the file has been replaced by another one.
    ///
    /// # Errors
    /// When there is no file at the moment.
    pub(crate) fn replaced(&self) -> DbResult<u64> {
        Ok(self.current()?.replaced)
    }

    /// The connections to the file that is at the path now. What is written to one that was there before is
    /// lost.
    fn current(&self) -> DbResult<MutexGuard<'_, Opened>> {
        let mut opened = self.opened.lock().expect("no panic holds this lock");
        let Some(path) = &self.path else {
            return Ok(opened);
        };
        let Some(file) = FileId::of(path) else {
            // Connecting would make an empty file.
            return Err(DbError::Unreachable(format!(
                "the SQLite file {path:?} is gone"
            )));
        };
        if opened.file.is_some_and(|known| known != file) {
            tracing::warn!(%path, "another SQLite file has taken this one's place; it is opened");
            opened.pool = pool(Some(path.clone()), &self.config);
            opened.replaced += 1;
        }
        opened.file = Some(file);
        Ok(opened)
    }

    /// Runs the application's own statements, which must return no rows, one after the other.
    ///
    /// # Errors
    /// When no connection becomes free, or a statement fails.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), DbError> {
        let mut conn = self.get().await?;
        let executed = conn.batch_execute(sql).await;
        executed.map_err(|error| DbError::while_doing("running statements", error))
    }

    /// Installs or updates an entity's capture for its table as it is now.
    pub(crate) async fn install(
        &self,
        config: &EntityConfig,
    ) -> DbResult<Result<Option<Described>, DescribeError>> {
        install::install(&mut *self.get().await?, config, self.generation).await
    }

    /// The pool of an engine whose generated code is newer by this many generations.
    pub(crate) fn newer_by(mut self, generations: u32) -> Self {
        self.generation += generations;
        self
    }

    /// Removes the captures of these entities, or of all.
    pub(crate) async fn uninstall(&self, only: Option<&[String]>) -> DbResult<Vec<String>> {
        install::uninstall(&mut *self.get().await?, only).await
    }

    /// Creates the pool for a file or, without a path, a database in memory. Opens the file once, so that a
    /// wrong path is reported immediately.
    pub(crate) async fn open(path: Option<String>, config: &DatabaseConfig) -> DbResult<Self> {
        if let Some(file) = path.clone() {
            let busy = config.connect_timeout();
            let opened = tokio::task::spawn_blocking(move || establish(&file, busy)).await;
            drop(opened.map_err(|error| DbError::Unreachable(error.to_string()))??);
        }
        Ok(Self::new(path.map(Into::into), config))
    }

    /// The same database with another pool size and other time-outs; a clone when nothing differs, or when
    /// the database is in memory.
    pub(crate) fn configured(&self, config: &DatabaseConfig) -> Self {
        match &self.path {
            Some(path) if self.config != *config => Self::new(Some(path.clone()), config),
            _ => self.clone(),
        }
    }

    /// The file; `None` for a database in memory.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The number of connections.
    pub(super) fn size(&self) -> usize {
        match &self.path {
            Some(_) => self.config.pool_size.max(2) as usize,
            None => 1,
        }
    }

    /// What cannot be read at the moment.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Which of these rows, which could not be read, can be now.
    pub(crate) async fn readable_rows(
        &self,
        entity: &Entity,
        keys: &[String],
    ) -> DbResult<Vec<String>> {
        read::readable_rows(&mut *self.get().await?, entity, keys).await
    }

    pub(crate) async fn migrate(&self) -> DbResult<()> {
        let mut conn = self.get().await?;
        conn.spawn_blocking(|conn| Ok(migrations::run_sqlite(conn)))
            .await
            .map_err(|error| DbError::while_doing("running the migrations", error))?
    }

    pub(crate) async fn head(&self) -> DbResult<Cursor> {
        store::head(&mut *self.get().await?).await
    }

    /// Starts a read of the log's new entries.
    pub(crate) fn read_changes(
        &self,
        entities: Arc<BTreeMap<String, Arc<Entity>>>,
        query: ChangesQuery,
    ) -> ChangeStream {
        let pool = self.clone();
        ReadStream::begin(|out| async move {
            let at_drain = query.at_drain.clone();
            let read = Changes::new(&entities, &pool.health, query, &out)?;
            let made = match at_drain {
                Some(drains) => changes::read_at_drain(read, &drains).await,
                None => Err(read),
            };
            let made = match made {
                Ok(made) => made,
                Err(read) => changes::read_changes(&mut *pool.get().await?, read).await,
            };
            made.inspect_err(|error| read::guard_after(error, &entities, &pool.health))
        })
    }

    /// Starts a drain, whose snapshot is lent to the reads that wait for one.
    pub(super) fn drain(
        &self,
        entities: Arc<BTreeMap<String, Arc<Entity>>>,
        query: ChangesQuery,
        drains: &Arc<DrainSnapshots>,
    ) -> ChangeStream {
        let (pool, drains) = (self.clone(), drains.clone());
        ReadStream::begin(|out| async move {
            let mut conn = pool.get().await?;
            let drain = Changes::new(&entities, &pool.health, query, &out)?.lending_to(&drains);
            let made = changes::read_changes(&mut conn, drain).await;
            made.inspect_err(|error| read::guard_after(error, &entities, &pool.health))
        })
    }

    /// Starts a read of an entity's rows.
    pub(crate) fn read_rows(&self, entity: Arc<Entity>, query: RowsQuery) -> RowStream {
        let pool = self.clone();
        ReadStream::begin(|out| async move {
            let health = &pool.health;
            let read = match Rows::new(&entity, health, &query, &out) {
                Ok(read) => read,
                Err(entity) => {
                    let _ = out.send(Part::Outdated(entity)).await;
                    return Ok(());
                }
            };
            let made = match &query.at_drain {
                Some(drains) => read::read_rows_at_drain(read, drains).await,
                None => Err(read),
            };
            let made = match made {
                Ok(made) => made,
                Err(read) => read::read_rows(&mut *pool.get().await?, read).await,
            };
            made.inspect_err(|error| {
                let entities = BTreeMap::from([(entity.schema.entity.clone(), entity.clone())]);
                read::guard_after(error, &entities, health);
            })
        })
    }

    fn new(path: Option<Arc<str>>, config: &DatabaseConfig) -> Self {
        let opened = Opened {
            pool: pool(path.clone(), config),
            file: path.as_deref().and_then(FileId::of),
            replaced: 0,
        };
        Self {
            waiting: Arc::new(Lanes::new(1)),
            kept_statements: Arc::default(),
            writer_turn: Arc::default(),
            generation: capture::GENERATION,
            path,
            config: config.clone(),
            health: Arc::default(),
            opened: Arc::new(Mutex::new(opened)),
        }
    }
}

fn pool(path: Option<Arc<str>>, config: &DatabaseConfig) -> Pool<SqliteConn> {
    let busy = config.connect_timeout();
    let file: Arc<str> = path.clone().unwrap_or_else(|| ":memory:".into());
    let mut manager = ManagerConfig::default();
    manager.custom_setup = Box::new(move |_| {
        let file = file.clone();
        async move {
            let opened = tokio::task::spawn_blocking(move || establish(&file, busy)).await;
            let bad = |error: &dyn std::fmt::Display| {
                diesel::ConnectionError::BadConnection(error.to_string())
            };
            Ok(SqliteConn::new(
                opened
                    .map_err(|error| bad(&error))?
                    .map_err(|error| bad(&error))?,
            ))
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config("", manager);
    // A database in memory exists in its one connection: there must be no second one, and it must not be
    // closed when it is idle.
    let size = if path.is_some() {
        config.pool_size.max(2)
    } else {
        1
    };
    Pool::builder()
        .max_size(size)
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(config.connect_timeout())
        .build_unchecked(manager)
}
