//! What a database says of itself. Names of roles, schemas, tables and columns are quoted where SQL needs it.

use serde::Deserialize;

use crate::incarnation::ProductFacts;

/// What is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Whether there is an address for the listener.
    pub has_listen_url: bool,
    /// The connections that one server opens at most: its pool and the listener.
    pub connections: u32,
    /// The connections of the pool.
    pub pool_size: u32,
    /// The largest size of the log.
    pub log_bytes_max: u64,
    /// How far back the log is to reach.
    pub retention_hours: u64,
    /// How often the log is pruned.
    pub retention_interval_ms: u64,
}

/// Everything that is known.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The server.
    pub server: ServerFacts,
    /// What tells its product.
    pub product: ProductFacts,
    /// What the engine needs, tried in a transaction that was rolled back; empty where nothing could be tried.
    pub tried: Vec<Tried>,
    /// The address of the pool.
    pub pool: ConnectionFacts,
    /// The address of the listener.
    pub listener: ConnectionFacts,
    /// Whether a notification of one connection reaches another.
    pub is_notified: bool,
    /// By how much the server's clock is ahead of this machine's.
    pub clock_ahead_ms: i64,
    /// The engine's role.
    pub role: RoleFacts,
    /// The table of each entity.
    pub tables: Vec<TableFacts>,
    /// The log; `None` before the first start of a server, and where the role may not read it.
    pub log: Option<LogFacts>,
    /// The oldest open transactions.
    pub transactions: Vec<OldTransaction>,
}

/// The server.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ServerFacts {
    /// `server_version`.
    pub version: String,
    /// `server_version_num`.
    pub version_number: i64,
    /// Whether it is a hot standby.
    pub is_standby: bool,
    /// Whether transactions of this role are read-only.
    pub is_read_only: bool,
    /// `max_connections`.
    pub connections_max: i64,
    /// Connections that are reserved for superusers and the like.
    pub connections_reserved: i64,
    /// Connections of other roles.
    pub connections_of_others: i64,
    /// The database's name.
    pub database: String,
    /// The database's limit of connections; −1 is none.
    pub database_connections_max: i64,
    /// The role's limit of connections; −1 is none.
    pub role_connections_max: i64,
}

/// Something that the engine needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// What it is.
    pub what: &'static str,
    /// The database's message when it failed.
    pub error: Option<String>,
}

/// One of the two addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// Whether a pooler gives a session to each transaction.
    pub is_pooled: bool,
    /// Whether the other end is on this machine.
    pub is_local: bool,
    /// Whether the connection may only be encrypted.
    pub is_encrypted: bool,
    /// Whether the server's certificate and name are checked.
    pub is_verified: bool,
    /// Whether the other end is a hot standby.
    pub is_standby: bool,
}

/// The engine's role.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// Whether it may do everything.
    pub is_superuser: bool,
    /// The first schema of its search path that exists.
    pub schema: Option<String>,
    /// Whether it may create in that.
    pub may_create: bool,
    /// The schema that contains the log.
    pub log_schema: Option<String>,
    /// Who owns the log.
    pub log_owner: Option<String>,
    /// Whether it may act as the owner of the log.
    pub owns_log: bool,
    /// The engine's functions that somebody else owns.
    pub functions_of_others: Vec<String>,
    /// The language of the server's messages, unless it is English or the role may choose it.
    pub language: Option<String>,
    /// `transaction_timeout`; zero is none.
    pub transaction_timeout_ms: i64,
    /// Whether it sees what other roles' sessions do.
    pub sees_sessions: bool,
}

/// The table of an entity.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TableFacts {
    /// The entity.
    pub entity: String,
    /// The table as it is configured.
    pub configured: String,
    /// The table's name with its schema; empty when there is none.
    pub name: String,
    /// Tables of this name in other schemas.
    pub elsewhere: Vec<String>,
    /// `relkind`.
    pub kind: String,
    /// Its schema.
    pub schema: String,
    /// Its owner.
    pub owner: String,
    /// Whether the role may use its schema.
    pub may_use_schema: bool,
    /// Whether it has a primary key.
    pub has_key: bool,
    /// A unique index that can become the primary key.
    pub key_index: Option<String>,
    /// Whether it has a column called `id`.
    pub has_id: bool,
    /// The privileges on it that the role lacks: `SELECT`, `INSERT`, `UPDATE`, `DELETE`.
    pub lacks: Vec<String>,
    /// Sequences of its columns that the role may not use.
    pub sequences: Vec<String>,
    /// The table and its partitions.
    pub members: Vec<MemberFacts>,
    /// Tables that inherit from it and are no partitions.
    pub heirs: Vec<String>,
    /// Tables that it inherits from and is no partition of.
    pub parents: Vec<String>,
    /// A foreign table in its tree.
    pub foreign: Option<String>,
    /// Whether row-level security is on.
    pub has_row_security: bool,
    /// Whether it applies to the role.
    pub is_row_security_active: bool,
    /// How many of its policies show rows to the role.
    pub row_policies: i64,
    /// Whether one of them shows every row, and none takes rows away.
    pub shows_every_row: bool,
    /// Whether a server has captured it; `false` after `uncapture`, `None` before the first start.
    pub is_wanted: Option<bool>,
    /// Who says what clients may do with it.
    #[serde(skip)]
    pub rights: Rights,
}

/// Who says what clients may do with an entity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rights {
    /// Nobody: everybody may read and write it.
    #[default]
    Everybody,
    /// The policies of the configuration.
    Policies,
    /// The policies of its table.
    RowSecurity,
    /// Nobody may, because policies are missing.
    Closed,
    /// Nobody may, because it is internal.
    Internal,
}

/// One of an entity's tables.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct MemberFacts {
    /// Its name with its schema.
    pub name: String,
    /// Whether the role may create triggers on it.
    pub may_trigger: bool,
    /// The number of capture triggers that fire.
    pub triggers: i64,
    /// Capture triggers that do not.
    pub disabled: Vec<String>,
}

/// The log.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LogFacts {
    /// Its size on disk.
    pub bytes: u64,
    /// How long ago the oldest checkpoint was made.
    pub reaches_back_s: Option<f64>,
    /// How long ago the newest was made.
    pub checkpoint_s: Option<f64>,
    /// Whether autovacuum is off, for the server or for this table.
    pub is_vacuumed_never: bool,
    /// Whether that is so for this table alone.
    pub is_vacuumed_never_here: bool,
}

/// An open transaction.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct OldTransaction {
    /// How long it has been open.
    pub age_s: f64,
    /// Its session, unless it is a prepared one.
    pub pid: Option<i64>,
    /// Its name, if it is a prepared one.
    pub gid: Option<String>,
    /// Its role.
    pub role: Option<String>,
    /// Its program.
    pub program: Option<String>,
}
