//! The demo: lists on an embedded SQLite file, and the application that shows them.

use anyhow::Context as _;
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use rhtmx_sync::{DbPool, EntityConfig};

/// The demo's database, in the server's working directory.
pub(crate) const DATABASE_URL: &str = "sqlite://rhtmx-sync-lists.db";
/// The demo's entities; a server that syncs all of them serves the application.
const ENTITIES: [&str; 3] = ["lists", "todos", "viewers"];

/// The check on the title is meant to be violated: it shows how a rejected mutation looks.
const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS lists (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    position REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS todos (
    id TEXT PRIMARY KEY NOT NULL,
    list_id TEXT NOT NULL DEFAULT 'inbox' REFERENCES lists (id) ON DELETE CASCADE,
    title TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 120),
    done BOOLEAN NOT NULL DEFAULT 0,
    position REAL NOT NULL DEFAULT 0,
    assignee TEXT,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX IF NOT EXISTS todos_of_list ON todos (list_id);
CREATE TABLE IF NOT EXISTS viewers (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    list_id TEXT,
    todo_id TEXT,
    seen_at TIMESTAMP NOT NULL
);
INSERT INTO lists (id, name, position)
SELECT * FROM (VALUES ('inbox', 'Inbox', 0), ('groceries', 'Groceries', 1), ('trip', 'Trip', 2))
WHERE NOT EXISTS (SELECT 1 FROM lists);
INSERT INTO todos (id, title)
SELECT 'welcome', 'Write something in one pane, see it in the other' WHERE NOT EXISTS (SELECT 1 FROM todos);";

/// The entities of the demo.
pub(crate) fn entities() -> Vec<EntityConfig> {
    ENTITIES.into_iter().map(EntityConfig::new).collect()
}

/// Whether the application is served with these entities.
pub(crate) fn is_served(entities: &[EntityConfig]) -> bool {
    ENTITIES
        .iter()
        .all(|name| entities.iter().any(|entity| entity.name == *name))
}

/// Creates the demo's tables.
pub(crate) async fn prepare(pool: &DbPool) -> anyhow::Result<()> {
    let DbPool::Sqlite(sqlite) = pool else {
        return Ok(());
    };
    sqlite
        .batch_execute(TABLES)
        .await
        .context("creating the demo's tables")
}

/// The application at `/`, built from `examples/todo` into one file.
pub(crate) fn page() -> Router {
    Router::new().route(
        "/",
        get(|| async { Html(include_str!("../../../examples/todo/dist/index.html")) }),
    )
}
