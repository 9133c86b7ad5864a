//! What an engine is told when it starts.

use std::time::Duration;

use crate::db::DbPool;
use crate::entity::EntityConfig;

/// How an engine behaves. [`SyncConfig::new`] has every default; change what you need.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SyncConfig {
    /// The database that is synced.
    pub db_pool: DbPool,
    /// What of it clients may subscribe to and write.
    pub entities: Vec<EntityConfig>,
    /// Where the routes are, below whatever the application nests them under. Default `/api/sync`.
    pub prefix: String,
    /// Connections and their time-outs.
    pub database: DatabaseConfig,
    /// How long the log remembers.
    pub log: LogConfig,
    /// What a client may ask of the server.
    pub limits: LimitsConfig,
    /// Who may connect.
    pub auth: AuthConfig,
}

impl SyncConfig {
    /// An engine over `db_pool` that syncs these entities, each from the table of the same name.
    pub fn new<E: Into<EntityConfig>>(db_pool: DbPool, entities: Vec<E>) -> Self {
        Self {
            db_pool,
            entities: entities.into_iter().map(Into::into).collect(),
            prefix: "/api/sync".to_owned(),
            database: DatabaseConfig::default(),
            log: LogConfig::default(),
            limits: LimitsConfig::default(),
            auth: AuthConfig::default(),
        }
    }
}

/// Connections and their time-outs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// A direct connection to PostgreSQL, where the pool's address goes through a transaction pooler:
    /// notifications and locks need a session of their own. Default: the pool's address.
    pub listen_url: Option<String>,
    /// The most connections that the pool opens. The listener has two more. Default 16.
    pub pool_size: u32,
    /// How long opening a connection, or waiting for a free one, may take. Default 10,000.
    pub connect_timeout_ms: u64,
    /// How long one statement may take; longer, and it is given up and tried again. Default 60,000.
    pub statement_timeout_ms: u64,
}

impl DatabaseConfig {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

impl LimitsConfig {
    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.max(1))
    }

    pub(crate) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(self.hello_timeout_ms)
    }

    pub(crate) fn stalled_timeout(&self) -> Duration {
        Duration::from_millis(self.stalled_timeout_ms)
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            listen_url: None,
            pool_size: 16,
            connect_timeout_ms: 10_000,
            statement_timeout_ms: 60_000,
        }
    }
}

/// Who may connect. There is no authentication yet.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AuthConfig {
    /// Web pages of these origins (`https://app.example`) may connect, besides pages that the server
    /// itself has served. Programs that send no `Origin` always may. Default: none.
    pub allowed_origins: Vec<String>,
}

/// How long the log remembers. A client that was away for longer takes its rows anew.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogConfig {
    /// Entries older than this go. Default 168.
    pub retention_hours: u64,
    /// When the log is larger than this many MiB, its oldest part goes, whatever its age. Default
    /// 4,096.
    pub size_max_mb: u64,
    /// How often retention looks. Default 60,000.
    pub interval_ms: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            retention_hours: 168,
            size_max_mb: 4096,
            interval_ms: 60_000,
        }
    }
}

/// What a client may ask of the server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// The largest frame from a client, also after unzipping, in bytes; a larger one closes the
    /// connection. Default 1 MiB.
    pub frame_bytes_max: usize,
    /// Subscriptions of one connection. Default 100.
    pub subscriptions_max: usize,
    /// Writes in one mutation. Default 1,000.
    pub writes_max: usize,
    /// Deliveries that wait for one slow client; more, and it reads the log at its own pace. Default
    /// 64.
    pub queue_batches_max: usize,
    /// How often a quiet connection is looked after. A client that answers nothing for twice as long
    /// is gone. Default 25,000.
    pub heartbeat_ms: u64,
    /// How long a client may take to say `hello`. Default 10,000.
    pub hello_timeout_ms: u64,
    /// How long a client may leave everything unread before it is closed. Default 60,000.
    pub stalled_timeout_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: 1024 * 1024,
            subscriptions_max: 100,
            writes_max: 1000,
            queue_batches_max: 64,
            heartbeat_ms: 25_000,
            hello_timeout_ms: 10_000,
            stalled_timeout_ms: 60_000,
        }
    }
}
