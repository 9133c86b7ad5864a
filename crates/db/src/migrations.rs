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

/// The advisory lock that is held while migrations run.
#[cfg(feature = "postgres")]
const MIGRATION_KEY: i64 = 0x7268_746d_785f_0005;

/// Runs the pending migrations. The connection must be direct: the lock belongs to its database session and
/// is released with it.
#[cfg(feature = "postgres")]
pub(crate) async fn run_postgres(mut conn: diesel_async::AsyncPgConnection) -> DbResult<()> {
    use diesel_async::{AsyncMigrationHarness, SimpleAsyncConnection as _};

    let locked = conn
        .batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_KEY})"))
        .await;
    locked.map_err(|error| DbError::while_doing("locking for the migrations", error))?;
    let versions = versions::<diesel::pg::Pg>(&POSTGRES)?;
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
    let unlocked = conn
        .batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_KEY})"))
        .await;
    unlocked.map_err(|error| DbError::while_doing("unlocking after the migrations", error))
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
