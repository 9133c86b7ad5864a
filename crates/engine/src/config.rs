//! The configuration of an engine.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use db::entity::{EntityConfig, EntitySource};
use db::{DatabaseConfig, DbPool};
use merge::{ClockPolicy, ColumnMerge, ColumnRule, FieldMergeStrategy, Rules};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use sync_core::address::AddressRange;
use sync_core::policy::{AllowAll, Authorizer, Principal};
use sync_core::session::SessionLimits;

use crate::auth::{AcceptAnyone, Authenticator, OperatorToken, bearer};
use crate::bus::{Bus, LocalBus};
use crate::mailbox::Capacity;
use crate::mutators::{MutatorError, MutatorTx, Mutators, Refusal, ValidatedWrite};

/// The configuration of an engine. [`SyncConfig::new`] sets every default; change what you need.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SyncConfig {
    /// The database that is synced.
    pub db_pool: DbPool,
    /// The entities that clients may subscribe to and write.
    pub entities: Vec<EntityConfig>,
    /// The path of the routes, below the path that the application nests them under. Default `/api/sync`.
    pub prefix: String,
    /// Connections to the database and their time-outs.
    pub database: DatabaseConfig,
    /// How long the log keeps entries.
    pub retention: RetentionConfig,
    /// Limits of what a client may ask of the server.
    pub limits: LimitsConfig,
    /// Limits of what reads for clients may take.
    pub reads: ReadsConfig,
    /// Who may connect, and what they may do.
    pub auth: AuthConfig,
    /// How this server reaches the others. Default: [`LocalBus`], for a single server.
    pub bus: Arc<dyn Bus>,
    /// With which strategy entities merge by their fields that have no rules of their own
    /// ([`SyncConfig::with_field_sync`]). Default: none, so their rows are replaced whole.
    pub field_strategy: Option<FieldMergeStrategy>,
    /// What happens to clocks of clients that are ahead of the server's. Default: they become the moment of receipt.
    pub clock: ClockPolicy,
    /// Whether nodes of the family of CRDTs over SQL (`sqlite_crdt`, `postgres_crdt`, `drift_crdt`) may sync, at `crdt` under
    /// [`SyncConfig::prefix`], with the protocol of `crdt_sync`: the entities whose rows merge by their fields and have no
    /// counters, sets, greatest or least. What is kept beside the rows of all entities is then neither folded nor forgotten,
    /// because a device may come back after any time. Default: false.
    pub crdt: bool,
    /// Whether the engine only looks on: it makes no tables, captures nothing that no server captures, never leads and
    /// never prunes. Default: false.
    pub observes: bool,
    pub(crate) mutators: Mutators,
}

impl SyncConfig {
    /// The default configuration over `db_pool`, for these entities, each from the table of the same name.
    pub fn new<E: Into<EntityConfig>>(db_pool: DbPool, entities: Vec<E>) -> Self {
        Self {
            db_pool,
            entities: entities.into_iter().map(Into::into).collect(),
            prefix: "/api/sync".to_owned(),
            database: DatabaseConfig::default(),
            retention: RetentionConfig::default(),
            limits: LimitsConfig::default(),
            reads: ReadsConfig::default(),
            auth: AuthConfig::default(),
            bus: Arc::new(LocalBus::default()),
            field_strategy: None,
            clock: ClockPolicy::default(),
            crdt: false,
            observes: false,
            mutators: Mutators::default(),
        }
    }

    /// Lets every entity merge by its fields that has no rules of its own ([`EntityConfig::fields`]), with this strategy: of
    /// two who edit one row, one its title and one its date, both are kept.
    ///
    /// Entities without a table, internal ones, and those of which row level security says who may see what, have no fields
    /// that merge; their rows are replaced whole as before. A table that is a partition is an error when the engine starts:
    /// make the partitioned table an entity.
    ///
    /// ```no_run
    /// use rhtmx_sync::{DbPool, FieldMergeStrategy, SyncConfig};
    ///
    /// # fn configure(db_pool: DbPool) -> SyncConfig {
    /// SyncConfig::new(db_pool, vec!["todos", "lists"]).with_field_sync(FieldMergeStrategy::LastWriteWins)
    /// # }
    /// ```
    #[must_use]
    pub fn with_field_sync(mut self, strategy: FieldMergeStrategy) -> Self {
        self.field_strategy = Some(strategy);
        self
    }

