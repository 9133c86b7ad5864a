//! Mutations whose transaction stays open between their writes, for code that decides in between.
//!
//! They follow the rules of all mutations: the number moves first and the client is locked, so two servers never have
//! the same one open; everything is in one transaction, so nothing of it is left unless it commits.

use std::sync::Arc;

use protocol::{Reject, RowImage, Stamp};
use sync_core::mutation::Applied;

use crate::entity::Entity;
use crate::error::DbResult;
#[cfg(feature = "postgres")]
use crate::postgres;
use crate::read::{ReadError, RowsQuery};
#[cfg(feature = "sqlite")]
use crate::sqlite;
use crate::write::TableWrite;

/// A mutation whose number has moved, in a transaction that is open. Unless [`OpenMutation::commit`] succeeds, nothing of
/// it is left; end it with that, [`OpenMutation::roll_back`] or [`OpenMutation::abandon`].
pub struct OpenMutation(pub(crate) Backend);

pub(crate) enum Backend {
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::open::OpenMutation>),
    #[cfg(feature = "sqlite")]
    Sqlite(Box<sqlite::open::OpenMutation>),
}

/// The connection of an open mutation.
pub enum OpenConnection<'a> {
    /// To PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'a mut PostgresConnection),
    /// To SQLite; it does its work on blocking threads.
    #[cfg(feature = "sqlite")]
    Sqlite(&'a mut SqliteConnection),
}

/// A connection to PostgreSQL.
#[cfg(feature = "postgres")]
pub type PostgresConnection = diesel_async::AsyncPgConnection;

/// A connection to SQLite.
#[cfg(feature = "sqlite")]
pub type SqliteConnection = sqlite::connect::SqliteConn;

impl std::fmt::Debug for OpenMutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenMutation").finish_non_exhaustive()
    }
}

impl OpenMutation {
    /// Runs a write, which belongs to the mutation's step of this position. When it is rejected, nothing of it is left, and the
    /// transaction goes on.
    ///
    /// # Errors
    /// When the database fails. Then the mutation cannot go on.
    pub async fn write(&mut self, index: usize, write: TableWrite) -> DbResult<Result<(), Reject>> {
        match &mut self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(open) => open.write(index, &write).await,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(open) => open.write(index, write).await,
        }
    }

    /// Takes the clocks under which its writes so far count, of rows that merge by their fields and where they said
    /// another one. They are not told again with the answer.
    pub fn take_stamps(&mut self) -> Vec<Stamp> {
        let merged = match &mut self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(open) => open.merged(),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(open) => open.merged(),
        };
        std::mem::take(&mut merged.stamps)
    }

    /// Reads rows as the transaction sees them.
    ///
    /// # Errors
    /// When the table has changed, or the database fails. The transaction can go on.
    pub async fn rows(
        &mut self,
        entity: &Arc<Entity>,
        query: &RowsQuery,
    ) -> Result<Vec<RowImage>, ReadError> {
        match &mut self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(open) => open.rows(entity, query).await,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(open) => open.rows(entity, query).await,
        }
    }

    /// The connection, for statements of the application's own. They must not end the transaction.
    pub fn connection(&mut self) -> OpenConnection<'_> {
        match &mut self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(open) => OpenConnection::Postgres(open.connection()),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(open) => OpenConnection::Sqlite(open.connection()),
        }
    }

    /// Checks what is deferred, and commits. After a reject nothing is left.
    ///
    /// # Errors
    /// When the database fails; whether the mutation was committed may then be unknown.
    pub async fn commit(self) -> DbResult<Result<Applied, Reject>> {
        match self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(open) => open.commit().await,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(open) => open.commit().await,
        }
    }

    /// Takes everything back, when a statement may still run: it is cancelled where the database can do that.
    pub async fn abandon(self) {
        match self.0 {
            // Closing the connection takes everything back.
            #[cfg(feature = "postgres")]
            Backend::Postgres(open) => drop(open),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(open) => open.roll_back().await,
        }
    }

    /// Takes everything back.
    pub async fn roll_back(self) {
        match self.0 {
            #[cfg(feature = "postgres")]
            Backend::Postgres(open) => open.roll_back().await,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(open) => open.roll_back().await,
        }
    }
}
