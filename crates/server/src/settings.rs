//! The settings: flags override the environment, which overrides the file. An unknown key is an error, and so
//! is a known one that is not implemented yet: a rule that is silently not applied would be worse than no
//! server.

mod merging;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rhtmx_sync::{
    AuthConfig, DatabaseConfig, DbPool, EntityConfig, FieldMergeStrategy, JwtConfig, LimitsConfig,
    OperatorToken, ReadsConfig, RetentionConfig, SyncConfig,
};
use serde::Deserialize;

use self::merging::{MergingConfig, SyncSection};
use crate::cli::Common;
use crate::connections::ConnectionsConfig;
use crate::entities::{self, EntitySection};

/// Read when no other file is given.
const DEFAULT_FILE: &str = "rhtmx-sync.toml";
const DEFAULT_BIND: &str = "127.0.0.1:8080";

/// All settings of the server.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) bind: SocketAddr,
    /// None for the demo.
    pub(crate) database_url: Option<String>,
    pub(crate) database: DatabaseConfig,
    pub(crate) retention: RetentionConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) reads: ReadsConfig,
    pub(crate) connections: ConnectionsConfig,
    /// Without the authenticator, which [`jwt`](Self::jwt) describes.
    pub(crate) auth: AuthConfig,
    /// How tokens are verified; none when every client is accepted.
    pub(crate) jwt: Option<JwtConfig>,
    pub(crate) entities: Vec<EntityConfig>,
    pub(crate) merging: MergingConfig,
}

