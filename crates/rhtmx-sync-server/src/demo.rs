//! The demo: a list of todos on an embedded SQLite file, and the page that shows it.

use anyhow::Context as _;
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use diesel_async::SimpleAsyncConnection as _;
use rhtmx_sync::DbPool;

/// The file of the demo, in the folder where the server is started.
pub(crate) const DATABASE_URL: &str = "sqlite://rhtmx-sync-demo.db";
/// The demo's entity.
pub(crate) const ENTITY: &str = "todos";

const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS todos (
    id TEXT PRIMARY KEY NOT NULL,
    title TEXT NOT NULL,
    done BOOLEAN NOT NULL DEFAULT 0,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
INSERT INTO todos (id, title)
SELECT 'welcome', 'Write something in one pane, see it in the other' WHERE NOT EXISTS (SELECT 1 FROM todos);";

/// Makes the table.
pub(crate) async fn prepare(pool: &DbPool) -> anyhow::Result<()> {
    let DbPool::Sqlite(sqlite) = pool else {
        return Ok(());
    };
    let mut conn = sqlite.get().await?;
    conn.batch_execute(TABLE)
        .await
        .context("making the demo's table")
}

/// The page at `/`.
pub(crate) fn page() -> Router {
    Router::new().route(
        "/",
        get(|| async { Html(include_str!("../assets/demo.html")) }),
    )
}
