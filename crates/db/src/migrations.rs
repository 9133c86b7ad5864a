//! The migrations of the engine's own tables: plain SQL, embedded here, that the diesel CLI can run as well.
//! They run under a lock, so that servers that start together all succeed.

use diesel::migration::MigrationSource;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::{DbError, DbResult};
use crate::mend;

#[cfg(feature = "postgres")]
const POSTGRES: EmbeddedMigrations = embed_migrations!("../../migrations");
#[cfg(feature = "sqlite")]
const SQLITE: EmbeddedMigrations = embed_migrations!("../../migrations_sqlite");

/// Locks the migrations until the transaction ends. The table of Diesel's record is locked, because any role could
/// keep an advisory lock; in a mode that lets migrations write to it.
#[cfg(feature = "postgres")]
pub(crate) const LOCK_MIGRATIONS: &str = "\
BEGIN; SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = 0; \
LOCK TABLE __diesel_schema_migrations IN SHARE UPDATE EXCLUSIVE MODE";

/// Makes the table of Diesel's record, as Diesel does.
#[cfg(feature = "postgres")]
pub(crate) const MAKE_RECORD: &str = "\
CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (\
version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// Begins the transaction of all migrations: behind a pooler they need one session.
#[cfg(feature = "postgres")]
const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 0";

/// Runs the pending migrations. Another connection must hold their lock.
#[cfg(feature = "postgres")]
pub(crate) async fn run_postgres(mut conn: diesel_async::AsyncPgConnection) -> DbResult<()> {
    use diesel_async::{
        AnsiTransactionManager, AsyncMigrationHarness, SimpleAsyncConnection as _,
        TransactionManager as _,
    };

    let versions = versions::<diesel::pg::Pg>(&POSTGRES)?;
    let failed = |error| DbError::while_doing("running the migrations", error);
    AnsiTransactionManager::begin_transaction(&mut conn)
        .await
        .map_err(failed)?;
    conn.batch_execute(BEGIN).await.map_err(failed)?;
    mend::mend(&mut conn, &versions).await?;
    // The harness blocks its thread, and its adapter must not run inside a task.
    let ran = tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        run(&mut harness, POSTGRES).map(|()| harness.into_inner())
    });
    let mut conn = ran
        .await
        .map_err(|error| DbError::Migration(error.to_string()))??;
    let note = mend::NOTE.replace("{VERSIONS}", &versions);
    conn.batch_execute(&note)
        .await
        .map_err(|error| DbError::while_doing("noting the migrations", error))?;
    AnsiTransactionManager::commit_transaction(&mut conn)
        .await
        .map_err(failed)
}

/// Runs the pending migrations on SQLite. Blocks.
#[cfg(feature = "sqlite")]
pub(crate) fn run_sqlite(conn: &mut diesel::SqliteConnection) -> DbResult<()> {
    use diesel::connection::SimpleConnection as _;

    let versions = versions::<diesel::sqlite::Sqlite>(&SQLITE)?;
    conn.exclusive_transaction(|conn| {
        mend::mend_sqlite(conn, &versions)?;
        run(conn, SQLITE)
            .map_err(|error| diesel::result::Error::QueryBuilderError(error.to_string().into()))?;
        conn.batch_execute("INSERT OR IGNORE INTO _rhtmx_sync_meta DEFAULT VALUES")
    })
    .map_err(|error| match error {
        diesel::result::Error::QueryBuilderError(error) => DbError::Migration(error.to_string()),
        // Other programs may have kept the file locked for the whole time-out; the caller tries again.
        error => DbError::while_doing("running the migrations", error),
    })?;
    conn.batch_execute("PRAGMA optimize")
        .map_err(|error| DbError::while_doing("optimizing the database", error))
}

/// The migrations' versions, in order, with spaces between them.
fn versions<DB: diesel::backend::Backend>(migrations: &EmbeddedMigrations) -> DbResult<String>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let migrations = migrations
        .migrations()
        .map_err(|error| DbError::Migration(error.to_string()))?;
    let mut versions: Vec<String> = migrations
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    versions.sort_unstable();
    Ok(versions.join(" "))
}

fn run<DB, H>(harness: &mut H, migrations: EmbeddedMigrations) -> DbResult<()>
where
    DB: diesel::backend::Backend,
    H: MigrationHarness<DB>,
    EmbeddedMigrations: MigrationSource<DB>,
{
    harness
        .run_pending_migrations(migrations)
        .map(|_| ())
        .map_err(|error| DbError::Migration(error.to_string()))
}
