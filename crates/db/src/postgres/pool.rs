//! The pool of connections to PostgreSQL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::CacheSize;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use futures_util::FutureExt as _;
use sync_core::cursor::Cursor;
use tokio::sync::{OnceCell, Semaphore};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::cancel::{self, CancelGuard, Progress};
use super::changes;
use super::connect::{Connector, failed};
use super::mutation::{self, Writer};
use super::pooling::{self, KnownPooling};
use super::{capture, install, read, store};
use crate::catalog::{DescribeError, Described};
use crate::config::DatabaseConfig;
use crate::entity::{Entity, EntityConfig};
use crate::error::{DbError, DbResult, Failed};
use crate::health::Health;
use crate::migrations::{self, LOCK_MIGRATIONS, MAKE_RECORD};
use crate::pooling::Pooling;
use crate::read::{
    ChangeStream, ChangesQuery, DrainSnapshots, Exported, PartSender, ReadStream, RowStream,
    RowsQuery,
};
use crate::url;

/// How often the table of the migrations' record is tried to be made while others make it.
const RECORD_ATTEMPTS: u32 = 20;
/// The pause between two attempts to drop triggers from a table that somebody uses.
const DROP_PAUSE: Duration = Duration::from_secs(1);
/// The oldest PostgreSQL that has what the capture needs (`CREATE OR REPLACE TRIGGER`).
const POSTGRES_VERSION_MIN: i64 = 140_000;

/// How long a pooled connection may take to show that it still works, before another is used.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The number of mutations that are open between their writes at once, out of a pool of this size. Reads take at most
/// three eighths of it, so some connections stay free for what must not wait.
fn open_mutations(pool_size: u32) -> usize {
    (pool_size as usize / 4).max(1)
}

/// A pool of connections to PostgreSQL. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct PostgresPool {
    pool: Pool<AsyncPgConnection>,
    pub(super) connector: Arc<Connector>,
    url: Arc<str>,
    config: DatabaseConfig,
    log_schema: Arc<OnceCell<String>>,
    pooling: Arc<KnownPooling>,
    health: Arc<Health>,
    pub(super) writer: Arc<Writer>,
    /// The turns of mutations that are open between their writes.
    pub(super) open_turns: Arc<Semaphore>,
    install_attempts: install::Attempts,
    generation: u32,
}

impl std::fmt::Debug for PostgresPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresPool")
            .field("url", &url::redact(&self.url))
            .finish_non_exhaustive()
    }
}

