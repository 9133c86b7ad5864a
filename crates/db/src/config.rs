//! Connections and their time-outs.

use std::time::Duration;

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
    /// How long one statement may take; a longer one is cancelled and tried again. Default 60,000.
    pub statement_timeout_ms: u64,
}

impl DatabaseConfig {
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
