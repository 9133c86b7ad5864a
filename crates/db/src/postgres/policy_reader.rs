//! A connection that reads policies and asks them, in transactions of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use diesel_async::{AsyncConnection as _, SimpleAsyncConnection as _};
use filter::{Backend, Table};
use rls::{Draft, Group, Guard, GuardDraft, Plan, Policy, Sources, TableFacts};
use sync_core::membership::Relations;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;
use value::schema::Schema;

use super::rls::ask;
use super::rls::reply::{Asked, Subject, Surroundings};
use super::rls::visible::visible_sql;
use super::rls::watch::CatalogVersion;
use super::rls::{catalog, settings, watch};
use crate::catalog::DescribeError;
use crate::entity::{Entity, EntityConfig, EntitySource};
use crate::error::{DbError, DbResult, Failed};
use crate::postgres::catalog as describe;
use crate::postgres::connect::failed;
use crate::postgres::pool::PostgresPool;
use crate::postgres::store::SEARCH_PATH;

const CONTEXT: &str = "asking policies";

/// How long all questions of one group may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection for policies.
#[derive(Debug)]
pub struct PolicyReader {
    client: Client,
    pool: PostgresPool,
    /// The search path of sessions that set none.
    search_path: String,
    timeout: Duration,
    _driving: AbortOnDropHandle<()>,
}

impl PolicyReader {
    pub(crate) async fn open(pool: &PostgresPool) -> DbResult<Self> {
        let (client, connection) = pool.connector.connect().await?;
        let driving = tokio::spawn(async move {
            // The next statement fails when it has ended.
            let _ = connection.await;
        });
        let path = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'";
        let found = client.query_typed_one(path, &[]).await;
        let found = found.and_then(|row| row.try_get(0));
        Ok(Self {
            pool: pool.clone(),
            search_path: found.map_err(|error| failed(CONTEXT, &error))?,
            client,
            timeout: TIMEOUT,
            _driving: AbortOnDropHandle::new(driving),
        })
    }

    /// The same reader, whose statements may take this long; for the questions of one group, 5 seconds by default.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The table of an entity as it is now; none when it is missing. Nothing is installed.
    ///
    /// # Errors
    /// When the database fails. The inner error says why the table cannot be synced.
    pub async fn describe(
        &self,
        config: &EntityConfig,
    ) -> DbResult<Result<Option<Entity>, DescribeError>> {
        let EntitySource::Table(table) = &config.source else {
            return Ok(Ok(None));
        };
        // The schema of the log counts only for what is installed, so any name will do before there is a log.
        let schema = self
            .pool
            .own_schema()
            .await
            .unwrap_or_else(|_| "pg_catalog".into());
        let mut conn = self.pool.get().await?;
        let described = conn.transaction(async |conn| {
            // The table's name is looked up on the role's search path, and nothing after it.
            let Some(relation) = describe::find(conn, table).await? else {
                return Ok(Ok(None));
            };
            conn.batch_execute(&format!("SET LOCAL {SEARCH_PATH}"))
                .await?;
            let found = describe::describe(
                conn,
                &config.name,
                table,
                &relation,
                &schema,
                config.fields.as_ref(),
            )
            .await?;
            Ok(found.map(|table| Some(table.described.entity)))
        });
        described
            .await
            .map_err(|failed: Failed| failed.while_doing("reading the catalog"))
    }

    /// What the catalog says of an entity's table and of roles; none when the table is missing. Without names, the roles
    /// are those that the engine's role may become and that may read the table, but superusers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn facts(&self, entity: &Entity, roles: &[String]) -> DbResult<Option<TableFacts>> {
        let Some(relation) = &entity.relation else {
            return Ok(None);
        };
        self.begin().await?;
        let facts = catalog::facts(&self.client, relation, roles).await;
        self.end(facts).await
    }

    /// What policies may name, of the whole database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sources(&self) -> DbResult<Sources> {
        self.begin().await?;
        let sources = catalog::sources(&self.client).await;
        self.end(sources).await
    }

    /// The settings that the database's code reads, but those that have a value for every session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settings(&self) -> DbResult<BTreeSet<String>> {
        self.begin().await?;
        let found = settings::settings(&self.client).await;
        self.end(found).await
    }

    /// What is behind the oids of the database's tables, of which these entities' changes are captured.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn relations(&self, entities: &BTreeMap<String, Arc<Entity>>) -> DbResult<Relations> {
        let named = entities.iter();
        let named = named.filter_map(|(name, entity)| Some((name, entity.relation.as_deref()?)));
        let named: BTreeMap<&String, &str> = named.collect();
        self.begin().await?;
        let found = watch::relations(&self.client, &protocol::json::text(&named)).await;
        self.end(found).await
    }

    /// What differs when a policy, a function, a view, a right or a role has changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn version(&self) -> DbResult<CatalogVersion> {
        self.begin().await?;
        let version = watch::version(&self.client).await;
        self.end(version).await
    }

    /// The search path of sessions that set none.
    pub fn search_path(&self) -> &str {
        &self.search_path
    }

    /// The plan of policies.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan(
        &self,
        facts: &TableFacts,
        permissive: &[&Policy],
        restrictive: &[&Policy],
        schema: &Schema,
    ) -> DbResult<Plan> {
        let draft = Draft::new(
            facts,
            permissive,
            restrictive,
            Table::new(schema, Backend::Postgres),
        );
        self.begin().await?;
        let plan = catalog::plan(&self.client, draft).await;
        self.end(plan).await
    }

    /// The guards of a draft. None when the table has none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn guards(&self, draft: GuardDraft) -> DbResult<Option<Vec<Guard>>> {
        self.begin().await?;
        let guards = catalog::guards(&self.client, draft).await;
        self.end(guards).await
    }

    /// Asks a plan's questions for several groups, at one snapshot. `known` are the settings that any policy reads.
    ///
    /// # Errors
    /// When the database fails. A question that fails is among [`Asked::failures`].
    pub async fn ask(
        &self,
        entity: &Entity,
        plan: &Plan,
        groups: &[Group],
        known: &BTreeSet<String>,
    ) -> DbResult<Vec<Asked>> {
        let Some(visible) = visible_sql(entity, None) else {
            return Err(DbError::Unsupported(format!(
                "{:?} has no table, so it has no policies",
                entity.schema.entity
            )));
        };
        let schema = self.pool.own_schema().await?;
        let around = Surroundings {
            schema: &schema,
            search_path: &self.search_path,
            known,
        };
        let subject = Subject {
            plan,
            schema: &entity.schema,
            visible: &visible,
            guards: &[],
        };
        self.begin().await?;
        let asked = ask::ask(&self.client, around, subject, groups).await;
        self.end(asked).await
    }

    async fn begin(&self) -> DbResult<()> {
        let timeout = self.timeout.as_millis().max(1);
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL {SEARCH_PATH}; \
             SET LOCAL statement_timeout = {timeout}; SET LOCAL lock_timeout = {timeout}"
        );
        let begun = self.client.batch_execute(&begin).await;
        begun.map_err(|error| failed(CONTEXT, &error))
    }

    async fn end<T>(&self, result: DbResult<T>) -> DbResult<T> {
        let ended = self.client.batch_execute("ROLLBACK").await;
        let value = result?;
        ended.map_err(|error| failed(CONTEXT, &error))?;
        Ok(value)
    }
}