    /// For how many hours a write is taken up after it was made. Nodes of the family may come back after any time.
    pub(crate) fn clock_hours(&self) -> u64 {
        match self.crdt {
            true => u64::MAX,
            false => self.retention.clock_hours,
        }
    }

    /// The entities with the rules by which their fields merge.
    pub(crate) fn ruled_entities(&self) -> Vec<EntityConfig> {
        let may_merge = |entity: &EntityConfig| {
            matches!(entity.source, EntitySource::Table(_)) && !entity.internal && !entity.rls
        };
        // Nodes write whole rows, and so would overwrite the sums of others.
        let is_register =
            |rule: &ColumnRule| matches!(rule.merge, ColumnMerge::Register | ColumnMerge::Text);
        let has_records = |rules: &Rules| self.crdt && rules.columns.values().all(is_register);
        let entities = self.entities.iter().cloned();
        let entities = entities.map(|entity| match self.field_strategy {
            Some(strategy) if entity.fields.is_none() && may_merge(&entity) => {
                entity.fields(Rules {
                    strategy,
                    ..Rules::default()
                })
            }
            _ => entity,
        });
        let entities = entities.map(|entity| EntityConfig {
            records: entity.fields.as_ref().is_some_and(has_records),
            ..entity
        });
        entities.collect()
    }

    /// Registers a function that clients call by this name, within one of their mutations: a letter from a to z, then
    /// letters, digits and underscores.
    ///
    /// It has the server's rights, not the client's, so it decides by itself what the principal may do. It may run more than
    /// once for one mutation, of which at most one is committed: what it does outside of its transaction is its own concern.
    ///
    /// ```no_run
    /// # use rhtmx_sync::schemars;
    /// # fn register(config: &mut rhtmx_sync::SyncConfig) {
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct CompleteTodo {
    ///     id: i64,
    /// }
    ///
    /// config.mutator("complete_todo", async |tx, args: CompleteTodo| {
    ///     tx.update("todos", args.id, serde_json::json!({ "done": true })).await
    /// });
    /// # }
    /// ```
    pub fn mutator<A, F, Fut>(&mut self, name: impl Into<String>, function: F) -> &mut Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(MutatorTx, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), MutatorError>> + Send + 'static,
    {
        self.mutators.add(name.into(), function);
        self
    }

    /// Registers a function that looks at each plain write of clients to an entity, once it fits its table, and may refuse
    /// it. It must answer from memory. What mutators write it does not see.
    pub fn validate<F>(&mut self, entity: impl Into<String>, hook: F) -> &mut Self
    where
        F: Fn(&Principal, &ValidatedWrite) -> Result<(), Refusal> + Send + Sync + 'static,
    {
        self.mutators.add_hook(entity.into(), hook);
        self
    }
}

impl LimitsConfig {
    pub(crate) fn queue(&self) -> Capacity {
        Capacity {
            items: self.queue_batches_max,
            bytes: self.queue_bytes_max,
        }
    }

    pub(crate) fn session(&self) -> SessionLimits {
        SessionLimits {
            subscriptions_max: self.subscriptions_max,
            filter_work_max: self.filter_work_max,
            filter_bytes_max: self.filter_bytes_max,
        }
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.max(1))
    }

    pub(crate) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(self.hello_timeout_ms)
    }

    pub(crate) fn mutator_timeout(&self) -> Duration {
        Duration::from_millis(self.mutator_ms.max(1))
    }

    pub(crate) fn stalled_timeout(&self) -> Duration {
        Duration::from_millis(self.stalled_timeout_ms)
    }
}