impl PostgresPool {
    /// A connection for the application's own queries. Behind a pooler in transaction mode they work within
    /// transactions only.
    ///
    /// # Errors
    /// When none becomes free, or none can be opened, within the connect time-out.
    pub async fn get(&self) -> Result<PooledConnection<'_, AsyncPgConnection>, DbError> {
        Ok(self.pool.get().await?)
    }

    /// A connection that does not borrow the pool.
    pub(super) async fn get_owned(&self) -> DbResult<PooledConnection<'static, AsyncPgConnection>> {
        Ok(self.pool.get_owned().await?)
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

    /// Connects once, to tell a wrong password from a server that is down.
    pub(crate) async fn open(url: String, config: &DatabaseConfig) -> DbResult<Self> {
        let connector = Connector::new(&url, config.connect_timeout())?;
        match connector.connect().await {
            Ok(_) => {}
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, url = url::redact(&url), "the database is not there yet");
            }
            Err(error) => return Err(error),
        }
        Ok(Self::new(connector, url.into(), config))
    }

    /// The same database with another pool size and other time-outs; a clone when nothing differs.
    pub(crate) fn configured(&self, config: &DatabaseConfig) -> DbResult<Self> {
        if self.config == *config {
            return Ok(self.clone());
        }
        let connector = Connector::new(&self.url, config.connect_timeout())?;
        Ok(Self::new(connector, self.url.clone(), config))
    }

    /// What cannot be read at the moment.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The pool's address, and how to connect to it.
    pub(super) fn address(&self) -> (&str, &Connector) {
        (&self.url, &self.connector)
    }

    /// A connector for connections outside of the pool: to `listen_url`, or else to the pool's own address.
    pub(crate) fn direct(&self, config: &DatabaseConfig) -> DbResult<Connector> {
        let url = config.listen_url.as_deref().unwrap_or(&self.url);
        Connector::new(url, config.connect_timeout())
    }

    pub(crate) async fn migrate(&self, config: &DatabaseConfig) -> DbResult<()> {
        let direct = self.direct(config)?;
        let mut conn = direct.connect_diesel(Duration::ZERO).await?;
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
        let asked = conn.transaction(async |conn| {
            let version = store::version(conn).await?;
            let is_superuser = store::is_superuser(conn).await?;
            Ok((version, is_superuser, store::foreign_messages(conn).await?))
        });
        let (version, is_superuser, language) = asked
            .await
            .map_err(|failed: Failed| failed.while_doing("asking the database about itself"))?;
        if version < POSTGRES_VERSION_MIN {
            let text = format!(
                "PostgreSQL 14 or later is needed; this is {}",
                version / 10_000
            );
            return Err(DbError::Unsupported(text));
        }
        if is_superuser {
            tracing::warn!(
                "the engine's role is a superuser, and the owner of any synced table can run code with its rights; give the \
                 engine a role of its own (see docs/postgresql-setup.md)"
            );
        }
        if let Some(language) = language {
            tracing::warn!(
                language,
                "the server's messages are not in English and the engine's role may not choose their language, so that \
                 locks and deadlocks are taken for lasting errors; run GRANT SET ON PARAMETER lc_messages TO the role, or \
                 set lc_messages = 'C' for the database as a superuser (see docs/postgresql-setup.md)"
            );
        }
        let locked = self.lock_migrations(config).await?;
        let ran = migrations::run_postgres(conn).await;
        drop(locked);
        ran
    }

    /// Locks the migrations until the returned connection is dropped, so that servers that start together all
    /// succeed.
    async fn lock_migrations(&self, config: &DatabaseConfig) -> DbResult<Client> {
        let context = "locking the migrations";
        let (client, connection) = self.direct(config)?.connect().await?;
        tokio::spawn(connection);
        let mut attempts = 0;
        // Servers that make the table at the same time may fail with any of these.
        while let Err(error) = client.batch_execute(MAKE_RECORD).await {
            let collided = [
                SqlState::UNIQUE_VIOLATION,
                SqlState::DUPLICATE_TABLE,
                SqlState::DUPLICATE_OBJECT,
                SqlState::INTERNAL_ERROR,
            ];
            attempts += 1;
            if attempts > RECORD_ATTEMPTS
                || !error.code().is_some_and(|code| collided.contains(code))
            {
                return Err(failed(context, &error));
            }
        }
        match client.batch_execute(LOCK_MIGRATIONS).await {
            // A more privileged role migrates, and this one only looks whether that was done.
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            locked => locked.map_err(|error| failed(context, &error))?,
        }
        Ok(client)
    }

    pub(crate) async fn head(&self) -> DbResult<Cursor> {
        store::head(&mut *self.get().await?).await
    }

    /// Who has the database sessions behind this pool, which is found out once.
    pub(crate) async fn pooling(&self) -> DbResult<Pooling> {
        if let Some(known) = self.pooling.get() {
            return Ok(known);
        }
        let found = pooling::probe(&self.connector).await?;
        self.pooling.set(found);
        Ok(found)
    }

    /// Whether a statement that was prepared outside of a transaction can be used later.
    pub(super) fn keeps_sessions(&self) -> bool {
        self.pooling.get() == Some(Pooling::Session)
    }

    /// Installs or updates an entity's capture for its table as it is now.
    pub(crate) async fn install(
        &self,
        config: &EntityConfig,
    ) -> DbResult<Result<Option<Described>, DescribeError>> {
        let mut conn = self.get().await?;
        install::install(&mut conn, config, self.generation, &self.install_attempts).await
    }

    /// The pool of an engine whose generated code is newer by this many generations.
    pub(crate) fn newer_by(mut self, generations: u32) -> Self {
        self.generation += generations;
        self
    }

    /// Removes the captures of these entities, or of all. Nothing is captured from then on, at once; the triggers
    /// go when their tables are free.
    pub(crate) async fn uninstall(&self, only: Option<&[String]>) -> DbResult<Vec<String>> {
        let names = install::stop_capture(&mut *self.get().await?, only).await?;
        for name in &names {
            let mut failures = 0_u32;
            loop {
                let dropped = install::drop_triggers(&mut *self.get().await?, name, failures).await;
                match dropped {
                    Ok(()) => break,
                    Err(error) if error.is_retryable() => {
                        if failures.is_power_of_two() {
                            tracing::warn!(entity = name, %error, "somebody uses the table; its triggers are dropped later");
                        }
                    }
                    Err(error) => return Err(error),
                }
                failures = failures.saturating_add(1);
                tokio::time::sleep(DROP_PAUSE).await;
            }
        }
        Ok(names)
    }

    /// Starts a read of the log's new entries.
    pub(crate) fn read_changes(
        &self,
        entities: Arc<BTreeMap<String, Arc<Entity>>>,
        query: ChangesQuery,
    ) -> ChangeStream {
        let pool = self.clone();
        ReadStream::begin(|out| async move {
            let mut conn = pool.get().await?;
            let log_schema = pool.log_schema(&mut conn).await?;
            let health = &pool.health;
            // With a connection at hand, so that the drain does not wait for one.
            let exported = match exported(query.at_drain.as_ref(), &out).await {
                Some(exported) => exported,
                None => return Ok(()),
            };
            let guard = CancelGuard::new(&conn, pool.connector.clone());
            let progress = Progress::default();
            let known = (log_schema, &*entities, health);
            let read = changes::read_changes(&mut conn, known, query, exported, &out, &progress);
            let timeout = pool.config.statement_timeout();
            let read = cancel::run(guard, timeout, "reading the log", &out, &progress, read).await;
            read.inspect_err(|error| read::guard_after(error, &entities, health))
        })
    }

    /// Starts a read of an entity's rows.
    pub(crate) fn read_rows(&self, entity: Arc<Entity>, query: RowsQuery) -> RowStream {
        let pool = self.clone();
        ReadStream::begin(|out| async move {
            let mut conn = pool.get().await?;
            let log_schema = pool.log_schema(&mut conn).await?;
            let health = &pool.health;
            let exported = match exported(query.at_drain.as_ref(), &out).await {
                Some(exported) => exported,
                None => return Ok(()),
            };
            let guard = CancelGuard::new(&conn, pool.connector.clone());
            let progress = Progress::default();
            let known = (log_schema, &entity, health);
            let read = read::read_rows(&mut conn, known, &query, exported, &out, &progress);
            let timeout = pool.config.statement_timeout();
            let read = cancel::run(guard, timeout, "reading a table", &out, &progress, read).await;
            read.inspect_err(|error| {
                let entities = BTreeMap::from([(entity.schema.entity.clone(), entity.clone())]);
                read::guard_after(error, &entities, health);
            })
        })
    }

    /// Which of these rows, which could not be read, can be now.
    pub(crate) async fn readable_rows(
        &self,
        entity: &Entity,
        keys: &[String],
    ) -> DbResult<Vec<String>> {
        let mut conn = self.get().await?;
        let log_schema = self.log_schema(&mut conn).await?;
        read::readable_rows(&mut conn, log_schema, entity, keys).await
    }

    /// The schema that contains the log, looked up once.
    async fn log_schema(&self, conn: &mut AsyncPgConnection) -> DbResult<&str> {
        let schema = self.log_schema.get_or_try_init(async || {
            let found = conn.transaction(async |conn| Ok(store::log_schema(conn).await?));
            found
                .await
                .map_err(|failed: Failed| failed.while_doing("looking for the log"))
        });
        schema.await.map(String::as_str)
    }

    /// How long a read may send nothing.
    pub(super) fn statement_timeout(&self) -> Duration {
        self.config.statement_timeout()
    }

    /// The same, for a caller that keeps it.
    pub(super) async fn own_schema(&self) -> DbResult<Arc<str>> {
        if let Some(known) = self.log_schema.get() {
            return Ok(known.as_str().into());
        }
        let mut conn = self.get().await?;
        Ok(self.log_schema(&mut conn).await?.into())
    }

    fn new(connector: Connector, url: Arc<str>, config: &DatabaseConfig) -> Self {
        let statement_timeout = Duration::from_millis(config.statement_timeout_ms);
        let writer = Writer::new(connector.clone(), config.pool_size, statement_timeout);
        let setup = connector.clone();
        let pooling = Arc::<KnownPooling>::default();
        let known_pooling = pooling.clone();
        let mut manager = ManagerConfig::default();
        // A connection that the network has dropped without a word would not answer, either.
        manager.recycling_method =
            RecyclingMethod::CustomFunction(Box::new(|conn: &mut AsyncPgConnection| {
                async move {
                    let answer = tokio::time::timeout(ANSWER_WITHIN, conn.batch_execute(""));
                    answer
                        .await
                        .unwrap_or(Err(diesel::result::Error::BrokenTransactionManager))
                }
                .boxed()
            }));
        manager.custom_setup = Box::new(move |_| {
            let connector = setup.clone();
            let keeps_sessions = known_pooling.get() == Some(Pooling::Session);
            async move {
                let bad =
                    |error: DbError| diesel::ConnectionError::BadConnection(error.to_string());
                let opened = connector.connect_diesel(statement_timeout).await;
                let mut conn = opened.map_err(bad)?;
                if !keeps_sessions {
                    conn.set_prepared_statement_cache_size(CacheSize::Disabled);
                }
                Ok(conn)
            }
            .boxed()
        });
        // The connector has the address; one given here would only appear in messages.
        let manager = AsyncDieselConnectionManager::new_with_config("", manager);
        let pool = Pool::builder()
            .max_size(
                (config.pool_size
                    - 2 * mutation::lanes(config.pool_size).min(config.pool_size / 2))
                .max(2),
            )
            .connection_timeout(config.connect_timeout())
            .build_unchecked(manager);
        Self {
            pool,
            connector: Arc::new(connector),
            url,
            config: config.clone(),
            log_schema: Arc::default(),
            pooling,
            health: Arc::default(),
            writer: writer.into(),
            open_turns: Arc::new(Semaphore::new(open_mutations(config.pool_size))),
            install_attempts: install::Attempts::default(),
            generation: capture::GENERATION,
        }
    }
}

/// The snapshot of the next drain, if the read is to have one and there is one in time. None when nobody waits for the
/// read any more.
async fn exported<T>(
    drains: Option<&Arc<DrainSnapshots>>,
    out: &PartSender<T>,
) -> Option<Option<Exported>> {
    let Some(drains) = drains else {
        return Some(None);
    };
    tokio::select! {
        exported = drains.exported() => Some(exported),
        () = out.closed() => None,
    }
}
