//! The demo: lists on an embedded SQLite file, the application that shows them, and its two users.

mod users;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use rhtmx_sync::{
    ColumnPolicy, ColumnRule, DbPool, EntityConfig, EntityPolicy, FieldMergeStrategy, Policies,
    PolicyError, Rules,
};

use users::LOGIN;
pub(crate) use users::Users;

/// The demo's database, in the server's working directory.
pub(crate) const DATABASE_URL: &str = "sqlite://rhtmx-sync-lists.db";
/// The entities of the application; a server that syncs all of them serves it, if todos merge.
const ENTITIES: [&str; 3] = ["lists", TODOS, "viewers"];
/// They merge by their fields: the application subscribes to them so.
const TODOS: &str = "todos";
/// With whom each list is shared. Only where there are users.
const MEMBERS: &str = "list_members";

/// The check on the title is meant to be violated: it shows how a rejected mutation looks.
const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS lists (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    position REAL NOT NULL DEFAULT 0,
    owner TEXT
);
CREATE TABLE IF NOT EXISTS list_members (
    list_id TEXT NOT NULL REFERENCES lists (id) ON DELETE CASCADE,
    person TEXT NOT NULL,
    PRIMARY KEY (list_id, person)
);
CREATE INDEX IF NOT EXISTS list_members_of_person ON list_members (person);
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
);";
/// Fails on a file of a demo without users.
const HAS_OWNERS: &str = "SELECT owner FROM lists LIMIT 0";
/// What such a file has belongs to nobody.
const OWNERS: &str = "ALTER TABLE lists ADD COLUMN owner TEXT";
/// Succeeds on a file of a demo whose lists were shared with everybody or nobody, and whose todos had that beside them.
const HAS_COPIES: &str = "SELECT shared FROM lists LIMIT 0";
/// Whom such a file shares its lists with becomes a member.
const NO_COPIES: &str = "\
DROP TRIGGER IF EXISTS todos_created;
DROP TRIGGER IF EXISTS todos_moved;
DROP TRIGGER IF EXISTS lists_shared;
INSERT OR IGNORE INTO list_members SELECT id, person FROM lists, (SELECT 'ann' AS person UNION SELECT 'ben')
WHERE shared AND owner <> person;
ALTER TABLE lists DROP COLUMN shared;
ALTER TABLE todos DROP COLUMN shared;
ALTER TABLE todos DROP COLUMN owner;";
const FIRST_ROWS: &str = "\
INSERT INTO lists (id, name, position, owner)
SELECT * FROM (VALUES
    ('inbox', 'Inbox', 0, NULL), ('groceries', 'Groceries', 1, NULL),
    ('trip', 'Trip', 2, 'ann'), ('surprise', 'Surprise for Ben', 3, 'ann'))
WHERE NOT EXISTS (SELECT 1 FROM lists);
INSERT INTO list_members (list_id, person) SELECT 'trip', 'ben' WHERE changes() > 0;
INSERT INTO todos (id, title)
SELECT 'welcome', 'Write something in one pane, see it in the other' WHERE NOT EXISTS (SELECT 1 FROM todos);";

/// The entities of the demo.
pub(crate) fn entities() -> Vec<EntityConfig> {
    let names = ENTITIES.into_iter().chain([MEMBERS]);
    let entity = |name| match EntityConfig::new(name) {
        entity if name == TODOS => entity.fields(rules()),
        entity => entity,
    };
    names.map(entity).collect()
}

/// How todos merge: of a title that two wrote both values are kept, until somebody chooses.
fn rules() -> Rules {
    let title = ColumnRule {
        strategy: Some(FieldMergeStrategy::KeepBoth),
        ..ColumnRule::default()
    };
    let mut rules = Rules::default();
    rules.columns.insert("title".to_owned(), title);
    rules
}

/// Whether the application is served with these entities.
pub(crate) fn is_served(entities: &[EntityConfig]) -> bool {
    let is_fit = |entity: &EntityConfig| entity.name != TODOS || entity.fields.is_some();
    ENTITIES.iter().all(|name| {
        let mut entities = entities.iter();
        entities.any(|entity| entity.name == *name && is_fit(entity))
    })
}

/// A list of nobody is everybody's; any other is its owner's, and theirs with whom the owner shares it.
pub(crate) fn policies() -> Result<Policies, PolicyError> {
    let all = |visible: &str, own: &str| EntityPolicy {
        read: Some(visible.to_owned()),
        create: Some(own.to_owned()),
        update: Some(own.into()),
        delete: Some(own.to_owned()),
        ..EntityPolicy::default()
    };
    let visible = "owner IS NULL OR owner = auth.sub \
                   OR id IN (SELECT list_id FROM list_members WHERE person = auth.sub)";
    let mut lists = all(visible, "owner = auth.sub");
    let owner = ColumnPolicy {
        default: Some("auth.sub".to_owned()),
        ..ColumnPolicy::default()
    };
    lists.columns.insert("owner".to_owned(), owner);
    let of_visible_lists = format!("list_id IN (SELECT id FROM lists WHERE {visible})");
    let of_own_lists = "list_id IN (SELECT id FROM lists WHERE owner = auth.sub)";
    let members = EntityPolicy {
        read: Some(format!("person = auth.sub OR {of_own_lists}")),
        create: Some(of_own_lists.to_owned()),
        delete: Some(of_own_lists.to_owned()),
        ..EntityPolicy::default()
    };
    let [of_lists, of_todos, of_viewers] = ENTITIES.map(str::to_owned);
    Policies::new([
        (of_lists, lists),
        (MEMBERS.to_owned(), members),
        (of_todos, all(&of_visible_lists, &of_visible_lists)),
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
        if sqlite.batch_execute(HAS_COPIES).await.is_ok() {
            sqlite.batch_execute(NO_COPIES).await?;
        }
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
