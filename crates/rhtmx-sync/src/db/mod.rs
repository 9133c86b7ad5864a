//! The databases. Everything that knows SQL or Diesel is in here.
//!
//! [`DbPool`] is the seam: what both backends can do is a method that matches on it and calls the
//! function of the same name in `postgres` or `sqlite`.

pub(crate) mod catalog;
mod error;
pub(crate) mod feed;
mod migrations;
pub(crate) mod postgres;
pub(crate) mod quote;
pub(crate) mod read;
pub(crate) mod retention;
pub(crate) mod sqlite;
mod tables;
mod url;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::SimpleAsyncConnection as _;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use futures_util::FutureExt as _;
use rhtmx_sync_core::cursor::{Epoch, Position};
use rhtmx_sync_core::filter::Backend;
use rhtmx_sync_core::log::Action;

use catalog::{DescribeError, Described};
pub use error::DbError;
use error::DbResult;
use postgres::connect::Connector;
use read::{ChangesQuery, PartStream, RowsQuery};
use retention::Pruned;
use sqlite::connect::SqliteConn;
use url::DatabaseUrl;
use write::{Mutation, Outcome};

use crate::config::DatabaseConfig;
use crate::entity::{Entity, EntityConfig};

/// The oldest PostgreSQL that has what the capture needs (`CREATE OR REPLACE TRIGGER`).
const POSTGRES_VERSION_MIN: i64 = 140_000;

/// The database that is synced. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DbPool {
    /// PostgreSQL 14 or later.
    Postgres(PostgresPool),
    /// SQLite, built in.
    Sqlite(SqlitePool),
}

/// Connections to PostgreSQL.
#[derive(Clone)]
pub struct PostgresPool {
    pool: Pool<AsyncPgConnection>,
    url: Arc<str>,
    config: DatabaseConfig,
}

/// Connections to SQLite.
#[derive(Clone)]
pub struct SqlitePool {
    pool: Pool<SqliteConn>,
    /// The file; none for a database in memory.
    path: Option<Arc<str>>,
    config: DatabaseConfig,
}

impl std::fmt::Debug for PostgresPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresPool")
            .field("url", &url::redact(&self.url))
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SqlitePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlitePool")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl PostgresPool {
    /// A connection for queries of your own.
    ///
    /// # Errors
    /// When none comes free, or none can be opened, within the connect time-out.
    pub async fn get(&self) -> Result<PooledConnection<'_, AsyncPgConnection>, DbError> {
        Ok(self.pool.get().await?)
    }
}

impl SqlitePool {
    /// A connection for queries of your own.
    ///
    /// # Errors
    /// When none comes free, or none can be opened, within the connect time-out.
    pub async fn get(&self) -> Result<PooledConnection<'_, SqliteConn>, DbError> {
        Ok(self.pool.get().await?)
    }
}

/// Runs one body on a pooled connection of either backend.
macro_rules! with_conn {
    ($pool:expr, |$conn:ident, $backend:ident| $body:expr) => {
        match $pool {
            DbPool::Postgres(pool) => {
                #[allow(unused_imports, reason = "not every body names its backend")]
                use postgres as $backend;
                let mut pooled = pool.pool.get().await?;
                let $conn = &mut *pooled;
                $body
            }
            DbPool::Sqlite(pool) => {
                #[allow(unused_imports, reason = "not every body names its backend")]
                use sqlite as $backend;
                let mut pooled = pool.pool.get().await?;
                let $conn = &mut *pooled;
                $body
            }
        }
    };
}

impl DbPool {
    /// Connects to `postgresql://…`, `postgres://…`, `sqlite://path` or `sqlite::memory:`.
    ///
    /// A server that is down is not an error: the pool connects when it comes up, and the engine
    /// says so in its readiness.
    ///
    /// # Errors
    /// When the address is none of these, when the server refuses the user, the password or the
    /// database, or when the SQLite file cannot be opened.
    pub async fn from_url(url: &str) -> Result<Self, DbError> {
        Self::with_config(url, &DatabaseConfig::default()).await
    }

    /// Connects to PostgreSQL.
    ///
    /// # Errors
    /// As [`DbPool::from_url`].
    pub async fn new_postgres(url: &str) -> Result<Self, DbError> {
        match DatabaseUrl::parse(url)? {
            DatabaseUrl::Postgres(_) => Self::from_url(url).await,
            _ => Err(DbError::Url(
                "this is not the address of a PostgreSQL server".to_owned(),
            )),
        }
    }

