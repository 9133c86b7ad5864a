//! The engine as an application sees it: started, queried and stopped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use db::entity::{EntityConfig, EntitySource};
use db::{DbPool, MESSAGE_BYTES_MAX};
use filter::Backend;
use sync_core::doctor::{self, Finding, Rights, Setup};
use sync_core::policy::{Internal, Principal, PrincipalMatch, ReadScope};
use tracing::warn;

use crate::change_tracker::ChangeTracker;
use crate::config::SyncConfig;
use crate::error::SyncError;
use crate::field_tracker::FieldTracker;
use crate::server_message::ServerMessage;
use crate::state::{EngineState, Readiness};
use crate::{http, row_security, startup};

/// How long [`SyncEngine::new`] waits for the first connection before it returns anyway.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);
/// The connections that the listener opens beside the pool's.
const LISTENER_CONNECTIONS: u32 = 2;
/// How long a shutdown waits for sessions and mutations.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// A running engine. Cheap to clone; it runs until [`SyncEngine::shutdown`].
#[derive(Debug, Clone)]
pub struct SyncEngine {
    state: Arc<EngineState>,
}

impl SyncEngine {
    /// Prepares the database (migrations, triggers) and starts to listen.
    ///
    /// A database that is out of reach is not an error: the engine keeps trying, and
    /// [`SyncEngine::readiness`] says so. Call this inside a tokio runtime with several threads.
    ///
    /// # Errors
    /// When the configuration contradicts itself, an entity's table is missing or has no primary key, or the
    /// database refuses what the engine needs.
    pub async fn new(mut config: SyncConfig) -> Result<Self, SyncError> {
        check(&config)?;
        config.entities = config.ruled_entities();
        close_internal(&mut config);
        tell_of_policies(&config);
        tell_of_records(&config);
        config.db_pool = config.db_pool.configured(&config.database)?;
        let state = Arc::new(EngineState::new(config));
        let engine = Self {
            state: state.clone(),
        };
        if startup::start(&state).await? {
            let _ = tokio::time::timeout(FIRST_CONNECTION, engine.ready()).await;
        }
        Ok(engine)
    }