/// Who may connect, and what they may do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuthConfig {
    /// Web pages of these origins (`https://app.example`) may connect, besides pages that the server itself
    /// has served. Programs that send no `Origin` always may. Default: none.
    pub allowed_origins: Vec<String>,
    /// The host names (`app.example`) by which clients reach this server, besides addresses, `localhost` and the hosts of
    /// `allowed_origins`; `*` for any. A request with another name is refused, because a web page could have made its own
    /// name point to this machine; one of a browser over HTTPS is not, because such a name cannot. Default: none.
    pub allowed_hosts: Vec<String>,
    /// The addresses of the proxies before this server. From them, and from nobody else, `X-Forwarded-For` is believed, as
    /// far as they have written it. Default: none.
    pub trusted_proxies: Vec<AddressRange>,
    /// How long a connection goes on after its token has expired, for the client to send a fresh one. Then it is closed
    /// with 4401. Default 30,000.
    pub expiry_grace_ms: u64,
    /// How long the authenticator may take to answer. After that the client is told `unavailable`, and tries again. Default
    /// 10,000.
    pub verify_timeout_ms: u64,
    /// What an operator shows, as `Authorization: Bearer`, to read `status` in full. Without one everybody may, unless
    /// clients must say who they are; then nobody may. Default: none.
    pub operator_token: Option<OperatorToken>,
    /// Makes a principal from a client's token, unless the application has put a [`Principal`](crate::Principal) into the
    /// request's extensions. Default: every client is accepted as anonymous.
    pub authenticator: Arc<dyn Authenticator>,
    /// Decides what a client may see and write. Default: everything.
    pub authorizer: Arc<dyn Authorizer>,
    /// The settings that row level security reads beside the token, by name, each with the claim that it is made from:
    /// `app.tenant_id` from `auth.tenant_id`. Default: none.
    pub settings: BTreeMap<String, String>,
}

impl AuthConfig {
    pub(crate) fn expiry_grace(&self) -> Duration {
        Duration::from_millis(self.expiry_grace_ms)
    }

    /// Whether a request with these headers may read how the server and all its clients are doing.
    pub fn is_operator(&self, headers: &HeaderMap) -> bool {
        match &self.operator_token {
            Some(token) => bearer::token(headers)
                .ok()
                .flatten()
                .is_some_and(|shown| token.is(shown)),
            None => self.authenticator.lets_anyone_in(),
        }
    }

    pub(crate) fn verify_timeout(&self) -> Duration {
        Duration::from_millis(self.verify_timeout_ms.max(1))
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            expiry_grace_ms: 30_000,
            verify_timeout_ms: 10_000,
            operator_token: None,
            authenticator: Arc::new(AcceptAnyone),
            authorizer: Arc::new(AllowAll),
            settings: BTreeMap::new(),
        }
    }
}

/// How long the log keeps entries. A client that was offline for longer refetches its rows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RetentionConfig {
    /// Entries older than this are pruned. Default 168.
    pub hours: u64,
    /// When the log is larger than this many MiB, its oldest entries are pruned, whatever their age. Default
    /// 4,096.
    pub size_max_mb: u64,
    /// Interval between two rounds of pruning. Default 60,000.
    pub interval_ms: u64,
    /// How many hours the clocks of fields, and the tombstones of rows, are kept apart, where rows merge by their fields:
    /// older ones are folded, and a write that was made before is rejected with `clock`. Default 168. What is folded
    /// stays so when it is raised.
    pub clock_hours: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            hours: 168,
            size_max_mb: 4096,
            interval_ms: 60_000,
            clock_hours: 168,
        }
    }
}

