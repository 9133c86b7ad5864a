//! The facts that `core::doctor` examines. Nothing is changed: what needs trying is rolled back.

mod listen;
mod queries;
mod tries;

use std::time::{Duration, SystemTime};

use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
    TransactionManager as _,
};
use serde::de::DeserializeOwned;
use sync_core::doctor::{ConnectionFacts, Facts, RoleFacts, TableFacts};
use sync_core::incarnation::ProductFacts;

use super::address::{Address, Authorities, TlsMode};
use super::pool::PostgresPool;
use super::pooling;
use super::store::SEARCH_PATH;
use crate::config::DatabaseConfig;
use crate::entity::{EntityConfig, EntitySource};
use crate::error::{DbError, DbResult};
use crate::pooling::Pooling;

const CONTEXT: &str = "examining the database";

/// How long one question may take, so that a locked catalog is no reason to wait for ever.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    answer: String,
}

impl PostgresPool {
    /// What the database says of itself, of the engine's role, and of the tables of these entities.
    pub(crate) async fn facts(
        &self,
        config: &DatabaseConfig,
        entities: &[EntityConfig],
    ) -> DbResult<Facts> {
        let (pool_url, connector) = self.address();
        let connector = connector.to_any_server();
        let listener = self.direct(config)?.to_any_server();
        let listen_url = config.listen_url.as_deref().unwrap_or(pool_url);
        let is_pooled = pooling::probe(&connector).await? == Pooling::Transaction;
        let is_listener_pooled = match &config.listen_url {
            None => is_pooled,
            Some(_) => pooling::probe(&listener).await? == Pooling::Transaction,
        };
        let mut conn = connector.connect_diesel(TIMEOUT).await?;
        let clock_ahead_ms = clock_ahead(&mut conn).await?;
        let mut facts = look(&mut conn, entities).await?;
        facts.tried = tries::run(&mut conn, &facts).await?;
        facts.clock_ahead_ms = clock_ahead_ms;
        facts.pool = connection_facts(pool_url, is_pooled)?;
        facts.pool.is_standby = facts.server.is_standby;
        facts.listener = connection_facts(listen_url, is_listener_pooled)?;
        facts.listener.is_standby = match &config.listen_url {
            None => facts.server.is_standby,
            Some(_) => listen::is_standby(&listener).await?,
        };
        let may_listen = !is_listener_pooled && !facts.listener.is_standby;
        facts.is_notified = may_listen && listen::is_notified(&listener).await?;
        Ok(facts)
    }
}

/// Everything that the catalog says, in one transaction.
async fn look(conn: &mut AsyncPgConnection, entities: &[EntityConfig]) -> DbResult<Facts> {
    let failed = |error| DbError::while_doing(CONTEXT, error);
    AnsiTransactionManager::begin_transaction(conn)
        .await
        .map_err(failed)?;
    // These depend on the role's search path; what follows runs on PostgreSQL's own.
    let mut role: RoleFacts = ask(conn, queries::ROLE).await?;
    role.language = language(conn, role.language).await?;
    let mut tables = Vec::new();
    for entity in entities {
        let EntitySource::Table(table) = &entity.source else {
            continue;
        };
        let oid: Option<i64> = ask(conn, &queries::find(table)).await?;
        tables.push((entity, table, oid));
    }
    conn.batch_execute(&format!("SET LOCAL {SEARCH_PATH}"))
        .await
        .map_err(failed)?;
    let log_schema = role.log_schema.as_deref().filter(|_| role.owns_log);
    let mut described = Vec::new();
    for (entity, table, oid) in tables {
        let mut facts: TableFacts = match oid {
            Some(oid) => ask(conn, &queries::table(oid, &entity.name, log_schema)).await?,
            None => ask(conn, &queries::elsewhere(table)).await?,
        };
        facts.entity.clone_from(&entity.name);
        facts.configured.clone_from(table);
        described.push(facts);
    }
    let log = match log_schema {
        Some(schema) => Some(ask(conn, &queries::log(schema)).await?),
        None => None,
    };
    let product: ProductFacts = ask(conn, &queries::product()).await?;
    let facts = Facts {
        server: ask(conn, queries::SERVER).await?,
        product,
        tried: Vec::new(),
        pool: ConnectionFacts::default(),
        listener: ConnectionFacts::default(),
        is_notified: false,
        clock_ahead_ms: 0,
        role,
        tables: described,
        log,
        transactions: ask(conn, queries::TRANSACTIONS).await?,
    };
    AnsiTransactionManager::rollback_transaction(conn)
        .await
        .map_err(failed)?;
    Ok(facts)
}

/// What one value of JSON says.
async fn ask<T: DeserializeOwned>(conn: &mut AsyncPgConnection, expression: &str) -> DbResult<T> {
    let sql = format!("SELECT coalesce(({expression})::pg_catalog.text, 'null') AS answer");
    let row: Answer = sql_query(sql)
        .get_result(conn)
        .await
        .map_err(|error| DbError::while_doing(CONTEXT, error))?;
    serde_json::from_str(&row.answer).map_err(|error| DbError::Statement {
        context: CONTEXT,
        message: error.to_string(),
    })
}

/// The messages' language, unless it is English or can be chosen.
async fn language(conn: &mut AsyncPgConnection, found: Option<String>) -> DbResult<Option<String>> {
    let is_english = |language: &String| {
        ["C", "POSIX", "en", "English"]
            .iter()
            .any(|english| language.starts_with(english))
    };
    let Some(foreign) = found.filter(|language| !language.is_empty() && !is_english(language))
    else {
        return Ok(None);
    };
    let may_choose = tries::succeeds(conn, "SET LOCAL lc_messages = 'C'").await?;
    Ok(may_choose.is_some().then_some(foreign))
}

/// By how much the server's clock is ahead, give or take half of the answer's way.
async fn clock_ahead(conn: &mut AsyncPgConnection) -> DbResult<i64> {
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0.0, |since| since.as_secs_f64() * 1000.0)
    };
    AnsiTransactionManager::begin_transaction(conn)
        .await
        .map_err(|error| DbError::while_doing(CONTEXT, error))?;
    let before = now();
    let theirs: f64 = ask(conn, queries::CLOCK).await?;
    let after = now();
    AnsiTransactionManager::rollback_transaction(conn)
        .await
        .map_err(|error| DbError::while_doing(CONTEXT, error))?;
    Ok((theirs - f64::midpoint(before, after)).round() as i64)
}

fn connection_facts(url: &str, is_pooled: bool) -> DbResult<ConnectionFacts> {
    let address = Address::parse(url)?;
    let tls = &address.tls;
    let has_authority = tls.authorities != Authorities::Unnamed;
    Ok(ConnectionFacts {
        is_pooled,
        is_standby: false,
        is_local: address.is_local(),
        is_encrypted: tls.mode >= TlsMode::Require,
        is_verified: tls.mode >= TlsMode::VerifyCa || tls.mode == TlsMode::Require && has_authority,
    })
}