    /// The routes, to be merged into or nested in an application with any state.
    ///
    /// They have no fallback, so all other routes remain the application's.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        http::routes(&self.state)
    }

    pub(crate) fn state(&self) -> &Arc<EngineState> {
        &self.state
    }

    /// Waits until clients can be served.
    pub async fn ready(&self) {
        let mut readiness = self.state.readiness.subscribe();
        // It cannot fail: the sender lives in `state`.
        let _ = readiness
            .wait_for(|readiness| *readiness == Readiness::Ready)
            .await;
    }

    /// Returns whether clients can be served, and if not, why.
    pub fn readiness(&self) -> Readiness {
        if self.state.shutdown.is_cancelled() {
            return Readiness::NotReady("shutting down".to_owned());
        }
        self.state.readiness.borrow().clone()
    }

    /// What cannot be read at the moment, a line for each entity, for people. Everything else is served.
    pub fn unreadable(&self) -> Vec<String> {
        let report = self.state.config.db_pool.health().report();
        let lines = report.into_iter().map(|found| match found.reason {
            Some(reason) => format!("{:?} cannot be read: {}", found.entity, reason.as_str()),
            None => format!("{:?} has {} unreadable rows", found.entity, found.rows),
        });
        lines.collect()
    }

    /// The log, for Rust code in this process.
    pub fn change_tracker(&self) -> ChangeTracker {
        ChangeTracker::new(self.state.clone())
    }

    /// The fields of rows that merge by them, with their clocks, for Rust code in this process.
    pub fn field_tracker(&self) -> FieldTracker {
        FieldTracker::new(self.state.clone())
    }

    /// Ends the sessions of these principals on **this** server at once (4401), streams of events and long polls among them,
    /// and returns how many there were. One whose token is being verified meanwhile is not let in. A client with a token
    /// that is still valid may connect again: make your authenticator, or what your middleware asks, refuse it first.
    ///
    /// A closure cannot be sent to other servers: [`SyncEngine::disconnect_everywhere`] takes a value that can.
    pub fn disconnect(&self, whom: impl Fn(&Principal) -> bool + Send + Sync + 'static) -> usize {
        self.state.disconnect(whom)
    }

    /// Ends the sessions of these principals on every server of this database, as [`SyncEngine::disconnect`] does on one.
    ///
    /// The others are told by a notification. One whose listener is not connected to PostgreSQL at this moment, or polls
    /// the log, does not hear it, and on SQLite no other process does: there, a session ends with its token.
    ///
    /// # Errors
    /// When the match is longer than a notification, or the database fails. The sessions of this server have ended then.
    pub async fn disconnect_everywhere(&self, whom: PrincipalMatch) -> Result<(), SyncError> {
        let here = whom.clone();
        self.state
            .disconnect(move |principal| here.matches(principal));
        let message = serde_json::to_string(&ServerMessage::Disconnect(whom))
            .map_err(|error| SyncError::Config(error.to_string()))?;
        if message.len() > MESSAGE_BYTES_MAX {
            let text = format!("the match is longer than {MESSAGE_BYTES_MAX} bytes");
            return Err(SyncError::Config(text));
        }
        Ok(self.state.config.db_pool.send_message(&message).await?)
    }

    /// Ends every session with close code 1001, lets mutations that are being applied finish, and stops.
    /// Routes that are still served answer that the server is shutting down.
    pub async fn shutdown(&self) {
        self.state.shutdown.cancel();
        self.state.tasks.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.state.tasks.wait())
            .await
            .is_err()
        {
            warn!("shutting down before all sessions and mutations have ended");
        }
    }

    /// Examines the database of this configuration, and changes nothing: whether it can be synced, and what mends what
    /// cannot. SQLite needs no setting up, so there is little to find.
    ///
    /// # Errors
    /// When the database is out of reach or refuses the connection.
    pub async fn examine(config: &SyncConfig) -> Result<Vec<Finding>, SyncError> {
        let database = &config.database;
        let pool = config.db_pool.configured(database)?;
        let Some(mut facts) = Box::pin(pool.facts(database, &config.entities)).await? else {
            return Ok(vec![doctor::of_sqlite()]);
        };
        for table in &mut facts.tables {
            table.rights = rights(config, &table.entity);
        }
        let setup = Setup {
            has_listen_url: database.listen_url.is_some(),
            connections: database.pool_size + LISTENER_CONNECTIONS,
            pool_size: database.pool_size,
            log_bytes_max: config.retention.size_max_mb.saturating_mul(1_048_576),
            retention_hours: config.retention.hours,
            retention_interval_ms: config.retention.interval_ms,
        };
        let mut findings = doctor::examine(&facts, &setup);
        for entity in config.entities.iter().filter(|entity| entity.rls) {
            findings.extend(row_security::examine(&pool, entity).await?);
        }
        Ok(findings)
    }

    /// Explains the row level security of an entity to people, and changes nothing: for each role, the class of each
    /// condition, what PostgreSQL is asked, and what the answer depends on. Without names, for all roles that the engine's
    /// may become and that may read the table.
    ///
    /// # Errors
    /// When the database is out of reach, is SQLite, or has no such table.
    pub async fn explain_policies(
        config: &SyncConfig,
        entity: &EntityConfig,
        roles: &[String],
    ) -> Result<String, SyncError> {
        let pool = config.db_pool.configured(&config.database)?;
        let explained = row_security::explain(&pool, entity, roles).await?;
        Ok(explained.to_string())
    }

    /// Removes the triggers of these entities, or of all that have any, and returns their names. When an
    /// entity is captured again later, its clients refetch it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn uncapture(
        db_pool: &DbPool,
        only: Option<&[String]>,
    ) -> Result<Vec<String>, SyncError> {
        Ok(db_pool.uninstall(only).await?)
    }
}

fn check(config: &SyncConfig) -> Result<(), SyncError> {
    let wrong = |text: String| Err(SyncError::Config(text));
    let prefix = &config.prefix;
    if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['{', '}', '*']) {
        return wrong(format!(
            "prefix {prefix:?} must begin with a slash, not end with one, and contain no braces or asterisk"
        ));
    }
    for origin in &config.auth.allowed_origins {
        check_origin(origin).map_err(|reason| {
            SyncError::Config(format!(
                "allowed_origins: {origin:?} would never match: {reason}"
            ))
        })?;
    }
    for host in &config.auth.allowed_hosts {
        let is_name = !host.is_empty() && !host.contains(['/', ':', '?', '#']) && host.is_ascii();
        if !is_name || (host.contains('*') && host != "*") {
            return wrong(format!(
                "allowed_hosts: {host:?} must be a host name without scheme and port, such as \"app.example\", or \"*\""
            ));
        }
    }
    let reserved: BTreeSet<&str> = http::reserved_names().collect();
    let mut seen = BTreeSet::new();
    row_security::check_settings(&config.auth.settings)?;
    check_row_level(config)?;
    for EntityConfig {
        name,
        source,
        fields,
        ..
    } in &config.entities
    {
        if fields.is_some() && !matches!(source, EntitySource::Table(_)) {
            return wrong(format!(
                "entity {name:?} has rules for merging by fields, but no table"
            ));
        }
        if name.is_empty() || name.contains('\0') {
            return wrong("an entity's name is empty or contains a NUL character".to_owned());
        }
        if reserved.contains(name.as_str()) {
            return wrong(format!("the entity name {name:?} is reserved for a route"));
        }
        if !seen.insert(name) {
            return wrong(format!("entity {name:?} is configured twice"));
        }
    }
    let guarded = config.auth.authorizer.entities();
    let mut internal = config.entities.iter().filter(|entity| entity.internal);
    if let Some(entity) = internal.find(|entity| guarded.contains(&entity.name)) {
        return wrong(format!(
            "there are policies for {:?}, which is internal: no client reads or writes it",
            entity.name
        ));
    }
    if let Some(fault) = config.mutators.fault(&seen) {
        return wrong(fault);
    }
    if let Some(name) = guarded.into_iter().find(|name| !seen.contains(name)) {
        return wrong(format!(
            "there are policies for {name:?}, which is no entity"
        ));
    }
    Ok(())
}

