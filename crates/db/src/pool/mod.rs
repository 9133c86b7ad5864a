//! The synced database: each operation of both backends is a method that matches on which it is and calls the function of the
//! same name in `postgres` or `sqlite`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use filter::Backend;
use futures_util::FutureExt as _;
use sync_core::cursor::{Cursor, Position};
use sync_core::doctor::Facts;
use sync_core::log::ChangeKind;
use sync_core::mutation::Applied;

use crate::catalog::{DescribeError, Described};
use crate::config::DatabaseConfig;
use crate::entity::{Entity, EntityConfig};
use crate::error::{DbError, DbResult};
use crate::health::Health;
use crate::listener::ListenerContext;
use crate::open_mutation::{self, OpenMutation};
use crate::pooling::Pooling;
#[cfg(feature = "postgres")]
use crate::postgres::{
    listen::PostgresNotifyListener, policy_reader::PolicyReader, pool::PostgresPool,
};
use crate::read::{ChangeStream, ChangesQuery, RowStream, RowsQuery};
use crate::retention::Pruned;
use crate::schema_version::SchemaChange;
#[cfg(feature = "sqlite")]
use crate::sqlite::pool::SqlitePool;
use crate::url::DatabaseUrl;
use crate::write::{self, Began, ClientState, Mutation};

/// The longest message between servers, in bytes: PostgreSQL's notifications are shorter than 8,000.
pub const MESSAGE_BYTES_MAX: usize = 7900;

/// The synced database. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DbPool {
    /// PostgreSQL 14 or later.
    #[cfg(feature = "postgres")]
    Postgres(PostgresPool),
    /// SQLite, linked into the program.
    #[cfg(feature = "sqlite")]
    Sqlite(SqlitePool),
}

/// Runs one body with the pool and the module of whichever backend it is.
macro_rules! on_backend {
    ($db:expr, |$pool:ident, $backend:ident| $body:expr) => {
        match $db {
            #[cfg(feature = "postgres")]
            DbPool::Postgres($pool) => {
                #[allow(unused_imports, reason = "not every body names its backend")]
                use crate::postgres as $backend;
                $body
            }
            #[cfg(feature = "sqlite")]
            DbPool::Sqlite($pool) => {
                #[allow(unused_imports, reason = "not every body names its backend")]
                use crate::sqlite as $backend;
                $body
            }
        }
    };
}

mod merging;

impl DbPool {
    /// Connects to `postgresql://…`, `postgres://…`, `sqlite://path` or `sqlite::memory:`.
    ///
    /// A server that is down is not an error: the pool connects when it comes up, and until then the engine
    /// is not ready.
    ///
    /// # Errors
    /// When the address is none of these, the server refuses the user, the password or the database, or the
    /// SQLite file cannot be opened.
    pub async fn from_url(url: &str) -> Result<Self, DbError> {
        Self::with_config(url, &DatabaseConfig::default()).await
    }

    /// Connects to PostgreSQL.
    ///
    /// # Errors
    /// As [`DbPool::from_url`].
    #[cfg(feature = "postgres")]
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
    #[cfg(feature = "sqlite")]
    pub async fn new_sqlite(path: &str) -> Result<Self, DbError> {
        Self::from_url(&format!("sqlite://{path}")).await
    }

    /// Connects as [`DbPool::from_url`] does, with the pool size and time-outs of `config`.
    ///
    /// # Errors
    /// As [`DbPool::from_url`].
    pub async fn with_config(url: &str, config: &DatabaseConfig) -> Result<Self, DbError> {
        match DatabaseUrl::parse(url)? {
            #[cfg(feature = "postgres")]
            DatabaseUrl::Postgres(url) => PostgresPool::open(url, config).await.map(Self::Postgres),
            #[cfg(feature = "sqlite")]
            DatabaseUrl::SqliteFile(path) => {
                SqlitePool::open(Some(path), config).await.map(Self::Sqlite)
            }
            #[cfg(feature = "sqlite")]
            DatabaseUrl::SqliteMemory => SqlitePool::open(None, config).await.map(Self::Sqlite),
            #[cfg(not(all(feature = "postgres", feature = "sqlite")))]
            other => Err(DbError::Unsupported(format!(
                "this program was built without {}; build it with the cargo feature of that name",
                other.feature()
            ))),
        }
    }

