//! A server whose notes merge by their fields: two people may edit one note at once, or offline.
//!
//! `cargo run -p field_sync` uses a SQLite file; `DATABASE_URL=postgresql://… cargo run -p field_sync` uses PostgreSQL. Edit
//! the note with `cargo run -p field_sync --bin edit` in two terminals.

use anyhow::Context as _;
use diesel_async::SimpleAsyncConnection as _;
use rhtmx_sync::{ColumnMerge, ColumnRule, DbPool, EntityConfig, Rules, SyncConfig, SyncEngine};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS notes (id integer PRIMARY KEY, title text, due text, likes integer NOT NULL DEFAULT 0); \
     INSERT INTO notes (id, title) SELECT 1, 'Milk' WHERE NOT EXISTS (SELECT 1 FROM notes)";

async fn create_table(db_pool: &DbPool) -> anyhow::Result<()> {
    match db_pool {
        DbPool::Postgres(pool) => pool.get().await?.batch_execute(TABLE).await?,
        DbPool::Sqlite(pool) => pool.get().await?.batch_execute(TABLE).await?,
        _ => anyhow::bail!("this example supports only PostgreSQL and SQLite"),
    }
    Ok(())
}

/// Of a title or a date the later edit stands; likes add up.
fn notes() -> EntityConfig {
    let mut rules = Rules::default();
    let counter = ColumnRule {
        merge: ColumnMerge::Counter,
        strategy: None,
    };
    rules.columns.insert("likes".to_owned(), counter);
    EntityConfig::new("notes").fields(rules)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://field_sync.db".to_owned());
    let db_pool = DbPool::from_url(&url).await?;
    create_table(&db_pool).await.context("creating the table")?;
    let sync_engine = SyncEngine::new(SyncConfig::new(db_pool, vec![notes()])).await?;
    let bind = std::env::var("BIND").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, sync_engine.routes())
        .with_graceful_shutdown(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                sync_engine.shutdown().await;
            }
        })
        .await?;
    Ok(())
}