/// Checks that nothing but the policies of its table decides about an entity with `rls = true`.
fn check_row_level(config: &SyncConfig) -> Result<(), SyncError> {
    let guarded = config.auth.authorizer.entities();
    for EntityConfig {
        name,
        source,
        internal,
        fields,
        ..
    } in config.entities.iter().filter(|entity| entity.rls)
    {
        let why = if config.db_pool.filter_backend() != Backend::Postgres {
            "only PostgreSQL has row level security"
        } else if !matches!(source, EntitySource::Table(_)) {
            "it has no table, and so no policies"
        } else if *internal {
            "it is internal: no client reads or writes it"
        } else if guarded.contains(name) {
            "there are policies for it in the configuration, too; those of its table are the only ones then"
        } else if fields.is_some() {
            "it has rules for merging by fields; rows that row level security decides about are replaced whole"
        } else {
            continue;
        };
        return Err(SyncError::Config(format!(
            "entity {name:?} has rls = true, but {why}"
        )));
    }
    Ok(())
}

/// Who says what clients may do with an entity.
fn rights(config: &SyncConfig, entity: &str) -> Rights {
    let authorizer = &config.auth.authorizer;
    match config.entities.iter().find(|found| found.name == entity) {
        Some(found) if found.internal => return Rights::Internal,
        Some(found) if found.rls => return Rights::RowSecurity,
        _ if authorizer.is_closed(entity) => return Rights::Closed,
        _ => {}
    }
    match authorizer.read(&Principal::default(), entity) {
        ReadScope::Everything => Rights::Everybody,
        _ => Rights::Policies,
    }
}

/// Closes internal entities for clients, whatever the authorizer says.
fn close_internal(config: &mut SyncConfig) {
    let internal = config.entities.iter().filter(|entity| entity.internal);
    let internal: BTreeSet<String> = internal.map(|entity| entity.name.clone()).collect();
    if !internal.is_empty() {
        let authorizer = config.auth.authorizer.clone();
        config.auth.authorizer = Arc::new(Internal::new(internal, authorizer));
    }
}

/// Names the entities that no client can use, and what is doubtful about the policies of the others.
fn tell_of_policies(config: &SyncConfig) {
    let served = config.entities.iter().filter(|it| !it.internal && !it.rls);
    let names = served.map(|entity| &entity.name);
    for entity in names.filter(|name| config.auth.authorizer.is_closed(name)) {
        warn!(
            entity,
            "the entity {entity:?} has no policies, so no client can read or write it"
        );
    }
    for doubt in config.auth.authorizer.doubts() {
        warn!("{doubt}");
    }
}

/// Names the entities that nodes of the family do not get though they merge by their fields.
fn tell_of_records(config: &SyncConfig) {
    let ruled = config.entities.iter().filter(|it| it.fields.is_some());
    for entity in ruled.filter(|entity| config.crdt && !entity.records) {
        let entity = &entity.name;
        warn!(
            entity,
            "apps on sqlite_crdt do not sync {entity:?}: it has a counter, a set, or a column that is the greatest or the least, \
             which whole rows would overwrite"
        );
    }
}

/// Checks that a browser could send this origin: `scheme://host`, with a port unless it is the scheme's own.
fn check_origin(origin: &str) -> Result<(), &'static str> {
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err("an origin is written like \"https://app.example\"");
    };
    if scheme.is_empty() || host.is_empty() {
        return Err("an origin has a scheme and a host");
    }
    if host.contains(['/', '?', '#']) {
        return Err("an origin has no path, nor a slash at its end");
    }
    if origin.contains('*') {
        return Err("patterns are not supported; list each origin");
    }
    if origin.contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace() || !c.is_ascii()) {
        return Err("browsers send origins in lower case, and names in ASCII");
    }
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Ok(()),
    };
    if host.ends_with(own_port) {
        return Err("browsers leave the scheme's own port out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_origin;

    #[test]
    fn an_origin_that_no_browser_sends_is_an_error() {
        for origin in [
            "https://app.example",
            "http://localhost:3000",
            "http://[::1]:8080",
            "capacitor://localhost",
        ] {
            assert_eq!(check_origin(origin), Ok(()), "{origin}");
        }
        for origin in [
            "*",
            "app.example",
            "https://*.example",
            "https://app.example/",
            "https://App.example",
            "https://app.example:443",
            "http://app.example:80",
            "null",
            "https://",
            "https://app.example ",
        ] {
            assert!(check_origin(origin).is_err(), "{origin}");
        }
    }
}