    /// Opens a SQLite file, or `:memory:`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn new_sqlite(path: &str) -> Result<Self, DbError> {
        Self::from_url(&format!("sqlite://{path}")).await
    }

    /// The same as [`DbPool::from_url`] with pool size and time-outs.
    ///
    /// # Errors
    /// As [`DbPool::from_url`].
    pub async fn with_config(url: &str, config: &DatabaseConfig) -> Result<Self, DbError> {
        match DatabaseUrl::parse(url)? {
            DatabaseUrl::Postgres(url) => {
                let connector = Connector::new(&url, config.connect_timeout())?;
                match connector.connect().await {
                    // Asking once tells a wrong password from a server that is down.
                    Ok(_) => {}
                    Err(error) if error.is_transient() => {
                        tracing::warn!(%error, url = url::redact(&url), "the database is not there yet");
                    }
                    Err(error) => return Err(error),
                }
                let pool = postgres_pool(connector, config);
                Ok(Self::Postgres(PostgresPool {
                    pool,
                    url: url.into(),
                    config: config.clone(),
                }))
            }
            DatabaseUrl::SqliteFile(path) => {
                // Opening it once tells a wrong path at once.
                let (file, busy) = (path.clone(), config.connect_timeout());
                let opened =
                    tokio::task::spawn_blocking(move || sqlite::connect::establish(&file, busy))
                        .await;
                drop(opened.map_err(|error| DbError::Unreachable(error.to_string()))??);
                Ok(Self::Sqlite(sqlite_pool(Some(&path.into()), config)))
            }
            DatabaseUrl::SqliteMemory => Ok(Self::Sqlite(sqlite_pool(None, config))),
        }
    }

    /// The same database with other pool size and time-outs; itself where they are the same.
    pub(crate) fn configured(&self, config: &DatabaseConfig) -> DbResult<Self> {
        match self {
            Self::Postgres(pool) if pool.config != *config => {
                let connector = Connector::new(&pool.url, config.connect_timeout())?;
                let (url, config) = (pool.url.clone(), config.clone());
                Ok(Self::Postgres(PostgresPool {
                    pool: postgres_pool(connector, &config),
                    url,
                    config,
                }))
            }
            Self::Sqlite(SqlitePool {
                path: Some(path),
                config: known,
                ..
            }) if known != config => Ok(Self::Sqlite(sqlite_pool(Some(path), config))),
            same => Ok(same.clone()),
        }
    }

    /// The name of the backend, for people.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgresql",
            Self::Sqlite(_) => "sqlite",
        }
    }

    /// The same as filters see it.
    pub(crate) fn filter_backend(&self) -> Backend {
        match self {
            Self::Postgres(_) => Backend::Postgres,
            Self::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// The SQLite file, where there is one.
    pub(crate) fn sqlite_path(&self) -> Option<&str> {
        match self {
            Self::Sqlite(SqlitePool { path, .. }) => path.as_deref(),
            Self::Postgres(_) => None,
        }
    }

    /// How to reach the server past the pool: at `listen_url`, or at the pool's own address. None for
    /// SQLite.
    pub(crate) fn direct(&self, config: &DatabaseConfig) -> DbResult<Option<Connector>> {
        match self {
            Self::Postgres(pool) => {
                let url = config.listen_url.as_deref().unwrap_or(&pool.url);
                Connector::new(url, config.connect_timeout()).map(Some)
            }
            Self::Sqlite(_) => Ok(None),
        }
    }

    /// Makes the engine's own tables, where they are missing.
    ///
    /// # Errors
    /// When the database is out of reach, too old, or the migrations fail.
    pub async fn migrate(&self, config: &DatabaseConfig) -> Result<(), DbError> {
        match self {
            Self::Postgres(_) => {
                let Some(connector) = self.direct(config)? else {
                    return Ok(());
                };
                let (client, connection) = connector.connect().await?;
                let mut conn =
                    AsyncPgConnection::try_from_client_and_connection(client, connection)
                        .await
                        .map_err(|error| DbError::Unreachable(error.to_string()))?;
                let version = postgres::store::version(&mut conn).await?;
                if version < POSTGRES_VERSION_MIN {
                    let text = format!(
                        "PostgreSQL 14 or later is needed; this is {}",
                        version / 10_000
                    );
                    return Err(DbError::Unsupported(text));
                }
                migrations::run_postgres(conn).await
            }
            Self::Sqlite(pool) => {
                let mut conn = pool.pool.get().await?;
                conn.spawn_blocking(|conn| Ok(migrations::run_sqlite(conn)))
                    .await
                    .map_err(|error| DbError::while_doing("running the migrations", error))?
            }
        }
    }

    pub(crate) async fn history(&self) -> DbResult<(Epoch, Position)> {
        with_conn!(self, |conn, backend| backend::store::history(conn).await)
    }

    /// Makes sure that an entity is captured as its table is now.
    pub(crate) async fn install(
        &self,
        config: &EntityConfig,
    ) -> DbResult<Result<Option<Described>, DescribeError>> {
        with_conn!(self, |conn, backend| backend::store::install(conn, config)
            .await)
    }

    /// Removes the captures of these entities, or of all; the names of those that had one.
    pub(crate) async fn uninstall(&self, only: Option<&[String]>) -> DbResult<Vec<String>> {
        with_conn!(self, |conn, backend| backend::store::uninstall(conn, only)
            .await)
    }

    /// Begins to read what is new in the log since `from`.
    pub(crate) fn read_changes(
        &self,
        entities: Arc<BTreeMap<String, Arc<Entity>>>,
        query: ChangesQuery,
    ) -> PartStream {
        let db = self.clone();
        PartStream::begin(|out| async move {
            with_conn!(&db, |conn, backend| backend::read::read_changes(
                conn, &entities, &query, &out
            )
            .await)
        })
    }

    /// Begins to read rows of an entity.
    pub(crate) fn read_rows(&self, entity: Arc<Entity>, query: RowsQuery) -> PartStream {
        let db = self.clone();
        PartStream::begin(|out| async move {
            with_conn!(&db, |conn, backend| backend::read::read_rows(
                conn, &entity, &query, &out
            )
            .await)
        })
    }

    /// Applies a mutation, once.
    pub(crate) async fn apply(&self, mutation: &Mutation) -> DbResult<Outcome> {
        match self {
            Self::Postgres(pool) => {
                write::postgres::apply(&mut *pool.pool.get().await?, mutation).await
            }
            Self::Sqlite(pool) => {
                write::sqlite::apply(&mut *pool.pool.get().await?, mutation).await
            }
        }
    }

    /// The newest mutation of a device that has been answered.
    pub(crate) async fn last_mutation(&self, device: &str) -> DbResult<u64> {
        match self {
            Self::Postgres(pool) => {
                write::postgres::last_mutation(&mut *pool.pool.get().await?, device).await
            }
            Self::Sqlite(pool) => {
                write::sqlite::last_mutation(&mut *pool.pool.get().await?, device).await
            }
        }
    }

    /// Writes an entry of the log for an entity without a table.
    pub(crate) async fn record(
        &self,
        entity: &str,
        key: Option<&str>,
        action: Action,
        data: Option<&str>,
    ) -> DbResult<Position> {
        with_conn!(self, |conn, backend| backend::store::record(
            conn, entity, key, action, data
        )
        .await)
    }

    /// A text that changes when one of these tables, or what captures it, changes.
    pub(crate) async fn catalog_version(
        &self,
        entities: &BTreeMap<String, Arc<Entity>>,
    ) -> DbResult<String> {
        with_conn!(self, |conn, backend| backend::store::catalog_version(
            conn, entities
        )
        .await)
    }

    pub(crate) async fn make_mark(&self) -> DbResult<()> {
        with_conn!(self, |conn, backend| backend::store::make_mark(conn).await)
    }

    /// The log's size in bytes, and its floor.
    pub(crate) async fn log_size(&self) -> DbResult<(u64, String)> {
        with_conn!(self, |conn, backend| backend::store::log_size(conn).await)
    }

    pub(crate) async fn prune_older_than(&self, age: Duration) -> DbResult<Pruned> {
        with_conn!(self, |conn, backend| backend::store::prune_older_than(
            conn, age
        )
        .await)
    }

    pub(crate) async fn prune_oldest(&self) -> DbResult<Pruned> {
        with_conn!(self, |conn, backend| backend::store::prune_oldest(conn)
            .await)
    }
}

fn postgres_pool(connector: Connector, config: &DatabaseConfig) -> Pool<AsyncPgConnection> {
    let timeout_ms = config.statement_timeout_ms;
    let mut manager = ManagerConfig::default();
    manager.custom_setup = Box::new(move |_| {
        let connector = connector.clone();
        async move {
            let bad = |error: DbError| diesel::ConnectionError::BadConnection(error.to_string());
            let (client, connection) = connector.connect().await.map_err(bad)?;
            let mut conn =
                AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
            conn.batch_execute(&format!("SET statement_timeout = {timeout_ms}"))
                .await
                .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        }
        .boxed()
    });
    // The address is in the connector; this one would only be shown.
    let manager = AsyncDieselConnectionManager::new_with_config("", manager);
    Pool::builder()
        .max_size(config.pool_size.max(2))
        .connection_timeout(config.connect_timeout())
        .build_unchecked(manager)
}

fn sqlite_pool(path: Option<&Arc<str>>, config: &DatabaseConfig) -> SqlitePool {
    let busy = config.connect_timeout();
    let file: Arc<str> = path.cloned().unwrap_or_else(|| ":memory:".into());
    let mut manager = ManagerConfig::default();
    manager.custom_setup = Box::new(move |_| {
        let file = file.clone();
        async move {
            let opened =
                tokio::task::spawn_blocking(move || sqlite::connect::establish(&file, busy)).await;
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
    // A database in memory is its one connection: there must be no second, and it must not be
    // closed for being idle.
    let size = if path.is_some() {
        config.pool_size.max(2)
    } else {
        1
    };
    let pool = Pool::builder()
        .max_size(size)
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(config.connect_timeout())
        .build_unchecked(manager);
    SqlitePool {
        pool,
        path: path.cloned(),
        config: config.clone(),
    }
}