/// Limits of what a client may ask of the server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// The largest frame from a client, also after unzipping, in bytes; a larger one closes the
    /// connection. Default 1 MiB.
    pub frame_bytes_max: usize,
    /// Subscriptions of one connection. Default 100.
    pub subscriptions_max: usize,
    /// Writes and calls in one mutation. Default 1,000.
    pub writes_max: usize,
    /// How long a mutation with calls of mutators may take from its begin to its commit: so long it holds locks, and on
    /// SQLite all other writers wait. One that takes longer is taken back and tried again, and rejected with `refused` when
    /// it is too slow three times. Default 5,000.
    pub mutator_ms: u64,
    /// What the filters of one connection may cost together, in comparisons for each changed row; a `LIKE`
    /// counts as ten. A subscription beyond it is refused with `too_large`. Default 5,000.
    pub filter_work_max: usize,
    /// What the filters on one entity that no index finds (those without an equality that each matching row
    /// must satisfy) may cost together, of all connections, in comparisons for each changed row. A subscription
    /// beyond it is refused with `too_large`. Default 100,000.
    pub entity_filter_work_max: usize,
    /// The memory that the filters of one connection may take, in bytes. A subscription beyond it is refused
    /// with `too_large`. Default 4 MiB.
    pub filter_bytes_max: usize,
    /// The memory that the filters of all connections may take, in bytes. A subscription beyond it is refused
    /// with `too_large`. Default 256 MiB.
    pub filter_bytes_total_max: usize,
    /// The values that the sets of all subqueries may hold together when another is read; equal subqueries are one
    /// set. Each takes some hundred bytes.
    pub set_values_total_max: usize,
    /// Rows of one window, that is the greatest `limit` of a subscription. One with a greater `limit` is refused with
    /// `too_large`. Default 1,000.
    pub window_rows_max: usize,
    /// Batches that may wait for one slow client; beyond that, its session catches up from the log at the
    /// client's pace. Default 64.
    pub queue_batches_max: usize,
    /// The bytes of the batches that may wait for one slow client; beyond that, as for `queue_batches_max`.
    /// Default 4 MiB.
    pub queue_bytes_max: usize,
    /// The bytes of all batches in memory; beyond that, every session with more than one that waits catches up
    /// from the log. Default 64 MiB.
    pub queue_bytes_total_max: usize,
    /// Interval of heartbeats on an idle connection. A client that answers none for twice as long is
    /// disconnected. Default 25,000.
    pub heartbeat_ms: u64,
    /// How long a client may take to send `hello`. Default 10,000.
    pub hello_timeout_ms: u64,
    /// How long a client may read nothing before it is disconnected. Default 60,000.
    pub stalled_timeout_ms: u64,
    /// Frames that one connection may send in a second; twice as many may come at once. Beyond that its input is read
    /// later, and after `stalled_timeout_ms` of that it is closed. Default 2,000.
    pub frames_per_second: u64,
    /// The same in bytes, after unzipping. Default 8 MiB.
    pub bytes_per_second: u64,
    /// Connections of one user to this server: WebSockets, streams of events and long polls. One more is `rate_limited`
    /// (4429). Clients without a user are not counted. 0 for no such limit. Default 100.
    pub connections_of_user_max: usize,
    /// The same of one address (an IPv6 network of 64 bits counts as one), of all its users together. 0 for no such limit, the
    /// default.
    pub connections_of_address_max: usize,
    /// Distinct shapes of one user, over all connections to this server: subscriptions that differ in the entity, the
    /// filter, the columns or the rights. A subscription beyond it is refused with `too_many_subscriptions`. Clients
    /// without a user are not counted. 0 for no such limit. Default 1,000.
    pub shapes_of_user_max: usize,
    /// Reads of rows and of changes that run at once for one user, or for one address of clients without a user; more
    /// wait, and users are served in turn. 0 for all but one of those that may run for everybody, so that one user's
    /// reads never hold up all others. Default 0.
    pub reads_of_user_max: usize,
    /// Mutations that one user may push in a second, over all connections to this server; twice as many may come at once.
    /// Beyond that a WebSocket's input is read later, and a `POST` is `rate_limited`. Clients without a user are counted
    /// by their address, except where nobody is asked who they are. 0 for no such limit. Default 1,000.
    pub pushes_per_second_of_user: u64,
    /// The same for the writes of these mutations. Default 10,000.
    pub writes_per_second_of_user: u64,
    /// Tokens and tickets that are not valid that one address may show in a second (an IPv6 network of 64 bits counts as
    /// one); twice as many may come at once. Beyond that its tokens are `rate_limited` (4429) without being looked at, so
    /// those of others behind the same address too. 0 for no such limit. Default 10.
    pub wrong_tokens_per_second: u64,
    /// Tickets that are given within their lifetime of 30 s, to all users together; one more is `rate_limited`. Default
    /// 10,000.
    pub tickets_max: usize,
    /// The same to one user, or to one address of clients without a user. Default 32.
    pub tickets_of_user_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: 1024 * 1024,
            subscriptions_max: 100,
            writes_max: 1000,
            mutator_ms: 5000,
            filter_work_max: 5000,
            entity_filter_work_max: 100_000,
            filter_bytes_max: 4 * 1024 * 1024,
            filter_bytes_total_max: 256 * 1024 * 1024,
            set_values_total_max: 5_000_000,
            window_rows_max: 1000,
            queue_batches_max: 64,
            queue_bytes_max: 4 * 1024 * 1024,
            queue_bytes_total_max: 64 * 1024 * 1024,
            heartbeat_ms: 25_000,
            hello_timeout_ms: 10_000,
            stalled_timeout_ms: 60_000,
            frames_per_second: 2000,
            bytes_per_second: 8 * 1024 * 1024,
            connections_of_user_max: 100,
            connections_of_address_max: 0,
            shapes_of_user_max: 1000,
            reads_of_user_max: 0,
            pushes_per_second_of_user: 1000,
            writes_per_second_of_user: 10_000,
            wrong_tokens_per_second: 10,
            tickets_max: 10_000,
            tickets_of_user_max: 32,
        }
    }
}

