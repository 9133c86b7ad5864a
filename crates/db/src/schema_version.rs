//! The version of the application's own tables, and how they get to another one: in one transaction, for which
//! another program that comes at the same time waits.

use crate::error::DbResult;
#[cfg(feature = "postgres")]
use crate::postgres;
#[cfg(feature = "sqlite")]
use crate::sqlite;

/// A transaction in which the application's tables get to another version. Unless [`SchemaChange::commit`] succeeds, nothing
/// of it is left; end it with that or [`SchemaChange::roll_back`].
pub struct SchemaChange(pub(crate) Backend);

pub(crate) enum Backend {
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::schema_version::SchemaChange>),
    #[cfg(feature = "sqlite")]
    Sqlite(Box<sqlite::schema_version::SchemaChange>),
}

#[cfg(feature = "postgres")]
impl From<postgres::schema_version::SchemaChange> for Backend {
    fn from(change: postgres::schema_version::SchemaChange) -> Self {
        Self::Postgres(change.into())
    }
}

#[cfg(feature = "sqlite")]
impl From<sqlite::schema_version::SchemaChange> for Backend {
    fn from(change: sqlite::schema_version::SchemaChange) -> Self {
        Self::Sqlite(change.into())
    }
}

impl std::fmt::Debug for SchemaChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaChange").finish_non_exhaustive()
    }
}

impl SchemaChange {
    /// The version that the tables have now; 0 where they have none.
    pub fn version(&self) -> u32 {
        let version = match &self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(change) => change.version(),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(change) => change.version(),
        };
        u32::try_from(version).unwrap_or_default()
    }

    /// Runs the application's own statements, which must return no rows and must not end the transaction.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn execute(&mut self, sql: &str) -> DbResult<()> {
        match &mut self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(change) => change.execute(sql).await,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(change) => change.execute(sql).await,
        }
    }

    /// Notes the version that the tables have got to, and commits.
    ///
    /// # Errors
    /// When the database fails, also where one of the statements has failed.
    pub async fn commit(self, version: u32) -> DbResult<()> {
        match self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(change) => change.commit(version).await,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(change) => change.commit(version).await,
        }
    }

    /// Takes everything back.
    pub async fn roll_back(self) {
        match self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(change) => change.roll_back().await,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(change) => change.roll_back().await,
        }
    }
}
