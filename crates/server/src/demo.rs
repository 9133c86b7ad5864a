//! The demo: lists on an embedded SQLite file, the application that shows them, and its two users.

mod users;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use rhtmx_sync::{ColumnPolicy, DbPool, EntityConfig, EntityPolicy, Policies, PolicyError};

use users::LOGIN;
pub(crate) use users::Users;

/// The demo's database, in the server's working directory.
pub(crate) const DATABASE_URL: &str = "sqlite://rhtmx-sync-lists.db";
/// The demo's entities; a server that syncs all of them serves the application.
const ENTITIES: [&str; 3] = ["lists", "todos", "viewers"];

/// The check on the title is meant to be violated: it shows how a rejected mutation looks.
const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS lists (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    position REAL NOT NULL DEFAULT 0,
    owner TEXT,
    shared BOOLEAN NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS todos (
    id TEXT PRIMARY KEY NOT NULL,
    list_id TEXT NOT NULL DEFAULT 'inbox' REFERENCES lists (id) ON DELETE CASCADE,
    title TEXT NOT NULL CHECK (length(title) BETWEEN 1 AND 120),
    done BOOLEAN NOT NULL DEFAULT 0,
    position REAL NOT NULL DEFAULT 0,
    assignee TEXT,
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    owner TEXT,
    shared BOOLEAN NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS todos_of_list ON todos (list_id);
CREATE TABLE IF NOT EXISTS viewers (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    list_id TEXT,
    todo_id TEXT,
    seen_at TIMESTAMP NOT NULL
);";
/// Fails on a file of a demo without users.
const HAS_OWNERS: &str = "SELECT owner, shared FROM lists LIMIT 0";
/// What such a file has belongs to nobody, and is shared.
const OWNERS: &str = "\
ALTER TABLE lists ADD COLUMN owner TEXT;
ALTER TABLE lists ADD COLUMN shared BOOLEAN NOT NULL DEFAULT 1;
ALTER TABLE todos ADD COLUMN owner TEXT;
ALTER TABLE todos ADD COLUMN shared BOOLEAN NOT NULL DEFAULT 1;";
/// A policy sees one row, so todos have the owner of their list, and whether it is shared, beside them. Policies are
/// checked after triggers: nobody writes into a list that is not theirs to see.
const TRIGGERS: &str = "\
CREATE TRIGGER IF NOT EXISTS todos_created AFTER INSERT ON todos BEGIN
    UPDATE todos SET owner = lists.owner, shared = lists.shared FROM lists
    WHERE todos.id = new.id AND lists.id = new.list_id;
END;
CREATE TRIGGER IF NOT EXISTS todos_moved AFTER UPDATE OF list_id ON todos BEGIN
    UPDATE todos SET owner = lists.owner, shared = lists.shared FROM lists
    WHERE todos.id = new.id AND lists.id = new.list_id;
END;
CREATE TRIGGER IF NOT EXISTS lists_shared AFTER UPDATE OF owner, shared ON lists BEGIN
    UPDATE todos SET owner = new.owner, shared = new.shared WHERE list_id = new.id;
END;";
const FIRST_ROWS: &str = "\
INSERT INTO lists (id, name, position, owner, shared)
SELECT * FROM (VALUES
    ('inbox', 'Inbox', 0, NULL, 1), ('groceries', 'Groceries', 1, NULL, 1),
    ('trip', 'Trip', 2, 'ann', 1), ('surprise', 'Surprise for Ben', 3, 'ann', 0))
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

/// Everybody has the shared lists; a list that is not shared is its owner's. Only the owner shares it.
pub(crate) fn policies() -> Result<Policies, PolicyError> {
    let all = |visible: &str, own: &str| EntityPolicy {
        read: Some(visible.to_owned()),
        create: Some(own.to_owned()),
        update: Some(own.into()),
        delete: Some(own.to_owned()),
        ..EntityPolicy::default()
    };
    let visible = "shared OR owner = auth.sub";
    let mut lists = all(visible, "owner = auth.sub");
    let owner = ColumnPolicy {
        default: Some("auth.sub".to_owned()),
        ..ColumnPolicy::default()
    };
    lists.columns.insert("owner".to_owned(), owner);
    let mut todos = all(visible, visible);
    for copied in ["owner", "shared"] {
        let column = ColumnPolicy {
            writable: Some(false.into()),
            ..ColumnPolicy::default()
        };
        todos.columns.insert(copied.to_owned(), column);
    }
    let [of_lists, of_todos, of_viewers] = ENTITIES.map(str::to_owned);
    Policies::new([
        (of_lists, lists),
        (of_todos, todos),
        (of_viewers, all("TRUE", "TRUE")),
    ])
}

/// Creates the demo's tables.
pub(crate) async fn prepare(pool: &DbPool) -> anyhow::Result<()> {
    let DbPool::Sqlite(sqlite) = pool else {
        return Ok(());
    };
    let create = async || {
        sqlite.batch_execute(TABLES).await?;
        if sqlite.batch_execute(HAS_OWNERS).await.is_err() {
            sqlite.batch_execute(OWNERS).await?;
        }
        sqlite.batch_execute(TRIGGERS).await?;
        sqlite.batch_execute(FIRST_ROWS).await
    };
    create().await.context("creating the demo's tables")
}

/// The application at `/`, built from `examples/todo` into one file. With users it has a login.
pub(crate) fn page(users: Option<Arc<Users>>) -> Router {
    let page = include_str!("../../../examples/todo/dist/index.html");
    let Some(users) = users else {
        return Router::new().route("/", get(async move || Html(page)));
    };
    let page = page.replacen("<body", &format!("<body data-login=\"{LOGIN}\""), 1);
    Router::new()
        .route("/", get(move || std::future::ready(Html(page.clone()))))
        .merge(users.routes())
}