    /// The same database with another pool size and other time-outs; a clone when nothing differs.
    ///
    /// # Errors
    /// When `listen_url` or the pool's own address cannot be parsed.
    pub fn configured(&self, config: &DatabaseConfig) -> DbResult<Self> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.configured(config).map(Self::Postgres),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => Ok(Self::Sqlite(pool.configured(config))),
        }
    }

    /// The name of the backend, for display.
    pub fn backend(&self) -> &'static str {
        match self.filter_backend() {
            Backend::Postgres => "postgresql",
            Backend::Sqlite => "sqlite",
        }
    }

    /// The backend, as filters name it.
    pub fn filter_backend(&self) -> Backend {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Backend::Postgres,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Who has the database sessions behind the pool's connections; `None` on SQLite, which has none. It is found out at
    /// the first call.
    ///
    /// # Errors
    /// When the database is out of reach.
    pub async fn pooling(&self) -> DbResult<Option<Pooling>> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.pooling().await.map(Some),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(None),
        }
    }

    /// What the database says of itself, of the engine's role, and of the tables of these entities; `None` on SQLite, which
    /// needs no setting up. It changes nothing.
    ///
    /// # Errors
    /// When the database is out of reach, or refuses the connection.
    pub async fn facts(
        &self,
        config: &DatabaseConfig,
        entities: &[EntityConfig],
    ) -> DbResult<Option<Facts>> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.facts(config, entities).await.map(Some),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                let _ = (config, entities);
                Ok(None)
            }
        }
    }

    /// Creates or updates the engine's own tables.
    ///
    /// # Errors
    /// When the database is out of reach, too old, or the migrations fail.
    pub async fn migrate(&self, config: &DatabaseConfig) -> Result<(), DbError> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.migrate(config).await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => {
                let _ = config;
                pool.migrate().await
            }
        }
    }

    /// A connection that reads the policies of tables and asks them; `None` on SQLite, which has no policies.
    ///
    /// # Errors
    /// When the database is out of reach, or the engine's own tables have not been made.
    #[cfg(feature = "postgres")]
    pub async fn policy_reader(&self) -> DbResult<Option<PolicyReader>> {
        match self {
            Self::Postgres(pool) => PolicyReader::open(pool).await.map(Some),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(None),
        }
    }

    /// The listener of this database, which publishes new entries of the log until the context shuts it down.
    ///
    /// # Errors
    /// When `listen_url` cannot be parsed, or the SQLite file cannot be watched.
    pub fn listen(
        &self,
        config: &DatabaseConfig,
        context: ListenerContext,
    ) -> DbResult<Pin<Box<dyn Future<Output = ()> + Send>>> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                let health = pool.health().clone();
                let listener = PostgresNotifyListener::new(pool.direct(config)?, health, context);
                Ok(listener.run().boxed())
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => {
                let _ = config;
                Ok(
                    crate::sqlite::listen::SqliteListener::new(pool.clone(), context)?
                        .run()
                        .boxed(),
                )
            }
        }
    }

    /// The database's epoch and position at this moment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn head(&self) -> DbResult<Cursor> {
        on_backend!(self, |pool, backend| pool.head().await)
    }

    /// Installs or updates an entity's capture for its table as it is now; `None` while the table is missing.
    ///
    /// # Errors
    /// When the database fails. The inner error says why the table cannot be synced.
    pub async fn install(
        &self,
        config: &EntityConfig,
    ) -> DbResult<Result<Option<Described>, DescribeError>> {
        let installed = on_backend!(self, |pool, backend| pool.install(config).await)?;
        Ok(installed.map(|found| {
            found.map(|mut described| {
                described.entity.records = config.records;
                described
            })
        }))
    }

    /// The same database as an engine of a later version uses it, whose generated code is newer by this many
    /// generations. For tests of two versions beside each other.
    #[doc(hidden)]
    #[must_use]
    pub fn newer_by(self, generations: u32) -> Self {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => Self::Postgres(pool.newer_by(generations)),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => Self::Sqlite(pool.newer_by(generations)),
        }
    }

    /// Removes the captures of these entities, or of all, and returns the names of those that had one. No engine
    /// installs them again until one [wants](DbPool::want) them. Waits until nobody uses a table, and lets
    /// nobody wait for that.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn uninstall(&self, only: Option<&[String]>) -> DbResult<Vec<String>> {
        on_backend!(self, |pool, backend| pool.uninstall(only).await)
    }

    /// Allows these entities to be captured again after [`DbPool::uninstall`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn want(&self, entities: &[String]) -> DbResult<()> {
        on_backend!(self, |pool, backend| {
            backend::install::want(&mut *pool.get().await?, entities).await
        })
    }

    /// The entities that have a capture, also those that only other engines sync.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn captured(&self) -> DbResult<Vec<String>> {
        on_backend!(self, |pool, backend| {
            backend::install::captured(&mut *pool.get().await?).await
        })
    }

    /// What cannot be read at the moment.
    pub fn health(&self) -> &Health {
        on_backend!(self, |pool, backend| pool.health())
    }

    /// Which of these rows of an entity, which could not be read, can be now, or are gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn readable_rows(&self, entity: &Entity, keys: &[String]) -> DbResult<Vec<String>> {
        on_backend!(self, |pool, backend| pool.readable_rows(entity, keys).await)
    }

    /// Starts a read of the log's new entries.
    pub fn read_changes(
        &self,
        entities: Arc<BTreeMap<String, Arc<Entity>>>,
        query: ChangesQuery,
    ) -> ChangeStream {
        on_backend!(self, |pool, backend| pool.read_changes(entities, query))
    }

    /// Starts a read of an entity's rows.
    pub fn read_rows(&self, entity: Arc<Entity>, query: RowsQuery) -> RowStream {
        on_backend!(self, |pool, backend| pool.read_rows(entity, query))
    }

    /// Applies a mutation exactly once.
    ///
    /// # Errors
    /// When the database fails; whether the mutation was applied is then unknown.
    pub async fn apply(&self, mutation: Mutation) -> DbResult<Applied> {
        let replaced = self.replaced()?;
        let applied = on_backend!(self, |pool, backend| pool.apply(mutation).await)?;
        if self.replaced()? != replaced {
            return Err(write::replaced_meanwhile());
        }
        Ok(applied)
    }

    /// The settings, by name, that are empty in every transaction of a mutation that does not make them: those that row
    /// level security reads.
    pub fn empty_settings(&self, names: &BTreeSet<String>) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.empty_settings(names),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                let _ = names;
            }
        }
    }

    /// Begins a mutation that may take this long, without its `writes`. It waits until few enough others are open.
    ///
    /// # Errors
    /// When the database fails, or the client id belongs to another user.
    pub async fn begin(
        &self,
        mutation: &Arc<Mutation>,
        patience: Duration,
    ) -> DbResult<Began<OpenMutation>> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                let begun = pool.begin(mutation, patience).await?;
                Ok(begun.map(|begun| OpenMutation(open_mutation::Backend::Postgres(begun.into()))))
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => {
                let begun = pool.begin(mutation, patience).await?;
                Ok(begun.map(|begun| OpenMutation(open_mutation::Backend::Sqlite(begun.into()))))
            }
        }
    }

    /// How many times another database has taken this one's place.
    fn replaced(&self) -> DbResult<u64> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(0),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => pool.replaced(),
        }
    }

    /// What is known of a client; the default when nothing is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn client_state(&self, client_id: &str) -> DbResult<ClientState> {
        on_backend!(self, |pool, backend| pool.client_state(client_id).await)
    }

    /// Writes an entry to the log for an entity without a table.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record(
        &self,
        entity: &str,
        key: Option<&str>,
        kind: ChangeKind,
        data: Option<&str>,
    ) -> DbResult<Position> {
        on_backend!(self, |pool, backend| {
            backend::store::record(&mut *pool.get().await?, entity, key, kind, data).await
        })
    }

    /// Sends a message of at most [`MESSAGE_BYTES_MAX`] to the servers on this database, this one among them
    /// ([`feed::LogSubscriber::message`]). It may be lost: a server that has no listening connection at this moment, or
    /// that polls the log, does not receive it, and on SQLite none does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn send_message(&self, message: &str) -> DbResult<()> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                crate::postgres::store::send_message(&mut *pool.get().await?, message).await
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                let _ = message;
                Ok(())
            }
        }
    }

    /// Runs a transaction that writes nothing, so that the next read of the log ends at another position than the last,
    /// though nothing has been written. On SQLite positions are made by writes alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn advance(&self) -> DbResult<()> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => crate::postgres::store::advance(&mut *pool.get().await?).await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// A text that changes when one of these tables or its capture changes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn catalog_version(
        &self,
        entities: &BTreeMap<String, Arc<Entity>>,
    ) -> DbResult<String> {
        on_backend!(self, |pool, backend| {
            backend::store::catalog_version(&mut *pool.get().await?, entities).await
        })
    }

    /// Stores the current position as a checkpoint, to which retention may move the floor later.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn make_checkpoint(&self) -> DbResult<()> {
        on_backend!(self, |pool, backend| {
            backend::store::make_checkpoint(&mut *pool.get().await?).await
        })
    }

    /// The log's size in bytes, and its floor.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log_size(&self) -> DbResult<(u64, String)> {
        on_backend!(self, |pool, backend| {
            backend::store::log_size(&mut *pool.get().await?).await
        })
    }

    /// Deletes a batch of the log's entries that are older than `age`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_older_than(&self, age: Duration) -> DbResult<Pruned> {
        on_backend!(self, |pool, backend| {
            backend::store::prune_older_than(&mut *pool.get().await?, age).await
        })
    }

    /// Deletes a batch of the log's oldest entries, when the log has grown too large.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_oldest(&self) -> DbResult<Pruned> {
        on_backend!(self, |pool, backend| {
            backend::store::prune_oldest(&mut *pool.get().await?).await
        })
    }

    /// The version of the application's own tables; 0 where none was noted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schema_version(&self) -> DbResult<u32> {
        let version = on_backend!(self, |pool, backend| {
            backend::schema_version::version(pool).await
        })?;
        Ok(u32::try_from(version).unwrap_or_default())
    }

    /// Begins a change of the application's own tables. Another one, also of another process, is waited for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_schema_change(&self) -> DbResult<SchemaChange> {
        on_backend!(self, |pool, backend| {
            Ok(SchemaChange(pool.begin_schema_change().await?.into()))
        })
    }
}
