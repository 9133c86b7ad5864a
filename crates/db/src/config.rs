//! The configuration of the database connections.

use std::time::Duration;

/// The database connections and their time-outs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// The address of a direct connection to PostgreSQL, needed when the pool's address goes through a
    /// transaction pooler: notifications and locks need a database session of their own. Default: the
    /// pool's address.
    pub listen_url: Option<String>,
    /// The maximum number of connections: those of the pool and, on PostgreSQL, a quarter of them, at most four, that
    /// apply mutations. At most three eighths read for clients, and a quarter run mutators. The listener opens two
    /// more, and up to four while there are filters with subqueries. Default 16.
    pub pool_size: u32,
    /// The time-out for opening a connection and for waiting for a free one. Default 10,000.
    pub connect_timeout_ms: u64,
    /// The time-out of a statement; a longer one is cancelled and tried again. A read for clients may take longer, as
    /// long as the database sends something that often. Default 60,000.
    pub statement_timeout_ms: u64,
}

impl DatabaseConfig {
    #[cfg(feature = "postgres")]
    pub(crate) fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.statement_timeout_ms.max(1))
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
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
