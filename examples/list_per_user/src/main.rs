//! One table, and a list per user: each page holds only the rows of its user.
//!
//! `cargo run -p list_per_user` uses a SQLite file; `DATABASE_URL=postgresql://… cargo run -p
//! list_per_user` uses PostgreSQL. Open <http://127.0.0.1:3001/?user=ann> and
//! <http://127.0.0.1:3001/?user=ben> side by side. Hand an item over, and it leaves one list and
//! enters the other; the page of a third user receives nothing.
//!
//! The filter is in `page.html`: `owner = $1`. It selects rows but does not protect them: without an
//! authenticator and an authorizer, every client may ask for every list.

use anyhow::Context as _;
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use diesel_async::SimpleAsyncConnection as _;
use rhtmx_sync::{DbPool, SyncConfig, SyncEngine};

/// The index is for first reads, in which the database evaluates the filter as ordinary SQL.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS items (
        id text PRIMARY KEY, owner text NOT NULL, title text NOT NULL, done boolean NOT NULL DEFAULT false);
    CREATE INDEX IF NOT EXISTS items_of_owner ON items (owner);";

async fn create_table(db_pool: &DbPool) -> anyhow::Result<()> {
    match db_pool {
        DbPool::Postgres(pool) => pool.get().await?.batch_execute(TABLE).await?,
        DbPool::Sqlite(pool) => pool.get().await?.batch_execute(TABLE).await?,
        _ => anyhow::bail!("this example supports only PostgreSQL and SQLite"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://list_per_user.db".into());
    let db_pool = DbPool::from_url(&url).await?;
    create_table(&db_pool).await.context("creating the table")?;

    let sync_engine = SyncEngine::new(SyncConfig::new(db_pool, vec!["items"])).await?;
    let app = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .merge(sync_engine.routes());

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3001").await?;
    println!("http://{}/?user=ann", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                sync_engine.shutdown().await;
            }
        })
        .await?;
    Ok(())
}