/// Limits of what reads for clients may take, all clients together where nothing else is said.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReadsConfig {
    /// The rows or changes of one page of a `GET`, however many it asks for, and when it asks for none. Default 10,000.
    pub page_rows_max: usize,
    /// The size of one page of a `GET` in bytes; a page has one row at least. Default 8 MiB.
    pub page_bytes_max: usize,
    /// The rows of a subscription when it is first read; one with more ends with `too_large`. 0 for no such limit.
    /// Default 10,000,000.
    pub rows_max: usize,
    /// How long the database may take to find out what a subquery selects, the first time that somebody subscribes with it
    /// or resumes; a subscription whose subquery takes longer ends with `too_large`. Default 5,000.
    pub subquery_timeout_ms: u64,
    /// `GET`s that wait for changes at once; one more is `rate_limited`. Default 1,000.
    pub long_polls_max: usize,
    /// Reads that wait for their turn, of which one user's are at most half; one more is `rate_limited`, and tried again.
    /// Default 10,000.
    pub waiting_max: usize,
    /// The entries of the log that a resume may look through; a client that has missed more is told to refetch. Default
    /// 1,000,000.
    pub resume_entries_max: u64,
    /// What slow clients have not taken yet, and is kept in memory, in bytes. The rest is kept in temporary files.
    /// Default 64 MiB.
    pub spool_memory_bytes_max: usize,
    /// What one read keeps in temporary files, in bytes. Then the read waits for its clients, and when they take too
    /// little within `stalled_timeout_ms`, their subscriptions end with `too_large`. Default 1 GiB.
    pub spool_bytes_max: u64,
    /// What all reads keep in temporary files, in bytes. Default 8 GiB.
    pub spools_bytes_max: u64,
    /// The directory of the temporary files. Default: the system's (`TMPDIR`, else `/tmp`), which may be in memory.
    pub spool_directory: Option<PathBuf>,
}

impl ReadsConfig {
    pub(crate) fn subquery_timeout(&self) -> Duration {
        Duration::from_millis(self.subquery_timeout_ms.max(1))
    }
}

impl Default for ReadsConfig {
    fn default() -> Self {
        Self {
            page_rows_max: 10_000,
            page_bytes_max: 8 * 1024 * 1024,
            rows_max: 10_000_000,
            subquery_timeout_ms: 5000,
            long_polls_max: 1000,
            waiting_max: 10_000,
            resume_entries_max: 1_000_000,
            spool_memory_bytes_max: 64 * 1024 * 1024,
            spool_bytes_max: 1024 * 1024 * 1024,
            spools_bytes_max: 8 * 1024 * 1024 * 1024,
            spool_directory: None,
        }
    }
}