/// The configuration file. Each key has the same name in `SyncConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    bind: Option<String>,
    database: DatabaseSection,
    retention: RetentionSection,
    auth: AuthSection,
    limits: LimitsSection,
    reads: ReadsSection,
    connections: ConnectionsSection,
    sync: SyncSection,
    entities: BTreeMap<String, EntitySection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DatabaseSection {
    url: Option<String>,
    listen_url: Option<String>,
    pool_size: Option<u32>,
    connect_timeout_ms: Option<u64>,
    statement_timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetentionSection {
    hours: Option<u64>,
    size_max_mb: Option<u64>,
    interval_ms: Option<u64>,
    clock_hours: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthSection {
    allowed_origins: Option<Vec<String>>,
    allowed_hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<String>>,
    expiry_grace_ms: Option<u64>,
    verify_timeout_ms: Option<u64>,
    operator_token: Option<String>,
    jwt_secret: Option<String>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    jwks_ca_file: Option<PathBuf>,
    jwks_refresh_ms: Option<u64>,
    jwks_age_max_ms: Option<u64>,
    algorithms: Option<Vec<String>>,
    issuer: Option<OneOrMore>,
    audience: Option<OneOrMore>,
    roles: Option<Vec<String>>,
    leeway_ms: Option<u64>,
    anonymous: Option<bool>,
    settings: BTreeMap<String, String>,
}

/// A text, or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Vec<String> {
    fn from(texts: OneOrMore) -> Self {
        match texts {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    frame_bytes_max: Option<usize>,
    subscriptions_max: Option<usize>,
    writes_max: Option<usize>,
    filter_work_max: Option<usize>,
    entity_filter_work_max: Option<usize>,
    filter_bytes_max: Option<usize>,
    filter_bytes_total_max: Option<usize>,
    set_values_total_max: Option<usize>,
    window_rows_max: Option<usize>,
    queue_batches_max: Option<usize>,
    queue_bytes_max: Option<usize>,
    queue_bytes_total_max: Option<usize>,
    heartbeat_ms: Option<u64>,
    hello_timeout_ms: Option<u64>,
    stalled_timeout_ms: Option<u64>,
    frames_per_second: Option<u64>,
    bytes_per_second: Option<u64>,
    connections_of_user_max: Option<usize>,
    connections_of_address_max: Option<usize>,
    reads_of_user_max: Option<usize>,
    shapes_of_user_max: Option<usize>,
    pushes_per_second_of_user: Option<u64>,
    writes_per_second_of_user: Option<u64>,
    wrong_tokens_per_second: Option<u64>,
    tickets_max: Option<usize>,
    tickets_of_user_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConnectionsSection {
    max: Option<usize>,
    per_address_max: Option<usize>,
    header_timeout_ms: Option<u64>,
    write_timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReadsSection {
    page_rows_max: Option<usize>,
    page_bytes_max: Option<usize>,
    rows_max: Option<usize>,
    subquery_timeout_ms: Option<u64>,
    long_polls_max: Option<usize>,
    waiting_max: Option<usize>,
    resume_entries_max: Option<u64>,
    spool_memory_bytes_max: Option<usize>,
    spool_bytes_max: Option<u64>,
    spools_bytes_max: Option<u64>,
    spool_directory: Option<PathBuf>,
}

impl Settings {
    /// Reads flags, environment and file.
    pub(crate) fn load(common: &Common) -> anyhow::Result<Self> {
        let file = match &common.config {
            Some(path) => Some(read(path)?),
            None if Path::new(DEFAULT_FILE).exists() => Some(read(Path::new(DEFAULT_FILE))?),
            None => None,
        };
        Self::merge(
            common,
            &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            file.unwrap_or_default(),
        )
    }

    fn merge(
        common: &Common,
        env: &dyn Fn(&str) -> Option<String>,
        file: File,
    ) -> anyhow::Result<Self> {
        let merging = file.sync.read(env)?;
        check_entities(&file.entities, merging.fields)?;
        let bind = common
            .bind
            .clone()
            .or_else(|| env("RHTMX_SYNC_BIND"))
            .or(file.bind);
        let bind = bind.unwrap_or_else(|| DEFAULT_BIND.to_owned());
        let bind = bind
            .parse()
            .with_context(|| format!("bind: {bind:?} is not an address like {DEFAULT_BIND}"))?;

        let database_url = common
            .database_url
            .clone()
            .or_else(|| env("DATABASE_URL"))
            .or_else(|| env("RHTMX_SYNC_DATABASE_URL"))
            .or(file.database.url.clone());
        let number = Numbers { env };
        let mut database = number.database(&file.database)?;
        database.listen_url = common
            .listen_url
            .clone()
            .or_else(|| env("RHTMX_SYNC_DATABASE_LISTEN_URL"))
            .or(file.database.listen_url);
        let retention = number.retention(&file.retention)?;
        let limits = number.limits(&file.limits)?;
        let reads = number.reads(&file.reads)?;
        let connections = number.connections(&file.connections)?;
        let split = |text: String| {
            text.split(',')
                .map(|item| item.trim().to_owned())
                .collect::<Vec<String>>()
        };
        let jwt = number.jwt(&file.auth)?;
        let mut auth = AuthConfig::default();
        auth.allowed_origins = env("RHTMX_SYNC_AUTH_ALLOWED_ORIGINS")
            .map(split)
            .or(file.auth.allowed_origins)
            .unwrap_or_default();
        auth.allowed_hosts = env("RHTMX_SYNC_AUTH_ALLOWED_HOSTS")
            .map(split)
            .or(file.auth.allowed_hosts)
            .unwrap_or_default();
        let proxies = env("RHTMX_SYNC_AUTH_TRUSTED_PROXIES")
            .map(split)
            .or(file.auth.trusted_proxies)
            .unwrap_or_default();
        for proxy in proxies {
            let range = proxy
                .parse()
                .with_context(|| format!("auth.trusted_proxies: {proxy:?}"))?;
            auth.trusted_proxies.push(range);
        }
        number.set(
            &mut auth.expiry_grace_ms,
            "AUTH_EXPIRY_GRACE_MS",
            file.auth.expiry_grace_ms,
        )?;
        number.set(
            &mut auth.verify_timeout_ms,
            "AUTH_VERIFY_TIMEOUT_MS",
            file.auth.verify_timeout_ms,
        )?;

        let operator_token = env("RHTMX_SYNC_AUTH_OPERATOR_TOKEN").or(file.auth.operator_token);
        let operator_token = operator_token.map(OperatorToken::new).transpose();
        auth.operator_token = operator_token.context("auth.operator_token")?;

        let named = match common.entities.as_slice() {
            [] => env("RHTMX_SYNC_ENTITY").map(split).unwrap_or_default(),
            named => named.to_vec(),
        };
        let entities: Vec<EntityConfig> = if named.is_empty() {
            let sections = file.entities.iter();
            sections
                .map(|(name, section)| entity(name, section.table.clone()))
                .collect()
        } else {
            named
                .iter()
                .map(|named| named_entity(named))
                .collect::<anyhow::Result<_>>()?
        };
        // Named on the command line, an entity is as the file says.
        let unmentioned = EntitySection::default();
        let as_in_file = |entity: EntityConfig| {
            let section = file.entities.get(&entity.name).unwrap_or(&unmentioned);
            anyhow::Ok(EntityConfig {
                rls: section.rls,
                internal: section.internal,
                fields: section.rules(merging.fields)?,
                ..entity
            })
        };
        let entities = entities.into_iter().map(as_in_file);
        let entities: Vec<EntityConfig> = entities.collect::<anyhow::Result<_>>()?;
        auth.settings = file.auth.settings;
        let authorizer = entities::authorizer(&file.entities, &entities, jwt.is_some())?;
        if let Some(authorizer) = authorizer {
            auth.authorizer = authorizer;
        }
        Ok(Self {
            bind,
            database_url,
            database,
            retention,
            limits,
            reads,
            connections,
            auth,
            jwt,
            entities,
            merging,
        })
    }

    /// Whether clients are asked who they are.
    pub(crate) fn has_authenticator(&self) -> bool {
        self.jwt.is_some()
    }

    /// Connects to the configured database.
    pub(crate) async fn connect(&self) -> anyhow::Result<DbPool> {
        let url = self.database_url.as_deref();
        let url = url.context("no database: set --database-url or DATABASE_URL")?;
        Ok(DbPool::with_config(url, &self.database).await?)
    }

    /// The engine's part of the settings.
    pub(crate) fn sync_config(&self, pool: DbPool) -> SyncConfig {
        let mut config = SyncConfig::new(pool, self.entities.clone());
        config.database = self.database.clone();
        config.retention = self.retention.clone();
        config.limits = self.limits.clone();
        config.reads = self.reads.clone();
        config.auth = self.auth.clone();
        config.field_strategy = self.merging.fields;
        config.clock = self.merging.clock;
        config.crdt = self.merging.crdt;
        config
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    // Only the message: the library's excerpt of the file may contain a secret.
    toml::from_str(&text)
        .map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message()))
}

fn check_entities(
    entities: &BTreeMap<String, EntitySection>,
    strategy: Option<FieldMergeStrategy>,
) -> anyhow::Result<()> {
    for (name, section) in entities {
        let rules = section.rules(strategy);
        rules.with_context(|| format!("entities.{name}"))?;
        ensure!(
            !section.rls || !section.has_policies(),
            "entities.{name} has rls = true and policies of its own; one of the two decides"
        );
    }
    Ok(())
}

/// Reads numbers from the environment, or else from the file.
struct Numbers<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Numbers<'_> {
    fn database(&self, file: &DatabaseSection) -> anyhow::Result<DatabaseConfig> {
        let mut config = DatabaseConfig::default();
        self.set(&mut config.pool_size, "DATABASE_POOL_SIZE", file.pool_size)?;
        self.set(
            &mut config.connect_timeout_ms,
            "DATABASE_CONNECT_TIMEOUT_MS",
            file.connect_timeout_ms,
        )?;
        self.set(
            &mut config.statement_timeout_ms,
            "DATABASE_STATEMENT_TIMEOUT_MS",
            file.statement_timeout_ms,
        )?;
        Ok(config)
    }

    /// How tokens are verified; none when no key says anything of tokens.
    fn jwt(&self, file: &AuthSection) -> anyhow::Result<Option<JwtConfig>> {
        let text = |name: &str| (self.env)(&format!("RHTMX_SYNC_AUTH_{name}"));
        let texts = |name: &str| {
            text(name).map(|list| {
                list.split(',')
                    .map(|item| item.trim().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        let sources = [text("JWT_SECRET"), text("JWKS_FILE"), text("JWKS_URL")];
        let mut config = JwtConfig::default();
        // A source in the environment overrides whichever the file has.
        if sources.iter().any(Option::is_some) {
            let [secret, path, url] = sources;
            (config.jwt_secret, config.jwks_file, config.jwks_url) =
                (secret, path.map(PathBuf::from), url);
        } else {
            config.jwt_secret = file.jwt_secret.clone();
            config.jwks_file = file.jwks_file.clone();
            config.jwks_url = file.jwks_url.clone();
        }
        config.jwks_ca_file = text("JWKS_CA_FILE")
            .map(PathBuf::from)
            .or_else(|| file.jwks_ca_file.clone());
        let algorithms = texts("ALGORITHMS").or_else(|| file.algorithms.clone());
        let issuer = texts("ISSUER").or_else(|| file.issuer.clone().map(Vec::from));
        let audience = texts("AUDIENCE").or_else(|| file.audience.clone().map(Vec::from));
        let roles = texts("ROLES").or_else(|| file.roles.clone());
        self.set(&mut config.anonymous, "AUTH_ANONYMOUS", file.anonymous)?;
        let is_empty =
            config.jwt_secret.is_none() && config.jwks_file.is_none() && config.jwks_url.is_none();
        if is_empty {
            let rest = config.anonymous
                || config.jwks_ca_file.is_some()
                || [&algorithms, &issuer, &audience, &roles]
                    .iter()
                    .any(|list| list.is_some());
            ensure!(
                !rest,
                "[auth]: set one of auth.jwt_secret, auth.jwks_file and auth.jwks_url"
            );
            return Ok(None);
        }
        config.algorithms = algorithms.unwrap_or_default();
        config.issuer = issuer.unwrap_or_default();
        config.audience = audience.unwrap_or_default();
        config.roles = roles.unwrap_or_default();
        self.set(
            &mut config.jwks_refresh_ms,
            "AUTH_JWKS_REFRESH_MS",
            file.jwks_refresh_ms,
        )?;
        self.set(
            &mut config.jwks_age_max_ms,
            "AUTH_JWKS_AGE_MAX_MS",
            file.jwks_age_max_ms,
        )?;
        self.set(&mut config.leeway_ms, "AUTH_LEEWAY_MS", file.leeway_ms)?;
        Ok(Some(config))
    }

    fn retention(&self, file: &RetentionSection) -> anyhow::Result<RetentionConfig> {
        let mut config = RetentionConfig::default();
        self.set(&mut config.hours, "RETENTION_HOURS", file.hours)?;
        self.set(
            &mut config.size_max_mb,
            "RETENTION_SIZE_MAX_MB",
            file.size_max_mb,
        )?;
        self.set(
            &mut config.interval_ms,
            "RETENTION_INTERVAL_MS",
            file.interval_ms,
        )?;
        // As long as devices may be offline.
        config.clock_hours = config.hours;
        self.set(
            &mut config.clock_hours,
            "RETENTION_CLOCK_HOURS",
            file.clock_hours,
        )?;
        Ok(config)
    }

    fn limits(&self, file: &LimitsSection) -> anyhow::Result<LimitsConfig> {
        let mut config = LimitsConfig::default();
        self.set(
            &mut config.frame_bytes_max,
            "LIMITS_FRAME_BYTES_MAX",
            file.frame_bytes_max,
        )?;
        self.set(
            &mut config.subscriptions_max,
            "LIMITS_SUBSCRIPTIONS_MAX",
            file.subscriptions_max,
        )?;
        self.set(&mut config.writes_max, "LIMITS_WRITES_MAX", file.writes_max)?;
        self.set(
            &mut config.queue_batches_max,
            "LIMITS_QUEUE_BATCHES_MAX",
            file.queue_batches_max,
        )?;
        let budgets = [
            (
                &mut config.filter_work_max,
                "LIMITS_FILTER_WORK_MAX",
                file.filter_work_max,
            ),
            (
                &mut config.entity_filter_work_max,
                "LIMITS_ENTITY_FILTER_WORK_MAX",
                file.entity_filter_work_max,
            ),
            (
                &mut config.filter_bytes_max,
                "LIMITS_FILTER_BYTES_MAX",
                file.filter_bytes_max,
            ),
            (
                &mut config.filter_bytes_total_max,
                "LIMITS_FILTER_BYTES_TOTAL_MAX",
                file.filter_bytes_total_max,
            ),
            (
                &mut config.set_values_total_max,
                "LIMITS_SET_VALUES_TOTAL_MAX",
                file.set_values_total_max,
            ),
            (
                &mut config.window_rows_max,
                "LIMITS_WINDOW_ROWS_MAX",
                file.window_rows_max,
            ),
            (
                &mut config.queue_bytes_max,
                "LIMITS_QUEUE_BYTES_MAX",
                file.queue_bytes_max,
            ),
            (
                &mut config.queue_bytes_total_max,
                "LIMITS_QUEUE_BYTES_TOTAL_MAX",
                file.queue_bytes_total_max,
            ),
            (
                &mut config.connections_of_user_max,
                "LIMITS_CONNECTIONS_OF_USER_MAX",
                file.connections_of_user_max,
            ),
            (
                &mut config.connections_of_address_max,
                "LIMITS_CONNECTIONS_OF_ADDRESS_MAX",
                file.connections_of_address_max,
            ),
            (
                &mut config.reads_of_user_max,
                "LIMITS_READS_OF_USER_MAX",
                file.reads_of_user_max,
            ),
            (
                &mut config.shapes_of_user_max,
                "LIMITS_SHAPES_OF_USER_MAX",
                file.shapes_of_user_max,
            ),
            (
                &mut config.tickets_max,
                "LIMITS_TICKETS_MAX",
                file.tickets_max,
            ),
            (
                &mut config.tickets_of_user_max,
                "LIMITS_TICKETS_OF_USER_MAX",
                file.tickets_of_user_max,
            ),
        ];
        for (budget, name, from_file) in budgets {
            self.set(budget, name, from_file)?;
        }
        self.set(
            &mut config.heartbeat_ms,
            "LIMITS_HEARTBEAT_MS",
            file.heartbeat_ms,
        )?;
        self.set(
            &mut config.hello_timeout_ms,
            "LIMITS_HELLO_TIMEOUT_MS",
            file.hello_timeout_ms,
        )?;
        self.set(
            &mut config.stalled_timeout_ms,
            "LIMITS_STALLED_TIMEOUT_MS",
            file.stalled_timeout_ms,
        )?;
        self.set(
            &mut config.frames_per_second,
            "LIMITS_FRAMES_PER_SECOND",
            file.frames_per_second,
        )?;
        self.set(
            &mut config.bytes_per_second,
            "LIMITS_BYTES_PER_SECOND",
            file.bytes_per_second,
        )?;
        self.set(
            &mut config.pushes_per_second_of_user,
            "LIMITS_PUSHES_PER_SECOND_OF_USER",
            file.pushes_per_second_of_user,
        )?;
        self.set(
            &mut config.writes_per_second_of_user,
            "LIMITS_WRITES_PER_SECOND_OF_USER",
            file.writes_per_second_of_user,
        )?;
        self.set(
            &mut config.wrong_tokens_per_second,
            "LIMITS_WRONG_TOKENS_PER_SECOND",
            file.wrong_tokens_per_second,
        )?;
        Ok(config)
    }

    fn connections(&self, file: &ConnectionsSection) -> anyhow::Result<ConnectionsConfig> {
        let mut config = ConnectionsConfig::default();
        self.set(&mut config.max, "CONNECTIONS_MAX", file.max)?;
        self.set(
            &mut config.per_address_max,
            "CONNECTIONS_PER_ADDRESS_MAX",
            file.per_address_max,
        )?;
        self.set(
            &mut config.header_timeout_ms,
            "CONNECTIONS_HEADER_TIMEOUT_MS",
            file.header_timeout_ms,
        )?;
        self.set(
            &mut config.write_timeout_ms,
            "CONNECTIONS_WRITE_TIMEOUT_MS",
            file.write_timeout_ms,
        )?;
        Ok(config)
    }

    fn reads(&self, file: &ReadsSection) -> anyhow::Result<ReadsConfig> {
        let mut config = ReadsConfig::default();
        self.set(
            &mut config.page_rows_max,
            "READS_PAGE_ROWS_MAX",
            file.page_rows_max,
        )?;
        self.set(
            &mut config.page_bytes_max,
            "READS_PAGE_BYTES_MAX",
            file.page_bytes_max,
        )?;
        self.set(&mut config.rows_max, "READS_ROWS_MAX", file.rows_max)?;
        self.set(
            &mut config.subquery_timeout_ms,
            "READS_SUBQUERY_TIMEOUT_MS",
            file.subquery_timeout_ms,
        )?;
        self.set(
            &mut config.long_polls_max,
            "READS_LONG_POLLS_MAX",
            file.long_polls_max,
        )?;
        self.set(
            &mut config.waiting_max,
            "READS_WAITING_MAX",
            file.waiting_max,
        )?;
        self.set(
            &mut config.resume_entries_max,
            "READS_RESUME_ENTRIES_MAX",
            file.resume_entries_max,
        )?;
        self.set(
            &mut config.spool_memory_bytes_max,
            "READS_SPOOL_MEMORY_BYTES_MAX",
            file.spool_memory_bytes_max,
        )?;
        self.set(
            &mut config.spool_bytes_max,
            "READS_SPOOL_BYTES_MAX",
            file.spool_bytes_max,
        )?;
        self.set(
            &mut config.spools_bytes_max,
            "READS_SPOOLS_BYTES_MAX",
            file.spools_bytes_max,
        )?;
        let directory = (self.env)("RHTMX_SYNC_READS_SPOOL_DIRECTORY").map(PathBuf::from);
        config.spool_directory = directory.or_else(|| file.spool_directory.clone());
        if let Some(directory) = &config.spool_directory {
            ensure!(
                directory.is_dir(),
                "reads.spool_directory: {} is not a directory",
                directory.display()
            );
        }
        Ok(config)
    }

    /// Sets `target` from `RHTMX_SYNC_<name>`, or else from the file.
    fn set<T: std::str::FromStr>(
        &self,
        target: &mut T,
        name: &str,
        from_file: Option<T>,
    ) -> anyhow::Result<()> {
        let name = format!("RHTMX_SYNC_{name}");
        if let Some(text) = (self.env)(&name) {
            let Ok(number) = text.parse() else {
                bail!("{name}: {text:?} is not a number in range")
            };
            *target = number;
        } else if let Some(number) = from_file {
            *target = number;
        }
        Ok(())
    }
}

fn entity(name: &str, table: Option<String>) -> EntityConfig {
    match table {
        Some(table) => EntityConfig::on_table(name, table),
        None => EntityConfig::new(name),
    }
}

fn named_entity(named: &str) -> anyhow::Result<EntityConfig> {
    let (name, table) = match named.split_once('=') {
        Some((name, table)) => (name, Some(table.to_owned())),
        None => (named, None),
    };
    ensure!(
        !name.is_empty() && table.as_deref() != Some(""),
        "--entity {named:?}: expected NAME or NAME=TABLE"
    );
    Ok(entity(name, table))
}

#[cfg(test)]
mod tests;
