//! The application's tables, and their versions.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use db::DbError;
use db::entity::{EntityConfig, EntitySource};
use db::schema_version::SchemaChange;
use merge::Rules;
use tokio::sync::Mutex;

use super::CrdtError;
use crate::config::SyncConfig;

type Hooked = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;
type Hook = Arc<dyn Fn(SchemaTx, u32, u32) -> Hooked + Send + Sync>;

/// The tables of an application: their version, how they are made, and how they get from one version to the next.
///
/// The version is kept beside the engine's own tables; 0 stands for tables that were never made by this. Who opens the
/// database brings it to the schema's version, in one transaction with what the functions do: two programs that open it at
/// the same time do so once, and after a failure the tables are as they were.
#[derive(Clone)]
pub struct Schema {
    version: u32,
    entities: Vec<EntityConfig>,
    on_create: Option<Hook>,
    on_upgrade: Option<Hook>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("version", &self.version)
            .field("entities", &self.entities)
            .finish_non_exhaustive()
    }
}

impl Schema {
    /// A schema of this version, at least 1, without tables.
    pub fn new(version: u32) -> Self {
        Self {
            version,
            entities: Vec::new(),
            on_create: None,
            on_upgrade: None,
        }
    }

    /// The same with a table whose rows merge: by the ordinary rules, unless the entity has others. Tables that others refer
    /// to come first.
    #[must_use]
    pub fn entity(mut self, entity: impl Into<EntityConfig>) -> Self {
        let entity = entity.into();
        let is_table = matches!(entity.source, EntitySource::Table(_));
        self.entities.push(match &entity.fields {
            None if is_table => entity.fields(Rules::default()),
            _ => entity,
        });
        self
    }

    /// The function that makes all tables of this version where they have none. It may find tables that were made before
    /// they had versions.
    #[must_use]
    pub fn on_create<F, Fut>(self, create: F) -> Self
    where
        F: Fn(SchemaTx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let hook: Hook = Arc::new(move |tx, _, _| Box::pin(create(tx)));
        Self {
            on_create: Some(hook),
            ..self
        }
    }

    /// The function that brings the tables from an older version to this one; it is given both.
    #[must_use]
    pub fn on_upgrade<F, Fut>(self, upgrade: F) -> Self
    where
        F: Fn(SchemaTx, u32, u32) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let hook: Hook = Arc::new(move |tx, from, to| Box::pin(upgrade(tx, from, to)));
        Self {
            on_upgrade: Some(hook),
            ..self
        }
    }

    pub(super) fn entities(&self) -> impl Iterator<Item = EntityConfig> {
        self.entities.iter().cloned()
    }

    /// Brings the tables to this version.
    pub(super) async fn apply(&self, config: &SyncConfig) -> Result<(), CrdtError> {
        if self.version == 0 {
            return Err(CrdtError::NoVersion);
        }
        let pool = &config.db_pool;
        pool.migrate(&config.database).await?;
        if pool.schema_version().await? == self.version {
            return Ok(());
        }
        // Somebody else may be at it, and is waited for.
        let change = pool.begin_schema_change().await?;
        let from = change.version();
        if from >= self.version {
            change.roll_back().await;
            return self.is_known(from);
        }
        let hook = match from {
            0 => &self.on_create,
            _ => &self.on_upgrade,
        };
        let failed = |error| CrdtError::Upgrade {
            from,
            to: self.version,
            error,
        };
        let tx = SchemaTx::new(change);
        let ran = match hook {
            Some(hook) => hook(tx.clone(), from, self.version).await,
            None => Ok(()),
        };
        let Some(change) = tx.change.lock().await.take() else {
            return Err(CrdtError::Ended);
        };
        if let Err(error) = ran {
            change.roll_back().await;
            return Err(failed(error));
        }
        let committed = change.commit(self.version).await;
        committed.map_err(|error| failed(error.into()))
    }

    fn is_known(&self, stored: u32) -> Result<(), CrdtError> {
        match stored > self.version {
            true => Err(CrdtError::NewerVersion {
                stored,
                version: self.version,
            }),
            false => Ok(()),
        }
    }
}

/// The transaction in which tables are made or changed. It does not outlive the function that it was given to.
#[derive(Clone)]
pub struct SchemaTx {
    change: Arc<Mutex<Option<SchemaChange>>>,
}

impl fmt::Debug for SchemaTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaTx").finish_non_exhaustive()
    }
}

impl SchemaTx {
    fn new(change: SchemaChange) -> Self {
        Self {
            change: Arc::new(Mutex::new(Some(change))),
        }
    }

    /// Runs statements, which must return no rows and must not end the transaction.
    ///
    /// # Errors
    /// When a statement fails, or the function has ended. On PostgreSQL the transaction cannot go on then.
    pub async fn execute(&self, sql: &str) -> Result<(), DbError> {
        let mut change = self.change.lock().await;
        match &mut *change {
            Some(change) => change.execute(sql).await,
            None => Err(DbError::Unsupported(
                "the tables are not changed any more".to_owned(),
            )),
        }
    }
}
